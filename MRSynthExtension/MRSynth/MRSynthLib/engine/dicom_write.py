"""Derived DICOM series out: one file for each slice of the source, all of them or none.

A series is written into a folder beside the one that is wanted, which takes its name when it is complete.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from . import dicom_files
from .checks import corrupt_file
from .dicom_anonymize import anonymize
from .dicom_derive import Derivation, DerivedSeries, derived_image
from .dicom_files import DamagedError
from .dicom_find import Series, series_of_files
from .dicom_frames import FrameHeader, frame_headers
from .errors import InputError, OutputError
from .intensity import SCALE
from .provenance import MAPS
from .synthesis_result import SynthesisResult
from .volume import Volume
from .writing import write_error

OFF_GRID = 0.01  # of a voxel
CYCLE_WINDOW = 300.0  # in units of the output
RELIABILITY_WINDOW = 300.0
SERIES_STEP, FIRST_NUMBER, HIGHEST_NUMBER = 1000, 9001, 2_000_000
Map = tuple[Volume, str, float]


def write_result(
    result: SynthesisResult,
    folder: str | os.PathLike[str],
    *,
    anonymous: bool = False,
    key: bytes | None = None,
    taken: Collection[int] = (),
) -> list[Path]:
    """Write what a run on a DICOM series gave; see `write_series`."""
    source = result.volume.header
    if not isinstance(source, Series):
        raise OutputError("dicom-grid", f"'{result.volume.name}' was not read from DICOM.", "a DICOM series as input.")
    windows = {"cycle": CYCLE_WINDOW, "reliability": RELIABILITY_WINDOW}
    made = [(getattr(result, name), MAPS[name], window) for name, window in windows.items()]
    maps = [each for each in made if each[0] is not None]
    return write_series(
        result.volume, source, folder, Derivation.of(result), maps=maps, anonymous=anonymous, key=key, taken=taken
    )


def export_series(
    volume: Volume,
    source_files: Sequence[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    derivation: Derivation,
    *,
    maps: Sequence[Map] = (),
    anonymous: bool = False,
    key: bytes | None = None,
    taken: Collection[int] = (),
) -> list[Path]:
    """Write a volume as a series derived from the series that `source_files` make up; see `write_series`.

    Raises
    ------
    InputError
        input-not-an-image, input-corrupt: the files are no series any more; and what is wrong with it.
    OutputError
        dicom-grid: the volume does not lie on their slices; and as `write_series`.
    """
    found = series_of_files([Path(path) for path in source_files], "the source")
    if not found:
        raise InputError("input-not-an-image", "The source's files are no DICOM images.", "the files of a series.")
    readable = [series for series in found if series.ijk_to_ras is not None]
    if not readable and found[0].problem is not None:
        raise found[0].problem
    # A series of several parts is loaded part by part: the one that the volume lies on.
    source = next((series for series in readable if _index_map(volume, series) is not None), readable[0])
    return write_series(volume, source, folder, derivation, maps=maps, anonymous=anonymous, key=key, taken=taken)


def write_series(
    volume: Volume,
    source: Series,
    folder: str | os.PathLike[str],
    derivation: Derivation,
    *,
    maps: Sequence[Map] = (),
    anonymous: bool = False,
    key: bytes | None = None,
    taken: Collection[int] = (),
) -> list[Path]:
    """Write a synthetic volume as a DERIVED series of MR images in the study of its source.

    Parameters
    ----------
    volume : Volume
        Integers, on the grid of the source; its axes may run in another order or direction.
    source : Series
    folder : path
        Is made; each series gets a folder in it. May be there if it is empty.
    derivation : Derivation
    maps : sequence of (Volume, str, float)
        Further volumes on that grid, what they are ("cycle difference"), and the highest value to show: a series each.
    anonymous : bool
        Take out what identifies the patient, by the basic profile of the standard (PS3.15 annex E).
    key : bytes, optional
        See `anonymize`: the same one for all series whose patients and studies should stay together.
    taken : collection of int
        Series numbers of the study that are in use.

    Returns
    -------
    list of Path
        The folder of each series, the synthetic volume's first.

    Raises
    ------
    InputError
        input-corrupt: the source cannot be read any more.
    OutputError
        dicom-grid, output-exists, output-folder-missing, output-not-writable, output-full.
    InstallError
        dicom-package: to anonymize, a package is missing.
    """
    folder = Path(folder)
    all_voxels = [_on_slices(each, source) for each in (volume, *(one[0] for one in maps))]
    numbers = _free_numbers(source, taken)
    now, frame_of_reference = datetime.now(), generate_uid(None)
    names = ["synthetic", *(what.replace(" ", "-") for _, what, _ in maps)]
    shown = [("synthetic image", float(SCALE)), *((what, window) for _, what, window in maps)]
    with dicom_files.quiet(), _folder_aside(folder) as aside:
        headers = _headers(source)
        for name, voxels, (what, window) in zip(names, all_voxels, shown, strict=True):
            series = DerivedSeries(
                derivation=derivation,
                title=_title(derivation, what, source, anonymous),
                what=what,
                window=window,
                number=next(numbers),
                source_uid=source.uid,
                frame_of_reference=frame_of_reference,
                made=now,
                uid=generate_uid(None),
            )
            (aside / name).mkdir()
            for k, data in enumerate(_images(series, source, headers, voxels)):
                dicom_files.save(anonymize(data, key) if anonymous else data, aside / name / f"{k + 1:04d}.dcm")
    return [folder / name for name in names]


def _title(derivation: Derivation, what: str, source: Series, anonymous: bool) -> str:
    title = derivation.title + ("" if what.startswith("synthetic") else f", {what}")
    # The source's description is free text, which may name anybody.
    described = source.description.replace("\\", "/")
    return title if anonymous or not described else f"{title} of {described}"


def _images(
    series: DerivedSeries, source: Series, headers: Sequence[FrameHeader], voxels: NDArray[np.int16]
) -> Iterator[Dataset]:
    instances = [frame.instance for frame in source.frames]
    if len(set(instances)) < len(instances) or min(instances) < 1:
        instances = list(range(1, len(instances) + 1))
    first, last = source.frames[0], source.frames[-1]
    step = float((last.position - first.position) @ first.normal) / (len(source.frames) - 1)
    for header, plane, instance in zip(headers, voxels, instances, strict=True):
        yield derived_image(series, header, plane, instance, step)


def _headers(source: Series) -> list[FrameHeader]:
    """The whole headers of the source, by slice; each file is read once."""
    files = {path: _headers_of(path) for path in source.files}
    headers = [files[frame.path][frame.index] for frame in source.frames]
    if any(header.text("SOPInstanceUID") != frame.uid for header, frame in zip(headers, source.frames, strict=True)):
        raise InputError("input-corrupt", "The files of the source have changed.", "the series as it was read.")
    if not headers[0].text("StudyInstanceUID"):
        raise InputError("input-corrupt", f"{source.name} names no study.", "a StudyInstanceUID.")
    return headers


def _headers_of(path: Path) -> list[FrameHeader]:
    try:
        return frame_headers(dicom_files.read(path))
    except (DamagedError, OSError) as error:
        raise corrupt_file(path, error) from error


def _free_numbers(source: Series, taken: Collection[int]) -> Iterator[int]:
    """Series numbers that are not in use, from a thousand times the source's on."""
    number = source.number or 0
    candidate = SERIES_STEP * number + 1 if 0 < number < HIGHEST_NUMBER else FIRST_NUMBER
    while True:
        if candidate not in taken:
            yield candidate
        candidate += 1


def _index_map(volume: Volume, source: Series) -> NDArray[np.int64] | None:
    """How indices of the volume become those of the source, shape (3, 4); None where they are on different grids."""
    assert source.ijk_to_ras is not None, "the source is a volume"
    exact = np.linalg.inv(source.ijk_to_ras) @ volume.ijk_to_ras
    whole = np.rint(exact).astype(np.int64)
    size = np.array(volume.shape[::-1])
    corners = np.array(np.meshgrid(*((0, n - 1) for n in size), [1], indexing="ij")).reshape(4, -1)
    there = (whole @ corners)[:3]
    source_size = np.array([source.frames[0].columns, source.frames[0].rows, len(source.frames)])
    permuted = np.array_equal(np.abs(whole[:3, :3]).sum(axis=0), [1, 1, 1]) and np.array_equal(
        np.abs(whole[:3, :3]).sum(axis=1), [1, 1, 1]
    )
    same_box = np.array_equal(there.min(axis=1), [0, 0, 0]) and np.array_equal(there.max(axis=1), source_size - 1)
    if not permuted or not same_box or np.abs(exact @ corners - whole @ corners).max() > OFF_GRID:
        return None
    return whole[:3]


def _on_slices(volume: Volume, source: Series) -> NDArray[np.int16]:
    """The voxels as the source's slices hold them, shape (k, j, i) of the source."""
    if volume.voxels.dtype.kind not in "iu":
        raise ValueError(f"voxels of type {volume.voxels.dtype}; DICOM images hold integers")
    limits = np.iinfo(np.int16)
    if volume.voxels.min() < limits.min or volume.voxels.max() > limits.max:
        raise ValueError(f"voxels from {volume.voxels.min()} to {volume.voxels.max()}; expected 16 bits")
    indices = _index_map(volume, source)
    if indices is None:
        seen = f"'{volume.name or 'The volume'}' does not lie on the slices of {source.name}."
        raise OutputError("dicom-grid", seen, "a volume on the grid of its DICOM source.")
    ijk = volume.voxels.T.astype(np.int16)
    order = [int(np.flatnonzero(row[:3])[0]) for row in indices]
    flips = tuple(slice(None, None, int(row[axis])) for row, axis in zip(indices, order, strict=True))
    return ijk.transpose(order)[flips].T


def check_new(folder: Path) -> None:
    """Refuse, before anything is computed, a folder that could not or must not be made.

    Raises
    ------
    OutputError
        output-exists, output-folder-missing, output-not-writable.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            seen = f"'{folder}' is there already."
            raise OutputError("output-exists", seen, "a new or empty folder.", "Choose a new folder.")
        if not folder.parent.is_dir():
            raise OutputError("output-folder-missing", f"There is no folder '{folder.parent}'.", "an existing folder.")
    except OSError as error:  # a name that no folder can have
        raise OutputError("output-not-writable", f"{error}.", "a name that a folder can have.") from error
    if not os.access(folder.parent, os.W_OK | os.X_OK):
        raise OutputError("output-not-writable", f"'{folder.parent}' may not be written to.", "a folder to write to.")


@contextlib.contextmanager
def _folder_aside(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder`, renamed to it on success and removed on any failure."""
    check_new(folder)
    try:
        aside = Path(tempfile.mkdtemp(prefix=".mrsynth-", dir=folder.parent))
    except OSError as error:
        raise write_error(folder, error) from error
    try:
        yield aside
        umask = os.umask(0)
        os.umask(umask)
        aside.chmod(0o777 & ~umask)
        if folder.is_dir():
            folder.rmdir()  # it is empty; Windows renames onto nothing that is there
        aside.rename(folder)
    except OSError as error:
        raise write_error(folder, error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
