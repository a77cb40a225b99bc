"""What an expected error can be told from: numbers for every pixel, from a slice and what was made of it.

All are measured in millimetres, so that a volume of thick slices and one of thin ones are described alike, and, but for
the source above and below, within the slice. None needs a further pass of the generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NEAR, WIDE, EDGE = 2.0, 5.0, 9.0  # mm from the middle of a square to its sides
HIGH = 100.0  # mm; unit of the height
THROUGH = 3.0  # mm to the slices above and below; at least one slice
FAINT = 3e-4  # product of two textures, below which there is nothing to be alike
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
    "likeness",  # correlation of source and synthetic around, near and wide
    "likeness_wide",
    "through",  # mean absolute difference of the source from above and below
    "bend",  # mean of above and below, less the source
)
FIRST = NAMES[:11]  # what calibrations of the first kind look at


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
    beside : tuple of 2 ndarray, shape (slices, rows, columns)
        The source `THROUGH` below and above each slice; at either end the slice itself.
    """

    source: Array
    synthetic: Array
    inside: Mask
    below: Array
    pixel: tuple[float, float]
    beside: tuple[Array, Array]

    def part(self, index: slice | NDArray[np.intp]) -> Slices:
        """Some of the slices."""
        images = (self.source[index], self.synthetic[index], self.inside[index])
        return Slices(*images, self.below[index], self.pixel, (self.beside[0][index], self.beside[1][index]))


def beside(source: Array, spacing: float) -> tuple[Array, Array]:
    """`Slices.beside` of all slices of a volume, whose distance is `spacing` mm."""
    step = max(1, round(THROUGH / spacing))
    padded = np.concatenate([source[:1].repeat(step, axis=0), source, source[-1:].repeat(step, axis=0)])
    return padded[: -2 * step], padded[2 * step :]


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


def features(slices: Slices, names: Sequence[str] = NAMES) -> Array:
    """The numbers of `NAMES` for every pixel inside.

    Parameters
    ----------
    slices : Slices
    names : sequence of str
        Which of them.

    Returns
    -------
    ndarray of float32, shape (pixels inside, len(names))
        In the order of ``numpy.nonzero(slices.inside)``.
    """
    inside = slices.inside
    edge = _pixels(EDGE, slices)
    columns: dict[str, NDArray[np.floating]] = {}
    source, synthetic = (np.where(inside, images, 0) for images in (slices.source, slices.synthetic))
    for mm, where in ((NEAR, ""), (WIDE, "_wide")):
        reach = _pixels(mm, slices)
        count = box_sum(inside, reach)[inside]
        for name, images in (("source", source), ("synthetic", synthetic)):
            mean, columns[f"{name}_texture{where}"] = _around(images, inside, reach, count)
            columns[f"{name}_mean{where}"] = mean
        if f"likeness{where}" in names:
            together = box_sum(source * synthetic, reach)[inside] / count
            together -= columns[f"source_mean{where}"] * columns[f"synthetic_mean{where}"]
            apart = columns[f"source_texture{where}"] * columns[f"synthetic_texture{where}"]
            columns[f"likeness{where}"] = together / (apart + FAINT)
    for name, images in (("source", source), ("synthetic", synthetic)):
        columns[name] = images[inside]
        columns[f"{name}_contrast"] = columns[name] - columns[f"{name}_mean"]
    area = float(np.prod([2 * n + 1 for n in edge]))
    columns["edge"] = 1 - box_sum(inside, edge)[inside] / area
    columns["dark"] = 1 - box_sum(source, edge)[inside] / area
    columns["below"] = np.broadcast_to(slices.below[:, None, None] / HIGH, inside.shape)[inside]
    down, up = (images[inside] for images in slices.beside)
    columns["through"] = (np.abs(columns["source"] - down) + np.abs(columns["source"] - up)) / 2
    columns["bend"] = (down + up) / 2 - columns["source"]
    return np.stack([columns[name] for name in names], axis=1).astype(np.float32)


def _pixels(mm: float, slices: Slices) -> list[int]:
    return [max(1, round(mm / spacing)) for spacing in slices.pixel]


def _around(
    images: Array, inside: Mask, reach: Sequence[int], count: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of what is inside around each pixel that is inside."""
    mean = box_sum(images, reach)[inside] / count
    square = box_sum(np.square(images, dtype=np.float64), reach)[inside] / count
    return mean, np.sqrt(np.maximum(square - mean**2, 0))
