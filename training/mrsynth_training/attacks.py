"""`mrsynth-train attack`: what a source that is not as it should be costs.

Every attack changes the source (and moves the truth with it, where it moves the head). The loss is the PSNR in the
brain of the result from the clean source, moved in the same way, less that of the result from the attacked one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrsynth_training.pairs import Pair
from MRSynthLib.engine import standard_space
from MRSynthLib.engine.standard_space import Axis
from MRSynthLib.engine.volume import Volume

NOISE = 0.10  # of the 99.5th percentile of brain, in both channels
THICK = 6.0  # mm
COARSE = 2.0  # mm
DEGREES = 20.0
EVERY = 8  # slices, of which one is zero
BIAS = 3.0  # brightest over darkest corner of the head

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Move = Callable[[Array], Array]


@dataclass(frozen=True, eq=False)
class Attacked:
    """A source after an attack.

    Attributes
    ----------
    source : Volume
    move : callable
        Takes an array (k, j, i) of the clean source's grid to that of the attacked one.
    scored : ndarray of bool
        Brain that is still in the source.
    """

    source: Volume
    move: Move
    scored: Mask


def _same(array: Array) -> Array:
    return array


def _changed(pair: Pair, voxels: NDArray[np.floating], scored: Mask | None = None) -> Attacked:
    return Attacked(pair.source.replaced(voxels.astype(np.float32)), _same, pair.brain if scored is None else scored)


def clean(pair: Pair, rng: np.random.Generator) -> Attacked:
    """Nothing at all."""
    return _changed(pair, pair.source.voxels)


def inverted(pair: Pair, rng: np.random.Generator) -> Attacked:
    """Bright is dark: what lies between 0 and the 99.5th percentile is turned over, 0 stays."""
    scale = _scale(pair)
    voxels = np.clip(pair.source.voxels.astype(np.float32), 0, scale)
    return _changed(pair, np.where(voxels > 0, np.maximum(scale - voxels, 1), 0))


def biased(pair: Pair, rng: np.random.Generator) -> Attacked:
    """A field that is three times as strong in one corner of the head as in the opposite one."""
    head = np.nonzero(pair.source.voxels > 0)
    along = np.zeros(pair.source.shape, np.float32)
    for axis, places in enumerate(head):
        shape = [1, 1, 1]
        shape[axis] = -1
        steps = (np.arange(pair.source.shape[axis], dtype=np.float32) - places.min()) / max(np.ptp(places), 1)
        along = along + steps.reshape(shape) / 3
    return _changed(pair, pair.source.voxels * np.float32(BIAS) ** (np.clip(along, 0, 1) - 0.5))


def noisy(pair: Pair, rng: np.random.Generator) -> Attacked:
    """Rician noise of a tenth of the brightest brain; background that is exactly 0 stays so."""
    source = pair.source.voxels.astype(np.float32)
    sigma = NOISE * _scale(pair)
    real, imaginary = (rng.normal(0, sigma, source.shape) for _ in range(2))
    return _changed(pair, np.where(source > 0, np.hypot(source + real, imaginary), source))


def thick(pair: Pair, rng: np.random.Generator) -> Attacked:
    """Slices of 6 mm, each the mean of what it replaces."""
    axis = standard_space.canonical_axes(pair.source.ijk_to_ras)[0][0]
    return _resampled(pair, [THICK if n == axis else step for n, step in enumerate(pair.source.spacing[::-1])])


def coarse(pair: Pair, rng: np.random.Generator) -> Attacked:
    """Voxels of 2 mm, where they are smaller."""
    return _resampled(pair, [max(COARSE, step) for step in pair.source.spacing[::-1]])


def _resampled(pair: Pair, spacing: Sequence[float]) -> Attacked:
    """The volume on voxels of these sizes along k, j, i, mm, with antialiasing."""
    before = [Axis(size, step) for size, step in zip(pair.source.shape, pair.source.spacing[::-1], strict=True)]
    after = []
    for axis, step in zip(before, spacing, strict=True):
        size = max(5, int(axis.size * axis.spacing / step))
        first = (axis.size - 1) * axis.spacing / 2 - (size - 1) * step / 2  # about the same middle
        after.append(Axis(size, step, first))
    weights = [standard_space.interpolation_weights(*both) for both in zip(before, after, strict=True)]

    def move(array: NDArray[Any]) -> Array:
        moved = np.asarray(array, np.float32)
        for axis, matrix in enumerate(weights):
            moved = np.moveaxis(np.tensordot(matrix, moved, axes=(1, axis)), 0, axis)
        return np.ascontiguousarray(np.maximum(moved, 0))

    k, j, i = ((new.start / old.spacing, new.spacing / old.spacing) for old, new in zip(before, after, strict=True))
    change = np.diag([i[1], j[1], k[1], 1.0])
    change[:3, 3] = [i[0], j[0], k[0]]
    source = Volume(move(pair.source.voxels), pair.source.ijk_to_ras @ change)
    return Attacked(source, move, move(pair.brain.astype(np.float32)) > 0.5)


def half(pair: Pair, rng: np.random.Generator) -> Attacked:
    """Only the left half is there; only that is scored."""
    space = standard_space.plan(pair.source, pair.brain, "native")
    middle = int(np.nonzero(space.canonical(pair.brain))[2].mean())
    kept = np.zeros(pair.source.shape, bool)
    space.canonical(kept)[..., middle:] = True
    return _changed(pair, pair.source.voxels * kept, pair.brain & kept)


def turned(pair: Pair, rng: np.random.Generator) -> Attacked:
    """The head lies turned by 20 degrees to one side."""
    return _rotated(pair, (1, 2))


def nodding(pair: Pair, rng: np.random.Generator) -> Attacked:
    """The head nods by 20 degrees, so that other slices are cut."""
    return _rotated(pair, (0, 1))


def _rotated(pair: Pair, plane: tuple[int, int]) -> Attacked:
    """Turned within a plane of the canonical axes (superior, posterior, left), about the brain's middle."""
    space = standard_space.plan(pair.source, pair.brain, "native")
    steps = np.array([axis.spacing for axis in space.input_axes])
    middle = np.array([places.mean() for places in np.nonzero(space.canonical(pair.brain))])
    turn = np.eye(3)
    first, second = plane
    sine, cosine = np.sin(np.radians(DEGREES)), np.cos(np.radians(DEGREES))
    turn[first, first] = turn[second, second] = cosine
    turn[first, second], turn[second, first] = -sine, sine
    matrix = turn * steps / steps[:, None]  # of samples, not of millimetres

    def move(array: NDArray[np.floating]) -> Array:
        result = np.zeros(array.shape, np.float32)
        offset = middle - matrix @ middle
        view = space.canonical(np.asarray(array, np.float32))
        space.canonical(result)[:] = ndimage.affine_transform(view, matrix, offset, order=1)
        return result

    return Attacked(pair.source.replaced(move(pair.source.voxels)), move, move(pair.brain.astype(np.float32)) > 0.5)


def holed(pair: Pair, rng: np.random.Generator) -> Attacked:
    """Every eighth slice is zero; the others are scored."""
    space = standard_space.plan(pair.source, pair.brain, "native")
    kept = np.ones(pair.source.shape, bool)
    space.canonical(kept)[EVERY // 2 :: EVERY] = False
    return _changed(pair, pair.source.voxels * kept, pair.brain & kept)


def _scale(pair: Pair) -> float:
    return float(np.percentile(pair.source.voxels[pair.brain], 99.5))


ATTACKS: dict[str, Callable[[Pair, np.random.Generator], Attacked]] = {
    "contrast inverted": inverted,
    "bias field x 3": biased,
    "noise 10 %": noisy,
    "slices of 6 mm": thick,
    "half a brain": half,
    "turned by 20 degrees": turned,
    "nodding by 20 degrees": nodding,
    "voxels of 2 mm": coarse,
    "every eighth slice zero": holed,
}
