"""The engine in a child process, seen from the application: results, errors, cancelling, cleaning up."""

from __future__ import annotations

import gc
import os
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from children import GOOD_RESULT, PATIENCE, POSIX, Stub, gone
from children import stub as stub
from children import temporary as temporary

from MRSynthLib.desktop.child import MOST_LINES
from MRSynthLib.desktop.runner import WorkerRun, run
from MRSynthLib.engine.errors import Cancelled, DeviceError, InputError, ModelError, OutputError
from MRSynthLib.engine.synthesis import Synthesizer
from MRSynthLib.engine.volume import Volume

pytestmark = pytest.mark.usefixtures("temporary")


def poll_until(job: WorkerRun, happened: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end, "waited in vain"
        job.poll(timeout=0.1)


def test_the_result_is_that_of_the_engine(
    phantom_t1: Volume,
    phantom_mask: np.ndarray,
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mask = phantom_t1.replaced(phantom_mask.astype(np.uint8))
    done = run(phantom_t1, model=tiny_checkpoint, device="cpu", mask=mask, cycle=True)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "torch"))  # made when torch is imported here
    here = Synthesizer(tiny_checkpoint, "cpu").synthesize(phantom_t1, mask=mask, cycle=True)
    np.testing.assert_array_equal(done.voxels, here.volume.voxels)
    assert done.cycle is not None
    assert here.cycle is not None
    np.testing.assert_array_equal(done.cycle, here.cycle.voxels)
    assert done.info["synthetic"] is True
    assert done.info["checkpoint_sha256"] == here.checkpoint_sha256
    assert done.info["target_contrast"] == "t2"


def test_any_grid_goes_there_and_back_exactly(phantom_t1: Volume, tiny_checkpoint: Path) -> None:
    """An oblique, left-handed, sheared grid, with digits that the text of an image header would lose.

    It is also upside down by its header, which the screening would refuse.
    """
    turn = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, -1.0]])
    shear = np.array([[1.0, 0.0, 0.05], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    affine = phantom_t1.ijk_to_ras.copy()
    affine[:3, :3] = turn @ shear @ affine[:3, :3]
    affine[:3, 3] = [np.pi, -np.e, 1 / 7]
    volume = Volume(phantom_t1.voxels, affine, name="odd")
    done = run(volume, model=tiny_checkpoint, source="t1", target="t2", force=True)
    assert done.voxels.shape == volume.shape
    assert done.cycle is None


def test_progress_comes_in_the_callers_thread(phantom_t1: Volume, tiny_checkpoint: Path) -> None:
    seen: list[tuple[dict[str, Any], threading.Thread]] = []
    run(
        phantom_t1,
        model=tiny_checkpoint,
        on_progress=lambda event: seen.append((dict(event), threading.current_thread())),
    )
    assert {thread for _, thread in seen} == {threading.current_thread()}
    events = [event for event, _ in seen]
    assert events[0]["event"] == "started"
    assert events[0]["device_reason"]
    fractions = [event["fraction"] for event in events[1:]]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


@pytest.mark.parametrize(
    ("settings", "change", "kind", "code"),
    [
        ({"model": "no-such-model"}, None, ModelError, "model-not-found"),
        ({"device": "cuda:99"}, None, DeviceError, "device-unavailable"),
        ({}, 0, InputError, "input-empty"),
        ({"mask": 0}, None, InputError, "mask-empty"),
    ],
)
def test_errors_come_back_as_the_engines_own(
    phantom_t1: Volume,
    tiny_checkpoint: Path,
    settings: dict[str, Any],
    change: int | None,
    kind: type[Exception],
    code: str,
) -> None:
    settings = {"model": tiny_checkpoint, **settings}
    if "mask" in settings:
        settings["mask"] = phantom_t1.replaced(np.zeros_like(phantom_t1.voxels))
    volume = phantom_t1 if change is None else phantom_t1.replaced(phantom_t1.voxels * change)
    with pytest.raises(kind) as caught:
        run(volume, **settings)
    assert getattr(caught.value, "code", None) == code
    assert getattr(caught.value, "remedy", "")


def test_an_unforeseen_error_of_the_worker_is_told_with_its_cause(phantom_t1: Volume, tiny_checkpoint: Path) -> None:
    with pytest.raises(DeviceError, match="contrast is 'pd'") as caught:
        run(phantom_t1, model=tiny_checkpoint, source="pd")
    assert caught.value.code == "worker-died"


def test_cancel_ends_the_worker_and_removes_its_folder(
    tall_phantom: Volume, slow_checkpoint: Path, temporary: Path
) -> None:
    events: list[Any] = []
    with WorkerRun(tall_phantom, model=slow_checkpoint, cycle=True, on_progress=events.append) as job:
        job.start()
        folders = list(temporary.iterdir())
        assert len(folders) == 1
        if os.name != "nt":
            assert stat.S_IMODE(folders[0].stat().st_mode) == 0o700
        poll_until(job, lambda: any(event.get("stage") == "synthesize" for event in events))
        job.cancel()
        assert not folders[0].exists()
        assert job.poll()
        with pytest.raises(Cancelled):
            job.result()
        job.cancel()  # once more does nothing
    assert gone(events[0]["pid"])


@POSIX
def test_cancel_ends_the_whole_tree_even_if_it_resists(phantom_t1: Volume, stub: Stub, tmp_path: Path) -> None:
    """A worker that ignores SIGTERM and has started another process that does so too."""
    python = stub(
        """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print(json.dumps({"event": "started", "pids": [os.getpid(), child.pid]}), flush=True)
        time.sleep(600)
        """
    )
    events: list[Any] = []
    with WorkerRun(phantom_t1, python=python, on_progress=events.append) as job:
        job.start()
        poll_until(job, lambda: bool(events))
        job.cancel()
    assert all(gone(pid) for pid in events[0]["pids"])


@POSIX
def test_a_process_that_the_worker_leaves_behind_is_ended_too(phantom_t1: Volume, stub: Stub) -> None:
    python = stub(
        """
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print(json.dumps({"event": "started", "pid": child.pid}), flush=True)
        """
    )
    events: list[Any] = []
    with pytest.raises(DeviceError):
        run(phantom_t1, python=python, on_progress=events.append)
    assert gone(events[0]["pid"])


@POSIX
def test_the_stub_that_the_next_test_spoils_is_accepted_when_unspoilt(phantom_t1: Volume, stub: Stub) -> None:
    python = stub(GOOD_RESULT + "print('no JSON')\nsave(voxels)\nanswer()")
    np.testing.assert_array_equal(run(phantom_t1, python=python).voxels, phantom_t1.voxels)


@POSIX
@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        ("save(voxels); answer(1)", "exit code 1"),
        ("save(voxels)", "exit code 0"),
        ("sys.exit('last words')", "last words"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL .*memory"),
        ("answer()", "cannot be read"),
        ("save(voxels[1:]); answer()", r"\(39, 48, 40\)"),
        ("save(voxels.astype(float)); answer()", "float64"),
        ("save(voxels); event['ijk_to_ras'][0][3] += 1e-9; answer()", "another grid"),
        ("save(voxels); event['voxels'] = None; answer()", "missing"),
        ("open(os.path.join(folder, 'out.npy'), 'wb').write(b'torn'); answer()", "cannot be read"),
        ("save(voxels); del event['voxels']; answer()", "exit code 0"),
        ("save(voxels); event['info'] = 5; answer()", "makes no sense"),
        ("event = {'event': 'error', 'code': 'no-such-code', 'message': 'odd'}; answer(1)", "makes no sense"),
    ],
)
def test_exit_code_and_output_are_both_checked(phantom_t1: Volume, stub: Stub, spoil: str, seen: str) -> None:
    with pytest.raises(DeviceError, match=seen) as caught:
        run(phantom_t1, python=stub(GOOD_RESULT + spoil))
    assert caught.value.code == "worker-died"


@POSIX
def test_a_flood_of_garbage_fills_neither_memory_nor_the_callers_time(phantom_t1: Volume, stub: Stub) -> None:
    """One endless line on stdout, endless lines on stderr."""
    python = stub(
        """
        print(json.dumps({"event": "started", "pid": os.getpid()}), flush=True)
        if os.fork():
            while True:
                sys.stdout.write("x" * 65536)
        while True:
            sys.stderr.write("flood\\n" * 65536)
        """
    )
    events: list[Any] = []
    with WorkerRun(phantom_t1, python=python, on_progress=events.append) as job:
        job.start()
        poll_until(job, lambda: bool(events))
        traces = job._traces
        assert traces is not None and traces.child is not None
        lines = traces.child.lines
        end = time.monotonic() + PATIENCE
        while lines.qsize() < MOST_LINES - 100:  # full, but for what the other stream brings
            assert time.monotonic() < end, "the flood does not come"
            time.sleep(0.01)
        assert lines.qsize() <= MOST_LINES + 1  # two readers may see the last place free
        for _ in range(3):
            assert not job.poll()
    assert gone(events[0]["pid"])


@POSIX
@pytest.mark.parametrize(
    "line", ["5", "[]", '{"event": []}', '{"event": "progress"}', '{"event": "strange"}', "[" * 9999]
)
def test_json_that_is_no_event_is_taken_as_talk(phantom_t1: Volume, stub: Stub, line: str) -> None:
    python = stub(GOOD_RESULT + f"print({line!r})\nsave(voxels)\nanswer()")
    events: list[Any] = []
    run(phantom_t1, python=python, on_progress=events.append)
    assert events == []


def test_a_cycle_that_was_asked_for_must_come(phantom_t1: Volume, stub: Stub) -> None:
    if os.name == "nt":
        pytest.skip("scripts of POSIX")
    python = stub(GOOD_RESULT + "save(voxels); answer()")
    with pytest.raises(DeviceError, match="missing"):
        run(phantom_t1, python=python, cycle=True)


def test_an_interpreter_that_is_not_there_is_said_so(phantom_t1: Volume, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="no-python") as caught:
        run(phantom_t1, python=str(tmp_path / "no-python"))
    assert caught.value.code == "worker-died"


def test_a_failing_callback_ends_the_run(phantom_t1: Volume, tiny_checkpoint: Path) -> None:
    pids: list[int] = []

    def fail(event: Any) -> None:
        pids.append(event["pid"])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(phantom_t1, model=tiny_checkpoint, on_progress=fail)
    assert gone(pids[0])


def test_a_run_that_is_forgotten_is_ended(phantom_t1: Volume, stub: Stub, temporary: Path) -> None:
    if os.name == "nt":
        pytest.skip("scripts of POSIX")
    events: list[Any] = []
    python = stub("print(json.dumps({'event': 'started', 'pid': os.getpid()}), flush=True)\ntime.sleep(600)")
    job = WorkerRun(phantom_t1, python=python, on_progress=events.append)
    job.start()
    poll_until(job, lambda: bool(events))
    del job
    gc.collect()
    assert gone(events[0]["pid"])


@POSIX
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_worker_does_not_outlive_a_killed_application(
    tall_phantom: Volume,
    slow_checkpoint: Path,
    temporary: Path,
    tmp_path: Path,
    child_environment: dict[str, str],
    number: signal.Signals,
) -> None:
    np.save(tmp_path / "voxels.npy", tall_phantom.voxels)
    program = f"""
        import numpy as np
        from MRSynthLib.desktop.runner import run
        from MRSynthLib.engine.volume import Volume
        volume = Volume(np.load({str(tmp_path / "voxels.npy")!r}), np.diag([4.25, 4.25, 0.7, 1.0]))
        say = lambda event: print(event["pid"], flush=True) if "pid" in event else None
        run(volume, model={str(slow_checkpoint)!r}, cycle=True, on_progress=say)
    """
    environment = {**child_environment, "TMPDIR": str(temporary)}
    application = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert application.stdout is not None
    with application.stdout:
        worker = int(application.stdout.readline())
    application.send_signal(number)
    application.wait(PATIENCE)
    assert gone(worker)


def test_a_run_is_started_once_and_has_a_result_when_over(phantom_t1: Volume) -> None:
    job = WorkerRun(phantom_t1, model="no-such-model")
    with pytest.raises(RuntimeError, match="not started"):
        job.poll()
    with pytest.raises(RuntimeError, match="not over"):
        job.result()
    with job:
        job.start()
        with pytest.raises(RuntimeError, match="once"):
            job.start()


def test_a_full_temporary_folder_is_an_error_of_its_own(
    full_disk: Path, phantom_t1: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(full_disk))
    before = sorted(full_disk.iterdir())
    with pytest.raises(OutputError) as caught:
        run(phantom_t1)
    assert caught.value.code == "output-full"
    assert sorted(full_disk.iterdir()) == before


def test_the_application_imports_no_torch(child_environment: dict[str, str]) -> None:
    program = "import sys, MRSynthLib.desktop.runner; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], env=child_environment, check=True)
