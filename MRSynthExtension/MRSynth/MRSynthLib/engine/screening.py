"""What is in a volume, looked at before anything is computed from it: the one door to all parts of screening.

>>> from MRSynthLib.engine import read_volume, screening
>>> screening.screen(read_volume("t1.nii.gz")).verdict
'ok'
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import screening_contrast, screening_field, screening_object, screening_pose, screening_quality, screening_tags
from .screening_contrast import Contrast, contrast_of_tags, guess_contrast
from .screening_copy import copied
from .screening_findings import Finding, verdict
from .screening_head import Look, Mask, look, without_background
from .screening_mask import brain_mask, mask_on_grid
from .volume import Volume

__all__ = [
    "Contrast",
    "Finding",
    "Look",
    "Mask",
    "Screening",
    "brain_mask",
    "contrast_of_tags",
    "guess_contrast",
    "look",
    "mask_on_grid",
    "screen",
    "without_background",
]

NAMES = {"t1": "T1", "t2": "T2", "flair": "FLAIR", "pd": "PD", "t1c": "contrast-enhanced T1", "other": "none of these"}
USABLE = ("t1", "t2", "t1c")
SURE = 0.9  # above this confidence, a contrast that cannot be a source is refused


@dataclass(frozen=True)
class Screening:
    """What a volume is, and whether a synthesis should start from it.

    Attributes
    ----------
    contrast : {'t1', 't2', 'flair', 'pd', 't1c', 'other'}
        'other' also where it is no brain MR.
    verdict : {'ok', 'warn', 'refuse'}
    reasons : tuple of str
        What the contrast was told by, then what was found, the gravest first.
    confidence : float
        Of the contrast, 0 to 1.
    skull_stripped : bool
    findings : tuple of Finding
        What speaks against a synthesis.
    source : Contrast or None
        T1 or T2, whichever a synthesis would have to take it for; None where it is no brain MR.
    """

    contrast: str
    verdict: str
    reasons: tuple[str, ...]
    confidence: float
    skull_stripped: bool
    findings: tuple[Finding, ...] = ()
    source: Contrast | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """All findings, as sentences."""
        return tuple(finding.text for finding in self.findings)

    def document(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "contrast": self.contrast,
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "confidence": round(self.confidence, 3),
            "skull_stripped": self.skull_stripped,
        }


def screen(volume: Volume, seen: Look | None = None, brain: Mask | None = None) -> Screening:
    """Tell what a volume is, by its tags and always by its image.

    Parameters
    ----------
    volume : Volume
        As `checks.checked` leaves it: finite.
    seen : Look, optional
        What `look` found, where it was asked already.
    brain : ndarray of bool, shape (k, j, i), optional
        Brain and fluid above 0, where a mask says it.

    Returns
    -------
    Screening
    """
    seen = seen or look(volume)
    copy = copied(volume, seen)
    # Where a mask says what is brain, the inside is looked at as if the skull had been stripped by it.
    masked = brain is not None and brain is not seen.brain
    within = copied(volume, Look(brain, brain, True)) if brain is not None and masked else copy
    depth = within.depth()
    position = screening_pose.position(copy)
    judged = screening_object.judged(copy)
    found = screening_tags.findings(volume.metadata, volume.header)
    found += screening_object.findings(volume, copy, position.match)
    if judged:
        found += screening_object.tissue(within, depth)
    if verdict(found) == "refuse":
        reasons = tuple(finding.text for finding in _gravest_first(found))
        return Screening("other", "refuse", reasons, 0.99, seen.skull_stripped, tuple(_gravest_first(found)))
    if judged:
        found += screening_pose.findings(position)
    level, _ = screening_field.flattened(within, depth, order=1)
    flat, field = screening_field.flattened(within, depth)
    bright = screening_contrast.brain_of(level, flat, depth)
    image = screening_contrast.classified(bright, flat.skull_stripped) if bright else None
    contrast = screening_tags.weighting_of_tags(volume.metadata) or image
    contrast = contrast or guess_contrast(volume, seen.brain if brain is None else brain)
    found += _about_contrast(contrast)
    found += screening_contrast.turned_over(bright) if bright else []
    found += screening_quality.findings(volume, seen, field)
    found = _gravest_first(found)
    return Screening(
        contrast=contrast.name,
        verdict=verdict(found),
        reasons=(f"{NAMES[contrast.name]}: {contrast.reason}", *(finding.text for finding in found)),
        confidence=contrast.confidence,
        skull_stripped=seen.skull_stripped,
        findings=tuple(found),
        source=contrast.as_source(),
    )


def _about_contrast(contrast: Contrast) -> list[Finding]:
    if contrast.name == "t1c":
        return [
            Finding("warn", f"It looks like T1 after a contrast agent, which was not trained on: {contrast.reason}.")
        ]
    if contrast.name in USABLE:
        return []
    level = "refuse" if contrast.confidence >= SURE else "warn"
    return [Finding(level, f"It looks like {NAMES[contrast.name]}, not T1 or T2: {contrast.reason}.", "contrast")]


def _gravest_first(found: list[Finding]) -> list[Finding]:
    return sorted(found, key=lambda finding: finding.level != "refuse")
