"""The module's own self-test: it passes, as 3D Slicer runs it, and it fails when the logic is broken."""

from __future__ import annotations

import functools
import unittest
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("slicer")

import slicer
from mrml_scenes import in_process
from mrml_scenes import scene as scene

import MRSynth
from MRSynthLib.desktop import background, results, runner
from MRSynthLib.desktop.background import BackgroundRun
from MRSynthLib.desktop.runner import RunResult
from MRSynthLib.engine.errors import Cancelled
from MRSynthLib.engine.provenance import facts
from MRSynthLib.engine.synthesis import SynthesisResult, Synthesizer
from MRSynthLib.engine.volume import Volume

TESTS = ["test_t1_to_t2", "test_t2_to_t1_in_the_background", "test_cancel"]


def self_test(name: str) -> unittest.TestResult:
    """Run one of the module's tests as a test runner does."""
    done = unittest.TestResult()
    MRSynth.MRSynthTest(name).run(done)
    assert done.testsRun == 1
    return done


@functools.cache
def shipped() -> Synthesizer:
    return Synthesizer(device="cpu")


@pytest.fixture(scope="module")
def known() -> dict[bytes, SynthesisResult]:
    return {}


@pytest.fixture
def quick(scene: Any, known: dict[bytes, SynthesisResult], monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunResult]:
    """The shipped checkpoint in this process, once for each volume, so that many self-tests can be run."""

    def run(volume: Volume, *, target: str | None, mask: Any, cycle: bool, **rest: Any) -> RunResult:
        key = volume.voxels.tobytes() + str(target).encode()
        if key not in known:
            known[key] = shipped().synthesize(volume, target)
        return RunResult(known[key].volume.voxels.copy(), facts(known[key]), None)

    monkeypatch.setattr(runner, "WorkerRun", in_process(run))
    return run


def test_it_passes_with_the_real_worker(scene: Any) -> None:
    MRSynth.MRSynthTest().runTest()


@pytest.mark.usefixtures("quick")
def test_each_part_passes_alone_as_test_runners_run_them() -> None:
    loaded = unittest.defaultTestLoader.getTestCaseNames(MRSynth.MRSynthTest)
    assert sorted(loaded) == sorted(TESTS)
    for name in TESTS:
        done = self_test(name)
        assert done.wasSuccessful(), (done.failures, done.errors)


# --- it fails when the logic is broken ------------------------------------------------------------------------

Change = Callable[[Any], None]


def spoil_result(monkeypatch: pytest.MonkeyPatch, change: Change) -> None:
    """Let something be wrong with every result node."""
    show = results.show_run

    def wrong(*arguments: Any) -> Any:
        node = show(*arguments)
        change(node)
        return node

    monkeypatch.setattr(results, "show_run", wrong)


def shift_grid(node: Any) -> None:
    node.SetOrigin(*np.add(node.GetOrigin(), (1, 0, 0)))


def identity_grid(node: Any) -> None:
    node.SetIJKToRASDirections(1, 0, 0, 0, 1, 0, 0, 0, 1)


def shift_voxels(node: Any) -> None:
    slicer.util.updateVolumeFromArray(node, np.roll(slicer.util.arrayFromVolume(node), 1, axis=2))


def mirrored(axis: int) -> Change:
    """Left and right swapped, or front and back, or top and bottom."""

    def mirror(node: Any) -> None:
        voxels = slicer.util.arrayFromVolume(node)
        slicer.util.updateVolumeFromArray(node, np.ascontiguousarray(np.flip(voxels, axis)))

    return mirror


def empty(node: Any) -> None:
    slicer.util.updateVolumeFromArray(node, np.zeros_like(slicer.util.arrayFromVolume(node)))


def copy_source(node: Any) -> None:
    source = node.GetNodeReference(results.SOURCE_ROLE)
    slicer.util.updateVolumeFromArray(node, slicer.util.arrayFromVolume(source))


def change_source(node: Any) -> None:
    slicer.util.arrayFromVolume(node.GetNodeReference(results.SOURCE_ROLE))[3, 4, 5] += 1


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", TESTS[:2])
@pytest.mark.parametrize(
    "change",
    [
        shift_grid,
        identity_grid,
        shift_voxels,
        mirrored(0),
        mirrored(1),
        mirrored(2),
        empty,
        copy_source,
        change_source,
        lambda node: node.RemoveAttribute("MRSynth.Synthetic"),
        lambda node: node.SetDescription("A T2"),
        lambda node: node.SetName("T2"),
        lambda node: node.SetNodeReferenceID(results.SOURCE_ROLE, None),
    ],
    ids=[
        "grid shifted",
        "identity grid",
        "voxels shifted",
        "mirrored along k",
        "mirrored along j",
        "mirrored along i",
        "empty",
        "source for result",
        "source changed",
        "unmarked",
        "description says nothing",
        "name says nothing",
        "source not referenced",
    ],
)
def test_a_wrong_result_is_seen(change: Change, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil_result(monkeypatch, change)
    assert not self_test(name).wasSuccessful()


@pytest.mark.parametrize("name", TESTS[:2])
def test_the_wrong_direction_is_seen(
    quick: Callable[..., RunResult], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(volume: Volume, **options: Any) -> RunResult:
        return quick(volume, **{**options, "target": "t1" if "T1" in volume.name else "t2"})

    monkeypatch.setattr(runner, "WorkerRun", in_process(wrong))
    assert not self_test(name).wasSuccessful()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("broken", ["does nothing", "only says so", "says nothing", "leaves a node"])
def test_a_cancel_that_does_not_cancel_is_seen(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cancel = BackgroundRun.cancel

    def wrong(run: BackgroundRun) -> None:
        if broken == "only says so" and run._on_error is not None:
            run._on_error(Cancelled())
        elif broken == "says nothing":
            run._on_error = None
            cancel(run)
        elif broken == "leaves a node":
            slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
            cancel(run)

    monkeypatch.setattr(BackgroundRun, "cancel", wrong)
    assert not self_test("test_cancel").wasSuccessful()
    monkeypatch.undo()
    left = background.active()
    if left is not None:
        left.cancel()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("broken", ["never called", "called twice"])
def test_callbacks_that_are_not_called_once_are_seen(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    start = MRSynth.MRSynthLogic.start

    def wrong(logic: Any, *arguments: Any, onFinished: Callable[[Any], object], **rest: Any) -> BackgroundRun:
        def told(node: Any) -> None:
            for _ in range(0 if broken == "never called" else 2):
                onFinished(node)

        return start(logic, *arguments, onFinished=told, **rest)

    monkeypatch.setattr(MRSynth.MRSynthLogic, "start", wrong)
    assert not self_test("test_t2_to_t1_in_the_background").wasSuccessful()


def test_a_run_that_was_left_by_a_failure_does_not_break_the_next_self_test(
    quick: Callable[..., RunResult], scene: Any
) -> None:
    left = MRSynth.MRSynthLogic().start(None)
    assert background.active() is left
    assert self_test("test_cancel").wasSuccessful()
    assert left.ended
