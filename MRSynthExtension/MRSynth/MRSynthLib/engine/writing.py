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
    with _aside(Path(path)) as aside:
        yield aside
        _open_to_others(aside)
        aside.replace(path)


@contextlib.contextmanager
def write_together(paths: Sequence[Path], *, overwrite: bool = False) -> Iterator[list[Path]]:
    """Temporary paths beside `paths`, which get their names together on success: all of them or none.

    Parameters
    ----------
    paths : sequence of Path
    overwrite : bool
        Replace files that are there. On a failure they are what they were.

    Raises
    ------
    OutputError
        output-exists, where a file is there, however lately it came; and as `write_aside`.
    """
    with contextlib.ExitStack() as stack:
        asides = [stack.enter_context(_aside(path)) for path in paths]
        yield asides
        for aside in asides:
            _open_to_others(aside)
        _name_together(asides, paths, overwrite)


@contextlib.contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, removed in the end."""
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
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        aside.unlink(missing_ok=True)


def _open_to_others(aside: Path) -> None:
    """Give a temporary file the permissions that the user wants for new ones."""
    umask = os.umask(0)
    os.umask(umask)
    aside.chmod(0o666 & ~umask)


def _name_together(asides: Sequence[Path], paths: Sequence[Path], overwrite: bool) -> None:
    kept = [aside.with_name(f"{aside.name}-old") for aside in asides]
    with contextlib.ExitStack() as undo:
        for aside, old, path in zip(asides, kept, paths, strict=True):
            _name(aside, path, old if overwrite and os.path.lexists(path) else None, undo)
        undo.pop_all()
    for old in kept:
        with contextlib.suppress(OSError):
            old.unlink(missing_ok=True)


def _name(aside: Path, path: Path, old: Path | None, undo: contextlib.ExitStack) -> None:
    """Rename a file, onto another one only if that can be kept as `old`."""
    try:
        if old is None:
            undo.callback(_take_back, aside, path)
            _name_new(aside, path)
        else:
            undo.callback(_give_back, aside, old, path)
            _keep(path, old)
            aside.replace(path)
    except FileExistsError as error:
        seen = f"'{path}' appeared during the run."
        raise OutputError("output-exists", seen, "a new name, or --overwrite.") from error
    except OSError as error:
        raise write_error(path, error) from error


def _keep(path: Path, old: Path) -> None:
    """Give a file a second name; a copy where there are no hard links."""
    try:
        os.link(path, old, follow_symlinks=False)
    except (OSError, NotImplementedError):
        shutil.copy2(path, old, follow_symlinks=False)


def _give_back(aside: Path, old: Path, path: Path) -> None:
    if aside.exists():  # `path` was not replaced
        old.unlink(missing_ok=True)
    else:
        old.replace(path)


def _name_new(aside: Path, path: Path) -> None:
    """Rename a file, never onto another one, as POSIX would."""
    if os.name == "nt":
        aside.rename(path)
        return
    try:
        os.link(aside, path)
        return
    except FileExistsError:
        raise
    except OSError:  # no hard links, as on FAT
        pass
    os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    try:
        aside.replace(path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _take_back(aside: Path, path: Path) -> None:
    if not aside.exists() or (path.exists() and path.samefile(aside)):  # else it is not ours
        path.unlink(missing_ok=True)
