"""How good a reliability map is: rank correlation, sparsification, coverage and width of its interval."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

STEPS = 100  # shares of voxels at which the sparsification curves are compared
Values = NDArray[np.floating]


def spearman(first: Values, second: Values) -> float:
    """Rank correlation; 0 where one of the two does not vary."""
    ranks = [rankdata(values) for values in (first, second)]
    if min(np.ptp(rank) for rank in ranks) == 0:
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])


def sparsification(order_by: Values, error: Values) -> NDArray[np.float64]:
    """Mean error of what is left when the share 0, 1/STEPS, 2/STEPS ... of voxels is taken away, worst first.

    Parameters
    ----------
    order_by : ndarray, shape (n,)
        The map: voxels with the highest values go first. Ties are broken evenly: each gets the tie's mean error.
    error : ndarray, shape (n,)
        Absolute error.

    Returns
    -------
    ndarray, shape (STEPS,)
        Over the mean error of all, so that it begins with 1 (Ilg et al. 2018, section 4).
    """
    _, group, count = np.unique(order_by, return_inverse=True, return_counts=True)
    even = (np.bincount(group, weights=error) / count)[group]
    kept = np.cumsum(even[np.argsort(order_by, kind="stable")], dtype=np.float64)  # of the lowest 1, 2, ... voxels
    left = np.maximum(1, np.rint((1 - np.arange(STEPS) / STEPS) * len(error)).astype(int))
    return kept[left - 1] / left / max(float(error.mean()), np.finfo(float).tiny)


def ause(order_by: Values, error: Values) -> float:
    """Area between the sparsification curve of a map and that of the oracle, over that of a random order.

    0 is the oracle (the true error itself), 1 a map that says nothing, above 1 one that misleads.
    """
    oracle = sparsification(error, error)
    random = float(np.mean(1 - oracle))
    return float(np.mean(sparsification(order_by, error) - oracle)) / random if random > 0 else 0.0


def conformal_quantile(scores: Values, level: float, weights: Values | None = None) -> float:
    """The score that covers a share `level` of voxels, with the one unseen voxel counted against it.

    Split conformal prediction: with equal weights, the ceil((n + 1) level)-th smallest of n scores (Vovk et al. 2005);
    with weights as in Tibshirani et al. 2019, the unseen voxel having the mean weight.

    Parameters
    ----------
    scores : ndarray, shape (n,)
        Absolute error over expected error.
    level : float
    weights : ndarray, shape (n,), optional
        For example one over the number of voxels of the volume, so that each volume counts the same.

    Returns
    -------
    float
        Infinity where there are too few scores for the level.
    """
    if weights is None:
        weights = np.ones(len(scores))
    order = np.argsort(scores, kind="stable")
    total = np.cumsum(weights[order], dtype=np.float64)
    needed = level * (total[-1] + weights.mean()) if len(scores) else np.inf
    position = int(np.searchsorted(total, needed * (1 - 1e-12)))
    return float(scores[order[position]]) if position < len(scores) else float("inf")


def coverage(error: Values, half_width: Values) -> float:
    """Share of voxels whose error is within the interval."""
    return float(np.mean(error <= half_width)) if len(error) else float("nan")
