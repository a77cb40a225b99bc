"""The MRML side on real nodes: grid, provenance, hierarchy, masks, storage, and what stays untouched."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer")
vtk = pytest.importorskip("vtk")

from MRSynth import MRSynthLogic  # noqa: E402
from MRSynthLib.desktop import mrml, results  # noqa: E402
from MRSynthLib.desktop.runner import RunResult  # noqa: E402
from MRSynthLib.engine.errors import DeviceError, InputError, MRSynthError, OutputError  # noqa: E402
from MRSynthLib.engine.volume import Volume  # noqa: E402

SHAPE = (6, 7, 8)  # k, j, i

INFO: dict[str, Any] = {
    "source_contrast": "t1",
    "target_contrast": "t2",
    "contrast_reason": "white matter is brighter than grey matter",
    "device": "cpu",
    "precision": "fp32",
    "device_reason": "no GPU was found",
    "seconds": 1.25,
    "warnings": [],
    "checkpoint_name": "tiny-untrained",
    "checkpoint_sha256": "ab" * 32,
    "description": "SYNTHETIC T2w from T1w, MRSynth 0.1.0 tiny-untrained abababababab",
}


def rotation(degrees: float, axis: int) -> np.ndarray:
    angle = math.radians(degrees)
    a, b = [n for n in range(3) if n != axis]
    matrix = np.eye(4)
    matrix[[a, a, b, b], [a, b, a, b]] = math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)
    return matrix


def placed(directions: np.ndarray) -> np.ndarray:
    affine = np.array(directions, dtype=np.float64)
    affine[:3, 3] = -31.5, 12.25, 80.0
    return affine


SHEAR = np.eye(4)
SHEAR[1, 2] = 0.3
AFFINES = {
    "axial": placed(np.diag([1.0, 1.0, 1.0, 1.0])),
    "anisotropic": placed(np.diag([0.5, 0.5, 6.0, 1.0])),
    "left-handed": placed(np.diag([-1.0, 1.0, 1.2, 1.0])),
    "sagittal": placed(np.diag([1.0, 0.9, 0.8, 1.0])[:, [2, 0, 1, 3]]),
    "oblique": placed(rotation(17, 0) @ rotation(-8, 2) @ np.diag([0.9, 1.1, 3.0, 1.0])),
    "gantry tilt": placed(rotation(5, 1) @ SHEAR @ np.diag([1.0, 1.0, 2.0, 1.0])),
}


@pytest.fixture
def scene() -> Iterator[Any]:
    scene = slicer.vtkMRMLScene()
    before, slicer.mrmlScene = getattr(slicer, "mrmlScene", None), scene
    yield scene
    scene.Clear(True)
    slicer.mrmlScene = before


def add_volume(scene: Any, name: str = "MRHead", affine: np.ndarray = AFFINES["oblique"]) -> Any:
    voxels = np.random.default_rng(5).integers(0, 900, SHAPE).astype(np.int16)
    node = scene.AddNode(mrml.node_from_volume(Volume(voxels=voxels, ijk_to_ras=affine, name=name)))
    node.CreateDefaultDisplayNodes()
    return node


def add_linear(scene: Any, matrix: np.ndarray) -> Any:
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    return transform


def add_warp(scene: Any) -> Any:
    """A transform that no matrix can hold: a thin-plate spline that bends the volume by some millimetres."""
    points, moved = vtk.vtkPoints(), vtk.vtkPoints()
    for corner in np.ndindex(2, 2, 2):
        x, y, z = (np.array(corner) * 40.0) + (-40.0, 0.0, 70.0)
        points.InsertNextPoint(x, y, z)
        moved.InsertNextPoint(x + 3.0 * corner[1], y - 2.0 * corner[0] * corner[2], z + 2.5 * corner[0])
    spline = vtk.vtkThinPlateSplineTransform()
    spline.SetBasisToR()
    spline.SetSourceLandmarks(points)
    spline.SetTargetLandmarks(moved)
    transform = scene.AddNewNodeByClass("vtkMRMLTransformNode")
    transform.SetAndObserveTransformToParent(spline)
    assert not transform.IsLinear()
    return transform


def calculated(volume: Volume, **options: Any) -> RunResult:
    """Stand in for the child process: the negative of the input, so that every voxel is known."""
    voxels = (1000 - volume.voxels).astype(np.int16)
    return RunResult(
        voxels=voxels,
        info={**INFO, "target_contrast": options["target"] or "t2"},
        cycle=np.full_like(voxels, 7) if options["cycle"] else None,
    )


def synthesize(node: Any, **arguments: Any) -> Any:
    return MRSynthLogic(run=calculated).synthesize(node, **arguments)


def world(node: Any, ijk: tuple[int, int, int]) -> np.ndarray:
    """World position (RAS, mm) of a voxel, through the node's parent transform."""
    ras = mrml.ijk_to_ras(node) @ (*ijk, 1.0)
    moved = [0.0, 0.0, 0.0]
    node.TransformPointToWorld(ras[:3], moved)
    return np.array(moved)


def snapshot(scene: Any) -> dict[str, Any]:
    """Everything of the scene that a user could miss if it changed."""
    kept = {}
    for index in range(scene.GetNumberOfNodes()):
        node = scene.GetNthNode(index)
        if node.IsA("vtkMRMLTransformableNode"):
            node.GetTransformNodeID()  # the first such call by anyone moves the node's own modification time
        voxels = None
        if node.IsA("vtkMRMLVolumeNode") and node.GetImageData():
            voxels = slicer.util.arrayFromVolume(node).tobytes()
        kept[node.GetID()] = (node.GetMTime(), node.GetName(), voxels)
    return kept


# --- geometry -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_result_lies_on_the_sources_grid_bit_for_bit(scene: Any, affine: np.ndarray) -> None:
    source = add_volume(scene, affine=affine)
    result = synthesize(source)
    np.testing.assert_array_equal(mrml.ijk_to_ras(result), mrml.ijk_to_ras(source))
    assert slicer.vtkSlicerVolumesLogic().CompareVolumeGeometry(source, result) == ""
    assert results.geometry_mismatch(source, result) == ""
    expected = 1000 - slicer.util.arrayFromVolume(source)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(result), expected)
    assert slicer.util.arrayFromVolume(result).dtype == np.int16


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_a_node_becomes_a_volume_and_back_without_loss(scene: Any, affine: np.ndarray) -> None:
    volume = mrml.volume_from_node(add_volume(scene, affine=affine))
    np.testing.assert_allclose(volume.ijk_to_ras, affine, atol=1e-12)
    again = mrml.volume_from_node(mrml.node_from_volume(volume))
    np.testing.assert_allclose(again.ijk_to_ras, affine, atol=1e-12)
    np.testing.assert_array_equal(again.voxels, volume.voxels)
    assert (again.name, again.shape) == ("MRHead", SHAPE)


def test_a_captured_volume_does_not_change_with_its_node(scene: Any) -> None:
    source = add_volume(scene)
    volume = mrml.volume_from_node(source)
    before = volume.voxels.copy()
    slicer.util.arrayFromVolume(source)[:] = 0
    np.testing.assert_array_equal(volume.voxels, before)


@pytest.mark.parametrize("kind", ["linear", "non-linear"])
def test_result_moves_with_the_source_under_its_parent_transform(scene: Any, kind: str) -> None:
    source = add_volume(scene)
    parent = add_warp(scene) if kind == "non-linear" else add_linear(scene, placed(rotation(30, 2)))
    source.SetAndObserveTransformNodeID(parent.GetID())
    result = synthesize(source)
    assert result.GetParentTransformNode() is parent
    assert results.geometry_mismatch(source, result) == ""
    for voxel in [(0, 0, 0), (7, 6, 5), (3, 2, 4)]:
        np.testing.assert_array_equal(world(result, voxel), world(source, voxel))
    assert np.abs(world(source, (7, 6, 5)) - (mrml.ijk_to_ras(source) @ (7, 6, 5, 1))[:3]).max() > 0.5


def test_geometry_mismatch_names_what_differs(scene: Any) -> None:
    first, second = add_volume(scene), add_volume(scene)
    second.SetOrigin(0, 0, 0)
    assert "IJKToRAS mismatch" in results.geometry_mismatch(first, second)
    third = add_volume(scene)
    third.SetAndObserveTransformNodeID(add_linear(scene, np.eye(4)).GetID())
    assert results.geometry_mismatch(first, third) == "different parent transforms"


# --- what the result says about itself ----------------------------------------------------------------------


def test_result_says_that_it_is_synthetic_and_by_which_model(scene: Any) -> None:
    source = add_volume(scene)
    result = synthesize(source)
    assert result.GetClassName() == "vtkMRMLScalarVolumeNode"
    assert result.GetName() == "MRHead [synthetic T2]"
    expected = {
        "Synthetic": "1",
        "Model": "tiny-untrained",
        "ModelSHA256": "ab" * 32,
        "Direction": "T1 to T2",
        "SourceID": source.GetID(),
        "SourceContrastReason": "white matter is brighter than grey matter",
        "Device": "cpu",
        "DeviceReason": "no GPU was found",
        "Seconds": "1.2",
    }
    assert {key: result.GetAttribute(f"MRSynth.{key}") for key in expected} == expected
    assert result.GetNodeReference("MRSynthSource") is source
    assert result.GetDescription().startswith("SYNTHETIC T2w from T1w")
    assert "not for diagnosis" in result.GetDescription()


def test_a_second_result_gets_a_name_of_its_own(scene: Any) -> None:
    source = add_volume(scene)
    first, second = synthesize(source), synthesize(source)
    assert first.GetName() == "MRHead [synthetic T2]"
    assert second.GetName().startswith("MRHead [synthetic T2]")
    assert second.GetName() != first.GetName()


def test_window_is_the_declared_scale_whatever_the_voxels(scene: Any) -> None:
    display = synthesize(add_volume(scene)).GetDisplayNode()
    assert not display.GetAutoWindowLevel()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (0, 1000)


def test_target_and_options_reach_the_run(scene: Any) -> None:
    seen: dict[str, Any] = {}

    def run(volume: Volume, **options: Any) -> RunResult:
        seen.update(options)
        return calculated(volume, **options)

    result = MRSynthLogic(run=run).synthesize(
        add_volume(scene), target="t1", model="m.safetensors", device="cpu"
    )
    assert result.GetName() == "MRHead [synthetic T1]"
    assert seen == {"model": "m.safetensors", "device": "cpu", "target": "t1", "mask": None, "cycle": False}


def test_cycle_difference_goes_to_its_node_only_when_asked(scene: Any) -> None:
    source = add_volume(scene)
    cycle = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "difference")
    synthesize(source, cycleNode=cycle)
    assert np.all(slicer.util.arrayFromVolume(cycle) == 7)
    assert slicer.vtkSlicerVolumesLogic().CompareVolumeGeometry(source, cycle) == ""
    assert cycle.GetAttribute("MRSynth.Synthetic") == "1"


# --- subject hierarchy --------------------------------------------------------------------------------------


@pytest.fixture
def examination(scene: Any) -> tuple[Any, Any, int]:
    """A source loaded from DICOM in a folder of its study; returns it with the hierarchy and the folder."""
    source = add_volume(scene, "3: t1_mprage")
    source.SetAttribute("DICOM.instanceUIDs", "1.2.3.1 1.2.3.2")
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "Anonymous")
    study = hierarchy.CreateStudyItem(patient, "Brain")
    folder = hierarchy.CreateFolderItem(study, "before contrast")
    item = hierarchy.CreateItem(folder, source)
    hierarchy.SetItemUID(item, "DICOM", "1.2.3")
    hierarchy.SetItemAttribute(item, "DICOM.SeriesDescription", "t1_mprage")
    return source, hierarchy, folder


def test_result_lies_in_the_sources_folder_and_study(examination: tuple[Any, Any, int]) -> None:
    source, hierarchy, folder = examination
    item = hierarchy.GetItemByDataNode(synthesize(source))
    assert hierarchy.GetItemParent(item) == folder
    study = hierarchy.GetItemAncestorAtLevel(item, "Study")
    assert hierarchy.GetItemName(study) == "Brain"


def test_result_never_claims_the_sources_dicom_series(examination: tuple[Any, Any, int]) -> None:
    source, hierarchy, _ = examination
    source_item = hierarchy.GetItemByDataNode(source)
    result = synthesize(source)
    item = hierarchy.GetItemByDataNode(result)
    assert result.GetAttribute("DICOM.instanceUIDs") is None
    assert not hierarchy.GetItemUID(item, "DICOM")
    assert hierarchy.GetItemAttribute(item, "DICOM.SeriesDescription") == "SYNTHETIC T2 of 3: t1_mprage"
    assert hierarchy.GetItemAttribute(source_item, "DICOM.SeriesDescription") == "t1_mprage"
    assert hierarchy.GetItemUID(source_item, "DICOM") == "1.2.3"
    assert hierarchy.GetItemByUID("DICOM", "1.2.3") == source_item


def test_an_output_node_that_held_an_acquired_series_is_cut_off_from_it(
    scene: Any, examination: tuple[Any, Any, int]
) -> None:
    source, hierarchy, folder = examination
    output = add_volume(scene, "old")
    output.SetAttribute("DICOM.instanceUIDs", "9.9.1")
    item = hierarchy.CreateItem(hierarchy.GetSceneItemID(), output)
    hierarchy.SetItemUID(item, "DICOM", "9.9")
    assert synthesize(source, outputNode=output) is output
    assert output.GetName() == "old"
    assert output.GetAttribute("DICOM.instanceUIDs") is None
    assert not hierarchy.GetItemUID(item, "DICOM")
    assert hierarchy.GetItemParent(item) == folder


# --- nothing else is touched --------------------------------------------------------------------------------


def test_input_and_every_other_node_stay_as_they_were(scene: Any, examination: tuple[Any, Any, int]) -> None:
    source, hierarchy, _ = examination
    source.SetAndObserveTransformNodeID(add_linear(scene, placed(rotation(3, 0))).GetID())
    mask = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "brain")
    slicer.util.updateVolumeFromArray(mask, np.ones(SHAPE, np.uint8))
    add_volume(scene, "another")
    before = snapshot(scene)
    result = synthesize(source, maskNode=mask)
    after = snapshot(scene)
    made = {result.GetID(), result.GetDisplayNodeID()}
    assert set(after) - set(before) == made
    untouched = {key: value for key, value in before.items() if key != hierarchy.GetID()}
    assert {key: after[key] for key in untouched} == untouched


def test_a_scene_without_hierarchy_gets_none(scene: Any) -> None:
    synthesize(add_volume(scene))
    assert scene.GetNumberOfNodesByClass("vtkMRMLSubjectHierarchyNode") == 0


def test_a_failed_run_leaves_the_scene_as_it_was(scene: Any) -> None:
    source, output = add_volume(scene), add_volume(scene, "output")
    before = snapshot(scene)

    def run(volume: Volume, **options: Any) -> RunResult:
        raise DeviceError("worker-died", "The worker ended.", "a result.")

    for arguments in ({}, {"outputNode": output}):
        with pytest.raises(DeviceError, match="worker ended"):
            MRSynthLogic(run=run).synthesize(source, **arguments)
    assert snapshot(scene) == before


def test_a_source_moved_meanwhile_gets_no_result(scene: Any) -> None:
    source = add_volume(scene)

    def run(volume: Volume, **options: Any) -> RunResult:
        source.SetOrigin(1, 2, 3)
        return calculated(volume, **options)

    count = scene.GetNumberOfNodes()
    with pytest.raises(InputError, match="changed while its synthesis ran"):
        MRSynthLogic(run=run).synthesize(source)
    assert scene.GetNumberOfNodes() == count


def test_a_source_deleted_meanwhile_gets_no_result(scene: Any) -> None:
    source = add_volume(scene)

    def run(volume: Volume, **options: Any) -> RunResult:
        scene.RemoveNode(source)
        return calculated(volume, **options)

    with pytest.raises(InputError, match="removed while its synthesis ran"):
        MRSynthLogic(run=run).synthesize(source)
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0


def test_a_half_made_node_is_removed(scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    source = add_volume(scene)
    before = snapshot(scene)

    def broken(*arguments: Any) -> None:
        raise RuntimeError("no hierarchy today")

    monkeypatch.setattr(results, "_place_beside", broken)
    with pytest.raises(RuntimeError, match="no hierarchy today"):
        synthesize(source)
    assert snapshot(scene) == before


# --- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("vtkMRMLLabelMapVolumeNode", "input-label-map"),
        ("vtkMRMLVectorVolumeNode", "input-color"),
        ("vtkMRMLDiffusionTensorVolumeNode", "input-color"),
        ("vtkMRMLDiffusionWeightedVolumeNode", "input-color"),
        ("vtkMRMLModelNode", "input-not-an-image"),
        ("vtkMRMLScalarVolumeNode", "input-empty"),
    ],
)
def test_other_nodes_are_refused_by_kind(scene: Any, kind: str, code: str) -> None:
    node = scene.AddNewNodeByClass(kind, "wrong one")
    with pytest.raises(InputError, match="wrong one") as caught:
        synthesize(node)
    assert caught.value.code == code


def test_no_node_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        synthesize(None)
    assert caught.value.code == "input-not-an-image"


def test_a_scalar_node_with_colours_is_refused(scene: Any) -> None:
    node = add_volume(scene)
    image = vtk.vtkImageData()
    image.SetDimensions(8, 7, 6)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
    node.SetAndObserveImageData(image)
    with pytest.raises(InputError, match="3 values per voxel"):
        synthesize(node)


def test_output_must_be_a_node_of_its_own(scene: Any) -> None:
    source = add_volume(scene)
    label_map = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    for output, code in ((source, "output-is-input"), (label_map, "output-format")):
        with pytest.raises(OutputError) as caught:
            synthesize(source, outputNode=output)
        assert caught.value.code == code


def test_reliability_is_refused_as_long_as_no_checkpoint_has_it(scene: Any) -> None:
    with pytest.raises(MRSynthError, match="reliability"):
        synthesize(add_volume(scene), reliability=True)


# --- masks --------------------------------------------------------------------------------------------------


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
    assert np.abs(np.linalg.det(volume.ijk_to_ras)) * (volume.voxels > 0).sum() == pytest.approx(
        4189, rel=0.05
    )
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


# --- storage ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".nrrd", ".nii.gz"])
@pytest.mark.parametrize("geometry", ["axial", "left-handed", "oblique", "gantry tilt"])
def test_stored_result_is_read_back_at_the_same_place(
    scene: Any, tmp_path: Path, ending: str, geometry: str
) -> None:
    if (ending, geometry) == (".nii.gz", "gantry tilt"):
        pytest.skip("Slicer's own NIfTI storage cannot hold a shear; .nrrd does")
    result = synthesize(add_volume(scene, affine=AFFINES[geometry]))
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(tmp_path / f"result{ending}"))
    assert storage.WriteData(result)
    reading = slicer.vtkMRMLVolumeArchetypeStorageNode()
    reading.SetFileName(storage.GetFileName())
    again = slicer.vtkMRMLScalarVolumeNode()
    assert reading.ReadData(again)
    # NIfTI files reverse a left-handed array; what has to hold is that every value keeps its place.
    old, new = mrml.volume_from_node(result), mrml.volume_from_node(again)
    index_of_new = np.linalg.inv(new.ijk_to_ras) @ old.ijk_to_ras
    for k, j, i in np.ndindex(*old.shape):
        x, y, z = np.rint((index_of_new @ (i, j, k, 1))[:3]).astype(int)
        assert new.voxels[z, y, x] == old.voxels[k, j, i]
    np.testing.assert_allclose(index_of_new @ (3, 3, 3, 1), np.rint(index_of_new @ (3, 3, 3, 1)), atol=1e-3)


def test_scene_bundle_keeps_result_provenance_and_source(scene: Any, tmp_path: Path) -> None:
    source = add_volume(scene)
    parent = add_linear(scene, placed(rotation(30, 2)))
    source.SetAndObserveTransformNodeID(parent.GetID())
    result = synthesize(source)
    voxels = slicer.util.arrayFromVolume(result).copy()
    bundle = tmp_path / "scene.mrb"
    assert scene.WriteToMRB(str(bundle))

    loaded = slicer.vtkMRMLScene()
    cache, manager = slicer.vtkCacheManager(), slicer.vtkDataIOManager()
    cache.SetRemoteCacheDirectory(str(tmp_path))
    loaded.SetCacheManager(cache)
    manager.SetCacheManager(cache)
    loaded.SetDataIOManager(manager)
    assert loaded.ReadFromMRB(str(bundle))
    again = loaded.GetFirstNodeByName("MRHead [synthetic T2]")
    assert again.GetAttribute("MRSynth.Synthetic") == "1"
    assert again.GetAttribute("MRSynth.ModelSHA256") == "ab" * 32
    assert again.GetNodeReference("MRSynthSource").GetName() == "MRHead"
    assert again.GetParentTransformNode() is not None
    np.testing.assert_allclose(mrml.ijk_to_ras(again), mrml.ijk_to_ras(result), atol=1e-6)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(again), voxels)
    display = again.GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (0, 1000)


# --- the whole way, with a real child process ---------------------------------------------------------------


def test_console_and_engine_give_the_same_voxels(
    scene: Any, phantom_t1: Volume, tiny_checkpoint: Path
) -> None:
    from MRSynthLib.engine.synthesis import Synthesizer

    source = scene.AddNode(mrml.node_from_volume(phantom_t1))
    cycle = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "difference")
    result = MRSynthLogic().synthesize(source, model=str(tiny_checkpoint), device="cpu", cycleNode=cycle)
    expected = Synthesizer(tiny_checkpoint, device="cpu").synthesize(phantom_t1, cycle=True)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(result), expected.volume.voxels)
    assert expected.cycle is not None
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(cycle), expected.cycle.voxels)
    assert result.GetName() == "phantom T1 [synthetic T2]"
    assert result.GetAttribute("MRSynth.ModelSHA256") == expected.checkpoint_sha256
