"""The outputs of a job: all of them or none, never over anything that no batch run has made."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .batch_bids import uri
from .batch_plan import Job
from .batch_records import Record, Records, stamp, write_json
from .errors import OutputError
from .files import write_volume
from .provenance import MAPS, description, facts, sidecar
from .writing import sha256_of, write_error

if TYPE_CHECKING:
    from .synthesis_result import SynthesisResult
    from .volume import Volume


def check_free(job: Job, records: Records, old: Record | None) -> None:
    """Refuse to write over anything that no earlier run has made.

    Raises
    ------
    OutputError
        output-exists.
    """
    ours = {(one["path"], one["sha256"]) for key in ("outputs", "previous") for one in (old or {}).get(key, [])}
    found = targets(job)
    ours |= _claimed(records.output, found)
    for role, path in found.items():
        place = records.output / path
        try:
            if os.path.lexists(place) and (path, sha256_of(place)) not in ours:
                seen = f"'{place}' is there, and no batch run has made it so."
                raise OutputError("output-exists", seen, f"a free name for the {role}.", "Move it away.")
        except OSError as error:
            raise OutputError("output-not-writable", f"'{place}': {error}.", "a name that a file can have.") from error


def _claimed(output: Path, found: dict[str, str]) -> set[tuple[str, str]]:
    """Those of the outputs whose SHA-256 the sidecar tells, and the sidecar of its image: records may be lost."""
    try:
        document = json.loads((output / found["sidecar"]).read_text(encoding="utf-8"))
        if document["synthetic"] is not True or document["OutputSHA256"] != sha256_of(output / found["image"]):
            return set()
        told = {**document.get("MapSHA256", {}), "image": document["OutputSHA256"]}
        told["sidecar"] = sha256_of(output / found["sidecar"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return {(path, told[role]) for role, path in found.items() if role in told}


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


def stamped(records: Records, record: Record) -> list[dict[str, str]]:
    """The outputs of a record, with the stamps that they have now."""
    return [{**one, "stamp": stamp([records.output / one["path"]])} for one in record["outputs"]]


def write(job: Job, result: SynthesisResult, volume: Volume, made_from: Record, records: Records) -> Record:
    """Write all outputs aside, then record them, then give them their names, then record that they are done.

    Parameters
    ----------
    job : Job
    result : SynthesisResult
    volume : Volume
        The source.
    made_from : dict
        Source and mask as records hold them: path, sha256, stamp.
    records : Records

    Returns
    -------
    dict
        The record.

    Raises
    ------
    OutputError
        output-exists, output-not-writable, output-full.
    Cancelled
        The run has ended meanwhile.
    """
    from . import batch_picture

    roles = targets(job)
    with records.workplace(job.name) as place:
        with _as_output_error(place):
            _save(job, result, volume, made_from, place, roles)
        outputs = [
            {"role": role, "path": path, "sha256": sha256_of(place / role / Path(path).name)}
            for role, path in roles.items()
        ]
        picture = batch_picture.of(volume, result, place / "picture.png")
        # Again, and with the record as it is now: the run took a while.
        records.check_wanted(job.settings.run)
        old = records.read(job.name)
        check_free(job, records, old)
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
        }
        records.write(job.name, record)
        with _as_output_error(records.output / job.examination.folder):
            for role, path in roles.items():
                _name(place / role / Path(path).name, records.output / path)
            _name(picture, records.output / batch_picture.FOLDER / f"{job.name}.png")
            _remove_replaced(record, records)
        record |= {"state": "done", "outputs": stamped(records, record), "previous": []}
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

        settings = job.settings
        write_result(
            result, paths["dicom"], anonymous=settings.anonymous, key=settings.key, taken=job.examination.taken
        )
        return
    about = description(result)
    write_volume(result.volume, paths["image"], description=about)
    for role, name in MAPS.items():
        extra: Volume | None = getattr(result, role, None)
        if role in paths and extra is not None:
            write_volume(extra, paths[role], description=f"{name}, {about}")
    _write_sidecar(job, result, volume, made_from, paths)


def _write_sidecar(
    job: Job, result: SynthesisResult, volume: Volume, made_from: Record, paths: dict[str, Path]
) -> None:
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
    document["OutputSHA256"] = sha256_of(paths["image"])
    maps = {role: sha256_of(paths[role]) for role in MAPS if role in paths}
    if maps:
        document["MapSHA256"] = maps
    write_json(paths["sidecar"], document)
