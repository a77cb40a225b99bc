"""How many workers this machine can feed: by its memory, its cores and its GPUs."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .devices import Machine

MEMORY_OF_A_WORKER = 3 << 30  # bytes; a volume of 512 x 512 x 400 has room in it
MEMORY_OF_A_GPU_WORKER = 8 << 30  # bytes of the GPU


@dataclass(frozen=True)
class Size:
    """Workers on this machine: for each one its device, and its share of CPU threads."""

    devices: tuple[str, ...]
    threads: int
    reason: str


def size(machine: Machine, memory: int, *, device: str = "auto", wanted: int | None = None) -> Size:
    """How many workers a machine can feed, by its GPUs, memory and cores.

    Parameters
    ----------
    machine : Machine
        Its threads are shared.
    memory : int
        Bytes that are available.
    device : str
        As asked for by the user.
    wanted : int, optional
        Number of workers as asked for; only their devices and threads are decided then.
    """
    cores, room = machine.threads, max(1, memory // MEMORY_OF_A_WORKER)
    gpus = [gpu for gpu in machine.gpus if device in ("auto", "cuda", f"cuda:{gpu.index}")]
    if gpus and device != "cpu":
        # Several volumes per card: while one is on it, others are read, prepared and written.
        fitting = {f"cuda:{gpu.index}": max(1, gpu.free // MEMORY_OF_A_GPU_WORKER) for gpu in gpus}
        rounds = [name for n in range(max(fitting.values())) for name, most in fitting.items() if n < most]
        count = wanted or min(len(rounds), room, max(1, cores // 2))
        chosen = tuple(rounds[n % len(rounds)] for n in range(count))
        why = f"{len(gpus)} GPU, {memory / 2**30:.0f} GiB of memory, {cores} cores"
    else:
        one = "mps" if device == "mps" or (device == "auto" and machine.mps) else "cpu"
        count = wanted or (1 if one == "mps" else min(room, cores))
        chosen = (one,) * count
        why = f"{memory / 2**30:.0f} GiB of memory, {cores} cores"
    return Size(chosen, max(1, cores // len(chosen)), why)


def available_memory() -> int:
    """Bytes of memory that this process may still take: of the machine, and of its container."""
    import psutil

    return min(psutil.virtual_memory().available, *_limits())


def _limits() -> list[int]:
    """The container's limit (Linux control groups, version 2), where there is one."""
    found = [1 << 62]
    with contextlib.suppress(OSError, ValueError):
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return found
