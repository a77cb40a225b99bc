"""``python -m benchmarks.parity DATA``: what faster arithmetic changes in real volumes, and in their scores."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mrsynth_training.pairs import Pair, load_pair
from mrsynth_training.preparation import find_cases
from mrsynth_training.scoring import score
from MRSynthLib.engine import inference, intensity
from MRSynthLib.engine.synthesis import CONTRASTS, Synthesizer, other

DEFINED, FP32, BF16 = "as defined, fp32", "fp32", "bf16"
COMPARED = ((FP32, DEFINED), (BF16, FP32))  # what, against what
PROTOCOLS = ("paper", "brain", "lesion", "drift", "shift")


def main() -> None:
    """Print, per pair of forms, the worst volume, and how far each score moves: in a volume, and a direction's mean."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parity", description=__doc__)
    parser.add_argument("data", type=Path, metavar="DATA", help="subjects, as `mrsynth-train evaluate` takes them")
    parser.add_argument("--model", help="checkpoint (the shipped one)")
    parser.add_argument("--subjects", nargs="*", default=[], help="only these")
    arguments = parser.parse_args()
    forms = _forms(arguments.model)
    psnr: dict[tuple[str, str], float] = {}
    changes: dict[tuple[str, str], dict[str, dict[str, list[float]]]] = {pair: {} for pair in COMPARED}
    for pair in _pairs(arguments.data, arguments.subjects):
        made = {name: _made(synthesizer, pair) for name, synthesizer in forms.items()}
        scores = {name: dict(_flat(pair, voxels)) for name, voxels in made.items()}
        for which in COMPARED:
            new, old = which
            psnr[which] = min(psnr.get(which, np.inf), _psnr(made[new], made[old], pair))
            for key, value in scores[new].items():
                directions = changes[which].setdefault(key, {})
                directions.setdefault(pair.direction, []).append(value - scores[old][key])
        print(f"{pair.subject} {pair.direction} done", flush=True)
    for new, old in COMPARED:
        print(f"{new} against {old}: PSNR in the brain at least {psnr[new, old]:.1f} dB; changes of scores:")
        for key, directions in sorted(changes[new, old].items()):
            largest = max(abs(change) for all_of in directions.values() for change in all_of)
            mean = max(abs(float(np.mean(all_of))) for all_of in directions.values())
            print(f"    {key:18s} in a volume up to {largest:.4f}, in the mean of a direction up to {mean:.4f}")


def _forms(model: str | None) -> dict[str, Synthesizer]:
    """The generator as defined and as run, and in bf16."""
    forms = {name: Synthesizer(model, "cpu", precision) for name, precision in ((FP32, "fp32"), (BF16, "bf16"))}
    forms[DEFINED] = Synthesizer(model, "cpu", "fp32")
    place = inference.Place(torch.device("cpu"), torch.float32)
    forms[DEFINED]._generator = inference.AsDefined(forms[DEFINED].checkpoint.generator(), place)
    return forms


def _pairs(data: Path, subjects: list[str]) -> Iterator[Pair]:
    for case in find_cases(data):
        if not subjects or case.subject in subjects:
            yield from (load_pair(case, contrast) for contrast in CONTRASTS)


def _made(synthesizer: Synthesizer, pair: Pair) -> NDArray[np.float32]:
    result = synthesizer.synthesize(pair.source, other(pair.contrast), source=pair.contrast, force=True)
    return result.volume.voxels.astype(np.float32)


def _psnr(made: NDArray[np.float32], reference: NDArray[np.float32], pair: Pair) -> float:
    """In dB, of 1000, inside the brain; infinite where nothing differs."""
    error = float(np.mean(np.square((made - reference)[pair.brain] / intensity.SCALE)))
    return float(np.inf) if error == 0 else -10 * float(np.log10(error))


def _flat(pair: Pair, voxels: NDArray[np.float32]) -> Iterator[tuple[str, float]]:
    for protocol, values in score(pair, voxels, PROTOCOLS).items():
        for name, value in values.items():
            yield f"{protocol} {name}", value


if __name__ == "__main__":
    main()
