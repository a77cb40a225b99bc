"""A result in the contrast of a reference: one monotone curve from brightness to brightness, and nothing else.

How bright the tissues of the wanted contrast are depends on the scanner and its settings, and the source cannot tell.
A volume of that contrast from the same scanner or patient can. One number of it is used: the median brightness of its
brain without fluid, in units of its own 99.5th percentile. The curve takes the result's median there, and 0 and 1 stay.
So the reference may lie on any grid and show any anatomy, and a curve that rises everywhere can neither make nor hide
a structure.

This is histogram standardization (Nyul and Udupa, Magn Reson Med 1999;42:1072-1081) with a single landmark. More of
them follow the shares of tissue rather than their brightness: where one brain is atrophic, they cost up to 4 dB (see
docs/experiments.md). Fluid is left out for the same reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from . import intensity, screening
from .checks import checked
from .errors import InputError
from .volume import Volume

Mask = NDArray[np.bool_]

RULE = "monotone curve that moves the median of brain without fluid to that of the reference; nothing else is used"
FLUID = {"t1": (0.45, 1.0), "t2": (0.0, 0.55)}  # what is not fluid, in units of the 99.5th percentile of brain
LEAST_TISSUE = 1000  # voxels; fewer tell nothing about a brain
CORE = 8.0  # mm from the brain's surface; what is deeper is in the estimate of a whole head's brain, too
CORE_SPACING = 2.5  # mm; coarsest step on which that depth is found
STEEPEST = 8.0  # slope of the curve; a steeper piece would make noise look like tissue
LEAST_STEP = 1e-3  # one step of the output's scale: landmarks are at least this far apart


@dataclass(frozen=True)
class Tissue:
    """What is used of a reference.

    Attributes
    ----------
    contrast : {'t1', 't2'}
    brain, core : float
        Median of its brain without fluid, and of the brain's depth, in units of the 99.5th percentile of brain.
    whole_head : bool
        Only the depth is compared then.
    """

    contrast: str
    brain: float
    core: float
    whole_head: bool


@dataclass(frozen=True)
class Curve:
    """A continuous curve from [0, 1] to [0, 1] that rises everywhere; 0 stays 0 and 1 stays 1.

    Attributes
    ----------
    before, after : tuple of float
        Where its pieces meet, without the ends.
    """

    before: tuple[float, ...]
    after: tuple[float, ...]

    def __call__(self, unit: NDArray[np.float32]) -> NDArray[np.float32]:
        """Brightness by the curve, for voxels of any shape."""
        ends = (0.0, *self.before, 1.0), (0.0, *self.after, 1.0)
        return np.interp(unit, *ends).astype(np.float32)

    def document(self) -> dict[str, Any]:
        """What the result's account says of it, ready for JSON; in output units."""
        scale = intensity.SCALE
        return {
            "rule": RULE,
            "before": [round(value * scale) for value in self.before],
            "after": [round(value * scale) for value in self.after],
        }


def tissue_of(reference: Volume, target: str) -> Tissue:
    """Look at a reference: whether it shows a brain, and in the contrast that is to be made.

    Parameters
    ----------
    reference : Volume
        Whole head or skull-stripped, on any grid.
    target : {'t1', 't2'}

    Raises
    ------
    InputError
        reference-unusable, reference-contrast.
    """
    try:
        reference, _ = checked(reference)
    except InputError as error:
        raise InputError("reference-unusable", f"The reference: {error.seen}", error.expected) from error
    seen = screening.look(reference)
    if np.count_nonzero(seen.brain) < LEAST_TISSUE:
        raise InputError("reference-unusable", "The reference shows no brain.", f"a {target.upper()} of a brain.")
    found = screening.screen(reference, seen)
    if found.source is None:
        raise InputError("reference-unusable", f"The reference: {found.reasons[0]}", f"a {target.upper()} of a brain.")
    if found.contrast != target:
        raise InputError(
            "reference-contrast",
            f"The reference looks like {found.reasons[0]}.",
            f"a {target.upper()}, as the result will be.",
        )
    unit = intensity.normalize(reference.voxels, intensity.brain_scale(reference.voxels, seen.brain))
    core = core_of(seen.brain, reference, seen.skull_stripped)
    whole, deep = (landmark(unit[tissue], target, "reference") for tissue in (seen.brain, core))
    return Tissue(target, whole, deep, not seen.skull_stripped)


def core_of(brain: Mask, grid: Volume, skull_stripped: bool) -> Mask:
    """The depth of a brain, which can be compared between a whole head and a skull-stripped brain.

    The estimate of a whole head's brain is its depth already; of a skull-stripped brain it is what lies 8 mm below the
    surface. A brain that has no such depth is taken whole.
    """
    if not skull_stripped:
        return brain
    steps = [max(1, round(CORE_SPACING / s)) for s in grid.spacing[::-1]]
    coarse = np.pad(brain[:: steps[0], :: steps[1], :: steps[2]], 1)
    image = sitk.GetImageFromArray(coarse.astype(np.uint8))
    image.SetSpacing([s * step for s, step in zip(grid.spacing, steps[::-1], strict=True)])
    filled = sitk.BinaryFillhole(image)
    distance = sitk.SignedMaurerDistanceMap(filled, insideIsPositive=True, squaredDistance=False, useImageSpacing=True)
    deep = sitk.GetArrayFromImage(distance)[1:-1, 1:-1, 1:-1] > CORE
    for axis, step in enumerate(steps):
        deep = np.repeat(deep, step, axis=axis)
    core = brain & deep[: brain.shape[0], : brain.shape[1], : brain.shape[2]]
    return core if np.count_nonzero(core) >= LEAST_TISSUE else brain


def fit(unit: NDArray[np.float32], brain: Mask, grid: Volume, skull_stripped: bool, reference: Tissue) -> Curve:
    """The curve that gives a result the brightness of the reference.

    Parameters
    ----------
    unit : ndarray, shape (k, j, i)
        The result in [0, 1].
    brain : ndarray of bool, shape (k, j, i)
        Brain of the source, on the same grid.
    grid : Volume
    skull_stripped : bool
        Whether `brain` is all of the brain; of a whole head it is an estimate.
    reference : Tissue

    Returns
    -------
    Curve

    Raises
    ------
    InputError
        reference-unusable, where the result has too little brain to be compared.
    """
    whole = skull_stripped and not reference.whole_head
    tissue = brain if whole else core_of(brain, grid, skull_stripped)
    before = landmark(unit[tissue], reference.contrast)
    return between((before,), (reference.brain if whole else reference.core,))


def between(before: tuple[float, ...], after: tuple[float, ...]) -> Curve:
    """A curve through these landmarks, or near them: it is nowhere flat, and nowhere steeper than `STEEPEST`.

    Parameters
    ----------
    before, after : tuple of float
        In [0, 1], not falling.
    """
    kept: list[tuple[float, float]] = [(0.0, 0.0)]
    for x, y in zip(before, after, strict=True):
        run = x - kept[-1][0]
        if run >= LEAST_STEP and 1.0 - x >= LEAST_STEP:
            rise = min(max(y - kept[-1][1], LEAST_STEP), STEEPEST * run)
            kept.append((x, kept[-1][1] + rise))
    highest = 1.0 - LEAST_STEP * np.arange(len(kept) - 1, 0, -1)  # room for a rise up to 1
    levels = np.minimum([y for _, y in kept[1:]], highest)
    return Curve(tuple(x for x, _ in kept[1:]), tuple(float(y) for y in levels))


def landmark(values: NDArray[np.float32], contrast: str, name: str = "result") -> float:
    """Median of brain without fluid and background.

    Parameters
    ----------
    values : ndarray, shape (n,)
        Of brain, in [0, 1].
    contrast : {'t1', 't2'}
    name : str
        What they are of, for the error.

    Raises
    ------
    InputError
        reference-unusable: there are too few.
    """
    low, high = FLUID[contrast]
    values = values[(values > low) & (values < high)]
    if values.size < LEAST_TISSUE:
        raise InputError("reference-unusable", f"The {name} has too little brain to be compared.", "a whole brain.")
    return float(np.median(values))
