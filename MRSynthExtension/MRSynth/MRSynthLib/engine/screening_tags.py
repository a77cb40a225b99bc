"""What the acquisition tags say, of a DICOM series or of the JSON file beside an image, for and against a synthesis."""

from __future__ import annotations

from collections.abc import Mapping

from . import dicom_rules
from .screening_contrast import Contrast, contrast_of_tags
from .screening_findings import Finding
from .sidecar_tags import TIMES

WEIGHTINGS = {"T1": "t1", "T2": "t2", "FLAIR": "flair", "PD": "pd"}
BY_TIMING, BY_WORDS = 0.95, 0.9  # confidence


def weighting_of_tags(tags: Mapping[str, str]) -> Contrast | None:
    """Contrast by the tags: t1, t2, flair, pd, t1c or other (diffusion, a map, ...); None where they do not tell."""
    if not tags:
        return None
    kind = dicom_rules.kind_of({**tags, "Modality": "MR", "SyntheticData": ""})
    timing = contrast_of_tags(tags)
    said = tags.get("SeriesDescription") or tags.get("ProtocolName") or tags.get("ImageType", "")
    if kind.name in WEIGHTINGS:
        name = WEIGHTINGS[kind.name]
        if name == "t1" and kind.objection.startswith("after a contrast agent"):
            name = "t1c"
        reason = timing.reason if timing else f"its tags say {kind.name} ({said or _times(tags)})"
        return Contrast(name, BY_TIMING if timing else BY_WORDS, reason)
    if kind.name == "MR":
        return None
    return Contrast("other", BY_WORDS, f"its tags say {kind.name} ({said})")


def _times(tags: Mapping[str, str]) -> str:
    return ", ".join(f"{keyword} {tags[keyword]} ms" for keyword in TIMES if keyword in tags)


def findings(tags: Mapping[str, str], header: object = None) -> list[Finding]:
    """What the tags, and the description in a NIfTI header, say against a synthesis, other than by the contrast."""
    found = []
    modality = tags.get("Modality", "").strip().upper()
    if modality not in ("", "MR"):
        found.append(Finding("refuse", f"Its modality is {modality}, not MR."))
    part = tags.get("BodyPartExamined", "").strip().upper()
    if part not in dicom_rules.HEAD:
        found.append(Finding("warn", f"Its tags say that the body part is {part}, not the head."))
    description = tags.get("SeriesDescription", "")
    values = [value.strip().upper() for value in tags.get("ImageType", "").split("\\")]
    said = tags.get("SyntheticData") == "YES" or description.upper().startswith("SYNTHETIC")
    if said or _synthetic_header(header):
        found.append(Finding("warn", "It is synthetic itself: what is made from it has seen no patient."))
    elif values[0] == "DERIVED":
        found.append(Finding("warn", "It is derived from other images, not as acquired (ImageType DERIVED)."))
    return found


def _synthetic_header(header: object) -> bool:
    """Whether a NIfTI header says that the image is synthetic."""
    try:
        text = bytes(header["descrip"])  # type: ignore[index]
    except (TypeError, KeyError, ValueError, IndexError):
        return False
    return text.startswith(b"SYNTHETIC")
