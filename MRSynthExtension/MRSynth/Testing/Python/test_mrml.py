"""The MRML side on real nodes: grid, provenance, hierarchy, refusals, and what stays untouched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("slicer")

import slicer
import vtk
from mrml_scenes import (
    AFFINES,
    SHAPE,
    add_linear,
    add_result,
    add_volume,
    add_warp,
    calculated,
    in_process,
    placed,
    rotation,
    snapshot,
    synthesize,
    world,
)
from mrml_scenes import scene as scene

from MRSynth import MRSynthLogic
from MRSynthLib.desktop import mrml, nodes, results
from MRSynthLib.desktop.runner import RunResult
from MRSynthLib.engine.errors import DeviceError, InputError, OutputError
from MRSynthLib.engine.volume import Volume

# --- geometry -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_result_lies_on_the_sources_grid_bit_for_bit(scene: Any, affine: np.ndarray) -> None:
    source = add_volume(scene, affine=affine)
    result = synthesize(source)
    np.testing.assert_array_equal(mrml.ijk_to_ras(result), mrml.ijk_to_ras(source))
    assert slicer.vtkSlicerVolumesLogic().CompareVolumeGeometry(source, result) == ""
    assert nodes.geometry_mismatch(source, result) == ""
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
    assert nodes.geometry_mismatch(source, result) == ""
    for voxel in [(0, 0, 0), (7, 6, 5), (3, 2, 4)]:
        np.testing.assert_array_equal(world(result, voxel), world(source, voxel))
    assert np.abs(world(source, (7, 6, 5)) - (mrml.ijk_to_ras(source) @ (7, 6, 5, 1))[:3]).max() > 0.5


def test_geometry_mismatch_names_what_differs(scene: Any) -> None:
    first, second = add_volume(scene), add_volume(scene)
    second.SetOrigin(0, 0, 0)
    assert "IJKToRAS mismatch" in nodes.geometry_mismatch(first, second)
    third = add_volume(scene)
    third.SetAndObserveTransformNodeID(add_linear(scene, np.eye(4)).GetID())
    assert nodes.geometry_mismatch(first, third) == "different parent transforms"


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

    result = MRSynthLogic(worker=in_process(run)).synthesize(
        add_volume(scene), target="t1", model="m.safetensors", device="cpu", planes="three", force=True
    )
    assert result.GetName() == "MRHead [synthetic T1]"
    said = {"model": "m.safetensors", "device": "cpu", "target": "t1", "planes": "three", "force": True}
    assert seen == {**said, "mask": None, "like": None, "cycle": False, "reliability": False}


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


def test_a_volume_of_the_users_is_never_overwritten(scene: Any) -> None:
    source, acquired = add_volume(scene), add_volume(scene, "acquired T2")
    before = snapshot(scene)
    for role in ("outputNode", "cycleNode"):
        with pytest.raises(OutputError, match="acquired T2") as caught:
            synthesize(source, **{role: acquired})
        assert caught.value.code == "output-exists"
    assert snapshot(scene) == before


def test_an_empty_node_takes_the_result(scene: Any) -> None:
    empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    assert synthesize(add_volume(scene), outputNode=empty) is empty
    assert empty.GetImageData() is not None


def test_an_output_node_that_held_an_exported_series_is_cut_off_from_it(
    scene: Any, examination: tuple[Any, Any, int]
) -> None:
    source, hierarchy, folder = examination
    output = add_result(scene, "old")
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
    source, output = add_volume(scene), add_result(scene, "output")
    before = snapshot(scene)

    def run(volume: Volume, **options: Any) -> RunResult:
        raise DeviceError("worker-died", "The worker ended.", "a result.")

    for arguments in ({}, {"outputNode": output}):
        with pytest.raises(DeviceError, match="worker ended"):
            MRSynthLogic(worker=in_process(run)).synthesize(source, **arguments)
    assert snapshot(scene) == before


def test_a_source_moved_meanwhile_gets_no_result(scene: Any) -> None:
    source = add_volume(scene)

    def run(volume: Volume, **options: Any) -> RunResult:
        source.SetOrigin(1, 2, 3)
        return calculated(volume, **options)

    count = scene.GetNumberOfNodes()
    with pytest.raises(InputError, match="changed while its synthesis ran"):
        MRSynthLogic(worker=in_process(run)).synthesize(source)
    assert scene.GetNumberOfNodes() == count


def test_a_source_deleted_meanwhile_gets_no_result(scene: Any) -> None:
    source = add_volume(scene)

    def run(volume: Volume, **options: Any) -> RunResult:
        scene.RemoveNode(source)
        return calculated(volume, **options)

    with pytest.raises(InputError, match="removed while its synthesis ran"):
        MRSynthLogic(worker=in_process(run)).synthesize(source)
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0


def test_a_half_made_node_is_removed(scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    source = add_volume(scene)
    before = snapshot(scene)

    def broken(*arguments: Any) -> None:
        raise RuntimeError("no hierarchy today")

    monkeypatch.setattr(results, "place_beside", broken)
    with pytest.raises(DeviceError, match="no hierarchy today") as caught:
        synthesize(source)
    assert caught.value.code == "run-failed"
    assert isinstance(caught.value.__cause__, RuntimeError)
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


def test_result_and_cycle_difference_need_two_nodes(scene: Any) -> None:
    source, output = add_volume(scene), scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "output")
    before = snapshot(scene)
    with pytest.raises(OutputError) as caught:
        synthesize(source, outputNode=output, cycleNode=output)
    assert caught.value.code == "output-is-input"
    assert snapshot(scene) == before


def test_a_cycle_difference_is_no_former_result_but_takes_another_one(scene: Any) -> None:
    source, cycle = add_volume(scene), scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "cycle")
    synthesize(source, cycleNode=cycle)
    with pytest.raises(OutputError, match="holds a map") as caught:
        synthesize(source, outputNode=cycle)
    assert caught.value.code == "output-exists"
    synthesize(source, cycleNode=cycle)


def test_a_node_forgets_what_was_said_of_the_volume_that_it_held(scene: Any) -> None:
    source, node = add_volume(scene), add_result(scene, "old")
    for name, value in (("Mark", ""), ("Direction", "T2 to T1"), ("Warnings", "Odd."), ("Trust", "{}")):
        node.SetAttribute(f"MRSynth.{name}", value)
    node.SetAttribute("Another.Module", "kept")
    node.GetDisplayNode().SetAndObserveColorNodeID("vtkMRMLColorTableNodeRainbow")
    synthesize(source, cycleNode=node)
    said = {name for name in node.GetAttributeNames() if name.startswith("MRSynth.")}
    wanted = ("Synthetic", "Version", "SourceID", "SourceName", "Description", "Model", "ModelSHA256")
    assert said == {f"MRSynth.{name}" for name in wanted}
    assert node.GetAttribute("Another.Module") == "kept"
    assert node.GetDisplayNode().GetColorNodeID() == "vtkMRMLColorTableNodeGrey"


# --- the whole way, with a real child process ---------------------------------------------------------------


def test_console_and_engine_give_the_same_voxels(scene: Any, phantom_t1: Volume, tiny_checkpoint: Path) -> None:
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
