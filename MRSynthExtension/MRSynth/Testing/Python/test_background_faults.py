"""Runs in the background that go wrong: the worker, the disk, the scene. Nothing is left, and the user is told why."""

from __future__ import annotations

import functools
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("slicer")

import slicer
from children import GOOD_RESULT, POSIX
from children import stub as stub
from children import temporary as temporary
from mrml_scenes import add_result, add_volume, snapshot
from mrml_scenes import scene as scene
from runs import ANSWER, HANG, TELL, WELL, Bench, children, is_negative, to_the_end, until
from runs import bench as bench

from MRSynth import MRSynthLogic
from MRSynthLib.desktop import background, mrml, results
from MRSynthLib.desktop.background import BackgroundRun, RunProgress
from MRSynthLib.desktop.runner import WorkerRun
from MRSynthLib.desktop.state import RunState
from MRSynthLib.engine.errors import Cancelled, DeviceError, InputError, OutputError
from MRSynthLib.engine.process import error_document
from MRSynthLib.engine.volume import Volume

pytestmark = POSIX  # the stubs are scripts

# --- the worker -----------------------------------------------------------------------------------------------


def test_the_real_worker_killed_by_a_signal(
    scene: Any, bench: Bench, tall_phantom: Volume, slow_checkpoint: Path
) -> None:
    source = scene.AddNode(mrml.node_from_volume(tall_phantom))
    before = snapshot(scene)
    run = MRSynthLogic().start(source, model=str(slow_checkpoint), **bench.told.callbacks())
    until(run, lambda: bench.told.stage == "synthesize")
    for worker in children():
        os.kill(worker, signal.SIGKILL)
    to_the_end(run)
    assert bench.told.error.code == "worker-died"
    assert "SIGKILL" in bench.told.error.seen
    assert run.state is RunState.FAILED
    assert snapshot(scene) == before
    bench.nothing_stayed(run)


TRACEBACK = "def f(): return 1 / 0\nf()\n"


@pytest.mark.parametrize(
    ("body", "seen"),
    [
        (TELL + "os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        (TELL + "os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        (TELL + TRACEBACK, "exit code 1.*ZeroDivisionError"),
        (WELL + "answer(1)", "exit code 1"),
        (r"sys.stdout.buffer.write(os.urandom(200_000).replace(b'{', b''))", "exit code 0"),
        ("print('{\"event\": \"result\"}'); print('{{{'); print(chr(0))", "exit code 0"),
        ("", "exit code 0"),
        (TELL, "exit code 0"),
        (WELL + "os.remove(os.path.join(folder, 'out.npy')); answer()", "cannot be read"),
        (WELL + "open(os.path.join(folder, 'out.npy'), 'wb').write(b'PK'); answer()", "cannot be read"),
        (WELL + "save(voxels.astype('int16')[1:]); answer()", "the input"),
        (WELL + "event['ijk_to_ras'][0][3] += 1; answer()", "another grid"),
        (WELL + "import shutil; shutil.rmtree(folder); answer()", "cannot be read"),
    ],
    ids=[
        "killed",
        "crashed",
        "traceback",
        "result and exit code 1",
        "garbage",
        "JSON that is none",
        "silent",
        "no result",
        "missing output",
        "torn output",
        "too few slices",
        "another grid",
        "its folder is gone",
    ],
)
def test_a_worker_that_misbehaves(bench: Bench, body: str, seen: str) -> None:
    run = bench.start(body)
    to_the_end(run)
    error = bench.told.error
    assert isinstance(error, DeviceError)
    assert error.code == "worker-died"
    assert re.search(seen, error.seen), error.seen
    assert run.state is RunState.FAILED
    bench.nothing_happened(run)


@pytest.mark.parametrize("spoil", ["event['info'] = {}", "event['info'] = {'warnings': []}"])
def test_an_answer_that_cannot_be_shown_is_an_error_of_the_program(
    bench: Bench, caplog: pytest.LogCaptureFixture, spoil: str
) -> None:
    run = bench.start(WELL + f"{spoil}\nanswer()\n")
    to_the_end(run)
    assert bench.told.error.code == "run-failed"
    assert "KeyError" in bench.told.error.seen
    assert "Traceback" in caplog.text
    assert run.state is RunState.FAILED
    bench.nothing_happened(run)


def test_a_worker_that_somebody_else_stops_is_a_cancelled_run(bench: Bench) -> None:
    """As the real one says it after SIGTERM."""
    document = error_document(Cancelled())
    run = bench.start(f"print(json.dumps({{'event': 'error', **{document!r}}}), flush=True)\nsys.exit(7)")
    to_the_end(run)
    assert isinstance(bench.told.error, Cancelled)
    assert run.state is RunState.IDLE
    bench.nothing_happened(run)


def test_a_worker_that_resists_is_ended_with_all_its_children(bench: Bench) -> None:
    run = bench.start(
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n" + HANG
    )
    until(run, lambda: bench.told.stage == "synthesize")
    assert len(children()) == 2
    run.cancel()
    bench.nothing_happened(run)


def test_a_worker_that_cannot_be_started(bench: Bench, tmp_path: Path) -> None:
    logic = MRSynthLogic(worker=functools.partial(WorkerRun, python=str(tmp_path / "no-python")))
    run = logic.start(bench.source, **bench.told.callbacks())
    to_the_end(run)
    assert bench.told.error.code == "worker-died"
    assert "no-python" in bench.told.error.seen
    bench.nothing_happened(run)


def test_a_full_disk(bench: Bench, full_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slicer.util.updateVolumeFromArray(bench.source, np.arange(8000, dtype=np.int16).reshape(20, 20, 20))
    bench.before = snapshot(bench.scene)
    monkeypatch.setattr(tempfile, "tempdir", str(full_disk))
    kept = sorted(full_disk.iterdir())
    run = bench.start(ANSWER)
    to_the_end(run)
    assert isinstance(bench.told.error, OutputError)
    assert bench.told.error.code == "output-full"
    assert sorted(full_disk.iterdir()) == kept
    bench.nothing_happened(run)


# --- the scene ------------------------------------------------------------------------------------------------

# When something happens to the scene: each starts a run, makes it happen in that moment, and lets the run end.
Happen = Callable[[], object]


def before_the_first_poll(bench: Bench, happen: Happen) -> BackgroundRun:
    run = bench.start(ANSWER)
    happen()
    return run


def while_it_runs(bench: Bench, happen: Happen) -> BackgroundRun:
    run = bench.running()
    assert children()
    happen()
    return run


def in_a_callback(bench: Bench, happen: Happen, state: RunState, stage: str) -> BackgroundRun:
    run = bench.start(ANSWER)
    left = [happen]

    def once(progress: RunProgress) -> None:
        if (progress.state, progress.stage) == (state, stage) and left:
            left.pop()()

    bench.told.on_progress = once
    while not run.poll(timeout=0.1):
        pass
    assert not left
    return run


MOMENTS = {
    "before the first poll": before_the_first_poll,
    "in a callback, preparing": functools.partial(in_a_callback, state=RunState.PREPARING, stage="start"),
    "in a callback, started": functools.partial(in_a_callback, state=RunState.RUNNING, stage="start"),
    "in a callback, running": functools.partial(in_a_callback, state=RunState.RUNNING, stage="synthesize"),
    "while it runs": while_it_runs,
    "in a callback, importing": functools.partial(in_a_callback, state=RunState.IMPORTING, stage="import"),
}


def at(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("moment", [MOMENTS[name] for name in names], ids=names)


moments = at(*MOMENTS)
answered_moments = at(*(name for name in MOMENTS if name != "while it runs"))  # that worker never answers
early_moments = at(*list(MOMENTS)[:4])


@moments
def test_closing_the_scene_ends_the_run_at_once(bench: Bench, moment: Any) -> None:
    def close() -> None:
        bench.scene.Clear()
        assert children() == set()  # at once, without another poll

    run = moment(bench, close)
    assert isinstance(bench.told.error, Cancelled)
    assert bench.told.error.seen == "The scene was closed."
    assert run.state is RunState.IDLE
    assert bench.scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0
    bench.nothing_stayed(run)


@moments
def test_removing_the_source_ends_the_run_at_once(bench: Bench, moment: Any) -> None:
    other = add_volume(bench.scene, "another")
    with_source = set(snapshot(bench.scene))

    def remove() -> None:
        bench.scene.RemoveNode(bench.source)
        assert children() == set()

    run = moment(bench, remove)
    assert isinstance(bench.told.error, InputError)
    assert bench.told.error.seen == "The volume 'MRHead' was removed while its synthesis ran."
    assert run.state is RunState.FAILED
    assert with_source - set(snapshot(bench.scene)) == {run.source_id}
    assert bench.scene.IsNodePresent(other)
    bench.nothing_stayed(run)


@answered_moments
def test_what_happens_to_other_nodes_does_not_matter(bench: Bench, moment: Any) -> None:
    mask = bench.scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "brain")
    slicer.util.updateVolumeFromArray(mask, np.ones((6, 7, 8), np.uint8))
    start = bench.start
    bench.start = lambda body: start(body, maskNode=mask)  # type: ignore[method-assign, assignment]
    run = moment(bench, lambda: bench.scene.RemoveNode(mask))
    to_the_end(run)
    is_negative(bench.told.node, bench.source)
    bench.nothing_stayed(run)


@early_moments
def test_a_removed_output_node_is_replaced_with_a_warning(bench: Bench, moment: Any) -> None:
    output = add_result(bench.scene, "output")
    start = bench.start
    bench.start = lambda body: start(body, outputNode=output)  # type: ignore[method-assign, assignment]
    run = moment(bench, lambda: bench.scene.RemoveNode(output))
    to_the_end(run)
    assert bench.told.node is not output
    assert bench.told.node.GetName() == "MRHead [synthetic T2]"
    assert bench.scene.IsNodePresent(bench.told.node)
    is_negative(bench.told.node, bench.source)
    (warning,) = run.warnings
    assert "was removed" in warning
    assert [progress.message for progress in bench.told.progress if progress.message] == [warning]
    bench.nothing_stayed(run)


def test_a_removed_node_for_the_cycle_difference_is_replaced_too(bench: Bench) -> None:
    cycle = add_result(bench.scene, "difference")
    body = WELL + "np.save(os.path.join(folder, 'cycle.npy'), voxels.astype('int16'))\nevent['cycle'] = 'cycle.npy'\n"
    run = bench.start(body + "answer()\n", cycleNode=cycle)
    bench.scene.RemoveNode(cycle)
    to_the_end(run)
    made = bench.scene.GetFirstNodeByName("MRHead [cycle difference]")
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(made), slicer.util.arrayFromVolume(bench.source))
    assert len(run.warnings) == 1
    is_negative(bench.told.node, bench.source)


@answered_moments
def test_a_source_that_was_moved_gets_no_result(bench: Bench, moment: Any) -> None:
    run = moment(bench, lambda: bench.source.SetOrigin(1, 2, 3))
    to_the_end(run)
    assert bench.told.error.code == "input-affine"
    assert "changed while its synthesis ran" in bench.told.error.seen
    assert run.state is RunState.FAILED
    assert set(snapshot(bench.scene)) == set(bench.before)
    bench.nothing_stayed(run)


def test_a_second_part_that_cannot_be_shown_takes_the_first_away(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cycle difference fails: the volume that had been shown already goes too."""
    cycle = add_result(bench.scene, "difference")
    bench.before = snapshot(bench.scene)

    def broken(*_: Any) -> None:
        raise RuntimeError("no room for the difference")

    monkeypatch.setattr(results, "show_cycle_difference", broken)
    body = WELL + "np.save(os.path.join(folder, 'cycle.npy'), voxels.astype('int16'))\nevent['cycle'] = 'cycle.npy'\n"
    run = bench.start(body + "answer()\n", cycleNode=cycle)
    to_the_end(run)
    assert bench.told.error.code == "run-failed"
    assert "no room for the difference" in bench.told.error.seen
    bench.nothing_happened(run)


def test_it_is_too_late_to_cancel_while_the_result_is_put_into_the_scene(bench: Bench) -> None:
    run = bench.start(ANSWER)
    bench.scene.AddObserver(bench.scene.NodeAddedEvent, lambda *_: run.cancel())
    to_the_end(run)
    is_negative(bench.told.node, bench.source)
    bench.nothing_stayed(run)


def test_another_scene_does_not_matter(bench: Bench) -> None:
    other = slicer.vtkMRMLScene()
    add_volume(other, "elsewhere")
    run = bench.start(ANSWER)
    other.Clear()
    to_the_end(run)
    is_negative(bench.told.node, bench.source)


def test_the_private_folder_gone_under_a_running_worker(bench: Bench, temporary: Path) -> None:
    run = bench.running()
    (folder,) = temporary.glob("mrsynth-run-*")
    shutil.rmtree(folder)
    run.cancel()
    assert isinstance(bench.told.error, Cancelled)
    bench.nothing_happened(run)


def test_the_stub_of_these_tests_gives_a_result_when_it_is_left_alone(bench: Bench) -> None:
    for body in (ANSWER, WELL + "answer()", GOOD_RESULT + WELL + "answer()"):
        bench.told = type(bench.told)()
        run = bench.start(body)
        to_the_end(run)
        is_negative(bench.told.node, bench.source)
        assert background.active() is None
