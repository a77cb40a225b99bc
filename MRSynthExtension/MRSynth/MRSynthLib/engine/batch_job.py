"""One volume of a batch run: read, synthesized, written and recorded. This is what a worker carries out."""

from __future__ import annotations

import socket
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from .batch_cohort import relative
from .batch_plan import FAILED, KEPT, MADE, Job
from .batch_progress import Throttle
from .batch_records import Record, Records, stamp
from .batch_scan import read
from .batch_workers import device_of_this_worker
from .batch_write import check_free, stamped, write
from .errors import DeviceError, InputError, ModelError
from .files import read_volume
from .process import as_known, error_document
from .serving import Networks
from .writing import sha256_of

if TYPE_CHECKING:
    from .synthesis_result import SynthesisResult
    from .volume import Volume

Outcome = dict[str, Any]
Tell = Callable[[float, str], None]

_networks = Networks()  # one per process: the network stays loaded from job to job


def carry_out(job: Job, tell: Tell | None = None) -> Outcome:
    """Make the result of a job, unless the same one is there.

    Parameters
    ----------
    job : Job
    tell : callable, optional
        Called with the fraction done (0 to 1) and the stage.

    Returns
    -------
    dict
        ``status``: made, kept or failed; with ``record``, or with ``error`` (and ``traceback``, where nobody foresaw
        the error). No exception leaves: one bad examination does not stop the rest.
    """
    try:
        _same_software(job)
        return _carried_out(job, tell or (lambda fraction, stage: None))
    except Exception as error:
        outcome: Outcome = {"status": FAILED, "error": error_document(error)}
        if as_known(error) is None:
            outcome["traceback"] = traceback.format_exc()
        return outcome


def _same_software(job: Job) -> None:
    if job.software != __version__:
        seen = f"The worker on {socket.gethostname()} has MRSynth {__version__}, the command {job.software}."
        raise DeviceError("batch-scheduler", seen, "one version everywhere.", "Install the same version on all nodes.")


def _carried_out(job: Job, tell: Tell) -> Outcome:
    tell(0.0, "read")
    records = Records(job.settings.output)
    records.check_wanted(job.settings.run)
    mask = job.examination.mask
    made_from = {
        "source": _identified(records.output, job.source.path, job.source.files),
        "mask": _identified(records.output, mask) if mask else {},
    }
    old = records.read(job.name)
    if old is not None and _same(old, job, made_from) and records.intact(old, by_content=True):
        record = {**old, **made_from, "outputs": stamped(records, old)}
        records.write(job.name, record)
        return {"status": KEPT, "record": record}
    check_free(job, records, old)
    volume = read(job.source)
    result = _synthesized(job, volume, _asking(job, records, tell))
    tell(1.0, "write")
    return {"status": MADE, "record": write(job, result, volume, made_from, records)}


def _asking(job: Job, records: Records, tell: Tell) -> Tell:
    """`tell` that also asks, now and then, whether the run is still wanted."""
    throttle = Throttle()

    def ask(fraction: float, stage: str) -> None:
        if throttle.due():
            records.check_wanted(job.settings.run)
        tell(fraction, stage)

    return ask


def _identified(output: Path, path: Path, files: Sequence[Path] = ()) -> dict[str, str]:
    """Path (as seen from the output folder), bits and stamp of what a result is made from."""
    try:  # the stamp first: should the file change meanwhile, the next run notices
        before = stamp(files or [path])
        return {"path": relative(path, output), "sha256": sha256_of(path, files or None), "stamp": before}
    except OSError as error:
        raise InputError("input-not-found", f"'{path}': {error.strerror}.", "the path of a readable volume.") from error


def _same(record: Record, job: Job, made_from: dict[str, Any]) -> bool:
    if job.settings.overwrite or record.get("wanted") != job.wanted:
        return False
    return all(record.get(key, {}).get("sha256") == made_from[key].get("sha256") for key in ("source", "mask"))


def _synthesized(job: Job, volume: Volume, tell: Tell) -> SynthesisResult:
    settings = job.settings
    synthesizer = _networks.get(settings.model, device_of_this_worker(settings.device), settings.precision)
    if synthesizer.checkpoint.sha256 != settings.model_sha256:
        seen = f"'{settings.model}' has SHA-256 {synthesizer.checkpoint.sha256}, not {settings.model_sha256}."
        raise ModelError("model-hash", seen, "the checkpoint that the run began with.")
    mask = None if job.examination.mask is None else read_volume(job.examination.mask)
    options = dict(settings.extra)
    if settings.like is not None:
        options["like"] = read_volume(settings.like)
    source = job.source.contrast or "auto"
    for progress in synthesizer.steps(volume, job.target, source=source, mask=mask, cycle=settings.cycle, **options):
        tell(progress.fraction, progress.stage)
        if progress.result is not None:
            return progress.result
    raise AssertionError("the last step carries the result")
