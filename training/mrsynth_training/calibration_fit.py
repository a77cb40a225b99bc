"""The fit of a reliability map: a small regression of the error's size, and conformal quantiles of what it leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from mrsynth_training.calibration_data import Residuals
from mrsynth_training.calibration_scores import conformal_quantile
from MRSynthLib.engine.reliability import PRIORS, TISSUES, Direction, Regression, with_priors
from MRSynthLib.engine.reliability_features import NAMES
from MRSynthLib.engine.reliability_priors import Prior

LEVEL = 0.9
UNITS = 10  # hidden; 0 for a linear regression of the logarithm
PER_VOLUME = 6000
STEPS, RATE, DECAY = 400, 0.03, 1e-3
FLOOR = 0.004  # added to errors, so that voxels right by chance do not rule the logarithm
OUTER = 0.5  # percent of voxels at either end of a feature that are clipped
LIMITS = {"intensity": (1.0, 1.0), "texture": (0.3, 0.3)}  # of the priors' tables
NODES = (9, 9)
Values = NDArray[np.float32]


def priors(tables: Sequence[Residuals]) -> dict[str, Prior]:
    """What the target ought to be like by the source, from the references of all volumes, each counting the same."""
    chosen = [table.features[table.drawn] for table in tables]
    weight = np.concatenate([np.full(len(part), 1 / len(part)) for part in chosen])
    truth = {
        "intensity": np.concatenate([table.reference[table.drawn] for table in tables]),
        "texture": np.concatenate([table.reference_texture[table.drawn] for table in tables]),
    }
    measured = np.concatenate(chosen)
    return {
        name: Prior.of(measured[:, NAMES.index(given)], truth[name], weight, LIMITS[name], NODES)
        for name, (given, _) in PRIORS.items()
    }


def regression(
    tables: Sequence[Residuals], known: Mapping[str, Prior], *, units: int = UNITS, seed: int = 0
) -> Regression:
    """Fit the expected absolute error.

    Likelihood of a Laplace distribution, whose scale is the expected absolute error, with an offset for each volume:
    how bright a scanner makes the target is unknown, moves whole volumes, and is not what features can tell. Each
    volume counts the same.

    Parameters
    ----------
    tables : sequence of Residuals
        Of one direction.
    known : mapping
        The priors.
    units : int
        Of the hidden layer.
    seed : int
    """
    torch.manual_seed(seed)
    parts = [_drawn(table, seed) for table in tables]
    raw = np.concatenate([table.features[index] for table, index in zip(tables, parts, strict=True)])
    measured = with_priors(raw, known)
    error = np.concatenate([table.error[index] for table, index in zip(tables, parts, strict=True)])
    volume = np.repeat(np.arange(len(parts)), [len(index) for index in parts])
    weight = np.concatenate([np.full(len(index), 1 / len(index)) for index in parts]) / len(parts)
    low, high = np.percentile(measured, [OUTER, 100 - OUTER], axis=0)
    clipped = np.clip(measured, low, high)
    mean, spread = clipped.mean(axis=0), clipped.std(axis=0) + 1e-6
    x, e, w = (torch.tensor(array, dtype=torch.float32) for array in ((clipped - mean) / spread, error + FLOOR, weight))
    v = torch.tensor(volume)
    first, second = torch.nn.Linear(x.shape[1], units), torch.nn.Linear(units, 1)
    torch.nn.init.constant_(second.bias, float(np.log(error.mean() + FLOOR)))
    offsets = torch.zeros(len(parts), requires_grad=True)
    optimiser = torch.optim.AdamW([*first.parameters(), *second.parameters(), offsets], lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        scale = second(torch.tanh(first(x)))[:, 0] + (offsets - offsets.mean())[v]
        loss = (w * (scale + e * torch.exp(-scale))).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    hidden, bias, weights = (t.detach().double().numpy() for t in (first.weight, first.bias, second.weight[0]))
    fitted = Regression(
        low.astype(np.float32),
        high.astype(np.float32),
        (hidden / spread).astype(np.float32),
        (bias - hidden @ (mean / spread)).astype(np.float32),
        weights.astype(np.float32),
        float(second.bias.detach()),
    )
    # The mean of the map is to be the mean error: the offsets of volumes are symmetric in the logarithm only.
    gain = np.log(float((weight * error).sum()) / float((weight * fitted(measured)).sum()))
    return Regression(fitted.low, fitted.high, fitted.hidden, fitted.hidden_bias, fitted.weights, fitted.bias + gain)


def _drawn(table: Residuals, seed: int) -> NDArray[np.intp]:
    """Some voxels drawn from the brain, and all that were added from the lesion."""
    drawn = np.flatnonzero(table.drawn)
    some = np.random.default_rng(seed).permutation(drawn)[:PER_VOLUME]
    return np.concatenate([some, np.flatnonzero(~table.drawn)])


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


def calibrate(tables: Sequence[Residuals], *, units: int = UNITS) -> Direction:
    """Fit priors, regression and quantiles of one direction."""
    known = priors(tables)
    fitted = regression(tables, known, units=units)
    expected = [fitted(with_priors(table.features, known)) for table in tables]
    return Direction(known, fitted, quantiles(tables, expected))


def half_width(direction: Direction, table: Residuals) -> Values:
    """Half the width of the interval for the voxels of a table."""
    factors = np.array([direction.quantiles[name] for name in TISSUES], dtype=np.float32)
    return direction.expected(table.features) * factors[table.tissue]
