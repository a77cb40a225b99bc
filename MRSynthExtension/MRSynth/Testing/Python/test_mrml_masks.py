"""Brain masks of every kind, on any grid and under any transform, end where they lie in the world."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("slicer")

import slicer
import vtk
from mrml_scenes import (
    AFFINES,
    add_linear,
    add_volume,
    add_warp,
    placed,
    rotation,
    snapshot,
    synthesize,
    world,
)
from mrml_scenes import scene as scene

from MRSynthLib.desktop import mrml, results
from MRSynthLib.engine.errors import InputError
from MRSynthLib.engine.volume import Volume


def captured_mask(source: Any, mask: Any) -> Volume:
    volume = results.capture(source, mask).mask
    assert volume is not None
    return volume


def marked(volume: Volume) -> np.ndarray:
    """RAS position (in the source's own frame) of the one voxel that a mask marks."""
    indices = np.argwhere(volume.voxels > 0)
    assert len(indices) == 1
    k, j, i = indices[0]
    return (volume.ijk_to_ras @ (i, j, k, 1.0))[:3]


def add_mask(scene: Any, voxel: tuple[int, int, int], kind: str = "vtkMRMLLabelMapVolumeNode") -> Any:
    """A mask on a grid of its own that marks one voxel (i, j, k)."""
    node = scene.AddNewNodeByClass(kind, "brain")
    voxels = np.zeros((9, 10, 11), np.uint8)
    voxels[voxel[::-1]] = 1
    slicer.util.updateVolumeFromArray(node, voxels)
    affine = placed(rotation(11, 1) @ np.diag([-2.0, 2.0, 2.0, 1.0]))
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(affine))
    return node


@pytest.mark.parametrize("kind", ["vtkMRMLLabelMapVolumeNode", "vtkMRMLScalarVolumeNode"])
def test_mask_on_another_grid_keeps_its_place(scene: Any, kind: str) -> None:
    source, mask = add_volume(scene), add_mask(scene, (4, 5, 6), kind)
    np.testing.assert_allclose(marked(captured_mask(source, mask)), world(mask, (4, 5, 6)), atol=1e-9)


def test_mask_and_source_under_different_linear_parents_meet_in_the_world(scene: Any) -> None:
    source, mask = add_volume(scene), add_mask(scene, (4, 5, 6))
    parent = add_linear(scene, placed(rotation(40, 0)))
    source.SetAndObserveTransformNodeID(parent.GetID())
    mask.SetAndObserveTransformNodeID(add_linear(scene, placed(rotation(-25, 2))).GetID())
    in_source_frame = marked(captured_mask(source, mask))
    to_world = slicer.util.arrayFromTransformMatrix(parent)
    np.testing.assert_allclose((to_world @ (*in_source_frame, 1))[:3], world(mask, (4, 5, 6)), atol=1e-9)


def test_mask_under_the_same_warp_as_the_source_is_not_resampled(scene: Any) -> None:
    source, mask = add_volume(scene), add_mask(scene, (4, 5, 6))
    own = mrml.ijk_to_ras(mask)
    warp = add_warp(scene)
    for node in (source, mask):
        node.SetAndObserveTransformNodeID(warp.GetID())
    volume = captured_mask(source, mask)
    np.testing.assert_allclose(volume.ijk_to_ras, own, atol=1e-12)
    assert volume.shape == (9, 10, 11)


@pytest.mark.parametrize("warped", ["source", "mask"])
def test_mask_across_a_warp_is_sampled_where_it_lies_in_the_world(scene: Any, warped: str) -> None:
    source = add_volume(scene, affine=AFFINES["axial"])
    mask = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "brain")
    voxels = np.zeros((40, 40, 40), np.uint8)
    voxels[:, :, 20:] = 1  # right of a plane
    slicer.util.updateVolumeFromArray(mask, voxels)
    affine = np.diag([0.5, 0.5, 0.5, 1.0])
    affine[:3, 3] = -38.0, 8.0, 75.0
    mask.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(affine))
    {"source": source, "mask": mask}[warped].SetAndObserveTransformNodeID(add_warp(scene).GetID())
    volume = captured_mask(source, mask)
    np.testing.assert_array_equal(volume.ijk_to_ras, mrml.ijk_to_ras(source))
    to_ijk = np.linalg.inv(affine)
    compared = 0
    for k, j, i in np.ndindex(*volume.shape):
        local = [0.0, 0.0, 0.0]
        mask.TransformPointFromWorld(world(source, (i, j, k)), local)
        index = to_ijk @ (*local, 1.0)
        inside = np.all((index[:3] > 1) & (index[:3] < 38))
        if inside and abs(index[0] - 19.5) > 0.1:  # not on the plane itself
            assert volume.voxels[k, j, i] == (index[0] > 19.5)
            compared += 1
    assert compared > 100
    assert 0 < np.count_nonzero(volume.voxels) < volume.voxels.size


@pytest.fixture
def segmentation_rules(scene: Any) -> None:
    """Register the conversions between segment representations, as the application does when it starts."""
    slicer.vtkSlicerSegmentationsModuleLogic().SetMRMLScene(scene)


@pytest.mark.usefixtures("segmentation_rules")
def test_segmentation_counts_with_all_segments_wherever_its_voxels_start(scene: Any) -> None:
    source = add_volume(scene)
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "brain")
    affine = placed(rotation(11, 1) @ np.diag([-2.0, 2.0, 2.0, 1.0]))
    expected = []
    for voxel in ((3, 4, 5), (6, 2, 7)):
        image = slicer.vtkOrientedImageData()
        i, j, k = voxel
        image.SetExtent(i - 1, i + 1, j - 1, j + 1, k - 1, k + 1)
        image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
        image.GetPointData().GetScalars().Fill(0)
        image.SetScalarComponentFromDouble(i, j, k, 0, 1)
        image.SetImageToWorldMatrix(slicer.util.vtkMatrixFromArray(affine))
        segmentation.AddSegmentFromBinaryLabelmapRepresentation(image, f"part {i}")
        expected.append((affine @ (*voxel, 1.0))[:3])
    before = segmentation.GetSegmentation().GetMTime()
    volume = captured_mask(source, segmentation)
    found = [(volume.ijk_to_ras @ (i, j, k, 1))[:3] for k, j, i in np.argwhere(volume.voxels > 0)]
    np.testing.assert_allclose(sorted(map(tuple, found)), sorted(map(tuple, expected)), atol=1e-9)
    assert segmentation.GetSegmentation().GetMTime() == before


@pytest.mark.usefixtures("segmentation_rules")
def test_segmentation_of_surfaces_is_converted_in_a_copy(scene: Any) -> None:
    sphere = vtk.vtkSphereSource()
    sphere.SetCenter(-28, 16, 84)
    sphere.SetRadius(10)
    sphere.SetThetaResolution(40)
    sphere.SetPhiResolution(40)
    sphere.Update()
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "brain")
    segmentation.AddSegmentFromClosedSurfaceRepresentation(sphere.GetOutput(), "ball", [1, 0, 0])
    segmentation.GetSegmentation().SetSourceRepresentationName("Closed surface")
    before = snapshot(scene)
    volume = captured_mask(add_volume(scene), segmentation)
    assert np.abs(np.linalg.det(volume.ijk_to_ras)) * (volume.voxels > 0).sum() == pytest.approx(4189, rel=0.05)
    k, j, i = np.argwhere(volume.voxels > 0).mean(axis=0)
    np.testing.assert_allclose((volume.ijk_to_ras @ (i, j, k, 1))[:3], (-28, 16, 84), atol=0.3)
    assert not segmentation.GetSegmentation().ContainsRepresentation("Binary labelmap")
    assert before.items() <= snapshot(scene).items()


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("vtkMRMLSegmentationNode", "mask-empty"),
        ("vtkMRMLLabelMapVolumeNode", "mask-empty"),
        ("vtkMRMLModelNode", "mask-unreadable"),
    ],
)
def test_useless_masks_are_refused(scene: Any, kind: str, code: str) -> None:
    with pytest.raises(InputError) as caught:
        synthesize(add_volume(scene), maskNode=scene.AddNewNodeByClass(kind, "mask"))
    assert caught.value.code == code
