"""A synthetic volume against the acquired one of the same contrast, by the scoring protocol: brain, scores, difference.

    python -m MRSynthLib.engine.score_pair FOLDER [--end-with PID]

scores the pair that `write` has left in a folder, puts the difference beside it and prints one JSON document: the
fields of `PairScores`, or ``{"error": {...}}`` with the exit code of its family.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import intensity, scores, screening
from .errors import InputError
from .process import answer, end_with, remove_run_folder
from .screening import Mask
from .volume import Volume
from .writing import write_aside

PAIR, DIFFERENCE = "pair.npz", "difference.npy"


@dataclass(frozen=True)
class Pair:
    """What is scored.

    Attributes
    ----------
    synthetic : Volume
        A result of MRSynth; its declared scale is used (1000 is 1).
    acquired : Volume
        The same contrast of the same head, on the same grid, in its own units; 0 where it was not measured.
    covered : ndarray of bool, shape (k, j, i)
        Where it was measured.
    source : Volume or None
        What the synthetic volume was made from, on the same grid, if it is still there.
    mask : Volume or None
        Brain, above 0, on any grid.
    """

    synthetic: Volume
    acquired: Volume
    covered: Mask
    source: Volume | None = None
    mask: Volume | None = None


@dataclass(frozen=True)
class PairScores:
    """What came of it.

    Attributes
    ----------
    scores : dict
        "paper": psnr (dB), ssim, slices; "brain": psnr (dB), ssim, mae and bias (of 1), voxels.
    scale : float
        The 99.5th percentile of the acquired volume's brain, by which it was divided, in its own units.
    region : {'mask', 'head', 'stripped'}
        What counted as brain: the mask; an estimate in a whole head; what is above 0 in both of a skull-stripped pair.
    difference : ndarray of int16, shape (k, j, i)
        Synthetic minus acquired, in output units (1000 is the 99.5th percentile of brain).
    """

    scores: dict[str, scores.Scores]
    scale: float
    region: str
    difference: NDArray[np.int16]


def score(pair: Pair) -> PairScores:
    """Score a pair; neither volume is fitted to the other.

    Raises
    ------
    InputError
        score-no-overlap; mask-...
    """
    region, brain, frame = _region(pair)
    if not (pair.acquired.voxels[brain] > 0).any():
        raise no_overlap(pair.acquired.name)
    scale = intensity.brain_scale(pair.acquired.voxels, brain)
    true = intensity.normalize(pair.acquired.voxels, scale)
    made = intensity.normalize(pair.synthetic.voxels, intensity.SCALE)
    full_true, full_made = (np.where(frame, array, 0) for array in (true, made))
    grid = pair.synthetic
    found = {
        "paper": scores.paper(full_true, full_made, brain, grid),
        "brain": scores.within(true, made, brain, scores.ssim_map(full_true, full_made, grid)),
    }
    difference = np.rint((full_made - full_true) * intensity.SCALE).astype(np.int16)
    return PairScores(found, scale, region, difference)


def no_overlap(acquired: str) -> InputError:
    """The error of two volumes without a common brain."""
    return InputError(
        "score-no-overlap",
        f"'{acquired}' shows nothing where the synthetic volume's brain is.",
        "two volumes of one head, in the same place.",
    )


def _region(pair: Pair) -> tuple[str, Mask, Mask]:
    """Which rule of the protocol says what is brain, the brain, and what counts in full-frame scores."""
    if pair.mask is not None:
        brain = screening.brain_mask(pair.mask, pair.synthetic) & pair.covered
        return "mask", brain, brain
    source = pair.source or pair.synthetic
    look = screening.look(source)
    if not look.skull_stripped:
        brain = look.brain & pair.covered
        return "head", brain, brain
    brain = look.foreground & (source.voxels > 0) & (pair.acquired.voxels > 0)  # 0 where it is not covered
    both = screening.look(pair.acquired).skull_stripped
    return "stripped", brain, pair.covered if both else brain


def write(pair: Pair, folder: Path) -> None:
    """Leave a pair in a folder.

    Raises
    ------
    OutputError
        output-full, output-not-writable.
    """
    arrays: dict[str, Any] = {
        "synthetic": pair.synthetic.voxels,
        "ijk_to_ras": pair.synthetic.ijk_to_ras,
        "acquired": pair.acquired.voxels,
        "name": pair.acquired.name,
        "covered": pair.covered,
    }
    if pair.source is not None:
        arrays["source"] = pair.source.voxels
    if pair.mask is not None:
        arrays |= {"mask": pair.mask.voxels, "mask_to_ras": pair.mask.ijk_to_ras}
    with write_aside(folder / PAIR) as aside:
        np.savez(aside, **arrays)


def read(folder: Path) -> Pair:
    """The pair that `write` left in a folder."""
    with np.load(folder / PAIR, allow_pickle=False) as arrays:
        synthetic = Volume(arrays["synthetic"], arrays["ijk_to_ras"])
        return Pair(
            synthetic,
            Volume(arrays["acquired"], synthetic.ijk_to_ras, name=str(arrays["name"])),
            arrays["covered"],
            synthetic.replaced(arrays["source"]) if "source" in arrays else None,
            Volume(arrays["mask"], arrays["mask_to_ras"]) if "mask" in arrays else None,
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Score the pair in a folder, print the scores, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m MRSynthLib.engine.score_pair", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="with the pair")
    parser.add_argument("--end-with", type=int, metavar="PID", help="stop when this process ends; remove a run folder")
    arguments = parser.parse_args(argv)
    folder: Path = arguments.folder

    def scored() -> dict[str, Any]:
        orphaned = None
        if arguments.end_with is not None:
            orphaned = end_with(arguments.end_with, last=lambda: remove_run_folder(folder))
        try:
            found = score(read(folder))
            with write_aside(folder / DIFFERENCE) as aside:
                np.save(aside, found.difference, allow_pickle=False)
        finally:
            if orphaned is not None and orphaned.is_set():  # nobody else would
                remove_run_folder(folder)
        return {"scores": found.scores, "scale": found.scale, "region": found.region}

    return answer(scored)


if __name__ == "__main__":
    sys.exit(main())
