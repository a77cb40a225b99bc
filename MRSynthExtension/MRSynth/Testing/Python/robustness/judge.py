"""What a broken input may do, and what it may not."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from MRSynthLib.engine.errors import ERRORS, FAMILIES
from MRSynthLib.engine.files import read_volume

from .case import Asked
from .doors import PATIENCE, Answer

MEMORY = 2 << 30  # bytes
Snapshot = Mapping[str, str]


def snapshot(folder: Path) -> Snapshot:
    """Every path in a folder, with what it is: a digest, where a link goes, or the kind."""
    found = {}
    for parent, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(parent, name)
            with contextlib.suppress(FileNotFoundError):
                mode = path.lstat().st_mode
                if stat.S_ISLNK(mode):
                    found[str(path)] = f"link to {path.readlink()}"
                elif stat.S_ISREG(mode):
                    found[str(path)] = _digest(path)
                else:
                    found[str(path)] = str(stat.S_IFMT(mode))
    return found


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def problems(asked: Asked, answer: Answer, before: Snapshot, after: Snapshot) -> list[str]:
    """Everything that is wrong with what came of a case; an empty list where it is as it should be."""
    wrong = [*_ending(asked, answer), *_limits(answer)]
    if "Traceback" in answer.err or "Traceback" in answer.out:
        wrong.append("a traceback")
    expected = {str(path) for path in answer.wrote}
    extra = sorted(after.keys() - before.keys() - expected)
    if extra:
        wrong.append(f"left behind: {extra[:3]}")
    changed = [name for name, what in before.items() if name in after and after[name] != what and name not in expected]
    if changed:
        wrong.append(f"changed: {changed[:3]}")
    if asked.vanish is None:
        gone = sorted(before.keys() - after.keys())
        if gone:
            wrong.append(f"gone: {gone[:3]}")
        wrong += [text for path in answer.wrote if (text := not_whole(path))]
    return wrong


def _ending(asked: Asked, answer: Answer) -> list[str]:
    if answer.code is None:
        return [f"no orderly end: {answer.error}"]
    if answer.code == 0:
        return [f"a success that says {answer.error}"] if answer.error else []
    if answer.error not in ERRORS and answer.error != "usage":
        return [f"exit code {answer.code}, undocumented error '{answer.error}'"]
    if answer.error == "device-out-of-memory":
        return ["it ran out of memory"]
    expected = 2 if answer.error == "usage" else FAMILIES[ERRORS[answer.error].family].exit_code
    if answer.code != expected:
        return [f"exit code {answer.code} with '{answer.error}', which has {expected}"]
    return [f"refused as '{answer.error}', though sound: {answer.out[-300:]}"] if asked.good else []


def _limits(answer: Answer) -> list[str]:
    wrong = []
    if answer.seconds > PATIENCE:
        wrong.append(f"{answer.seconds:.1f} s")
    if answer.memory > MEMORY:
        wrong.append(f"{answer.memory / 1e9:.2f} GB")
    return wrong


def not_whole(path: Path) -> str:
    """Why a file of a success is not what it should be."""
    try:
        if path.suffix == ".npy":
            np.load(path)
        elif path.suffix == ".json":
            import json

            json.loads(path.read_text(encoding="utf-8"))
        else:
            read_volume(path)
    except Exception as error:
        return f"'{path}' cannot be read: {error!r}"
    return ""
