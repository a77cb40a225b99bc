"""Where checkpoints lie: those that came with MRSynth, and the folder of the user's own."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from .errors import ModelError

SUFFIX = ".safetensors"
SHIPPED = Path(__file__).resolve().parents[2] / "Resources" / "Models"
USER_MODELS = "MRSYNTH_MODELS"  # environment variable: the folder of the user's checkpoints
DEFAULT = "mrsynth-native"


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """A checkpoint that the system does not let us read is none.

    Raises
    ------
    ModelError
        model-not-found.
    """
    try:
        yield
    except OSError as error:
        seen = f"'{path}' cannot be read ({error.strerror or error})."
        raise ModelError("model-not-found", seen, "a readable checkpoint.") from error


def user_folder() -> Path:
    """The folder of the user's checkpoints, which need not exist yet.

    ``MRSYNTH_MODELS`` where it is set, else ``MRSynth/Models`` in the place for programs' data:
    ``%LOCALAPPDATA%``, ``~/Library/Application Support``, or ``$XDG_DATA_HOME`` (``~/.local/share``).
    """
    named = os.environ.get(USER_MODELS)
    if named:
        return Path(named)
    if sys.platform == "win32":
        data = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        data = Path.home() / "Library" / "Application Support"
    else:
        data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return data / "MRSynth" / "Models"


def is_shipped(path: str | os.PathLike[str]) -> bool:
    """Whether a checkpoint is a part of MRSynth, and not the user's."""
    return Path(path).resolve().parent == SHIPPED.resolve()


def models_folders() -> list[Path]:
    """Where checkpoints are looked for: the shipped folder and the user's."""
    return [SHIPPED, user_folder()]


def installed() -> list[Path]:
    """Paths of all installed checkpoints, whole or broken; a file that is still being written begins with a dot."""
    found = [path for folder in models_folders() for path in sorted(folder.glob(f"*{SUFFIX}"))]
    return [path for path in found if path.is_file() and not path.name.startswith(".")]


def find(name: str | os.PathLike[str] | None = None) -> Path:
    """Path of a checkpoint by its path or installed name; by default the shipped native-frame one.

    Raises
    ------
    ModelError
        model-not-found.
    """
    name = DEFAULT if name is None else name
    path = Path(name)
    with readable(path):
        if path.is_file():
            return path
    for candidate in installed():
        if str(name) in (candidate.name, candidate.stem):
            return candidate
    there = ", ".join(path.stem for path in installed()) or "none"
    raise ModelError("model-not-found", f"There is no checkpoint '{name}'.", f"a path, or an installed one ({there}).")
