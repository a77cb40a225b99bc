"""A child process that is looked at now and then: what it says, how it ended, and that it never stays behind."""

from __future__ import annotations

import json
import queue
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from MRSynthLib.engine.errors import DeviceError, MRSynthError
from MRSynthLib.engine.process import UNEXPECTED, error_from

from .child import Child, ending, environment, interpreter

_LAST_WORDS = 15  # lines of stderr that are kept for the message when the child dies


class PolledChild:
    """A Python module run in a child process.

    The child ends with this process, with `end`, and when the object is forgotten.

    Parameters
    ----------
    module : str
        What ``python -m`` runs.
    arguments : sequence of str
    heard : callable
        Called by `poll`, in its thread, with each line of the child's stdout.
    python : str, optional
        The interpreter; by default PythonSlicer inside 3D Slicer, else the running one.
    """

    def __init__(
        self, module: str, arguments: Sequence[str], heard: Callable[[str], object], python: str | None = None
    ) -> None:
        self._python = python or interpreter()
        self._command = [self._python, "-m", module, *arguments]
        self._heard = heard
        self._child: Child | None = None
        self._last_words: deque[str] = deque(maxlen=_LAST_WORDS)
        self._end: weakref.finalize[..., Any] | None = None

    def start(self) -> None:
        """Start the child, once.

        Raises
        ------
        DeviceError
            worker-died: the interpreter cannot be started.
        """
        if self._child is not None:
            raise RuntimeError("a child is started once")
        try:
            self._child = Child(self._command, environment())
        except OSError as error:
            seen = f"'{self._python}' cannot be started: {error}."
            raise DeviceError("worker-died", seen, "a Python with the engine's packages.") from error
        # Once only: later, the number of a dead process may be that of a stranger.
        self._end = weakref.finalize(self, self._child.end)

    @property
    def pid(self) -> int:
        """Process id of a child that was started."""
        if self._child is None:
            raise RuntimeError("the child was not started")
        return self._child.pid

    def poll(self, timeout: float = 0.0) -> int | None:
        """Take what the child has said since; return its exit code when it is over and all is taken, else None.

        Parameters
        ----------
        timeout : float
            Wait up to this many seconds for the child's next words.
        """
        if self._child is None:
            raise RuntimeError("the child was not started")
        code = self._child.exit_code
        if code is not None:
            self.end()
        self._take_lines(self._child, 0.0 if code is not None else timeout)
        return code

    def end(self) -> None:
        """End the child and all that it has started; does nothing where it is over."""
        if self._end is not None:
            self._end()

    def error(self, code: int, said: str, expected: str) -> MRSynthError:
        """What kept the child from its work.

        Parameters
        ----------
        code : int
            Its exit code.
        said : str
            What it may have said about it: JSON, an object with the key ``error``.
        expected : str
            What was expected of it.
        """
        try:
            described = json.loads(said)["error"]
            if described["code"] != UNEXPECTED:
                return error_from(described)
            return self._died(described["message"], expected)
        except (ValueError, KeyError, TypeError):
            return self._died(f"The background process {ending(code)}.", expected)

    def _died(self, seen: str, expected: str) -> DeviceError:
        words = " | ".join(line for line in self._last_words if line)
        return DeviceError("worker-died", f"{seen} Its last words: {words}" if words else seen, expected)

    def _take_lines(self, child: Child, timeout: float) -> None:
        while True:
            try:
                stream, line = child.lines.get(timeout=timeout) if timeout else child.lines.get_nowait()
            except queue.Empty:
                return
            timeout = 0.0
            if stream == "stdout":
                self._heard(line)
            else:
                self._last_words.append(line.rstrip())
