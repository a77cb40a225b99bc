"""Scoring against an acquired volume, on real nodes: which numbers, of what, and what stays untouched."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("slicer")

import slicer
import vtk
from children import POSIX, gone
from children import temporary as temporary
from mrml_scenes import INFO, add_linear, add_warp, rotation, snapshot, world
from mrml_scenes import scene as scene
from slice_views import Views
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from MRSynthLib.desktop import marks, mrml, nodes, results, score_nodes, scoring
from MRSynthLib.desktop.score_run import ScoreRun
from MRSynthLib.engine import intensity, score_pair, scores
from MRSynthLib.engine.errors import Cancelled, DeviceError, MRSynthError
from MRSynthLib.engine.process import RUN_FOLDER_PREFIX
from MRSynthLib.engine.volume import Volume

UNIT = 1000


def add_synthetic(scene: Any, source: Any, voxels: np.ndarray) -> Any:
    """A result with known voxels, shown as after a run."""
    return results.show(results.capture(source), voxels.astype(np.int16), INFO)


def add(scene: Any, volume: Volume, name: str, voxels: np.ndarray | None = None) -> Any:
    """A volume node on this grid."""
    voxels = volume.voxels if voxels is None else voxels
    voxels = voxels.astype(np.int16 if voxels.dtype.kind == "i" else np.float32)
    return scene.AddNode(mrml.node_from_volume(Volume(voxels, volume.ijk_to_ras, name=name)))


def brain_of_known_scale(mask: np.ndarray, low: int, high: int) -> np.ndarray:
    """Noise from `low` to `high` in a brain whose 99.5th percentile is 1000."""
    random = np.random.default_rng(1)
    brain = np.where(mask, random.integers(low, high, mask.shape), 0)
    brain[mask & (random.random(mask.shape) < 0.01)] = UNIT
    return brain


def stripped(volume: Volume, mask: np.ndarray) -> np.ndarray:
    return np.where(mask, np.maximum(volume.voxels, 1), 0)


def add_mask(scene: Any, grid: Volume, inside: np.ndarray, name: str = "brain") -> Any:
    mask = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", name)
    slicer.util.updateVolumeFromArray(mask, inside.astype(np.uint8))
    mask.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(grid.ijk_to_ras))
    return mask


@pytest.fixture
def examination(scene: Any, phantom_t1: Volume, phantom_t2: Volume, phantom_mask: np.ndarray) -> tuple[Any, Any, Any]:
    """Skull-stripped source, its synthetic T2 (half of what it should be) and the acquired T2 in scanner units."""
    source = add(scene, phantom_t1, "t1", stripped(phantom_t1, phantom_mask))
    acquired = add(scene, phantom_t2, "t2", 3 * stripped(phantom_t2, phantom_mask))
    return source, add_synthetic(scene, source, stripped(phantom_t2, phantom_mask) // 2), acquired


def table(node: Any) -> dict[tuple[str, str], tuple[str, str]]:
    """(measure, protocol) -> (value, unit)."""
    rows = [[node.GetCellText(row, column) for column in range(4)] for row in range(node.GetNumberOfRows())]
    return {(measure, protocol): (value, unit) for measure, value, unit, protocol in rows}


def unit_pair(synthetic: Any, acquired: Any, brain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The protocol's intensities, written down once more."""
    true, made = (slicer.util.arrayFromVolume(node).astype(float) for node in (acquired, synthetic))
    true = np.maximum(true, 0)
    return np.minimum(true / np.percentile(true[brain & (true > 0)], 99.5), 1), np.clip(made / UNIT, 0, 1)


# --- numbers ------------------------------------------------------------------------------------------------


def test_scores_are_the_protocols(examination: tuple[Any, Any, Any], phantom_mask: np.ndarray) -> None:
    source, synthetic, acquired = examination
    scored = scoring.score(synthetic, acquired)
    brain = (slicer.util.arrayFromVolume(source) > 0) & (slicer.util.arrayFromVolume(acquired) > 0)
    np.testing.assert_array_equal(brain, phantom_mask)
    true, made = unit_pair(synthetic, acquired, brain)
    error = made[brain] - true[brain]
    assert scored.scores["brain"]["psnr"] == pytest.approx(-10 * np.log10(np.mean(error**2)), abs=1e-4)
    assert scored.scores["brain"]["mae"] == pytest.approx(np.abs(error).mean(), abs=1e-6)
    assert scored.scores["brain"]["bias"] == pytest.approx(error.mean(), abs=1e-6)
    assert scored.scores["brain"]["voxels"] == brain.sum()
    grid = mrml.volume_from_node(source)
    assert scored.scores["paper"] == pytest.approx(scores.paper(true, made, brain, grid), abs=1e-5)
    similarity = scores.ssim_map(true, made, grid)
    assert scored.scores["brain"]["ssim"] == pytest.approx(similarity[brain].mean(), abs=1e-5)


def test_a_known_offset_gives_known_scores(scene: Any, phantom_t1: Volume, phantom_mask: np.ndarray) -> None:
    true = brain_of_known_scale(phantom_mask, 300, 900)
    source = add(scene, phantom_t1, "t1", stripped(phantom_t1, phantom_mask))
    synthetic = add_synthetic(scene, source, np.where(phantom_mask, true - 100, 0))
    found = scoring.score(synthetic, add(scene, phantom_t1, "t2", true * 5)).scores["brain"]
    assert found["psnr"] == pytest.approx(20, abs=1e-3)
    assert found["mae"] == pytest.approx(0.1, abs=1e-5)
    assert found["bias"] == pytest.approx(-0.1, abs=1e-5)


def test_the_acquired_volume_is_scaled_once_by_its_own_brain(scene: Any, examination: tuple[Any, Any, Any]) -> None:
    _source, synthetic, acquired = examination
    before = scoring.score(synthetic, acquired).scores
    brighter = mrml.volume_from_node(acquired)
    again = scoring.score(synthetic, add(scene, brighter, "brighter", brighter.voxels * 7 - (brighter.voxels == 0)))
    for protocol, found in before.items():
        assert again.scores[protocol] == pytest.approx(found, abs=1e-5)


def test_inside_a_mask_only_the_mask_counts(
    scene: Any, examination: tuple[Any, Any, Any], phantom_t1: Volume, phantom_mask: np.ndarray
) -> None:
    _source, synthetic, acquired = examination
    left = phantom_mask & (np.arange(phantom_mask.shape[2]) < 20)
    scored = scoring.score(synthetic, acquired, add_mask(scene, phantom_t1, left, "half a brain"))
    true, made = unit_pair(synthetic, acquired, left)
    assert scored.scores["brain"]["voxels"] == left.sum()
    assert scored.scores["brain"]["mae"] == pytest.approx(np.abs(made - true)[left].mean(), abs=1e-6)
    grid = mrml.volume_from_node(synthetic)
    full = [np.where(left, array, 0) for array in (true, made)]
    assert scored.scores["paper"] == pytest.approx(scores.paper(*full, left, grid), abs=1e-5)
    assert not slicer.util.arrayFromVolume(scored.difference_node)[~left].any()
    assert table(scored.table_node)["Brain", ""][0] == "the mask 'half a brain'"


def test_of_a_whole_head_only_the_estimated_brain_counts(
    scene: Any, phantom_t1: Volume, phantom_t2: Volume, phantom_mask: np.ndarray
) -> None:
    source, acquired = add(scene, phantom_t1, "t1"), add(scene, phantom_t2, "t2")
    scored = scoring.score(add_synthetic(scene, source, phantom_t2.voxels), acquired)
    assert table(scored.table_node)["Brain", ""][0].startswith("estimated from the head")
    assert 0 < scored.scores["brain"]["voxels"] < phantom_mask.sum()
    seen = slicer.util.arrayFromVolume(scored.difference_node) != 0
    assert seen.any()
    assert not (seen & ~phantom_mask).any()


def test_an_acquired_head_around_a_stripped_brain_is_not_held_against_it(
    scene: Any, examination: tuple[Any, Any, Any], phantom_t2: Volume, phantom_mask: np.ndarray
) -> None:
    _source, synthetic, acquired = examination
    head = add(scene, phantom_t2, "head", np.where(phantom_mask, np.maximum(phantom_t2.voxels, 1), phantom_t2.voxels))
    assert scoring.score(synthetic, head).scores == scoring.score(synthetic, acquired).scores


# --- other grids --------------------------------------------------------------------------------------------


def ramp(positions: np.ndarray) -> np.ndarray:
    """A brightness that linear interpolation cannot get wrong; 300 to 900 in the phantom."""
    return 600 + positions @ (1.0, -1.5, 1.2)


def positions_of(node: Any, shape: tuple[int, int, int]) -> np.ndarray:
    """World positions (RAS, mm) of all voxels, (k, j, i, 3)."""
    corner, *ends = (world(node, ijk) for ijk in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)))
    axes = np.stack([end - corner for end in ends])
    return corner + np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)[..., ::-1] @ axes


@pytest.mark.parametrize("moved", ["", "acquired", "synthetic", "both"])
def test_an_acquired_volume_on_another_grid_is_compared_where_it_lies_in_the_world(
    scene: Any, phantom_t1: Volume, phantom_mask: np.ndarray, moved: str
) -> None:
    source = add(scene, phantom_t1, "t1", stripped(phantom_t1, phantom_mask))
    fine = (70, 80, 75)
    affine = rotation(12, 0) @ rotation(-9, 2) @ np.diag([-3.1, 3.3, 2.9, 1.0])
    affine[:3, 3] = -(affine[:3, :3] @ [37, 40, 35])
    acquired = add(scene, Volume(np.ones(fine, np.float32), affine), "t2")
    if moved in ("acquired", "both"):
        acquired.SetAndObserveTransformNodeID(add_linear(scene, rotation(20, 1)).GetID())
    if moved in ("synthetic", "both"):
        shift = rotation(-8, 0)
        shift[:3, 3] = 3, -5, 4
        source.SetAndObserveTransformNodeID(add_linear(scene, shift).GetID())
    slicer.util.updateVolumeFromArray(acquired, ramp(positions_of(acquired, fine)))
    made = np.where(phantom_mask, ramp(positions_of(source, phantom_t1.shape)), 0)
    synthetic = add_synthetic(scene, source, np.rint(made))
    scored = scoring.score(synthetic, acquired)
    scale = float(table(scored.table_node)["1000 of the acquired volume", ""][0])
    expected = (made - np.minimum(made * UNIT / scale, UNIT))[phantom_mask]
    difference = slicer.util.arrayFromVolume(scored.difference_node)[phantom_mask]
    assert np.abs(difference - expected).max() <= 1.1  # two roundings
    assert table(scored.table_node)["Grid", ""][0] == "acquired volume resampled, linear"


def test_a_warped_acquired_volume_is_followed(scene: Any, phantom_t1: Volume, phantom_mask: np.ndarray) -> None:
    source = add(scene, phantom_t1, "t1", stripped(phantom_t1, phantom_mask))
    acquired = add(scene, phantom_t1, "t2", np.ones(phantom_t1.shape, np.float32))
    straight, bent = vtk.vtkPoints(), vtk.vtkPoints()
    straight.SetData(numpy_to_vtk(positions_of(acquired, phantom_t1.shape).reshape(-1, 3)))
    acquired.SetAndObserveTransformNodeID(add_warp(scene).GetID())
    to_world = vtk.vtkGeneralTransform()
    acquired.GetParentTransformNode().GetTransformToWorld(to_world)
    to_world.TransformPoints(straight, bent)
    values = ramp(vtk_to_numpy(bent.GetData()).astype(float)).reshape(phantom_t1.shape)
    slicer.util.updateVolumeFromArray(acquired, values.astype(np.float32))
    made = np.where(phantom_mask, ramp(positions_of(source, phantom_t1.shape)), 0)
    scored = scoring.score(add_synthetic(scene, source, np.rint(made)), acquired)
    scale = float(table(scored.table_node)["1000 of the acquired volume", ""][0])
    inside = phantom_mask & (np.abs(slicer.util.arrayFromVolume(scored.difference_node)) > 0)
    expected = made - np.minimum(made * UNIT / scale, UNIT)
    difference = slicer.util.arrayFromVolume(scored.difference_node)
    assert inside.sum() > 0.9 * phantom_mask.sum()
    assert np.abs(difference - expected)[inside].max() < 4


@pytest.mark.parametrize("masked", [False, True], ids=["", "with a mask"])
def test_what_the_acquired_volume_does_not_cover_is_not_scored(
    scene: Any, examination: tuple[Any, Any, Any], phantom_mask: np.ndarray, phantom_t1: Volume, masked: bool
) -> None:
    _source, synthetic, acquired = examination
    whole = mrml.volume_from_node(acquired)
    upper = add(scene, whole, "upper half", whole.voxels[20:])
    start = np.eye(4)
    start[2, 3] = 20
    upper.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(whole.ijk_to_ras @ start))
    mask = add_mask(scene, phantom_t1, phantom_mask) if masked else None
    scored = scoring.score(synthetic, upper, mask)
    assert scored.scores["brain"]["voxels"] == phantom_mask[20:].sum()
    difference = slicer.util.arrayFromVolume(scored.difference_node)
    assert difference[20:].any()
    assert not difference[:20].any()
    assert scored.scores["paper"]["slices"] == np.count_nonzero(phantom_mask[20:].any(axis=(1, 2)))


def test_the_same_grid_is_not_resampled(examination: tuple[Any, Any, Any]) -> None:
    _source, synthetic, acquired = examination
    assert table(scoring.score(synthetic, acquired).table_node)["Grid", ""][0] == "the same"


# --- table --------------------------------------------------------------------------------------------------


def test_the_table_says_everything_that_a_reader_must_know(examination: tuple[Any, Any, Any]) -> None:
    _source, synthetic, acquired = examination
    scored = scoring.score(synthetic, acquired)
    node, found = scored.table_node, scored.scores
    assert [node.GetColumnName(index) for index in range(4)] == ["measure", "value", "unit", "protocol"]
    cells = table(node)
    for protocol in ("paper", "brain"):
        version = f"{protocol} v{scores.PROTOCOL_VERSION}"
        assert cells["PSNR", version] == (f"{found[protocol]['psnr']:.2f}", "dB")
        assert cells["SSIM", version] == (f"{found[protocol]['ssim']:.4f}", "")
    assert cells["MAE", "brain v1"] == (f"{1000 * found['brain']['mae']:.1f}", "of 1000")
    assert cells["voxels", "brain v1"][0] == f"{found['brain']['voxels']:.0f}"
    assert cells["Synthetic volume", ""][0] == synthetic.GetName()
    assert cells["Acquired volume", ""][0] == acquired.GetName()
    assert "prove nothing about lesions" in cells["Note", ""][0]
    assert node.GetLocked()


# --- difference map -----------------------------------------------------------------------------------------


def test_the_map_is_synthetic_minus_acquired_on_the_synthetics_grid(
    scene: Any, phantom_t1: Volume, phantom_mask: np.ndarray
) -> None:
    true = brain_of_known_scale(phantom_mask, 480, 520)
    made = true.copy()
    true[20, 24, 15] = true[20, 24, 25] = 500
    made[20, 24, 15], made[20, 24, 25] = 900, 100  # invented, hidden
    source = add(scene, phantom_t1, "t1", stripped(phantom_t1, phantom_mask))
    source.SetAndObserveTransformNodeID(add_linear(scene, rotation(5, 2)).GetID())
    synthetic = add_synthetic(scene, source, made)
    acquired = add(scene, phantom_t1, "t2", true)
    acquired.SetAndObserveTransformNodeID(source.GetTransformNodeID())
    node = scoring.score(synthetic, acquired).difference_node
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(node), made - true)
    assert nodes.geometry_mismatch(node, synthetic) == ""


def test_nobody_takes_the_map_for_an_acquisition(scene: Any, examination: tuple[Any, Any, Any]) -> None:
    source, synthetic, acquired = examination
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "Brain")
    for node in (source, synthetic, acquired):
        hierarchy.CreateItem(study, node)
    node = scoring.score(synthetic, acquired).difference_node
    assert node.GetAttribute("MRSynth.Synthetic") == "1"
    assert marks.mark_of(node) == "SYNTHETIC T2 - ACQUIRED"
    assert node.GetName() == "t1 [synthetic T2] [minus acquired]"
    assert "not for diagnosis" in node.GetDescription()
    item = hierarchy.GetItemByDataNode(node)
    assert hierarchy.GetItemParent(item) == study
    assert hierarchy.GetItemAttribute(item, "DICOM.SeriesDescription").startswith("SYNTHETIC difference to t2")
    assert node.GetNodeReference(score_nodes.ACQUIRED_ROLE) is acquired
    assert node.GetNodeReference(results.SOURCE_ROLE) is None  # not a result that could be compared or scored


def test_the_maps_window_is_fixed_whatever_the_voxels(examination: tuple[Any, Any, Any]) -> None:
    _source, synthetic, acquired = examination
    display = scoring.score(synthetic, acquired).difference_node.GetDisplayNode()
    assert not display.GetAutoWindowLevel()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (-score_nodes.WINDOW, score_nodes.WINDOW)


def test_colours_are_black_at_0_and_equally_bright_on_both_sides() -> None:
    ramp = score_nodes.colour_ramp()
    assert ramp.shape == (256, 3)
    assert not ramp[127:129].any()
    brightness = ramp.max(axis=1)
    np.testing.assert_allclose(brightness, brightness[::-1], atol=1e-12)
    assert np.all(np.diff(brightness[128:]) >= 0)
    assert np.all(ramp[:127, 2] > ramp[:127, 0])  # too dark is blue
    assert np.all(ramp[129:, 0] > ramp[129:, 2])  # too bright is red


def test_a_slice_view_shows_too_bright_as_red_and_too_dark_as_blue(
    scene: Any, phantom_t1: Volume, phantom_mask: np.ndarray
) -> None:
    views = Views(scene)
    true = brain_of_known_scale(phantom_mask, 480, 520)
    true[17:24, 21:28, 12:29] = 500
    made = true.copy()
    made[18:23, 22:27, 13:18] += 250
    made[18:23, 22:27, 23:28] -= 250
    source = add(scene, phantom_t1, "t1", stripped(phantom_t1, phantom_mask))
    synthetic = add_synthetic(scene, source, np.minimum(made, UNIT))
    node = scoring.score(synthetic, add(scene, phantom_t1, "t2", true)).difference_node
    views.show(node)
    views.logic("Red").FitSliceToAll()
    views.node("Red").SetSliceOffset(world(node, (0, 0, 20))[2])
    picture = views.picture("Red")

    def colour(ijk: tuple[int, int, int]) -> np.ndarray:
        column, row, _depth = views.pixel_of("Red", world(node, ijk))
        return picture[round(row), round(column)]

    assert not colour((20, 24, 20)).any()
    red, blue = colour((15, 24, 20)).astype(int), colour((25, 24, 20)).astype(int)
    assert red[0] > red[2] + 50
    assert blue[2] > blue[0] + 50


def test_the_colour_table_is_made_once(scene: Any, examination: tuple[Any, Any, Any]) -> None:
    _source, synthetic, acquired = examination
    first = scoring.score(synthetic, acquired).difference_node.GetDisplayNode().GetColorNode()
    other = mrml.volume_from_node(acquired)
    second = scoring.score(synthetic, add(scene, other, "again")).difference_node.GetDisplayNode().GetColorNode()
    assert first is second
    assert (first.GetColorName(0), first.GetColorName(255)) == ("-300", "+300")


def test_where_slicer_has_colour_legends_the_map_has_one(scene: Any, examination: tuple[Any, Any, Any]) -> None:
    logic = slicer.vtkSlicerColorLogic()
    logic.SetMRMLScene(scene)
    _source, synthetic, acquired = examination
    for _ in range(2):
        node = scoring.score(synthetic, acquired).difference_node
    assert slicer.vtkSlicerColorLogic.GetNumberOfColorLegendDisplayNodes(node) == 1
    assert node.GetDisplayNode().IsA("vtkMRMLScalarVolumeDisplayNode")
    assert slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(node).GetVisibility()


# --- again, and what stays untouched ------------------------------------------------------------------------


def test_scoring_again_uses_the_same_nodes_with_new_contents(scene: Any, examination: tuple[Any, Any, Any]) -> None:
    _source, synthetic, acquired = examination
    first = scoring.score(synthetic, acquired)
    first.table_node.SetName("renamed by the user")
    count = scene.GetNumberOfNodes()
    slicer.util.arrayFromVolume(synthetic)[:] //= 2
    again = scoring.score(synthetic, acquired)
    assert again.table_node is first.table_node
    assert again.difference_node is first.difference_node
    assert scene.GetNumberOfNodes() == count
    assert again.table_node.GetName() == "renamed by the user"
    assert again.scores["brain"]["psnr"] < first.scores["brain"]["psnr"]
    assert table(again.table_node)["PSNR", "brain v1"][0] == f"{again.scores['brain']['psnr']:.2f}"
    other = scoring.score(synthetic, add(scene, mrml.volume_from_node(acquired), "another"))
    assert other.table_node is not first.table_node
    assert other.difference_node is not first.difference_node


def test_the_users_volumes_stay_as_they_were(
    scene: Any, examination: tuple[Any, Any, Any], phantom_mask: np.ndarray, phantom_t1: Volume
) -> None:
    mask = add_mask(scene, phantom_t1, phantom_mask)
    _source, synthetic, acquired = examination
    before = snapshot(scene)
    scoring.score(synthetic, acquired, mask)
    after = snapshot(scene)
    assert {node_id: after[node_id] for node_id in before} == before


def elsewhere(acquired: Any) -> None:
    acquired.SetOrigin(5000, 0, 0)


def emptied(acquired: Any) -> None:
    """Something is there, but not where the brain is."""
    voxels = slicer.util.arrayFromVolume(acquired)
    voxels[:] = 0
    voxels[0] = np.arange(voxels[0].size).reshape(voxels[0].shape) % 500
    acquired.Modified()


@pytest.mark.parametrize("spoil", [elsewhere, emptied])
def test_volumes_without_a_common_brain_are_refused(scene: Any, examination: tuple[Any, Any, Any], spoil: Any) -> None:
    _source, synthetic, acquired = examination
    spoil(acquired)
    before = snapshot(scene)
    with pytest.raises(MRSynthError) as caught:
        scoring.score(synthetic, acquired)
    assert caught.value.code == "score-no-overlap"
    assert "t2" in caught.value.seen
    assert snapshot(scene) == before


def test_only_a_result_is_scored_and_only_against_an_acquired_volume(examination: tuple[Any, Any, Any]) -> None:
    source, synthetic, acquired = examination
    difference = scoring.score(synthetic, acquired).difference_node
    refused = {
        (acquired, acquired): "score-not-synthetic",
        (difference, acquired): "score-not-synthetic",
        (synthetic, source): "score-not-acquired",
        (synthetic, difference): "score-not-acquired",
        (synthetic, synthetic): "score-not-acquired",
    }
    for pair, code in refused.items():
        with pytest.raises(MRSynthError) as caught:
            scoring.score(*pair)
        assert caught.value.code == code


def test_without_its_source_a_result_is_still_scored(scene: Any, examination: tuple[Any, Any, Any]) -> None:
    source, synthetic, acquired = examination
    before = scoring.score(synthetic, acquired).scores
    scene.RemoveNode(source)
    assert scoring.score(synthetic, acquired).scores == before


def test_the_scale_is_the_declared_one(examination: tuple[Any, Any, Any]) -> None:
    assert intensity.SCALE == UNIT
    _source, synthetic, acquired = examination
    slicer.util.arrayFromVolume(synthetic)[:] *= 2  # as bright as it should be
    assert scoring.score(synthetic, acquired).scores["brain"]["psnr"] > 35


# --- in a child process -------------------------------------------------------------------------------------


def finished(run: ScoreRun) -> ScoreRun:
    run.start()
    while not run.poll(timeout=0.2):
        pass
    return run


@pytest.mark.usefixtures("temporary")
@pytest.mark.parametrize("masked", [False, True], ids=["", "with a mask"])
def test_a_child_process_finds_the_same(
    scene: Any, examination: tuple[Any, Any, Any], phantom_t1: Volume, phantom_mask: np.ndarray, masked: bool
) -> None:
    _source, synthetic, acquired = examination
    mask = add_mask(scene, phantom_t1, phantom_mask & (np.arange(phantom_mask.shape[2]) < 20)) if masked else None
    job = scoring.capture(synthetic, acquired, mask)
    here, there = score_pair.score(job.pair), finished(ScoreRun(job.pair)).result()
    assert (there.scores, there.scale, there.region) == (here.scores, here.scale, here.region)
    np.testing.assert_array_equal(there.difference, here.difference)
    assert there.difference.any()


@pytest.mark.usefixtures("temporary")
def test_what_the_child_refuses_has_its_name(examination: tuple[Any, Any, Any]) -> None:
    _source, synthetic, acquired = examination
    emptied(acquired)
    run = finished(ScoreRun(scoring.capture(synthetic, acquired).pair))
    with pytest.raises(MRSynthError) as caught:
        run.result()
    assert caught.value.code == "score-no-overlap"


@POSIX
@pytest.mark.usefixtures("temporary")
@pytest.mark.parametrize(
    ("program", "seen"),
    [
        ("import sys; print('Segmentation', file=sys.stderr); sys.exit(3)", "Segmentation"),
        ("print('{}')", "exit code 0"),  # and no difference
    ],
)
def test_a_child_that_says_nothing_sensible_is_a_dead_one(
    examination: tuple[Any, Any, Any], tmp_path: Path, program: str, seen: str
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!{sys.executable}\n{program}\n")
    python.chmod(0o755)
    _source, synthetic, acquired = examination
    run = finished(ScoreRun(scoring.capture(synthetic, acquired).pair, python=str(python)))
    with pytest.raises(DeviceError, match=seen) as caught:
        run.result()
    assert caught.value.code == "worker-died"


def test_a_cancelled_scoring_leaves_neither_process_nor_files(
    examination: tuple[Any, Any, Any], temporary: Path
) -> None:
    _source, synthetic, acquired = examination
    run = ScoreRun(scoring.capture(synthetic, acquired).pair)
    run.start()
    assert len(list(temporary.iterdir())) == 1
    run.cancel()
    assert gone(run.pid)
    with pytest.raises(Cancelled):
        run.result()


@POSIX
@pytest.mark.parametrize("folder", [f"{RUN_FOLDER_PREFIX}1", "of the user"])
def test_the_child_does_not_outlive_a_killed_application(
    tmp_path: Path, child_environment: dict[str, str], folder: str
) -> None:
    """The child waits for a pair that never comes, so that it cannot end in order."""
    (tmp_path / folder).mkdir()
    os.mkfifo(tmp_path / folder / score_pair.PAIR)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as application:
        command = [sys.executable, "-m", "MRSynthLib.engine.score_pair", str(tmp_path / folder)]
        command += ["--end-with", str(application.pid)]
        with subprocess.Popen(command, env=child_environment, stdin=subprocess.PIPE) as child:
            time.sleep(0.5)
            assert child.poll() is None
            application.kill()
            application.wait()
            assert child.wait(120) == Cancelled.exit_code
    assert (tmp_path / folder).exists() == (folder == "of the user")


# --- a scene that changes meanwhile -------------------------------------------------------------------------


def repainted(scene: Any, synthetic: Any, acquired: Any) -> None:
    slicer.util.arrayFromVolume(synthetic)[20, 20, 20] += 1


def moved(scene: Any, synthetic: Any, acquired: Any) -> None:
    acquired.SetOrigin(1, 2, 3)


def removed(scene: Any, synthetic: Any, acquired: Any) -> None:
    scene.RemoveNode(acquired)


@pytest.mark.parametrize("change", [repainted, moved, removed])
def test_scores_of_what_is_no_longer_there_are_not_shown(
    scene: Any, examination: tuple[Any, Any, Any], change: Any
) -> None:
    _source, synthetic, acquired = examination
    job = scoring.capture(synthetic, acquired)
    found = score_pair.score(job.pair)
    change(scene, synthetic, acquired)
    before = snapshot(scene)
    with pytest.raises(MRSynthError) as caught:
        scoring.show(job, found)
    assert caught.value.code == "score-changed"
    assert ("t2" if change is not repainted else "synthetic T2") in caught.value.seen
    assert snapshot(scene) == before
