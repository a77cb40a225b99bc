"""A small copy of a volume, laid along right, anterior and superior as its header says: what screening looks at."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from .screening_head import Look
from .volume import Volume

Array = NDArray[np.float32]

CELL = 5.0  # mm


@dataclass(frozen=True, eq=False)
class Copy:
    """Head or brain in cells of 5 mm.

    Attributes
    ----------
    share : ndarray, shape (x, y, z)
        How much of a cell is foreground, 0 to 1; x runs to the right, y to anterior, z to superior.
    grey : ndarray, shape (x, y, z)
        Intensity above the median of the foreground, over the distance from its 10th to its 90th percentile; within
        -2 and 2, times the share.
    skull_stripped : bool
    """

    share: Array
    grey: Array
    skull_stripped: bool


def copied(volume: Volume, seen: Look) -> Copy:
    """The small copy of a volume whose foreground is known."""
    share, signal = _on_cells(
        volume,
        seen.foreground.astype(np.float32),
        np.where(seen.foreground, np.maximum(volume.voxels, 0), 0).astype(np.float32),
    )
    tissue = signal[share > 0.5]
    if not tissue.size:
        return Copy(share, np.zeros_like(share), seen.skull_stripped)
    low, middle, high = np.percentile(tissue, (10, 50, 90))
    grey = (signal - np.float32(middle) * share) / np.float32(max(high - low, 1e-6 * max(high, 1e-6)))
    return Copy(share, np.clip(grey, -2, 2), seen.skull_stripped)


def averaged(voxels: NDArray[Any], steps: tuple[int, ...]) -> Array:
    """Means of blocks of so many voxels along each axis; what does not fill a block is left out."""
    counts = [n // step for n, step in zip(voxels.shape, steps, strict=True)]
    whole = voxels[tuple(slice(n * step) for n, step in zip(counts, steps, strict=True))]
    (k, j, i), (a, b, c) = counts, steps
    means: Array = whole.reshape(k, a, j, b, i, c).mean(axis=(1, 3, 5), dtype=np.float32)
    return means


def steps_for(volume: Volume, size: float) -> tuple[int, ...]:
    """How many voxels along (k, j, i) make a block of about `size` mm."""
    return tuple(max(1, min(round(size / mm), n)) for mm, n in zip(volume.spacing[::-1], volume.shape, strict=True))


def _on_cells(volume: Volume, *arrays: Array) -> list[Array]:
    """Arrays on the volume's grid, averaged and sampled on cells along RAS that hold all of the volume."""
    steps = steps_for(volume, CELL)
    factors = np.array(steps[::-1], dtype=np.float64)
    affine = volume.ijk_to_ras[:3, :3] * factors
    first = volume.ijk_to_ras[:3, :3] @ ((factors - 1) / 2) + volume.ijk_to_ras[:3, 3]
    size = np.array(volume.shape[::-1]) // steps[::-1]
    corners = np.array(list(itertools.product(*((-0.5, n - 0.5) for n in size)))) @ affine.T + first
    low = corners.min(axis=0)
    cells = np.maximum(1, np.ceil((corners.max(axis=0) - low) / CELL)).astype(int)
    back = np.linalg.inv(affine)
    to_blocks = sitk.AffineTransform(
        (back * CELL).ravel().tolist(), (back @ (low + CELL / 2 - first)).tolist(), [0.0, 0.0, 0.0]
    )
    found = []
    for array in arrays:
        blocks = sitk.GetImageFromArray(averaged(array, steps))
        sampled = sitk.Resample(
            blocks, cells.tolist(), to_blocks, sitk.sitkLinear, [0.0] * 3, [1.0] * 3, np.eye(3).ravel().tolist(), 0.0
        )
        found.append(np.ascontiguousarray(sitk.GetArrayFromImage(sampled).T))
    return found
