"""The probe of this computer as a child process: 3D Slicer's own process imports no torch, and does not wait."""

from __future__ import annotations

import os

from MRSynthLib.engine.probe import Probe

from .polled import PolledModule


class DeviceProbe(PolledModule[Probe]):
    """One probe; see `PolledRun`.

    Its result may be an InstallError "install-broken" (torch or safetensors cannot be imported) or a ModelError too.

    Parameters
    ----------
    model : path or name, optional
        The checkpoint to measure with; by default the shipped one.
    python : str, optional
        The interpreter; by default PythonSlicer inside 3D Slicer, else the running one.
    """

    expected = "a probe."

    def __init__(self, model: str | os.PathLike[str] | None = None, python: str | None = None) -> None:
        arguments = ["--end-with", str(os.getpid())]
        if model is not None:
            arguments += ["--model", os.fspath(model)]
        super().__init__("MRSynthLib.engine.probe", arguments, python)
        self._said = ""

    def _hear(self, line: str) -> None:
        self._said += line

    def _conclude(self, code: int) -> None:
        try:
            if code == 0:
                self._result = Probe.from_json(self._said)
                return
        except (ValueError, KeyError, TypeError):
            pass
        self._error = self._failure(code, self._said)
