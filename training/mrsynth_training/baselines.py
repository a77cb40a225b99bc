"""Three ways to make T2 of T1 without a network: what a generator has to beat to be worth having.

Each is a curve from the source's intensity to the target's, the same for every voxel of a volume, in units of the
scale that the engine declares (1.0 is the 99.5th percentile of brain). None sees the subject's own target.

`identity`
    The source itself.
`histogram matching`
    The source's own distribution of brain intensities is moved onto the training subjects' mean distribution of the
    target contrast, quantile by quantile (Nyúl & Udupa 1999 with 101 landmarks). It never turns dark into bright.
`voxel-wise regression`
    The training subjects' mean target intensity among all brain voxels of a given source intensity: the best that
    any map of single intensities can do in squared error.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrsynth_training import unseen
from mrsynth_training.errors import TrainingError
from mrsynth_training.pairs import Pair, load_pair
from mrsynth_training.preparation import Case
from MRSynthLib.engine import intensity
from MRSynthLib.engine.synthesis import CONTRASTS, other
from MRSynthLib.engine.writing import write_aside

NAMES = ("identity", "histogram matching", "voxel-wise regression")
LEVELS = np.linspace(0, 1, 101)  # quantiles
BINS = 64  # of source intensity
LEAST_VOXELS = 50  # in a bin over all training subjects; emptier ones are interpolated

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Training:
    """What the baselines learn from training subjects; all keys are contrasts.

    Attributes
    ----------
    subjects : tuple of str
    quantiles : dict of list of float
        Mean over subjects of the brain's quantiles at `LEVELS`.
    regression : dict of list of float
        By source contrast: mean target intensity in `BINS` equal bins of source intensity.
    """

    subjects: tuple[str, ...]
    quantiles: dict[str, list[float]]
    regression: dict[str, list[float]]


def fit(cases: Sequence[Case], jobs: int = 1) -> Training:
    """Learn from training subjects, each with the same weight.

    Raises
    ------
    TrainingError
        If there is none, or one cannot be read.
    """
    if not cases:
        raise TrainingError("no subject to fit the baselines to", "training subjects", "Give a folder that has some")
    if jobs > 1:
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            parts = list(pool.map(_observed, cases))
    else:
        parts = [_observed(case) for case in cases]
    regression = {}
    for contrast in CONTRASTS:
        counts = np.sum([part[contrast]["counts"] for part in parts], axis=0)
        shares = np.sum([part[contrast]["shares"] for part in parts], axis=0)
        sums = np.sum([part[contrast]["sums"] for part in parts], axis=0)
        good = counts >= min(LEAST_VOXELS, counts.max())
        means = sums[good] / shares[good]
        regression[contrast] = np.interp(_centres(), _centres()[good], means).tolist()
    return Training(
        subjects=tuple(case.subject for case in cases),
        quantiles={c: np.mean([part[c]["quantiles"] for part in parts], axis=0).tolist() for c in CONTRASTS},
        regression=regression,
    )


def _observed(case: Case) -> dict[str, dict[str, NDArray[Any]]]:
    """Quantiles of one subject's brain, and what the other contrast is like in each bin, per contrast."""
    pair = load_pair(case, "t1")
    images = {"t1": pair.unit_source()[pair.brain], "t2": pair.reference[pair.brain]}
    result: dict[str, dict[str, NDArray[Any]]] = {}
    for contrast, values in images.items():
        bins = np.minimum((values * BINS).astype(int), BINS - 1)
        counts = np.bincount(bins, minlength=BINS)
        sums = np.bincount(bins, images[other(contrast)], BINS)
        result[contrast] = {
            "quantiles": np.quantile(values, LEVELS),
            "counts": counts,
            "shares": counts / len(values),
            "sums": sums / len(values),
        }
    return result


def _centres() -> Array:
    return (np.arange(BINS) + 0.5) / BINS


@dataclass(frozen=True)
class Baseline:
    """One of `NAMES`; a candidate like a checkpoint."""

    name: str
    training: Training

    def about(self) -> dict[str, Any]:
        """What goes into the results in a checkpoint's place."""
        if self.name == "identity":
            return {"name": self.name, "weights_sha256": ""}
        learnt = json.dumps(asdict(self.training), sort_keys=True).encode()
        return {"name": self.name, "weights_sha256": hashlib.sha256(learnt).hexdigest()}

    def role(self, case: Case) -> str:
        """What a study is to it: "train" where it must not be judged by it, else "unseen"."""
        learnt_from = () if self.name == "identity" else self.training.subjects
        return unseen.role({"training_data": [{"subject": name, "role": "train"} for name in learnt_from]}, case)

    def synthesize(self, pair: Pair) -> tuple[NDArray[np.int16], dict[str, Any]]:
        """Synthetic volume of a pair's source, int16 (k, j, i) in the engine's units; background stays 0."""
        source = pair.unit_source()
        made = np.interp(source, *self.curve(pair.contrast, source[pair.brain]))
        return intensity.to_output(np.where(pair.source.voxels > 0, made, 0)), {}

    def curve(self, contrast: str, tissue: NDArray[Any]) -> tuple[Array, Array]:
        """Source intensities, rising, and what each becomes; straight lines between.

        Parameters
        ----------
        contrast : {"t1", "t2"}
            Of the source.
        tissue : ndarray
            The source's intensities in the brain.
        """
        if self.name == "identity":
            return np.array([0.0, 1.0]), np.array([0.0, 1.0])
        if self.name == "histogram matching":
            own, first = np.unique(np.quantile(tissue, LEVELS), return_index=True)
            return own, np.array(self.training.quantiles[other(contrast)])[first]
        return _centres(), np.array(self.training.regression[contrast])


def every(training: Training) -> list[Baseline]:
    """All three."""
    return [Baseline(name, training) for name in NAMES]


def write(training: Training, path: Path) -> None:
    """Keep what was learnt."""
    with write_aside(path) as aside:
        aside.write_text(json.dumps(asdict(training)), encoding="utf-8")


def read(path: Path) -> Training:
    """What `write` kept."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return Training(tuple(content["subjects"]), content["quantiles"], content["regression"])
