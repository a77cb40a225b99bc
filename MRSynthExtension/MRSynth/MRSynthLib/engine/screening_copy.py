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

CELL = 3.0  # mm


@dataclass(frozen=True, eq=False)
class Copy:
    """Head or brain in cells of 3 mm; x runs to the right, y to anterior, z to superior.

    Attributes
    ----------
    share : ndarray, shape (x, y, z)
        How much of a cell is foreground, 0 to 1. Nothing but foreground is in the copy.
    signal : ndarray, shape (x, y, z)
        Mean intensity, over the median of the foreground; 0 outside.
    skull_stripped : bool
    """

    share: Array
    signal: Array
    skull_stripped: bool

    def depth(self) -> Array:
        """Distance of cells from the surface of the foreground, in mm, above 0 inside."""
        inside = sitk.GetImageFromArray((self.share > 0.5).astype(np.uint8))
        # Around the field of view lies nothing.
        padded = sitk.ConstantPad(inside, [1, 1, 1], [1, 1, 1], 0)
        found = sitk.SignedMaurerDistanceMap(padded, insideIsPositive=True, squaredDistance=False)
        return np.asarray(sitk.GetArrayFromImage(found)[1:-1, 1:-1, 1:-1] * np.float32(CELL))


def copied(volume: Volume, seen: Look) -> Copy:
    """The small copy of a volume whose foreground is known."""
    share, signal = _on_cells(volume, seen.foreground, np.maximum(volume.voxels, 0) * seen.foreground)
    share, signal = (array[_box(share)] for array in (share, signal))
    tissue = signal[share > 0.5]
    middle = float(np.median(tissue)) if tissue.size else 1.0
    return Copy(share, signal / np.float32(middle or 1.0), seen.skull_stripped)


def averaged(voxels: NDArray[Any], steps: tuple[int, ...]) -> Array:
    """Means of blocks of so many voxels along each axis; what does not fill a block is left out."""
    for axis, step in enumerate(steps):
        if step > 1:
            end, before = voxels.shape[axis] // step * step, (slice(None),) * axis
            # A sum of slices: three times as fast as the mean of an array with one axis more.
            parts = [(*before, slice(first, end, step)) for first in range(step)]
            total = voxels[parts[0]].astype(np.float32)
            for part in parts[1:]:
                total += voxels[part]
            voxels = total / np.float32(step)
    return np.asarray(voxels, np.float32)


def _box(share: Array) -> tuple[slice, ...]:
    """Where there is foreground; everything where there is none."""
    ends = [np.flatnonzero((share > 0).any(axis=tuple(n for n in range(3) if n != axis))) for axis in range(3)]
    return tuple(slice(int(each[0]), int(each[-1]) + 1) if each.size else slice(None) for each in ends)


def _on_cells(volume: Volume, *arrays: NDArray[Any]) -> list[Array]:
    """Arrays on the volume's grid, averaged and sampled on cells along RAS that hold all of the volume."""
    steps = tuple(max(1, min(round(CELL / mm), n)) for mm, n in zip(volume.spacing[::-1], volume.shape, strict=True))
    factors = np.array(steps[::-1], dtype=np.float64)
    affine = volume.ijk_to_ras[:3, :3] * factors
    size = np.array(volume.shape[::-1]) // steps[::-1]
    corners = np.array(list(itertools.product(*((-0.5, n - 0.5) for n in size)))) @ affine.T  # mm from the first block
    low = corners.min(axis=0)
    cells = np.maximum(1, np.ceil((corners.max(axis=0) - low) / CELL)).astype(int)
    back = np.linalg.inv(affine)
    to_blocks = sitk.AffineTransform(
        (back * CELL).ravel().tolist(), (back @ (low + CELL / 2)).tolist(), [0.0, 0.0, 0.0]
    )
    found = []
    for array in arrays:
        blocks = sitk.GetImageFromArray(averaged(array, steps))
        sampled = sitk.Resample(
            blocks, cells.tolist(), to_blocks, sitk.sitkLinear, [0.0] * 3, [1.0] * 3, np.eye(3).ravel().tolist(), 0.0
        )
        found.append(np.ascontiguousarray(sitk.GetArrayFromImage(sampled).T))
    return found
