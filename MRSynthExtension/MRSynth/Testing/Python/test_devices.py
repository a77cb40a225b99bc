"""The choice of device, precision and threads, and the reason that is given for it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from MRSynthLib.engine.devices import Gpu, Machine, choose, probe
from MRSynthLib.engine.errors import DeviceError

LAPTOP = Machine((), "there is none", mps=False, cpu_bf16=False, threads=4, threads_reason="physical cores")
SERVER = Machine(
    gpus=(
        Gpu(0, "Busy GPU", free=2 * 1024**3, bf16=True),
        Gpu(1, "Idle GPU", free=70 * 1024**3, bf16=True),
        Gpu(3, "Old GPU", free=10 * 1024**3, bf16=False),
    ),
    no_gpu="",
    mps=False,
    cpu_bf16=True,
    threads=64,
    threads_reason="physical cores",
)
MAC = Machine((), "there is none", mps=True, cpu_bf16=False, threads=8, threads_reason="physical cores")


def test_auto_without_a_gpu_is_cpu_in_fp32_and_says_why() -> None:
    choice = choose(machine=LAPTOP)
    assert (choice.device, choice.precision, choice.threads) == ("cpu", "fp32", 4)
    assert "there is none" in choice.reason
    assert "4 threads (physical cores)" in choice.reason
    assert "no bf16 units" in choice.reason


def test_auto_on_a_cpu_with_bf16_units_is_bf16_and_says_why() -> None:
    choice = choose(machine=replace(LAPTOP, cpu_bf16=True))
    assert (choice.device, choice.precision) == ("cpu", "bf16")
    assert "bf16 for speed" in choice.reason


def test_auto_takes_the_gpu_with_the_most_free_memory_in_bf16() -> None:
    choice = choose(machine=SERVER)
    assert (choice.device, choice.precision) == ("cuda:1", "bf16")
    assert "Idle GPU, 70.0 GiB free" in choice.reason


@pytest.mark.parametrize(
    ("device", "precision", "machine", "expected"),
    [
        ("cpu", "auto", SERVER, ("cpu", "bf16")),
        ("cpu", "auto", LAPTOP, ("cpu", "fp32")),
        ("cpu", "fp32", SERVER, ("cpu", "fp32")),
        ("cpu", "bf16", SERVER, ("cpu", "bf16")),
        ("cuda", "auto", SERVER, ("cuda:1", "bf16")),
        ("cuda:0", "fp32", SERVER, ("cuda:0", "fp32")),
        ("cuda:3", "auto", SERVER, ("cuda:3", "fp16")),
        ("auto", "fp16", SERVER, ("cuda:1", "fp16")),
        ("auto", "auto", MAC, ("mps", "fp32")),
        ("mps", "fp16", MAC, ("mps", "fp16")),
    ],
)
def test_what_is_asked_for_is_given(device: str, precision: str, machine: Machine, expected: tuple[str, str]) -> None:
    choice = choose(device, precision, machine)
    assert (choice.device, choice.precision) == expected


@pytest.mark.parametrize(
    ("device", "precision", "machine", "seen"),
    [
        ("cuda", "auto", LAPTOP, "there is none"),
        ("cuda:2", "auto", SERVER, "no cuda:2"),
        ("cuda:x", "auto", SERVER, "'cuda:x' is not known"),
        ("cuda:", "auto", SERVER, "'cuda:' is not known"),
        ("cuda:-1", "auto", SERVER, "'cuda:-1' is not known"),
        ("mps", "auto", SERVER, "no Apple GPU"),
        ("tpu", "auto", LAPTOP, "'tpu' is not known"),
        ("auto", "fp8", LAPTOP, "'fp8' is not known"),
        ("cpu", "fp16", SERVER, "fp16"),
        ("cpu", "bf16", LAPTOP, "no bf16 units"),
        ("auto", "fp16", LAPTOP, "fp16"),
        ("cuda:3", "bf16", SERVER, "Old GPU has no bf16"),
        ("mps", "bf16", MAC, "Apple"),
    ],
)
def test_what_is_not_there_is_refused_not_replaced(device: str, precision: str, machine: Machine, seen: str) -> None:
    with pytest.raises(DeviceError, match=seen) as caught:
        choose(device, precision, machine)
    assert caught.value.code == "device-unavailable"
    assert caught.value.expected


def test_this_machine_can_do_what_is_chosen_for_it() -> None:
    torch = pytest.importorskip("torch")
    choice = choose()
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[choice.precision]
    image = torch.ones(1, 1, 4, 4, device=choice.device, dtype=dtype)
    kernel = torch.ones(1, 1, 3, 3, device=choice.device, dtype=dtype)
    assert float(torch.nn.functional.conv2d(image, kernel).sum()) == 36
    assert 1 <= choice.threads <= (os.cpu_count() or 1)


def test_a_run_starts_without_the_compiler_of_torch_and_leaves_the_garbage_collector_as_it_was(
    tiny_checkpoint: Path, child_environment: dict[str, str]
) -> None:
    """torch._dynamo takes a second to import, and anything may import it."""
    code = """
import gc, sys
from engine_helpers import small_head
from MRSynthLib.engine import Synthesizer
Synthesizer(sys.argv[1], device="cpu").synthesize(small_head())
assert gc.isenabled()
print("torch._dynamo" in sys.modules)
"""
    search = f"{Path(__file__).parent}{os.pathsep}{child_environment['PYTHONPATH']}"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny_checkpoint)],
        env={**child_environment, "PYTHONPATH": search},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "False", done.stderr


def test_the_probe_explains_a_missing_gpu() -> None:
    machine = probe()
    assert machine.gpus or machine.no_gpu


def test_the_user_sets_the_threads_by_the_usual_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    choice = choose("cpu")
    assert choice.threads == 1
    assert "OMP_NUM_THREADS" in choice.reason


def test_threads_respect_the_cores_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system has no CPU affinity")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert choose("cpu").threads == 1
    finally:
        os.sched_setaffinity(0, before)
