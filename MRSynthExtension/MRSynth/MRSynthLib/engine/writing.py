"""Files of any kind: their ending, their SHA-256, and writing them aside and renaming them, never by halves."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from .errors import OutputError


def ending(path: Path) -> str:
    """The file ending in lower case, ".nii.gz" as a whole."""
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


def sha256_of(path: str | os.PathLike[str], only: Sequence[Path] | None = None) -> str:
    """SHA-256 of a file, or of the names and contents of all files of a folder, as 64 hexadecimal digits.

    Parameters
    ----------
    path : path
    only : sequence of Path, optional
        Those files of the folder that count.
    """
    path = Path(path)
    digest = hashlib.sha256()
    files = sorted(only or (p for p in path.rglob("*") if p.is_file())) if path.is_dir() else [path]
    for file in files:
        if path.is_dir():
            digest.update(os.fsencode(file.relative_to(path)))
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def write_error(path: Path, error: Exception) -> OutputError:
    """The error for a file or folder that could not be written."""
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or _is_full(path.parent):
        return OutputError("output-full", f"'{path}' could not be written: no space is left.", "a disk with space.")
    return OutputError("output-not-writable", f"'{path}' could not be written: {error}.", "a folder to write to.")


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < 1 << 16
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def write_aside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it on success and removed on any failure.

    Raises
    ------
    OutputError
        output-folder-missing, output-not-writable, output-full.
    """
    path = Path(path)
    try:
        if not path.parent.is_dir():
            raise OutputError("output-folder-missing", f"There is no folder '{path.parent}'.", "an existing folder.")
        handle, name = tempfile.mkstemp(prefix=".mrsynth-", suffix=ending(path), dir=path.parent)
    except (OSError, ValueError) as error:  # also a name that no file can have
        raise write_error(path, error) from error
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        umask = os.umask(0)
        os.umask(umask)
        aside.chmod(0o666 & ~umask)
        aside.replace(path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        aside.unlink(missing_ok=True)
