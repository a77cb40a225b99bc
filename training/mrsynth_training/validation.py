"""A quick look at the generator during training; the scores of record come from `mrsynth-train evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mrsynth_training.losses import ssim_loss
from mrsynth_training.neighbours import neighbours
from mrsynth_training.slices import SliceStore

LEVELS = 16  # generators need H and W that are multiples of 16


class Validator:
    """Scores whole slices of the validation subjects, evenly spread over each subject's brain.

    Parameters
    ----------
    store : SliceStore
    slices : int
        How many slices in all, at most; of more subjects than that, one slice each of evenly spaced ones. 0 or no
        validation subjects: no scores.
    depth : int
        Neighbouring slices that the generators are shown.
    """

    def __init__(self, store: SliceStore, slices: int, depth: int = 1) -> None:
        self.store = store
        self.neighbours = neighbours(store.rows, depth)
        indices = store.indices("validation")
        subjects: dict[str, list[int]] = {}
        for index in indices:
            if store.rows[index]["brain"]:
                subjects.setdefault(store.rows[index]["subject"], []).append(int(index))
        names = _spread(list(subjects), min(slices, len(subjects)))
        self.chosen = {name: _spread(subjects[name], slices // len(names)) for name in names}

    @torch.no_grad()
    def __call__(
        self, generators: Mapping[str, nn.Module], device: torch.device
    ) -> tuple[dict[str, float], Tensor | None]:
        """Scores by name, and one picture, of the generators by direction, which are in evaluation mode.

        PSNR (dB) and SSIM are per slice over its own extent, averaged per subject, then over the subjects; the picture
        (1, h, w) shows, per subject, the middle slice: T1, synthetic T1, T2, synthetic T2.
        """
        scores: dict[str, list[float]] = {}
        rows: list[Tensor] = []
        for name, indices in self.chosen.items():
            row = self.store.rows[indices[0]]
            height, width = (-(-row[k] // LEVELS) * LEVELS for k in ("height", "width"))
            around = self.neighbours[np.array(indices)]
            slabs = _extent(self.store.images(around.ravel()), height, width).to(device).unflatten(0, around.shape)
            pairs = slabs[:, around.shape[1] // 2]
            for direction, source in (("t1_to_t2", 0), ("t2_to_t1", 1)):
                generator = generators[direction]
                made = torch.cat([generator(slab[None, :, source]) for slab in slabs]).float()
                target = pairs[:, 1 - source : 2 - source]
                source_zero = pairs[:, source : source + 1] == 0
                made = torch.where(source_zero, 0.0, made)  # as the engine does: exact background stays background
                errors = (made - target).square().flatten(1).mean(1).clamp(min=1e-10)
                scores.setdefault(f"psnr/{direction}", []).append(float((-10 * torch.log10(errors)).mean()))
                scores.setdefault(f"ssim/{direction}", []).append(float(1 - ssim_loss(made, target)))
                scores[f"psnr/{direction}/{name}"] = scores[f"psnr/{direction}"][-1:]
                middle = len(pairs) // 2
                rows += [pairs[middle, source], made[middle, 0]]
        return {k: float(np.mean(v)) for k, v in scores.items()}, _mosaic(rows) if rows else None


def _spread(found: list[Any], count: int) -> list[Any]:
    """So many of them, evenly spaced; some several times where there are fewer."""
    return [found[int((i + 0.5) * len(found) / count)] for i in range(count)]


def _extent(pairs: Tensor, height: int, width: int) -> Tensor:
    missing = max(0, height - pairs.shape[2]), max(0, width - pairs.shape[3])
    padded = torch.nn.functional.pad(pairs, (0, missing[1], 0, missing[0]))
    return padded[:, :, :height, :width]


def _mosaic(images: list[Tensor]) -> Tensor:
    """Four images to a row, each padded to the largest."""
    height, width = max(i.shape[0] for i in images), max(i.shape[1] for i in images)
    pad = torch.nn.functional.pad
    tiles = [pad(i, (0, width - i.shape[1], 0, height - i.shape[0])) for i in images]
    lines = [torch.cat(tiles[i : i + 4], dim=1) for i in range(0, len(tiles), 4)]
    return torch.cat(lines).clamp(0, 1)[None].cpu()
