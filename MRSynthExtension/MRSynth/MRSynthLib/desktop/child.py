"""A child process that is ended as a whole: it, and everything that it has started."""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

ORDERLY_END = 0.5  # seconds that the child gets to end in order
CLOSING = 1.0  # seconds for the pipes of a dead child to close
LONGEST_LINE = 1 << 20  # characters; a longer one comes in pieces
MOST_LINES = 10_000  # that wait to be taken out; what a child says beyond that is lost


class Child:
    """A process at the head of its own group, whose output is read line by line.

    Threads only put lines into `lines`; whoever takes them out decides in which thread they are handled.
    Stdin is a pipe that stays open for as long as this process lives, so that the child notices its end.

    Parameters
    ----------
    command : sequence of str
        Program and arguments.
    environment : mapping
        The child's environment variables.

    Attributes
    ----------
    lines : queue.Queue of (str, str)
        ("stdout" or "stderr", line) in the order of arrival. A child that floods it cannot fill the memory.

    Raises
    ------
    OSError
        If the program cannot be started.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        group: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
        self.lines: queue.Queue[tuple[str, str]] = queue.Queue()
        self._over = False
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env=dict(environment),
            **group,
        )
        self._readers = [
            threading.Thread(target=self._read, args=(name, stream), daemon=True)
            for name, stream in (("stdout", self._process.stdout), ("stderr", self._process.stderr))
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        """Process id, which on POSIX is also that of the group."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code, the negative number of the signal that ended it, or None while it runs."""
        return self._process.poll()

    def say(self, line: str) -> None:
        """Write a line to the child's stdin; it has to be one that is waiting for it.

        Raises
        ------
        OSError
            If the child has ended, or closed its stdin.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def forget_lines(self) -> None:
        """Throw away what the child has said so far and nobody has taken."""
        with contextlib.suppress(queue.Empty):
            for _ in range(MOST_LINES):  # not more, so that a child that floods cannot hold the caller
                self.lines.get_nowait()

    def end(self) -> None:
        """End the child if it still runs, and always what it has left behind; then all lines are read."""
        if self._over:  # the number of a dead process may be that of a stranger by now
            return
        self._over = True
        if self.exit_code is None:
            self._ask_to_end()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(ORDERLY_END)
        self._kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(CLOSING)
        for reader in self._readers:
            reader.join(CLOSING)
        with contextlib.suppress(OSError):
            self._hang_up()

    def _read(self, name: str, stream: IO[str]) -> None:
        with stream:
            for line in iter(lambda: stream.readline(LONGEST_LINE), ""):
                if self.lines.qsize() < MOST_LINES:
                    self.lines.put((name, line))

    def _ask_to_end(self) -> None:
        with contextlib.suppress(OSError):
            if sys.platform == "win32":
                # A break event reaches only processes of the same console, and the child has one of its own.
                self._hang_up()
            else:
                os.killpg(self.pid, signal.SIGTERM)

    def _hang_up(self) -> None:
        """Close the pipe to the child's stdin, which tells a child that looks at it to end."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _kill(self) -> None:
        with contextlib.suppress(OSError):
            if sys.platform == "win32":
                command = ["taskkill", "/T", "/F", "/PID", str(self.pid)]
                subprocess.run(command, capture_output=True, check=False, creationflags=subprocess.CREATE_NO_WINDOW)
            else:
                os.killpg(self.pid, signal.SIGKILL)


def interpreter() -> str:
    """Return the Python that children run in: PythonSlicer inside 3D Slicer, else the running one."""
    application = getattr(sys.modules.get("slicer"), "app", None)
    return (shutil.which("PythonSlicer") if application is not None else None) or sys.executable


def environment() -> dict[str, str]:
    """Return this process's environment, with MRSynthLib on the child's search path."""
    home = str(Path(__file__).resolve().parents[2])
    search = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(search), "PYTHONIOENCODING": "utf-8"}


def ending(code: int) -> str:
    """Return in words how a process with this exit code ended."""
    if code >= 0:
        return f"ended with exit code {code}"
    names = {one.value: one.name for one in signal.Signals}
    name = names.get(-code, f"signal {-code}")
    return f"was ended by {name}" + (" (perhaps for lack of memory)" if name == "SIGKILL" else "")
