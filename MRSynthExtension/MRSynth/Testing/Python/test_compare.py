"""Comparing two volumes in real slice views: what is shown, what moves together, and that all comes back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("slicer")

import slicer
from mrml_scenes import AFFINES, add_linear, add_volume, placed, rotation, synthesize
from mrml_scenes import scene as scene
from slice_views import STANDARD, Views, geometry, layers

from MRSynthLib.desktop.compare import ROWS, SIDE_BY_SIDE, Comparison

FOUR_UP = slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
FIRST, SECOND = (tuple(row[n] for row in ROWS) for n in (0, 1))


@pytest.fixture
def views(scene: Any) -> Views:
    return Views(scene)


@pytest.fixture
def pair(scene: Any) -> tuple[Any, Any]:
    source = add_volume(scene)
    return source, synthesize(source)


@pytest.fixture
def comparison(scene: Any, views: Views, pair: tuple[Any, Any]) -> Comparison:
    return Comparison(scene, *pair)


def state(views: Views, names: tuple[str, ...] = STANDARD) -> dict[str, Any]:
    return {name: (layers(views.composite(name)), geometry(views.node(name))) for name in names}


def volumes(composite: Any) -> tuple[Any, Any]:
    return composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()


# --- one over the other -------------------------------------------------------------------------------------


def test_a_result_is_shown_over_its_source_in_all_views_linked(
    views: Views, pair: tuple[Any, Any], comparison: Comparison
) -> None:
    source, result = pair
    comparison.show()
    for name in STANDARD:
        composite = views.composite(name)
        assert volumes(composite) == (source.GetID(), result.GetID())
        assert composite.GetForegroundOpacity() == 1
        assert (composite.GetLinkedControl(), composite.GetHotLinkedControl()) == (1, 1)
    assert views.layout.GetViewArrangement() == FOUR_UP


def test_label_maps_and_their_opacity_are_left_alone(
    scene: Any, views: Views, pair: tuple[Any, Any], comparison: Comparison
) -> None:
    labels = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "lesion")
    for name in STANDARD:
        views.composite(name).SetLabelVolumeID(labels.GetID())
        views.composite(name).SetLabelOpacity(0.3)
    comparison.show()
    comparison.side_by_side(True)
    for name in STANDARD:
        composite = views.composite(name)
        assert (composite.GetLabelVolumeID(), composite.GetLabelOpacity()) == (labels.GetID(), 0.3)


def test_fade_and_flicker_go_between_source_and_result(views: Views, comparison: Comparison) -> None:
    comparison.show()
    shown = []
    comparison.fade(0.25)
    shown.append([views.composite(name).GetForegroundOpacity() for name in STANDARD])
    for _ in range(3):
        comparison.flicker()
        shown.append([views.composite(name).GetForegroundOpacity() for name in STANDARD])
    assert shown == [[0.25] * 3, [1.0] * 3, [0.0] * 3, [1.0] * 3]


def test_the_picture_is_the_sources_or_the_results(views: Views, pair: tuple[Any, Any], comparison: Comparison) -> None:
    pictures = []
    for node in pair:
        views.show(node)
        views.logic("Red").FitSliceToAll()
        pictures.append(views.picture("Red"))
    assert not np.array_equal(*pictures)
    comparison.show()
    np.testing.assert_array_equal(views.picture("Red"), pictures[1])
    comparison.fade(0)
    np.testing.assert_array_equal(views.picture("Red"), pictures[0])
    comparison.flicker()
    np.testing.assert_array_equal(views.picture("Red"), pictures[1])


@pytest.mark.parametrize("mode", ["Alpha", "ReverseAlpha", "Add", "Subtract"])
def test_fading_works_whatever_blending_the_user_had(views: Views, comparison: Comparison, mode: str) -> None:
    value = getattr(slicer.vtkMRMLSliceCompositeNode, mode)
    views.composite("Red").SetCompositing(value)
    comparison.show()
    assert views.composite("Red").GetCompositing() == slicer.vtkMRMLSliceCompositeNode.Alpha
    comparison.restore()
    assert views.composite("Red").GetCompositing() == value


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("moved", [False, True], ids=["", "under a transform"])
def test_views_that_look_elsewhere_are_fitted_to_the_source(scene: Any, affine: np.ndarray, moved: bool) -> None:
    views = Views(scene)
    source = add_volume(scene, affine=affine)
    if moved:
        source.SetAndObserveTransformNodeID(add_linear(scene, placed(rotation(25, 1))).GetID())
    result = synthesize(source)
    Comparison(scene, source, result).show()
    for name in STANDARD:
        node = views.node(name)
        columns, rows, _ = node.GetDimensions()
        corners = np.array([[i, j, k] for i in (-0.5, 7.5) for j in (-0.5, 6.5) for k in (-0.5, 5.5)])
        matrix = slicer.util.arrayFromVTKMatrix(_ijk_to_world(source))
        pixels = np.array([views.pixel_of(name, (matrix @ (*corner, 1))[:3]) for corner in corners])
        low, high = pixels[:, :2].min(axis=0), pixels[:, :2].max(axis=0)
        assert (low > -0.05 * columns).all()
        assert (high < 1.05 * np.array([columns, rows])).all()
        assert max((high - low) / [columns, rows]) > 0.95  # as large as it can be
        center = views.pixel_of(name, (matrix @ (4, 3, 3, 1))[:3])
        assert abs(center[2]) < 1e-6  # the plane goes through the middle voxel


def _ijk_to_world(node: Any) -> Any:
    import vtk

    to_ras, to_world = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(to_ras)
    slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(node.GetParentTransformNode(), None, to_world)
    vtk.vtkMatrix4x4.Multiply4x4(to_world, to_ras, to_ras)
    return to_ras


def test_the_fit_is_slicers_own_to_half_a_voxel(scene: Any) -> None:
    views = Views(scene)
    source = add_volume(scene, affine=AFFINES["anisotropic"])
    result = synthesize(source)
    for name in STANDARD:
        views.node(name).SetDimensions(300, 200, 1)
    Comparison(scene, source, result).show()
    mine = state(views)
    for name in STANDARD:
        views.logic(name).FitSliceToAll()
        ours, theirs = mine[name][1], geometry(views.node(name))
        assert ours[1][:2] == pytest.approx(theirs[1][:2])
        assert np.abs(np.subtract(ours[0], theirs[0])).max() <= 3.0  # half of a slice of 6 mm


def test_views_that_show_the_source_keep_their_place_and_zoom(
    views: Views, pair: tuple[Any, Any], comparison: Comparison
) -> None:
    views.show(pair[0])
    views.node("Red").SetFieldOfView(31, 27, 1)
    views.node("Red").SetSliceOffset(84.5)
    before = {name: geometry(views.node(name)) for name in STANDARD}
    comparison.show()
    assert {name: geometry(views.node(name)) for name in STANDARD} == before


def test_restore_gives_back_what_the_user_had(scene: Any, views: Views, comparison: Comparison) -> None:
    other, overlay = add_volume(scene, "CT"), add_volume(scene, "PET")
    views.show(other, overlay, 0.4)
    views.composite("Green").SetForegroundVolumeID(None)
    views.composite("Green").SetLinkedControl(1)
    views.node("Red").SetFieldOfView(31, 27, 1)
    before = state(views)
    comparison.show()
    comparison.fade(0.3)
    assert state(views) != before
    comparison.restore()
    assert state(views) == before
    assert views.layout.GetViewArrangement() == FOUR_UP


# --- side by side -------------------------------------------------------------------------------------------


def test_side_by_side_has_the_source_above_and_the_result_below(
    views: Views, pair: tuple[Any, Any], comparison: Comparison
) -> None:
    comparison.side_by_side(True)
    assert views.layout.GetViewArrangement() == SIDE_BY_SIDE
    assert [views.node(name).GetOrientation() for name in FIRST] == ["Axial", "Coronal", "Sagittal"]
    for above, below in ROWS:
        assert volumes(views.composite(above)) == (pair[0].GetID(), None)
        assert volumes(views.composite(below)) == (pair[1].GetID(), None)
        np.testing.assert_array_equal(
            slicer.util.arrayFromVTKMatrix(views.node(above).GetXYToRAS()),
            slicer.util.arrayFromVTKMatrix(views.node(below).GetXYToRAS()),
        )


def test_the_rows_belong_to_the_layout(views: Views, comparison: Comparison) -> None:
    comparison.side_by_side(True)
    description = views.layout.GetCurrentLayoutDescription()
    positions = [description.index(f'singletontag="{name}"') for name in (*FIRST, *SECOND)]
    assert positions == sorted(positions)


@pytest.mark.parametrize("moved", ["Red", "Red+"])
def test_both_rows_scroll_and_zoom_together(views: Views, comparison: Comparison, moved: str) -> None:
    comparison.side_by_side(True)
    follower = {"Red": "Red+", "Red+": "Red"}[moved]
    logic, node = views.logic(moved), views.node(moved)
    flags = slicer.vtkMRMLSliceNode.SliceToRASFlag | slicer.vtkMRMLSliceNode.FieldOfViewFlag
    logic.StartSliceNodeInteraction(flags)  # as the mouse does
    node.SetSliceOffset(node.GetSliceOffset() + 7.0)
    node.SetFieldOfView(44, 44, 1)
    logic.EndSliceNodeInteraction()
    assert views.node(follower).GetSliceOffset() == node.GetSliceOffset()
    assert views.node(follower).GetFieldOfView()[0] == 44


def test_leaving_side_by_side_gives_back_layout_layers_and_the_second_rows_place(
    scene: Any, views: Views, comparison: Comparison
) -> None:
    views.layout.SetViewArrangement(SIDE_BY_SIDE)  # so that the views of the second row exist
    views.update()
    views.layout.SetViewArrangement(FOUR_UP)
    views.show(add_volume(scene, "CT"), add_volume(scene, "PET"), 0.4)
    views.node("Green+").SetOrientation("Sagittal")
    views.node("Green+").SetFieldOfView(77, 66, 1)
    before = state(views, (*FIRST, *SECOND))
    comparison.side_by_side(True)
    assert geometry(views.node("Green+"))[0] == geometry(views.node("Green"))[0]
    comparison.side_by_side(False)
    assert state(views, (*FIRST, *SECOND)) == before
    assert views.layout.GetViewArrangement() == FOUR_UP


def test_leaving_side_by_side_goes_back_to_the_faded_view(views: Views, comparison: Comparison) -> None:
    comparison.show()
    comparison.fade(0.6)
    before = {name: layers(views.composite(name)) for name in STANDARD}
    comparison.side_by_side(True)
    comparison.side_by_side(False)
    assert {name: layers(views.composite(name)) for name in STANDARD} == before


def test_a_view_that_filled_the_window_fills_it_again(views: Views, comparison: Comparison) -> None:
    views.layout.AddMaximizedViewNode(views.node("Green"))
    comparison.side_by_side(True)
    assert views.layout.GetNumberOfMaximizedViewNodes() == 0
    comparison.side_by_side(False)
    assert views.layout.IsMaximizedViewNode(views.node("Green"))


def test_a_layout_that_the_user_chose_meanwhile_stays(views: Views, comparison: Comparison) -> None:
    before = state(views)
    comparison.side_by_side(True)
    conventional = slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView
    views.layout.SetViewArrangement(conventional)
    comparison.side_by_side(False)
    assert views.layout.GetViewArrangement() == conventional
    assert state(views) == before


def test_flicker_ends_side_by_side_and_fade_waits_for_its_end(views: Views, comparison: Comparison) -> None:
    comparison.show()
    comparison.side_by_side(True)
    comparison.fade(0.2)
    assert volumes(views.composite("Red"))[1] is None
    comparison.flicker()
    assert views.layout.GetViewArrangement() == FOUR_UP
    assert [views.composite(name).GetForegroundOpacity() for name in STANDARD] == [1.0] * 3
    comparison.side_by_side(True)
    comparison.fade(0.2)
    comparison.side_by_side(False)
    assert [views.composite(name).GetForegroundOpacity() for name in STANDARD] == [0.2] * 3


def test_restore_works_out_of_side_by_side(scene: Any, views: Views, comparison: Comparison) -> None:
    views.show(add_volume(scene, "CT"))
    before = state(views)
    comparison.show()
    comparison.side_by_side(True)
    comparison.restore()
    assert state(views) == before
    assert views.layout.GetViewArrangement() == FOUR_UP


# --- other pairs, and what goes away ------------------------------------------------------------------------


def test_another_pair_can_be_chosen_and_the_users_views_still_come_back(
    scene: Any, views: Views, pair: tuple[Any, Any], comparison: Comparison
) -> None:
    acquired = add_volume(scene, "acquired T2")
    views.show(add_volume(scene, "CT"))
    before = state(views)
    comparison.show()
    comparison.fade(0.5)
    comparison.choose(acquired, pair[1])
    assert volumes(views.composite("Red")) == (acquired.GetID(), pair[1].GetID())
    assert views.composite("Red").GetForegroundOpacity() == 0.5
    comparison.side_by_side(True)
    comparison.choose(pair[0], acquired)
    assert volumes(views.composite("Red")) == (pair[0].GetID(), None)
    assert volumes(views.composite("Red+")) == (acquired.GetID(), None)
    comparison.restore()
    assert state(views) == before


def test_a_view_in_which_the_user_chose_another_volume_is_not_taken_back(
    scene: Any, views: Views, comparison: Comparison
) -> None:
    views.show(add_volume(scene, "CT"))
    comparison.show()
    chosen = add_volume(scene, "chosen meanwhile")
    views.composite("Green").SetBackgroundVolumeID(chosen.GetID())
    before = layers(views.composite("Green"))
    comparison.fade(0.1)
    comparison.restore()
    assert layers(views.composite("Green")) == before


@pytest.mark.parametrize("gone", [0, 1], ids=["source", "result"])
@pytest.mark.parametrize("beside", [False, True], ids=["over", "side by side"])
def test_nothing_breaks_when_a_volume_is_removed(
    scene: Any, views: Views, pair: tuple[Any, Any], comparison: Comparison, gone: int, beside: bool
) -> None:
    other = add_volume(scene, "CT")
    views.show(other)
    before = state(views)
    comparison.show()
    comparison.side_by_side(beside)
    scene.RemoveNode(pair[gone])
    for act in (comparison.flicker, comparison.show, lambda: comparison.fade(0.5)):
        act()
    comparison.side_by_side(True)
    comparison.restore()
    assert state(views) == before


def test_a_volume_that_the_user_removed_is_not_shown_again(scene: Any, views: Views, comparison: Comparison) -> None:
    other = add_volume(scene, "CT")
    views.show(other)
    comparison.show()
    scene.RemoveNode(other)
    comparison.restore()
    assert volumes(views.composite("Red")) == (None, None)


@pytest.mark.parametrize("beside", [False, True], ids=["over", "side by side"])
def test_closing_the_scene_ends_the_comparison_and_the_next_scene_is_left_alone(
    scene: Any, views: Views, comparison: Comparison, beside: bool
) -> None:
    views.show(add_volume(scene, "CT"))
    comparison.show()
    comparison.side_by_side(beside)
    scene.Clear(False)
    assert views.layout.GetViewArrangement() == FOUR_UP
    for name in "abc":  # of the same IDs as before
        add_volume(scene, name)
    views.show(scene.GetFirstNodeByName("b"))
    before = state(views)
    comparison.restore()
    assert state(views) == before


def test_a_scene_without_views_is_no_error(scene: Any, pair: tuple[Any, Any]) -> None:
    comparison = Comparison(scene, *pair)
    comparison.show()
    comparison.side_by_side(True)
    comparison.flicker()
    comparison.restore()
    assert scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode") == 0


def test_no_volume_is_changed(scene: Any, views: Views, pair: tuple[Any, Any], comparison: Comparison) -> None:
    before = [(node.GetMTime(), node.GetDisplayNode().GetMTime()) for node in pair]
    comparison.show()
    comparison.side_by_side(True)
    comparison.restore()
    assert [(node.GetMTime(), node.GetDisplayNode().GetMTime()) for node in pair] == before
