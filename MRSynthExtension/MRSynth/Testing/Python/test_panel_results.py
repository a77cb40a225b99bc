"""The panel with results that are there already: what the views show of which, and what is handed to runs.

The results are those of runs that never were, so that no child process has to be waited for.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PySide6", reason="the panel is driven in PySide6")
slicer = pytest.importorskip("slicer")

import test_panel  # noqa: E402
from mrml_scenes import INFO  # noqa: E402
from test_panel import add, layout, views  # noqa: E402
from test_panel import app as app  # noqa: E402
from test_panel import models as models  # noqa: E402
from test_panel import temporary as temporary  # noqa: E402

from MRSynthLib.desktop import dicom_export, marks, mrml, results, trust  # noqa: E402
from MRSynthLib.desktop.exchange import RunResult  # noqa: E402
from MRSynthLib.engine import score_pair  # noqa: E402
from MRSynthLib.engine.errors import OutputError  # noqa: E402
from MRSynthLib.engine.volume import Volume  # noqa: E402

PATIENCE = test_panel.PATIENCE
REGIONS = [
    {"centre_ras": place, "volume_ml": 1.0, "expected_error": 200} for place in ([1.0, 2.0, 3.0], [-9.0, 8.0, 7.0])
]


@pytest.fixture
def widget(app: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The opened module, which does not measure this computer."""
    app.load()
    from MRSynthLib.desktop import panel_model

    monkeypatch.setattr(panel_model.ModelSection, "_start_probe", lambda self: None)
    return app.open()


@pytest.fixture
def source(widget: Any, phantom_t1: Volume) -> Any:
    node = widget.panel.parameters.source = add(phantom_t1)
    return node


def made(source: Any, output: Any = None, mapped: bool = True, value: int = 500) -> Any:
    """A synthetic volume of one value, with maps, in the scene."""
    job = results.capture(source, output_nodes=(output,))

    def full(number: int) -> Any:
        return np.full(job.volume.shape, number, np.int16)

    if not mapped:
        return results.show_run(job, RunResult(full(value), INFO), output)
    info = {**INFO, "trust": {"summary": "Off by much.", "regions": REGIONS}}
    return results.show_run(job, RunResult(full(value), info, None, full(value // 10), full(9)), output)


def showing() -> set[tuple[Any, Any]]:
    """Background and foreground of the slice views, without those of the second row of "side by side"."""
    layers = [(view.GetBackgroundVolumeID(), view.GetForegroundVolumeID(), view.GetLayoutName()) for view in views()]
    return {(below, above) for below, above, name in layers if "+" not in name}


# --- what is shown of which result --------------------------------------------------------


def test_the_map_that_lies_over_a_result_is_its_own(widget: Any, source: Any) -> None:
    first, second = made(source), made(source)
    parameters, ui = widget.panel.parameters, widget.panel.ui
    parameters.synthetic = first
    ui.overlayCheckBox.setChecked(True)
    assert showing() == {(first.GetID(), trust.map_of(first).GetID())}
    parameters.synthetic = second
    assert ui.overlayCheckBox.checked
    assert showing() == {(second.GetID(), trust.map_of(second).GetID())}
    ui.fadeSlider.value = 0.4
    assert showing() == {(second.GetID(), trust.map_of(second).GetID())}


def test_side_by_side_goes_with_the_result_that_is_chosen(widget: Any, source: Any) -> None:
    first, second = made(source), made(source)
    widget.panel.parameters.synthetic = first
    widget.panel.ui.sideBySideButton.click()
    widget.panel.parameters.synthetic = second
    shown = {view.GetBackgroundVolumeID() for view in views() if "+" in view.GetLayoutName()}
    assert shown == {second.GetID()}


@pytest.mark.parametrize("removed", [False, True], ids=["deselected", "deleted"])
def test_the_layout_comes_back_when_the_result_goes(widget: Any, source: Any, removed: bool) -> None:
    before, ui = layout(), widget.panel.ui
    widget.panel.parameters.synthetic = made(source)
    ui.sideBySideButton.click()
    assert layout() != before
    if removed:
        slicer.mrmlScene.RemoveNode(widget.panel.parameters.synthetic)
    else:
        widget.panel.parameters.synthetic = None
    assert layout() == before
    assert not ui.sideBySideButton.checked and not ui.sideBySideButton.enabled


def test_a_click_on_a_region_goes_there_every_time(widget: Any, source: Any) -> None:
    from PySide6 import QtCore, QtTest, QtWidgets

    widget.panel.parameters.synthetic = made(source)
    listed = next(each for each in QtWidgets.QApplication.allWidgets() if each.objectName() == "regionsList")
    view = slicer.mrmlScene.GetFirstNodeByName("Red")
    for row in (0, 0, 1):
        slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, 50, 50, 50, 0)
        middle = listed.visualItemRect(listed.item(row)).center()
        QtTest.QTest.mouseClick(
            listed.viewport(), QtCore.Qt.MouseButton.LeftButton, QtCore.Qt.KeyboardModifier.NoModifier, middle
        )
        place = [view.GetSliceToRAS().GetElement(axis, 3) for axis in range(3)]
        assert np.allclose(place, REGIONS[row]["centre_ras"])


# --- views that are another module's ------------------------------------------------------


class Start:
    """Stands in for `MRSynthLogic.start`: keeps what it was given, and ends when a test says so."""

    def __init__(self) -> None:
        self.nodes: tuple[Any, ...] = ()
        self.given: dict[str, Any] = {}
        self.ended, self.warnings = False, ()

    def __call__(self, *nodes: Any, **given: Any) -> Start:
        self.nodes, self.given = nodes, given
        return self

    def end(self, node: Any) -> None:
        self.ended = True
        self.given["onFinished"](node)

    def cancel(self) -> None:
        self.ended = True


@pytest.fixture
def start(widget: Any, monkeypatch: pytest.MonkeyPatch) -> Start:
    start = Start()
    monkeypatch.setattr(widget.logic, "start", start)
    return start


def users_views(volume: Any) -> set[tuple[Any, Any]]:
    """The user shows a volume of his own, unlinked; returns that."""
    for view in views():
        view.SetBackgroundVolumeID(volume.GetID())
        view.SetForegroundVolumeID(None)
        view.SetLinkedControl(0)
    return showing()


def test_a_result_waits_with_its_show_until_the_module_is_open(
    app: Any, widget: Any, source: Any, start: Start, phantom_t2: Volume
) -> None:
    former = widget.panel.parameters.synthetic = made(source)
    widget.panel.ui.overlayCheckBox.setChecked(True)
    widget.panel.ui.runButton.click()
    app.leave()
    before = users_views(add(phantom_t2))
    start.end(result := made(source, former, mapped=False))
    assert showing() == before and not any(view.GetLinkedControl() for view in views())
    app.open()
    assert showing() == {(source.GetID(), result.GetID())} and all(view.GetLinkedControl() for view in views())
    users_views(source)
    app.leave()
    app.open()
    assert showing() == {(source.GetID(), None)}  # once is enough


@pytest.mark.parametrize("removed", [False, True], ids=["not chosen", "deleted"])
def test_a_result_that_is_gone_by_then_is_not_shown(
    app: Any, widget: Any, source: Any, start: Start, removed: bool
) -> None:
    widget.panel.ui.runButton.click()
    app.leave()
    before = users_views(source)
    start.end(result := made(source))
    if removed:
        slicer.mrmlScene.RemoveNode(result)
    else:
        widget.panel.parameters.synthetic = None
    app.open()
    assert showing() == before


def test_reloading_gives_the_views_and_the_layout_back(app: Any, widget: Any, source: Any, start: Start) -> None:
    before, arrangement = users_views(source), layout()
    widget.panel.ui.runButton.click()
    start.end(made(source))
    widget.panel.ui.sideBySideButton.click()
    assert showing() == {(source.GetID(), None)} and layout() != arrangement
    widget.panel.ui.fadeSlider.value = 0.5
    app.reload()
    assert layout() == arrangement
    assert showing() == before and not any(view.GetLinkedControl() for view in views())


def test_after_a_reload_the_open_module_shows_its_results(
    app: Any, widget: Any, source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    again, start = app.reload(), Start()
    monkeypatch.setattr(again.logic, "start", start)
    again.panel.ui.runButton.click()
    start.end(result := made(source))
    assert showing() == {(source.GetID(), result.GetID())}


def test_an_import_is_not_looked_at_while_another_module_is_open(
    app: Any, widget: Any, phantom_t1: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from MRSynthLib.desktop import recognition

    other, path = slicer.vtkMRMLScene(), tmp_path / "saved.mrml"
    node, storage = other.AddNode(mrml.node_from_volume(phantom_t1)), slicer.vtkMRMLNRRDStorageNode()
    storage.SetFileName(str(tmp_path / "saved.nrrd"))
    node.SetAndObserveStorageNodeID(other.AddNode(storage).GetID())
    assert storage.WriteData(node)
    for scene in (other, slicer.mrmlScene):
        scene.SetURL(str(path))
    assert other.Commit()
    recognise, asked = recognition.recognise, []
    monkeypatch.setattr(recognition, "recognise", lambda *given: asked.append(given) or recognise(*given))
    app.leave()
    assert slicer.mrmlScene.Import()
    assert asked == [] and widget.panel.parameters.source is None
    app.open()
    assert len(asked) == 1 and widget.panel.parameters.source.GetName() == phantom_t1.name


def test_nothing_is_observed_twice_or_after_the_end(app: Any, widget: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def updates(panel: Any) -> int:
        called: list[bool] = []
        with monkeypatch.context() as patch:
            patch.setattr(panel, "update", lambda: called.append(True))
            panel.parameters.fade = 0.5 if panel.parameters.fade == 1.0 else 1.0
        return len(called)

    before = updates(widget.panel)
    for _ in range(3):
        app.leave()
        app.open()
    assert updates(widget.panel) == before > 0
    again = app.reload()
    attached: list[Any] = []
    monkeypatch.setattr(widget.panel, "attach", attached.append)
    monkeypatch.setattr(widget.panel, "update", lambda: attached.append("updated"))
    assert updates(again.panel) == before
    slicer.mrmlScene.Clear(0)
    assert attached == []


# --- scores -------------------------------------------------------------------------------


class ScoredHere:
    """Stands in for `ScoreRun`: scores in this process."""

    pair: score_pair.Pair

    def __init__(self, pair: score_pair.Pair) -> None:
        ScoredHere.pair = pair

    def start(self) -> None:
        pass

    def poll(self) -> bool:
        return True

    def result(self) -> score_pair.PairScores:
        return score_pair.score(self.pair)

    def cancel(self) -> None:
        pass


@pytest.fixture
def score(app: Any, widget: Any, source: Any, phantom_t2: Volume, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Scores the chosen result against an acquired volume, as by the button."""
    from MRSynthLib.desktop import panel_compare

    monkeypatch.setattr(panel_compare, "ScoreRun", ScoredHere)
    widget.panel.parameters.acquired = add(phantom_t2)

    def score() -> None:
        widget.panel.ui.scoreButton.click()
        app.wait_until(lambda: not widget.panel.compare.scoring, PATIENCE)
        assert "PSNR" in widget.panel.ui.scoreLabel.text and widget.panel.ui.scoreLabel.visible

    return score


def test_scores_stand_beside_the_volumes_that_they_are_of(
    widget: Any, source: Any, score: Any, phantom_t2: Volume
) -> None:
    parameters, label = widget.panel.parameters, widget.panel.ui.scoreLabel
    first = parameters.synthetic = made(source)
    score()
    told = label.text
    widget.panel.ui.overlayCheckBox.setChecked(True)
    assert label.text == told
    parameters.synthetic = made(source)
    assert label.text == "" and not label.visible
    parameters.synthetic = first
    assert label.text == told
    acquired, parameters.acquired = parameters.acquired, add(phantom_t2)
    assert label.text == ""
    parameters.acquired = acquired
    assert label.text == told
    made(source, first, value=123)
    widget.panel.update()
    assert label.text == "" and not label.visible


def test_scores_and_maps_of_an_earlier_result_say_so(widget: Any, source: Any, score: Any) -> None:
    result = widget.panel.parameters.synthetic = made(source)
    score()
    scene, maps = slicer.mrmlScene, (trust.map_of(result), trust.interval_of(result))
    table = scene.GetFirstNodeByClass("vtkMRMLTableNode")
    difference = next(
        node for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if "minus" in node.GetName()
    )
    names = [node.GetName() for node in (table, difference)]
    for _ in range(2):  # once is said once
        made(source, result, mapped=False, value=123)
        assert [node.GetName() for node in (table, difference)] == [f"{name} [outdated]" for name in names]
    assert marks.mark_of(difference) == "OUTDATED MAP"
    assert all(node.GetName().endswith("[outdated]") and marks.mark_of(node) == "OUTDATED MAP" for node in maps)
    score()
    assert [node.GetName() for node in (table, difference)] == names
    assert marks.mark_of(difference) == "SYNTHETIC T2 - ACQUIRED"


def test_scores_are_of_the_chosen_mask(widget: Any, source: Any, score: Any, phantom_mask: np.ndarray) -> None:
    mask = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "brain")
    slicer.util.updateVolumeFromArray(mask, phantom_mask.astype(np.uint8))
    mask.CopyOrientation(source)
    widget.panel.parameters.synthetic, widget.panel.parameters.mask = made(source), mask
    score()
    assert ScoredHere.pair.mask is not None
    np.testing.assert_array_equal(ScoredHere.pair.mask.voxels > 0, phantom_mask)


# --- what may be overwritten --------------------------------------------------------------


def test_only_results_are_offered_to_be_overwritten_and_not_their_maps(app: Any, widget: Any, source: Any) -> None:
    result, selector = made(source), widget.panel.ui.syntheticSelector
    assert [selector.nodeFromIndex(index) for index in range(selector.nodeCount())] == [result]
    own = selector.addNode()
    assert widget.panel.parameters.synthetic is own and selector.nodeCount() == 2
    assert not widget.panel.ui.sideBySideButton.enabled  # it is empty
    assert made(source, own) is selector.currentNode() is own
    widget.panel.update()
    assert widget.panel.ui.sideBySideButton.enabled


def test_an_empty_volume_is_not_chosen_as_the_source_by_itself(app: Any, widget: Any) -> None:
    widget.panel.ui.syntheticSelector.addNode()
    app.leave()
    app.open()
    assert widget.panel.parameters.source is None


def test_the_database_is_asked_once_for_an_update_and_never_of_maps(
    widget: Any, source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    database = SimpleNamespace(fileForInstance=lambda uid: asked.append(uid) or "1.dcm", fileValue=lambda *given: "")
    with monkeypatch.context() as patch:
        patch.setattr(slicer, "dicomDatabase", database, raising=False)
        result = made(source)
        source.SetAttribute("DICOM.instanceUIDs", " ".join(f"1.2.{number}" for number in range(200)))
        widget.panel.parameters.synthetic = result
        assert widget.panel.ui.exportButton.enabled
        asked.clear()
        widget.panel.update()
        assert asked == ["1.2.0"]
        assert not dicom_export.possible(trust.map_of(result))
        with pytest.raises(OutputError, match="is no synthetic volume"):
            dicom_export.export(trust.map_of(result), tmp_path / "out")
        widget.panel.parameters.synthetic = None
        assert not widget.panel.ui.exportButton.enabled


# --- what is handed to runs ---------------------------------------------------------------


@pytest.fixture
def choices(widget: Any, source: Any, phantom_t2: Volume) -> Any:
    """The panel's parameters, each one other than by default."""
    parameters = widget.panel.parameters
    parameters.synthetic, parameters.like = made(source), add(phantom_t2)
    parameters.mask = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "brain")
    slicer.util.updateVolumeFromArray(parameters.mask, np.ones(phantom_t2.shape, np.uint8))
    parameters.mask.CopyOrientation(source)
    parameters.direction, parameters.model = "t1-to-t2", "tiny"
    parameters.device, parameters.planes = "cpu", "three"
    widget.panel.model.calibrated = True  # as if the tiny one were
    return parameters


def test_a_run_gets_what_is_chosen(widget: Any, choices: Any, start: Start) -> None:
    widget.panel.ui.runButton.click()
    given = {name: value for name, value in start.given.items() if not name.startswith("on")}
    assert start.nodes == (choices.source, choices.synthetic)
    assert given == {
        "target": "t2",
        "maskNode": choices.mask,
        "model": "tiny",
        "device": "cpu",
        "like": choices.like,
        "planes": "three",
        "reliability": True,
        "force": False,
    }


def test_a_batch_gets_what_is_chosen(
    widget: Any, choices: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from MRSynthLib.desktop import panel_batch

    given: list[Any] = []

    def batch(*folders: Path, **options: Any) -> Any:
        given.append((folders, options))
        return SimpleNamespace(start=lambda: None, poll=lambda: False, cancel=lambda: None, ended=False)

    monkeypatch.setattr(panel_batch, "BatchRun", batch)
    choices.batch_input, choices.batch_output = str(tmp_path), str(tmp_path / "out")
    widget.panel.ui.batchButton.click()
    [(folders, options)] = given
    assert folders == (tmp_path, tmp_path / "out")
    assert (options["model"], options["device"]) == ("tiny", "cpu")
    assert options["options"] == ("--planes", "three", "--reliability")


# --- models and devices -------------------------------------------------------------------


def test_the_device_of_a_scene_stays_until_this_computer_is_known(widget: Any) -> None:
    parameters, selector = widget.panel.parameters, widget.panel.ui.deviceSelector
    parameters.device = "cuda:1"
    assert parameters.device == "cuda:1" and selector.currentIndex == -1
    widget.panel.model.probe = SimpleNamespace(devices=(), automatic="cpu")
    widget.panel.update()
    assert parameters.device == "auto" and selector.currentIndex == 0


def test_no_model_is_shown_as_chosen_where_it_is_not_installed(widget: Any) -> None:
    parameters, ui = widget.panel.parameters, widget.panel.ui
    parameters.model = "from-another-computer"
    assert ui.modelSelector.currentIndex == -1 and "not installed" in ui.cardBrowser.toPlainText()
    ui.modelSelector.setCurrentIndex(0)
    assert parameters.model == "mrsynth-native" and "not installed" not in ui.cardBrowser.toPlainText()
