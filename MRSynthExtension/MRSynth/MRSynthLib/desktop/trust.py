"""The reliability map in the scene: its colours, and what it says in short."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import slicer
from numpy.typing import NDArray

from .colours import colour_table, show_legend
from .marks import MARK
from .words import _

RELIABILITY_ROLE = "MRSynthReliability"
INTERVAL_ROLE = "MRSynthInterval"
TRUST = "MRSynth.Trust"  # attribute of a synthetic volume: the summary of its map as JSON
WINDOW = 300  # output units; an expected error of this size and more has the strongest colour
COLOURS = "MRSynth expected error"
LEVELS = 256


def remember(
    synthetic: slicer.vtkMRMLScalarVolumeNode,
    summary: Mapping[str, Any] | None,
    reliability: slicer.vtkMRMLScalarVolumeNode | None,
    interval: slicer.vtkMRMLScalarVolumeNode | None,
) -> None:
    """Tie a synthetic volume to its maps, or to none: those of a former run say nothing about this one."""
    for role, node in ((RELIABILITY_ROLE, reliability), (INTERVAL_ROLE, interval)):
        synthetic.SetNodeReferenceID(role, node.GetID() if node is not None else None)
    if summary is None:
        synthetic.RemoveAttribute(TRUST)
    else:
        synthetic.SetAttribute(TRUST, json.dumps(summary))
    for node in (reliability, interval):
        if node is not None:
            node.SetAttribute(f"MRSynth.{MARK}", "EXPECTED ERROR")


def map_of(synthetic: slicer.vtkMRMLScalarVolumeNode | None) -> slicer.vtkMRMLScalarVolumeNode | None:
    """The expected error of a synthetic volume, where there is one."""
    return synthetic.GetNodeReference(RELIABILITY_ROLE) if synthetic is not None else None


def interval_of(synthetic: slicer.vtkMRMLScalarVolumeNode | None) -> slicer.vtkMRMLScalarVolumeNode | None:
    """Half the width of the 90 % interval of a synthetic volume's expected error, where there is one."""
    return synthetic.GetNodeReference(INTERVAL_ROLE) if synthetic is not None else None


def summary_of(synthetic: slicer.vtkMRMLScalarVolumeNode | None) -> dict[str, Any]:
    """What the map says in short, see `engine.reliability_summary.trust`; empty where there is none."""
    said = synthetic.GetAttribute(TRUST) if synthetic is not None else None
    try:
        found = json.loads(said or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def paint(node: slicer.vtkMRMLScalarVolumeNode) -> None:
    """Give a map of expected errors its colours, and a legend: nothing is transparent, so it can lie over the brain."""
    values = np.linspace(0, WINDOW, LEVELS)
    table = colour_table(node.GetScene(), COLOURS, colour_ramp(), values, "{:.0f}")
    node.GetDisplayNode().SetAndObserveColorNodeID(table.GetID())
    show_legend(node, _("Expected\nerror\nof 1000"), "%.0f")


def colour_ramp() -> NDArray[np.float64]:
    """Colours from no error to `WINDOW`: black, violet, red, orange, yellow; ever lighter, also without colour vision.

    Returns
    -------
    ndarray, shape (256, 3)
        Red, green, blue in [0, 1].
    """
    knots = np.linspace(0, 1, 5)
    position = np.linspace(0, 1, LEVELS)
    red, green, blue = ([0, 0.35, 0.80, 0.98, 1], [0, 0.05, 0.15, 0.55, 1], [0, 0.45, 0.25, 0.05, 0.55])
    return np.stack([np.interp(position, knots, channel) for channel in (red, green, blue)], axis=1)


def jump_to(synthetic: slicer.vtkMRMLScalarVolumeNode, ras: tuple[float, float, float]) -> None:
    """Move a place in a volume, given in the volume's own RAS (mm), to the middle of all slice views."""
    world = [0.0, 0.0, 0.0]
    synthetic.TransformPointToWorld(ras, world)
    slicer.vtkMRMLSliceNode.JumpAllSlices(synthetic.GetScene(), *world, slicer.vtkMRMLSliceNode.CenteredJumpSlice)
