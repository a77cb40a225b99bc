"""From the input's grid to the generator's axial slices, and exactly back.

The way there: swap and flip axes so that the array runs to inferior→superior, anterior→posterior, right→left (no
interpolation), then resample each axis on its own where its spacing is not the model's, then crop and pad. The way
back undoes each step by the same coordinates, so nothing moves: every sample of either grid has a position in mm
along its axis, and interpolation is symmetric about it.

Oblique, sheared and left-handed grids need no care here, for slices are taken along the voxel axes: each goes to
the patient axis that it is nearest to.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .volume import Volume

FRAMES = ("native", "paper")
PLANES = ("axial", "coronal", "sagittal")
PASSES = {"axial": PLANES[:1], "three": PLANES}  # planes in which the generator goes through the volume
MULTIPLE = 16  # the generators halve four times
NATIVE_SPACING = 1.0  # mm
SAME_SPACING = 0.01  # spacings that differ by less than 1 % are not resampled
FINEST_SLICES = 0.75  # mm; slices closer than this are resampled to 1 mm, thicker ones are taken as acquired
MARGIN = 8.0  # mm of surroundings that the generator sees in the native frame
PAPER_SIZE = 128
BAND = 32  # samples; per step of an interpolation, whose matrix has few neighbours in each row
PAPER_MARGIN = 1.04  # side of the brain square over the longest in-plane brain extent

Array = NDArray[Any]


@dataclass(frozen=True)
class Axis:
    """Equally spaced samples along one axis: sample n lies at ``start + n * spacing`` mm."""

    size: int
    spacing: float
    start: float = 0.0

    @property
    def centres(self) -> NDArray[np.float64]:
        """Positions of the samples, in mm."""
        return self.start + self.spacing * np.arange(self.size, dtype=np.float64)


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cubic convolution kernel with a = -1/2 (Keys 1981, eq. 15)."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def interpolation_weights(source: Axis, target: Axis) -> NDArray[np.float32]:
    """Matrix that takes samples on `source` to samples on `target`.

    Cubic convolution; where the target is coarser, the kernel is stretched to its spacing (antialiasing). At the
    ends the border sample is repeated; targets more than half a sample outside get 0.

    Parameters
    ----------
    source, target : Axis
        Along the same line, in mm.

    Returns
    -------
    ndarray, shape (target.size, source.size)
        Each row sums to 1, or is 0.
    """
    positions = (target.centres - source.start) / source.spacing  # in source samples
    stretch = max(1.0, target.spacing / source.spacing)
    reach = int(np.ceil(2 * stretch))
    offsets = np.arange(-reach, reach + 1)
    neighbours = np.floor(positions)[:, None] + offsets
    kernel = _cubic((neighbours - positions[:, None]) / stretch)
    kernel /= kernel.sum(axis=1, keepdims=True)
    kernel[(positions < -0.5) | (positions > source.size - 0.5)] = 0.0
    weights = np.zeros((target.size, source.size))
    columns = np.clip(neighbours, 0, source.size - 1).astype(int)
    np.add.at(weights, (np.arange(target.size)[:, None], columns), kernel)
    return weights.astype(np.float32)


def _along(array: Array, axis: int, source: Axis, target: Axis) -> Array:
    """Resample one axis; when the grids share their samples, only crop and pad."""
    if source == target:
        return array
    shift = (target.start - source.start) / source.spacing
    if source.spacing == target.spacing and abs(shift - round(shift)) < 1e-6:
        first = int(round(shift))
        lo, hi = max(first, 0), min(first + target.size, source.size)
        kept = array[_at(axis, slice(lo, max(lo, hi)))]
        pad = [(0, 0)] * array.ndim
        pad[axis] = (lo - first, target.size - kept.shape[axis] - (lo - first))
        return np.pad(kept, pad)
    return _times(interpolation_weights(source, target), array, axis)


def _at(axis: int, part: slice) -> tuple[slice, ...]:
    """Index of a part along one axis of three."""
    return tuple(part if n == axis else slice(None) for n in range(3))


def _times(weights: NDArray[np.float32], array: Array, axis: int) -> NDArray[np.float32]:
    """Multiply one axis of an array by a matrix that is 0 far from its diagonal, band by band."""
    array = np.ascontiguousarray(array, dtype=np.float32)
    shape = tuple(len(weights) if n == axis else size for n, size in enumerate(array.shape))
    result = np.empty(shape, dtype=np.float32)
    for first in range(0, len(weights), BAND):
        rows = slice(first, first + BAND)
        used = np.flatnonzero(weights[rows].any(axis=0))
        if not used.size:  # nothing of the array lies here
            result[_at(axis, rows)] = 0
            continue
        columns = slice(used[0], used[-1] + 1)
        band, part, out = weights[rows, columns], array[_at(axis, columns)], result[_at(axis, rows)]
        if axis == 2:
            np.matmul(part, band.T, out=out)
        elif axis == 1:
            np.matmul(band, part, out=out)
        else:
            np.matmul(band, part.reshape(len(part), -1), out=out.reshape(len(out), -1))
    return result


def _resample(array: Array, source: tuple[Axis, ...], target: tuple[Axis, ...]) -> NDArray[np.float32]:
    """Resample all three axes, those that shrink the array first."""
    order = sorted(range(3), key=lambda axis: target[axis].size / source[axis].size)
    for axis in order:
        array = _along(array, axis, source[axis], target[axis])
    return np.ascontiguousarray(array, dtype=np.float32)


def canonical_axes(ijk_to_ras: NDArray[np.float64]) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Which array axes run most nearly superior, posterior, left, and whether to flip them.

    Parameters
    ----------
    ijk_to_ras : ndarray, shape (4, 4)

    Returns
    -------
    order : tuple of 3 int
        Axes of the (k, j, i) array that become (S, P, L).
    flips : tuple of 3 bool
        True where the array runs the other way.
    """
    directions = ijk_to_ras[:3, :3] / np.linalg.norm(ijk_to_ras[:3, :3], axis=0)
    towards = directions[[2, 1, 0]][:, [2, 1, 0]] * np.array([[1.0], [-1.0], [-1.0]])  # rows S, P, L; columns k, j, i
    order = max(
        itertools.permutations(range(3)), key=lambda axes: sum(abs(towards[n, axis]) for n, axis in enumerate(axes))
    )
    flips = tuple(bool(towards[n, axis] < 0) for n, axis in enumerate(order))
    return (order[0], order[1], order[2]), (flips[0], flips[1], flips[2])


@dataclass(frozen=True)
class StandardSpace:
    """The two grids of one run, and the way between them.

    Attributes
    ----------
    order, flips
        See `canonical_axes`.
    input_axes, model_axes : tuple of 3 Axis
        Along superior, posterior, left; of coronal and sagittal slices as `plan` has turned them.
    """

    order: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    input_axes: tuple[Axis, Axis, Axis]
    model_axes: tuple[Axis, Axis, Axis]

    def canonical(self, array: Array) -> Array:
        """A view with axes (superior, posterior, left), still on the input's samples."""
        array = array.transpose(self.order)
        return array[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]

    def to_model(self, array: Array) -> NDArray[np.float32]:
        """Input grid (k, j, i) to axial slices, shape (slices, rows, columns).

        Slices run upwards, rows to posterior, columns to the patient's left; rows and columns are multiples of 16.
        """
        return _resample(self.canonical(array), self.input_axes, self.model_axes)

    def to_input(self, slices: Array) -> NDArray[np.float32]:
        """Axial slices back onto the input's grid, shape (k, j, i); what the slices do not cover is 0."""
        array = _resample(slices, self.model_axes, self.input_axes)
        array = array[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]
        return np.ascontiguousarray(array.transpose(np.argsort(self.order)))

    def looked_at(self, inside: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which rows and columns of the slices `to_input` needs for the voxels inside.

        Parameters
        ----------
        inside : ndarray of bool, shape (k, j, i)

        Returns
        -------
        rows : ndarray of bool, shape (slices, rows)
        columns : ndarray of bool, shape (slices, columns)
        """
        uses = [
            (interpolation_weights(model, own) != 0).astype(np.float32)
            for model, own in zip(self.model_axes, self.input_axes, strict=True)
        ]
        mask = self.canonical(inside)
        rows, columns = (uses[0].T @ mask.any(axis=3 - axis) @ uses[axis] > 0 for axis in (1, 2))
        return rows, columns


def _native(axis: Axis, first: int, last: int, *, in_plane: bool) -> Axis:
    """1 mm in plane, slices as acquired unless very thin; around samples `first` to `last`."""
    spacing = axis.spacing
    if abs(spacing - NATIVE_SPACING) > SAME_SPACING and (in_plane or spacing < FINEST_SLICES):
        spacing = NATIVE_SPACING
    if not in_plane and spacing == axis.spacing:
        return Axis(last - first + 1, spacing, first * spacing)
    extent = (last - first) * axis.spacing
    margin = MARGIN if in_plane else 0.0
    size = int(np.ceil((extent + 2 * margin) / spacing)) + 1
    if in_plane:
        size = -(-size // MULTIPLE) * MULTIPLE
    before = (size - 1) * spacing - extent
    if spacing == axis.spacing:  # stay on the samples, so that nothing is interpolated
        return Axis(size, spacing, (first - int(before / spacing) // 2) * spacing)
    return Axis(size, spacing, first * axis.spacing - before / 2)


def _bounds(mask: NDArray[np.bool_], axis: int) -> tuple[int, int]:
    marked = np.flatnonzero(mask.any(axis=tuple(n for n in range(3) if n != axis)))
    return (int(marked[0]), int(marked[-1])) if marked.size else (0, mask.shape[axis] - 1)


def _turned(
    order: tuple[int, int, int], flips: tuple[bool, bool, bool], plane: str
) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """The axes (superior, posterior, left) as (slices, rows, columns) of a plane, seen as on a light box."""
    (up, back, left), (up_flip, back_flip, left_flip) = order, flips
    if plane == "coronal":  # backwards; rows downwards, columns to the left
        return (back, up, left), (back_flip, not up_flip, left_flip)
    if plane == "sagittal":  # to the left; rows downwards, columns to posterior
        return (left, up, back), (left_flip, not up_flip, back_flip)
    return order, flips


def plan(volume: Volume, foreground: NDArray[np.bool_], frame: str, plane: str = "axial") -> StandardSpace:
    """Lay the generator's grid around the foreground of a volume.

    Parameters
    ----------
    volume : Volume
    foreground : ndarray of bool, shape (k, j, i)
        Head or brain; the grid encloses it. Where it is empty, the whole volume counts.
    frame : {'native', 'paper'}
        ``native``: 1 mm in plane, padded to multiples of 16. ``paper``: one square for the whole volume (longest
        in-plane extent x 1.04, centred on it), 128x128 pixels.
    plane : {'axial', 'coronal', 'sagittal'}
        Of the slices.

    Returns
    -------
    StandardSpace

    Raises
    ------
    ValueError
        If `frame` is not one of `FRAMES`, or `plane` not one of `PLANES`.
    """
    if frame not in FRAMES:
        raise ValueError(f"frame is {frame!r}; expected one of {FRAMES}")
    if plane not in PLANES:
        raise ValueError(f"plane is {plane!r}; expected one of {PLANES}")
    order, flips = _turned(*canonical_axes(volume.ijk_to_ras), plane)
    spacing = volume.spacing[::-1]
    axes = tuple(Axis(volume.shape[axis], spacing[axis]) for axis in order)
    space = StandardSpace(order, flips, (axes[0], axes[1], axes[2]), (axes[0], axes[1], axes[2]))
    mask = space.canonical(foreground)
    bounds = [_bounds(mask, axis) for axis in range(3)]
    along = _native(axes[0], *bounds[0], in_plane=False)
    if frame == "native":
        rows, columns = (_native(axes[n], *bounds[n], in_plane=True) for n in (1, 2))
    else:
        extents = [(bounds[n][1] - bounds[n][0] + 1) * axes[n].spacing for n in (1, 2)]
        pixel = max(extents) * PAPER_MARGIN / PAPER_SIZE
        middles = [(bounds[n][0] + bounds[n][1]) / 2 * axes[n].spacing for n in (1, 2)]
        rows, columns = (Axis(PAPER_SIZE, pixel, middle - (PAPER_SIZE - 1) / 2 * pixel) for middle in middles)
    return StandardSpace(order, flips, space.input_axes, (along, rows, columns))
