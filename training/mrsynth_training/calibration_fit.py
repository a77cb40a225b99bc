"""The fit of a reliability map: a regression of the error's size, its level, and conformal quantiles of the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mrsynth_training.calibration_data import COLUMNS, Residuals
from mrsynth_training.calibration_scores import conformal_quantile
from MRSynthLib.engine.reliability import (
    PRIORS,
    TISSUES,
    Direction,
    Regression,
    sharpness,
    texture_sums,
    with_priors,
)
from MRSynthLib.engine.reliability_features import NAMES
from MRSynthLib.engine.reliability_level import Level
from MRSynthLib.engine.reliability_priors import Prior

LEVEL = 0.9
PER_VOLUME = 4000
STEPS = 30
RIDGE = 0.3  # on standardised features: patients are few
SHRINK = 0.005  # variance of the cycle error's logarithm, as if added between volumes: volumes are few
FLOOR = 0.004  # added to errors, so that voxels right by chance do not rule the logarithm
OUTER = 0.5  # percent of voxels at either end of a feature that are clipped
LIMITS = {"intensity": (1.0, 1.0), "texture": (0.3, 0.3)}  # of the priors' tables
NODES = (9, 9)
Values = NDArray[np.float32]


def priors(tables: Sequence[Residuals]) -> dict[str, Prior]:
    """What the target ought to be like by the source, from the references of all volumes, each counting the same."""
    parts = [_drawn(table, 0, lesion=False) for table in tables]
    chosen = [table.features[index] for table, index in zip(tables, parts, strict=True)]
    weight = np.concatenate([np.full(len(index), 1 / len(index)) for index in parts])
    truth = {
        "intensity": np.concatenate([table.reference[index] for table, index in zip(tables, parts, strict=True)]),
        "texture": np.concatenate([table.reference_texture[index] for table, index in zip(tables, parts, strict=True)]),
    }
    measured = np.concatenate(chosen)
    return {
        name: Prior.of(measured[:, NAMES.index(given)], truth[name], weight, LIMITS[name], NODES)
        for name, (given, _) in PRIORS.items()
    }


def regression(tables: Sequence[Residuals], known: Mapping[str, Prior], *, seed: int = 0) -> tuple[Regression, Level]:
    """Fit the expected absolute error, and how it goes with a volume's cycle error.

    Likelihood of a Laplace distribution, whose scale is the expected absolute error, with an offset for each volume:
    how bright a scanner makes the target is unknown, moves whole volumes, and is not what features can tell. The
    offsets are what the level is fitted to. Each volume counts the same. Fisher scoring, whose matrix is the same in
    every step.

    Parameters
    ----------
    tables : sequence of Residuals
        Of one direction.
    known : mapping
        The priors.
    seed : int
        Of the draw of voxels.
    """
    parts = [_drawn(table, seed) for table in tables]
    raw = np.concatenate([table.features[index] for table, index in zip(tables, parts, strict=True)])
    measured = with_priors(raw, known)
    error = np.concatenate([table.error[index] for table, index in zip(tables, parts, strict=True)]).astype(np.float64)
    weight = np.concatenate([np.full(len(index), 1 / len(index)) for index in parts]) / len(parts)
    volume = np.repeat(np.eye(len(parts)), [len(index) for index in parts], axis=0)
    low, high = np.percentile(measured, [OUTER, 100 - OUTER], axis=0)
    clipped = np.clip(measured, low, high).astype(np.float64)
    mean, spread = clipped.mean(axis=0), clipped.std(axis=0) + 1e-6
    design = np.column_stack([(clipped - mean) / spread, volume])
    count = clipped.shape[1]
    penalty = np.diag([RIDGE] * count + [0.0] * len(parts))
    matrix = design.T @ (weight[:, None] * design) + penalty
    solution = np.concatenate([np.zeros(count), np.full(len(parts), np.log(error.mean() + FLOOR))])
    for _ in range(STEPS):
        ratio = (error + FLOOR) * np.exp(-(design @ solution))
        step = np.linalg.solve(matrix, design.T @ (weight * (ratio - 1)) - penalty @ solution)
        solution += step / max(1.0, float(np.abs(step).max()))
    weights = solution[:count] / spread
    bias = float(solution[count:].mean() - mean @ weights)
    fitted = Regression(low.astype(np.float32), high.astype(np.float32), weights.astype(np.float32), bias)
    level = _level(tables, solution[count:])
    # The mean of the map is to be the mean error: the offsets of volumes are symmetric in the logarithm only.
    factors = np.repeat([level(table.about["cycle"]) for table in tables], [len(index) for index in parts])
    gain = np.log(float((weight * error).sum()) / float((weight * factors * fitted(measured)).sum()))
    return Regression(fitted.low, fitted.high, fitted.weights, bias + float(gain)), level


def _level(tables: Sequence[Residuals], offsets: NDArray[np.float64]) -> Level:
    """The power of the cycle error that the volumes' offsets go with, by ridge regression; never below 0."""
    cycle = np.log([table.about["cycle"] for table in tables])
    apart = cycle - cycle.mean()
    power = float(np.mean(apart * (offsets - offsets.mean())) / (cycle.var() + SHRINK))
    seen = float(np.exp(cycle.min())), float(np.exp(cycle.max()))
    return Level(float(np.exp(cycle.mean())), max(power, 0.0), seen)


def _drawn(table: Residuals, seed: int, *, lesion: bool = True) -> NDArray[np.intp]:
    """Some voxels drawn from the brain and, where wanted, all that were added from the lesion."""
    drawn = np.flatnonzero(table.drawn)
    some = np.random.default_rng(seed).permutation(drawn)[:PER_VOLUME]
    return np.concatenate([some, np.flatnonzero(~table.drawn)]) if lesion else some


def quantiles(tables: Sequence[Residuals], expected: Sequence[Values], level: float = LEVEL) -> dict[str, float]:
    """Half the width of the interval over the expected error, for each tissue class, by conformal prediction.

    The scores of all volumes are pooled so that each volume counts the same.
    """
    scores = [table.error / values for table, values in zip(tables, expected, strict=True)]
    found = {}
    for number, name in enumerate(TISSUES):
        chosen = [table.drawn & (table.tissue == number) for table in tables]
        parts = [score[mask] for score, mask in zip(scores, chosen, strict=True) if mask.any()]
        weights = [np.full(len(part), 1 / len(part)) for part in parts]
        found[name] = conformal_quantile(np.concatenate(parts), level, np.concatenate(weights)) if parts else np.inf
    return found


def calibrate(tables: Sequence[Residuals]) -> Direction:
    """Fit priors, regression and quantiles of one direction.

    The scores of each volume for the quantiles are from a regression that was fitted to the other patients, as the
    unseen volume's will be (cross-conformal prediction, Vovk 2015); with one patient, to itself.
    """
    patients = sorted({table.about["patient"] for table in tables})
    expected: dict[int, Values] = {}
    for patient in patients:
        rest = [table for table in tables if table.about["patient"] != patient] or tables
        predict = _predictor(rest)
        expected |= {id(table): predict(table) for table in tables if table.about["patient"] == patient}
    known = priors(tables)
    fitted, level = regression(tables, known)
    seen = [sharpness(texture_sums(table.features, table.drawn)) for table in tables]
    widths = quantiles(tables, [expected[id(table)] for table in tables])
    return Direction(known, fitted, widths, (min(seen), max(seen)), level)


def _predictor(tables: Sequence[Residuals]) -> Callable[[Residuals], Values]:
    known = priors(tables)
    fitted, level = regression(tables, known)
    direction = Direction(known, fitted, {}, (1.0, 1.0), level)
    return lambda table: direction.expected(table.features, table.about["cycle"])


def half_width(direction: Direction, table: Residuals) -> Values:
    """Half the width of the interval for the voxels of a table."""
    factors = np.array([direction.quantiles[name] for name in TISSUES], dtype=np.float32)
    return direction.expected(table.features, table.about["cycle"]) * factors[table.tissue]


def fitted_to_itself(table: Residuals) -> Values:
    """Expected error by a fit to the volume's own true error, each half of the slices by the other half.

    What these features can tell at most: the scanner, which a map does not know, is known to this one.
    """
    _, number = np.unique(table.place[:, 0], return_inverse=True)
    half = number % 2 == 0
    expected = np.empty(len(half), dtype=np.float32)
    for known, asked in ((half, ~half), (~half, half)):
        columns = {name: getattr(table, name)[known] for name in COLUMNS}
        expected[asked] = _predictor([replace(table, candidates={}, **columns)])(
            replace(table, features=table.features[asked])
        )
    return expected
