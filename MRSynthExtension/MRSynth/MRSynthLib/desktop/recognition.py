"""What a volume looks like, in some sentences, before any run: the engine's own screening."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer

from MRSynthLib.engine import screening
from MRSynthLib.engine.checks import checked
from MRSynthLib.engine.errors import InputError
from MRSynthLib.engine.synthesis import SURE
from MRSynthLib.engine.volume import Volume

from .mrml import mask_from_node, volume_from_node
from .tags import tagged
from .words import _

MOST_VOXELS = 256**3  # a larger volume is thinned out, so that a look takes less than a second


@dataclass(frozen=True)
class Recognised:
    """What a volume is taken for.

    Attributes
    ----------
    contrast : {'t1', 't2'}
        The more likely one.
    confidence : float
        0.5 (may be either) to 1.
    sure : bool
        Whether a run without a said direction would go.
    skull_stripped : bool
    spacing : tuple of float
        Along (i, j, k), mm.
    reason : str
        What the contrast was told by.
    text : str
        All of it for the user: a sentence, and a line for each finding of the screening.
    refusal : str
        Why no synthesis should start from it; "" where nothing speaks against it that gravely.
    """

    contrast: str
    confidence: float
    sure: bool
    skull_stripped: bool
    spacing: tuple[float, float, float]
    reason: str
    text: str
    refusal: str = ""


def recognise(
    node: slicer.vtkMRMLScalarVolumeNode,
    maskNode: slicer.vtkMRMLNode | None = None,
) -> Recognised:
    """Look at a volume as a run will: by its DICOM tags where they tell, else by the brightness of its brain.

    Parameters
    ----------
    node : vtkMRMLScalarVolumeNode
        The source. Not changed.
    maskNode : vtkMRMLNode, optional
        Brain mask, as in `MRSynthLogic.synthesize`.

    Raises
    ------
    InputError
        With code, cause and remedy, for what cannot be used.
    """
    whole = tagged(volume_from_node(node), node)
    volume, _warnings = checked(whole)
    volume = _thinned(volume)
    seen = screening.look(volume)
    brain = seen.brain
    if maskNode is not None:
        inside = screening.brain_mask(mask_from_node(maskNode, node), volume)
        brain = inside & screening.without_background(volume.voxels) & (volume.voxels > 0)
    if not brain.any():
        raise InputError("input-empty", _("No voxel of brain is above 0."), "a brain MR volume.")
    screened = screening.screen(volume, seen, brain)
    contrast = screened.source or screening.guess_contrast(volume, brain)
    sure = contrast.confidence >= SURE
    told = _in_words(screened, contrast, sure, whole.spacing)
    return Recognised(
        contrast=contrast.name,
        confidence=contrast.confidence,
        sure=sure,
        skull_stripped=seen.skull_stripped,
        spacing=whole.spacing,
        reason=contrast.reason,
        text="\n".join([told, *(f"⚠ {warning}" for warning in screened.warnings)]),
        refusal=" ".join(finding.text for finding in screened.findings if finding.level == "refuse"),
    )


def _thinned(volume: Volume) -> Volume:
    """Leave out every second voxel of the finest axes until few enough are left."""
    while volume.voxels.size > MOST_VOXELS:
        axis = int(np.argmin(volume.spacing))  # i, j or k
        steps = np.ones(3, dtype=int)
        steps[axis] = 2
        k, j, i = (slice(None, None, int(step)) for step in reversed(steps))
        volume = Volume(
            volume.voxels[k, j, i],
            volume.ijk_to_ras @ np.diag([*steps, 1]),
            name=volume.name,
            metadata=volume.metadata,
        )
    return volume


def _in_words(
    screened: screening.Screening, contrast: screening.Contrast, sure: bool, spacing: tuple[float, float, float]
) -> str:
    name, other = contrast.name.upper(), {"t1": "T2", "t2": "T1"}[contrast.name]
    percent, reason = round(100 * contrast.confidence), contrast.reason
    if screened.contrast == "other":
        text = _("Does not look like a T1 or T2 of a head or brain")
    elif screened.contrast not in ("t1", "t2"):
        name, percent = screening.NAMES[screened.contrast], round(100 * screened.confidence)
        text, reason = _("Looks like {name} ({percent} % sure)"), ""
    elif sure:
        text = _("Looks like {name} ({percent} % sure: {reason})")
    else:
        text = _("May be {name} or {other} ({percent} % for {name}: {reason})")
    skull = _("skull-stripped") if screened.skull_stripped else _("with skull")
    size = " × ".join(f"{step:.1f}" for step in spacing)
    return f"{text.format(name=name, other=other, percent=percent, reason=reason)}, {skull}, {size} mm"
