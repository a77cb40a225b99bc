"""Batch runs on real worker processes: killed workers, killed clients, lost schedulers, and Dask's job queues."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from batch_cohorts import cohort, contents, events, images, started, wait_for

from MRSynthLib.engine import batch_size
from MRSynthLib.engine.cli import main
from MRSynthLib.engine.devices import Gpu, Machine
from MRSynthLib.engine.files import write_volume
from MRSynthLib.engine.volume import Volume

pytest.importorskip("distributed")
psutil = pytest.importorskip("psutil")

PEOPLE = 5
REPOSITORY = Path(__file__).resolve().parents[4]


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cohort(tmp_path_factory.mktemp("people") / "in", PEOPLE)


@pytest.fixture(scope="module")
def undisturbed(people: Path, tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> dict[str, str]:
    """The images that a run makes in one process."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    arguments = ["batch", str(people), "-o", str(out), "--workers", "0", "--quiet"]
    assert main([*arguments, "--model", str(tiny_checkpoint), "--device", "cpu"]) == 0
    return images(out)


def worker_processes(client: int) -> list[psutil.Process]:
    """The processes of Dask's workers below a client."""
    children = psutil.Process(client).children(recursive=True)
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def test_two_workers_of_which_one_is_killed(
    people: Path, tmp_path: Path, tiny_checkpoint: Path, child_environment: dict[str, str], undisturbed: dict[str, str]
) -> None:
    out = tmp_path / "out"
    with started(child_environment, people, "-o", out, "--workers", "2", "--model", tiny_checkpoint) as child:
        wait_for(child, "result")
        victim = worker_processes(child.pid)[0]
        victim.kill()
        said = list(events(child))
        assert child.wait() == 0
    counts = said[-1]["counts"]
    assert counts["made"] + counts["kept"] == PEOPLE  # what was done and not yet told is kept
    assert images(out) == undisturbed
    assert len(contents(out)) == 3 * PEOPLE  # image, sidecar and picture of each, and nothing half-written


def test_a_killed_client_takes_its_workers_along_and_the_next_run_goes_on(
    people: Path, tmp_path: Path, tiny_checkpoint: Path, child_environment: dict[str, str], undisturbed: dict[str, str]
) -> None:
    out = tmp_path / "out"
    with started(child_environment, people, "-o", out, "--workers", "1", "--model", tiny_checkpoint) as child:
        first = wait_for(child, "result")
        workers = worker_processes(child.pid)
        child.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
        child.wait()
        _, alive = psutil.wait_procs(workers, timeout=60)
        assert not alive
    made = (out / first["outputs"]["image"]).stat().st_mtime_ns
    with started(child_environment, people, "-o", out, "--workers", "1", "--model", tiny_checkpoint) as child:
        plan = wait_for(child, "plan")
        assert plan["kept"] >= 1
        *_, done = events(child)
    assert done["exit_code"] == 0
    assert (out / first["outputs"]["image"]).stat().st_mtime_ns == made  # not made twice
    assert images(out) == undisturbed
    assert len(contents(out)) == 3 * PEOPLE
    assert list((out / ".mrsynth" / "partial").iterdir()) == []


def test_an_interrupted_run_reports_what_is_done(
    tmp_path: Path, tiny_checkpoint: Path, child_environment: dict[str, str]
) -> None:
    if os.name == "nt":
        pytest.skip("signals of POSIX")
    people, out = cohort(tmp_path / "in", 40), tmp_path / "out"  # more than are done before the signal comes
    with started(child_environment, people, "-o", out, "--workers", "1", "--model", tiny_checkpoint) as child:
        wait_for(child, "result")
        os.killpg(child.pid, signal.SIGINT)  # as a terminal does: to the workers, too
        *_, done = events(child)
        assert child.wait() == done["exit_code"] == 7
        assert child.stderr is not None
        assert "Traceback" not in child.stderr.read()
    report = json.loads((out / "report.json").read_text())
    assert report["counts"]["made"] >= 1
    assert report["counts"]["open"] >= 1


def test_a_worker_of_a_cluster_does_not_go_on_for_a_cancelled_run(
    tmp_path: Path,
    tall_phantom: Volume,
    slow_checkpoint: Path,
    tiny_checkpoint: Path,
    child_environment: dict[str, str],
) -> None:
    if os.name == "nt":
        pytest.skip("signals of POSIX")
    from distributed import Client

    out = tmp_path / "out"
    (tmp_path / "in" / "p").mkdir(parents=True)
    write_volume(tall_phantom, tmp_path / "in" / "p" / "t1.nii.gz")
    arguments = (tmp_path / "in", "-o", out, "--cycle", "--device", "cpu", "--model")
    with job_queue(LOCAL, child_environment, tmp_path) as (_, address):
        with started(child_environment, *arguments, slow_checkpoint, "--scheduler", address) as child:
            assert any(event["event"] == "progress" and event["fraction"] > 0.1 for event in events(child))
            child.send_signal(signal.SIGINT)
            *_, done = events(child)
            assert child.wait() == done["exit_code"] == 7
        with Client(address) as client:
            end = time.monotonic() + 120
            while at_work(client):
                assert time.monotonic() < end
                time.sleep(0.1)
        assert not contents(out)
        with started(child_environment, *arguments, tiny_checkpoint, "--scheduler", address) as child:
            *_, done = events(child)
            assert child.wait() == 0
    assert done["counts"]["made"] == 1


def at_work(client: Any) -> int:
    """How many tasks the workers are at, also of those that nobody waits for any more."""
    return sum(client.run(lambda dask_worker: len(dask_worker.state.executing)).values())


LOCAL = """\
from distributed import LocalCluster

if __name__ == "__main__":
    cluster = LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None)"""


@contextmanager
def job_queue(code: str, environment: dict[str, str], folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A script that starts a cluster, prints its address and waits for the end of stdin."""
    script = folder / "cluster.py"
    script.write_text(f"{code}\n    print(cluster.scheduler_address, flush=True)\n    input()\n", encoding="utf-8")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    child = subprocess.Popen([sys.executable, str(script)], env=environment, cwd=folder, **pipes)  # type: ignore[call-overload]
    try:
        assert child.stdout is not None
        yield child, child.stdout.readline().strip()
    finally:
        for process in (*psutil.Process(child.pid).children(recursive=True), psutil.Process(child.pid)):
            process.kill()
        child.communicate()


def documented(name: str) -> str:
    """The example of docs/batch.md that begins with a certain class of dask-jobqueue, without its last lines."""
    text = (REPOSITORY / "docs" / "batch.md").read_text(encoding="utf-8")
    (block,) = (block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if f"import {name}\n" in block)
    return textwrap.dedent(block.partition("    print(")[0])


def test_the_documented_job_queue_and_a_scheduler_that_is_lost(
    people: Path, tmp_path: Path, tiny_checkpoint: Path, child_environment: dict[str, str], undisturbed: dict[str, str]
) -> None:
    pytest.importorskip("dask_jobqueue")
    out, environment = tmp_path / "out", {**child_environment, "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "3s"}
    arguments = (people, "-o", out, "--model", tiny_checkpoint, "--scheduler")
    with job_queue(documented("LocalCluster"), environment, tmp_path) as (queue, address):
        assert address.startswith("tcp://")
        with started(environment, *arguments, address) as child:
            wait_for(child, "result")
            queue.kill()  # the scheduler lives in this process
            *_, done = events(child)
            assert child.wait() == done["exit_code"] == 6
            assert done["error"]["code"] == "batch-scheduler"
            assert done["counts"]["made"] >= 1
    with (
        job_queue(documented("LocalCluster"), environment, tmp_path) as (_, address),
        started(environment, *arguments, address) as child,
    ):
        *_, done = events(child)
        assert child.wait() == 0
    assert done["counts"]["made"] + done["counts"]["kept"] == PEOPLE
    assert images(out) == undisturbed
    assert len(contents(out)) == 3 * PEOPLE


def test_no_scheduler_there(people: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["batch", str(people), "-o", str(tmp_path / "out"), "--json", "--scheduler", "not an address"]
    assert main(arguments) == 6
    assert json.loads(capfd.readouterr().out)["error"]["code"] == "batch-scheduler"


GIB = 1 << 30


def machine(gpus: tuple[int, ...] = (), threads: int = 16) -> Machine:
    """A machine whose GPUs have so many GiB free."""
    cards = tuple(Gpu(n, "card", free * GIB, True) for n, free in enumerate(gpus))
    return Machine(cards, "" if gpus else "none", False, False, threads, "cores")


@pytest.mark.parametrize(
    ("there", "memory", "device", "wanted", "devices", "threads"),
    [
        (machine(), 64, "auto", None, ("cpu",) * 16, 1),  # a core each
        (machine(), 10, "auto", None, ("cpu",) * 3, 5),  # not more than memory holds
        (machine(), 1, "auto", None, ("cpu",), 16),
        (machine(threads=2), 64, "cpu", 5, ("cpu",) * 5, 1),
        (machine((80, 80)), 128, "auto", None, ("cuda:0", "cuda:1") * 4, 2),  # several volumes on a card
        (machine((24, 8)), 128, "auto", None, ("cuda:0", "cuda:1", "cuda:0", "cuda:0"), 4),
        (machine((80, 80)), 128, "cuda:1", 2, ("cuda:1", "cuda:1"), 8),
        (machine((80,)), 128, "cpu", None, ("cpu",) * 16, 1),
    ],
)
def test_workers_are_as_many_as_memory_cores_and_gpus_can_feed(
    there: Machine, memory: int, device: str, wanted: int | None, devices: tuple[str, ...], threads: int
) -> None:
    size = batch_size.size(there, memory * GIB, device=device, wanted=wanted)
    assert (size.devices, size.threads) == (devices, threads)
