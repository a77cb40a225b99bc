"""Steps per second of a training, where its time goes, and what the paper's schedule would take.

``make bench`` runs it with the rest; ``python -m benchmarks.training`` alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from mrsynth_training import config, frameworks, hardware
from mrsynth_training.batches import Batches
from mrsynth_training.hardware import TrainingFabric
from mrsynth_training.slices import SliceStore, SubjectSlices, open_store, write_store
from MRSynthLib.engine import DeviceError, devices
from MRSynthLib.engine.inference import DTYPES

from . import machine

PAPER_STEPS = 105_624  # 80 epochs of 13,203 slices, in batches of 10
BATCH, SIDE = 10, 128
STEPS = 5  # measured, after one to warm up
GENERATORS = ("DenseUNet", "UNet", "ResNet")
METHODS: dict[str, dict[str, Any]] = {
    "paired self-inverse": {"framework": "self_inverse_paired", "losses": {"paired_l1": {"weight": 1.0}}},
    "self-inverse (the paper's)": {
        "framework": "self_inverse",
        "losses": {"cycle": {"weight": 10.0}, "adversarial": {"weight": 1.0}},
    },
}
PARTS = ("data", "G", "D", "optimiser")
# What an operation's name says it does, for the question of what limits a step.
KINDS = {
    "convolutions": ("convolution", "conv"),
    "normalisation": ("norm",),
    "copies and concatenation": ("copy", "cat", "contiguous", "clone", "to_copy", "fill", "zero"),
    "activations, pooling, resizing": ("relu", "threshold", "pool", "upsample", "clamp", "interpolate"),
    "optimiser": ("adam", "lerp", "addcdiv", "addcmul", "sqrt"),
}


def measure(threads: int, steps: int = STEPS, generators: Sequence[str] = GENERATORS) -> dict[str, Any]:
    """Measure every method with the generators on the CPU and, if there is one, on the GPU."""
    torch.set_num_threads(threads)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        store = _store(Path(folder))
        for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
            precision = _precision(device)
            peak = _peak(device, precision)
            found[device] = {"precision": precision, "threads": threads, "peak": peak, "methods": {}}
            for method, settings in METHODS.items():
                found[device]["methods"][method] = {
                    name: _measured(name, settings, store, device, precision, peak, steps) for name in generators
                }
            if device == "cpu":
                found[device]["limits"] = _limits(store, precision)
    return found


def _store(folder: Path) -> SliceStore:
    """Random slices as large as the paper's: what they show does not change the time."""
    images = np.random.default_rng(0).random((64, 2, SIDE, SIDE), dtype=np.float32)
    record = {"subject": "random", "patient": "random", "group": "random", "role": "train"}
    whole = SubjectSlices(images, np.ones((64, SIDE, SIDE), np.uint8), np.arange(64), record)
    return open_store(write_store(folder / "store", "paper", [whole]))


def _precision(device: str) -> str:
    """bf16 where the device computes with it, as `mrsynth` finds it; else fp32."""
    try:
        devices.choose(device, "bf16")
    except DeviceError:
        return "fp32"
    return "bf16"


def _peak(device: str, precision: str) -> float:
    """Highest rate found in matrix products, operations a second."""
    if device == "cpu":
        return machine.peaks(precision)["operations"]
    a, b = (torch.rand(8192, 8192, device=device).to(DTYPES[precision]) for _ in range(2))

    def product() -> None:
        _ = a @ b
        torch.cuda.synchronize()

    return 2 * 8192**3 / machine.shortest(product)


def _framework(name: str, settings: dict[str, Any], device: str, precision: str) -> frameworks.Framework:
    content = {
        "name": "benchmark",
        "frame": "paper",
        "crop": SIDE,
        "batch_size": BATCH,
        "steps": 1000,
        "augmentation": "none",
        "sampling": "epochs",
        "generator": {"name": name},
        **settings,
        "precision": "bf16-mixed" if precision == "bf16" else "32-true",
    }
    settled = config.from_dict(content)
    fabric = TrainingFabric(settled.precision, device, "1")
    fabric.launch()
    return frameworks.build(settled, fabric, torch.Generator().manual_seed(0))


class _Stopwatch:
    """Adds up the seconds that calls take; the inner ones of several are taken off the outer ones."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.seconds: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        self._inner = 0.0

    def time(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call, timed."""

        def timed(*arguments: Any, **options: Any) -> Any:
            outer, self._inner = self._inner, 0.0
            begin = self._now()
            try:
                return call(*arguments, **options)
            finally:
                spent = self._now() - begin
                self.seconds[part] += spent - self._inner
                self._inner = outer + spent

        return timed

    def _now(self) -> float:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def _measured(
    name: str, settings: dict[str, Any], store: SliceStore, device: str, precision: str, peak: float, steps: int
) -> dict[str, Any]:
    framework = _framework(name, settings, device, precision)
    place = framework.fabric.device
    batches = Batches(store.on(place, 1 << 40) if device == "cuda" else store, framework.config, torch.Generator())
    operations = _operations(framework, batches)
    watch = _Stopwatch(device)
    draw = watch.time("data", lambda: batches.draw().to(place))
    learn = watch.time("G", framework.optimise)
    for part, holder, call in (
        ("D", framework, "_optimise_discriminators"),
        ("optimiser", framework, "_update_averages"),
        *(("optimiser", o, "step") for o in (*framework.generator_optimisers, *framework.discriminator_optimisers)),
    ):
        setattr(holder, call, watch.time(part, getattr(holder, call)))
    learn(draw(), 0, 1e-4)
    watch.seconds = dict.fromkeys(PARTS, 0.0)
    each, begun = [], time.process_time()
    for step in range(1, steps + 1):
        begin = watch._now()
        learn(draw(), step, 1e-4)
        each.append(watch._now() - begin)
    cpu_seconds = (time.process_time() - begun) / steps
    seconds = statistics.median(each)
    total = sum(watch.seconds.values())
    return {
        "seconds": seconds,
        "lowest": min(each),
        "highest": max(each),
        "cpu_seconds": cpu_seconds,
        "hours_of_80_epochs": PAPER_STEPS * seconds / 3600,
        "parts": {part: spent / total for part, spent in watch.seconds.items()},
        "operations": operations,
        "share_of_peak": operations / seconds / peak,
    }


def _operations(framework: frameworks.Framework, batches: Batches) -> float:
    with FlopCounterMode(display=False) as counter:
        framework.optimise(batches.draw().to(framework.fabric.device), 0, 1e-4)
    return float(counter.get_total_flops())


def forms(threads: int, steps: int = STEPS) -> str:
    """CPU time of a paired step of the DenseU-net as it is defined and as it is trained, in turns."""
    torch.set_num_threads(threads)
    precision = _precision("cpu")
    spent: dict[str, list[float]] = {"as defined": [], "as trained": []}
    with tempfile.TemporaryDirectory() as folder:
        store = _store(Path(folder))
        trained = _framework("DenseUNet", METHODS["paired self-inverse"], "cpu", precision)
        with mock.patch.object(hardware, "faster", lambda module: module):
            defined = _framework("DenseUNet", METHODS["paired self-inverse"], "cpu", precision)
        batches = Batches(store, trained.config, torch.Generator())
        for step in range(steps + 1):
            for seconds, framework in zip(spent.values(), (defined, trained), strict=True):
                batch, begun = batches.draw(), time.process_time()
                framework.optimise(batch, step, 1e-4)
                seconds.append(time.process_time() - begun)
    medians = {form: statistics.median(seconds[1:]) for form, seconds in spent.items()}
    parts = ", ".join(f"{form} {seconds:.2f} s" for form, seconds in medians.items())
    ratio = medians["as defined"] / medians["as trained"]
    return f"CPU time of a paired DenseU-net step, {threads} threads, {precision}: {parts}; ratio {ratio:.2f}"


def _limits(store: SliceStore, precision: str) -> dict[str, float]:
    """Shares of the CPU's time by kind of operation, in steps of the paired self-inverse DenseU-net."""
    framework = _framework("DenseUNet", METHODS["paired self-inverse"], "cpu", precision)
    batches = Batches(store, framework.config, torch.Generator())
    framework.optimise(batches.draw(), 0, 1e-4)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        framework.optimise(batches.draw(), 1, 1e-4)
    shares = dict.fromkeys((*KINDS, "other"), 0.0)
    for event in profiler.key_averages():
        name = event.key.lower()
        kind = next((k for k, words in KINDS.items() if any(word in name for word in words)), "other")
        shares[kind] += event.self_cpu_time_total
    total = sum(shares.values())
    return {kind: spent / total for kind, spent in shares.items()}


def text(found: dict[str, Any]) -> str:
    """The figures to read."""
    lines = [f"Training, {BATCH} pairs of {SIDE} x {SIDE} a step; the paper's schedule has {PAPER_STEPS:,} steps:"]
    for device, of_device in found.items():
        place = f"{device}, {of_device['threads']} threads" if device == "cpu" else device
        lines.append(f"  {place}, {of_device['precision']}, peak {of_device['peak'] / 1e12:.2f} T operations/s")
        for method, by_name in of_device["methods"].items():
            for name, one in by_name.items():
                parts = ", ".join(f"{part} {one['parts'][part]:.0%}" for part in PARTS)
                rates = f"{1 / one['seconds']:.2f} step/s ({1 / one['highest']:.2f} to {1 / one['lowest']:.2f})"
                whole = f"80 epochs {one['hours_of_80_epochs']:.1f} h, {one['share_of_peak']:.0%} of the peak"
                lines.append(f"    {method}, {name}: {rates}, {whole}; {parts}; {one['cpu_seconds']:.2f} s of CPU time")
        if "limits" in of_device:
            shares = sorted(of_device["limits"].items(), key=lambda item: -item[1])
            lines.append("    DenseUNet's paired step by kind: " + ", ".join(f"{k} {v:.0%}" for k, v in shares))
    return "\n".join(lines)


def main() -> None:
    """Measure and print; write as JSON where wanted."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (2)")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"measured steps of each ({STEPS})")
    parser.add_argument("--generators", nargs="+", choices=GENERATORS, default=GENERATORS, help="only these")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--forms", action="store_true", help="only compare the DenseU-net's forms on the CPU")
    options = parser.parse_args()
    if options.forms:
        print(forms(options.threads, options.steps))
        return
    found = measure(options.threads, options.steps, options.generators)
    print(text(found))
    if options.output:
        options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
