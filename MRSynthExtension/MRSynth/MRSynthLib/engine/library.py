"""The user's own checkpoints: a folder, into which they are added and from which they are removed.

What `checkpoint` ships is never touched. A broken file in the folder is somebody's business to look at, and no
reason to fail: only what is added is verified here.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
from pathlib import Path

from . import checkpoint, model_folders
from .errors import ModelError, OutputError
from .writing import sha256_of, write_aside


def add(path: str | os.PathLike[str]) -> Path:
    """Copy a checkpoint into the user's folder, under the name on its card; where it is there already, do nothing.

    The weights are held against their SHA-256 too, where safetensors is installed.

    Parameters
    ----------
    path : path
        A checkpoint file.

    Returns
    -------
    Path
        Where it is installed.

    Raises
    ------
    ModelError
        model-name-taken, or what is wrong with the file: see `checkpoint.load`.
    OutputError
        output-not-writable, output-full: the folder cannot take it.
    """
    path = Path(path)
    card = checkpoint.read_card(path)
    if importlib.util.find_spec("safetensors") is not None:
        checkpoint.load(path)
    stem = _as_stem(str(card["name"]))
    digest = sha256_of(path)
    for other in model_folders.installed():
        # Without regard to case, as file systems of Windows and macOS are.
        if stem.lower() not in (other.stem.lower(), _as_stem(_name_on_card(other)).lower()):
            continue
        if sha256_of(other) == digest:
            return other
        seen = f"'{path.name}' is named '{card['name']}', and so is '{other}', which is another one."
        raise ModelError("model-name-taken", seen, "a name that is free.")
    return _copy(path, model_folders.user_folder() / f"{stem}{model_folders.SUFFIX}")


def remove(name: str | os.PathLike[str]) -> Path:
    """Delete a checkpoint of the user's.

    Parameters
    ----------
    name : str or path
        Its installed name or its path.

    Returns
    -------
    Path
        What was deleted.

    Raises
    ------
    ModelError
        model-shipped, model-not-found.
    OutputError
        output-not-writable.
    """
    wanted = {str(name), str(Path(name).absolute())}
    users = []
    for path in model_folders.installed():
        known_as = {path.name, path.stem, _name_on_card(path), str(path.absolute())}
        if wanted.isdisjoint(known_as):
            users += [] if model_folders.is_shipped(path) else [path.stem]
        elif model_folders.is_shipped(path):
            raise ModelError("model-shipped", f"'{path.stem}' came with MRSynth.", "a checkpoint that was added.")
        else:
            try:
                path.unlink()
            except OSError as error:
                seen = f"'{path}' cannot be deleted: {error}."
                raise OutputError("output-not-writable", seen, "a file that may be deleted.") from error
            return path
    raise ModelError(
        "model-not-found",
        f"No checkpoint '{name}' was added to {model_folders.user_folder()}.",
        f"one of those added ({', '.join(users) or 'none'}).",
    )


def _as_stem(name: str) -> str:
    """Return a checkpoint's name as it can stand in a file's name."""
    return re.sub(r"[^\w.-]+", "-", name).strip(".-") or "model"


def _name_on_card(path: Path) -> str:
    """Return the name by the card, or that of the file where the card cannot be read."""
    with contextlib.suppress(ModelError, OSError):
        return str(checkpoint.read_card(path)["name"])
    return path.stem


def _copy(path: Path, target: Path) -> Path:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        seen = f"'{target.parent}' cannot be made: {error}."
        raise OutputError("output-not-writable", seen, "a folder that can be written to.") from error
    with write_aside(target) as aside:
        shutil.copyfile(path, aside)
    return target
