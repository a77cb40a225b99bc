"""Freed memory is kept for the next step: Linux would clear the same pages anew for each of them."""

from __future__ import annotations

import ctypes
import platform

# Of <malloc.h>. Blocks of up to 32 MiB (the most that glibc allows) come from the heap, which is never trimmed.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
SETTINGS = ((M_MMAP_THRESHOLD, 32 << 20), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 64 << 20))


def keep_freed() -> bool:
    """Have this process keep what it frees, as every step needs it again; False where the C library is not glibc."""
    if platform.libc_ver()[0] != "glibc":
        return False
    taken = [ctypes.CDLL(None).mallopt(setting, value) for setting, value in SETTINGS]
    return all(taken)
