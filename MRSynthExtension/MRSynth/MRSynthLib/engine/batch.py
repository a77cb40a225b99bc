"""A batch run: find examinations, plan, work, report. It can be cut short anywhere and started again.

>>> from MRSynthLib.engine import batch
>>> settings = batch.settings_for("out")
>>> finished = batch.run(["study"], settings, batch_workers.Inline())
"""

from __future__ import annotations

import dataclasses
import sys
import time
import uuid
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import batch_cohort, batch_inputs, batch_job, batch_plan, batch_report
from .batch_looks import Looks
from .batch_plan import FAILED, OPEN, Plan, Settings
from .batch_progress import Listener, Progress, Throttle
from .batch_records import GO_ON, Records
from .batch_workers import Workers
from .errors import Cancelled, InputError, ModelError, MRSynthError, OutputError
from .preparation import CONTRASTS
from .process import error_from

if TYPE_CHECKING:
    from .checkpoint import Checkpoint

_FULL = "output-full"  # what stops a run: no further job could be written either
_ENDED = "cancelled"  # as well: another run works in the folder, on a file system without locks


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
        As `checkpoint.load`; model-reliability.
    InputError
        reference-unusable.
    """
    from . import checkpoint
    from .files import read_volume
    from .writing import sha256_of

    loaded = checkpoint.load(model)
    if options.get("extra", {}).get("reliability"):
        _check_calibrated(loaded)
    like = options.get("like")
    if like is not None:
        try:
            read_volume(like)
        except InputError as error:
            raise InputError("reference-unusable", error.seen, error.expected, error.remedy) from error
        options |= {"like": like.resolve(), "like_sha256": sha256_of(like)}
    return Settings(output.resolve(), str(loaded.path.resolve()), loaded.sha256, **options)


def _check_calibrated(loaded: Checkpoint) -> None:
    """Refuse a reliability map where the checkpoint has a calibration for neither direction."""
    from . import reliability

    errors = []
    for contrast in CONTRASTS:
        try:
            reliability.of_card(loaded.card, contrast, loaded.name)
        except ModelError as error:  # noqa: PERF203 - twice
            errors.append(error)
    if len(errors) == len(CONTRASTS):
        raise errors[0]


def plan(
    inputs: Sequence[Path],
    settings: Settings,
    *,
    layout: str = "auto",
    wanted: tuple[str, ...] = CONTRASTS,
    told: Listener | None = None,
) -> tuple[Plan, Settings]:
    """Find the examinations and what is missing; nothing is written, also not what was learned on the way.

    Returns
    -------
    Plan
    Settings
        With what the inputs are, where results depend on it.

    Raises
    ------
    InputError, OutputError
        As `batch_inputs.find`.
    """
    found, settings = _found(inputs, settings, layout)
    return _planned(found, settings, wanted, Looks(Records(settings.output)), told), settings


def _found(inputs: Sequence[Path], settings: Settings, layout: str) -> tuple[list[batch_cohort.Examination], Settings]:
    inputs = [_absolute(path) for path in inputs]
    found = batch_inputs.find(inputs, settings.output, layout)
    datasets = [path for path in inputs if path.is_dir() and any(_within(one, path) for one in found)]
    if len(inputs) == len(datasets) == 1 and found[0].layout == "bids":
        settings = dataclasses.replace(settings, bids_root=inputs[0])
    return found, settings


def _planned(
    found: list[batch_cohort.Examination],
    settings: Settings,
    wanted: tuple[str, ...],
    looks: Looks,
    told: Listener | None,
) -> Plan:
    made = Plan([], {})
    throttle = Throttle()
    for made in batch_plan.make(found, settings, wanted, look=looks.look):
        if told and throttle.due():
            told({"event": "planning", "done": len(made.rows), "total": len(found)})
    return made


def _absolute(path: Path) -> Path:
    try:
        return path.absolute()
    except OSError:
        return path


def _within(examination: batch_cohort.Examination, path: Path) -> bool:
    return examination.layout == "bids" and all(path in scan.path.parents for scan in examination.scans)


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
        See `batch_inputs.find`.
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
    # Before anything is made: what stands against the inputs leaves nothing behind.
    found, settings = _found(inputs, settings, layout)
    settings = dataclasses.replace(settings, run=uuid.uuid4().hex)
    make_folder(settings.output)
    records = Records(settings.output)
    with records.locked():
        records.prepare()
        looks = Looks(records)
        made = _planned(found, settings, wanted, looks, told)
        looks.save()
        if settings.bids_root is not None:
            from . import batch_bids

            batch_bids.describe(settings.output, settings.bids_root)
        tell({"event": "plan", "jobs": len(made.jobs), **made.counts()})
        finished = Finished(made, 0.0)
        try:
            if made.jobs:
                _work(made, workers, records.wanted(settings.run), tell)
        except MRSynthError as error:
            finished.stopped = error
        except KeyboardInterrupt:
            finished.stopped = Cancelled(remedy=GO_ON)
        finished.seconds = time.monotonic() - begin
        try:
            finished.report = batch_report.write(made, settings, finished.seconds, workers.about)
        except OutputError as error:
            finished.stopped = finished.stopped or error
    return finished


def make_folder(path: Path) -> None:
    """Make the output folder, if only it is missing, or it and the folder `derivatives` of a dataset.

    Raises
    ------
    OutputError
        output-folder-missing, output-not-writable.
    """
    from .writing import write_error

    try:
        if path.parent.name == "derivatives" and path.parent.parent.is_dir():
            path.parent.mkdir(exist_ok=True)
        if not path.parent.is_dir():
            raise OutputError("output-folder-missing", f"There is no folder '{path.parent}'.", "an existing folder.")
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise write_error(path, error) from error


def _work(made: Plan, workers: Workers, wanted: AbstractContextManager[None], tell: Listener) -> None:
    """Have all jobs carried out while they are wanted, and enter what came of them.

    Raises
    ------
    OutputError
        output-full, when a job found the disk full: no other could be written either.
    DeviceError
        batch-scheduler.
    Cancelled
        A job found that another run works in the folder.
    """
    with workers, wanted:
        if workers.notice:
            tell({"event": "notice", "message": workers.notice})
        progress = Progress(len(made.jobs), tell)
        for number, outcome in workers.run(batch_job.carry_out, made.jobs.items(), progress.within):
            row = made.rows[number]
            row.status = outcome["status"]
            row.record = outcome.get("record", {})
            row.error = outcome.get("error", {})
            if outcome.get("traceback"):
                sys.stderr.write(f"{row.subject} {row.session}\n{outcome['traceback']}")
            if row.error.get("code") in (_FULL, _ENDED):
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
