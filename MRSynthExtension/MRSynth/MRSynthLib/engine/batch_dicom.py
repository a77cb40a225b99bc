"""DICOM exports: the series of each examination, and which of them synthesis can start from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from .batch_cohort import Examination, Scan
from .batch_csv import safe_name
from .errors import InputError
from .provenance import weighting

if TYPE_CHECKING:
    from .dicom import Series


def find(path: Path, output: Path) -> list[Examination]:
    """The examinations (patient and study) of an export, each with the series that `dicom.pick` may pick.

    An examination without such a series has a problem: that of its only series, or dicom-unsuitable. A T1 or T2 that
    cannot be read as a volume does not count, and is noted.

    Raises
    ------
    InputError
        As `dicom.find_series`.
    """
    from .dicom import find_series

    studies: dict[tuple[str, str], list[Series]] = {}
    for series in find_series(path):
        if series.files and not any(output.resolve() in file.resolve().parents for file in series.files[:1]):
            studies.setdefault((series.patient, series.study_uid), []).append(series)
    return [_examination(found) for found in studies.values()]


def _examination(found: list[Series]) -> Examination:
    first = found[0]
    patient, study = first.patient or "no-id", first.study or first.study_uid
    # The UID tells two studies of a day apart; its end suffices, as it differs most there.
    folder = f"{safe_name(patient)}/{safe_name(study)[:60]}-{first.study_uid[-6:].replace('.', '-')}"
    scans = tuple(_scan(series) for series in found if not series.objection)
    problem = None if scans else _unsuitable(found)
    notes = tuple(_unreadable(series) for series in found if series.problem and _would_fit(series))
    taken = tuple(series.number for series in found if series.number is not None)
    return Examination(patient, study, folder, scans, "dicom", problem=problem, taken=taken, notes=notes)


def _scan(series: Series) -> Scan:
    stem = safe_name(f"series-{series.key}")
    name = f"{series.uid}#{series.part}"
    folder = Path(os.path.commonpath([file.parent for file in series.files]))  # a CD may spread them over several
    return Scan(folder, series.kind.contrast, stem, series.files, name, f"tags of {series.name}")


def _would_fit(series: Series) -> bool:
    """Whether the tags call it a T1 or T2 that synthesis can start from."""
    return series.kind.contrast is not None and not series.kind.objection


def _unreadable(series: Series) -> str:
    return f"{weighting(str(series.kind.contrast))} is there, but cannot be used: {series.name}: {series.objection}"


def _unsuitable(found: list[Series]) -> InputError:
    problems = [series.problem for series in found if series.problem is not None]
    if len(found) == 1 and problems:
        return problems[0]
    seen = "; ".join(f"{series.name}: {series.objection}" for series in found[:8])
    return InputError("dicom-unsuitable", f"Found {seen}.", "a T1 or T2 of the head, without contrast agent.")
