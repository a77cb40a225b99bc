"""The voxels of a DICOM series: decoded by pydicom and its plugins, file after file, and rescaled slice by slice."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID

from . import dicom_files
from .checks import corrupt_file
from .dicom_files import DamagedError, whole
from .dicom_find import Series
from .dicom_frames import ACQUISITION, Frame
from .errors import InputError
from .volume import Volume

INTEGERS = (np.int16, np.uint16, np.int32)  # the smallest that holds all values is taken


def load(series: Series) -> Volume:
    """Read the voxels of a series.

    Parameters
    ----------
    series : Series
        One that is a volume.

    Returns
    -------
    Volume
        Rescaled values: integers where slopes and intercepts are, else float32. Its header is the `Series`, its name
        that of the series' folder, its metadata the acquisition tags.

    Raises
    ------
    InputError
        What is wrong with the series; input-corrupt, dicom-compressed.
    """
    if series.problem is not None:
        raise series.problem
    assert series.ijk_to_ras is not None, "a series without problem has a grid"
    first = series.frames[0]
    voxels: NDArray[Any] | None = None
    with dicom_files.quiet():
        for k, plane in _planes(series.frames):
            frame = series.frames[k]
            if plane.shape != (first.rows, first.columns):
                seen = f"pixels of shape {plane.shape}, not {(first.rows, first.columns)}"
                raise corrupt_file(frame.path, ValueError(seen))
            if voxels is None:
                voxels = np.zeros((len(series.frames), *plane.shape), _working_type(series.frames, plane))
            voxels[k] = plane
            if (frame.slope, frame.intercept) != (1.0, 0.0):
                slope, intercept = np.array([frame.slope, frame.intercept]).astype(voxels.dtype)
                voxels[k] = voxels[k] * slope + intercept
    assert voxels is not None, "a volume has slices"
    return Volume(
        voxels=_smallest(voxels),
        ijk_to_ras=series.ijk_to_ras,
        header=series,
        name=first.path.parent.name,
        metadata={keyword: first.tags[keyword] for keyword in ACQUISITION if keyword in first.tags},
    )


def _working_type(frames: Sequence[Frame], plane: NDArray[Any]) -> type[np.generic]:
    """A type that holds every value that the slopes can make of the stored ones."""
    scales = np.array([(frame.slope, frame.intercept) for frame in frames])
    if not np.array_equal(scales, np.rint(scales)):
        return np.float32
    highest = float(np.abs(scales).max(axis=0) @ [2.0 ** (8 * plane.dtype.itemsize), 1.0])
    return np.int32 if highest < 2**31 else np.int64 if highest < 2**62 else np.float32


def _smallest(voxels: NDArray[Any]) -> NDArray[Any]:
    """Integers in the smallest of `INTEGERS` that holds them all."""
    if voxels.dtype.kind == "i":
        low, high = int(voxels.min()), int(voxels.max())
        for kind in INTEGERS:
            if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
                return voxels.astype(kind, copy=False)
    return voxels


def _planes(frames: Sequence[Frame]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Slice number and stored values of each frame, one file in memory at a time."""
    numbered = sorted(enumerate(frames), key=lambda item: str(item[1].path))
    for path, group in itertools.groupby(numbered, key=lambda item: item[1].path):
        pixels = _stored(path)
        for k, frame in group:
            if pixels.ndim == 3 and frame.index >= len(pixels):
                raise corrupt_file(path, ValueError(f"frame {frame.index + 1} of {len(pixels)} frames"))
            yield k, pixels[frame.index] if pixels.ndim == 3 else pixels


def _stored(path: Path) -> NDArray[Any]:
    """The stored values of a file, shape (rows, columns) or (frames, rows, columns)."""
    try:
        dataset = dicom_files.read(path, pixels=True)
    except (DamagedError, OSError) as error:
        raise corrupt_file(path, error) from error
    try:
        return _significant(np.asarray(dataset.pixel_array), dataset)
    except MemoryError:
        raise
    except Exception as error:  # pydicom's plugins raise nearly anything on damaged pixels
        missing = _missing_plugin(dataset, error)
        raise (missing or corrupt_file(path, error)) from error


def _missing_plugin(dataset: Dataset, error: Exception) -> InputError | None:
    syntax = UID(str(getattr(dataset, "file_meta", Dataset()).get("TransferSyntaxUID", "")))
    unknown = isinstance(error, NotImplementedError)
    if not (unknown or (isinstance(error, (RuntimeError, AttributeError)) and "missing" in str(error))):
        return None
    seen = f"No decoder for '{syntax.name}' is installed."
    remedy = "Install one: pip install 'mrsynth[dicom]'. Or decompress the series first (gdcmconv --raw, dcmdjpeg)."
    return InputError("dicom-compressed", seen, "pixels that can be decoded.", remedy)


def _significant(pixels: NDArray[Any], dataset: Dataset) -> NDArray[Any]:
    """Stored values without what lies in the bits above them (overlays, in old files)."""
    if pixels.dtype.kind not in "iu":
        raise ValueError(f"pixels of type {pixels.dtype}")
    allocated = 8 * pixels.dtype.itemsize
    stored = whole(dataset, "BitsStored") or allocated
    high = whole(dataset, "HighBit")
    if not 0 < stored <= allocated or high not in (None, stored - 1):
        raise ValueError(f"{stored} of {allocated} bits, and {high} is the high bit")
    unused = allocated - stored
    return (pixels << unused) >> unused if unused else pixels
