"""Which contrast a volume has: by its acquisition tags where they say it, else by how bright its brain is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .screening_copy import CELL, Array, Copy
from .screening_head import Mask
from .screening_model import CLASSES, Model, shipped
from .volume import Volume

# Median over 99.5th percentile of deep brain: 0.60-0.86 in T1, 0.24-0.39 in T2 of 9 studies.
T1_T2_BOUNDARY = 0.50
T1_T2_SURE = 0.10

SKULL = 13.0  # mm of scalp and skull over the brain of a whole head
HEIGHT = 85.0  # mm below the top of the brain that is looked at; further down lie fat and vessels of the skull base
FEATURES = (
    "5th over 10th percentile",
    "10th percentile",
    "25th percentile",
    "75th percentile",
    "90th percentile",
    "outer over middle brain",
    "bright part of outer over that of middle brain",
    "innermost over middle brain",
)
LEAST_CELLS = 300
FLAIR = CLASSES.index("flair")
FLAIR_SURE = 0.6  # below it, T1 is said: it is what is given to MRSynth far more often, and FLAIR is near to it
AGENT = 0.09  # logarithm of the 99.9th over the 99th percentile; of plain T1 without skull up to 0.06


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


def features(copy: Copy, depth: Array) -> tuple[Array, float] | None:
    """How bright the parts of brain are, as logarithms over its median.

    Parameters
    ----------
    copy : Copy
    depth : ndarray
        Of the copy.

    Returns
    -------
    features : ndarray (8,)
        See `FEATURES`. Outer brain is 3 to 10 mm deep (cortex), middle 12 to 26 (white matter), innermost further in.
    tail : float
        The 99.9th over the 99th percentile more than 8 mm deep: enhancing vessels and lesions are small and bright.
    None
        Where there is too little brain to tell.
    """
    depth = depth - np.float32(0 if copy.skull_stripped else SKULL)
    levels = np.flatnonzero((depth > 0).any(axis=(0, 1)))
    if not levels.size:
        return None
    depth[:, :, : max(0, int(levels[-1]) - int(HEIGHT / CELL))] = -1
    whole = copy.share > 0.99
    brain = whole & (depth > 3)
    outer, middle, inner = brain & (depth < 10), brain & (depth >= 12) & (depth < 26), brain & (depth >= 26)
    if min(brain.sum() / 3, outer.sum(), middle.sum(), inner.sum()) < LEAST_CELLS / 3:
        return None
    scaled = np.log(np.maximum(copy.signal / np.median(copy.signal[brain]), 0.02))
    p5, p10, p25, p75, p90 = np.percentile(scaled[brain], (5, 10, 25, 75, 90))
    (outer_50, outer_90), (middle_50, middle_90) = (np.percentile(scaled[part], (50, 90)) for part in (outer, middle))
    p99, p999 = np.percentile(scaled[brain & (depth > 8)], (99, 99.9))
    found = (p5 - p10, p10, p25, p75, p90, outer_50 - middle_50, outer_90 - middle_90,
             np.median(scaled[inner]) - middle_50)  # fmt: skip
    return np.array(found, np.float32), float(p999 - p99)


def classified(copy: Copy, depth: Array, model: Model | None = None) -> Contrast | None:
    """T1, T2, FLAIR or, without skull, contrast-enhanced T1, by the image; None where there is too little brain.

    A multinomial regression on `features`; contrast agent by one number, as only two such volumes were at hand.
    """
    seen = features(copy, depth)
    if seen is None:
        return None
    numbers, tail = seen
    model = model or shipped()
    terms = np.append(np.clip((numbers - model.centre) / model.width, -4, 4), 1)
    likely = np.exp(terms @ model.weights - (terms @ model.weights).max())
    likely /= likely.sum()
    wanted = likely.copy()
    if wanted[FLAIR] < FLAIR_SURE:
        wanted[FLAIR] = 0
    best = int(np.argmax(wanted))
    name, confidence, t2 = CLASSES[best], float(likely[best]), float(likely[CLASSES.index("t2")])
    low, high = np.exp(numbers[[2, 4]])
    reason = f"the darker quarter of brain is below {low:.2f} of its median, the brightest tenth above {high:.2f}"
    if name == "t1" and copy.skull_stripped and tail > AGENT:
        seen_agent = f"its brightest thousandth is {np.exp(tail):.2f} times as bright as its brightest hundredth"
        return Contrast("t1c", confidence, seen_agent, t2)
    return Contrast(name, confidence, reason, t2)
