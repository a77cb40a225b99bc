"""Which device, precision and number of threads to work with, and why.

`probe` looks at the machine, `choose` decides; the decision depends on nothing but the probe's answer, so
that it can be read, tested and explained without the hardware.
"""

from __future__ import annotations

import atexit
import gc
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from .errors import DeviceError

Precision = Literal["fp32", "bf16", "fp16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "fp16")

_GIB = 1024**3


@dataclass(frozen=True)
class DeviceChoice:
    """What a run works with.

    Parameters
    ----------
    device : str
        "cpu", "cuda:N" or "mps", as torch spells it.
    precision : {"fp32", "bf16", "fp16"}
        Arithmetic of the generator; everything around it stays in float32.
    reason : str
        Why, in one sentence for the user.
    threads : int
        CPU threads for torch.
    """

    device: str
    precision: Precision
    reason: str
    threads: int


@dataclass(frozen=True)
class Gpu:
    """One usable CUDA (or ROCm) device; `free` is its free memory in bytes."""

    index: int
    name: str
    free: int
    bf16: bool


@dataclass(frozen=True)
class Machine:
    """What `probe` found; the `no_...` fields say why something is not there."""

    gpus: tuple[Gpu, ...]
    no_gpu: str
    mps: bool
    cpu_bf16: bool
    threads: int
    threads_reason: str


def choose(device: str = "auto", precision: str = "auto", machine: Machine | None = None) -> DeviceChoice:
    """Choose device and precision.

    "auto" takes the CUDA device with the most free memory, else an Apple GPU, else the CPU. The precision
    "auto" is bf16 on CPUs with units for it, else fp32, also on Apple GPUs; on CUDA it is bf16, or fp16 where
    that is missing. What is asked for by name is given or refused, never replaced.

    Parameters
    ----------
    device : str
        "auto", "cpu", "cuda", "cuda:N" or "mps".
    precision : str
        "auto", "fp32", "bf16" or "fp16".
    machine : Machine, optional
        What there is; `probe()` by default.

    Raises
    ------
    DeviceError
        "device-unavailable": no such device here, or it cannot do that precision.
    """
    if precision != "auto" and precision not in PRECISIONS:
        raise _unavailable(f"The precision {precision!r} is not known.", "auto, fp32, bf16 or fp16.")
    machine = machine or probe()
    chosen, gpu, why = _choose_device(device, machine)
    exact, why_precision = _choose_precision(precision, chosen, gpu, machine)
    reason = f"{why}; {why_precision}"
    if chosen == "cpu":
        reason += f"; {machine.threads} threads ({machine.threads_reason})"
    return DeviceChoice(chosen, exact, reason, machine.threads)


def _choose_device(wanted: str, machine: Machine) -> tuple[str, Gpu | None, str]:
    kind, _, number = wanted.partition(":")
    if wanted == "cpu":
        return "cpu", None, "CPU, as asked"
    if wanted == "mps":
        if machine.mps:
            return "mps", None, "Apple GPU, as asked"
        raise _unavailable("There is no Apple GPU that PyTorch can use.", "macOS on Apple silicon for mps.")
    if wanted == "auto":
        if machine.gpus:
            gpu = max(machine.gpus, key=lambda one: (one.free, -one.index))
            return f"cuda:{gpu.index}", gpu, f"{gpu.name}, {gpu.free / _GIB:.1f} GiB free"
        if machine.mps:
            return "mps", None, "Apple GPU"
        return "cpu", None, f"CPU, because {machine.no_gpu}"
    if kind == "cuda" and (not number or number.isdecimal()) and wanted != "cuda:":
        if not machine.gpus:
            raise _unavailable(f"{wanted} cannot be used: {machine.no_gpu}.", "an NVIDIA GPU that PyTorch can use.")
        among = [gpu for gpu in machine.gpus if not number or gpu.index == int(number)]
        if not among:
            there = ", ".join(f"cuda:{gpu.index}" for gpu in machine.gpus)
            raise _unavailable(f"There is no {wanted}.", f"one of {there}.")
        gpu = max(among, key=lambda one: (one.free, -one.index))
        return f"cuda:{gpu.index}", gpu, f"{gpu.name}, as asked"
    raise _unavailable(f"The device {wanted!r} is not known.", "auto, cpu, cuda, cuda:N or mps.")


def _choose_precision(wanted: str, device: str, gpu: Gpu | None, machine: Machine) -> tuple[Precision, str]:
    if wanted == "auto":
        if gpu is None:
            return _automatic_without_gpu(device, machine)
        return ("bf16", "bf16 for speed") if gpu.bf16 else ("fp16", "fp16 for speed (the GPU has no bf16)")
    if device == "cpu" and wanted == "fp16":
        raise _unavailable("CPUs do not work in fp16.", "fp32, or bf16 where the CPU has it.")
    if device == "cpu" and wanted == "bf16" and not machine.cpu_bf16:
        raise _unavailable("This CPU has no bf16 units (AVX512_BF16 or AMX).", "fp32 on this CPU.")
    if wanted == "bf16" and gpu is not None and not gpu.bf16:
        raise _unavailable(f"{gpu.name} has no bf16 units.", "fp16 or fp32 on this GPU.")
    if wanted == "bf16" and device == "mps":
        raise _unavailable("bf16 is not supported on Apple GPUs here.", "fp32 or fp16.")
    return cast(Precision, wanted), f"{wanted}, as asked"


def _automatic_without_gpu(device: str, machine: Machine) -> tuple[Precision, str]:
    if device != "cpu":
        return "fp32", "fp32"
    if machine.cpu_bf16:
        return "bf16", "bf16 for speed (the CPU has units for it)"
    return "fp32", "fp32 (the CPU has no bf16 units)"


def _unavailable(seen: str, expected: str) -> DeviceError:
    return DeviceError("device-unavailable", seen, expected)


def probe() -> Machine:
    """Look at this machine; imports torch."""
    _import_torch()
    import torch

    gpus, no_gpu = _probe_cuda()
    threads, threads_reason = _threads()
    return Machine(
        gpus=gpus,
        no_gpu=no_gpu,
        mps=torch.backends.mps.is_available(),
        cpu_bf16=_cpu_has_bf16(),
        threads=threads,
        threads_reason=threads_reason,
    )


def _import_torch() -> None:
    """Import torch as quickly as it goes: in two thirds of a second instead of one, and without the long end.

    The garbage collector would walk through torch's half a million lasting objects again and again while they are
    made, and once more when the interpreter ends.
    """
    if "torch" in sys.modules:
        return
    collecting = gc.isenabled()
    gc.disable()
    try:
        import torch  # noqa: F401
    finally:
        if collecting:
            gc.enable()
    atexit.register(gc.freeze)


def _probe_cuda() -> tuple[tuple[Gpu, ...], str]:
    import torch

    if torch.version.cuda is None and torch.version.hip is None:
        return (), "this PyTorch is a build without GPU support"
    if not torch.cuda.is_available():
        return (), "PyTorch finds no GPU with a working driver"
    gpus, failures = [], []
    for index in range(torch.cuda.device_count()):
        name = f"cuda:{index}"
        try:
            name = torch.cuda.get_device_name(index)
            with torch.cuda.device(index):
                # A GPU older or newer than this build of torch is listed, and fails only when it computes.
                if float((torch.ones(2, device="cuda") * 3).sum()) != 6:
                    raise RuntimeError("wrong result of a trial computation")
                free, _ = torch.cuda.mem_get_info(index)
                bf16 = torch.cuda.get_device_capability(index)[0] >= 8 or torch.version.hip is not None
        except (RuntimeError, AssertionError) as error:
            failures.append(f"{name} does not work ({str(error).splitlines()[0]})")
        else:
            gpus.append(Gpu(index, name, free, bf16))
    return tuple(gpus), "; ".join(failures) or "PyTorch finds no GPU"


def _cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bf16 natively; emulation would be slower than fp32. ARM's units were not tried."""
    flags = {"avx512_bf16", "amx_bf16"}
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        import torch

        # Not on torch before 2.6: then the answer is no, and fp32 stays the only choice on this CPU.
        capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        return any(bool(capabilities.get(flag)) for flag in flags)
    for line in lines:
        if line.lower().startswith(("flags", "features")):
            return not flags.isdisjoint(line.split())
    return False


def _threads() -> tuple[int, str]:
    """Return how many CPU threads to use, and why.

    Convolutions saturate a core's vector units, so that a second thread on the same core only takes cache:
    one thread per physical core that this process may use, and no more than a container's quota.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked) > 0:
        return int(asked), "OMP_NUM_THREADS"
    cores = _physical_cores()
    quota = _cgroup_quota()
    if quota is not None and quota < (cores or os.cpu_count() or 1):
        return quota, "the container's CPU quota"
    if cores is not None:
        return cores, "physical cores"
    return os.cpu_count() or 1, "logical cores; the physical ones could not be counted"


def _physical_cores() -> int | None:
    """Return the number of physical cores that this process may run on, or None if it cannot be counted."""
    if platform.system() == "Darwin":
        # Apple's slow cores hold the fast ones (perflevel0) up. Intel Macs know only the second name.
        return _sysctl("hw.perflevel0.physicalcpu") or _sysctl("hw.physicalcpu")
    if not hasattr(os, "sched_getaffinity"):
        return None
    cores = set()
    for cpu in os.sched_getaffinity(0):
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
        try:
            cores.add(tuple((topology / name).read_text().strip() for name in ("physical_package_id", "core_id")))
        except OSError:
            return len(os.sched_getaffinity(0))
    return len(cores) or None


def _sysctl(name: str) -> int | None:
    try:
        answer = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, timeout=5, check=True)
        return int(answer.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def _cgroup_quota() -> int | None:
    """Return the CPU quota of the container (Linux control groups, version 2) in whole cores, or None."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, int(quota) // int(period))
    except (OSError, ValueError):
        return None
