"""MRML nodes to `Volume` and back; no Qt, so that it runs in 3D Slicer and on slicer-core alike.

Geometry is a node's own IJK-to-RAS matrix. A parent transform places the node in the world and is left where
it is: the result is put under the same parent, so that both move together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from vtk.util.numpy_support import vtk_to_numpy

from MRSynthLib.engine.errors import InputError
from MRSynthLib.engine.volume import Volume

LABELMAP = "Binary labelmap"


def volume_from_node(node: slicer.vtkMRMLScalarVolumeNode) -> Volume:
    """Copy a scalar volume node's voxels and geometry.

    Parameters
    ----------
    node : vtkMRMLScalarVolumeNode
        May lie under any parent transform, which is ignored: the grid is the node's own.

    Returns
    -------
    Volume
        Voxels (k, j, i) of the node's type, IJK-to-RAS in mm, the node's name.

    Raises
    ------
    InputError
        For no node, label maps, vector, tensor and diffusion volumes, and for nodes without voxels.
    """
    name = _described(node)
    kind = node.GetClassName() if node else "None"
    if kind == "vtkMRMLLabelMapVolumeNode":
        raise InputError(
            "input-label-map",
            f"{name} is a label map.",
            "a volume of MR intensities.",
            "Choose the MR volume; a label map can be given as the mask.",
        )
    if kind != "vtkMRMLScalarVolumeNode":
        code = "input-color" if node and node.IsA("vtkMRMLVolumeNode") else "input-not-an-image"
        raise InputError(code, f"{name} is a {kind}.", "a scalar volume (vtkMRMLScalarVolumeNode).")
    return Volume(voxels=_voxels(node), ijk_to_ras=ijk_to_ras(node), name=node.GetName() or "")


def mask_from_node(node: slicer.vtkMRMLNode, reference: slicer.vtkMRMLScalarVolumeNode) -> Volume:
    """Copy a mask into the reference volume's own coordinates.

    Parameters
    ----------
    node : vtkMRMLLabelMapVolumeNode, vtkMRMLScalarVolumeNode or vtkMRMLSegmentationNode
        On any grid and under any parent transform; of a segmentation all segments count.
    reference : vtkMRMLScalarVolumeNode
        The volume that the mask is for.

    Returns
    -------
    Volume
        Above 0 inside the mask. On the mask's own grid; on the reference's grid (nearest neighbour) where the
        two nodes' parents differ by a non-linear transform, which no matrix can hold.

    Raises
    ------
    InputError
        If the node is no mask, cannot be turned into a label map, or is empty.
    """
    if node.IsA("vtkMRMLSegmentationNode"):
        mask = _volume_from_segmentation(node)
    elif node.GetClassName() in ("vtkMRMLLabelMapVolumeNode", "vtkMRMLScalarVolumeNode"):
        mask = Volume(voxels=_voxels(node, "mask-empty"), ijk_to_ras=ijk_to_ras(node), name=node.GetName() or "")
    else:
        raise InputError(
            "mask-unreadable",
            f"{_described(node)} is a {node.GetClassName()}.",
            "a label map, a segmentation or a scalar volume.",
            "Convert it to a segmentation.",
        )
    parent, reference_parent = node.GetParentTransformNode(), reference.GetParentTransformNode()
    matrix = vtk.vtkMatrix4x4()
    between = slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes
    if between(parent, reference_parent, matrix):
        relative = slicer.util.arrayFromVTKMatrix(matrix)
        return Volume(voxels=mask.voxels, ijk_to_ras=relative @ mask.ijk_to_ras, name=mask.name)
    return resliced(mask, parent, reference)


def node_from_volume(volume: Volume) -> slicer.vtkMRMLScalarVolumeNode:
    """Make a scalar volume node that is in no scene yet.

    Parameters
    ----------
    volume : Volume
        Its voxels are copied; booleans become 0 and 1.
    """
    node = slicer.vtkMRMLScalarVolumeNode()
    node.SetName(volume.name)
    voxels = volume.voxels.astype(np.uint8) if volume.voxels.dtype == bool else volume.voxels
    slicer.util.updateVolumeFromArray(node, voxels)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(volume.ijk_to_ras))
    return node


def ijk_to_ras(node: slicer.vtkMRMLVolumeNode) -> NDArray[np.float64]:
    """Return the node's own voxel-to-RAS matrix, shape (4, 4), mm, without parent transforms."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return np.array(slicer.util.arrayFromVTKMatrix(matrix), dtype=np.float64)


def _described(node: slicer.vtkMRMLNode | None) -> str:
    return f"The node '{node.GetName()}'" if node else "The chosen node"


def _voxels(node: slicer.vtkMRMLVolumeNode, code_if_empty: str = "input-empty") -> NDArray[Any]:
    image = node.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0:
        raise InputError(code_if_empty, f"{_described(node)} has no voxels.", "a loaded volume.")
    if image.GetNumberOfScalarComponents() != 1:
        components = image.GetNumberOfScalarComponents()
        raise InputError("input-color", f"{_described(node)} has {components} values per voxel.", "one value.")
    return np.array(slicer.util.arrayFromVolume(node))


def _volume_from_segmentation(node: slicer.vtkMRMLSegmentationNode) -> Volume:
    empty = InputError("mask-empty", f"{_described(node)} has no segment.", "a segment of the brain.")
    if node.GetSegmentation().GetNumberOfSegments() == 0:
        raise empty
    # Converted in a copy: a label map made in the user's own node would change it (and what is saved with
    # it).
    copy = slicer.vtkMRMLSegmentationNode()
    segmentation = copy.GetSegmentation()
    segmentation.DeepCopy(node.GetSegmentation())
    whole = segmentation.GetNumberOfSegments() == node.GetSegmentation().GetNumberOfSegments()
    if not whole or not segmentation.CreateRepresentation(LABELMAP):
        raise InputError(
            "mask-unreadable",
            f"{_described(node)} could not be turned into a label map.",
            "a segmentation that has, or can be converted to, a binary label map.",
        )
    merged = slicer.vtkOrientedImageData()
    extent = segmentation.EXTENT_UNION_OF_EFFECTIVE_SEGMENTS
    copy.GenerateMergedLabelmapForAllSegments(merged, extent, None)
    if merged.GetNumberOfPoints() == 0:
        raise empty
    matrix = vtk.vtkMatrix4x4()
    merged.GetImageToWorldMatrix(matrix)
    # A segment's voxels start anywhere on its grid; a Volume's first voxel has index 0.
    start = np.eye(4)
    start[:3, 3] = merged.GetExtent()[::2]
    voxels = vtk_to_numpy(merged.GetPointData().GetScalars()).reshape(merged.GetDimensions()[::-1])
    affine = slicer.util.arrayFromVTKMatrix(matrix) @ start
    return Volume(voxels=np.array(voxels), ijk_to_ras=affine, name=node.GetName() or "")


def resliced(
    volume: Volume,
    parent: slicer.vtkMRMLTransformNode | None,
    reference: slicer.vtkMRMLScalarVolumeNode,
    *,
    linear: bool = False,
    outside: float = 0,
) -> Volume:
    """Sample a volume on the grid of a node, through the transforms of both.

    Parameters
    ----------
    volume : Volume
        In the coordinates of `parent`.
    parent : vtkMRMLTransformNode or None
        Any transform; None is the world.
    reference : vtkMRMLScalarVolumeNode
        Its grid, under its own parent transform, is the result's.
    linear : bool
        Interpolate (as float32) instead of taking the nearest voxel.
    outside : float
        Value of what is more than half a voxel outside the volume.
    """
    grid_parent = reference.GetParentTransformNode()
    between, to_volume = vtk.vtkMatrix4x4(), vtk.vtkTransform()  # four times faster than a general transform
    if not slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(grid_parent, parent, between):
        between, to_volume = vtk.vtkGeneralTransform(), vtk.vtkGeneralTransform()
        slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(grid_parent, parent, between)
    to_volume.PostMultiply()
    to_volume.Concatenate(slicer.util.vtkMatrixFromArray(ijk_to_ras(reference)))
    to_volume.Concatenate(between)
    to_volume.Concatenate(slicer.util.vtkMatrixFromArray(np.linalg.inv(volume.ijk_to_ras)))
    source = volume.replaced(volume.voxels.astype(np.float32)) if linear else volume
    reslice = vtk.vtkImageReslice()
    reslice.SetInputData(node_from_volume(source).GetImageData())
    reslice.SetResliceTransform(to_volume)
    if linear:
        reslice.SetInterpolationModeToLinear()
    else:
        reslice.SetInterpolationModeToNearestNeighbor()
    reslice.SetBackgroundLevel(outside)
    size = reference.GetImageData().GetDimensions()
    reslice.SetOutputExtent(0, size[0] - 1, 0, size[1] - 1, 0, size[2] - 1)
    reslice.SetOutputOrigin(0, 0, 0)
    reslice.SetOutputSpacing(1, 1, 1)
    reslice.Update()
    voxels = vtk_to_numpy(reslice.GetOutput().GetPointData().GetScalars()).reshape(size[::-1])
    return Volume(voxels=np.array(voxels), ijk_to_ras=ijk_to_ras(reference), name=volume.name)
