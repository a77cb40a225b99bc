"""Acquisition tags from the JSON file beside an image, as BIDS has it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from .acquisition_tags import DICOM_TAGS

TIMES = ("EchoTime", "RepetitionTime", "InversionTime")  # ms in DICOM, s in BIDS
KEYWORDS = (*DICOM_TAGS.values(), "ProtocolName")
MARK = re.compile(rb"SYNTHETIC T[12]w from T[12]w, MRSynth ")  # in the description of all that MRSynth wrote
LARGEST = 1 << 20  # bytes


def sidecar_path(output: Path) -> Path:
    """Return the path of the sidecar: the image's with .json for its ending (".nii.gz" is one ending)."""
    name = output.name
    for ending in (".nii.gz", output.suffix):
        if ending and name.lower().endswith(ending.lower()):
            return output.with_name(name[: -len(ending)] + ".json")
    return output.with_name(name + ".json")


def tags_beside(image: Path) -> dict[str, str]:
    """Acquisition tags of the JSON file beside an image (BIDS, or MRSynth's own), by DICOM keyword, times in ms.

    Empty where there is none, or none that can be read: a sidecar is never needed.
    """
    path = sidecar_path(image)
    try:
        if not path.is_file() or path.stat().st_size > LARGEST:
            return {}
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(document, dict):
        return {}
    found = {keyword: _text(keyword, document[keyword]) for keyword in KEYWORDS if keyword in document}
    if document.get("synthetic") is True:
        found["SyntheticData"] = "YES"
    return {keyword: value for keyword, value in found.items() if value}


def tags_of(image: Path, description: str) -> dict[str, str]:
    """`tags_beside`; an image whose own header says that MRSynth made it is synthetic without them, too."""
    made = {"SyntheticData": "YES"} if MARK.search(description.encode()) else {}
    return {**made, **tags_beside(image)}


def _text(keyword: str, value: Any) -> str:
    """A value of a BIDS sidecar as DICOM would hold it."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float, list)):
        return ""
    if keyword in TIMES:
        return f"{1000 * value:g}" if isinstance(value, (int, float)) else ""
    return "\\".join(map(str, value)) if isinstance(value, list) else str(value)
