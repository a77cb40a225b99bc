"""The mark over every slice view that shows something synthetic: when, what, and how it is drawn."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("slicer")

import slicer
import vtk
from mrml_scenes import add_volume, synthesize
from mrml_scenes import scene as scene
from slice_views import STANDARD, Views

from MRSynthLib.desktop import figure, marks, results
from MRSynthLib.desktop.compare import Comparison

COMPOSITE = slicer.vtkMRMLSliceCompositeNode


class Written:
    """What is written over the views, as the annotator was told."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.calls = 0
        self.keeper: marks.Marks | None = None

    def start(self, scene: Any) -> marks.Marks:
        self.keeper = marks.Marks(scene, self)
        return self.keeper

    def __call__(self, view_name: str, text: str) -> None:
        self.calls += 1
        self.texts[view_name] = text

    @property
    def marked(self) -> dict[str, str]:
        return {view: text for view, text in self.texts.items() if text}


@pytest.fixture
def views(scene: Any) -> Views:
    return Views(scene)


@pytest.fixture
def written() -> Iterator[Written]:
    written = Written()
    yield written
    if written.keeper is not None:
        written.keeper.remove()


@pytest.fixture
def pair(scene: Any) -> tuple[Any, Any]:
    source = add_volume(scene)
    return source, synthesize(source)


EVERYWHERE = dict.fromkeys(STANDARD, "SYNTHETIC T2")


# --- what must be written -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("background", "foreground", "opacity", "expected"),
    [
        ("result", None, 0.0, "SYNTHETIC T2"),
        ("result", "source", 1.0, "SYNTHETIC T2"),  # it shows wherever the source ends
        ("source", "result", 0.01, "SYNTHETIC T2"),
        ("source", "result", 1.0, "SYNTHETIC T2"),
        ("source", "result", 0.0, ""),
        ("source", "source", 1.0, ""),
        ("result", "result", 1.0, "SYNTHETIC T2"),
        (None, None, 1.0, ""),
    ],
)
def test_a_view_is_marked_when_a_synthetic_layer_can_be_seen(
    views: Views, pair: tuple[Any, Any], background: str | None, foreground: str | None, opacity: float, expected: str
) -> None:
    nodes = {"source": pair[0], "result": pair[1], None: None}
    views.show(nodes[background], nodes[foreground], opacity)
    assert marks.shown_synthetic(views.composite("Red")) == expected


def test_a_synthetic_label_layer_is_marked_while_it_is_visible(scene: Any, views: Views) -> None:
    labels = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "segmented from the result")
    labels.SetAttribute("MRSynth.Synthetic", "1")
    composite = views.composite("Red")
    composite.SetLabelVolumeID(labels.GetID())
    assert marks.shown_synthetic(composite) == "SYNTHETIC"
    composite.SetLabelOpacity(0)
    assert marks.shown_synthetic(composite) == ""


def test_additional_layers_count(views: Views, pair: tuple[Any, Any]) -> None:
    source, result = pair
    views.show(source)
    composite = views.composite("Red")
    composite.SetNthLayerVolumeID(COMPOSITE.Layer_Last, result.GetID())
    composite.SetNthLayerOpacity(COMPOSITE.Layer_Last, 0.5)
    assert marks.shown_synthetic(composite) == "SYNTHETIC T2"
    composite.SetNthLayerOpacity(COMPOSITE.Layer_Last, 0)
    assert marks.shown_synthetic(composite) == ""


@pytest.mark.parametrize("mode", [COMPOSITE.ReverseAlpha, COMPOSITE.Add, COMPOSITE.Subtract])
def test_with_other_blending_a_foreground_counts_at_any_opacity(views: Views, pair: tuple[Any, Any], mode: int) -> None:
    views.show(*pair, 0.0)
    views.composite("Red").SetCompositing(mode)
    assert marks.shown_synthetic(views.composite("Red")) == "SYNTHETIC T2"


def test_reverse_blending_at_opacity_0_does_show_the_foreground(views: Views, pair: tuple[Any, Any]) -> None:
    """Why opacity alone cannot decide."""
    source, result = pair
    views.show(result)
    views.logic("Red").FitSliceToAll()
    alone = views.picture("Red")
    views.show(source, result, 0.0)
    views.composite("Red").SetCompositing(COMPOSITE.ReverseAlpha)
    assert (views.picture("Red") == alone).all()


def test_different_marks_stand_below_each_other_and_equal_ones_once(scene: Any, views: Views) -> None:
    source = add_volume(scene)
    t2, t1 = synthesize(source), synthesize(source, target="t1")
    t1.SetAttribute("MRSynth.Direction", "T2 to T1")
    views.show(t2, t1, 0.5)
    assert marks.shown_synthetic(views.composite("Red")) == "SYNTHETIC T1\nSYNTHETIC T2"
    views.show(t2, synthesize(source), 0.5)
    assert marks.shown_synthetic(views.composite("Red")) == "SYNTHETIC T2"


def test_a_map_says_what_it_is(scene: Any) -> None:
    source = add_volume(scene)
    cycle = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "cycle")
    synthesize(source, cycleNode=cycle)
    assert marks.mark_of(cycle).startswith("SYNTHETIC")
    cycle.SetAttribute("MRSynth.Mark", "SYNTHETIC T2 - ACQUIRED")
    assert marks.mark_of(cycle) == "SYNTHETIC T2 - ACQUIRED"
    assert marks.mark_of(source) == ""


# --- kept right ---------------------------------------------------------------------------------------------


def test_marks_come_and_go_with_what_is_shown(
    scene: Any, views: Views, pair: tuple[Any, Any], written: Written
) -> None:
    source, result = pair
    written.start(scene)
    views.show(source)
    assert written.marked == {}
    views.composite("Green").SetBackgroundVolumeID(result.GetID())
    assert written.marked == {"Green": "SYNTHETIC T2"}
    views.show(source, result, 0.5)
    assert written.marked == EVERYWHERE
    views.show(source, result, 0.0)
    assert written.marked == {}


def test_a_comparison_is_marked_where_the_result_is(
    scene: Any, views: Views, pair: tuple[Any, Any], written: Written
) -> None:
    written.start(scene)
    comparison = Comparison(scene, *pair)
    comparison.show()
    assert written.marked == EVERYWHERE
    comparison.flicker()
    assert written.marked == {}
    comparison.side_by_side(True)
    assert written.marked == {f"{name}+": "SYNTHETIC T2" for name in STANDARD}


def test_what_is_shown_already_is_marked_at_once(
    scene: Any, views: Views, pair: tuple[Any, Any], written: Written
) -> None:
    views.show(pair[1])
    written.start(scene)
    assert written.marked == EVERYWHERE


def test_a_volume_that_becomes_synthetic_while_it_is_shown_is_marked(
    scene: Any, views: Views, written: Written
) -> None:
    source, output = add_volume(scene), scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "still empty")
    views.show(output)
    written.start(scene)
    assert written.marked == {}
    synthesize(source, outputNode=output)
    assert written.marked == EVERYWHERE


def test_views_made_later_are_marked(scene: Any, views: Views, pair: tuple[Any, Any], written: Written) -> None:
    written.start(scene)
    views.layout.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutTwoOverTwoView)
    views.composite("Slice4").SetBackgroundVolumeID(pair[1].GetID())
    assert written.marked == {"Slice4": "SYNTHETIC T2"}


def test_a_change_of_layout_is_told_again_for_views_that_had_no_window(
    scene: Any, views: Views, pair: tuple[Any, Any], written: Written
) -> None:
    views.show(pair[1])
    written.start(scene)
    written.texts.clear()
    views.layout.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView)
    assert written.marked == EVERYWHERE


def test_removing_the_volume_or_the_view_takes_the_mark_away(
    scene: Any, views: Views, pair: tuple[Any, Any], written: Written
) -> None:
    views.show(pair[1])
    written.start(scene)
    scene.RemoveNode(views.composite("Green"))
    assert written.texts["Green"] == ""
    scene.RemoveNode(pair[1])
    assert written.marked == {}


def test_a_scene_that_is_loaded_later_is_marked(
    scene: Any, views: Views, pair: tuple[Any, Any], written: Written, tmp_path: Any
) -> None:
    views.show(pair[1])
    path = tmp_path / "scene.mrml"
    scene.SetURL(str(path))
    assert scene.Commit()
    scene.Clear(False)
    count = scene.GetNumberOfNodes()
    written.start(scene)
    assert scene.GetNumberOfNodes() == count  # nothing of the marks is saved with a scene
    assert written.marked == {}
    scene.SetURL(str(path))
    assert scene.Connect()
    assert written.marked == EVERYWHERE
    scene.Clear(False)
    assert written.marked == {}


def test_removed_marks_are_gone_and_observe_nothing(
    scene: Any, views: Views, pair: tuple[Any, Any], written: Written
) -> None:
    views.show(pair[1])
    written.start(scene).remove()
    assert written.marked == {}
    calls = written.calls
    views.show(pair[0])
    views.show(pair[1])
    pair[1].SetAttribute("MRSynth.Synthetic", "2")
    views.layout.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView)
    add_volume(scene, "another")
    scene.Clear(False)
    assert written.calls == calls


def test_volumes_are_not_kept_alive(scene: Any, views: Views, pair: tuple[Any, Any], written: Written) -> None:
    views.show(pair[1])
    keeper = written.start(scene)
    scene.RemoveNode(pair[1])
    assert pair[1] not in keeper._watched


def test_marks_that_nobody_holds_end_quietly(scene: Any, views: Views, pair: tuple[Any, Any], written: Written) -> None:
    marks.Marks(scene, written)
    calls = written.calls
    views.show(pair[1])
    scene.Clear(False)
    assert written.calls == calls


# --- in 3D Slicer's slice views -----------------------------------------------------------------------------


class Window:
    """A slice view with the renderers that 3D Slicer's have: the picture, and one over it."""

    def __init__(self) -> None:
        self.renders = 0
        self._window = vtk.vtkGenericOpenGLRenderWindow()  # as in Qt: no window of its own
        self.picture, self.overlay = vtk.vtkRenderer(), vtk.vtkRenderer()
        self._window.SetNumberOfLayers(2)
        self.overlay.SetLayer(1)
        self._window.AddRenderer(self.picture)
        self._window.AddRenderer(self.overlay)

    def renderWindow(self) -> Any:  # noqa: N802
        return self._window

    def scheduleRender(self) -> None:  # noqa: N802
        self.renders += 1

    def sliceView(self) -> Window:  # noqa: N802
        return self

    def texts(self) -> list[str]:
        props = self.overlay.GetViewProps()
        return [props.GetItemAsObject(index).GetInput() for index in range(props.GetNumberOfItems())]


class Application:
    """What the annotator asks of 3D Slicer."""

    def __init__(self) -> None:
        self.windows: dict[str, Window] = {}
        self.without_window = False

    def layoutManager(self) -> Application | None:  # noqa: N802
        return None if self.without_window else self

    def sliceWidget(self, name: str) -> Window | None:  # noqa: N802
        return self.windows.get(name)


@pytest.fixture
def application(monkeypatch: pytest.MonkeyPatch) -> Application:
    application = Application()
    application.windows = {name: Window() for name in STANDARD}
    monkeypatch.setattr(slicer, "app", application, raising=False)
    return application


def test_the_mark_is_drawn_over_the_picture_and_taken_away_again(application: Application) -> None:
    annotate, window = marks.slicer_annotator(), application.windows["Red"]
    annotate("Red", "SYNTHETIC T2")
    assert window.texts() == ["SYNTHETIC T2"]
    assert window.picture.GetViewProps().GetNumberOfItems() == 0
    assert application.windows["Green"].texts() == []
    annotate("Red", "SYNTHETIC T1")
    assert window.texts() == ["SYNTHETIC T1"]
    annotate("Red", "")
    assert window.texts() == []
    assert not window.overlay.HasObserver(vtk.vtkCommand.StartEvent)
    assert window.renders == 3


def test_the_same_mark_again_is_not_drawn_again(application: Application) -> None:
    annotate, window = marks.slicer_annotator(), application.windows["Red"]
    for text in ("", "SYNTHETIC T2", "SYNTHETIC T2"):
        annotate("Red", text)
    assert window.renders == 1


def test_a_view_that_was_made_anew_is_marked_anew(application: Application) -> None:
    annotate = marks.slicer_annotator()
    annotate("Red", "SYNTHETIC T2")
    application.windows["Red"] = Window()
    annotate("Red", "SYNTHETIC T2")
    assert application.windows["Red"].texts() == ["SYNTHETIC T2"]
    application.windows["Red"] = Window()
    annotate("Red", "")
    assert application.windows["Red"].texts() == []


def test_views_and_main_windows_that_are_not_there_are_no_error(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotate = marks.slicer_annotator()
    annotate("Slice4", "SYNTHETIC T2")
    application.without_window = True
    annotate("Red", "SYNTHETIC T2")
    monkeypatch.delattr(slicer, "app")
    annotate("Red", "SYNTHETIC T2")
    assert all(window.texts() == [] for window in application.windows.values())


def test_started_twice_there_is_one_of_them(
    scene: Any, views: Views, pair: tuple[Any, Any], application: Application
) -> None:
    views.show(pair[1])
    try:
        for _ in range(2):
            marks.start()
            assert [application.windows[name].texts() for name in STANDARD] == [["SYNTHETIC T2"]] * 3
    finally:
        marks.stop()
    assert [application.windows[name].texts() for name in STANDARD] == [[]] * 3
    marks.stop()


def test_marks_follow_to_another_scene(
    scene: Any, views: Views, pair: tuple[Any, Any], application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    views.show(pair[1])
    try:
        marks.start()
        monkeypatch.setattr(slicer, "mrmlScene", slicer.vtkMRMLScene())
        marks.start()
        assert [application.windows[name].texts() for name in STANDARD] == [[]] * 3
    finally:
        marks.stop()


def test_the_scene_and_the_views_agree_until_the_marks_are_removed(
    scene: Any, views: Views, pair: tuple[Any, Any], application: Application
) -> None:
    keeper = marks.Marks(scene, marks.slicer_annotator())
    Comparison(scene, *pair).show()
    assert [application.windows[name].texts() for name in STANDARD] == [["SYNTHETIC T2"]] * 3
    keeper.remove()
    assert [application.windows[name].texts() for name in STANDARD] == [[]] * 3


def test_the_word_is_the_one_of_the_subject_hierarchy(scene: Any, pair: tuple[Any, Any]) -> None:
    assert pair[1].GetName().endswith("[synthetic T2]")
    assert marks.mark_of(pair[1]) == "SYNTHETIC T2"
    assert pair[1].GetNodeReference(results.SOURCE_ROLE) is pair[0]


def test_the_colour_is_the_one_of_the_figures() -> None:
    assert "#" + "".join(f"{round(255 * part):02x}" for part in marks.LETTERS) == figure.STAMP


def test_marks_start_with_the_application_and_load_nothing_heavy() -> None:
    code = "import sys, MRSynthLib.desktop.marks; print({'SimpleITK', 'scipy', 'torch', 'nibabel'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


# Renders in a process of its own, for where there is no OpenGL, VTK may end it.
RENDER = """
import json
import numpy as np, vtk
from vtk.util.numpy_support import vtk_to_numpy
from MRSynthLib.desktop import marks

window = vtk.vtkRenderWindow()
window.SetOffScreenRendering(1)
window.SetNumberOfLayers(2)
picture, overlay = vtk.vtkRenderer(), vtk.vtkRenderer()
overlay.SetLayer(1)
window.AddRenderer(picture)
window.AddRenderer(overlay)

def screenshot(size, brightness):
    window.SetSize(*size)
    picture.SetBackground([brightness / 255] * 3)
    window.Render()
    grab = vtk.vtkWindowToImageFilter()  # as Slicer's Screen Capture does
    grab.SetInput(window)
    grab.Update()
    columns, rows, _ = grab.GetOutput().GetDimensions()
    return vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars()).reshape(rows, columns, -1).astype(int)

assert screenshot((50, 50), 255).min() == 255
print("renders", flush=True)
marks.DrawnMark(marks.overlay_renderer(window)).actor.SetInput("SYNTHETIC T2")
found = []
for size, brightness in (((200, 200), 0), ((500, 450), 255), ((900, 1000), 128)):
    pixels = screenshot(size, brightness)
    rows, columns = np.nonzero(np.abs(pixels - brightness).max(axis=-1) > 8)
    box = pixels[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    found.append({
        "size": size,
        "box": [int(n) for n in (columns.min(), columns.max(), rows.min(), rows.max())],
        "letters": float((np.abs(box - [255, 176, 0]).max(axis=-1) < 40).mean()),
        "dark": float((box.max(axis=-1) < 90).mean()),
    })
print(json.dumps(found))
"""


def test_a_screenshot_shows_the_mark_on_any_picture_in_views_of_any_size() -> None:
    result = subprocess.run([sys.executable, "-c", RENDER], capture_output=True, text=True, check=False)
    lines = result.stdout.split("\n", 1)
    if lines[0] != "renders":
        pytest.skip("VTK cannot render here")
    assert result.returncode == 0, result.stderr
    for found in json.loads(lines[1]):
        (width, height), (left, right, bottom, top) = found["size"], found["box"]
        assert left >= 0.4 * width, found
        assert right < width, found
        assert bottom >= 0.85 * height, found
        assert top < height, found
        assert top - bottom >= 9, found  # pixels: large enough to be read
        assert found["letters"] > 0.1, found
        assert found["dark"] > 0.2, found
