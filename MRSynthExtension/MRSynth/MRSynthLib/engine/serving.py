"""What a worker does that is kept between runs: it waits for requests, and ends when it is no longer of use."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import queue
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .checkpoint import Checkpoint
    from .synthesis import Synthesizer

LOW_MEMORY = 1 << 30  # bytes; with less available, a worker that has nothing to do makes room for others
_LOOK = 0.25  # seconds between two looks at the memory


class Requests:
    """Requests that come as JSON lines, ``{"request": PATH}``, in pieces and from another thread."""

    def __init__(self) -> None:
        self._lines: queue.Queue[bytes] = queue.Queue()
        self._begun = b""

    def hear(self, piece: bytes) -> None:
        """Take the next bytes."""
        *lines, self._begun = (self._begun + piece).split(b"\n")
        for line in lines:
            self._lines.put(line)

    def next(self, patience: float) -> Path | None:
        """Return the path of the next request, or None after so many seconds, or when memory runs low."""
        end = time.monotonic() + patience
        while True:
            with contextlib.suppress(queue.Empty):
                # Not longer: a wait for a lock does not notice `interrupt_main`.
                return Path(json.loads(self._lines.get(timeout=min(_LOOK, patience)))["request"])
            if time.monotonic() >= end or _memory_is_low():
                return None


class Networks:
    """Makes the `Synthesizer` of each run, or gives the last one's again, if it would be the same."""

    def __init__(self) -> None:
        self._last: Synthesizer | None = None

    def get(self, model: str | None, device: str, precision: str) -> Synthesizer:
        """Return one; parameters and errors as of `Synthesizer`."""
        from . import devices, model_folders
        from .synthesis import Synthesizer

        # Let go at first: two networks at a time may not fit, and one with an error is not used again.
        last, self._last = self._last, None
        if last is not None and _is_file(model_folders.find(model), last.checkpoint):
            choice = devices.choose(device, precision)
            # Not so, for instance, after a GPU's memory was full and the last run went on on the CPU.
            if (choice.device, choice.precision) == (last.device.device, last.device.precision):
                last.device = choice
                self._last = last
        if self._last is None:
            del last
            self._last = Synthesizer(model, device, precision)
        return self._last


def _is_file(path: Path, checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint was read from this file, and the file is still the same to the bit."""
    return path == checkpoint.path and hashlib.sha256(path.read_bytes()).hexdigest() == checkpoint.sha256


def give_back_gpu_memory() -> None:
    """Let other programs have the GPU memory that torch keeps for the next run."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _memory_is_low() -> bool:
    available = available_memory()
    return available is not None and available < LOW_MEMORY


def available_memory() -> int | None:
    """Return the bytes that programs can still take without swapping; None where it is not known (macOS)."""
    if sys.platform == "win32":
        return _available_on_windows()
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    kilobytes = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(kilobytes[0]) << 10 if kilobytes else None


def _available_on_windows() -> int | None:
    if sys.platform != "win32":
        return None

    class Status(ctypes.Structure):
        """MEMORYSTATUSEX, as Windows documents it."""

        _fields_ = [
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            ("total_physical", ctypes.c_ulonglong),
            ("available_physical", ctypes.c_ulonglong),
            ("total_page_file", ctypes.c_ulonglong),
            ("available_page_file", ctypes.c_ulonglong),
            ("total_virtual", ctypes.c_ulonglong),
            ("available_virtual", ctypes.c_ulonglong),
            ("available_extended", ctypes.c_ulonglong),
        ]

    status = Status(length=ctypes.sizeof(Status))
    if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return None
    return int(status.available_physical)
