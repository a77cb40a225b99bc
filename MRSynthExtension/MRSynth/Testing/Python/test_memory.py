"""Batches that fit, and freed memory that stays with the run."""

from __future__ import annotations

import platform

import numpy as np
import pytest

from MRSynthLib.engine import memory


@pytest.mark.parametrize(("size", "batch"), [(128, 8), (192, 3), (362, 1), (2048, 1)])
def test_on_a_cpu_a_batch_has_so_many_pixels(size: int, batch: int) -> None:
    assert memory.Batch("cpu", size * size).size == batch


def test_a_whole_volume_fits_into_one_batch_of_a_large_gpu_and_one_slice_into_a_full_one() -> None:
    pixels = 176 * 192
    assert memory.fitting(70 << 30, 20 << 20, pixels) > 155
    assert memory.fitting(2 << 30, 20 << 20, pixels) == int(memory.GPU_SHARE * 2048 / 20)
    assert memory.fitting(10 << 20, 20 << 20, pixels) == 1
    assert memory.fitting(70 << 30, 0, pixels) == memory.GPU_PIXELS // pixels


def test_halving_ends_at_0() -> None:
    batch = memory.Batch("cpu", 128 * 128)
    sizes = []
    while batch.size:
        batch.done()
        sizes.append(batch.size)
        batch.halve()
    assert sizes == [8, 4, 2, 1]


@pytest.mark.parametrize("text", ["CUDA out of memory. Tried", "DefaultCPUAllocator: can't allocate memory: you tried"])
def test_what_says_that_memory_is_full(text: str) -> None:
    assert memory.is_short(RuntimeError(text))
    assert memory.is_short(MemoryError())
    assert not memory.is_short(RuntimeError("device-side assert triggered"))


def pages_of_ten_large_arrays() -> int:
    """Pages that the system hands out while ten arrays of 24 MB are made and dropped, one after the other."""
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        np.ones(3_000_000)
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a habit of glibc")
def test_freed_memory_stays_with_a_run_and_goes_back_at_its_end() -> None:
    with memory.kept():
        np.ones(3_000_000)
        kept = pages_of_ten_large_arrays()
    assert kept < pages_of_ten_large_arrays() / 5
