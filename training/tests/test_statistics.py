"""Paired statistics against literal implementations, published examples and exhaustive enumeration."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import wilcoxon

from mrsynth_training import statistics


def literal_signed_rank_p(differences):
    """Two-sided p by all 2^n signs of the ranks."""
    differences = np.array([d for d in differences if d])
    sizes = np.abs(differences)
    ranks = np.array([((sizes < s).sum() + (sizes <= s).sum() + 1) / 2 for s in sizes])  # tied ones: their mean
    seen = abs(ranks[differences > 0].sum() - ranks[differences < 0].sum())
    all_signs = (abs(np.dot(signs, ranks)) for signs in product((-1, 1), repeat=len(ranks)))
    return np.mean([value >= seen for value in all_signs])


@pytest.mark.parametrize("seed", range(5))
def test_signed_rank_counts_all_signs(seed):
    rng = np.random.default_rng(seed)
    differences = rng.normal(0.4, 1, size=9)
    assert statistics.signed_rank_p(differences) == pytest.approx(literal_signed_rank_p(differences))


def test_ties_are_exact_and_many_pairs_are_near_the_normal_approximation():
    assert statistics.signed_rank_p(np.array([1, 1, 2, 3, 4, 5, -1.0])) == 0.0625
    for seed in range(5):
        differences = np.random.default_rng(seed).integers(-2, 5, size=10).astype(float)
        assert statistics.signed_rank_p(differences) == pytest.approx(literal_signed_rank_p(differences))
    differences = np.random.default_rng(1).normal(0.3, 1, size=51)
    assert statistics.signed_rank_p(differences[:50]) == pytest.approx(
        wilcoxon(differences[:50], method="exact").pvalue
    )
    assert statistics.signed_rank_p(differences) == pytest.approx(wilcoxon(differences, method="approx").pvalue)
    exact = wilcoxon(differences, method="exact").pvalue
    assert statistics.signed_rank_p(differences) == pytest.approx(exact, rel=0.1)


def test_pairs_without_difference_are_left_out():
    differences = np.array([0.3, -0.1, 0.0, 0.7, 1.1, 0.0, 0.9])
    assert statistics.signed_rank_p(differences) == pytest.approx(literal_signed_rank_p(differences))
    assert statistics.signed_rank_p(np.zeros(8)) == 1.0


def test_five_subjects_cannot_be_significant_and_six_can():
    least = statistics.LEAST_FOR_SIGNIFICANCE
    assert statistics.signed_rank_p(np.arange(1.0, least)) > 0.05
    assert statistics.signed_rank_p(np.arange(1.0, least + 1)) < 0.05


def test_holm_steps_down_and_never_decreases():
    # 0.01 x 4; 0.03 x 3 = 0.09; 0.04 x 2 = 0.08, raised to 0.09; 0.05 x 1, raised to 0.09. In the order given.
    assert statistics.holm([0.04, 0.01, 0.05, 0.03]) == pytest.approx([0.09, 0.04, 0.09, 0.09])
    assert statistics.holm([0.9, 0.8]) == [1.0, 1.0]
    assert statistics.holm([0.02]) == [0.02]
    assert statistics.holm([]) == []


def test_bootstrap_interval_is_that_of_the_mean():
    values = np.random.default_rng(1).normal(3, 2, size=200)
    low, high = statistics.bootstrap_interval(values, seed=4)
    standard_error = values.std(ddof=1) / np.sqrt(len(values))
    assert low == pytest.approx(values.mean() - 1.96 * standard_error, abs=0.1 * standard_error)
    assert high == pytest.approx(values.mean() + 1.96 * standard_error, abs=0.1 * standard_error)
    assert statistics.bootstrap_interval(values, seed=4) == (low, high)
    assert statistics.bootstrap_interval([2.0, 2.0]) == (2, 2)


def test_difference_is_first_minus_second_and_paired():
    first, second = [20.0, 25.0, 30.0, 22.0], [19.0, 24.0, 29.0, 21.5]
    difference = statistics.paired(first, second)
    assert (difference.subjects, difference.mean, difference.median) == (4, 0.875, 1.0)
    assert 0 < difference.low <= 0.875 <= difference.high <= 1
    assert difference.p == 0.125  # all four above; unpaired, the spread of the subjects would drown it
    with pytest.raises(ValueError, match="4 and 3"):
        statistics.paired(first, second[:3])
    with pytest.raises(ValueError, match="at least one"):
        statistics.paired([], [])
