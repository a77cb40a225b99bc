"""The series of a folder or an archive's export: all of them, what they are, and the one that synthesis starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from . import dicom_files
from .checks import check_geometry, check_size
from .dicom_files import DamagedError, text
from .dicom_frames import READ, Frame, frames_of
from .dicom_geometry import parts, stack
from .dicom_rules import Kind, kind_of
from .errors import InputError

MOSAIC = "Reconstruct the series without mosaic, or split it with dcm2niix and give the NIfTI file."


@dataclass(frozen=True, eq=False)
class Series:
    """One stack of slices of a DICOM series: the whole of most series, a part of some.

    Attributes
    ----------
    uid : str
        SeriesInstanceUID.
    number : int or None
        SeriesNumber.
    part, part_name : int, str
        Which of several parts (from 1), and what tells it from the others; 0 and "" for a whole series.
    description, patient, study, study_uid : str
        For people; `patient` is the PatientID, `study` date and description.
    frames : tuple of Frame
        Slice 0 first, where the series is a volume; else in no order.
    ijk_to_ras : ndarray, shape (4, 4), or None
        None where the series is no volume.
    kind : Kind
        What it is, by its tags.
    problem : InputError or None
        Why it cannot be read as a volume.
    """

    uid: str
    number: int | None
    description: str
    patient: str
    study: str
    study_uid: str
    frames: tuple[Frame, ...]
    kind: Kind
    part: int = 0
    part_name: str = ""
    ijk_to_ras: NDArray[np.float64] | None = None
    problem: InputError | None = None

    @property
    def key(self) -> str:
        """How it is chosen: "4", or "4.2" for the second part of series 4."""
        return ("?" if self.number is None else str(self.number)) + (f".{self.part}" if self.part else "")

    @property
    def name(self) -> str:
        """For messages: "series 4 't1_mprage'"."""
        label = f" '{self.description}'" if self.description else ""
        return f"series {self.key}{label}" + (f" ({self.part_name})" if self.part_name else "")

    @property
    def files(self) -> tuple[Path, ...]:
        """Its files, in the order of the slices, each once."""
        return tuple(dict.fromkeys(frame.path for frame in self.frames))

    @property
    def objection(self) -> str:
        """Why it is not picked unasked; "" where it may be."""
        return self.problem.seen.rstrip(".") if self.problem else self.kind.objection

    @property
    def spacing(self) -> tuple[float, float, float] | None:
        """Distance between voxel centres along (i, j, k), in mm."""
        if self.ijk_to_ras is None:
            return None
        i, j, k = np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0)
        return float(i), float(j), float(k)


@dataclass
class _Collected:
    """The files of one series while a folder is read."""

    header: Dataset
    frames: list[Frame] = field(default_factory=list)
    objection: InputError | None = None


def find_series(folder: Path) -> list[Series]:
    """All image series of a folder and its subfolders, by patient, study and number.

    Raises
    ------
    InputError
        input-not-found: the folder cannot be listed; input-not-an-image: there is none; input-corrupt: there are
        damaged files only.
    """
    try:
        files = dicom_files.files_below(folder)
    except OSError as error:
        seen = f"'{folder}' cannot be read ({error.strerror})."
        raise InputError("input-not-found", seen, "a readable folder.") from error
    found = series_of_files(files, f"'{folder}'")
    if not found:
        raise InputError("input-not-an-image", f"'{folder}' holds no DICOM series.", "a folder with DICOM images.")
    return found


def series_of_files(paths: Sequence[Path], where: str) -> list[Series]:
    """The image series that files make up; files that are no DICOM images are passed over.

    Parameters
    ----------
    paths : sequence of Path
        In any order.
    where : str
        For messages.

    Raises
    ------
    InputError
        input-corrupt: all that is DICOM is damaged.
    """
    collected: dict[tuple[str, ...], _Collected] = {}
    damaged: dict[Path, str] = {}
    with dicom_files.quiet():
        for path in paths:
            reason = _collect(path, collected)
            if reason:
                damaged[path] = reason
        found = [series for each in collected.values() for series in _series(each, damaged)]
    if damaged and not found:
        path, reason = next(iter(damaged.items()))
        seen = f"{where} holds {len(damaged)} damaged DICOM files and no other ('{path.name}': {reason[:200]})."
        raise InputError("input-corrupt", seen, "whole, undamaged files.")
    return sorted(found, key=lambda s: (s.patient, s.study, s.number is None, s.number or 0, s.uid, s.part))


def _collect(path: Path, collected: dict[tuple[str, ...], _Collected]) -> str:
    """Put the frames of a file to those of its series; where it is DICOM and cannot be read, say why."""
    preamble: bool | None = True
    try:
        preamble = dicom_files.has_preamble(path)
        if preamble is None:
            return ""
        header = dicom_files.read(path, READ)
        if not dicom_files.is_image(header):
            return ""
        frames = frames_of(header, path)
    except MemoryError:
        raise
    except (DamagedError, OSError) as error:
        return str(error) if preamble else ""  # without preamble: no DICOM after all
    except Exception as error:  # pydicom converts a value when it is asked for, and raises nearly anything then
        return f"{type(error).__name__}: {error}" if preamble else ""
    key = tuple(text(header, name) for name in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID"))
    series = collected.setdefault(key, _Collected(header))
    series.frames += frames
    series.objection = series.objection or _unreadable(header, path)
    return ""


def _unreadable(header: Dataset, path: Path) -> InputError | None:
    """What speaks against the pixels of a file, before any is read."""
    samples, look = dicom_files.whole(header, "SamplesPerPixel"), text(header, "PhotometricInterpretation")
    if (samples or 1) != 1 or look not in ("", "MONOCHROME2"):
        return InputError(
            "input-color", f"'{path.name}' holds {look or 'colour'} images.", "MONOCHROME2, one number per pixel."
        )
    if "MOSAIC" in text(header, "ImageType").upper().split("\\"):
        seen = f"'{path.name}' is a Siemens mosaic: many slices side by side in one image."
        return InputError("dicom-mosaic", seen, "one image per slice.", MOSAIC)
    if "PerFrameFunctionalGroupsSequence" not in header and (dicom_files.whole(header, "NumberOfFrames") or 1) > 1:
        seen = f"'{path.name}' holds several frames without telling where they lie."
        return InputError("input-affine", seen, "one image per slice, or an enhanced MR file.")
    return None


def _series(collected: _Collected, damaged: dict[Path, str]) -> list[Series]:
    """The parts of one series, each with its grid or with what is wrong with it."""
    header = collected.header
    study = " ".join(filter(None, (text(header, "StudyDate"), text(header, "StudyDescription"))))
    objection = collected.objection or _damaged_beside(collected.frames, damaged)
    stacks = parts(collected.frames) if objection is None else [("", collected.frames)]
    found = []
    for part, (name, frames) in enumerate(stacks, 1):
        series = Series(
            uid=text(header, "SeriesInstanceUID"),
            number=dicom_files.whole(header, "SeriesNumber"),
            part=part if len(stacks) > 1 else 0,
            part_name=name,
            description=text(header, "SeriesDescription"),
            patient=text(header, "PatientID"),
            study=study,
            study_uid=text(header, "StudyInstanceUID"),
            frames=tuple(frames),
            kind=kind_of(frames[0].tags),
            problem=objection,
        )
        found.append(series if objection else _placed(series))
    return found


def _placed(series: Series) -> Series:
    """The series with its slices in order and its grid, or with the reason why it has none."""
    try:
        frames, affine = stack(series.frames, series.name)
        check_geometry(affine, series.name)
        check_size((frames[0].columns, frames[0].rows, len(frames)), series.name)
    except InputError as error:
        return replace(series, problem=error)
    return replace(series, frames=tuple(frames), ijk_to_ras=affine)


def _damaged_beside(frames: Sequence[Frame], damaged: dict[Path, str]) -> InputError | None:
    """A damaged file in the same folder may be a slice of this series: better no volume than one that is cut short."""
    folders = {frame.path.parent for frame in frames}
    for path, reason in damaged.items():
        if path.parent in folders:
            seen = f"'{path.name}', in the same folder, is damaged ({reason[:200]})."
            return InputError(
                "input-corrupt", seen, "whole, undamaged files.", "Copy the series again, or remove that file."
            )
    return None
