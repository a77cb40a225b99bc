"""Which way up does it lie? The outline and the grey of all 24 ways to lay it are compared with those of other heads.

The mirror image of a head is a head: left and right cannot be told apart, and 24 ways are left of 48.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .screening_copy import Array, Copy
from .screening_findings import Finding
from .screening_model import CLASSES, KINDS, Model, shipped

BLOCK = 3  # cells of the copy; 9 mm
HALF = (9, 11, 8)  # half of the box that is compared, in blocks along right, anterior, superior
SHIFTS = range(-3, 4)  # blocks along superior: the neck moves the centre
SIDE = HALF[1] + max(SHIFTS)  # half of the cube that holds the box however it is turned

Way = tuple[tuple[int, ...], tuple[int, ...]]  # axes of the copy that become x, y, z, and their signs

WAYS: tuple[Way, ...] = tuple(
    (axes, (1, *signs)) for axes in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=2)
)
AS_SAID = WAYS.index(((0, 1, 2), (1, 1, 1)))

UPRIGHT, GREY = 0.2, 0.3  # weights beside the outline's correlation
MARGIN = 0.05  # by which another way has to fit better
CREDIBLE = -0.25  # along `Model.upright`; few heads lie below, most wrong ways and all crude phantoms do


@dataclass(frozen=True)
class Position:
    """How a volume lies.

    Attributes
    ----------
    way : tuple
        The way that fits best: axes of RAS that would have to be its right, anterior and superior, and their signs.
    margin : float
        How much better that fits than the way its header says; 0 or less where the header's way fits best.
    match : float
        Correlation of the outline with that of a head or brain, in the best way.
    upright : float
        How much it looks like a head the right way up, in the best way.
    """

    way: Way
    margin: float
    match: float
    upright: float


def position(copy: Copy, model: Model | None = None) -> Position:
    """Find out how a volume lies."""
    model = model or shipped()
    score, match, upright = scores(*laid(copy), copy.skull_stripped, model)
    best = int(np.argmax(score))
    others = np.delete(score, AS_SAID)
    return Position(WAYS[best], float(others.max() - score[AS_SAID]), float(match.max()), float(upright[best]))


def scores(outline: Array, grey: Array, skull_stripped: bool, model: Model) -> tuple[Array, Array, Array]:
    """Of every way: the whole score, the correlation of the outline, and `Model.upright`; each (24,).

    Parameters
    ----------
    outline, grey : ndarray (24, shifts, N)
        From `laid`.
    skull_stripped : bool
    model : Model
    """
    kind = KINDS[skull_stripped]
    fits = outline @ model.outline[kind]
    shift = fits.argmax(axis=1)
    ways = np.arange(len(WAYS))
    match, upright = fits[ways, shift], outline[ways, shift] @ model.upright
    known = [model.grey[kind, name] for name in CLASSES if (kind, name) in model.grey]
    alike = (grey[ways, shift] @ np.stack(known, axis=1)).max(axis=1) if known else np.zeros(len(WAYS))
    return match + UPRIGHT * upright + GREY * alike, match, upright


def laid(copy: Copy) -> tuple[Array, Array]:
    """Outline and grey in blocks of 9 mm around the middle, laid in all 24 ways and moved along superior.

    Returns
    -------
    outline, grey : ndarray, shape (24, shifts, N)
        The mean with the mirror image, right half only, of mean 0 and length 1.
    """
    grey = np.clip((copy.signal - copy.share) / np.float32(max(_spread(copy), 1e-3)), -2, 2)
    weights = [copy.share.sum(axis=tuple(n for n in range(3) if n != axis)) for axis in range(3)]
    middle = [float(np.average(np.arange(len(w)), weights=w)) if w.sum() else len(w) / 2 for w in weights]
    first, second = (_all_ways(_cube(array, middle)) for array in (copy.share, grey))
    return first, second


def _spread(copy: Copy) -> float:
    tissue = copy.signal[copy.share > 0.5]
    return float(np.subtract(*np.percentile(tissue, (90, 10)))) if tissue.size else 1.0


def _cube(array: Array, middle: list[float]) -> Array:
    """Blocks of a cube around the middle; 0 beyond the array."""
    size = 2 * SIDE * BLOCK
    cube = np.zeros((size,) * 3, np.float32)
    first = [round(m + 0.5 - size / 2) for m in middle]
    source = tuple(slice(max(0, f), max(0, min(n, f + size))) for f, n in zip(first, array.shape, strict=True))
    target = tuple(slice(s.start - f, max(s.stop, s.start) - f) for s, f in zip(source, first, strict=True))
    cube[target] = array[source]
    n = 2 * SIDE
    blocks: Array = cube.reshape(n, BLOCK, n, BLOCK, n, BLOCK).mean(axis=(1, 3, 5))
    return blocks


def _all_ways(cube: Array) -> Array:
    x, y, z = HALF
    found = []
    for axes, signs in WAYS:
        turned = cube.transpose(axes)[tuple(slice(None, None, sign) for sign in signs)]
        half = (turned + turned[::-1])[SIDE : SIDE + x, SIDE - y : SIDE + y]
        found.append([half[:, :, SIDE - z + shift : SIDE + z + shift].ravel() for shift in SHIFTS])
    return normalised(np.array(found, np.float32))


def normalised(arrays: Array) -> Array:
    """Of mean 0 and length 1 along the last axis."""
    arrays = arrays - arrays.mean(axis=-1, keepdims=True)
    lengths: NDArray[np.float32] = np.sqrt(np.square(arrays).sum(axis=-1, keepdims=True))
    return np.asarray(arrays / np.maximum(lengths, 1e-6), np.float32)


def findings(position: Position) -> list[Finding]:
    """What is wrong with the way it lies."""
    if position.margin < MARGIN or position.way == WAYS[AS_SAID]:
        return []
    text = f"It lies {in_words(position.way)}, going by what its header says."
    if position.upright < CREDIBLE:
        return [Finding("warn", text.replace("It lies", "It may lie"))]
    return [Finding("refuse", text)]


def in_words(way: Way) -> str:
    """How a volume lies that would have to be laid in another way."""
    (axes, signs) = way
    if axes != (0, 1, 2):
        return "on another axis"
    upside_down, back_to_front = signs[2] < 0, signs[1] < 0
    if upside_down and back_to_front:
        return "upside down and back to front"
    return "upside down" if upside_down else "back to front"
