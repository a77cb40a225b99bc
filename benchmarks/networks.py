"""Slices per second of the generators, interleaved, so that a busy moment of the machine hits all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from MRSynthLib.engine import checkpoint, generators, inference, memory

from .diffusion import DiffusionUNet
from .machine import shortest

OURS = "DenseU-net"
TEXTBOOK = "DenseU-net, textbook"
RESNET = "ResNet-9"
OTHERS: dict[str, Callable[[], nn.Module]] = {
    TEXTBOOK: lambda: checkpoint.load().generator(),
    RESNET: lambda: generators.build("ResNet", {}),
    "U-net": lambda: generators.build("UNet", {}),
    "diffusion, 4 x 41 M": DiffusionUNet,
}
TURN = 0.3  # seconds at least that each network runs before the next one has its turn
SINGLE = {"diffusion, 4 x 41 M"}  # more than one slice at a time brings nothing there, and takes long


class Contestant:
    """A network, the batch that it works on, and how the process treats memory meanwhile."""

    def __init__(
        self,
        network: Callable[[Tensor], Tensor],
        batch: Tensor,
        memory_while: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.network = network
        self.batch = batch
        self.memory_while = memory_while

    def turn(self) -> float:
        """Seconds per slice while the network has its turn; its first batch, which fetches memory, is not counted."""
        with self.memory_while():
            self.run()
            return self.run(TURN)

    def run(self, at_least: float = 0.0) -> float:
        """Seconds per slice, over as many batches as take `at_least` so many seconds."""
        begin, batches = time.perf_counter(), 0
        with torch.inference_mode():
            while not batches or time.perf_counter() < begin + at_least:
                self.network(self.batch)
                batches += 1
        return (time.perf_counter() - begin) / (batches * len(self.batch))


def ours(precision: str, size: int) -> Contestant:
    """DenseU-net as the product runs it, in batches of the product's size, with freed memory kept for the next one."""
    network = inference.ready(checkpoint.load().generator(), "cpu", precision)
    return Contestant(network, torch.rand(memory.Batch("cpu", size * size).size, 1, size, size), memory.kept)


def as_defined(name: str, precision: str, size: int) -> Contestant:
    """Another network as it is defined, in the memory layout in which it is faster here."""
    module = OTHERS[name]().eval()
    slices = 1 if name in SINGLE else memory.Batch("cpu", size * size).size
    batch = torch.rand(slices, 1, size, size)
    found = []
    for layout in (torch.channels_last, torch.contiguous_format):
        contestant = Contestant(_mixed(module, precision, layout), batch)
        found.append((min(contestant.run() for _ in range(2)), contestant))
    return min(found, key=lambda pair: pair[0])[1]


def _mixed(module: nn.Module, precision: str, layout: torch.memory_format) -> Callable[[Tensor], Tensor]:
    """The module in `layout`; in bf16 by automatic mixed precision, as everybody would run it."""

    def run(x: Tensor) -> Tensor:
        module.to(memory_format=layout)  # does nothing where it is so already
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            result: Tensor = module(x.contiguous(memory_format=layout))
        return result

    return run


def measure(precision: str, size: int, repeats: int) -> dict[str, Any]:
    """Seconds per slice of every network, and per repeat how many times as long as ours each other one takes.

    Returns
    -------
    dict
        ``seconds`` by name (medians); ``ratio`` by name: lowest, median and highest of the repeats.
    """
    contestants = {OURS: ours(precision, size)}
    contestants |= {name: as_defined(name, precision, size) for name in OTHERS}
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for repeat in range(repeats + 1):
        for name, contestant in contestants.items():
            taken = contestant.turn()
            if repeat:  # the first round warms up
                seconds[name].append(taken)
    ratio = {}
    for name in OTHERS:
        each = sorted(other / own for own, other in zip(seconds[OURS], seconds[name], strict=True))
        ratio[name] = (each[0], statistics.median(each), each[-1])
    return {"seconds": {name: statistics.median(values) for name, values in seconds.items()}, "ratio": ratio}


def by_threads(precision: str, size: int, threads: int) -> dict[int, float]:
    """Seconds per slice of ours by number of threads: 1, 2, 4 and so on, and `threads`."""
    counts = sorted({2**n for n in range(threads.bit_length()) if 2**n <= threads} | {threads})
    found = {}
    for count in counts:
        torch.set_num_threads(count)
        contestant = ours(precision, size)
        with memory.kept():
            found[count] = shortest(contestant.run) / len(contestant.batch)
    torch.set_num_threads(threads)
    return found


def by_size(precision: str, sizes: tuple[int, ...]) -> dict[int, float]:
    """Seconds per slice of ours by height and width."""
    found = {}
    for size in sizes:
        contestant = ours(precision, size)
        with memory.kept():
            found[size] = shortest(contestant.run) / len(contestant.batch)
    return found
