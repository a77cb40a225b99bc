"""Hear what an installer prints, while it prints it.

3D Slicer's pip functions print every line and, before 5.12, hand none of them to the caller; the exception of a
failure does not hold them either. So standard output is listened to, and still goes where it went.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

Heard = Callable[[str, float | None], None]

_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")  # what pip prints with --progress-bar raw
_DOWNLOADING = re.compile(r"\s*(?:Downloading|Using cached) (\S+?)(?:-cp\d\S*|-py\d\S*|\.tar\.gz|\.whl)?(?: \(.*)?$")


class _Listener:
    """A text stream that passes everything on but pip's raw progress, and tells of each line."""

    def __init__(self, stream: Any, told: Heard) -> None:
        self._stream = stream
        self._told = told
        self._begun = ""
        self._file = ""
        self._telling = False
        self.lines: list[str] = []

    def write(self, text: str) -> int:
        """Take text as `print` gives it, in pieces."""
        if self._telling:  # whoever is told prints too, or something that runs meanwhile
            if self._stream is not None:
                self._stream.write(text)
            return len(text)
        *whole, self._begun = (self._begun + text).split("\n")
        for line in whole:
            self._line(line.rstrip("\r"))
        return len(text)

    def flush(self) -> None:
        """Flush what is behind."""
        if self._stream is not None:
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _tell(self, text: str, fraction: float | None) -> None:
        self._telling = True
        try:
            self._told(text, fraction)
        finally:
            self._telling = False

    def _line(self, line: str) -> None:
        progress = _PROGRESS.fullmatch(line.strip())
        if progress:  # several a second: for the bar, not for the log
            done, whole = (int(number) for number in progress.groups())
            self._tell(f"{self._file}: {done / 1e6:.0f} / {whole / 1e6:.0f} MB", done / whole if whole else None)
            return
        self.lines.append(line)
        if self._stream is not None:
            self._stream.write(f"{line}\n")
        downloading = _DOWNLOADING.match(line)
        if downloading:
            self._file = downloading.group(1).rpartition("/")[2]
        self._tell(line.strip(), None)


@contextlib.contextmanager
def listening(told: Heard, pip_version: tuple[int, ...]) -> Iterator[list[str]]:
    """Call `told` with each line and, for a download, the fraction of the file that is there.

    Parameters
    ----------
    told : callable
        ``told(text, fraction or None)``, in the thread that prints.
    pip_version : tuple of int
        That of the pip that will run: it counts bytes since 24.1.

    Yields
    ------
    list of str
        The lines, as they come.
    """
    listener = _Listener(sys.stdout, told)
    before = os.environ.get("PIP_PROGRESS_BAR")
    if pip_version >= (24, 1):
        os.environ["PIP_PROGRESS_BAR"] = "raw"
    try:
        with contextlib.redirect_stdout(listener):
            yield listener.lines
    finally:
        if before is None:
            os.environ.pop("PIP_PROGRESS_BAR", None)
        else:
            os.environ["PIP_PROGRESS_BAR"] = before
