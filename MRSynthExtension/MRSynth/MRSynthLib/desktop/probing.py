"""The probe of this computer as a child process: 3D Slicer's own process imports no torch, and does not wait."""

from __future__ import annotations

import os

from MRSynthLib.engine.errors import Cancelled, MRSynthError
from MRSynthLib.engine.probe import Probe

from .polled import PolledChild


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
        arguments = ["--end-with", str(os.getpid())]
        if model is not None:
            arguments += ["--model", os.fspath(model)]
        self._said: list[str] = []
        self._child = PolledChild("MRSynthLib.engine.probe", arguments, self._said.append, python)
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
        if self.ended:
            raise RuntimeError("a DeviceProbe is started once")
        self._child.start()

    def poll(self, timeout: float = 0.0) -> bool:
        """Take what the child has said since; return whether it is over.

        Parameters
        ----------
        timeout : float
            Wait up to this many seconds for the child's next words.
        """
        if not self.ended:
            code = self._child.poll(timeout)
            if code is not None:
                self._conclude(code)
        return self.ended

    def cancel(self) -> None:
        """End the child; does nothing when it is over."""
        if not self.ended:
            self._error = Cancelled()
            self._child.end()

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

    def _conclude(self, code: int) -> None:
        said = "".join(self._said)
        try:
            if code == 0:
                self._result = Probe.from_json(said)
                return
        except (ValueError, KeyError, TypeError):
            pass
        self._error = self._child.error(code, said, "a probe.")
