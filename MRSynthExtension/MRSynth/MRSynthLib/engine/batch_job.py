"""One volume of a batch run: read, synthesized, written and recorded. This is what a worker carries out."""

from __future__ import annotations

import os
import shutil
import socket
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from .batch_plan import FAILED, KEPT, MADE, Job
from .batch_records import Record, Records, stamp
from .batch_workers import device_of_this_worker
from .errors import DeviceError, InputError, ModelError, OutputError
from .files import read_volume, sha256_of, write_error, write_volume
from .process import as_known, error_document
from .provenance import description, facts, sidecar
from .serving import Networks

if TYPE_CHECKING:
    from .batch_cohort import Scan
    from .dicom import Series
    from .synthesis import SynthesisResult
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
    mask = job.examination.mask
    made_from = {
        "source": _identified(job.source.path, job.source.files),
        "mask": _identified(mask) if mask else {},
    }
    old = records.read(job.name)
    if old is not None and _same(old, job, made_from) and records.intact(old, by_content=True):
        record = {**old, **made_from, "outputs": _stamped(records, old)}
        records.write(job.name, record)
        return {"status": KEPT, "record": record}
    check_free(job, records, old)
    volume = read(job.source)
    result = _synthesized(job, volume, tell)
    tell(1.0, "write")
    return {"status": MADE, "record": _written(job, result, volume, made_from, records, old)}


def _identified(path: Path, files: Sequence[Path] = ()) -> dict[str, str]:
    """Path, bits and stamp of what a result is made from; the stamp is older than the bits, never newer."""
    try:
        before = stamp(files or [path])
        return {"path": str(path), "sha256": sha256_of(path, files or None), "stamp": before}
    except OSError as error:
        raise InputError("input-not-found", f"'{path}': {error.strerror}.", "the path of a readable volume.") from error


def _same(record: Record, job: Job, made_from: dict[str, Any]) -> bool:
    if job.settings.overwrite or record.get("wanted") != job.wanted:
        return False
    return all(record.get(key, {}).get("sha256") == made_from[key].get("sha256") for key in ("source", "mask"))


def _stamped(records: Records, record: Record) -> list[dict[str, str]]:
    return [{**one, "stamp": stamp([records.output / one["path"]])} for one in record["outputs"]]


def check_free(job: Job, records: Records, old: Record | None) -> None:
    """Refuse to write over anything that no earlier run has made.

    Raises
    ------
    OutputError
        output-exists.
    """
    ours = {(one["path"], one["sha256"]) for key in ("outputs", "previous") for one in (old or {}).get(key, [])}
    for role, path in targets(job).items():
        place = records.output / path
        try:
            if os.path.lexists(place) and (path, sha256_of(place)) not in ours:
                seen = f"'{place}' is there, and no batch run has made it so."
                raise OutputError("output-exists", seen, f"a free name for the {role}.", "Move it away.")
        except OSError as error:
            raise OutputError("output-not-writable", f"'{place}': {error}.", "a name that a file can have.") from error


def targets(job: Job) -> dict[str, str]:
    """Paths of all outputs by role, relative to the output folder."""
    settings, source = job.settings, str(job.source.contrast)
    if settings.dicom and job.source.files:
        return {"dicom": f"{job.examination.folder}/{job.source.stem}_desc-synthetic_{job.target}"}
    found = {
        "image": job.target_path("synthetic", job.target),
        "sidecar": job.target_path("synthetic", job.target, ".json"),
    }
    if settings.cycle:
        found["cycle"] = job.target_path("cycleDifference", source)
    if settings.extra.get("reliability"):
        found["reliability"] = job.target_path("expectedError", job.target)
        found["interval"] = job.target_path("errorInterval", job.target)
    return found


def read(scan: Scan) -> Volume:
    """The volume of a scan.

    Raises
    ------
    InputError
        As `files.read_volume` and `dicom.load`.
    """
    if not scan.files:
        return read_volume(scan.path)
    from .dicom import load

    return load(_series(scan))


def spacing_of(scan: Scan) -> tuple[float, ...]:
    """Distance between voxel centres, in mm.

    Raises
    ------
    InputError
        As `read`.
    """
    return (scan.files and _series(scan).spacing) or read(scan).spacing


def _series(scan: Scan) -> Series:
    from .dicom_find import series_of_files

    uid, _, part = scan.series.rpartition("#")
    for series in series_of_files(scan.files, f"'{scan.path}'"):
        if (series.uid, str(series.part)) == (uid, part):
            return series
    raise InputError("dicom-series-unknown", f"'{scan.path}' no longer holds the series {uid}.", "an unchanged input.")


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


def _written(
    job: Job, result: SynthesisResult, volume: Volume, made_from: Record, records: Records, old: Record | None
) -> Record:
    """Write all outputs aside, then record them, then give them their names, then record that they are done."""
    from . import batch_picture

    roles = targets(job)
    with records.workplace(job.name) as place:
        with _as_output_error(place):
            _save(job, result, volume, made_from, place, roles)
        outputs = [
            {"role": role, "path": path, "sha256": sha256_of(place / role / Path(path).name)}
            for role, path in roles.items()
        ]
        record: Record = {
            "state": "writing",
            "subject": job.examination.subject,
            "session": job.examination.session,
            "wanted": job.wanted,
            **made_from,
            "outputs": outputs,
            "previous": [one for key in ("outputs", "previous") for one in (old or {}).get(key, [])],
            "facts": facts(result),
            "host": socket.gethostname(),
            "trust": getattr(result, "trust", None),
        }
        picture = batch_picture.of(volume, result, place / "picture.png")
        check_free(job, records, old)  # again: the run took a while
        records.write(job.name, record)
        with _as_output_error(records.output / job.examination.folder):
            for role, path in roles.items():
                _name(place / role / Path(path).name, records.output / path)
            _name(picture, records.output / batch_picture.FOLDER / f"{job.name}.png")
            _remove_replaced(record, records)
        record |= {"state": "done", "outputs": _stamped(records, record), "previous": []}
        record["picture"] = f"{batch_picture.FOLDER}/{job.name}.png"
        records.write(job.name, record)
    return record


def _remove_replaced(record: Record, records: Records) -> None:
    """Remove what an earlier run wrote under another name, say in another format."""
    current = {one["path"] for one in record["outputs"]}
    for one in record["previous"]:
        path = records.output / one["path"]
        if one["path"] not in current and path.exists() and sha256_of(path) == one["sha256"]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _name(here: Path, there: Path) -> None:
    there.parent.mkdir(parents=True, exist_ok=True)
    if there.is_dir():  # a series that an earlier run wrote, see `check_free`
        shutil.rmtree(there)
    here.replace(there)


@contextmanager
def _as_output_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise write_error(path, error) from error


def _save(
    job: Job, result: SynthesisResult, volume: Volume, made_from: Record, place: Path, roles: dict[str, str]
) -> None:
    """Write each output as ``place/ROLE/NAME``."""
    paths = {role: place / role / Path(path).name for role, path in roles.items()}
    for path in paths.values():
        path.parent.mkdir()
    if "dicom" in paths:
        from .dicom import write_result

        write_result(result, paths["dicom"], anonymous=job.settings.anonymous)
        return
    about = description(result)
    write_volume(result.volume, paths["image"], description=about)
    for role in ("cycle", "reliability", "interval"):
        extra: Volume | None = getattr(result, role, None)
        if role in paths and extra is not None:
            write_volume(extra, paths[role], description=f"{role} of {about}")
    _write_sidecar(job, result, volume, made_from, paths["sidecar"], paths["image"])


def _write_sidecar(
    job: Job, result: SynthesisResult, volume: Volume, made_from: Record, path: Path, image: Path
) -> None:
    from .batch_bids import uri
    from .batch_records import write_json

    document = sidecar(
        result,
        output=job.settings.output / targets(job)["image"],
        source=job.source.path,
        source_sha256=made_from["source"]["sha256"],
        mask=job.examination.mask,
        mask_sha256=made_from["mask"].get("sha256"),
        like=job.settings.like,
        like_sha256=job.settings.like_sha256 or None,
        metadata=volume.metadata,
    )
    root = job.settings.bids_root
    if root is not None and job.examination.layout == "bids":
        document["Sources"] = [uri(job.source.path, root)]
    document["OutputSHA256"] = sha256_of(image)
    write_json(path, document)
