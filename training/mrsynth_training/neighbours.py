"""Neighbouring slices as channels (2.5-D): which slices of a store an input is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def neighbours(rows: Sequence[dict[str, Any]], depth: int) -> np.ndarray:
    """Indices (N, depth) of the slices around each slice of a store, itself in the middle.

    Beyond a subject's last slice the last is repeated, as the engine does at the ends of a volume; so is the slice
    before a gap, where slices without a head were left out.

    Parameters
    ----------
    rows : sequence of dict
        Table of the store; only `subject` and `slice` are read.
    depth : int
        Odd.
    """
    place = {(row["subject"], row["slice"]): index for index, row in enumerate(rows)}
    reach = depth // 2
    result = np.empty((len(rows), depth), dtype=np.int64)
    for index, row in enumerate(rows):
        result[index, reach] = index
        for way in (-1, 1):
            nearest = index
            for distance in range(1, reach + 1):
                nearest = place.get((row["subject"], rows[nearest]["slice"] + way), nearest)
                result[index, reach + way * distance] = nearest
    return result


def windows(slab: Tensor, depth: int) -> Tensor:
    """Every run of `depth` slices within slabs (N, D, H, W): (N * (D - depth + 1), depth, H, W), slab by slab."""
    if slab.shape[1] == depth:
        return slab
    found = slab.unfold(1, depth, 1).permute(0, 1, 4, 2, 3).flatten(0, 1)
    return found.contiguous(memory_format=torch.channels_last)


def middle(slab: Tensor, depth: int = 1) -> Tensor:
    """The `depth` slices in the middle of slabs (N, D, H, W)."""
    first = (slab.shape[1] - depth) // 2
    return slab[:, first : first + depth]
