"""What is done with volume nodes wherever a volume is made: compare grids, set the window, find the place, remove."""

from __future__ import annotations

import slicer


def geometry_mismatch(first: slicer.vtkMRMLScalarVolumeNode, second: slicer.vtkMRMLScalarVolumeNode) -> str:
    """Say how the grids or parents of two volumes differ; empty where they do not.

    Slicer's own comparison decides on the grids. What it says of transforms is left out: it calls any two
    volumes under the same parent transform mismatched, even a volume and itself (seen in 5.13), so parents
    are compared here.
    """
    compared = slicer.vtkSlicerVolumesLogic().CompareVolumeGeometry(first, second)
    lines = [line for line in compared.splitlines() if line != "Transform mismatch"]
    if first.GetTransformNodeID() != second.GetTransformNodeID():
        lines.append("different parent transforms")
    return "; ".join(lines)


def set_window(node: slicer.vtkMRMLScalarVolumeNode, minimum: float, maximum: float) -> None:
    """Show this range: the output scale is declared, so nothing is guessed from the voxels."""
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(minimum, maximum)


def place_beside(source: slicer.vtkMRMLScalarVolumeNode, node: slicer.vtkMRMLScalarVolumeNode, what: str) -> None:
    """Give a node the source's place in the subject hierarchy, and a series description of its own.

    Patient and study are the parent items' and come with the place. The source's UIDs stay with the source.
    """
    scene = source.GetScene()
    # GetSubjectHierarchyNode would make a hierarchy in a scene that has none.
    hierarchy = scene.GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode")
    source_item = hierarchy.GetItemByDataNode(source) if hierarchy else 0
    if not source_item:
        return
    parent = hierarchy.GetItemParent(source_item)
    # In the application the item is there already, made when the node was added; on slicer-core it is not.
    item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(parent, node)
    hierarchy.SetItemParent(item, parent)
    hierarchy.RemoveItemUID(item, slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMUIDName())
    hierarchy.SetItemAttribute(
        item, "DICOM.SeriesDescription", f"SYNTHETIC {what.removeprefix('synthetic ')} of {source.GetName()}"
    )
    hierarchy.SetItemAttribute(item, "DICOM.Modality", "MR")


def remove(node: slicer.vtkMRMLScalarVolumeNode) -> None:
    """Remove a volume and its display from the scene."""
    display = node.GetDisplayNode()
    scene = node.GetScene()
    scene.RemoveNode(node)
    if display is not None:
        scene.RemoveNode(display)
