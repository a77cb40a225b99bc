"""Is this one 3-D grey volume that can be worked on? Asked before anything is computed, whoever brings the volume."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .errors import InputError
from .volume import Volume

MIN_SIZE = 5
MAX_VOXELS = 600_000_000  # 2.4 GB as float32; 512 x 512 x 2048 still fits
SPACING_RANGE = (0.05, 20.0)  # mm
MAX_LABELS = 12  # an integer image with so few values is a label map
LARGEST_EXTENT = 1000.0  # mm; a head in the wrong unit is larger
BRIGHTEST = 1e30  # float32 holds the squares and sums of no more
SINGULAR = 1e-6  # smallest sine of the angle between an axis and the plane of the others
HOUNSFIELD_AIR = -500.0
SWELLING = 200  # times: what an image, with much background too, does not swell by when it is decompressed
SWOLLEN = 1 << 29  # bytes; below that, any image may


def of_one_volume(size: Sequence[int]) -> tuple[int, ...]:
    """A size without the axes of one voxel that come after the third: a series of one volume is a volume."""
    size = tuple(size)
    while len(size) > 3 and size[-1] == 1:
        size = size[:-1]
    return size


def check_size(size: Sequence[int], what: str) -> None:
    """Refuse, from the header alone, what is not three-dimensional or far too large.

    Parameters
    ----------
    size : sequence of int
        Number of voxels along each axis.
    what : str
        Name for the message.

    Raises
    ------
    InputError
        input-not-3d, input-empty, input-too-few-slices, input-too-large.
    """
    seen = " x ".join(str(n) for n in size)
    if len(size) != 3 or sum(n == 1 for n in size) > 0:
        raise InputError("input-not-3d", f"{what} has {seen} voxels.", "one volume with three dimensions.")
    if min(size) < 1:
        raise InputError("input-empty", f"{what} has {seen} voxels.", "at least 5 voxels along each axis.")
    if math.prod(int(n) for n in size) > MAX_VOXELS:
        raise InputError("input-too-large", f"{what} claims {seen} voxels.", f"at most {MAX_VOXELS:,} voxels.")
    if min(size) < MIN_SIZE:
        raise InputError(
            "input-too-few-slices", f"{what} has {seen} voxels.", f"at least {MIN_SIZE} voxels along each axis."
        )


def check_swelling(stored: int, claimed: int, what: str) -> None:
    """Refuse, before anything is decompressed, a small file that would fill the memory.

    Parameters
    ----------
    stored, claimed : int
        Bytes of the file, and of the voxels that its header claims.
    what : str
        Name for the message.

    Raises
    ------
    InputError
        input-too-large.
    """
    if claimed > max(SWOLLEN, SWELLING * stored):
        seen = f"{what} claims {claimed:,} bytes of voxels in a file of {stored:,} bytes."
        raise InputError("input-too-large", seen, "a file that was not made to fill the memory.")


def check_geometry(ijk_to_ras: NDArray[np.float64], what: str) -> None:
    """Refuse a grid that has no place in space.

    Raises
    ------
    InputError
        input-affine, input-spacing.
    """
    if ijk_to_ras.shape != (4, 4) or not np.isfinite(ijk_to_ras).all():
        raise InputError("input-affine", f"{what} has a voxel-to-world matrix that is not finite.", "a 4x4 affine.")
    spacing = np.linalg.norm(ijk_to_ras[:3, :3], axis=0)
    low, high = SPACING_RANGE
    if not ((spacing >= low) & (spacing <= high)).all():
        seen = " x ".join(f"{s:g}" for s in spacing)
        raise InputError("input-spacing", f"{what} has voxels of {seen} mm.", f"spacings from {low} to {high} mm.")
    if abs(np.linalg.det(ijk_to_ras[:3, :3] / spacing)) < SINGULAR:
        raise InputError("input-affine", f"{what} has axes that lie in one plane.", "three independent axes.")


def corrupt_file(path: Path, error: Exception) -> InputError:
    """The error for a file that a library could not read, with the library's reason in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    reason = text.rpartition("ITK ERROR: ")[2]  # without the path of the library's source file
    if "change spacing" in reason:
        return InputError("input-spacing", f"'{path.name}': {reason[:300]}.", "spacings above 0 mm.")
    return InputError("input-corrupt", f"'{path.name}' could not be read: {reason[:300]}.", "a whole, undamaged file.")


def checked(volume: Volume) -> tuple[Volume, list[str]]:
    """Refuse what cannot be worked on, and clean what can.

    Parameters
    ----------
    volume : Volume
        As read.

    Returns
    -------
    volume : Volume
        Finite voxels. The voxels that were not finite are 0; the input's array is left as it is.
    warnings : list of str
        What the user should know.

    Raises
    ------
    InputError
        input-color, input-not-3d, input-too-few-slices, input-too-large, input-affine, input-spacing, input-not-finite,
        input-constant, input-empty, input-label-map.
    """
    what = f"'{volume.name}'" if volume.name else "The volume"
    voxels = volume.voxels
    if voxels.dtype.kind not in "iufb":
        raise InputError("input-color", f"{what} holds values of type {voxels.dtype}.", "one number per voxel.")
    check_size(voxels.shape[::-1], what)
    check_geometry(volume.ijk_to_ras, what)
    _check_extent(volume, what)
    warnings = []
    if voxels.dtype.kind == "f":
        finite = np.isfinite(voxels)
        if not finite.any():
            raise InputError("input-not-finite", f"{what} holds no finite number.", "intensities.")
        if not finite.all():
            lost = int(voxels.size - np.count_nonzero(finite))
            warnings.append(f"{lost:,} voxels were not finite (NaN or infinite); they were taken as 0.")
            voxels = np.where(finite, voxels, 0)
    lowest, highest = float(voxels.min()), float(voxels.max())
    if lowest == highest:
        code = "input-empty" if highest == 0 else "input-constant"
        raise InputError(code, f"All voxels of {what} are {highest:g}.", "an image with contrast.")
    if highest <= 0:
        raise InputError("input-empty", f"{what} has no voxel above 0 (highest: {highest:g}).", "an MR image.")
    if highest > BRIGHTEST:
        seen = f"The highest value of {what} is {highest:.3g}."
        raise InputError("input-not-finite", seen, f"intensities up to {BRIGHTEST:g}.")
    if voxels.dtype.kind in "iub" and _few_values(voxels):
        raise InputError(
            "input-label-map", f"{what} has no more than {MAX_LABELS} different values.", "an MR image, not labels."
        )
    if lowest < HOUNSFIELD_AIR:
        warnings.append(
            f"The lowest value is {lowest:g}, as in CT. MRSynth is made for MR: do not trust a result from CT."
        )
    return volume.replaced(voxels), warnings


def _check_extent(volume: Volume, what: str) -> None:
    extent = np.array(volume.spacing) * volume.shape[::-1]
    if extent.max() > LARGEST_EXTENT:
        seen = f"{what} is {' x '.join(f'{mm:.0f}' for mm in extent)} mm in size."
        raise InputError("input-spacing", seen, f"at most {LARGEST_EXTENT:g} mm along each axis.")


def _few_values(voxels: NDArray[np.integer]) -> bool:
    """At most `MAX_LABELS` different values; a thinned-out copy settles nearly every image."""
    if len(np.unique(voxels.ravel()[::97])) > MAX_LABELS:
        return False
    return len(np.unique(voxels)) <= MAX_LABELS
