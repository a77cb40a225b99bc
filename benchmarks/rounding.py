"""``python -m benchmarks.rounding DATA``: what bf16 costs in each part of DenseU-net, rounded alone."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrsynth_training.preparation import find_cases
from MRSynthLib.engine import checkpoint, devices, files
from MRSynthLib.engine.convolutions import PackedConvolution, Place
from MRSynthLib.engine.generators import DenseUNet
from MRSynthLib.engine.inference import FusedDenseUNet
from MRSynthLib.engine.preparation import CONTRASTS, other, prepare

CPU = torch.device("cpu")
BATCH = 4
Part = list[tuple[Any, str]]  # attributes of objects within a network


def rounded(tensor: Tensor) -> Tensor:
    """To the digits of bf16, in float32."""
    return tensor.bfloat16().float()


class RoundedWeights(Place):
    """A place that holds weights rounded, but computes in float32."""

    def hold(self, tensor: Tensor) -> Tensor:
        """The rounded tensor."""
        return super().hold(rounded(tensor))


class RoundedFeatures(PackedConvolution):
    """A convolution whose results are rounded."""

    def __call__(self, x: Tensor, then: str = "none") -> Tensor:
        """Convolution and bias, and what shall be done `then`."""
        return rounded(super().__call__(x, then))

    def add_relu(self, x: Tensor, other: Tensor) -> Tensor:
        """relu(convolution + other)."""
        return rounded(super().add_relu(x, other))


def main() -> None:
    """Print, for each volume and part, the PSNR in the brain against fp32 and the shift of the mean."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rounding", description=__doc__)
    parser.add_argument("data", type=Path, metavar="DATA", help="subjects, as `mrsynth-train evaluate` takes them")
    parser.add_argument("--model", help="checkpoint of a DenseU-net (the shipped one)")
    parser.add_argument("--subjects", nargs="*", default=[], help="only these")
    parser.add_argument("--every", type=int, default=20, help="take each so-and-so-many-th slice (20)")
    options = parser.parse_args()
    torch.set_num_threads(devices.choose("cpu").threads)
    net = checkpoint.load(options.model).generator()
    if not isinstance(net, DenseUNet):
        parser.error(f"the checkpoint holds a {type(net).__name__}, not a DenseUNet")
    exact = FusedDenseUNet(net, Place(CPU, torch.float32), PackedConvolution)
    coarse = FusedDenseUNet(net, RoundedWeights(CPU, torch.float32), PackedConvolution)
    features = FusedDenseUNet(net, Place(CPU, torch.float32), RoundedFeatures)
    features.first = exact.first  # what it gives is rounded less what it makes of air
    for name, slices, brain in _slices(options.data, options.subjects, options.every):
        expected = _run(exact, slices)
        print(f"{name}, {len(slices)} slices")
        _tell("all features", _run(features, slices), expected, brain)
        _tell("all weights", _run(coarse, slices), expected, brain)
        for part, places in parts(exact).items():
            with_part = list(zip(places, parts(coarse)[part], strict=True))
            _swap(with_part)
            _tell(part, _run(exact, slices), expected, brain)
            _swap(with_part)


def parts(network: FusedDenseUNet) -> dict[str, Part]:
    """The parts of a network that hold weights, by name."""
    found: dict[str, Part] = {"first convolution": [(network, "first")], "last convolution": [(network, "last")]}
    for number, block in enumerate(network.blocks, start=1):
        found[f"block {number}, 1x1"] = [(layer, "narrow") for layer in block]
        found[f"block {number}, 3x3"] = [(layer, "grow") for layer in block]
    for number, transition in enumerate(network.transitions, start=1):
        found[f"transition {number}"] = [(transition, "half")]
    found["bottom"] = [(network, "bottom")]
    for number, stage in enumerate(network.decoder, start=1):
        found[f"decoder {number}"] = [(stage, "upsampling"), (stage, "skip")]
    return found


def _swap(pairs: list[tuple[tuple[Any, str], tuple[Any, str]]]) -> None:
    for (one, name), (another, _) in pairs:
        mine, its = getattr(one, name), getattr(another, name)
        setattr(one, name, its)
        setattr(another, name, mine)


def _slices(data: Path, subjects: list[str], every: int) -> Iterator[tuple[str, Tensor, NDArray[np.bool_]]]:
    """Name, slices (n, 1, rows, columns) and brain (n, rows, columns) of each volume."""
    for case in find_cases(data):
        for contrast in CONTRASTS if not subjects or case.subject in subjects else ():
            volume = files.read_volume(getattr(case, contrast))
            prepared = prepare(volume, "native", source=contrast, target=other(contrast), mask=None, force=True)
            brain = prepared.space.to_model(prepared.brain.astype(np.float32)) > 0.5
            taken = np.flatnonzero(brain.any(axis=(1, 2)))[every // 2 :: every]
            yield f"{case.subject} {contrast}", torch.from_numpy(prepared.slices[taken, None]), brain[taken]


def _run(network: Callable[[Tensor], Tensor], slices: Tensor) -> NDArray[np.float32]:
    return np.concatenate([network(batch)[:, 0].numpy() for batch in slices.split(BATCH)])


def _tell(part: str, made: NDArray[np.float32], expected: NDArray[np.float32], brain: NDArray[np.bool_]) -> None:
    difference = (made - expected)[brain]
    psnr = -10 * np.log10(float(np.square(difference).mean()))
    print(f"  {part:18s} {psnr:5.1f} dB, mean {difference.mean():+.5f}", flush=True)


if __name__ == "__main__":
    main()
