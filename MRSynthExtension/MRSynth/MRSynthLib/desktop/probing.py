"""The probe of this computer as a child process: 3D Slicer's own process imports no torch, and does not wait."""

from __future__ import annotations

import json
import os
import queue
import weakref
from collections import deque
from typing import Any

from MRSynthLib.engine.errors import Cancelled, DeviceError, MRSynthError
from MRSynthLib.engine.probe import Probe
from MRSynthLib.engine.process import UNEXPECTED, error_from

from .child import Child, ending, environment, interpreter

_LAST_WORDS = 15  # lines of stderr that are kept for the message when the child dies


class DeviceProbe:
    """One probe: `start` it, `poll` it now and then until that is True, take its `result`.

    The child ends with this process, with `cancel`, and when the probe is forgotten.

    Parameters
    ----------
    model : path or name, optional
        The checkpoint to measure with; by default the shipped one.
    python : str, optional
        The interpreter; by default PythonSlicer inside 3D Slicer, else the running one.
    """

    def __init__(self, model: str | os.PathLike[str] | None = None, python: str | None = None) -> None:
        self._python = python or interpreter()
        self._command = [self._python, "-m", "MRSynthLib.engine.probe", "--end-with", str(os.getpid())]
        if model is not None:
            self._command += ["--model", os.fspath(model)]
        self._child: Child | None = None
        self._end: weakref.finalize[..., Any] | None = None
        self._said = ""
        self._last_words: deque[str] = deque(maxlen=_LAST_WORDS)
        self._result: Probe | None = None
        self._error: MRSynthError | None = None

    @property
    def ended(self) -> bool:
        """Whether it is over, in whatever way."""
        return self._result is not None or self._error is not None

    def start(self) -> None:
        """Start the child.

        Raises
        ------
        DeviceError
            worker-died: the interpreter cannot be started.
        """
        if self._child is not None or self.ended:
            raise RuntimeError("a DeviceProbe is started once")
        try:
            self._child = Child(self._command, environment())
        except OSError as error:
            seen = f"'{self._python}' cannot be started: {error}."
            raise DeviceError("worker-died", seen, "a Python with the engine's packages.") from error
        # Once only: later, the number of a dead process may be that of a stranger.
        self._end = weakref.finalize(self, self._child.end)

    def poll(self, timeout: float = 0.0) -> bool:
        """Take what the child has said since; return whether it is over.

        Parameters
        ----------
        timeout : float
            Wait up to this many seconds for the child's next words.
        """
        if self.ended:
            return True
        if self._child is None:
            raise RuntimeError("the probe was not started")
        over = self._child.exit_code is not None
        if over:
            self._release()
        self._take_lines(self._child, 0.0 if over else timeout)
        if over:
            self._conclude(self._child.exit_code or 0)
        return self.ended

    def cancel(self) -> None:
        """End the child; does nothing when it is over."""
        if not self.ended:
            self._error = Cancelled()
            self._release()

    def result(self) -> Probe:
        """Return what was found.

        Raises
        ------
        MRSynthError
            InstallError "install-broken": torch or safetensors cannot be imported; ModelError: the checkpoint;
            `Cancelled`; DeviceError "worker-died": the child ended without a word that can be understood.
        """
        if self._error is not None:
            raise self._error
        if self._result is None:
            raise RuntimeError("the probe is not over")
        return self._result

    def _release(self) -> None:
        if self._end is not None:
            self._end()

    def _take_lines(self, child: Child, timeout: float) -> None:
        while True:
            try:
                stream, line = child.lines.get(timeout=timeout) if timeout else child.lines.get_nowait()
            except queue.Empty:
                return
            timeout = 0.0
            if stream == "stdout":
                self._said += line
            else:
                self._last_words.append(line.rstrip())

    def _conclude(self, code: int) -> None:
        try:
            if code == 0:
                self._result = Probe.from_json(self._said)
                return
            described = json.loads(self._said)["error"]
            self._error = self._died(described["message"]) if described["code"] == UNEXPECTED else error_from(described)
        except (ValueError, KeyError, TypeError):
            self._error = self._died(f"The background process {ending(code)}.")

    def _died(self, seen: str) -> DeviceError:
        words = " | ".join(line for line in self._last_words if line)
        return DeviceError("worker-died", f"{seen} Its last words: {words}" if words else seen, "a probe.")
