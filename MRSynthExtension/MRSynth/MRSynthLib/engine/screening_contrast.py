"""Which contrast a volume has: by its acquisition tags where they say it, else by how bright its brain is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .screening_head import Mask
from .volume import Volume

# Median over 99.5th percentile of deep brain: 0.60-0.86 in T1, 0.24-0.39 in T2 of 9 studies.
T1_T2_BOUNDARY = 0.50
T1_T2_SURE = 0.10


@dataclass(frozen=True)
class Contrast:
    """T1 or T2, how sure (0.5 to 1), and why."""

    name: str
    confidence: float
    reason: str


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
