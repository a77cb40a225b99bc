"""Differences between models, paired per subject: Wilcoxon's signed-rank test, Holm's correction, bootstrap interval.

The subject is the unit, never the slice or the voxel: slices of one subject are not independent, and counting them
as if they were makes every difference significant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 10_000
EXACT = 50  # pairs; SciPy's own choice of the method depends on its version
LEAST_FOR_SIGNIFICANCE = 6  # pairs; with five, the smallest two-sided p of the signed-rank test is 0.0625


@dataclass(frozen=True)
class Difference:
    """How much one model scores above another, over the subjects that both were scored on.

    Attributes
    ----------
    subjects : int
    mean, median : float
        Of first - second.
    low, high : float
        Bootstrap 95 % interval of the mean.
    p : float
        Wilcoxon signed-rank, two-sided, not corrected.
    """

    subjects: int
    mean: float
    median: float
    low: float
    high: float
    p: float


def paired(first: Sequence[float], second: Sequence[float], seed: int = 0) -> Difference:
    """Compare two models' scores of the same subjects, in the same order.

    Raises
    ------
    ValueError
        If the lengths differ, or there is no subject.
    """
    if len(first) != len(second) or not len(first):
        raise ValueError(f"{len(first)} and {len(second)} scores; expected as many of both, at least one")
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    low, high = bootstrap_interval(differences, seed)
    return Difference(
        subjects=len(differences),
        mean=float(differences.mean()),
        median=float(np.median(differences)),
        low=low,
        high=high,
        p=signed_rank_p(differences),
    )


def signed_rank_p(differences: NDArray[np.float64]) -> float:
    """Two-sided p of Wilcoxon's signed-rank test; pairs without difference are left out (Wilcoxon 1945).

    Up to 50 pairs, exact: over all signs of the ranks, of which tied ones have their mean. More, by the normal
    approximation. 1.0 where no pair differs.
    """
    differences = differences[differences != 0]
    if not differences.size:
        return 1.0
    if len(differences) > EXACT:
        return float(stats.wilcoxon(differences, method="approx").pvalue)
    ranks = np.rint(2 * stats.rankdata(np.abs(differences))).astype(int)  # twice, so that they are whole
    chances = np.ones(1)  # of every sum of the ranks above 0
    for rank in ranks:
        chances = (np.pad(chances, (0, rank)) + np.pad(chances, (rank, 0))) / 2
    seen = int(ranks[differences > 0].sum())
    return float(min(1.0, 2 * min(chances[: seen + 1].sum(), chances[seen:].sum())))


def holm(p_values: Sequence[float]) -> list[float]:
    """P values corrected for their number by Holm's step-down rule (Holm 1979), in the order given."""
    order = np.argsort(p_values, kind="stable")
    corrected = np.empty(len(p_values))
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return [float(p) for p in corrected]


def bootstrap_interval(values: Sequence[float] | NDArray[np.float64], seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean over subjects: the percentiles of 10,000 resamples with replacement (Efron 1979)."""
    array = np.asarray(values, dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(array), size=(RESAMPLES, len(array)))
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(array[drawn].mean(axis=1), (tail, 100 - tail))
    return float(low), float(high)
