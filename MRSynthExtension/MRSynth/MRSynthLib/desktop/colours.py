"""Colour tables of maps, and their legends in the slice views."""

from __future__ import annotations

import numpy as np
import slicer
from numpy.typing import NDArray


def colour_table(
    scene: slicer.vtkMRMLScene, name: str, colours: NDArray[np.float64], values: NDArray[np.float64], label: str
) -> slicer.vtkMRMLColorTableNode:
    """The scene's colour table of this name, made if it is not there.

    Parameters
    ----------
    colours : ndarray, shape (n, 3)
        Red, green, blue in [0, 1].
    values : ndarray, shape (n,)
        What each colour stands for.
    label : str
        Format of a value, e.g. "{:+.0f}".
    """
    node = scene.GetFirstNode(name, "vtkMRMLColorTableNode")
    if node is not None:
        return node
    node = slicer.vtkMRMLColorTableNode()
    node.SetName(name)
    node.SetTypeToUser()
    node.SetNumberOfColors(len(colours))
    for index, (colour, value) in enumerate(zip(colours, values, strict=True)):
        node.SetColor(index, label.format(value), *colour, 1.0)
    return scene.AddNode(node)


def show_legend(node: slicer.vtkMRMLScalarVolumeNode, title: str, label: str) -> None:
    """Show the colours with their values in the slice views; slicer-core has legends only where Slicer's logic is.

    Parameters
    ----------
    label : str
        Format of a value as C's printf takes it.
    """
    if not node.GetScene().IsNodeClassRegistered("vtkMRMLColorLegendDisplayNode"):
        return
    legend = slicer.vtkSlicerColorLogic.AddDefaultColorLegendDisplayNode(node)
    legend.SetTitleText(title)
    legend.SetLabelFormat(label)
