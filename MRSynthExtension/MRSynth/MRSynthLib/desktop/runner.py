"""Run the engine in a child process: progress, a cancel that works, and a result that was checked.

The caller's process imports no torch, and neither a crash nor a lack of memory of the worker can take it
down. Volumes travel as .npy files, with the affine in JSON, through a private temporary folder that never
stays behind. Callbacks run in the thread that calls `WorkerRun.poll`, so that they may touch MRML and Qt. Where asked
for, the worker stays for the next run (see `warm`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from MRSynthLib.engine.errors import DeviceError, InstallError, MRSynthError
from MRSynthLib.engine.process import UNEXPECTED, error_from
from MRSynthLib.engine.volume import Volume

from . import warm
from .child import Child, ending
from .exchange import RunResult, read_result, write_request
from .polled import PolledRun

__all__ = ["RunResult", "WorkerRun", "run"]

Event = Mapping[str, Any]

# What the worker's events hold at least; what lacks it is no event.
_EVENTS: dict[str, tuple[str, ...]] = {
    "started": (),
    "progress": ("fraction", "stage", "seconds_left"),
    "warning": ("message",),
    "result": ("voxels", "cycle", "ijk_to_ras", "info"),
    "error": ("code", "message"),
    "idle": (),  # after the end of a run, where the worker is kept
}
_FURTHER = {"cycle": "cycle", "reliability": "reliability", "interval": "reliability"}  # parts, and who asks for them


class WorkerRun(PolledRun[RunResult]):
    """One run of the generator in a child process; see `PolledRun`.

    Parameters
    ----------
    volume : Volume
        The source.
    model, device, precision, source, target, mask, cycle, like, planes, reliability, force
        As in `MRSynthLib.engine.synthesis.Synthesizer` and its `steps`.
    on_progress : callable, optional
        Called by `poll`, in its thread, with each event "started", "progress" and "warning" of the worker.
    python : str, optional
        The interpreter; by default PythonSlicer inside 3D Slicer, else the running one.
    keep_warm : bool
        Give the run to the idle worker where there is one, and leave the worker to the next run. It is ended only
        when this run is cancelled or the worker fails.
    """

    def __init__(
        self,
        volume: Volume,
        *,
        model: str | os.PathLike[str] | None = None,
        device: str = "auto",
        precision: str = "auto",
        source: str = "auto",
        target: str | None = None,
        mask: Volume | None = None,
        cycle: bool = False,
        like: Volume | None = None,
        planes: str = "axial",
        reliability: bool = False,
        force: bool = False,
        on_progress: Callable[[Event], None] | None = None,
        python: str | None = None,
        keep_warm: bool = False,
    ) -> None:
        super().__init__(python)
        self._volume = volume
        self._mask, self._like = mask, like
        self._settings = {
            "model": None if model is None else os.fspath(model),
            "device": device,
            "precision": precision,
            "source": source,
            "target": target,
            "cycle": cycle,
            "planes": planes,
            "reliability": reliability,
            "force": force,
        }
        self._on_progress = on_progress
        self._keep_warm = keep_warm
        self._began_with: warm.Start | None = None
        self._request = ""
        self._deaf: set[str] = set()  # the streams on which a kept worker may still speak of an earlier run
        self._idle = False
        self._outcome: Event | None = None

    def _begin(self) -> Child:
        """Write the input aside and start the worker, or give it to the idle one."""
        folder = self._new_folder()
        self._request = str(write_request(folder, self._volume, self._mask, self._settings, self._like))
        return self._kept_worker() or self._new_worker()

    def _look(self, child: Child, timeout: float) -> None:
        over = child.exit_code is not None
        if over:
            child.end()
        self._take_lines(child, 0.0 if over else timeout)
        if self.ended:  # a callback has cancelled
            return
        if over and "stdout" in self._deaf:
            self._start_anew()
        elif over or self._idle:
            self._conclude(child)

    def _kept_worker(self) -> Child | None:
        """Give the request to the idle worker, if there is a fitting one."""
        if not self._keep_warm:
            return None
        self._began_with = warm.start(self._python)
        child = warm.take(self._began_with)
        if child is None:
            return None
        try:
            child.say(json.dumps({"request": self._request}))
        except OSError:  # it has just ended
            child.end()
            return None
        self._deaf = {"stdout", "stderr"}
        return child

    def _new_worker(self) -> Child:
        start = self._began_with or warm.start(self._python)
        # torch makes its cache folder as soon as it is imported; it has to go as well.
        torch_cache = {"TORCHINDUCTOR_CACHE_DIR": str(Path(self._request).parent)}
        arguments = ["-m", "MRSynthLib.engine.worker", self._request, "--end-with", str(os.getpid())]
        if self._keep_warm:
            arguments += ["--serve", str(warm.IDLE_SECONDS)]
        self._deaf = set()
        return self._spawned(arguments, torch_cache | start.environment)

    def _start_anew(self) -> None:
        """A kept worker has ended, by itself or by somebody else, before it began this run."""
        try:
            self._traces.child = self._new_worker()
        except DeviceError as error:
            self._error = error
            self._release()

    def _take_lines(self, child: Child, timeout: float) -> None:
        for stream, line in self._lines(child, timeout):
            if stream in self._deaf:
                if _begins(line, self._request):
                    self._deaf.discard(stream)
                continue
            event = _parsed(line) if stream == "stdout" else None
            if event is None:
                self._note(line)
            elif event["event"] == "idle":
                self._idle = self._keep_warm
                return
            elif event["event"] in ("result", "error"):
                self._outcome = event
            elif self._on_progress is not None:
                self._on_progress(event)

    def _conclude(self, child: Child) -> None:
        """Decide from exit code AND output what became of the run; a worker to be kept has no exit code yet."""
        event = self._outcome or {"event": "nothing"}
        usable = False
        try:
            if event["event"] == "error":
                if event["code"] == UNEXPECTED:
                    raise self._died(event["message"])
                raised = error_from(event)
                # Packages that failed stay loaded in this process as they are, also after they were repaired.
                usable = self._idle and not isinstance(raised, InstallError)
                raise raised
            if event["event"] != "result" or (child.exit_code != 0 and not self._keep_warm):
                how = "is idle" if self._idle else ending(child.exit_code or 0)
                raise self._died(f"The background process {how}.")
            further = [part for part, switch in _FURTHER.items() if self._settings[switch]]
            self._result = read_result(Path(self._request).parent, event, self._volume, further)
            usable = self._idle
        except MRSynthError as error:
            self._error = error
        except ValueError as error:
            self._error = self._died(str(error))
        except (KeyError, TypeError) as error:
            self._error = self._died(f"The background process gave an answer that makes no sense ({error!r}).")
        finally:
            if usable and self._began_with is not None:
                self._traces.child = None  # it is no longer this run's
                warm.keep(child, self._began_with)
            self._release()


def run(volume: Volume, **settings: Any) -> RunResult:
    """Run in a child process and wait for the result; parameters as in `WorkerRun`.

    Raises
    ------
    MRSynthError
        As the engine raised it in the worker; DeviceError "worker-died" if that ended without a word.
    """
    with WorkerRun(volume, **settings) as job:
        job.start()
        while not job.poll(timeout=0.1):
            pass
        return job.result()


def _parsed(line: str) -> Event | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    kind = event.get("event") if isinstance(event, dict) else None
    known = isinstance(kind, str) and kind in _EVENTS and all(field in event for field in _EVENTS[kind])
    return event if known else None


def _begins(line: str, request: str) -> bool:
    """Whether a kept worker says that it begins with this request."""
    try:
        return bool(json.loads(line) == {"event": "request", "request": request})
    except (ValueError, RecursionError):
        return False
