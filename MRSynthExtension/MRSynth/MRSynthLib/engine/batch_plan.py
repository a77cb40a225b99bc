"""What is to be done: for each examination the missing contrast, unless its result is there already."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import __version__
from .batch_cohort import Examination, Scan, place, unique_folders
from .batch_records import Record, Records, stamp
from .errors import InputError, MRSynthError
from .preparation import CONTRASTS, other
from .provenance import weighting

# What becomes of an examination, as reports say it.
MADE, KEPT, COMPLETE, SKIPPED, FAILED, OPEN = "made", "kept", "complete", "skipped", "failed", "open"
MEANING = {
    MADE: "synthesized in this run",
    KEPT: "synthesized in an earlier run, unchanged",
    COMPLETE: "nothing missing",
    SKIPPED: "nothing to start from",
    FAILED: "failed",
    OPEN: "not done: the run ended before",
}

Seen = tuple[str | None, str]  # contrast of a volume, and why
Look = Callable[[Scan], Seen]


@dataclass(frozen=True)
class Settings:
    """How the volumes of a run are made; the same for all of them.

    Attributes
    ----------
    output : Path
        The output folder, absolute.
    model : str
        Path of the checkpoint, absolute.
    model_sha256 : str
    device, precision : str
        As `Synthesizer` takes them.
    format : str
        Ending of the images.
    cycle : bool
        Also write |x - G(G(x))|.
    dicom : bool
        Write DICOM series, where the source is one.
    anonymous : bool
        With `dicom`: by the basic profile of the standard.
    key : bytes
        Of the pseudonyms of this run, kept nowhere: all its jobs name one patient alike.
    extra : dict
        Further options of `Synthesizer.steps`, only those that are not at their default.
    like : Path or None
        Reference volume that the result's intensities are matched to.
    overwrite : bool
        Make again what is there.
    bids_root : Path or None
        The dataset that BIDS URIs refer to.
    run : str
        The run that jobs belong to, see `Records.check_wanted`; "" where they belong to none.
    """

    output: Path
    model: str
    model_sha256: str
    device: str = "auto"
    precision: str = "auto"
    format: str = ".nii.gz"
    cycle: bool = False
    dicom: bool = False
    anonymous: bool = False
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    extra: dict[str, Any] = field(default_factory=dict)
    like: Path | None = None
    like_sha256: str = ""
    overwrite: bool = False
    bids_root: Path | None = None
    run: str = ""

    def fingerprint(self) -> dict[str, Any]:
        """What a result depends on, beside its source and mask."""
        return {
            "model": self.model_sha256,
            "precision": self.precision,
            "format": self.format,
            "cycle": self.cycle,
            "dicom": self.dicom,
            "anonymous": self.anonymous,
            "extra": self.extra,
            "like": self.like_sha256,
        }


@dataclass(frozen=True)
class Job:
    """One volume to be made.

    Attributes
    ----------
    name : str
        Of its record.
    """

    name: str
    examination: Examination
    source: Scan
    target: str
    settings: Settings
    software: str = __version__

    @property
    def wanted(self) -> dict[str, Any]:
        """What has to be the same for a result to be kept, beside the bits of source and mask."""
        fingerprint = self.settings.fingerprint()
        fingerprint["dicom"] = fingerprint["dicom"] and bool(self.source.files)
        return {"target": self.target, "source_contrast": self.source.contrast, **fingerprint}

    def target_path(self, description: str, contrast: str, suffix: str | None = None) -> str:
        """Path of an output relative to the output folder; the same form for all layouts."""
        stem = re.sub(r"_desc-[A-Za-z0-9]+", "", self.source.stem)  # BIDS allows one
        name = f"{stem}_desc-{description}_{weighting(contrast)}{suffix or self.settings.format}"
        return f"{self.examination.folder}/{name}"


@dataclass
class Row:
    """An examination in the report.

    Attributes
    ----------
    status : str
        A key of `MEANING`.
    target : str
        The contrast that was missing, or "".
    source : str
        Path of the source, for people.
    record : dict
        Of the result, where there is one.
    error : dict
        As `process.error_document` gives it.
    note : str
    """

    subject: str
    session: str
    status: str
    target: str = ""
    source: str = ""
    record: Record = field(default_factory=dict)
    error: dict[str, str] = field(default_factory=dict)
    note: str = ""


@dataclass
class Plan:
    """Jobs to do, and a row for every examination and missing contrast; `rows[n]` belongs to the job `jobs[n]`."""

    rows: list[Row]
    jobs: dict[int, Job]

    def counts(self) -> dict[str, int]:
        """Number of rows by status."""
        return {status: sum(row.status == status for row in self.rows) for status in MEANING}


def make(
    found: list[Examination], settings: Settings, wanted: tuple[str, ...] = CONTRASTS, *, look: Look
) -> Iterator[Plan]:
    """Plan a run; yields the plan after each examination, so that its progress can be told.

    Parameters
    ----------
    found : list of Examination
    settings : Settings
    wanted : tuple of str
        Contrasts to be made where they are missing.
    look : callable
        Tells what a volume is whose name does not.
    """
    from .process import error_document

    records = Records(settings.output)
    plan = Plan([], {})
    places = unique_folders(found)
    for examination in found:
        row = Row(examination.subject, examination.session, SKIPPED)
        try:
            if len(places[place(examination)]) > 1:
                raise _doubled(places[place(examination)], examination)
            job = decide(examination, settings, wanted, row, look)
        except MRSynthError as error:
            row.status, row.error, job = FAILED, error_document(error), None
        if job is not None:
            _enter(job, row, plan, records)
        plan.rows.append(row)
        yield plan


def _enter(job: Job, row: Row, plan: Plan, records: Records) -> None:
    """Keep what is there already, else put the job on the list."""
    row.status, row.target, row.source = OPEN, job.target, str(job.source.path)
    record = records.read(job.name)
    if record is not None and unchanged(job, record, records):
        row.status, row.record = KEPT, record
    else:
        plan.jobs[len(plan.rows)] = job


def unchanged(job: Job, record: Record, records: Records) -> bool:
    """Whether a result is there and nothing that it depends on has changed, by size and time of the files."""
    if job.settings.overwrite or record.get("wanted") != job.wanted:
        return False
    try:
        same = record.get("source", {}).get("stamp") == stamp(job.source.files or [job.source.path])
        mask = job.examination.mask
        same = same and record.get("mask", {}).get("stamp", "") == (stamp([mask]) if mask else "")
    except OSError:
        return False
    return same and records.intact(record, by_content=False)


def _doubled(others: list[Examination], examination: Examination) -> InputError:
    seen = f"{len(others)} examinations of the input would be written to '{examination.folder}'."
    if len({one.folder for one in others}) > 1:
        seen = f"{seen[:-1]}, as upper and lower case are the same on some systems."
    return InputError("batch-doubled", seen, "a name of its own for each.")


def decide(examination: Examination, settings: Settings, wanted: tuple[str, ...], row: Row, look: Look) -> Job | None:
    """What is to be made of an examination; None where nothing is, with the reason in `row`.

    Raises
    ------
    InputError
        What is wrong with the examination.
    """
    if examination.problem is not None:
        raise examination.problem
    by_contrast: dict[str, list[Scan]] = {contrast: [] for contrast in CONTRASTS}
    notes = list(examination.notes)
    for scan in examination.scans:
        contrast, reason = (scan.contrast, scan.reason) if scan.contrast else look(scan)
        if contrast is None:
            notes.append(f"{scan.path.name}: {reason}")
        else:
            told = scan if scan.contrast else replace(scan, contrast=contrast, reason=reason)
            by_contrast[contrast].append(told)
    present = [contrast for contrast in CONTRASTS if by_contrast[contrast]]
    job = None
    if len(present) == 2:
        row.status = COMPLETE
    elif not present:
        notes = notes or ["neither T1 nor T2"]
    else:
        target, source = other(present[0]), _finest(by_contrast[present[0]])
        row.source = str(source.path)
        if target in wanted:
            job = Job(_name(examination, target), examination, source, target, settings)
        else:
            notes.append(f"{weighting(target)} is not wanted")
    row.note = "; ".join(notes)
    return job


def _finest(scans: list[Scan]) -> Scan:
    """Of several, the one with the finest voxels by its longest edge; the first where they are alike."""
    return scans[0] if len(scans) == 1 else min(scans, key=_edge)


def _edge(scan: Scan) -> float:
    from . import batch_scan

    try:
        return round(max(batch_scan.spacing(scan)), 1)
    except MRSynthError:
        return float("inf")


def _name(examination: Examination, target: str) -> str:
    """Name of a record: readable, and different for different results."""
    from .batch_csv import safe_name

    key = f"{examination.folder}\0{target}".encode("utf-8", "surrogateescape")
    readable = safe_name(examination.folder.replace("/", "_"))[:60]
    return f"{readable}-{target}-{hashlib.sha256(key).hexdigest()[:12]}"
