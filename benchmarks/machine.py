"""What this machine can do at best, and what a network asks of it: the floor under every time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from MRSynthLib.engine.convolutions import Convolution, Place
from MRSynthLib.engine.generators import DenseUNet
from MRSynthLib.engine.inference import DTYPES, FusedDenseUNet

SIZES = (512, 1024, 2048)  # of the matrices
COPIED = 256 << 20  # bytes, more than any cache holds


def shortest(call: Callable[[], object], seconds: float = 0.5) -> float:
    """The shortest of as many calls as fit into `seconds`, after two to warm up."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 4 or time.perf_counter() < end:
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return min(times[2:])


def peaks(precision: str) -> dict[str, float]:
    """Highest rates found: ``operations`` a second in matrix products, ``bytes`` a second in copies (both ways)."""
    best = 0.0
    for size in SIZES:
        a, b = (torch.rand(size, size).to(DTYPES[precision]) for _ in range(2))
        best = max(best, 2 * size**3 / shortest(lambda a=a, b=b: a @ b))
    source = torch.ones(COPIED, dtype=torch.uint8)
    target = torch.empty_like(source)
    return {"operations": best, "bytes": 2 * COPIED / shortest(lambda: target.copy_(source))}


def needs(network: Callable[[Tensor], Tensor], size: int) -> dict[str, float]:
    """Operations, and bytes that its steps read and write, of one slice of `size` x `size` in float32."""
    x = torch.rand(1, 1, size, size)
    with FlopCounterMode(display=False) as operations:
        network(x)
    with _Traffic() as traffic:
        network(x)
    return {"operations": float(operations.get_total_flops()), "bytes": float(traffic.bytes)}


def as_run(net: nn.Module) -> Callable[[Tensor], Tensor]:
    """What really runs for `net`, by operations that can be counted."""
    assert isinstance(net, DenseUNet)
    return FusedDenseUNet(net, Place(torch.device("cpu"), torch.float32), Convolution)


class _Traffic(TorchDispatchMode):
    """Counts the bytes that go into and come out of every operation that is not a mere view."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
        is_view = not func._schema.is_mutable and len({tensor.untyped_storage().data_ptr() for tensor in tensors}) == 1
        if not is_view:
            self.bytes += sum(tensor.nbytes for tensor in tensors)
        return out
