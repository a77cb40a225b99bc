"""The learned part of screening: mean outlines and greys, the direction of upright outlines, and how contrast is told.

Every group (patient) weighs the same, whatever it has in volumes and variants.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from MRSynthLib.engine.screening_contrast import Brain, brain_of
from MRSynthLib.engine.screening_copy import Copy
from MRSynthLib.engine.screening_field import flattened
from MRSynthLib.engine.screening_model import CLASSES, KINDS, Model
from MRSynthLib.engine.screening_pose import AS_SAID, laid, normalised

Array = NDArray[np.floating]

ROUNDS = 3  # of finding where a head lies along superior, and the mean of all so laid
RIDGE = 3.0  # on the scatter of outlines, over its mean variance
DECAY = 0.03  # of the regression's weights
STEPS = 400


@dataclass(frozen=True, eq=False)
class Sample:
    """A volume that is known, the right way up.

    Attributes
    ----------
    group : str
        Of whom it is; left out together.
    contrast : str
        't1', 't2', 'flair', 'pd' or 't1c'.
    outline, grey : ndarray (24, shifts, N)
        See `screening_pose.laid`.
    brain : screening_contrast.Brain or None
    skull_stripped : bool
    """

    group: str
    contrast: str
    outline: Array
    grey: Array
    brain: Brain | None
    skull_stripped: bool


def sample(group: str, contrast: str, copy: Copy) -> Sample:
    """What fitting needs of a volume."""
    depth = copy.depth()
    level, flat = (flattened(copy, depth, order)[0] for order in (1, 2))
    outline, grey = (np.asarray(array, np.float16) for array in laid(copy))
    return Sample(group, contrast, outline, grey, brain_of(level, flat, depth), copy.skull_stripped)


def fitted(samples: Sequence[Sample]) -> Model:
    """The model of these samples."""
    outline: dict[str, Array] = {}
    grey: dict[tuple[str, str], Array] = {}
    for stripped, kind in KINDS.items():
        known = [each for each in samples if each.skull_stripped == stripped]
        if not known:
            continue
        shifts = [each.outline.shape[1] // 2 for each in known]
        for _ in range(ROUNDS):
            mean = _mean((e, e.outline[AS_SAID, shift]) for e, shift in zip(known, shifts, strict=True))
            shifts = [int(np.argmax(each.outline[AS_SAID].astype(np.float32) @ mean)) for each in known]
        outline[kind] = mean
        for name in CLASSES:
            alike = [(e, e.grey[AS_SAID, s]) for e, s in zip(known, shifts, strict=True) if _class(e.contrast) == name]
            if alike:
                grey[kind, name] = _mean(alike)
    return Model(outline, grey, _upright(samples, outline), *_regression(samples))


def _class(contrast: str) -> str:
    return "t1" if contrast == "t1c" else contrast


def _mean(vectors: Iterable[tuple[Sample, Array]]) -> Array:
    """Mean of the groups' means, of length 1."""
    groups: dict[str, list[Array]] = {}
    for each, vector in vectors:
        groups.setdefault(each.group, []).append(vector.astype(np.float32))
    return normalised(np.mean([np.mean(members, axis=0) for members in groups.values()], axis=0))


def _upright(samples: Sequence[Sample], outline: dict[str, Array]) -> Array:
    """Fisher's direction: the mean difference of the right way from all others, over its scatter.

    Scaled so that the mean difference along it is 1.
    """
    differences, weights = [], []
    counts = _counts(samples)
    for each in samples:
        fits = each.outline.astype(np.float32) @ outline[KINDS[each.skull_stripped]]
        best = each.outline[np.arange(len(fits)), fits.argmax(axis=1)].astype(np.float32)
        differences.append(best[AS_SAID] - np.delete(best, AS_SAID, axis=0))
        weights.append(np.full(len(fits) - 1, 1 / counts[each.group]))
    rows, weight = np.concatenate(differences), np.concatenate(weights)
    weight = (weight / weight.sum()).astype(np.float32)
    mean = weight @ rows
    scatter = (rows * weight[:, None]).T @ rows
    scatter[np.diag_indices_from(scatter)] += RIDGE * np.trace(scatter) / len(mean)
    direction = np.linalg.solve(scatter, mean)
    return np.asarray(direction / (mean @ direction), np.float32)


def _counts(samples: Sequence[Sample]) -> dict[str, int]:
    return {group: sum(each.group == group for each in samples) for group in {each.group for each in samples}}


def _regression(samples: Sequence[Sample]) -> tuple[Array, Array, Array]:
    """Centre, width and weights of the multinomial regression of contrast; all classes of all groups weigh the same."""
    known = [each for each in samples if each.brain is not None and _class(each.contrast) in CLASSES]
    numbers = np.array([each.brain.numbers() for each in known if each.brain], np.float64)
    centre, width = numbers.mean(axis=0), numbers.std(axis=0) + 1e-6
    terms = np.c_[np.clip((numbers - centre) / width, -4, 4), np.ones(len(known))]
    keys = [(each.group, _class(each.contrast)) for each in known]
    weight = np.array([1 / keys.count(key) for key in keys])
    weight /= weight.sum()
    wanted = np.eye(len(CLASSES))[[CLASSES.index(name) for _, name in keys]]
    weights = np.zeros((terms.shape[1], len(CLASSES)))
    decay = DECAY * np.append(np.ones(numbers.shape[1]), 0)[:, None]
    speed = np.zeros_like(weights)
    for _ in range(STEPS):
        scores = terms @ weights
        likely = np.exp(scores - scores.max(axis=1, keepdims=True))
        likely /= likely.sum(axis=1, keepdims=True)
        speed = 0.9 * speed - 0.3 * (terms.T @ ((likely - wanted) * weight[:, None]) + decay * weights)
        weights += speed
    return tuple(np.asarray(array, np.float32) for array in (centre, width, weights))  # type: ignore[return-value]
