"""Studies with a T1 and a T2 below a folder, whatever the layout, and what is missing there."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mrsynth_training import layouts
from mrsynth_training.errors import TrainingError

# The words of a source in `cases.json` that tell its scanner or collection; all computed patients are of one.
SOURCE_GROUPS = (
    ("Lesjak", "lesjak"),
    ("Ljubljana", "ljubljana"),
    ("C-STAR", "cstar"),
    ("same, patient", "ljubljana"),
    ("MRSynth phantom", "phantom"),
)
NOT_RAW = {"derivatives", "sourcedata", "code", "stimuli"}  # folders of a BIDS data set that hold no raw images
GRADES = ("HGG", "LGG")
# What lies in a folder that has no study, and what to do about it.
INSTEAD = {
    ".zip": "Unpack the archives first",
    ".gz": "Unpack the archives first",
    ".tar": "Unpack the archives first",
    ".dcm": "Convert the DICOM series to NIfTI first, for example by dcm2niix",
    ".npy": "Give the folder of the volumes, not a slice store",
}


@dataclass(frozen=True)
class Case:
    """One study on disk: files of both contrasts and what is known of them.

    Attributes
    ----------
    subject, patient, group : str
        Name of the study; of whom it is; the scanner or collection it is from.
    t1, t2 : Path
    brain : Path or None
        Mask of the brain.
    source, licence : str
        From `cases.json`.
    segmentation : Path or None
        Tumour labels as in BraTS: 1 necrosis, 2 oedema, 3 or 4 enhancing.
    lesion : Path or None
        Mask of lesions.
    layout, grade : str
        "BraTS 2018", "BIDS", ...; "HGG", "LGG" or "".
    """

    subject: str
    patient: str
    group: str
    t1: Path
    t2: Path
    brain: Path | None
    source: str = ""
    licence: str = ""
    segmentation: Path | None = None
    lesion: Path | None = None
    layout: str = ""
    grade: str = ""

    def files(self) -> dict[str, Path]:
        """The files that a preparation reads, by role."""
        roles = ("t1", "t2", "brain", "segmentation", "lesion")
        return {role: path for role in roles if (path := getattr(self, role)) is not None}


@dataclass(frozen=True)
class Problem:
    """Why a study cannot be used: `kind` is "missing", "broken" or "duplicate"."""

    subject: str
    kind: str
    text: str


@dataclass
class Cohort:
    """What `find` found: complete studies, sorted by name, and problems."""

    data: Path
    cases: list[Case]
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class _Study:
    folder: Path
    stem: str = ""
    bids: bool = False
    files: dict[str, Path] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    spare: list[str] = field(default_factory=list)

    def add(self, name: layouts.Name, path: Path) -> None:
        self.seen.add(name.what)
        self.bids |= name.bids
        if name.role in self.files:
            self.spare.append(path.name)
        elif name.role:
            self.files[name.role] = path


def find(data: Path) -> Cohort:
    """Find all studies below a folder, at any depth; nothing but names is looked at.

    `cases.json`, beside the studies' folders or in the top one, tells sources and licences.

    Raises
    ------
    TrainingError
        If there is no such folder, or no study with a T1 or a T2.
    """
    if not data.is_dir():
        raise TrainingError(f"there is no folder {data}", "the folder of the volumes", "Check the path")
    listed, grades = _listed(data), _grades(data)
    other: Counter[str] = Counter()
    found: dict[str, _Study] = {}
    cohort = Cohort(data, [])
    for study in _studies(data, other):
        subject = _name(study, data)
        if subject in found and not study.stem:  # SITE_A/001/t1.nii.gz and SITE_B/001/t1.nii.gz
            subject = "-".join(study.folder.relative_to(data).parts)
        if subject in found:
            where = f"{found[subject].folder} and {study.folder}"
            cohort.problems.append(Problem(subject, "duplicate", f"there twice: {where}; the first is taken"))
        else:
            found[subject] = study
    if not found:
        raise TrainingError(
            f"{data} has no folder with a T1 and a T2{_held(other)}",
            "BraTS 2018 to 2023, BIDS, or CASE/t1.nii.gz and CASE/t2.nii.gz",
            next((INSTEAD[ending] for ending, _ in other.most_common() if ending in INSTEAD), "Check the path"),
        )
    for subject, study in sorted(found.items()):
        for lacking in [c for c in ("t1", "t2") if c not in study.files]:
            seen = ", ".join(sorted(study.seen)) or "nothing"
            cohort.problems.append(Problem(subject, "missing", f"no {lacking.upper()} in {study.folder} (only {seen})"))
        if study.spare:
            cohort.notes.append(f"{subject}: several of a kind; not taken: {', '.join(study.spare)}")
        if "t1" in study.files and "t2" in study.files:
            cohort.cases.append(_case(subject, study, set(found), listed.get(subject, {}), grades))
    return cohort


def find_cases(data: Path) -> list[Case]:
    """All complete studies below a folder; see `find`.

    Raises
    ------
    TrainingError
        If there is none.
    """
    cohort = find(data)
    if not cohort.cases:
        problem = cohort.problems[0]
        raise TrainingError(
            f"{data} has no study with both contrasts ({problem.subject}: {problem.text})",
            "a T1 and a T2 of each",
            "See `mrsynth-train find`",
        )
    return cohort.cases


def _studies(data: Path, other: Counter[str]) -> Iterator[_Study]:
    """Studies folder by folder; `other` counts the endings of files that belong to none."""
    for folder, names, files in os.walk(data, followlinks=True):
        names[:] = sorted(n for n in names if not n.startswith(".") and n not in NOT_RAW)
        parsed = [(name, Path(folder) / file) for file in sorted(files) if (name := layouts.parse(file))]
        other.update(Path(file).suffix.lower() for file in files if layouts.parse(file) is None)
        if parsed:
            yield from _of_folder(Path(folder), parsed)


def _of_folder(folder: Path, parsed: list[tuple[layouts.Name, Path]]) -> list[_Study]:
    """One study per name that has a T1 or a T2; a mask or a segmentation of another name belongs to the only one."""
    stems = {name.stem for name, _ in parsed if name.role in ("t1", "t2")}
    if not stems:
        stems = {next((name.stem for name, _ in parsed if name.what not in ("brain", "lesion")), "")}
    studies = {stem: _Study(folder, stem) for stem in sorted(stems)}
    for name, path in parsed:
        stem = name.stem if name.stem in stems else next(iter(studies)) if len(stems) == 1 else None
        if stem is not None:
            studies[stem].add(name, path)
    if len(studies) == 1:
        return [study for study in studies.values() if study.seen - {"brain", "lesion"}]
    return list(studies.values())


def _name(study: _Study, data: Path) -> str:
    """BIDS: of its files; else of its folder, unless several studies share it or it is the top one."""
    if study.bids or (study.stem and (study.folder == data or len(_stems_with_contrast(study.folder)) > 1)):
        return study.stem
    return study.folder.resolve().name


def _stems_with_contrast(folder: Path) -> set[str]:
    parsed = (layouts.parse(path.name) for path in folder.iterdir())
    return {name.stem for name in parsed if name and name.role in ("t1", "t2")}


def _case(subject: str, study: _Study, subjects: set[str], listed: dict[str, Any], grades: dict[str, str]) -> Case:
    patient = layouts.patient(subject, subjects)
    source = listed.get("source", "")
    group = next((g for word, g in SOURCE_GROUPS if word in source), layouts.site(subject) or patient)
    grade = next((g for g in GRADES if g in study.folder.parts), grades.get(subject, ""))
    return Case(
        subject,
        patient,
        group,
        study.files["t1"],
        study.files["t2"],
        study.files.get("brain"),
        source,
        listed.get("licence", ""),
        study.files.get("segmentation"),
        study.files.get("lesion"),
        layouts.layout(subject, bids=study.bids, stem=study.stem),
        grade,
    )


def _listed(data: Path) -> dict[str, dict[str, Any]]:
    """Entries of every `cases.json` in the folder and, as in the phantoms' HGG, one below."""
    entries: dict[str, dict[str, Any]] = {}
    for path in sorted([*data.glob("*/cases.json"), *data.glob("cases.json")]):
        entries |= _entries(path)
    return entries


def _entries(path: Path) -> dict[str, dict[str, Any]]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["cases"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"{path} cannot be read ({error!r})", '{"cases": {STUDY: {"source": ..., "licence": ...}}}', "Correct it"
        ) from error


def _grades(data: Path) -> dict[str, str]:
    """Grades from the table that comes with BraTS 2020."""
    grades: dict[str, str] = {}
    for path in sorted([*data.glob("name_mapping.csv"), *data.glob("*/name_mapping.csv")]):
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as table:
            for row in csv.DictReader(table):
                grades[row.get("BraTS_2020_subject_ID") or ""] = row.get("Grade") or ""
    return grades


def _held(other: Counter[str]) -> str:
    if not other:
        return "; it is empty"
    return "; it holds " + ", ".join(f"{n} {ending or 'files without ending'}" for ending, n in other.most_common(3))
