"""Where a synthetic volume comes from, told in its header, its sidecar and in JSON."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from .intensity import PERCENTILE, RULE, SCALE

if TYPE_CHECKING:
    from .synthesis_result import SynthesisResult

DESCRIPTION_BYTES = 79  # NIfTI-1 `descrip` has 80, the last one is the terminating zero
# What a result may hold besides the synthetic volume, and what that is called.
MAPS = {"cycle": "cycle difference", "reliability": "expected error", "interval": "90 percent interval"}
DISCLAIMER = "Computed, not acquired. For research; not for diagnosis: lesions may be hidden or invented."


def weighting(contrast: str) -> str:
    """Return the contrast as it is written to people and in BIDS: "t1" is "T1w"."""
    return contrast.upper() + "w"


def description(result: SynthesisResult) -> str:
    """Return one line for the image header, in ASCII and at most 79 bytes.

    It begins with SYNTHETIC and ends with the checkpoint's name and the start of its SHA-256; a long name is
    shortened, never the rest.
    """
    head = f"SYNTHETIC {weighting(result.target_contrast)} from {weighting(result.source_contrast)}, MRSynth "
    tail = f" {result.checkpoint_sha256[:12]}"
    name = result.checkpoint_name.encode("ascii", "replace").decode()
    room = DESCRIPTION_BYTES - len(head) - len(__version__) - 1 - len(tail)
    return f"{head}{__version__} {name[:room]}{tail}"


def facts(result: SynthesisResult) -> dict[str, Any]:
    """Return everything about a run but its voxels, ready for JSON."""
    return {
        "synthetic": True,
        "software_version": __version__,
        "checkpoint_name": result.checkpoint_name,
        "checkpoint_sha256": result.checkpoint_sha256,
        "source_contrast": result.source_contrast,
        "target_contrast": result.target_contrast,
        "contrast_reason": result.contrast_reason,
        "device": result.device.device,
        "device_reason": result.device.reason,
        "precision": result.device.precision,
        "threads": result.device.threads,
        "seconds": round(result.seconds, 3),
        "stage_seconds": {stage: round(seconds, 3) for stage, seconds in result.stage_seconds.items()},
        "warnings": list(result.warnings),
        "screening": None if result.screening is None else result.screening.document(),
        "like": None if result.curve is None else result.curve.document(),
        "planes": result.planes,
        "trust": result.trust,
        "description": description(result),
    }


def sidecar(
    result: SynthesisResult,
    *,
    output: Path,
    source: Path,
    source_sha256: str,
    mask: Path | None = None,
    mask_sha256: str | None = None,
    like: Path | None = None,
    like_sha256: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the JSON sidecar of `output`, with the keys of BIDS derivatives where BIDS has them.

    Paths are relative to the output's folder: absolute ones often hold names of people and machines, and
    break when a study is moved. The SHA-256 says which file it really was.

    Parameters
    ----------
    result : SynthesisResult
        The run.
    output, source, mask, like : Path
        The image that the sidecar describes, what it was made from, and the brain mask and the reference of its
        brightness where they were given.
    source_sha256, mask_sha256, like_sha256 : str
        Of the files; for a DICOM folder over its sorted names and contents.
    metadata : mapping, optional
        Acquisition tags of the source by DICOM keyword.
    """
    known = facts(result)
    target = weighting(result.target_contrast)
    document: dict[str, Any] = {
        "Description": f"{known['description']}. {DISCLAIMER}",
        "synthetic": True,
        "Sources": [_relative(source, output)],
        "SourceSHA256": source_sha256,
        "GeneratedBy": [{"Name": "MRSynth", "Version": __version__}],
        "Model": {"Name": result.checkpoint_name, "SHA256": result.checkpoint_sha256},
        "SourceContrast": weighting(result.source_contrast),
        "TargetContrast": target,
        "ContrastReason": result.contrast_reason,
        "Units": "arbitrary",
        "IntensityScale": {
            "Rule": RULE,
            "Meaning": f"{SCALE} is the {PERCENTILE}th percentile of brain in {target}",
            "Background": 0,
        },
        "Device": f"{known['device']} ({known['device_reason']})",
        "Precision": known["precision"],
        "Seconds": known["seconds"],
        "Planes": result.planes,
        "Warnings": known["warnings"],
        "Created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    if result.screening is not None:
        document["Screening"] = known["screening"]
    if mask is not None:
        document["BrainMask"] = {"Source": _relative(mask, output), "SHA256": mask_sha256}
    if like is not None:
        document["ContrastReference"] = {"Source": _relative(like, output), "SHA256": like_sha256, **known["like"]}
    if result.trust is not None:
        document["Reliability"] = result.trust
    if metadata:
        document["SourceMetadata"] = dict(metadata)
    return document


def _relative(path: Path, output: Path) -> str:
    try:
        return Path(os.path.relpath(path.resolve(), output.resolve().parent)).as_posix()
    except ValueError:  # another drive of Windows
        return path.name
