"""How many slices fit into memory at a time, and what happens to memory that a run has freed."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator

# Per batch on a CPU: 8 slices of 128x128. Enough to share the costs of each step, small enough for the cache and for
# stopping within a third of a second on two cores.
CPU_PIXELS = 1 << 17
GPU_PIXELS = 1 << 23  # 250 slices of 176x192, so a whole volume; beyond that nothing is gained
GPU_SHARE = 0.7  # of its free memory; the rest is for gaps that the allocator cannot use
MPS_PIXELS = 1 << 21  # an Apple GPU shares its memory with all other programs

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt, as glibc's malloc.h numbers them
_DEFAULT = 128 << 10
_LARGE = 1 << 30
_LARGE_BEFORE_2_35 = 32 << 20  # older glibc refuses higher ones


class Batch:
    """The number of slices to run at a time.

    On a CUDA device the first slice runs alone, and shows what one takes.

    Parameters
    ----------
    device : str
        As torch spells it.
    pixels : int
        Of one slice.
    """

    def __init__(self, device: str, pixels: int) -> None:
        self.device = device
        self.pixels = pixels
        self.trial = device.startswith("cuda")
        budget = {"cpu": CPU_PIXELS, "mps": MPS_PIXELS}.get(device, GPU_PIXELS)
        self.size = 1 if self.trial else max(1, budget // pixels)
        if self.trial:
            import torch

            torch.cuda.reset_peak_memory_stats(device)
            self._before = torch.cuda.memory_allocated(device)

    def done(self) -> None:
        """Tell that a batch has run."""
        if self.trial:
            import torch

            self.trial = False
            one = torch.cuda.max_memory_allocated(self.device) - self._before
            torch.cuda.empty_cache()
            free, _ = torch.cuda.mem_get_info(self.device)
            self.size = fitting(free, one, self.pixels)

    def halve(self) -> None:
        """Tell that a batch did not fit."""
        self.trial = False
        self.size //= 2


def fitting(free: int, one: int, pixels: int) -> int:
    """How many slices of so many pixels fit into `free` bytes, if one takes `one` bytes; at least 1."""
    return max(1, min(GPU_PIXELS // pixels, int(GPU_SHARE * free) // max(1, one)))


def is_short(error: BaseException) -> bool:
    """Whether an error says that memory is full, on whatever device."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text


def keep() -> bool:
    """Keep freed memory for the next allocation from now on; False where the C library cannot be told to.

    A network allocates and frees the same tens of megabytes for each batch. glibc hands them back to the system each
    time, and each of their pages is fetched anew and filled with zeros: up to a quarter of the run.
    """
    libc = _glibc()
    if libc is None:
        return False
    libc.mallopt(_TRIM_THRESHOLD, _LARGE)
    return bool(libc.mallopt(_MMAP_THRESHOLD, _LARGE) or libc.mallopt(_MMAP_THRESHOLD, _LARGE_BEFORE_2_35))


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Keep freed memory while this lasts, where that is possible; then give it back to the system."""
    try:
        keep()
        yield
    finally:
        if (libc := _glibc()) is not None:
            libc.mallopt(_TRIM_THRESHOLD, _DEFAULT)
            libc.mallopt(_MMAP_THRESHOLD, _DEFAULT)
            libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """The C library if it is glibc; musl has no such settings."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if libc is not None and hasattr(libc, "mallopt") else None
