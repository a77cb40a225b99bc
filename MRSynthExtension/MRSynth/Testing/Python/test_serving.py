"""The worker that stays between requests: the same voxels as a fresh one, and an end for every reason."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_worker import array_request, events_of

from MRSynthLib.engine import checkpoint, serving
from MRSynthLib.engine.devices import choose
from MRSynthLib.engine.serving import Networks, Requests
from MRSynthLib.engine.synthesis import Synthesizer
from MRSynthLib.engine.volume import Volume

WORKER = ["-m", "MRSynthLib.engine.worker"]
POSIX = pytest.mark.skipif(os.name == "nt", reason="signals and process numbers of POSIX")


class Serving:
    """A worker that stays, for its parent `parent`."""

    def __init__(
        self,
        first: Path,
        environment: Mapping[str, str],
        *,
        idle: float = 300,
        parent: int | None = None,
        command: list[str] = WORKER,
        **pipes: Any,
    ) -> None:
        options = ["--end-with", str(parent or os.getpid()), "--serve", str(idle)]
        self.process = subprocess.Popen(
            [sys.executable, *command, str(first), *options],
            env=environment,
            text=True,
            **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **pipes},
        )

    def until_idle(self) -> list[dict[str, Any]]:
        """What it says until it waits."""
        assert self.process.stdout is not None
        events: list[dict[str, Any]] = []
        for line in self.process.stdout:
            events.append(json.loads(line))
            if events[-1]["event"] == "idle":
                return events
        raise AssertionError(f"it ended instead: {self.process.communicate(timeout=60)}")

    def ask(self, request: Path) -> list[dict[str, Any]]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"request": str(request)}) + "\n")
        self.process.stdin.flush()
        return self.until_idle()


@pytest.fixture
def served(tmp_path: Path, child_environment: dict[str, str]) -> Iterator[Any]:
    """Starts workers that stay, and ends them with the test."""
    started: list[Serving] = []

    def serve(first: Path, **options: Any) -> Serving:
        started.append(Serving(first, child_environment, **options))
        return started[-1]

    yield serve
    for one in started:
        one.process.kill()
        one.process.communicate(timeout=60)


@pytest.fixture
def other_checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """The tiny checkpoint with other weights."""
    loaded = checkpoint.load(tiny_checkpoint)
    module = loaded.generator()
    for parameter in module.parameters():
        parameter.data = parameter.data * 0.5
    card = {key: value for key, value in loaded.card.items() if key not in ("format_version", "weights_sha256")}
    path = tmp_path / "other.safetensors"
    checkpoint.save(module, card, path)
    return path


def same_as_here(request: Path, events: list[dict[str, Any]], volume: Volume, model: Path, cycle: bool) -> None:
    """A request's result is, to the bit, what the engine computes in this process."""
    assert [events[-2]["event"], events[-1]["event"]] == ["result", "idle"], events[-2:]
    here = Synthesizer(model, "cpu").synthesize(volume, cycle=cycle)
    np.testing.assert_array_equal(np.load(request.parent / events[-2]["voxels"]), here.volume.voxels)
    assert events[-2]["info"]["checkpoint_sha256"] == here.checkpoint_sha256
    assert (events[-2]["cycle"] is not None) == cycle
    if cycle:
        assert here.cycle is not None
        np.testing.assert_array_equal(np.load(request.parent / events[-2]["cycle"]), here.cycle.voxels)


def test_every_run_gives_the_voxels_of_a_fresh_worker(
    tmp_path: Path, phantom_t1: Volume, phantom_t2: Volume, tiny_checkpoint: Path, other_checkpoint: Path, served: Any
) -> None:
    runs = [
        (phantom_t1, tiny_checkpoint, False),
        (phantom_t1, tiny_checkpoint, True),
        (phantom_t2, other_checkpoint, False),
        (phantom_t1, tiny_checkpoint, False),
    ]
    worker = None
    pids = set()
    for number, (volume, model, cycle) in enumerate(runs):
        request = array_request(tmp_path / str(number), volume, model, cycle=cycle)
        if worker is None:
            worker = served(request)
            events = worker.until_idle()
        else:
            events = worker.ask(request)
            assert events.pop(0) == {"event": "request", "request": str(request)}
        assert events[0]["event"] == "started"
        pids.add(events[0]["pid"])
        same_as_here(request, events, volume, model, cycle)
    assert len(pids) == 1


def test_a_checkpoint_that_was_replaced_is_read_anew(
    tmp_path: Path, phantom_t1: Volume, tiny_checkpoint: Path, other_checkpoint: Path, served: Any
) -> None:
    """Also where path, size and time of the file are the same."""
    model = tmp_path / "model.safetensors"
    shutil.copy(tiny_checkpoint, model)
    os.utime(model, (1, 1))
    request = array_request(tmp_path / "1", phantom_t1, model)
    worker = served(request)
    same_as_here(request, worker.until_idle(), phantom_t1, tiny_checkpoint, False)
    model.write_bytes(other_checkpoint.read_bytes())
    os.utime(model, (1, 1))
    request = array_request(tmp_path / "2", phantom_t1, model)
    same_as_here(request, worker.ask(request), phantom_t1, other_checkpoint, False)


@pytest.mark.parametrize("change", [{"model": "no-such-model"}, {"device": "tpu"}, {"input": "missing.nii"}])
def test_an_error_with_a_code_leaves_it_usable(
    tmp_path: Path, phantom_t1: Volume, tiny_checkpoint: Path, served: Any, change: dict[str, Any]
) -> None:
    worker = served(array_request(tmp_path / "1", phantom_t1, tiny_checkpoint, **change))
    events = worker.until_idle()
    assert events[-2]["event"] == "error"
    assert events[-2]["code"] != "unexpected"
    request = array_request(tmp_path / "2", phantom_t1, tiny_checkpoint)
    same_as_here(request, worker.ask(request), phantom_t1, tiny_checkpoint, False)


def test_an_unforeseen_error_ends_it(tmp_path: Path, phantom_t1: Volume, tiny_checkpoint: Path, served: Any) -> None:
    worker = served(array_request(tmp_path, phantom_t1, tiny_checkpoint, source=7))
    output, stderr = worker.process.stdout.read(), worker.process.stderr.read()  # its stdin stays open
    assert worker.process.wait(120) == 1
    assert events_of(output)[-1]["code"] == "unexpected"
    assert "Traceback" in stderr


def idle_then_ended(worker: Serving) -> int:
    """The exit code of a worker that ends by itself while its stdin is open."""
    worker.until_idle()
    return worker.process.wait(120)


def test_it_ends_when_no_request_comes(tmp_path: Path, phantom_t1: Volume, tiny_checkpoint: Path, served: Any) -> None:
    assert idle_then_ended(served(array_request(tmp_path, phantom_t1, tiny_checkpoint), idle=0.3)) == 0


def test_it_ends_when_memory_runs_low_while_it_waits(
    tmp_path: Path, phantom_t1: Volume, tiny_checkpoint: Path, served: Any
) -> None:
    program = """
        import sys
        from MRSynthLib.engine import serving, worker
        serving.available_memory = lambda: serving.LOW_MEMORY - 1
        sys.exit(worker.main())
    """
    request = array_request(tmp_path, phantom_t1, tiny_checkpoint)
    assert idle_then_ended(served(request, command=["-c", textwrap.dedent(program)])) == 0


@POSIX
@pytest.mark.parametrize("orphaned_by", ["process", "pipe"])
def test_it_ends_with_its_parent_and_removes_the_folder_of_the_last_run(
    tmp_path: Path, phantom_t1: Volume, tiny_checkpoint: Path, served: Any, orphaned_by: str
) -> None:
    first = array_request(tmp_path / "mrsynth-run-1", phantom_t1, tiny_checkpoint)
    second = array_request(tmp_path / "mrsynth-run-2", phantom_t1, tiny_checkpoint)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as parent:
        worker = served(first, parent=parent.pid if orphaned_by == "process" else None)
        worker.until_idle()
        worker.ask(second)
        if orphaned_by == "process":
            parent.kill()
            parent.wait()
        else:
            worker.process.stdin.close()
            worker.process.stdin = None
        _, stderr = worker.process.communicate(timeout=60)
        parent.kill()
    assert worker.process.returncode == 7, stderr
    assert first.parent.exists()  # whoever asked took its result, and removes it
    assert not second.parent.exists()


def test_it_stays_only_for_somebody(child_environment: dict[str, str]) -> None:
    command = [sys.executable, *WORKER, "request.json", "--serve", "5"]
    done = subprocess.run(command, env=child_environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--end-with" in done.stderr


def test_requests_come_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "available_memory", lambda: None)  # not known here
    requests = Requests()
    requests.hear(b'{"request": "a ')
    assert requests.next(0.01) is None
    requests.hear(b'b"}\n{"request": "c"}\n')
    assert requests.next(0.01) == Path("a b")
    assert requests.next(0.01) == Path("c")
    assert requests.next(0.01) is None


def test_only_the_same_network_is_given_again(tiny_checkpoint: Path, other_checkpoint: Path) -> None:
    networks = Networks()
    first = networks.get(str(tiny_checkpoint), "cpu", choose("cpu").precision)
    assert networks.get(str(tiny_checkpoint), "cpu", "auto") is first
    assert networks.get(str(other_checkpoint), "cpu", "auto") is not first
    second = networks.get(str(tiny_checkpoint), "cpu", "fp32")
    second.device = replace(second.device, device="cuda:0")  # where a run has changed its device on the way
    third = networks.get(str(tiny_checkpoint), "cpu", "fp32")
    assert third is not second
    assert third.device.device == "cpu"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the file system of Linux's processes")
def test_the_memory_of_this_machine_is_read() -> None:
    available = serving.available_memory()
    assert available is not None
    assert 0 < available < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
