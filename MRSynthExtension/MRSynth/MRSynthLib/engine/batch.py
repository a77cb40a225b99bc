"""A batch run: find examinations, plan, work, report. It can be cut short anywhere and started again.

>>> from MRSynthLib.engine import batch
>>> settings = batch.settings_for("out")
>>> finished = batch.run(["study"], settings, batch_workers.Inline())
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import batch_cohort, batch_job, batch_plan, batch_report
from .batch_cohort import Scan
from .batch_plan import FAILED, OPEN, Plan, Seen, Settings
from .batch_records import Records, stamp, write_json
from .batch_workers import Workers
from .errors import MRSynthError, OutputError
from .preparation import CONTRASTS
from .process import error_document, error_from

Listener = Callable[[dict[str, Any]], None]

_FULL = "output-full"  # what stops a run: no further job could be written either
_TOLD_EVERY = 0.5  # seconds between two progress events


@dataclass
class Finished:
    """What came of a run.

    Attributes
    ----------
    plan : Plan
        Its rows tell what became of each examination.
    seconds : float
    stopped : MRSynthError or None
        What ended the run before its time.
    report : Path or None
        The page, where one was written.
    """

    plan: Plan
    seconds: float
    stopped: MRSynthError | None = None
    report: Path | None = None


def settings_for(output: Path, model: str | None = None, **options: Any) -> Settings:
    """Settings of a run, with the checkpoint found and verified.

    Parameters
    ----------
    output : Path
    model : str, optional
        Path or installed name.
    options
        Further fields of `Settings`.

    Raises
    ------
    ModelError
        As `checkpoint.load`.
    """
    from . import checkpoint
    from .files import sha256_of

    loaded = checkpoint.load(model)
    like = options.get("like")
    if like is not None:
        options |= {"like": like.resolve(), "like_sha256": sha256_of(like)}
    return Settings(output.resolve(), str(loaded.path.resolve()), loaded.sha256, **options)


def plan(
    inputs: Sequence[Path],
    settings: Settings,
    *,
    layout: str = "auto",
    wanted: tuple[str, ...] = CONTRASTS,
    told: Listener | None = None,
) -> tuple[Plan, Settings]:
    """Find the examinations and what is missing; nothing is written.

    Returns
    -------
    Plan
    Settings
        With what the inputs are, where results depend on it.

    Raises
    ------
    InputError, OutputError
        As `batch_cohort.find`.
    """
    inputs = [_absolute(path) for path in inputs]
    found = batch_cohort.find(inputs, settings.output, layout)
    datasets = [path for path in inputs if path.is_dir() and any(_within(one, path) for one in found)]
    if len(inputs) == len(datasets) == 1 and found[0].layout == "bids":
        settings = dataclasses.replace(settings, bids_root=inputs[0])
    looks = Looks(Records(settings.output))
    made = Plan([], {})
    throttle = _Throttle()
    for made in batch_plan.make(found, settings, wanted, look=looks.look):
        if told and throttle.due():
            told({"event": "planning", "done": len(made.rows), "total": len(found)})
    looks.save()
    return made, settings


def _absolute(path: Path) -> Path:
    try:
        return path.absolute()
    except OSError:
        return path


def _within(examination: batch_cohort.Examination, path: Path) -> bool:
    return examination.layout == "bids" and all(path in scan.path.parents for scan in examination.scans)


class Looks:
    """What volumes are whose names do not tell, by a look at the image; remembered as long as the file is the same."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._known: dict[str, dict[str, Any]] = {}
        self._new = False
        try:
            known = json.loads(records.looks.read_text(encoding="utf-8"))
            self._known = known if isinstance(known, dict) else {}
        except (OSError, ValueError):
            pass

    def look(self, scan: Scan) -> Seen:
        """Contrast and reason; no contrast where it is not clear, or where the file cannot be read."""
        from . import screening
        from .preparation import SURE

        key = f"{scan.path}#{scan.series}"
        try:
            now = stamp(scan.files or [scan.path])
        except OSError as error:
            return None, str(error)
        known = self._known.get(key, {})
        if known.get("stamp") != now:
            try:
                volume = batch_job.read(scan)
                guess = screening.guess_contrast(volume, screening.look(volume).brain)
                contrast = guess.name if guess.confidence >= SURE else None
                known = {"stamp": now, "contrast": contrast, "reason": guess.reason}
            except MRSynthError as error:
                known = {"stamp": now, "contrast": None, "reason": f"{error.seen} [{error.code}]"}
            self._known[key] = known
            self._new = True
        return known["contrast"], known["reason"]

    def save(self) -> None:
        """Remember for the next run, if there is a place for it already."""
        if self._new and self._records.looks.parent.is_dir():
            write_json(self._records.looks, self._known)


def run(
    inputs: Sequence[Path],
    settings: Settings,
    workers: Workers,
    *,
    layout: str = "auto",
    wanted: tuple[str, ...] = CONTRASTS,
    told: Listener | None = None,
) -> Finished:
    """Carry out a batch run.

    Parameters
    ----------
    inputs : sequence of Path
        See `batch_cohort.find`.
    settings : Settings
    workers : Workers
    layout : str
    wanted : tuple of str
        Contrasts to be made where they are missing.
    told : callable, optional
        Gets events: planning, plan, progress, result, failure, done.

    Raises
    ------
    MRSynthError
        What stands against the run as a whole, before anything is computed; also `Cancelled` and what ended the run
        before its time, after the report of what is done was written.
    """
    tell: Listener = told or (lambda event: None)
    begin = time.monotonic()
    for path in inputs:
        batch_cohort.check_apart(path, settings.output)
    make_folder(settings.output)
    records = Records(settings.output)
    with records.locked():
        records.prepare()
        made, settings = plan(inputs, settings, layout=layout, wanted=wanted, told=told)
        if settings.bids_root is not None:
            from . import batch_bids

            batch_bids.describe(settings.output, settings.bids_root)
        tell({"event": "plan", "jobs": len(made.jobs), **made.counts()})
        finished = Finished(made, 0.0)
        try:
            if made.jobs:
                _work(made, workers, tell)
        except MRSynthError as error:
            finished.stopped = error
        except KeyboardInterrupt:
            from .errors import Cancelled

            finished.stopped = Cancelled()
        finished.seconds = time.monotonic() - begin
        try:
            finished.report = batch_report.write(made, settings, finished.seconds, workers.about)
        except OutputError as error:
            finished.stopped = finished.stopped or error
    return finished


def make_folder(path: Path) -> None:
    """Make the output folder, if only it is missing.

    Raises
    ------
    OutputError
        output-folder-missing, output-not-writable.
    """
    from .files import write_error

    try:
        if not path.parent.is_dir():
            raise OutputError("output-folder-missing", f"There is no folder '{path.parent}'.", "an existing folder.")
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise write_error(path, error) from error


def _work(made: Plan, workers: Workers, tell: Listener) -> None:
    """Have all jobs carried out, and enter what came of them.

    Raises
    ------
    OutputError
        output-full, when a job found the disk full: no other could be written either.
    DeviceError
        batch-scheduler.
    """
    with workers:
        progress = Progress(len(made.jobs), workers, tell)
        for number, outcome in workers.run(batch_job.carry_out, made.jobs.items(), progress.within):
            row = made.rows[number]
            row.status = outcome["status"]
            row.record = outcome.get("record", {})
            row.error = outcome.get("error", {})
            if outcome.get("traceback"):
                sys.stderr.write(f"{row.subject} {row.session}\n{outcome['traceback']}")
            if row.error.get("code") == _FULL:
                row.status = OPEN
                raise error_from(row.error)
            progress.finished(number)
            tell(event_of(row))


def event_of(row: batch_plan.Row) -> dict[str, Any]:
    """What is told of a row when it is done."""
    about = {"subject": row.subject, "session": row.session, "target": row.target, "status": row.status}
    if row.status == FAILED:
        return {"event": "failure", **about, "error": row.error}
    outputs = {one["role"]: one["path"] for one in row.record.get("outputs", [])}
    picture = row.record.get("picture")
    return {"event": "result", **about, "outputs": outputs, "picture": picture, "seconds": _seconds(row)}


def _seconds(row: batch_plan.Row) -> float | None:
    return row.record.get("facts", {}).get("seconds")


class Progress:
    """How far a run is, and how long it will take: by the jobs that are done, and parts of those under way."""

    def __init__(self, total: int, workers: Workers, tell: Listener) -> None:
        self._total = total
        self._workers = workers
        self._tell = tell
        self._begin = time.monotonic()
        self._parts: dict[int, float] = {}
        self._done = 0
        self._throttle = _Throttle()

    def within(self, number: int, fraction: float, stage: str) -> None:
        """Tell of a job that is under way."""
        self._parts[number] = fraction
        if self._throttle.due():
            self._send(stage)

    def finished(self, number: int) -> None:
        """Tell of a job that is done."""
        self._parts.pop(number, None)
        self._done += 1
        self._send("")

    def _send(self, stage: str) -> None:
        amount = self._done + sum(self._parts.values())
        spent = time.monotonic() - self._begin
        left = spent / amount * (self._total - amount) if amount > 0 else None
        event = {"event": "progress", "done": self._done, "total": self._total, "stage": stage}
        self._tell({**event, "fraction": amount / max(1, self._total), "seconds_left": left})


class _Throttle:
    """Says when enough time has gone by to tell something again."""

    def __init__(self) -> None:
        self._next = 0.0

    def due(self) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + _TOLD_EVERY
        return True


def failures(rows: Iterable[batch_plan.Row]) -> Iterator[dict[str, Any]]:
    """What failed in a run, one entry per row."""
    return (event_of(row) for row in rows if row.status == FAILED)


__all__ = ["Finished", "Progress", "error_document", "plan", "run", "settings_for"]
