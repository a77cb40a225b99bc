"""Studies that a preparation has finished, each in a folder of its own, until the store is put together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from mrsynth_training.cohort import Case
from mrsynth_training.store_files import SubjectSlices, write_array
from MRSynthLib.engine.writing import sha256_of, write_error

FOLDER = ".parts"
VERSION = 1  # of what `prepare_case` makes: a change of it makes earlier parts worthless
ARRAYS = ("images.npy", "mask.npy", "slices.npy")


def key(case: Case, frame: str, planes: str = "axial") -> dict[str, Any]:
    """What a part is made of: it is made again where this has changed."""
    status = {role: path.stat() for role, path in case.files().items()}
    return {
        **({"planes": planes} if planes != "axial" else {}),  # so that older stores keep their keys
        "version": VERSION,
        "frame": frame,
        "patient": case.patient,
        "group": case.group,
        "source": case.source,
        "licence": case.licence,
        "files": {role: [case.files()[role].name, s.st_size, s.st_mtime_ns] for role, s in status.items()},
    }


def save(store: Path, made_of: dict[str, Any], subject: SubjectSlices) -> Path:
    """Write a part: a folder aside, renamed when it is whole.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    folder = store / FOLDER / subject.record["subject"]
    aside = folder.with_name(f"{folder.name}.partial")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        aside.mkdir(parents=True)
        arrays: tuple[np.ndarray, ...] = (
            subject.images.astype(np.float16),
            subject.mask.astype(np.uint8),
            subject.slices,
        )
        for name, array in zip(ARRAYS, arrays, strict=True):
            write_array(aside / name, array.dtype, array.shape, [array])
        sums = {name: sha256_of(aside / name) for name in ARRAYS}
        content = {"key": made_of, "record": subject.record, "sha256": sums}
        (aside / "part.json").write_text(json.dumps(content), encoding="utf-8")
        aside.rename(folder)
    except OSError as error:
        raise write_error(folder, error) from error
    return folder


def load(store: Path, subject: str, made_of: dict[str, Any]) -> SubjectSlices | None:
    """Open a part, memory-mapped; None where there is none, it is of other files or settings, or it is damaged."""
    folder = store / FOLDER / subject
    try:
        content = json.loads((folder / "part.json").read_text(encoding="utf-8"))
        if content["key"] != made_of or any(sha256_of(folder / n) != s for n, s in content["sha256"].items()):
            return None
        images, mask, slices = (np.load(folder / name, mmap_mode="r") for name in ARRAYS)
        return SubjectSlices(images, mask, slices, content["record"])
    except (OSError, ValueError, KeyError):
        return None


def remove(store: Path) -> None:
    """Remove all parts, once the store holds what was in them."""
    shutil.rmtree(store / FOLDER, ignore_errors=True)
