"""What an expected error can be told from: numbers for every pixel, from a slice and what was made of it.

All are measured within the slice, in millimetres, so that a volume of thick slices and one of thin ones are described
alike; none needs a further pass of the generator but `AGAIN`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NEAR, WIDE, EDGE = 2.0, 5.0, 9.0  # mm from the middle of a square to its sides
HIGH = 100.0  # mm; unit of the height
Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

NAMES = (
    "source",
    "synthetic",
    "source_contrast",  # to the mean around
    "synthetic_contrast",
    "source_texture",  # standard deviation around, near and wide
    "synthetic_texture",
    "source_texture_wide",
    "synthetic_texture_wide",
    "edge",  # share of the surroundings that is background
    "dark",  # share of the surroundings, over which the source is missing: 1 - mean of the source
    "below",  # distance from the highest slice
)


@dataclass(frozen=True)
class Slices:
    """Slices of the source and of what was made of it.

    Attributes
    ----------
    source, synthetic : ndarray of float32, shape (slices, rows, columns)
        In [0, 1].
    inside : ndarray of bool, same shape
        Where the result may be other than 0.
    below : ndarray, shape (slices,)
        Distance of each slice from the highest one that has something inside, mm.
    pixel : tuple of 2 float
        Spacing of rows and columns, mm.
    """

    source: Array
    synthetic: Array
    inside: Mask
    below: Array
    pixel: tuple[float, float]

    def part(self, index: slice | NDArray[np.intp]) -> Slices:
        """Some of the slices."""
        return Slices(self.source[index], self.synthetic[index], self.inside[index], self.below[index], self.pixel)


def box_sum(images: NDArray[Any], reach: Sequence[int]) -> NDArray[np.float64]:
    """Sum over the rectangle of ``2 * reach + 1`` rows and columns around each pixel; beyond the border lies 0.

    Parameters
    ----------
    images : ndarray, shape (n, rows, columns)
    reach : sequence of 2 int
        In pixels along rows and columns.
    """
    summed = np.asarray(images, dtype=np.float64)
    for axis, n in zip((1, 2), reach, strict=True):
        pad = [(0, 0)] * 3
        pad[axis] = (n + 1, n)
        running = np.cumsum(np.pad(summed, pad), axis=axis)
        size, width = summed.shape[axis], 2 * n + 1
        ends = [slice(None)] * 3, [slice(None)] * 3
        ends[0][axis], ends[1][axis] = slice(width, width + size), slice(0, size)
        summed = running[tuple(ends[0])] - running[tuple(ends[1])]
    return summed


def features(slices: Slices) -> Array:
    """The numbers of `NAMES` for every pixel inside.

    Parameters
    ----------
    slices : Slices

    Returns
    -------
    ndarray of float32, shape (pixels inside, len(NAMES))
        In the order of ``numpy.nonzero(slices.inside)``.
    """
    inside = slices.inside
    near, wide, edge = ([max(1, round(mm / spacing)) for spacing in slices.pixel] for mm in (NEAR, WIDE, EDGE))
    columns: dict[str, NDArray[np.floating]] = {}
    for name, images in (("source", slices.source), ("synthetic", slices.synthetic)):
        images = np.where(inside, images, 0)
        mean, columns[f"{name}_texture"] = _around(images, inside, near)
        _, columns[f"{name}_texture_wide"] = _around(images, inside, wide)
        columns[name] = images[inside]
        columns[f"{name}_contrast"] = columns[name] - mean
    area = float(np.prod([2 * n + 1 for n in edge]))
    columns["edge"] = 1 - box_sum(inside, edge)[inside] / area
    columns["dark"] = 1 - box_sum(np.where(inside, slices.source, 0), edge)[inside] / area
    columns["below"] = np.broadcast_to(slices.below[:, None, None] / HIGH, inside.shape)[inside]
    return np.stack([columns[name] for name in NAMES], axis=1).astype(np.float32)


def _around(images: Array, inside: Mask, reach: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of what is inside around each pixel that is inside."""
    count = box_sum(inside, reach)[inside]
    mean = box_sum(images, reach)[inside] / count
    square = box_sum(np.square(images, dtype=np.float64), reach)[inside] / count
    return mean, np.sqrt(np.maximum(square - mean**2, 0))
