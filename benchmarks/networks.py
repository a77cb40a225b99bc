"""Slices per second of the three generators, interleaved so that a busy moment hits all of them alike."""

from __future__ import annotations

import statistics
import time
from typing import Any

SIZE = 128
BATCH = 8
REPEATS = 7
NETWORKS = ("DenseUNet", "UNet", "ResNet")


def measure(precision: str, threads: int) -> dict[str, Any]:
    """Median slices/s of each generator and, per repeat, DenseU-net's speed over each other one's.

    Parameters
    ----------
    precision : {'fp32', 'bf16'}
    threads : int

    Returns
    -------
    dict
        ``slices_per_second`` by name; ``ratio`` by name, each (lowest, median, highest).
    """
    import torch

    from MRSynthLib.engine import generators

    torch.set_num_threads(threads)
    layout = torch.channels_last
    models = {name: generators.build(name, {}).eval().to(memory_format=layout) for name in NETWORKS}
    batch = torch.rand(BATCH, 1, SIZE, SIZE).to(memory_format=layout)
    seconds: dict[str, list[float]] = {name: [] for name in NETWORKS}
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
        for repeat in range(REPEATS + 1):
            for name, model in models.items():
                begin = time.perf_counter()
                model(batch)
                if repeat:  # the first round warms up
                    seconds[name].append(time.perf_counter() - begin)
    speed = {name: BATCH / statistics.median(values) for name, values in seconds.items()}
    ratios = {}
    for name in NETWORKS[1:]:
        each = sorted(b / a for a, b in zip(seconds["DenseUNet"], seconds[name], strict=True))
        ratios[name] = (each[0], statistics.median(each), each[-1])
    return {"slices_per_second": speed, "ratio": ratios}
