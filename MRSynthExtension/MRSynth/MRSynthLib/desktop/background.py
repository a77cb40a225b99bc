"""A synthesis in the background: the scene is read at once, written at the end, and watched in between.

    run = BackgroundRun(node, on_finished=print, on_error=print)

In 3D Slicer a timer drives it; elsewhere `poll` it now and then, or `wait`. One run at a time: `active` is it.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import slicer
import vtk

from MRSynthLib.engine.errors import Cancelled, DeviceError, MRSynthError
from MRSynthLib.engine.process import as_known

from . import results
from .exchange import RunResult
from .pump import Pump
from .runner import WorkerRun
from .state import RunState, StateMachine
from .watch import watch, weakly
from .words import _

INTERVAL = 50  # milliseconds between two looks at the worker in 3D Slicer
# The run under way is found through the `slicer` package, which outlives a reload of MRSynth and MRSynthLib.
_REGISTRY = "_mrsynth_run"


@dataclass(frozen=True)
class RunProgress:
    """Where a run is.

    Attributes
    ----------
    state : RunState
    stage : str
        "start" (files, process, network), "prepare", "synthesize", "cycle", "restore" (the engine's) or "import".
    fraction : float
        Done, 0 to 1.
    seconds_left : float or None
        For the stage; None where nothing can be said.
    message : str
        A warning for the user, told once, or "".
    """

    state: RunState
    stage: str
    fraction: float
    seconds_left: float | None = None
    message: str = ""


class Worker(Protocol):
    """What computes a run, as `WorkerRun` does in a child process."""

    def start(self) -> None:
        """Begin."""

    def poll(self, timeout: float = 0.0) -> bool:
        """Tell events; return whether it is over."""
        ...

    def cancel(self) -> None:
        """End at once; nothing stays behind."""

    def result(self) -> RunResult:
        """Return the result, or raise the error."""
        ...


def active() -> BackgroundRun | None:
    """Return the run that is under way in this process, if there is one."""
    found = getattr(slicer, _REGISTRY, None)
    run = found() if found is not None else None
    return None if run is None or run.ended else run


class BackgroundRun:
    """One synthesis, under way from the moment that it is made.

    Whatever goes wrong, also with the input, is told by `on_error`, never by the constructor. One of `on_finished` and
    `on_error` is called, once, by `poll`, by `cancel` or by the change of the scene that ended the run. What they raise
    is logged. Forgetting the run ends it, except in 3D Slicer, where the timer holds it to its end.

    Parameters
    ----------
    input_node, output_node, mask_node, cycle_node, like_node, target, model, device, reliability, planes, force
        As in `MRSynthLogic.synthesize`.
    worker : callable
        Makes the `Worker`, from the arguments of `WorkerRun`.
    on_progress : callable, optional
        Called with a `RunProgress`.
    on_finished : callable, optional
        Called with the result node, complete.
    on_error : callable, optional
        Called with the `MRSynthError`; a cancelled run ends here too, with `Cancelled`.

    Attributes
    ----------
    source_id : str or None
        Node ID of the source.
    ended : bool
        Whether the run is over, in whatever way.
    error : MRSynthError or None
        Why it ended without a result.
    warnings : list of str
        What the user should know, so far.

    Raises
    ------
    DeviceError
        run-in-progress.
    """

    def __init__(
        self,
        input_node: slicer.vtkMRMLScalarVolumeNode,
        output_node: slicer.vtkMRMLScalarVolumeNode | None = None,
        *,
        mask_node: slicer.vtkMRMLNode | None = None,
        cycle_node: slicer.vtkMRMLScalarVolumeNode | None = None,
        like_node: slicer.vtkMRMLScalarVolumeNode | None = None,
        target: str | None = None,
        model: str | None = None,
        device: str = "auto",
        reliability: bool = False,
        planes: str = "axial",
        force: bool = False,
        worker: Callable[..., Worker] = WorkerRun,
        on_progress: Callable[[RunProgress], object] | None = None,
        on_finished: Callable[[slicer.vtkMRMLScalarVolumeNode], object] | None = None,
        on_error: Callable[[MRSynthError], object] | None = None,
    ) -> None:
        if active() is not None:
            raise DeviceError("run-in-progress", _("Another synthesis is under way."), "one run at a time.")
        self.source_id: str | None = input_node.GetID() if input_node is not None else None
        self.ended = False
        self.error: MRSynthError | None = None
        self.warnings: list[str] = []
        self._on_progress, self._on_finished, self._on_error = on_progress, on_finished, on_error
        self._make_worker = worker
        self._settings = {
            "model": model,
            "device": device,
            "target": target,
            "cycle": cycle_node is not None,
            "reliability": reliability,
            "planes": planes,
            "force": force,
        }
        outputs = {"result": output_node, "cycle": cycle_node}
        self._output_ids = {role: node.GetID() for role, node in outputs.items() if node is not None}
        self._node = vtk.vtkWeakReference()
        self._progress = RunProgress(RunState.PREPARING, "start", 0.0)
        self._worker: Worker | None = None
        self._job: results.Job | None = None
        self._refusal: Exception | None = None
        self._busy = False  # inside `poll`, whose callbacks may come back here
        self._showing = False  # the scene is being written: too late to cancel
        self._unwatch: Callable[[], object] = _nothing
        self._machine = StateMachine(weakly(self._changed))
        self._machine.go(RunState.PREPARING)
        try:
            self._job = results.capture(input_node, mask_node, (output_node, cycle_node), like_node)
            self._unwatch = watch(self._job.scene, self._scene_closing, self._node_removed)
        except Exception as error:
            self._refusal = error
        setattr(slicer, _REGISTRY, weakref.ref(self))
        self._pump = Pump(self.poll, INTERVAL)

    @property
    def state(self) -> RunState:
        """Where the run stands."""
        return self._machine.state

    @property
    def node(self) -> slicer.vtkMRMLScalarVolumeNode | None:
        """The result, when the run has ended well, for as long as it exists; the run does not keep it alive."""
        return self._node.Get()

    def poll(self, timeout: float = 0.0) -> bool:
        """Go on with the run as far as it goes without waiting; return whether it is over.

        Parameters
        ----------
        timeout : float
            Wait up to this many seconds for the worker's next words.
        """
        if self.ended or self._busy or self.state is RunState.CANCELLING:
            return self.ended
        self._busy = True
        try:
            self._advance(timeout)
        except Exception as error:
            self._stop(_known(error))
        finally:
            self._busy = False
        return self.ended

    def cancel(self) -> None:
        """End the run and its processes, within a second; does nothing when the result is there already."""
        if not self._showing:
            self._stop(Cancelled())

    def wait(self) -> slicer.vtkMRMLScalarVolumeNode:
        """Return the result node when it is there; the caller is blocked until then.

        Raises
        ------
        MRSynthError
            Why there is none.
        """
        if self._busy:
            raise RuntimeError("wait() was called in a callback of the run that it would wait for")
        try:
            while not self.poll(timeout=0.1):
                pass
        except BaseException:  # Ctrl-C
            self.cancel()
            raise
        if self.error is not None:
            raise self.error
        return self.node

    def _advance(self, timeout: float) -> None:
        if self._refusal is not None:
            raise self._refusal
        if self._worker is None:
            self._launch()
        elif self._worker.poll(timeout) and self._worker is not None:  # a callback may have ended the run
            self._bring_in(self._worker.result())

    def _launch(self) -> None:
        self._tell()
        if self.ended or self._job is None:
            return
        volumes = {"mask": self._job.mask, "like": self._job.like}
        self._worker = self._make_worker(self._job.volume, **volumes, on_progress=weakly(self._hear), **self._settings)
        self._worker.start()
        self._machine.go(RunState.RUNNING)

    def _bring_in(self, run: RunResult) -> None:
        for warning in run.info["warnings"]:
            self._warn(warning)
        if not self.ended:
            self._machine.go(RunState.IMPORTING)
        if self.ended or self._job is None:
            return
        scene = self._job.scene
        nodes = {role: scene.GetNodeByID(node_id) for role, node_id in self._output_ids.items()}
        self._unwatch()  # from here on it is done in one go
        self._showing = True
        node = results.show_run(self._job, run, nodes.get("result"), nodes.get("cycle"))
        self._node.Set(node)
        self._end(RunState.IDLE, None)

    def _hear(self, event: Mapping[str, Any]) -> None:
        """Take an event of the worker."""
        if event["event"] == "progress":
            self._tell(stage=event["stage"], fraction=event["fraction"], seconds_left=event["seconds_left"])
        elif event["event"] == "warning":
            self._warn(event["message"])

    def _scene_closing(self) -> None:
        self._stop(Cancelled(_("The scene was closed.")))

    def _node_removed(self, node_id: str) -> None:
        if node_id == self.source_id and self._job is not None:
            self._stop(results.source_removed(self._job))
        if node_id in self._output_ids.values():
            self._warn(_("The output volume was removed while the synthesis ran: the result goes into a new one."))

    def _changed(self, state: RunState) -> None:
        if state is RunState.IMPORTING:
            self._tell(stage="import", fraction=1.0, seconds_left=None)
        elif state in (RunState.RUNNING, RunState.CANCELLING):
            self._tell()

    def _warn(self, message: str) -> None:
        if message not in self.warnings:
            self.warnings.append(message)
            logging.warning("MRSynth: %s", message)
            self._tell(message=message)

    def _tell(self, **changes: Any) -> None:
        self._progress = replace(self._progress, **{"state": self.state, "message": "", **changes})
        _call(self._on_progress, self._progress)

    def _stop(self, error: MRSynthError) -> None:
        """End without a result."""
        if self.ended or self.state is RunState.CANCELLING:
            return
        cancelled = isinstance(error, Cancelled)
        try:
            if cancelled:
                self._machine.go(RunState.CANCELLING)
            if self._worker is not None:
                self._worker.cancel()
        finally:
            self._end(RunState.IDLE if cancelled else RunState.FAILED, error)

    def _end(self, state: RunState, error: MRSynthError | None) -> None:
        self._unwatch()
        self._pump.stop()
        self._machine.go(state)
        self.error = error
        self.ended = True
        finished, failed = self._on_finished, self._on_error
        # What the run needed is let go, however long somebody keeps the run itself.
        self._job = self._worker = self._on_progress = self._on_finished = self._on_error = None
        if error is None:
            _call(finished, self.node)
        else:
            _call(failed, error)


def _nothing() -> None:
    pass


def _call(callback: Callable[[Any], object] | None, argument: object) -> None:
    """Call the user's function; what it raises is the user's to read, and must not break the run."""
    if callback is None:
        return
    try:
        callback(argument)
    except Exception:
        logging.exception("MRSynth: a callback failed")


def _known(error: Exception) -> MRSynthError:
    known = as_known(error)
    if known is None:
        logging.error("MRSynth: the run failed", exc_info=error)
        seen = f"Something went wrong that should not: {type(error).__name__}: {error}."
        known = DeviceError("run-failed", seen, "a run without an error of this kind.")
        known.__cause__ = error
    return known
