"""Background runs for tests: workers that misbehave, a record of what was told, and what must not stay behind."""

from __future__ import annotations

import functools
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from children import GOOD_RESULT, PATIENCE, Stub
from mrml_scenes import INFO, add_volume, snapshot

from MRSynth import MRSynthLogic
from MRSynthLib.desktop import background
from MRSynthLib.desktop.background import BackgroundRun, RunProgress
from MRSynthLib.desktop.runner import WorkerRun
from MRSynthLib.engine.errors import MRSynthError

# Parts of stubs, to be put together
TELL = (
    "print(json.dumps({'event': 'progress', 'fraction': 0.5, 'stage': 'synthesize', 'seconds_left': 9}), flush=True)\n"
)
HANG = TELL + "time.sleep(600)\n"
WELL = GOOD_RESULT + f"event['info'] = {INFO!r}\nsave((1000 - voxels).astype('int16'))\n"
ANSWER = WELL + TELL + "answer()\n"


class Told:
    """What the callbacks of a run were called with, in order, and that it was in this thread."""

    def __init__(self) -> None:
        self.progress: list[RunProgress] = []
        self.finished: list[Any] = []
        self.errors: list[MRSynthError] = []
        self.on_progress: Callable[[RunProgress], object] = lambda progress: None  # what a test does then

    def callbacks(self) -> dict[str, Callable[[Any], object]]:
        thread = threading.current_thread()

        def noted(kept: list[Any], then: Callable[[Any], object] = lambda _: None) -> Callable[[Any], object]:
            def note(argument: Any) -> None:
                assert threading.current_thread() is thread
                kept.append(argument)
                then(argument)

            return note

        return {
            "onProgress": noted(self.progress, lambda progress: self.on_progress(progress)),
            "onFinished": noted(self.finished),
            "onError": noted(self.errors),
        }

    @property
    def stage(self) -> str:
        """What was told last."""
        return self.progress[-1].stage if self.progress else ""

    @property
    def error(self) -> MRSynthError:
        """The one error of a run that ended with it."""
        assert (len(self.finished), len(self.errors)) == (0, 1)
        return self.errors[0]

    @property
    def node(self) -> Any:
        """The result of a run that ended well."""
        assert (len(self.finished), len(self.errors)) == (1, 0)
        return self.finished[0]


class Bench:
    """A scene with a source, runs on it, and the proof that a run left nothing behind."""

    def __init__(self, scene: Any, stub: Stub) -> None:
        self.scene, self.stub = scene, stub
        self.source = add_volume(scene)
        self.told = Told()
        self.before = snapshot(scene)

    def start(self, body: str = HANG, **arguments: Any) -> BackgroundRun:
        """Start a run with a stub for the worker."""
        logic = MRSynthLogic(worker=functools.partial(WorkerRun, python=self.stub(body)))
        return logic.start(self.source, **arguments, **self.told.callbacks())

    def running(self, **arguments: Any) -> BackgroundRun:
        """Start a run with a worker that works for ever, and wait until it does."""
        run = self.start(HANG, **arguments)
        until(run, lambda: self.told.stage == "synthesize")
        return run

    def nothing_stayed(self, run: BackgroundRun) -> None:
        """The run is over and told, its process gone, nobody observes the scene, and nothing holds on to the run."""
        assert run.ended
        assert run.poll()
        assert len(self.told.finished) + len(self.told.errors) == 1
        assert background.active() is None
        assert children() == set()
        for event in (slicer.vtkMRMLScene.StartCloseEvent, slicer.vtkMRMLScene.NodeAboutToBeRemovedEvent):
            assert not self.scene.HasObserver(event)

    def nothing_happened(self, run: BackgroundRun) -> None:
        """As `nothing_stayed`, and the scene is as it was."""
        self.nothing_stayed(run)
        assert run.node is None
        assert snapshot(self.scene) == self.before


@pytest.fixture
def bench(scene: Any, stub: Stub, temporary: Path) -> Bench:
    return Bench(scene, stub)


def until(run: BackgroundRun, happened: Callable[[], bool]) -> None:
    """Poll a run until something has happened."""
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end, "waited in vain"
        assert not run.poll(timeout=0.1) or happened(), f"ended early: {run.error}"


def to_the_end(run: BackgroundRun) -> None:
    end = time.monotonic() + PATIENCE
    while not run.poll(timeout=0.1):
        assert time.monotonic() < end, "waited in vain"


def children() -> set[int]:
    """Process ids of the living children of this process, and of theirs."""
    if not sys.platform.startswith("linux"):
        return set()
    parents: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = status.read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "Z":
            parents[int(status.parent.name)] = int(parent)
    found: set[int] = set()
    frontier = {os.getpid()}
    while frontier:
        frontier = {child for child, parent in parents.items() if parent in frontier}
        found |= frontier
    return found


def is_negative(node: Any, source: Any) -> None:
    """The result of `ANSWER` for this source."""
    expected = 1000 - slicer.util.arrayFromVolume(source)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(node), expected)
