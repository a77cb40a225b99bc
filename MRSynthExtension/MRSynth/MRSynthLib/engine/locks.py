"""Locks that keep two processes out of one folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from .writing import write_error

LOCK = ".lock"  # name of the file in a folder that one process writes at a time


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[bool]:
    """Hold a lock file, made with its folder where it is missing; the lock ends with the process, however that ends.

    Parameters
    ----------
    path : Path

    Yields
    ------
    bool
        False where another process holds it.

    Raises
    ------
    OutputError
        output-not-writable, output-full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a", encoding="ascii")
    except OSError as error:
        raise write_error(path, error) from error
    with stream:
        yield _lock(stream)


def _lock(stream: TextIO) -> bool:
    """Take the lock of an open file; False where another process has it."""
    if os.name == "nt":  # pragma: no cover
        import msvcrt

        try:
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: better to work than to refuse
        return True
    return True
