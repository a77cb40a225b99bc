"""A synthetic volume against the acquired one of the same contrast: a table of scores and a map of the difference.

The scores are those of the scoring protocol (`MRSynthLib.engine.scores`); neither volume is changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
from numpy.typing import NDArray

from MRSynthLib.engine import intensity, scores, screening
from MRSynthLib.engine.checks import checked
from MRSynthLib.engine.errors import InputError
from MRSynthLib.engine.volume import Volume

from . import mrml, score_nodes
from .results import SOURCE_ROLE, geometry_mismatch
from .words import _

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Scored:
    """What `score` made.

    Attributes
    ----------
    table_node : vtkMRMLTableNode
    difference_node : vtkMRMLScalarVolumeNode
        Synthetic minus acquired, in output units (1000 is the 99.5th percentile of brain).
    scores : dict
        "paper": psnr (dB), ssim, slices; "brain": psnr (dB), ssim, mae and bias (of 1), voxels.
    """

    table_node: slicer.vtkMRMLTableNode
    difference_node: slicer.vtkMRMLScalarVolumeNode
    scores: dict[str, scores.Scores]


@dataclass(frozen=True)
class _Reference:
    """The acquired volume on the synthetic one's grid, in its own units, and where it was measured."""

    voxels: NDArray[Any]
    covered: Mask
    resampled: bool


@dataclass(frozen=True)
class _Region:
    """Brain, what counts in full-frame scores, and which rule of the protocol said so."""

    brain: Mask
    frame: Mask
    rule: str


def score(
    synthetic: slicer.vtkMRMLScalarVolumeNode,
    acquired: slicer.vtkMRMLScalarVolumeNode,
    mask: slicer.vtkMRMLNode | None = None,
) -> Scored:
    """Score a synthetic volume against the acquired one.

    Parameters
    ----------
    synthetic : vtkMRMLScalarVolumeNode
        A result of MRSynth; its declared scale is used (1000 is 1).
    acquired : vtkMRMLScalarVolumeNode
        The same contrast of the same head, on any grid, under any transform; divided once by the 99.5th percentile of
        its brain.
    mask : vtkMRMLLabelMapVolumeNode, vtkMRMLSegmentationNode or vtkMRMLScalarVolumeNode, optional
        Brain, on any grid. Without: what is above 0 in both contrasts of a skull-stripped pair; of a whole head, a
        rough estimate.

    Returns
    -------
    Scored
        For the same two volumes always the same nodes.

    Raises
    ------
    InputError
        score-not-synthetic, score-not-acquired, score-no-overlap, mask-..., input-...; the scene is then as it was.
    """
    _check(synthetic, acquired)
    made = mrml.volume_from_node(synthetic)
    reference = _on_grid(acquired, synthetic)
    region = _region(synthetic, made, reference, mask)
    if not (reference.voxels[region.brain] > 0).any():
        raise _no_overlap(acquired)
    scale = intensity.brain_scale(reference.voxels, region.brain)
    true = intensity.normalize(reference.voxels, scale)
    unit = intensity.normalize(made.voxels, intensity.SCALE)
    full_true, full_unit = (np.where(region.frame, array, 0) for array in (true, unit))
    found = {
        "paper": scores.paper(full_true, full_unit, region.brain, made),
        "brain": scores.within(true, unit, region.brain, scores.ssim_map(full_true, full_unit, made)),
    }
    difference = np.rint((full_unit - full_true) * intensity.SCALE).astype(np.int16)
    facts = {
        _("Synthetic volume"): synthetic.GetName(),
        _("Acquired volume"): acquired.GetName(),
        _("1000 of the acquired volume"): f"{scale:.6g}",
        _("Grid"): _("acquired volume resampled, linear") if reference.resampled else _("the same"),
        _("Brain"): region.rule,
    }
    return Scored(
        table_node=score_nodes.show_table(synthetic, acquired, found, facts),
        difference_node=score_nodes.show_difference(synthetic, acquired, difference),
        scores=found,
    )


def _check(synthetic: slicer.vtkMRMLScalarVolumeNode, acquired: slicer.vtkMRMLScalarVolumeNode) -> None:
    # Difference maps are synthetic too, but have no direction.
    if not synthetic.GetAttribute("MRSynth.Synthetic") or not synthetic.GetAttribute("MRSynth.Direction"):
        raise InputError(
            "score-not-synthetic",
            _("'{name}' was not synthesized by MRSynth.").format(name=synthetic.GetName()),
            "a synthetic volume.",
        )
    what = ""
    if acquired.GetAttribute("MRSynth.Synthetic"):
        what = _("'{name}' is synthetic.")
    elif acquired is synthetic.GetNodeReference(SOURCE_ROLE):
        what = _("'{name}' is the source.")
    if what:
        raise InputError(
            "score-not-acquired",
            what.format(name=acquired.GetName()),
            "the acquired volume of the contrast that was synthesized.",
        )


def _on_grid(acquired: slicer.vtkMRMLScalarVolumeNode, synthetic: slicer.vtkMRMLScalarVolumeNode) -> _Reference:
    volume, _warnings = checked(mrml.volume_from_node(acquired))
    if not geometry_mismatch(acquired, synthetic):
        return _Reference(volume.voxels, np.ones(volume.shape, dtype=bool), resampled=False)
    parent = acquired.GetParentTransformNode()
    moved = mrml.resliced(volume, parent, synthetic, linear=True, outside=np.nan).voxels
    covered = np.isfinite(moved)
    if not covered.any():
        raise _no_overlap(acquired)
    return _Reference(np.where(covered, moved, 0), covered, resampled=True)


def _region(
    synthetic: slicer.vtkMRMLScalarVolumeNode, made: Volume, reference: _Reference, mask: slicer.vtkMRMLNode | None
) -> _Region:
    if mask is None:
        return _found(_source_of(synthetic) or made, made.replaced(reference.voxels), reference.covered)
    brain = screening.brain_mask(mrml.mask_from_node(mask, synthetic), made) & reference.covered
    return _Region(brain, brain, _("the mask '{name}'").format(name=mask.GetName()))


def _no_overlap(acquired: slicer.vtkMRMLScalarVolumeNode) -> InputError:
    return InputError(
        "score-no-overlap",
        _("'{name}' shows nothing where the synthetic volume's brain is.").format(name=acquired.GetName()),
        "two volumes of one head, in the same place.",
    )


def _source_of(synthetic: slicer.vtkMRMLScalarVolumeNode) -> Volume | None:
    """The source, unless it is no longer there or was moved away."""
    source = synthetic.GetNodeReference(SOURCE_ROLE)
    if source is None or geometry_mismatch(source, synthetic):
        return None
    return checked(mrml.volume_from_node(source))[0]


def _found(source: Volume, reference: Volume, covered: Mask) -> _Region:
    """Brain without a mask, by the protocol: above 0 in both of a skull-stripped pair, an estimate in a whole head."""
    look = screening.look(source)
    if not look.skull_stripped:
        brain = look.brain & covered
        return _Region(brain, brain, _("estimated from the head, roughly: give a brain mask for scores to compare"))
    brain = look.foreground & (source.voxels > 0) & (reference.voxels > 0)  # 0 where it is not covered
    both = screening.look(reference).skull_stripped
    return _Region(brain, covered if both else brain, _("above 0 in both contrasts (skull-stripped)"))
