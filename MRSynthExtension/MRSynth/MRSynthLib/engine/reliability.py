"""How far off a synthetic volume is expected to be, voxel by voxel, and within what it lies with 90 % confidence.

The expected absolute error is a small regression on what `reliability_features` measures, times the level of the whole
volume (`reliability_level`); the interval is a multiple of it, found by conformal prediction for each tissue class. All
were fitted to volumes that the generator had not seen, by ``mrsynth-train calibrate``, and travel in the checkpoint's
card under ``reliability``. See docs/trust.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import intensity
from .errors import ModelError
from .preparation import Prepared
from .reliability_features import FIRST, NAMES, Slices, beside, features
from .reliability_level import Level
from .reliability_priors import Prior

TISSUES = ("csf", "grey", "white")
# Priors, with the two features each looks at; their values are further features.
PRIORS = {"intensity": ("source", "synthetic"), "texture": ("source_texture", "synthetic_texture")}
LAST = tuple(f"{name}_prior" for name in PRIORS)
FEATURES = (*NAMES, *LAST)
VERSION = 1
UNUSUAL = 1.15  # times outside of what the calibration has seen, a result is doubted as a whole
CHUNK = 8  # slices at a time, for the memory's sake
ROUNDS, BINS = 30, 256  # of the clustering of tissue
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Regression:
    """Expected absolute error from features: linear, for the logarithm.

    Attributes
    ----------
    low, high : ndarray, shape (features,)
        The features are clipped to what the calibration has seen. Where a prior is above that, the expected error
        grows in proportion.
    weights : ndarray, shape (features,)
    bias : float
    """

    low: Array
    high: Array
    weights: Array
    bias: float

    def __call__(self, measured: Array) -> Array:
        """Expected absolute error, shape (n,), of features of shape (n, features); the synthetic's 1.0 is 1."""
        logarithm = np.clip(measured, self.low, self.high) @ self.weights + np.float32(self.bias)
        excess = np.maximum(measured[:, -len(PRIORS) :] / self.high[-len(PRIORS) :], 1).prod(axis=1)
        return np.asarray(np.exp(logarithm) * excess, dtype=np.float32)

    @classmethod
    def from_card(cls, entry: Mapping[str, Any], count: int) -> Regression:
        """The regression on `count` features as the card has it; ValueError, KeyError or TypeError where it is none."""
        low, high, weights = (np.asarray(entry[name], dtype=np.float32) for name in ("low", "high", "weights"))
        shapes = [low.shape, high.shape, weights.shape]
        if shapes != [(count,)] * 3:
            raise ValueError(f"the regression has shapes {shapes}")
        bias = float(entry["bias"])
        if not all(np.isfinite(numbers).all() for numbers in (low, high, weights, bias)):
            raise ValueError("the regression has numbers that are not finite")
        if not (high[-len(PRIORS) :] > 0).all():
            raise ValueError("the regression has priors that are never above 0")
        return cls(low, high, weights, bias)

    def to_card(self) -> dict[str, Any]:
        """The same for a card, with seven digits."""
        arrays = {name: getattr(self, name) for name in ("low", "high", "weights")}
        rounded = {name: _rounded(array.tolist()) for name, array in arrays.items()}
        return {**rounded, "bias": _rounded(float(self.bias))}


@dataclass(frozen=True)
class Direction:
    """The calibration of one direction of synthesis.

    Attributes
    ----------
    priors : mapping
        For each of `PRIORS`.
    regression : Regression
    quantiles : mapping
        For each of `TISSUES`, half the width of the interval over the expected error.
    sharpness : tuple of 2 float
        Between what values `sharpness` was in the volumes of the calibration.
    level : Level or None
        None in calibrations of the first kind.
    names : tuple of str
        Of the features that the regression looks at, beside the priors: `NAMES`, or the first of them.
    """

    priors: Mapping[str, Prior]
    regression: Regression
    quantiles: Mapping[str, float]
    sharpness: tuple[float, float]
    level: Level | None = None
    names: tuple[str, ...] = NAMES

    def expected(self, measured: Array, cycle: float | None = None) -> Array:
        """Expected absolute error, shape (n,).

        Parameters
        ----------
        measured : ndarray, shape (n, len(names))
            By `features`.
        cycle : float, optional
            Cycle error of the whole volume, by `reliability_level.cycle_error`.
        """
        factor = self.level(cycle) if self.level else 1.0
        return self.regression(with_priors(measured, self.priors)) * np.float32(factor)

    def maps(
        self, prepared: Prepared, synthetic: Array, cycle: float | None = None
    ) -> tuple[NDArray[np.int16], NDArray[np.int16], str]:
        """Expected absolute error and half the width of the interval, on the volume's grid in output units.

        What speaks against the result as a whole comes with them, as a sentence or "".

        Parameters
        ----------
        prepared : Prepared
            In axial slices.
        synthetic : ndarray, shape (slices, rows, columns)
            What was made of its slices.
        cycle : float, optional
            Cycle error of the whole volume; without it, the volume is taken for one like those of the calibration.
        """
        expected, half = np.zeros_like(synthetic), np.zeros_like(synthetic)
        slices = slices_of(prepared, synthetic)
        bounds = tissue_bounds(prepared, synthetic)
        sums = np.zeros(2)
        factors = np.array([self.quantiles[name] for name in TISSUES], dtype=np.float32)
        for first in range(0, len(synthetic), CHUNK):
            chunk = slice(first, first + CHUNK)
            part = slices.part(chunk)
            if not part.inside.any():
                continue
            measured = features(part, self.names)
            errors = self.expected(measured, cycle)
            expected[chunk][part.inside] = errors
            sums += texture_sums(measured, prepared.sliced_brain[chunk][part.inside])
            half[chunk][part.inside] = errors * factors[tissue(prepared, part, bounds)]
        error_map, interval = (intensity.to_output(prepared.restored(each)) for each in (expected, half))
        return error_map, interval, self.doubt(sharpness(sums))

    def doubt(self, seen: float) -> str:
        """What speaks against a result of this sharpness; "" where nothing does."""
        low, high = self.sharpness[0] / UNUSUAL, self.sharpness[1] * UNUSUAL
        if low <= seen <= high:
            return ""
        what = "blurred" if seen < low else "noisy or doubled"
        return (
            f"The result looks {what}: its texture is {seen:.2f} times the source's, where the calibration has seen "
            f"{self.sharpness[0]:.2f} to {self.sharpness[1]:.2f}. The reliability map does not hold for it."
        )


def of_card(card: Mapping[str, Any], source: str, checkpoint: str) -> Direction:
    """The calibration of a checkpoint for synthesis from one contrast.

    Parameters
    ----------
    card : mapping
    source : {'t1', 't2'}
    checkpoint : str
        Its name.

    Raises
    ------
    ModelError
        model-reliability: the card has no calibration, or one that this MRSynth cannot use.
    """
    expected = "a checkpoint with a calibration under 'reliability' in its card."
    entry = card.get("reliability")
    if not entry:
        raise ModelError("model-reliability", f"The checkpoint '{checkpoint}' was not calibrated.", expected)
    try:
        names = tuple(entry["features"])[: -len(PRIORS)]
        if entry["version"] != VERSION or names not in (NAMES, FIRST) or tuple(entry["features"]) != (*names, *LAST):
            raise ValueError("it was made for another version of MRSynth")
        direction = entry["directions"][source]
        quantiles = {name: float(direction["quantiles"][name]) for name in TISSUES}
        if not all(0 < quantile < np.inf for quantile in quantiles.values()):
            raise ValueError(f"the quantiles are {quantiles}")
        priors = {name: Prior.from_card(direction["priors"][name]) for name in PRIORS}
        low, high = (float(value) for value in direction["sharpness"])
        if not 0 < low <= high < np.inf:
            raise ValueError(f"the sharpness is from {low} to {high}")
        regression = Regression.from_card(direction["regression"], len(names) + len(PRIORS))
        level = None if names == FIRST else Level.from_card(direction["level"])
        return Direction(priors, regression, quantiles, (low, high), level, names)
    except (KeyError, TypeError, ValueError) as error:
        seen = f"The calibration of the checkpoint '{checkpoint}' cannot be used: {error}."
        raise ModelError("model-reliability", seen, expected) from error


def with_priors(measured: Array, priors: Mapping[str, Prior]) -> Array:
    """Features and the priors' values, with a column for each of `PRIORS` after the others."""
    pairs = {name: (NAMES.index(given), NAMES.index(made)) for name, (given, made) in PRIORS.items()}
    values = [priors[name](measured[:, given], measured[:, made]) for name, (given, made) in pairs.items()]
    return np.column_stack([measured, *values])


def texture_sums(measured: Array, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Sums of the source's and the synthetic's texture over chosen rows of features, for `sharpness`."""
    columns = [NAMES.index("source_texture"), NAMES.index("synthetic_texture")]
    return np.asarray(measured[chosen][:, columns].sum(axis=0, dtype=np.float64))


def sharpness(sums: NDArray[np.float64]) -> float:
    """Texture of the synthetic over that of the source, in the brain: tells a blurred result."""
    return float(sums[1] / sums[0]) if sums[0] > 0 else 0.0


def doubts(planes: str, like: bool) -> tuple[str, ...]:
    """What speaks against a calibration, which is of axial passes on their own scale, in this run."""
    found = []
    if planes != "axial":
        found.append("The reliability map was calibrated for axial passes alone: with three planes it is a guide.")
    if like:
        found.append("The reliability map is of the result before it took the brightness of the reference.")
    return tuple(found)


def slices_of(prepared: Prepared, synthetic: Array) -> Slices:
    """The slices of a run, as `features` takes them."""
    inside = prepared.sliced_inside
    along, rows, columns = prepared.space.model_axes
    filled = np.flatnonzero(inside.any(axis=(1, 2)))
    top = int(filled[-1]) if filled.size else 0
    below = (top - np.arange(len(inside), dtype=np.float32)) * np.float32(along.spacing)
    pixel = rows.spacing, columns.spacing
    return Slices(prepared.slices, synthetic, inside, below, pixel, beside(prepared.slices, along.spacing))


def tissue_bounds(prepared: Prepared, synthetic: Array) -> NDArray[np.float64]:
    """The two T1 intensities between fluid, grey and white matter, by three-means clustering of the brain.

    The T1 is the source or the result, whichever it is. Slices that were not made do not count.
    """
    brain = prepared.sliced_brain & np.asarray(synthetic.any(axis=(1, 2)))[:, None, None]
    t1 = _t1(prepared, prepared.slices, synthetic)[brain]
    count, edges = np.histogram(t1, bins=BINS, range=(0, 1))
    return three_means(count, (edges[1:] + edges[:-1]) / 2)


def three_means(count: NDArray[np.integer], values: NDArray[np.floating]) -> NDArray[np.float64]:
    """The bounds between the clusters of a histogram: Lloyd's algorithm from the 10th, 40th and 80th percentile."""
    total = np.cumsum(count)
    start = np.searchsorted(total, np.array([0.1, 0.4, 0.8]) * total[-1])
    means = values[np.minimum(start, len(values) - 1)].astype(np.float64)
    for _ in range(ROUNDS):
        label = np.digitize(values, (means[1:] + means[:-1]) / 2)
        weight = np.bincount(label, weights=count, minlength=3)
        moved = np.bincount(label, weights=count * values, minlength=3)
        means = np.where(weight > 0, moved / np.maximum(weight, 1), means)
    return (means[1:] + means[:-1]) / 2


def tissue(prepared: Prepared, slices: Slices, bounds: NDArray[np.float64]) -> NDArray[np.int64]:
    """For every pixel inside, the index of its class in `TISSUES`, by what `tissue_bounds` found."""
    return np.digitize(_t1(prepared, slices.source, slices.synthetic)[slices.inside], bounds)


def _t1(prepared: Prepared, source: Array, synthetic: Array) -> Array:
    return source if prepared.contrast.name == "t1" else synthetic


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.7g}")
