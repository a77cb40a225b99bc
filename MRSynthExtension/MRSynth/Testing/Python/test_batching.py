"""The batch as the panel runs it: a real child process, its events, its end, and that it never stays behind."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("slicer")

from batch_cohorts import cohort, images
from children import gone

from MRSynthLib.desktop.batching import BatchRun
from MRSynthLib.engine.errors import Cancelled, InputError, ModelError

PATIENCE = 180.0


@pytest.fixture
def people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return cohort(tmp_path / "in", 2)


def to_the_end(run: BatchRun) -> BatchRun:
    run.start()
    end = time.monotonic() + PATIENCE
    while not run.poll(timeout=0.1):
        assert time.monotonic() < end
    return run


def test_it_tells_what_happens_and_gives_the_report(people: Path, tmp_path: Path, tiny_checkpoint: Path) -> None:
    events: list[Any] = []
    (people / "broken").mkdir()
    (people / "broken" / "t1.nii.gz").write_bytes(b"no image")
    run = BatchRun(people, tmp_path / "out", model=str(tiny_checkpoint), device="cpu", on_event=events.append)
    result = to_the_end(run).result()
    assert (result.counts["made"], result.counts["failed"]) == (2, 1)
    assert result.report is not None and "<html" in result.report.read_text(encoding="utf-8")
    kinds = [event["event"] for event in events]
    assert kinds.count("result") == 2 and kinds.count("failure") == 1 and "plan" in kinds
    fractions = [event["fraction"] for event in events if event["event"] == "progress"]
    assert fractions == sorted(fractions) and fractions[-1] == 1
    again = BatchRun(people, tmp_path / "out", model=str(tiny_checkpoint), device="cpu")
    assert to_the_end(again).result().counts["kept"] == 2


def test_a_cancelled_batch_leaves_no_process_and_goes_on_later(
    people: Path, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    run = BatchRun(people, tmp_path / "out", model=str(tiny_checkpoint), device="cpu")
    run.start()
    pid = run.pid
    time.sleep(0.5)
    run.cancel()
    assert gone(pid)
    with pytest.raises(Cancelled, match="what is done is kept"):
        run.result()
    assert list((tmp_path / "out").rglob("*.partial")) == []
    again = BatchRun(people, tmp_path / "out", model=str(tiny_checkpoint), device="cpu")
    counts = to_the_end(again).result().counts
    assert counts["made"] + counts["kept"] == 2 and len(images(tmp_path / "out")) == 2


@pytest.mark.parametrize("wrong", ["input", "model"])
def test_what_stands_against_the_whole_batch_is_an_error(
    people: Path, tmp_path: Path, tiny_checkpoint: Path, wrong: str
) -> None:
    folder = tmp_path / "nowhere" if wrong == "input" else people
    model = "no-such-model" if wrong == "model" else str(tiny_checkpoint)
    run = to_the_end(BatchRun(folder, tmp_path / "out", model=model, device="cpu"))
    with pytest.raises(InputError if wrong == "input" else ModelError) as refused:
        run.result()
    assert refused.value.code == {"input": "input-not-found", "model": "model-not-found"}[wrong]


def test_the_batch_does_not_outlive_whoever_forgets_it(people: Path, tmp_path: Path, tiny_checkpoint: Path) -> None:
    run = BatchRun(people, tmp_path / "out", model=str(tiny_checkpoint), device="cpu")
    run.start()
    pid = run.pid
    del run
    gc.collect()
    assert gone(pid)


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_the_batch_does_not_outlive_a_killed_application(
    people: Path, tmp_path: Path, child_environment: dict[str, str], slow_checkpoint: Path
) -> None:
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from MRSynthLib.desktop.batching import BatchRun\n"
        "run = BatchRun(Path(sys.argv[1]), Path(sys.argv[2]), model=sys.argv[3], device='cpu')\n"
        "run.start()\n"
        "print(run.pid, flush=True)\n"
        "time.sleep(60)"
    )
    command = [sys.executable, "-c", program, str(people), str(tmp_path / "out"), str(slow_checkpoint)]
    with subprocess.Popen(command, env=child_environment, stdout=subprocess.PIPE, text=True) as application:
        assert application.stdout is not None
        pid = int(application.stdout.readline())
        application.kill()
        application.wait()
    assert gone(pid)
