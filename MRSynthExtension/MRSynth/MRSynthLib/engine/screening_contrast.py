"""Which contrast a volume has: by its acquisition tags where they say it, else by how bright its brain is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .screening_copy import CELL, Array, Copy
from .screening_findings import Finding
from .screening_head import Mask
from .screening_model import CLASSES, Model, shipped
from .volume import Volume

# Median over 99.5th percentile of deep brain: 0.60-0.86 in T1, 0.24-0.39 in T2 of 9 studies.
T1_T2_BOUNDARY = 0.50
T1_T2_SURE = 0.10

SKULL = 13.0  # mm of scalp and skull over the brain of a whole head
HEIGHT = 85.0  # mm below the top of the brain that is looked at; further down lie fat and vessels of the skull base
LEAST_CELLS = 300
FLAIR = CLASSES.index("flair")
FLAIR_SURE = 0.6  # below it, T1 is said: it is what is given to MRSynth far more often, and FLAIR is near to it
AGENT = 0.09  # logarithm of the 99.9th over the 99th percentile; of plain T1 without skull up to 0.06
# 10th and 90th percentile, logarithms: all T2 lie above -0.37, altered ones too, and T1 below so much have no such top.
# T1 turned over lie at -0.48 or below.
DARK, TOO_DARK, BRIGHT = -0.42, -0.55, 0.33
SURELY_AGENT = 0.2  # of FLAIR with bright lesions up to 0.17


@dataclass(frozen=True)
class Contrast:
    """A contrast, how sure (0 to 1), and why.

    Attributes
    ----------
    name : {'t1', 't2', 'flair', 'pd', 't1c', 'other'}
    confidence : float
    reason : str
    t2 : float or None
        How likely it is T2, whatever else it may be; None where only `confidence` is known.
    """

    name: str
    confidence: float
    reason: str
    t2: float | None = None

    def as_source(self) -> Contrast:
        """T1 or T2, whichever a synthesis would have to take it for; how sure it is not the other (0.5 to 1)."""
        likely = self.t2 if self.t2 is not None else self.confidence if self.name == "t2" else 1 - self.confidence
        return Contrast("t2" if likely > 0.5 else "t1", max(likely, 1 - likely), self.reason)


def contrast_of_tags(tags: Mapping[str, str]) -> Contrast | None:
    """T1 or T2 by echo and repetition time (ms, DICOM keywords); None where these do not tell."""
    try:
        echo, repetition = float(tags["EchoTime"]), float(tags["RepetitionTime"])
    except (KeyError, ValueError):
        return None
    if repetition < 50 and echo > 50:  # seconds and milliseconds mixed up
        return None
    seen = f"EchoTime {echo:g} ms, RepetitionTime {repetition:g} ms"
    if echo < 30 and repetition < 3000:
        return Contrast("t1", 0.95, seen)
    if echo > 60 and repetition > 2000 and "InversionTime" not in tags:
        return Contrast("t2", 0.95, seen)
    return None


def guess_contrast(volume: Volume, brain: Mask) -> Contrast:
    """T1 or T2, from the acquisition tags where they say it, else from the brightness of brain.

    In T1 most of the brain is nearly as bright as its brightest part (white matter); in T2 it is three times
    darker (cerebrospinal fluid). FLAIR, PD and contrast-enhanced T1 are not told apart from T1 here.
    """
    tagged = contrast_of_tags(volume.metadata)
    if tagged:
        return tagged
    tissue = volume.voxels[brain]
    tissue = tissue[tissue > 0]
    if not tissue.size:
        return Contrast("t1", 0.5, "no brain tissue was found")
    ratio = float(np.median(tissue) / np.percentile(tissue, 99.5))
    name = "t1" if ratio > T1_T2_BOUNDARY else "t2"
    confidence = 0.5 + 0.45 * min(1.0, abs(ratio - T1_T2_BOUNDARY) / T1_T2_SURE)
    return Contrast(name, confidence, f"median brain is {ratio:.2f} of its 99.5th percentile")


@dataclass(frozen=True, eq=False)
class Brightness:
    """How bright the parts of brain are, as logarithms over its median.

    Outer brain is 3 to 10 mm deep (cortex), middle 12 to 26 (white matter), innermost further in.

    Attributes
    ----------
    p5, p10, p25, p75, p90 : float
        Percentiles of brain.
    outer, bright_outer, inner : float
        Medians of outer and innermost brain less that of middle brain, and the 90th percentiles of the first two.
    tail : float
        The 99.9th less the 99th percentile more than 8 mm deep: enhancing vessels and lesions are small and bright.
    """

    p5: float
    p10: float
    p25: float
    p75: float
    p90: float
    outer: float
    bright_outer: float
    inner: float
    tail: float

    def numbers(self) -> Array:
        """Logarithm of the width of the distribution, and all else over that width, as scanners differ in it; (8,)."""
        width = max(self.p90 - self.p10, 1e-3)
        found = (self.p5, self.p25, self.p75, self.p25 + self.p75, self.outer, self.bright_outer, self.inner)
        return np.array([np.log(width), *(each / width for each in found)], np.float32)


@dataclass(frozen=True, eq=False)
class Brain:
    """How bright brain is without the tilt of its bias field, and without all of that; see `screening_field`."""

    level: Brightness
    flat: Brightness

    def numbers(self) -> Array:
        """What the regression takes, (16,)."""
        return np.concatenate([self.level.numbers(), self.flat.numbers()])


def brain_of(level: Copy, flat: Copy, depth: Array) -> Brain | None:
    """How bright brain is; None where there is too little to tell.

    Parameters
    ----------
    level, flat : Copy
        Without the tilt of the bias field, and without all of it.
    depth : ndarray
        Of both copies.
    """
    first, second = brightness(level, depth), brightness(flat, depth)
    return Brain(first, second) if first and second else None


def brightness(copy: Copy, depth: Array) -> Brightness | None:
    """How bright the parts of brain are in a copy; None where there is too little brain to tell."""
    depth = depth - np.float32(0 if copy.skull_stripped else SKULL)
    levels = np.flatnonzero((depth > 0).any(axis=(0, 1)))
    if not levels.size:
        return None
    depth[:, :, : max(0, int(levels[-1]) - int(HEIGHT / CELL))] = -1
    brain = (copy.share > 0.99) & (depth > 3)
    outer, middle, inner = brain & (depth < 10), brain & (depth >= 12) & (depth < 26), brain & (depth >= 26)
    if min(brain.sum() / 3, outer.sum(), middle.sum(), inner.sum()) < LEAST_CELLS / 3:
        return None
    scaled = np.log(np.maximum(copy.signal / np.median(copy.signal[brain]), 0.02))
    (outer_50, outer_90), (middle_50, middle_90) = (np.percentile(scaled[part], (50, 90)) for part in (outer, middle))
    inner_50 = np.median(scaled[inner])
    p99, p999 = np.percentile(scaled[brain & (depth > 8)], (99, 99.9))
    found = (*np.percentile(scaled[brain], (5, 10, 25, 75, 90)), outer_50 - middle_50, outer_90 - middle_90,
             inner_50 - middle_50, p999 - p99)  # fmt: skip
    return Brightness(*(float(each) for each in found))


def classified(seen: Brain, skull_stripped: bool, model: Model | None = None) -> Contrast:
    """T1, T2, FLAIR or, without skull, contrast-enhanced T1, by the image.

    A multinomial regression on `Brain.numbers`; contrast agent by one number, as only two such volumes were at hand.
    """
    model = model or shipped()
    terms = np.append(np.clip((seen.numbers() - model.centre) / model.width, -4, 4), 1)
    likely = np.exp(terms @ model.weights - (terms @ model.weights).max())
    likely /= likely.sum()
    wanted = likely.copy()
    if wanted[FLAIR] < FLAIR_SURE or (skull_stripped and seen.flat.tail > SURELY_AGENT):
        wanted[FLAIR] = 0
    best = int(np.argmax(wanted))
    name, confidence, t2 = CLASSES[best], float(likely[best]), float(likely[CLASSES.index("t2")])
    if name == "t1" and skull_stripped and seen.flat.tail > AGENT:
        reason = f"its brightest thousandth is {np.exp(seen.flat.tail):.2f} times as bright as its brightest hundredth"
        return Contrast("t1c", confidence, reason, t2)
    low, high = np.exp((seen.flat.p25, seen.flat.p90))
    reason = f"the darker quarter of brain is below {low:.2f} of its median, the brightest tenth above {high:.2f}"
    return Contrast(name, confidence, reason, t2)


def turned_over(seen: Brain) -> list[Finding]:
    """What says that bright is dark in it, as in a T1 turned over, whatever contrast that looks like.

    White matter is the brightest tissue of T1, bright alike. Turned over it reaches down to 0, fluid is bright, and
    brain spreads as it does in no contrast: in T2 the darkest tissue is dark alike, and in T1 the brightest is bright
    alike. A T2 turned over is not noticed: it spreads as T1 does.
    """
    low, high = seen.level.p10, seen.level.p90
    if low > DARK or high < BRIGHT:
        return []
    text = (
        "It looks turned over, bright for dark: "
        f"a tenth of brain is below {np.exp(low):.2f} of its median, a tenth above {np.exp(high):.2f}."
    )
    return [Finding("refuse" if low < TOO_DARK else "warn", text)]
