"""The engine as a child process: JSON lines out, an orderly end, nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from MRSynthLib.engine.files import write_volume
from MRSynthLib.engine.synthesis import Synthesizer
from MRSynthLib.engine.volume import Volume

WORKER = [sys.executable, "-m", "MRSynthLib.engine.worker"]
SIGNALS = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")


def array_request(folder: Path, volume: Volume, checkpoint: Path, **more: Any) -> Path:
    folder.mkdir(exist_ok=True)
    np.save(folder / "in.npy", volume.voxels)
    request = {
        "voxels": "in.npy",
        "ijk_to_ras": volume.ijk_to_ras.tolist(),
        "name": volume.name,
        "model": str(checkpoint),
        "device": "cpu",
        "output_dir": ".",
        **more,
    }
    path = folder / "request.json"
    path.write_text(json.dumps(request))
    return path


def events_of(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def run(request: Path, environment: Mapping[str, str], expected_code: int = 0) -> tuple[list[dict[str, Any]], str]:
    done = subprocess.run([*WORKER, str(request)], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == expected_code, done.stderr
    return events_of(done.stdout), done.stderr


def test_arrays_in_arrays_out_the_same_as_in_this_process(
    tmp_path: Path, phantom_t1: Volume, tiny_checkpoint: Path, child_environment: dict[str, str]
) -> None:
    request = array_request(tmp_path / "run", phantom_t1, tiny_checkpoint, cycle=True)
    events, _ = run(request, child_environment)

    names = [event["event"] for event in events]
    assert names[0] == "started"
    assert names[-1] == "result"
    assert set(names[1:-1]) == {"progress"}
    fractions = [event["fraction"] for event in events[1:-1]]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert {event["stage"] for event in events[1:-1]} == {"prepare", "synthesize", "cycle", "restore"}

    result = events[-1]
    voxels = np.load(request.parent / result["voxels"])
    cycle = np.load(request.parent / result["cycle"])
    assert result["shape"] == list(phantom_t1.shape) == list(voxels.shape) == list(cycle.shape)
    assert result["dtype"] == str(voxels.dtype) == "int16"
    assert np.array_equal(result["ijk_to_ras"], phantom_t1.ijk_to_ras)
    here = Synthesizer(tiny_checkpoint, "cpu").synthesize(phantom_t1, cycle=True)
    np.testing.assert_array_equal(voxels, here.volume.voxels)
    assert here.cycle is not None
    np.testing.assert_array_equal(cycle, here.cycle.voxels)
    assert result["info"]["source_contrast"] == "t1"
    assert result["info"]["checkpoint_sha256"] == here.checkpoint_sha256
    assert sorted(path.name for path in request.parent.iterdir()) == [
        "cycle.npy",
        "in.npy",
        "out.npy",
        "request.json",
    ]


def test_a_file_and_a_mask_in(
    tmp_path: Path,
    phantom_t2: Volume,
    phantom_mask: np.ndarray,
    tiny_checkpoint: Path,
    child_environment: dict[str, str],
) -> None:
    write_volume(phantom_t2, tmp_path / "t2.nii.gz")
    np.save(tmp_path / "mask.npy", phantom_mask)
    request = tmp_path / "request.json"
    document = {
        "input": "t2.nii.gz",
        "mask": {"voxels": "mask.npy", "ijk_to_ras": phantom_t2.ijk_to_ras.tolist()},
        "model": str(tiny_checkpoint),
        "source": "t2",
        "output_dir": ".",
    }
    request.write_text(json.dumps(document))
    events, _ = run(request, child_environment)
    assert events[-1]["info"]["target_contrast"] == "t1"
    assert events[-1]["cycle"] is None
    voxels = np.load(tmp_path / events[-1]["voxels"])
    assert not voxels[~phantom_mask].any()


def test_a_warning_is_an_event(
    tmp_path: Path, phantom_t1: Volume, tiny_checkpoint: Path, child_environment: dict[str, str]
) -> None:
    voxels = phantom_t1.voxels.astype(np.float32)
    voxels[20, 20, 20] = np.nan
    events, _ = run(array_request(tmp_path, phantom_t1.replaced(voxels), tiny_checkpoint), child_environment)
    warnings = [event["message"] for event in events if event["event"] == "warning"]
    assert len(warnings) == 1
    assert "not finite" in warnings[0]
    assert events[-1]["info"]["warnings"] == warnings


@pytest.mark.parametrize(
    ("change", "code", "exit_code"),
    [
        ({"model": "no-such-model"}, "model-not-found", 4),
        ({"device": "tpu"}, "device-unavailable", 6),
        ({"input": "missing.nii"}, "input-not-found", 3),
        ({"ijk_to_ras": np.zeros((4, 4)).tolist()}, "input-spacing", 3),
        ({"output_dir": "missing"}, "output-folder-missing", 5),
        ({"source": 7}, "unexpected", 1),
    ],
)
def test_every_error_is_one_event_with_its_code(
    tmp_path: Path,
    phantom_t1: Volume,
    tiny_checkpoint: Path,
    child_environment: dict[str, str],
    change: dict[str, Any],
    code: str,
    exit_code: int,
) -> None:
    request = array_request(tmp_path, phantom_t1, tiny_checkpoint, **change)
    events, stderr = run(request, child_environment, exit_code)
    assert [event["event"] for event in events].count("error") == 1
    error = events[-1]
    assert error["event"] == "error"
    assert error["code"] == code
    assert error["message"]
    assert error["remedy"]
    assert ("Traceback" in stderr) == (code == "unexpected")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.npy", "request.json"]


def test_a_request_cannot_smuggle_in_a_pickle(
    tmp_path: Path, phantom_t1: Volume, tiny_checkpoint: Path, child_environment: dict[str, str]
) -> None:
    request = array_request(tmp_path, phantom_t1, tiny_checkpoint)
    np.save(tmp_path / "in.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    events, _ = run(request, child_environment, 1)
    assert "allow_pickle=False" in events[-1]["message"]


def test_nothing_else_can_print_to_stdout(child_environment: dict[str, str]) -> None:
    program = (
        "import os\n"
        "from MRSynthLib.engine.process import own_stdout\n"
        "with own_stdout() as out:\n"
        "    print('chatter of Python')\n"
        "    os.write(1, b'chatter of a library\\n')\n"
        "    out.write('{}\\n')\n"
        "print('afterwards')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=child_environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["{}", "afterwards"]
    assert sorted(done.stderr.splitlines()) == ["chatter of Python", "chatter of a library"]


@SIGNALS
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_as_cancelled_and_leaves_no_files(
    tmp_path: Path,
    tall_phantom: Volume,
    slow_checkpoint: Path,
    child_environment: dict[str, str],
    number: signal.Signals,
) -> None:
    request = array_request(tmp_path, tall_phantom, slow_checkpoint, cycle=True)
    with subprocess.Popen(
        [*WORKER, str(request)],
        env=child_environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # nohup and "&" have it ignored
    ) as worker:
        assert worker.stdout is not None
        for line in worker.stdout:
            if json.loads(line).get("stage") == "synthesize":
                break
        worker.send_signal(number)
        worker.send_signal(number)  # an impatient second one must not disturb the cleaning up
        rest, stderr = worker.communicate(timeout=60)
    assert worker.returncode == 7, stderr
    assert events_of(rest)[-1]["code"] == "cancelled"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.npy", "request.json"]


@SIGNALS
@pytest.mark.parametrize("orphaned_by", ["process", "pipe"])
def test_it_ends_with_its_parent_and_removes_the_private_folder(
    tmp_path: Path,
    tall_phantom: Volume,
    slow_checkpoint: Path,
    child_environment: dict[str, str],
    orphaned_by: str,
) -> None:
    folder = tmp_path / "mrsynth-run-test"
    request = array_request(folder, tall_phantom, slow_checkpoint, cycle=True)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as parent:
        watched = parent.pid if orphaned_by == "process" else os.getpid()
        worker = subprocess.Popen(
            [*WORKER, str(request), "--end-with", str(watched)],
            env=child_environment,
            stdin=subprocess.DEVNULL if orphaned_by == "process" else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert worker.stdout is not None
        assert json.loads(worker.stdout.readline())["event"] == "started"
        if orphaned_by == "process":
            parent.kill()
            parent.wait()
        else:
            assert worker.stdin is not None
            worker.stdin.close()
            worker.stdin = None
        _, stderr = worker.communicate(timeout=60)
        parent.kill()
    assert worker.returncode == 7, stderr
    assert not folder.exists()


@SIGNALS
def test_a_folder_that_is_not_a_run_folder_is_never_removed(
    tmp_path: Path, tall_phantom: Volume, slow_checkpoint: Path, child_environment: dict[str, str]
) -> None:
    folder = tmp_path / "my scans"
    request = array_request(folder, tall_phantom, slow_checkpoint)
    command = [*WORKER, str(request), "--end-with", str(os.getpid())]
    done = subprocess.run(command, env=child_environment, input="", capture_output=True, text=True, timeout=60)
    assert done.returncode == 7
    assert sorted(path.name for path in folder.iterdir()) == ["in.npy", "request.json"]
