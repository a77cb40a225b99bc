"""Runs in the background on real MRML, through the child process: their life, and how they are told and ended."""

from __future__ import annotations

import functools
import gc
import importlib
import os
import subprocess
import sys
import textwrap
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("slicer")

import slicer
from children import PATIENCE, POSIX, gone
from children import stub as stub
from children import temporary as temporary
from mrml_scenes import add_result, calculated, in_process, snapshot
from mrml_scenes import scene as scene
from runs import ANSWER, HANG, Bench, Told, children, is_negative, to_the_end, until
from runs import bench as bench

from MRSynth import MRSynthLogic
from MRSynthLib.desktop import background, mrml, results
from MRSynthLib.desktop.background import BackgroundRun, RunProgress
from MRSynthLib.desktop.runner import RunResult, WorkerRun
from MRSynthLib.desktop.state import RunState
from MRSynthLib.engine.errors import Cancelled, DeviceError, ModelError
from MRSynthLib.engine.volume import Volume

pytestmark = POSIX  # the stubs are scripts

# --- with the real worker -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("temporary")
def test_a_run_in_the_background_gives_what_the_engine_and_the_console_give(
    scene: Any, phantom_t1: Volume, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from MRSynthLib.engine.synthesis import Synthesizer

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "torch"))  # made when torch is imported here
    source = scene.AddNode(mrml.node_from_volume(phantom_t1))
    difference = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "difference")
    told = Told()
    run = MRSynthLogic().start(
        source, model=str(tiny_checkpoint), device="cpu", cycleNode=difference, **told.callbacks()
    )
    assert told.progress == []  # nobody is called inside start()
    assert run.state is RunState.PREPARING
    assert run.source_id == source.GetID()
    assert background.active() is run
    to_the_end(run)

    assert run.node is told.node
    assert run.state is RunState.IDLE
    assert run.error is None
    expected = Synthesizer(tiny_checkpoint, device="cpu").synthesize(phantom_t1, cycle=True)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(told.node), expected.volume.voxels)
    assert expected.cycle is not None
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(difference), expected.cycle.voxels)
    assert told.node.GetAttribute("MRSynth.ModelSHA256") == expected.checkpoint_sha256
    again = MRSynthLogic().synthesize(source, model=str(tiny_checkpoint), device="cpu")
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(again), expected.volume.voxels)

    ways = [(progress.state, progress.stage) for progress in told.progress]
    in_order = list(dict.fromkeys(ways))
    assert in_order == [
        (RunState.PREPARING, "start"),
        (RunState.RUNNING, "start"),
        (RunState.RUNNING, "prepare"),
        (RunState.RUNNING, "synthesize"),
        (RunState.RUNNING, "cycle"),
        (RunState.RUNNING, "restore"),
        (RunState.IMPORTING, "import"),
    ]
    fractions = [progress.fraction for progress in told.progress]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert any(progress.seconds_left for progress in told.progress)


def test_cancel_in_the_middle_of_the_real_work(
    scene: Any, bench: Bench, tall_phantom: Volume, slow_checkpoint: Path
) -> None:
    source = scene.AddNode(mrml.node_from_volume(tall_phantom))
    before = snapshot(scene)
    run = MRSynthLogic().start(source, model=str(slow_checkpoint), **bench.told.callbacks())
    until(run, lambda: bench.told.stage == "synthesize")
    assert children()
    run.cancel()
    assert children() == set()
    assert isinstance(bench.told.error, Cancelled)
    assert snapshot(scene) == before
    bench.nothing_stayed(run)


def test_an_error_of_the_engine_comes_whole(bench: Bench) -> None:
    run = MRSynthLogic().start(bench.source, model="no-such-model", **bench.told.callbacks())
    to_the_end(run)
    assert isinstance(bench.told.error, ModelError)
    assert bench.told.error.code == "model-not-found"
    assert run.error is bench.told.error
    assert run.state is RunState.FAILED
    bench.nothing_happened(run)


# --- the course of a run --------------------------------------------------------------------------------------


def test_a_run_goes_into_the_given_node_and_says_so_once(bench: Bench) -> None:
    output = add_result(bench.scene, "output")
    run = bench.start(ANSWER, outputNode=output, target="t2")
    to_the_end(run)
    assert bench.told.node is output is run.node
    is_negative(output, bench.source)
    assert [progress.message for progress in bench.told.progress if progress.message] == []
    bench.nothing_stayed(run)


def test_the_source_is_taken_when_the_run_starts(bench: Bench) -> None:
    voxels = slicer.util.arrayFromVolume(bench.source).copy()
    run = bench.start(ANSWER)
    slicer.util.arrayFromVolume(bench.source)[:] = 0
    bench.source.SetName("renamed")
    to_the_end(run)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(bench.told.node), 1000 - voxels)
    assert bench.told.node.GetNodeReference(results.SOURCE_ROLE) is bench.source


def test_warnings_of_the_worker_are_told_once_logged_and_kept(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    tell = "print(json.dumps({'event': 'warning', 'message': 'Odd.'}), flush=True)\n"
    answer = ANSWER.replace("answer()\n", f"{tell}event['info']['warnings'] = ['Odd.', 'Late.']\nanswer()\n")
    run = bench.start(answer)
    to_the_end(run)
    assert run.warnings == ["Odd.", "Late."]
    assert [progress.message for progress in bench.told.progress if progress.message] == ["Odd.", "Late."]
    assert [record.message for record in caplog.records] == ["MRSynth: Odd.", "MRSynth: Late."]
    assert bench.told.node.GetAttribute("MRSynth.Warnings") == "Odd. Late."


def test_a_wrong_input_is_told_like_every_error_and_not_raised_by_start(scene: Any, bench: Bench) -> None:
    labels = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    before = snapshot(scene)
    for source, options, code in [
        (None, {}, "input-not-an-image"),
        (labels, {}, "input-label-map"),
        (bench.source, {"outputNode": bench.source}, "output-is-input"),
    ]:
        told = Told()
        run = MRSynthLogic().start(source, **options, **told.callbacks())
        assert told.errors == []
        assert not run.ended
        assert run.poll()
        assert told.error.code == code
        assert told.progress == []
        assert run.state is RunState.FAILED
        assert background.active() is None
    assert snapshot(scene) == before


def test_wait_returns_the_node_or_raises_the_error(bench: Bench) -> None:
    assert bench.start(ANSWER).wait() is bench.told.node
    bench.told = Told()
    run = bench.start("sys.exit('last words')")
    with pytest.raises(DeviceError, match="last words"):
        run.wait()
    assert bench.told.error is run.error


def test_an_interrupted_wait_ends_the_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    run = bench.running()

    def interrupted(*_: Any) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(WorkerRun, "poll", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.wait()
    assert isinstance(bench.told.error, Cancelled)
    bench.nothing_happened(run)


def test_a_run_that_is_over_keeps_neither_its_input_nor_its_result_alive(bench: Bench) -> None:
    volumes: list[weakref.ref[Volume]] = []

    def run_it(volume: Volume, **options: Any) -> RunResult:
        volumes.append(weakref.ref(volume))
        return calculated(volume, **options)

    run = MRSynthLogic(worker=in_process(run_it)).start(bench.source)
    to_the_end(run)
    assert [volume() for volume in volumes] == [None]
    bench.scene.RemoveNode(run.node)
    assert run.node is None


# --- one at a time --------------------------------------------------------------------------------------------


def test_a_second_run_is_refused_and_the_first_goes_on(bench: Bench) -> None:
    run = bench.running()
    other = Told()
    for second in (MRSynthLogic().start, MRSynthLogic(worker=in_process(calculated)).synthesize):
        arguments = other.callbacks() if second.__name__ == "start" else {}
        with pytest.raises(DeviceError) as caught:
            second(bench.source, **arguments)
        assert caught.value.code == "run-in-progress"
    assert background.active() is run
    assert not run.poll()
    assert (other.progress, other.finished, other.errors) == ([], [], [])
    run.cancel()
    bench.nothing_happened(run)


def test_the_next_run_may_begin_where_the_last_one_is_told_to_be_over(bench: Bench) -> None:
    second = Told()
    began: list[BackgroundRun] = []
    logic = MRSynthLogic(worker=in_process(calculated))

    def go_on(_: Any) -> None:
        began.append(logic.start(bench.source, **second.callbacks()))

    to_the_end(logic.start(bench.source, onFinished=go_on))
    assert background.active() is began[0]
    to_the_end(began[0])
    is_negative(second.node, bench.source)


# --- cancel in every state ------------------------------------------------------------------------------------


def test_cancel_before_anything_has_begun(bench: Bench) -> None:
    run = bench.start(ANSWER)
    assert run.state is RunState.PREPARING
    run.cancel()
    assert isinstance(bench.told.error, Cancelled)
    assert run.state is RunState.IDLE
    bench.nothing_happened(run)


def test_cancel_of_a_process_that_has_just_been_started(bench: Bench) -> None:
    run = bench.start(HANG)
    run.poll()
    assert run.state is RunState.RUNNING
    assert children()
    run.cancel()
    bench.nothing_happened(run)


def test_cancel_while_the_worker_works(bench: Bench) -> None:
    run = bench.running()
    assert children()
    run.cancel()
    assert isinstance(bench.told.error, Cancelled)
    assert bench.told.progress[-1].state is RunState.CANCELLING
    bench.nothing_happened(run)


@pytest.mark.parametrize(
    ("state", "stage"),
    [
        (RunState.PREPARING, "start"),
        (RunState.RUNNING, "start"),
        (RunState.RUNNING, "synthesize"),
        (RunState.IMPORTING, "import"),
        (RunState.CANCELLING, "synthesize"),
    ],
)
def test_cancel_inside_a_callback(bench: Bench, state: RunState, stage: str, caplog: pytest.LogCaptureFixture) -> None:
    run = bench.running() if state is RunState.CANCELLING else bench.start(ANSWER)

    def cancel(progress: RunProgress) -> None:
        if (progress.state, progress.stage) == (state, stage):
            run.cancel()
            assert run.ended or state is RunState.CANCELLING

    bench.told.on_progress = cancel
    if state is RunState.CANCELLING:
        run.cancel()
    to_the_end(run)
    assert isinstance(bench.told.error, Cancelled)
    assert bench.told.progress[-1].state is RunState.CANCELLING
    assert "Traceback" not in caplog.text
    bench.nothing_happened(run)


def test_cancel_because_of_the_last_warning(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    run = bench.start(ANSWER.replace("answer()\n", "event['info']['warnings'] = ['Odd.', 'Odder.']\nanswer()\n"))
    bench.told.on_progress = lambda progress: run.cancel() if progress.message else None
    to_the_end(run)
    assert isinstance(bench.told.error, Cancelled)
    assert "Traceback" not in caplog.text
    bench.nothing_happened(run)


def test_cancel_of_a_run_that_is_over_does_nothing(bench: Bench) -> None:
    run = bench.start(ANSWER)
    to_the_end(run)
    scene = snapshot(bench.scene)
    run.cancel()
    assert run.state is RunState.IDLE
    assert bench.told.node is run.node
    assert snapshot(bench.scene) == scene
    bench.told = Told()
    failed = bench.start("sys.exit(1)")
    to_the_end(failed)
    failed.cancel()
    assert failed.state is RunState.FAILED
    assert bench.told.error.code == "worker-died"


# --- callbacks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["onProgress", "onFinished"])
def test_a_failing_callback_is_logged_and_breaks_nothing(
    bench: Bench, caplog: pytest.LogCaptureFixture, which: str
) -> None:
    def fail(_: Any) -> None:
        raise ZeroDivisionError("in the user's own code")

    logic = MRSynthLogic(worker=functools.partial(WorkerRun, python=bench.stub(ANSWER)))
    run = logic.start(bench.source, **{**bench.told.callbacks(), which: fail})
    to_the_end(run)
    assert run.error is None
    is_negative(run.node, bench.source)
    assert "in the user's own code" in caplog.text


def test_a_failing_error_callback_is_logged_and_the_next_run_goes(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Any) -> None:
        raise ZeroDivisionError("in the user's own code")

    logic = MRSynthLogic(worker=functools.partial(WorkerRun, python=bench.stub("sys.exit(1)")))
    to_the_end(logic.start(bench.source, onError=fail))
    assert "in the user's own code" in caplog.text
    to_the_end(bench.start(ANSWER))
    is_negative(bench.told.node, bench.source)


def test_a_callback_that_comes_back_into_the_run_is_harmless(bench: Bench) -> None:
    """As where a callback lets the event loop of 3D Slicer turn, and the timer fires inside it."""
    run = bench.start(ANSWER)
    came_back: list[Any] = []

    def come_back(_: RunProgress) -> None:
        came_back.append(run.poll())
        with pytest.raises(RuntimeError, match="callback"):
            run.wait()

    bench.told.on_progress = come_back
    to_the_end(run)
    assert came_back and not any(came_back)
    is_negative(bench.told.node, bench.source)
    bench.nothing_stayed(run)


# --- forgotten, exited, reloaded ------------------------------------------------------------------------------


def test_a_run_that_is_forgotten_is_ended_at_once(bench: Bench) -> None:
    """Without the garbage collector: nothing holds the run but who started it."""
    run = bench.running()
    (worker,) = children()
    reference = weakref.ref(run)
    gc.disable()
    try:
        del run
        assert reference() is None
    finally:
        gc.enable()
    assert gone(worker)
    assert background.active() is None
    assert not bench.scene.HasObserver(slicer.vtkMRMLScene.StartCloseEvent)
    assert snapshot(bench.scene) == bench.before
    to_the_end(bench.start(ANSWER))


@pytest.mark.parametrize("ending", ["", "raise SystemExit(3)", "1 / 0"])
def test_the_end_of_the_interpreter_ends_the_run(
    bench: Bench, tmp_path: Path, temporary: Path, child_environment: dict[str, str], ending: str
) -> None:
    program = f"""
        import functools, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import slicer
        slicer.mrmlScene = slicer.vtkMRMLScene()
        from mrml_scenes import add_volume
        from MRSynth import MRSynthLogic
        from MRSynthLib.desktop.runner import RunResult, WorkerRun
        logic = MRSynthLogic(worker=functools.partial(WorkerRun, python={bench.stub(HANG)!r}))
        run = logic.start(add_volume(slicer.mrmlScene), onError=print)
        run.poll()
        print(run._worker._traces.child.pid, flush=True)
        {ending}
    """
    environment = {**child_environment, "TMPDIR": str(temporary)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=4 * PATIENCE,
    )
    assert gone(int(done.stdout.split()[0])), done.stderr
    assert "Fatal" not in done.stderr


def test_a_reloaded_module_finds_the_run_of_the_old_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reload makes new module objects; also where MRSynthLib is loaded anew, the run is not orphaned."""
    run = bench.running()
    for name in [name for name in sys.modules if name.partition(".")[0] in ("MRSynth", "MRSynthLib")]:
        monkeypatch.delitem(sys.modules, name)
    again = importlib.import_module("MRSynth")
    anew = importlib.import_module("MRSynthLib.desktop.background")
    assert again.MRSynthLogic is not MRSynthLogic
    assert anew.active() is run
    with pytest.raises(anew.DeviceError, match="under way"):
        again.MRSynthLogic().start(bench.source)
    anew.active().cancel()
    assert anew.active() is None
    bench.nothing_happened(run)


def test_twenty_runs_in_a_row_leave_nothing_behind(bench: Bench) -> None:
    """Finished, failed, cancelled and forgotten ones in turn, into one output node."""
    output = add_result(bench.scene, "output")
    nodes = bench.scene.GetNumberOfNodes()
    threads, files = _threads(), _open_files()
    for number in range(20):
        bench.told = Told()
        kind = number % 4
        run = bench.start(("sys.exit(1)", HANG, HANG, ANSWER)[kind], outputNode=output)
        if kind in (1, 2):
            run.poll()
        if kind == 1:
            run.cancel()
        elif kind == 2:
            del run
            continue
        to_the_end(run)
        bench.nothing_stayed(run)
        if kind == 3:
            assert bench.told.node is output
    assert bench.scene.GetNumberOfNodes() == nodes
    assert background.active() is None
    assert children() == set()
    assert (_threads(), _open_files()) == (threads, files)


def _threads() -> int:
    import threading

    return threading.active_count()


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0  # noqa: PTH208 - a count
