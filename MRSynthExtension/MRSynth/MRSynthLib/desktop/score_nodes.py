"""The nodes of a scoring: the table, and the map of the difference with its colours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray

from MRSynthLib import __version__
from MRSynthLib.engine.intensity import SCALE
from MRSynthLib.engine.provenance import DISCLAIMER
from MRSynthLib.engine.scores import PROTOCOL_VERSION, Scores

from . import mrml, views
from .colours import colour_table, show_legend
from .marks import MARK, OUTDATED, outdate, target_of
from .nodes import place_beside, set_window
from .words import _

SYNTHETIC_ROLE = "MRSynthScored"
ACQUIRED_ROLE = "MRSynthAcquired"
COLUMNS = ("measure", "value", "unit", "protocol")
WINDOW = 300  # output units; differences of this size and more have the strongest colour
COLOURS = "MRSynth difference"
LEVELS = 256

# Measure, decimals, unit and factor of each score, in the order of the table.
_MEASURES = {
    "psnr": ("PSNR", 2, "dB", 1),
    "ssim": ("SSIM", 4, "", 1),
    "mae": ("MAE", 1, f"of {SCALE}", SCALE),
    "bias": (_("bias (synthetic - acquired)"), 1, f"of {SCALE}", SCALE),
    "slices": (_("slices"), 0, "", 1),
    "voxels": (_("voxels"), 0, "", 1),
}


def show_table(
    synthetic: slicer.vtkMRMLScalarVolumeNode,
    acquired: slicer.vtkMRMLScalarVolumeNode,
    scores: Mapping[str, Scores],
    facts: Mapping[str, str],
) -> slicer.vtkMRMLTableNode:
    """Put scores into the table node of two volumes.

    Parameters
    ----------
    scores : mapping
        By protocol and measure.
    facts : mapping
        What else must be known to read them.
    """
    rows = [
        (name, f"{factor * scores[protocol][key]:.{decimals}f}", unit, f"{protocol} v{PROTOCOL_VERSION}")
        for protocol in scores
        for key, (name, decimals, unit, factor) in _MEASURES.items()
        if key in scores[protocol]
    ]
    rows += [(name, value, "", "") for name, value in facts.items()]
    note = _("Scores of one volume prove nothing about lesions: one may be hidden or invented at any score.")
    rows.append((_("Note"), note, "", ""))
    table = vtk.vtkTable()
    for column, values in zip(COLUMNS, zip(*rows, strict=True), strict=True):
        array = vtk.vtkStringArray()
        array.SetName(column)
        for value in values:
            array.InsertNextValue(value)
        table.AddColumn(array)
    node = _node("vtkMRMLTableNode", synthetic, acquired, _("Scores of {name}").format(name=synthetic.GetName()))
    with slicer.util.NodeModify(node):
        node.SetLocked(False)
        node.SetAndObserveTable(table)
        node.SetLocked(True)  # scores are not edited by hand
    return node


def show_difference(
    synthetic: slicer.vtkMRMLScalarVolumeNode, acquired: slicer.vtkMRMLScalarVolumeNode, difference: NDArray[np.int16]
) -> slicer.vtkMRMLScalarVolumeNode:
    """Put synthetic minus acquired into the difference node of two volumes.

    Signed, for the two directions mean different things: red is what the synthetic volume shows too bright (as an
    invented lesion of a T2), blue what it shows too dark (as a hidden one).

    Parameters
    ----------
    difference : ndarray, shape (k, j, i)
        On the synthetic volume's grid, in output units.
    """
    grid = mrml.volume_from_node(synthetic)
    computed: Any = mrml.node_from_volume(grid.replaced(difference))
    name = _("{name} [minus acquired]").format(name=synthetic.GetName())
    node = _node("vtkMRMLScalarVolumeNode", synthetic, acquired, name)
    what = f"{synthetic.GetName()} minus {acquired.GetName()}"
    attributes = {
        "Synthetic": "1",
        "Version": __version__,
        "Description": f"difference, {what}",
        MARK: f"SYNTHETIC{target_of(synthetic)} - ACQUIRED",
    }
    with slicer.util.NodeModify(node):
        node.CopyOrientation(synthetic)
        node.SetAndObserveImageData(computed.GetImageData())
        node.SetAndObserveTransformNodeID(synthetic.GetTransformNodeID())
        node.SetDescription(f"{what}. -{WINDOW} is blue, 0 black, {WINDOW} red, of {SCALE}. {DISCLAIMER}")
        for key, value in attributes.items():
            node.SetAttribute(f"MRSynth.{key}", value)
    set_window(node, -WINDOW, WINDOW)
    # 3D Slicer's own diverging table is white in the middle: a white picture around a black-bordered brain.
    values = np.linspace(-WINDOW, WINDOW, LEVELS)
    table = colour_table(node.GetScene(), COLOURS, colour_ramp(), values, "{:+.0f}")
    node.GetDisplayNode().SetAndObserveColorNodeID(table.GetID())
    show_legend(node, _("Synthetic\nminus\nacquired"), "%+.0f")
    place_beside(synthetic, node, f"difference to {acquired.GetName()}")
    return node


def outdate_scores(synthetic: slicer.vtkMRMLScalarVolumeNode) -> None:
    """Mark the scores and differences of a result as those of an earlier one, for its node takes another."""
    scene = synthetic.GetScene()
    for node in (*views.nodes(scene, "vtkMRMLTableNode"), *views.nodes(scene, "vtkMRMLScalarVolumeNode")):
        if node.GetNodeReferenceID(SYNTHETIC_ROLE) == synthetic.GetID():
            outdate(node)


def _node(
    kind: str, synthetic: slicer.vtkMRMLScalarVolumeNode, acquired: slicer.vtkMRMLScalarVolumeNode, name: str
) -> slicer.vtkMRMLNode:
    """The node of this kind that holds an earlier scoring of the same two volumes, or a new one."""
    scene = synthetic.GetScene()
    roles = {SYNTHETIC_ROLE: synthetic.GetID(), ACQUIRED_ROLE: acquired.GetID()}
    for node in views.nodes(scene, kind):
        if all(node.GetNodeReferenceID(role) == node_id for role, node_id in roles.items()):
            node.SetName(node.GetName().removesuffix(OUTDATED))
            return node
    node = scene.AddNewNodeByClass(kind, scene.GenerateUniqueName(name))
    for role, node_id in roles.items():
        node.SetNodeReferenceID(role, node_id)
    return node


def colour_ramp() -> NDArray[np.float64]:
    """Colours of the difference from -`WINDOW` to `WINDOW`: black in the middle, equally bright on both sides.

    Returns
    -------
    ndarray, shape (256, 3)
        Red, green, blue in [0, 1].
    """
    position = np.linspace(-1, 1, LEVELS)
    strength = np.where(np.abs(position) <= 1 / (LEVELS - 1), 0, np.abs(position))
    # Black, a strong colour, a bright one. The two middle levels are exactly black: between them lies 0.
    knots = [0, 0.5, 1]
    negative = [np.interp(strength, knots, levels) for levels in ([0, 0.1, 0.6], [0, 0.4, 1], [0, 1, 1])]
    positive = [np.interp(strength, knots, levels) for levels in ([0, 1, 1], [0, 0.3, 1], [0, 0.1, 0.5])]
    return np.where(position[:, None] < 0, np.stack(negative, axis=1), np.stack(positive, axis=1))
