"""The worker that is kept for the next run: the same process, the same voxels, and nothing of the run before."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from children import GOOD_RESULT, PATIENCE, POSIX, Stub, gone
from children import stub as stub
from children import temporary as temporary

from MRSynthLib.desktop import warm
from MRSynthLib.desktop.runner import RunResult, WorkerRun, run
from MRSynthLib.engine.errors import Cancelled, DeviceError, InputError, InstallError
from MRSynthLib.engine.volume import Volume

# A stub that answers its first request and says that it is idle; a test adds what it does then.
SERVED = """
def tell(**event):
    print(json.dumps(event), flush=True)
tell(event="started", pid=os.getpid())
save(voxels)
tell(**event)
"""
IDLE = "tell(event='idle')\n"
NEXT = """
request = json.loads(sys.stdin.readline())["request"]
begin = json.dumps({"event": "request", "request": request})
folder = os.path.dirname(request)
"""
BEGIN = "print(begin, flush=True)\nprint(begin, file=sys.stderr, flush=True)\n"
AGAIN = "tell(event='started', pid=os.getpid())\nsave(voxels)\ntell(**event)\n"


@pytest.fixture(autouse=True)
def cold(temporary: Path) -> Iterator[None]:
    """No worker before the test, and none after it."""
    assert warm.idle() is None
    yield
    warm.release()


class Told:
    """A run that keeps its worker, and what it told."""

    def __init__(self, volume: Volume, **settings: Any) -> None:
        self.events: list[Any] = []
        self.job = WorkerRun(volume, on_progress=self.events.append, **{"keep_warm": True, **settings})

    @property
    def pid(self) -> int:
        return int(next(event["pid"] for event in self.events if event["event"] == "started"))

    def until(self, happened: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not happened():
            assert time.monotonic() < end, "waited in vain"
            self.job.poll(timeout=0.1)

    def to_the_end(self) -> RunResult:
        with self.job:
            self.job.start()
            self.until(lambda: self.job.ended)
            return self.job.result()


def done(volume: Volume, **settings: Any) -> Told:
    """A run that has ended well."""
    told = Told(volume, **settings)
    told.to_the_end()
    return told


def idle_pid() -> int | None:
    child = warm.idle()
    return None if child is None else child.pid


def test_the_next_run_has_the_same_process_and_the_same_voxels(phantom_t1: Volume, tiny_checkpoint: Path) -> None:
    fresh = run(phantom_t1, model=tiny_checkpoint, device="cpu", cycle=True)
    pids = set()
    for _ in range(2):
        told = Told(phantom_t1, model=tiny_checkpoint, device="cpu", cycle=True)
        result = told.to_the_end()
        np.testing.assert_array_equal(result.voxels, fresh.voxels)
        assert result.cycle is not None
        assert fresh.cycle is not None
        np.testing.assert_array_equal(result.cycle, fresh.cycle)
        pids.add(told.pid)
    assert pids == {idle_pid()}


def test_by_default_nothing_is_kept_and_nothing_taken(phantom_t1: Volume, tiny_checkpoint: Path) -> None:
    assert gone(done(phantom_t1, model=tiny_checkpoint, keep_warm=False).pid)
    assert warm.idle() is None
    kept = done(phantom_t1, model=tiny_checkpoint).pid
    assert done(phantom_t1, model=tiny_checkpoint, keep_warm=False).pid != kept
    assert idle_pid() == kept


def test_on_request_it_is_ended(phantom_t1: Volume, tiny_checkpoint: Path) -> None:
    told = done(phantom_t1, model=tiny_checkpoint)
    warm.release()
    assert gone(told.pid)
    assert warm.idle() is None
    warm.release()  # once more does nothing


def test_a_wrong_input_costs_no_new_process(phantom_t1: Volume, tiny_checkpoint: Path) -> None:
    first = done(phantom_t1, model=tiny_checkpoint)
    with pytest.raises(InputError):
        Told(phantom_t1.replaced(phantom_t1.voxels * 0), model=tiny_checkpoint).to_the_end()
    assert done(phantom_t1, model=tiny_checkpoint).pid == first.pid


def test_an_unforeseen_error_ends_it(phantom_t1: Volume, tiny_checkpoint: Path) -> None:
    first = done(phantom_t1, model=tiny_checkpoint)
    with pytest.raises(DeviceError, match="contrast is 'pd'"):
        Told(phantom_t1, model=tiny_checkpoint, source="pd").to_the_end()
    assert gone(first.pid)
    assert warm.idle() is None


def test_cancel_ends_the_process_and_the_next_run_works(
    phantom_t1: Volume, tall_phantom: Volume, tiny_checkpoint: Path, slow_checkpoint: Path
) -> None:
    first = done(phantom_t1, model=tiny_checkpoint)
    second = Told(tall_phantom, model=slow_checkpoint, cycle=True)
    with second.job as job:
        job.start()
        second.until(lambda: any(event.get("stage") == "synthesize" for event in second.events))
        assert second.pid == first.pid
        job.cancel()
    with pytest.raises(Cancelled):
        job.result()
    assert gone(first.pid)
    assert warm.idle() is None
    assert done(phantom_t1, model=tiny_checkpoint).pid != first.pid


@POSIX
def test_one_that_was_killed_is_replaced_silently(phantom_t1: Volume, tiny_checkpoint: Path) -> None:
    first = done(phantom_t1, model=tiny_checkpoint)
    os.kill(first.pid, signal.SIGKILL)
    assert gone(first.pid)
    assert done(phantom_t1, model=tiny_checkpoint).pid != first.pid


@POSIX
def test_one_that_ends_when_it_should_begin_is_replaced_silently(phantom_t1: Volume, stub: Stub) -> None:
    """As where its time is over in the moment in which it is given a run."""
    python = stub(GOOD_RESULT + SERVED + IDLE + NEXT + "sys.exit('too late')")
    first, second = done(phantom_t1, python=python), done(phantom_t1, python=python)
    assert [event["event"] for event in second.events] == ["started"]
    assert first.pid != second.pid


def test_idle_time_ends_it(phantom_t1: Volume, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm, "IDLE_SECONDS", 0.3)
    first = done(phantom_t1, model=tiny_checkpoint)
    first.until(lambda: warm.idle() is None)
    assert done(phantom_t1, model=tiny_checkpoint).pid != first.pid


@pytest.mark.parametrize("change", ["environment", "folder"])
def test_one_that_would_be_started_otherwise_today_is_not_taken(
    phantom_t1: Volume, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    first = done(phantom_t1, model=tiny_checkpoint)
    if change == "environment":
        monkeypatch.setenv("MRSYNTH_MODELS", str(tmp_path / "other models"))
    else:
        monkeypatch.chdir(tmp_path)
    assert done(phantom_t1, model=tiny_checkpoint).pid != first.pid
    assert gone(first.pid)


def test_there_are_never_two(phantom_t1: Volume, tiny_checkpoint: Path) -> None:
    """Two runs at a time, as nothing but two callers of their own could make them."""
    runs = [Told(phantom_t1, model=tiny_checkpoint) for _ in range(2)]
    for told in runs:
        told.job.start()
    for told in runs:
        told.until(lambda job=told.job: job.ended)
    assert gone(runs[0].pid)
    assert idle_pid() == runs[1].pid


def test_one_that_is_forgotten_is_ended(phantom_t1: Volume, tiny_checkpoint: Path) -> None:
    told = done(phantom_t1, model=tiny_checkpoint)
    vars(warm._home()).pop("_mrsynth_warm")
    gc.collect()
    assert gone(told.pid)


@POSIX
@pytest.mark.parametrize("end", ["sys.exit()", "os.kill(os.getpid(), signal.SIGTERM)", "os.kill(os.getpid(), 9)"])
def test_it_does_not_outlive_the_application(
    tiny_checkpoint: Path, temporary: Path, phantom_t1: Volume, tmp_path: Path, child_environment: Any, end: str
) -> None:
    np.save(tmp_path / "voxels.npy", phantom_t1.voxels)
    program = f"""
        import os, signal, sys
        import numpy as np
        from MRSynthLib.desktop import warm
        from MRSynthLib.desktop.runner import WorkerRun
        from MRSynthLib.engine.volume import Volume
        volume = Volume(np.load({str(tmp_path / "voxels.npy")!r}), np.diag([4.25, 4.25, 4.25, 1.0]))
        with WorkerRun(volume, model={str(tiny_checkpoint)!r}, keep_warm=True) as job:
            job.start()
            while not job.poll(0.1):
                pass
            job.result()
        print(warm.idle().pid, flush=True)
        {end}
    """
    environment = {**child_environment, "TMPDIR": str(temporary)}
    command = [sys.executable, "-c", textwrap.dedent(program)]
    application = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False, timeout=120)
    assert gone(int(application.stdout))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts the open files of processes on Linux")
def test_twenty_runs_leave_nothing_open(phantom_t1: Volume, tiny_checkpoint: Path, temporary: Path) -> None:
    def held(pid: int) -> tuple[int, int, int, list[Path]]:
        threads = len(list(Path(f"/proc/{pid}/task").iterdir()))
        files = [len(os.listdir(f"/proc/{one}/fd")) for one in ("self", pid)]  # noqa: PTH208
        return threads, threading.active_count(), sum(files), list(temporary.iterdir())

    told = [done(phantom_t1, model=tiny_checkpoint) for _ in range(2)]
    after_two = held(told[0].pid)
    told += [done(phantom_t1, model=tiny_checkpoint) for _ in range(18)]
    assert len({each.pid for each in told}) == 1
    assert held(told[0].pid) == after_two
    assert after_two[-1] == []


# --- what decides about the end of a run ------------------------------------------------------------------


@POSIX
def test_lines_of_one_run_are_not_told_in_the_next(phantom_t1: Volume, stub: Stub) -> None:
    late = """
        print("late words", file=sys.stderr, flush=True)
        tell(event="warning", message="late warning")
        tell(event="error", code="input-empty", message="late error")
    """
    python = stub(
        GOOD_RESULT + SERVED + IDLE + NEXT + textwrap.dedent(late) + BEGIN + "sys.exit('last words of the second')"
    )
    done(phantom_t1, python=python)
    second = Told(phantom_t1, python=python)
    with pytest.raises(DeviceError, match="last words of the second") as caught:
        second.to_the_end()
    assert "late" not in caught.value.seen
    assert second.events == []


@POSIX
def test_one_that_dies_after_its_result_has_given_it(phantom_t1: Volume, stub: Stub) -> None:
    told = Told(phantom_t1, python=stub(GOOD_RESULT + SERVED + "os.kill(os.getpid(), signal.SIGKILL)"))
    np.testing.assert_array_equal(told.to_the_end().voxels, phantom_t1.voxels)
    assert warm.idle() is None


@POSIX
@pytest.mark.parametrize(
    ("second", "seen"),
    [
        ("save(voxels[1:])\ntell(**event)\n" + IDLE, r"\(39, 48, 40\)"),
        ("tell(**event)\n" + IDLE, "cannot be read"),
        ("save(voxels)\n" + IDLE, "is idle"),
        ("tell(event='error', code='unexpected', message='odd')\n" + IDLE, "odd"),
        ("tell(event='error', code='no-such-code', message='odd')\n" + IDLE, "makes no sense"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
    ],
)
def test_a_kept_one_is_checked_as_strictly_and_ended_when_it_fails(
    phantom_t1: Volume, stub: Stub, second: str, seen: str
) -> None:
    python = stub(GOOD_RESULT + SERVED + IDLE + NEXT + BEGIN + second + "\ntime.sleep(600)")
    first = done(phantom_t1, python=python)
    with pytest.raises(DeviceError, match=seen) as caught:
        Told(phantom_t1, python=python).to_the_end()
    assert caught.value.code == "worker-died"
    assert gone(first.pid)
    assert warm.idle() is None


@POSIX
def test_one_whose_packages_failed_is_not_kept(phantom_t1: Volume, stub: Stub) -> None:
    error = {"event": "error", "code": "install-broken", "message": "", "seen": "", "expected": "", "remedy": ""}
    python = stub(GOOD_RESULT + SERVED + IDLE + NEXT + BEGIN + f"tell(**{error})\n" + IDLE + "time.sleep(600)")
    first = done(phantom_t1, python=python)
    with pytest.raises(InstallError):
        Told(phantom_t1, python=python).to_the_end()
    assert gone(first.pid)
    assert warm.idle() is None


@POSIX
def test_the_stub_that_the_tests_above_spoil_is_accepted_when_unspoilt(phantom_t1: Volume, stub: Stub) -> None:
    python = stub(GOOD_RESULT + SERVED + IDLE + NEXT + BEGIN + AGAIN + IDLE + "time.sleep(600)")
    first, second = done(phantom_t1, python=python), done(phantom_t1, python=python)
    assert first.pid == second.pid == idle_pid()
