"""The examples of docs/console.md, pasted into Python as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("slicer")

import slicer
from conftest import REPOSITORY
from mrml_scenes import in_process, snapshot
from mrml_scenes import scene as scene

from MRSynth import MRSynthLogic
from MRSynthLib.desktop import background, mrml, runner, warm
from MRSynthLib.desktop.runner import RunResult
from MRSynthLib.engine.errors import Cancelled
from MRSynthLib.engine.provenance import facts
from MRSynthLib.engine.synthesis import Synthesizer
from MRSynthLib.engine.volume import Volume

TEXT = (REPOSITORY / "docs" / "console.md").read_text(encoding="utf-8")
WAITING, BACKGROUND, CANCEL, RELEASE, EVERY = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def paste(block: str, names: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run a block as the console does; return the names that are known afterwards."""
    names = {"__name__": "__main__"} if names is None else names
    exec(compile(block, "docs/console.md", "exec"), names)
    return names


@pytest.fixture
def head(scene: Any, phantom_t1: Volume) -> Any:
    node = scene.AddNode(mrml.node_from_volume(phantom_t1))
    node.SetName("MRHead")
    return node


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Path) -> None:
    synthesizer = Synthesizer(tiny_checkpoint, device="cpu")

    def run(volume: Volume, *, target: str | None, **rest: Any) -> RunResult:
        result = synthesizer.synthesize(volume, target)
        return RunResult(result.volume.voxels, facts(result), None)

    monkeypatch.setattr(runner, "WorkerRun", in_process(run))


def test_waiting_for_the_result(head: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """With the shipped checkpoint, in a real child process."""
    voxels = slicer.util.arrayFromVolume(head).copy()
    result = paste(WAITING)["result"]
    told = capsys.readouterr().out
    assert told.startswith("MRHead [synthetic T2] | T1 to T2 | SYNTHETIC T2w from T1w, MRSynth ")
    assert result.GetAttribute("MRSynth.Model") == "mrsynth-native"
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(head), voxels)
    assert slicer.util.arrayFromVolume(result).shape == voxels.shape


def test_the_process_that_is_kept_is_released_and_none_kept_afterwards(head: Any, tiny_checkpoint: Path) -> None:
    MRSynthLogic(keepWorker=True).synthesize(head, model=str(tiny_checkpoint))
    assert warm.idle() is not None
    logic = paste(RELEASE)["logic"]
    assert warm.idle() is None
    logic.synthesize(head, model=str(tiny_checkpoint))
    assert warm.idle() is None


@pytest.mark.usefixtures("in_this_process")
def test_in_the_background(head: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run = paste(BACKGROUND)["run"]
    assert background.active() is run
    assert capsys.readouterr().out == ""
    while not run.poll():
        pass
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "  0% preparing: start "
    assert lines[-2:] == ["100% importing: import ", "Done: MRHead [synthetic T2]"]


@pytest.mark.usefixtures("in_this_process")
def test_cancelling_it(head: Any, scene: Any, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(scene)
    names = paste(BACKGROUND)
    names["run"].poll()
    paste(CANCEL, names)
    assert isinstance(names["run"].error, Cancelled)
    assert background.active() is None
    assert capsys.readouterr().out.splitlines()[-1].startswith("No result: The run was cancelled. ")
    assert snapshot(scene) == before


@pytest.mark.usefixtures("in_this_process")
def test_every_volume_of_the_scene(
    scene: Any, head: Any, phantom_t2: Volume, phantom_mask: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    scene.AddNode(mrml.node_from_volume(phantom_t2))
    scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "nothing in it")
    labels = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    slicer.util.updateVolumeFromArray(labels, phantom_mask.astype(np.uint8))
    for _ in range(2):  # the second time there are results in the scene, which are left out
        paste(EVERY)
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 4
        assert lines[0].startswith("MRHead: T1 to T2 -> MRHead [synthetic T2]")
        assert lines[1].startswith("phantom T2: T2 to T1 -> phantom T2 [synthetic T1]")
        assert "nothing in it" in lines[2] and lines[2].endswith("[input-empty]")
        assert "labels" in lines[3] and lines[3].endswith("[input-label-map]")


def test_every_argument_and_attribute_of_the_text_exists(head: Any, in_this_process: None) -> None:
    import inspect

    from MRSynth import MRSynthLogic

    arguments = set(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE))
    given = set(inspect.signature(MRSynthLogic.synthesize).parameters) - {"self", "inputNode"}
    assert arguments == given
    assert given < set(inspect.signature(MRSynthLogic.start).parameters)
    result = MRSynthLogic().synthesize(head)
    listed = TEXT.partition("## What a result says")[2]
    named = set(re.findall(r"`(\w+)`", listed.partition("`result.GetNodeReference")[0]))
    attributes = {name.removeprefix("MRSynth.") for name in result.GetAttributeNames() if name.startswith("MRSynth.")}
    assert named == attributes - {"Description"}
