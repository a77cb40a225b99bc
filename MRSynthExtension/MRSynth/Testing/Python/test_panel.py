"""The shipped form and the real widget, driven as a user would, on real MRML and with the real child process.

3D Slicer's Qt application is the stand-in of `standin`; everything else is what ships.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("PySide6", reason="the panel is driven in PySide6")
slicer = pytest.importorskip("slicer")

import standin  # noqa: E402
from batch_cohorts import cohort  # noqa: E402
from engine_helpers import save_untrained  # noqa: E402
from test_reliability import calibration  # noqa: E402

from MRSynthLib.desktop import dicom_export, mrml, nodes, results, trust  # noqa: E402
from MRSynthLib.engine.checkpoint import read_card  # noqa: E402
from MRSynthLib.engine.volume import Volume  # noqa: E402

PATIENCE = 180.0  # seconds after which a test that waits has failed


@pytest.fixture
def models(tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of added checkpoints, with the tiny one in it."""
    folder = tmp_path / "models"
    folder.mkdir()
    shutil.copy(tiny_checkpoint, folder / "tiny.safetensors")
    monkeypatch.setenv("MRSYNTH_MODELS", str(folder))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return folder


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder for temporary files, which every test has to leave empty."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.glob("mrsynth*")) == []


@pytest.fixture
def app(tmp_path: Path, models: Path, temporary: Path) -> Iterator[Any]:
    with standin.application(tmp_path) as application:
        yield application


@pytest.fixture
def widget(app: Any) -> Any:
    """The module's widget, opened in a scene without volumes."""
    return app.open()


def add(volume: Volume) -> Any:
    return slicer.mrmlScene.AddNode(mrml.node_from_volume(volume))


@pytest.fixture
def t1(widget: Any, phantom_t1: Volume) -> Any:
    """A T1 phantom, chosen as the source, to be synthesized by the tiny checkpoint."""
    node = add(phantom_t1)
    widget.panel.parameters.source = node
    widget.panel.parameters.model = "tiny"
    return node


def views() -> list[Any]:
    """What the slice views show, in the order of the scene."""
    scene = slicer.mrmlScene
    count = scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")
    return [scene.GetNthNodeByClass(index, "vtkMRMLSliceCompositeNode") for index in range(count)]


def layout() -> int:
    return slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode").GetViewArrangement()


def run_to_end(app: Any, widget: Any) -> Any:
    ui = widget.panel.ui
    ui.runButton.click()
    assert ui.runButton.text == "Cancel"
    app.wait_until(lambda: not widget.panel.run.running, PATIENCE)
    return widget.panel.parameters.synthetic


# --- what is offered ----------------------------------------------------------------------


def test_without_a_volume_there_is_nothing_to_run(widget: Any) -> None:
    ui = widget.panel.ui
    assert not ui.runButton.enabled
    assert "source" in ui.runButton.toolTip
    assert not ui.progressBar.visible
    assert not ui.sideBySideButton.enabled and not ui.scoreButton.enabled


def test_the_volume_in_the_scene_is_chosen_and_recognised(app: Any, phantom_t1: Volume) -> None:
    with_volume = app
    node = add(phantom_t1)
    ui = with_volume.open().panel.ui
    assert ui.sourceSelector.currentNode() is node
    assert "T1" in ui.recognisedLabel.text and "mm" in ui.recognisedLabel.text
    assert ui.runButton.enabled and ui.runButton.text == "Synthesize T2"


def test_a_result_is_never_chosen_as_the_source_by_itself(app: Any, phantom_t1: Volume) -> None:
    add(phantom_t1).SetAttribute("MRSynth.Synthetic", "1")
    assert app.open().panel.ui.sourceSelector.currentNode() is None


def test_the_direction_can_be_said(widget: Any, t1: Any) -> None:
    ui = widget.panel.ui
    ui.directionSelector.setCurrentIndex(ui.directionSelector.findData("t2-to-t1"))
    assert widget.panel.parameters.direction == "t2-to-t1"
    assert ui.runButton.text == "Synthesize T1"


def test_an_unusable_source_is_refused_in_words(widget: Any, phantom_t1: Volume) -> None:
    constant = Volume(np.full(phantom_t1.shape, 7, dtype=np.int16), phantom_t1.ijk_to_ras, name="constant")
    widget.panel.parameters.source = add(constant)
    ui = widget.panel.ui
    assert not ui.runButton.enabled
    assert ui.recognisedLabel.visible and "All voxels" in ui.recognisedLabel.text


def test_a_source_that_is_refused_can_be_forced(app: Any, widget: Any, phantom_t1: Volume) -> None:
    voxels = np.random.default_rng(0).integers(1, 1000, phantom_t1.shape).astype(np.int16)
    ui = widget.panel.ui
    widget.panel.parameters.model = "tiny"
    widget.panel.parameters.source = add(Volume(voxels, phantom_t1.ijk_to_ras, name="noise"))
    assert ui.forceCheckBox.visible and not ui.runButton.enabled
    assert "⚠" in ui.recognisedLabel.text and "noise" in ui.runButton.toolTip
    ui.forceCheckBox.setChecked(True)
    ui.directionSelector.setCurrentIndex(ui.directionSelector.findData("t1-to-t2"))
    assert ui.runButton.enabled
    assert run_to_end(app, widget) is not None
    widget.panel.parameters.source = add(phantom_t1)
    assert not ui.forceCheckBox.visible and not ui.forceCheckBox.checked and ui.runButton.enabled


def test_label_maps_are_no_sources_but_masks(widget: Any) -> None:
    label_map = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "brain")
    ui = widget.panel.ui
    assert ui.sourceSelector.nodeCount() == 0
    ui.maskSelector.setCurrentNode(label_map)
    assert widget.panel.parameters.mask is label_map


def test_only_a_result_can_be_chosen_to_be_overwritten(widget: Any, t1: Any, phantom_t2: Volume) -> None:
    ui = widget.panel.ui
    add(phantom_t2)
    assert ui.syntheticSelector.nodeCount() == 0 and ui.sourceSelector.nodeCount() == 2
    made = add(phantom_t2)
    made.SetAttribute(results.DIRECTION, "T1 to T2")
    assert [ui.syntheticSelector.nodeFromIndex(0)] == [made]


@pytest.mark.parametrize("role", ["source", "synthetic", "mask", "acquired", "like"])
def test_when_a_chosen_node_is_deleted_no_other_takes_its_place(widget: Any, phantom_t1: Volume, role: str) -> None:
    def another() -> Any:
        if role == "mask":
            return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
        node = add(phantom_t1)
        if role == "synthetic":
            node.SetAttribute(results.DIRECTION, "T1 to T2")
        return node

    first, second, third = another(), another(), another()
    setattr(widget.panel.parameters, role, second)
    slicer.mrmlScene.RemoveNode(second)
    assert getattr(widget.panel.parameters, role) is None
    selector = getattr(widget.panel.ui, f"{role}Selector")
    assert selector.currentNode() is None and selector.nodeCount() == 2
    assert first.GetScene() is third.GetScene() is slicer.mrmlScene


# --- runs ---------------------------------------------------------------------------------


def test_one_button_makes_the_missing_contrast(app: Any, widget: Any, t1: Any) -> None:
    before = slicer.util.arrayFromVolume(t1).copy()
    made = run_to_end(app, widget)
    ui = widget.panel.ui
    assert made is not None and made is not t1
    assert made.GetAttribute("MRSynth.Direction") == "T1 to T2"
    assert made.GetNodeReference(results.SOURCE_ROLE) is t1
    assert nodes.geometry_mismatch(t1, made) == ""
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(t1), before)
    assert ui.syntheticSelector.currentNode() is made
    assert ui.runButton.text == "Synthesize T2" and ui.runButton.enabled and not ui.progressBar.visible
    assert "Done" in ui.statusLabel.text and made.GetName() in ui.statusLabel.text


def test_a_second_run_reuses_the_chosen_result(app: Any, widget: Any, t1: Any) -> None:
    first = run_to_end(app, widget)
    count = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    assert run_to_end(app, widget) is first
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == count


def test_the_result_is_shown_over_its_source_in_the_same_layout(app: Any, widget: Any, t1: Any) -> None:
    before = layout()
    made = run_to_end(app, widget)
    assert len(views()) >= 3
    for composite in views():
        assert composite.GetBackgroundVolumeID() == t1.GetID()
        assert composite.GetForegroundVolumeID() == made.GetID()
        assert composite.GetForegroundOpacity() == 1.0
        assert composite.GetLinkedControl()
    assert layout() == before


def test_what_is_selected_during_a_run_does_not_change_it(app: Any, widget: Any, t1: Any, phantom_t2: Volume) -> None:
    ui = widget.panel.ui
    ui.runButton.click()
    other = add(phantom_t2)
    ui.sourceSelector.setCurrentNode(other)
    ui.directionSelector.setCurrentIndex(ui.directionSelector.findData("t2-to-t1"))
    app.wait_until(lambda: not widget.panel.run.running, PATIENCE)
    made = widget.panel.parameters.synthetic
    assert made.GetNodeReference(results.SOURCE_ROLE) is t1
    assert made.GetAttribute("MRSynth.Direction") == "T1 to T2"


def test_cancel_leaves_the_scene_as_it_was(app: Any, widget: Any, t1: Any) -> None:
    count = slicer.mrmlScene.GetNumberOfNodes()
    ui = widget.panel.ui
    ui.runButton.click()
    app.process_events(0.1)
    ui.runButton.click()
    assert not widget.panel.run.running
    assert ui.runButton.text == "Synthesize T2"
    assert "Cancelled" in ui.statusLabel.text
    assert slicer.mrmlScene.GetNumberOfNodes() == count


def test_progress_is_told_on_the_way(app: Any, widget: Any, t1: Any) -> None:
    seen = []
    ui = widget.panel.ui
    ui.runButton.click()

    def over() -> bool:
        seen.append((ui.progressBar.value, ui.statusLabel.text, ui.progressBar.visible))
        return not widget.panel.run.running

    app.wait_until(over, PATIENCE)
    under_way = [each for each in seen if each[2]]
    assert under_way and sorted(value for value, _, _ in under_way) == [value for value, _, _ in under_way]
    assert any(value > 0 for value, _, _ in under_way)
    assert len({text for _, text, _ in under_way}) > 1


def test_switching_modules_does_not_stop_a_run(app: Any, widget: Any, t1: Any) -> None:
    widget.panel.ui.runButton.click()
    app.leave()
    app.wait_until(lambda: not widget.panel.run.running, PATIENCE)
    app.open()
    assert widget.panel.ui.syntheticSelector.currentNode().GetAttribute("MRSynth.Synthetic") == "1"


def test_closing_the_scene_ends_a_run(app: Any, widget: Any, t1: Any) -> None:
    widget.panel.ui.runButton.click()
    app.process_events(0.1)
    slicer.mrmlScene.Clear(0)
    assert not widget.panel.run.running
    assert "scene" in widget.panel.ui.statusLabel.text
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0
    assert not widget.panel.ui.runButton.enabled


def test_deleting_the_source_ends_a_run(app: Any, widget: Any, t1: Any) -> None:
    widget.panel.ui.runButton.click()
    app.process_events(0.1)
    slicer.mrmlScene.RemoveNode(t1)
    assert not widget.panel.run.running
    assert "removed" in widget.panel.ui.statusLabel.text


def test_deleting_the_result_node_during_a_run_gives_a_new_one(app: Any, widget: Any, t1: Any) -> None:
    first = run_to_end(app, widget)
    widget.panel.ui.runButton.click()
    app.process_events(0.1)
    slicer.mrmlScene.RemoveNode(first)
    app.wait_until(lambda: not widget.panel.run.running, PATIENCE)
    made = widget.panel.parameters.synthetic
    assert made is not None and made is not first and made.GetScene() is slicer.mrmlScene
    assert "removed" in widget.panel.ui.statusLabel.text


def test_reloading_the_module_ends_a_run_and_starts_afresh(app: Any, widget: Any, t1: Any) -> None:
    widget.panel.ui.runButton.click()
    app.process_events(0.1)
    again = app.reload()
    assert again is not widget and not widget.panel.run.running
    assert again.panel.ui.sourceSelector.currentNode() is t1
    assert run_to_end(app, again) is not None


def test_quitting_ends_a_run(app: Any, widget: Any, t1: Any) -> None:
    widget.panel.ui.runButton.click()
    app.process_events(0.1)
    app.quit()
    assert not widget.panel.run.running


def test_a_failed_run_says_what_to_do(app: Any, widget: Any, t1: Any, models: Path) -> None:
    damaged = bytearray((models / "tiny.safetensors").read_bytes())
    damaged[-1] ^= 255
    (models / "tiny.safetensors").write_bytes(damaged)
    count = slicer.mrmlScene.GetNumberOfNodes()
    run_to_end(app, widget)
    ui = widget.panel.ui
    assert widget.panel.run.last_error.code == "model-hash"
    assert "Download the checkpoint again" in ui.statusLabel.text
    assert ui.runButton.enabled and slicer.mrmlScene.GetNumberOfNodes() == count


def test_a_run_from_the_console_is_not_disturbed(app: Any, widget: Any, t1: Any) -> None:
    finished: list[Any] = []
    run = widget.logic.start(t1, model="tiny", onFinished=finished.append)
    widget.panel.ui.runButton.click()
    assert "under way" in widget.panel.ui.statusLabel.text
    app.wait_until(lambda: run.ended, PATIENCE)
    assert len(finished) == 1


# --- what is written over the slice views ------------------------------------------------


def marks() -> dict[str, str]:
    """What MRSynth has written over the slice views of the layout manager, by view."""
    manager = slicer.app.layoutManager()
    texts = {}
    for name in manager.sliceViewNames():
        renderers = manager.sliceWidget(name).sliceView().renderWindow().GetRenderers()
        for index in range(renderers.GetNumberOfItems()):
            props = renderers.GetItemAsObject(index).GetViewProps()
            actors = [props.GetItemAsObject(number) for number in range(props.GetNumberOfItems())]
            texts.update((name, actor.GetInput()) for actor in actors if actor.IsA("vtkTextActor"))
    return texts


def test_views_say_synthetic_where_they_show_a_result(app: Any, widget: Any, t1: Any) -> None:
    assert marks() == {}
    run_to_end(app, widget)
    assert marks() == dict.fromkeys(("Red", "Green", "Yellow"), "SYNTHETIC T2")
    app.leave()
    assert len(marks()) == 3  # in every module
    app.open()
    widget.panel.ui.fadeSlider.value = 0.0
    assert marks() == {}


def test_a_loaded_scene_is_marked_although_the_panel_was_never_opened(app: Any, phantom_t1: Volume) -> None:
    app.load()
    app.complete_startup()
    node = add(phantom_t1)
    node.SetAttribute("MRSynth.Synthetic", "1")
    views()[0].SetBackgroundVolumeID(node.GetID())
    assert list(marks().values()) == ["SYNTHETIC"]


# --- what a scene keeps -------------------------------------------------------------------


def save_and_load_again(path: Path) -> None:
    """As File/Save and File/Load do."""
    scene = slicer.mrmlScene
    scene.SetURL(str(path))
    scene.SetRootDirectory(str(path.parent))
    assert scene.Commit()
    scene.Clear(0)
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0
    scene.SetURL(str(path))
    assert scene.Connect()


def test_a_saved_scene_brings_the_choices_back(app: Any, widget: Any, t1: Any, tmp_path: Path) -> None:
    made = run_to_end(app, widget)
    ui = widget.panel.ui
    ui.directionSelector.setCurrentIndex(ui.directionSelector.findData("t1-to-t2"))
    ui.deviceSelector.setCurrentIndex(ui.deviceSelector.findData("cpu"))
    ui.fadeSlider.value = 0.25
    name = made.GetName()
    save_and_load_again(tmp_path / "saved.mrml")
    parameters = widget.panel.parameters
    assert parameters.source.GetName() == "phantom T1" and parameters.synthetic.GetName() == name
    assert (parameters.direction, parameters.device, parameters.model) == ("t1-to-t2", "cpu", "tiny")
    assert parameters.fade == 0.25
    assert ui.sourceSelector.currentNode().GetName() == "phantom T1"
    assert ui.directionSelector.itemData(ui.directionSelector.currentIndex) == "t1-to-t2"
    assert ui.fadeSlider.value == 0.25


# --- reliability and batches --------------------------------------------------------------


@pytest.fixture
def with_map(app: Any, widget: Any, t1: Any, models: Path) -> Any:
    """A result whose checkpoint gave a reliability map."""
    card = {**read_card(models / "tiny.safetensors"), "reliability": calibration()}
    save_untrained(models / "calibrated.safetensors", card)
    widget.panel.enter()
    widget.panel.parameters.model = "calibrated"
    return run_to_end(app, widget)


def test_the_map_is_summed_up_and_shown_over_the_result(widget: Any, t1: Any, with_map: Any) -> None:
    ui = widget.panel.ui
    assert "of the brain is expected to be off by more than 15 %" in ui.trustLabel.text
    assert ui.regionsList.count == len(trust.summary_of(with_map)["regions"]) > 0
    ui.overlayCheckBox.setChecked(True)
    for composite in views():
        assert composite.GetBackgroundVolumeID() == with_map.GetID()
        assert composite.GetForegroundVolumeID() == trust.map_of(with_map).GetID()
        assert 0 < composite.GetForegroundOpacity() < 1
    ui.sideBySideButton.setChecked(True)
    assert not ui.overlayCheckBox.checked
    ui.sideBySideButton.setChecked(False)
    assert {view.GetBackgroundVolumeID() for view in views() if "+" not in view.GetLayoutName()} == {t1.GetID()}


def test_without_a_calibration_no_map_is_offered(app: Any, widget: Any, t1: Any) -> None:
    ui = widget.panel.ui
    assert not ui.reliabilityCheckBox.enabled and not ui.reliabilityCheckBox.checked
    run_to_end(app, widget)
    assert "No reliability map" in ui.trustLabel.text
    assert not ui.overlayCheckBox.enabled and not ui.regionsList.visible


def test_the_result_takes_the_brightness_of_a_reference(app: Any, widget: Any, t1: Any, phantom_t2: Volume) -> None:
    plain = slicer.util.arrayFromVolume(run_to_end(app, widget)).copy()
    widget.panel.ui.likeSelector.setCurrentNode(add(phantom_t2))
    assert widget.panel.parameters.like.GetName() == phantom_t2.name
    matched = slicer.util.arrayFromVolume(run_to_end(app, widget))
    assert not np.array_equal(plain, matched) and np.array_equal(plain == 0, matched == 0)


def test_a_batch_runs_beside_the_panel_and_opens_its_report(app: Any, widget: Any, tmp_path: Path) -> None:
    ui = widget.panel.ui
    widget.panel.parameters.model = "tiny"
    ui.batchSection.collapsed = False
    assert not ui.batchButton.enabled and not ui.reportButton.enabled
    ui.batchInputPath.currentPath = str(cohort(tmp_path / "in", 2))
    ui.batchOutputPath.currentPath = str(tmp_path / "out")
    ui.batchButton.click()
    assert ui.batchButton.text == "Cancel batch" and ui.batchProgressBar.visible and not ui.batchInputPath.enabled
    app.wait_until(lambda: not widget.panel.batch.running, PATIENCE)
    assert "2 made" in ui.batchStatusLabel.text and ui.batchButton.text == "Synthesize what is missing"
    assert app.opened_urls == [(tmp_path / "out" / "report.html").as_uri()]
    assert ui.reportButton.enabled


def test_a_cancelled_batch_says_how_to_go_on(app: Any, widget: Any, tmp_path: Path) -> None:
    ui = widget.panel.ui
    ui.batchInputPath.currentPath = str(cohort(tmp_path / "in", 2))
    ui.batchOutputPath.currentPath = str(tmp_path / "out")
    ui.batchButton.click()
    ui.batchButton.click()
    assert not widget.panel.batch.running and "go on" in ui.batchStatusLabel.text
    assert app.opened_urls == []


def test_reloading_the_module_ends_a_batch(app: Any, widget: Any, tmp_path: Path) -> None:
    ui = widget.panel.ui
    ui.batchInputPath.currentPath = str(cohort(tmp_path / "in", 2))
    ui.batchOutputPath.currentPath = str(tmp_path / "out")
    ui.batchButton.click()
    again = app.reload()
    assert not widget.panel.batch.running
    assert again.panel.ui.batchInputPath.currentPath == str(tmp_path / "in")


# --- models and devices -------------------------------------------------------------------


def test_models_are_listed_with_their_cards(widget: Any) -> None:
    ui = widget.panel.ui
    names = [ui.modelSelector.itemData(index) for index in range(ui.modelSelector.count)]
    assert names[0] == "mrsynth-native" and {"mrsynth-paper", "tiny"} <= set(names)
    card = ui.cardBrowser.toPlainText()
    for words in ("Known failures", "PSNR", "Trained on", "Licence", "T1w ↔ T2w"):
        assert words in card
    assert not ui.removeModelButton.enabled


def test_a_model_is_added_from_a_file_and_removed(app: Any, widget: Any, models: Path, tmp_path: Path) -> None:
    ui = widget.panel.ui
    given, added = tmp_path / "given.safetensors", models / "tiny-untrained.safetensors"
    (models / "tiny.safetensors").rename(given)
    app.answers.append(str(given))
    ui.addModelButton.click()
    assert widget.panel.parameters.model == "tiny-untrained" and added.exists()
    assert "never trained" in ui.cardBrowser.toPlainText()
    app.answers.append(False)  # the question whether to delete
    ui.removeModelButton.click()
    assert added.exists()
    app.answers.append(True)
    ui.removeModelButton.click()
    assert not added.exists() and given.exists()
    assert ui.modelSelector.findData("tiny-untrained") < 0


def test_a_file_that_is_no_checkpoint_is_refused(app: Any, widget: Any, models: Path, tmp_path: Path) -> None:
    given = tmp_path / "odd.safetensors"
    given.write_bytes(b"pickle" * 50)
    app.answers += [str(given), True]
    widget.panel.ui.addModelButton.click()
    assert app.dialogs[-1].kind == "critical" and "safetensors" in app.dialogs[-1].text
    assert not (models / "odd.safetensors").exists()


def test_a_model_that_is_not_installed_is_named(widget: Any, t1: Any) -> None:
    widget.panel.parameters.model = "from-another-computer"
    assert "from-another-computer" in widget.panel.ui.cardBrowser.toPlainText()


def test_the_device_is_explained_and_the_time_estimated(app: Any, widget: Any, t1: Any) -> None:
    app.wait_until(lambda: widget.panel.model.probe is not None, PATIENCE)
    ui = widget.panel.ui
    assert "CPU" in ui.deviceReasonLabel.text or "GPU" in ui.deviceReasonLabel.text
    assert "s on" in ui.estimateLabel.text
    assert ui.deviceSelector.findData("auto") == 0 and ui.deviceSelector.findData("cpu") > 0


def test_the_next_estimate_goes_by_what_the_last_run_took(app: Any, widget: Any, t1: Any) -> None:
    app.wait_until(lambda: widget.panel.model.probe is not None, PATIENCE)
    model = widget.panel.model
    before = model.seconds()
    model.learn(before, 3 * before)
    assert model.seconds() == pytest.approx(3 * before)
    assert f"{max(1, 3 * before):.0f} s" in model.estimate()


# --- compare ------------------------------------------------------------------------------


def test_fade_and_side_by_side(app: Any, widget: Any, t1: Any) -> None:
    before = layout()
    made = run_to_end(app, widget)
    ui = widget.panel.ui
    ui.fadeSlider.value = 0.5
    assert {composite.GetForegroundOpacity() for composite in views()} == {0.5}
    ui.sideBySideButton.click()
    assert layout() != before
    assert {t1.GetID(), made.GetID()} <= {composite.GetBackgroundVolumeID() for composite in views()}
    ui.sideBySideButton.click()
    assert layout() == before


def test_flicker_switches_and_stops_with_the_panel(app: Any, widget: Any, t1: Any) -> None:
    run_to_end(app, widget)
    ui = widget.panel.ui
    seen = set()
    ui.flickerButton.click()

    def both() -> bool:
        seen.add(views()[0].GetForegroundOpacity())
        return seen == {0.0, 1.0}

    app.wait_until(both, PATIENCE)
    app.leave()
    assert not ui.flickerButton.checked
    assert views()[0].GetForegroundOpacity() == 1.0


def test_scores_against_an_acquired_volume(app: Any, widget: Any, t1: Any, phantom_t2: Volume) -> None:
    run_to_end(app, widget)
    ui = widget.panel.ui
    assert not ui.scoreButton.enabled
    widget.panel.parameters.acquired = add(phantom_t2)
    assert ui.scoreButton.enabled
    ui.scoreButton.click()  # the panel does not wait for them
    assert "Scoring" in ui.scoreLabel.text and ui.scoreButton.text == "Cancel scoring"
    ui.scoreButton.click()
    assert "Cancelled" in ui.scoreLabel.text and ui.scoreButton.enabled
    ui.scoreButton.click()
    app.wait_until(lambda: "PSNR" in ui.scoreLabel.text, PATIENCE)
    assert "dB" in ui.scoreLabel.text and ui.scoreButton.text == "Difference map and scores"
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 1


def test_a_scoring_ends_with_the_panel(app: Any, widget: Any, t1: Any, phantom_t2: Volume, temporary: Path) -> None:
    run_to_end(app, widget)
    widget.panel.parameters.acquired = add(phantom_t2)
    widget.panel.ui.scoreButton.click()
    assert len(list(temporary.glob("mrsynth-run-*"))) == 1
    widget.panel.close()
    assert list(temporary.glob("mrsynth-run-*")) == []


def test_scores_that_cannot_be_are_said_so(app: Any, widget: Any, t1: Any) -> None:
    run_to_end(app, widget)
    ui = widget.panel.ui
    widget.panel.parameters.acquired = t1
    ui.scoreButton.click()
    assert ui.scoreLabel.text.startswith("⚠") and ui.scoreButton.text == "Difference map and scores"


# --- export -------------------------------------------------------------------------------


def test_export_is_offered_for_sources_from_dicom_only(
    app: Any, widget: Any, t1: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = run_to_end(app, widget)
    ui = widget.panel.ui
    ui.exportSection.collapsed = False
    assert not ui.exportButton.enabled and "DICOM" in ui.exportLabel.text
    # The export itself has its own tests, on real series.
    asked = []
    monkeypatch.setattr(dicom_export, "possible", lambda node: True)
    monkeypatch.setattr(dicom_export, "export", lambda *given: asked.append(given) or tmp_path / "series")
    widget.panel.update()
    ui.anonymizeCheckBox.click()
    app.answers.append(str(tmp_path))
    ui.exportButton.click()
    assert asked == [(made, str(tmp_path), True)]
    assert str(tmp_path / "series") in ui.exportLabel.text


# --- installation and help ----------------------------------------------------------------


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if torch were not installed (only the look is replaced: torch cannot be removed here)."""
    from MRSynthLib.desktop import install

    missing = install.Setup(
        ready=False,
        torch="missing",
        torch_version=None,
        safetensors=True,
        extension=True,
        explanation="PyTorch is missing.",
    )
    monkeypatch.setattr(install, "look", lambda: missing)


@pytest.mark.usefixtures("without_torch")
def test_what_is_missing_is_offered_before_the_first_run(app: Any, phantom_t1: Volume) -> None:
    add(phantom_t1)
    widget = app.open()
    ui = widget.panel.ui
    assert ui.setupFrame.visible and "PyTorch" in ui.setupLabel.text
    app.answers.append(False)
    ui.runButton.click()
    assert "PyTorch" in app.dialogs[-1].text
    assert not widget.panel.run.running


@pytest.mark.usefixtures("without_torch")
def test_a_failed_installation_says_what_to_do(app: Any, phantom_t1: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    from MRSynthLib.desktop import install
    from MRSynthLib.engine.errors import InstallError

    def fail(setup: Any, on_step: Any) -> None:
        on_step("Downloading PyTorch", 0.1)
        raise InstallError("install-network", "The network cannot be reached.", "a network.")

    monkeypatch.setattr(install, "install", fail)
    add(phantom_t1)
    widget = app.open()
    app.answers += [True, True]
    widget.panel.ui.installButton.click()
    assert app.dialogs[-1].kind == "critical" and "The network cannot be reached." in app.dialogs[-1].text
    assert widget.panel.run.last_error.code == "install-network"


def test_the_extension_for_pytorch_is_offered_first(
    app: Any, phantom_t1: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    from MRSynthLib.desktop import install, slicer_tools

    missing = install.Setup(
        ready=False, torch="missing", torch_version="", safetensors=True, extension=False, explanation="missing"
    )
    monkeypatch.setattr(install, "look", lambda: missing)
    added: list[bool] = []
    monkeypatch.setattr(slicer_tools, "add_extension", lambda: added.append(True))
    add(phantom_t1)
    widget = app.open()
    app.answers += [False, True]
    widget.panel.ui.runButton.click()
    assert "PyTorch extension" in app.dialogs[-1].text and added == []
    widget.panel.ui.installButton.click()
    assert added == [True] and "Restart 3D Slicer" in widget.panel.ui.statusLabel.text
    assert not widget.panel.run.running


def test_packages_that_fail_in_a_run_are_offered_to_be_repaired(widget: Any, t1: Any) -> None:
    from MRSynthLib.engine.errors import InputError, InstallError

    widget.panel.setup.doubt(InputError("input-empty", "Nothing there.", "something."))
    widget.panel.update()
    assert not widget.panel.ui.setupFrame.visible
    widget.panel.setup.doubt(InstallError("install-broken", "torch cannot be imported.", "a whole torch."))
    widget.panel.update()
    assert widget.panel.ui.setupFrame.visible
    assert widget.panel.ui.setupLabel.text == "torch cannot be imported."


def test_everything_is_there_so_nothing_is_offered(widget: Any) -> None:
    assert not widget.panel.ui.setupFrame.visible


def test_samples_load_without_a_network(app: Any, widget: Any) -> None:
    ui = widget.panel.ui
    ui.sampleT1Button.click()
    ui.sampleT2Button.click()
    assert "T1" in ui.recognisedLabel.text and ui.runButton.text == "Synthesize T2"
    assert widget.panel.parameters.acquired is not None


def test_diagnostics_are_copied(app: Any, widget: Any, t1: Any) -> None:
    import qt

    t1.SetName("DOE^JANE")
    widget.panel.ui.diagnosticsButton.click()
    text = qt.QApplication.clipboard().text()
    assert "MRSynth" in text and "torch" in text and "mrsynth-native" in text
    assert "DOE" not in text


# --- reading and reaching -----------------------------------------------------------------

INTERACTIVE = (
    "installButton installFolderButton sourceSelector directionSelector syntheticSelector maskSelector "
    "modelSelector addModelButton openModelsButton removeModelButton cardBrowser deviceSelector runButton "
    "sideBySideButton flickerButton fadeSlider acquiredSelector scoreButton anonymizeCheckBox exportButton "
    "sampleT1Button sampleT2Button diagnosticsButton"
)


def test_every_control_has_a_tooltip_and_is_reached_by_keyboard(widget: Any) -> None:
    import qt

    for name in INTERACTIVE.split():
        control = getattr(widget.panel.ui, name)
        assert control.toolTip, name
        focusable = [control, *control.findChildren(qt.QWidget)]
        assert any(each.focusPolicy != qt.Qt.NoFocus for each in focusable), name


def test_the_panel_fits_380_pixels(app: Any, widget: Any, t1: Any) -> None:
    for section in ("modelSection", "exportSection", "helpSection"):
        getattr(widget.panel.ui, section).collapsed = False
    app.process_events()
    assert widget.layout.minimumSize().width() <= 380


def test_the_warning_stands_where_the_radiologist_looks(widget: Any) -> None:
    label = widget.panel.ui.disclaimerLabel
    assert label.visible and "not for diagnosis" in label.text and "lesions" in label.text


# --- how it looks -------------------------------------------------------------------------


def test_pictures_of_the_panel(app: Any, widget: Any, t1: Any, models: Path, tmp_path: Path) -> None:
    """Idle, running, finished and failed, light and dark, in a narrow panel; kept in MRSYNTH_PICTURES, if set."""
    folder = Path(os.environ.get("MRSYNTH_PICTURES", tmp_path / "pictures"))
    folder.mkdir(exist_ok=True)
    ui = widget.panel.ui

    def grab(name: str) -> None:
        for theme in ("light", "dark"):
            app.grab(folder / f"{name}-{theme}.png", width=380, dark=theme == "dark")

    grab("idle")
    ui.runButton.click()
    app.wait_until(lambda: ui.progressBar.value > 0 or not widget.panel.run.running, PATIENCE)
    grab("running")
    app.wait_until(lambda: not widget.panel.run.running, PATIENCE)
    grab("finished")
    (models / "tiny.safetensors").write_bytes(b"damaged")
    run_to_end(app, widget)
    for section in ("modelSection", "exportSection", "helpSection"):
        getattr(ui, section).collapsed = False
    grab("failed")
    pictures = [sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in sorted(folder.glob("*-*.png"))]
    assert len(pictures) == 8
    assert {picture.shape[1] for picture in pictures} == {380}
    for dark, light in zip(pictures[::2], pictures[1::2], strict=True):
        assert dark[..., :3].mean() < 100 < 180 < light[..., :3].mean()
        assert dark.std() > 10 and light.std() > 10


# --- the module's own test ----------------------------------------------------------------


def test_the_self_test_passes_as_3d_slicer_runs_it(app: Any) -> None:
    app.load()
    slicer.selfTests["MRSynth"](msec=1)
