"""The reliability map on real MRML: its nodes, what the result knows of them, and runs that follow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer")

from engine_helpers import save_untrained  # noqa: E402
from mrml_scenes import scene as scene  # noqa: E402
from test_reliability import calibration  # noqa: E402

from MRSynth import MRSynthLogic  # noqa: E402
from MRSynthLib.desktop import mrml, nodes, results, score_nodes, trust  # noqa: E402
from MRSynthLib.engine.checkpoint import read_card  # noqa: E402
from MRSynthLib.engine.errors import ModelError, OutputError  # noqa: E402
from MRSynthLib.engine.synthesis import Synthesizer  # noqa: E402
from MRSynthLib.engine.volume import Volume  # noqa: E402


@pytest.fixture(scope="module")
def calibrated(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained checkpoint with a calibration in its card."""
    path = tmp_path_factory.mktemp("calibrated") / "calibrated.safetensors"
    return save_untrained(path, {**read_card(tiny_checkpoint), "reliability": calibration()})


@pytest.fixture
def head(scene: Any, phantom_t1: Volume) -> Any:
    return scene.AddNode(mrml.node_from_volume(phantom_t1))


def synthesize(node: Any, model: Path, **options: Any) -> Any:
    """By the logic, in a real child process."""
    return MRSynthLogic(keepWorker=False).synthesize(node, model=str(model), device="cpu", **options)


def test_maps_lie_on_the_source_and_are_found_from_the_result(head: Any, phantom_t1: Volume, calibrated: Path) -> None:
    result = synthesize(head, calibrated, reliability=True)
    wanted = Synthesizer(calibrated, device="cpu").synthesize(phantom_t1, reliability=True)
    assert wanted.reliability is not None and wanted.interval is not None and wanted.trust is not None
    for node, volume in ((trust.map_of(result), wanted.reliability), (trust.interval_of(result), wanted.interval)):
        assert nodes.geometry_mismatch(head, node) == ""
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(node), volume.voxels)
        assert node.GetNodeReference(results.SOURCE_ROLE) is head
        assert node.GetAttribute("MRSynth.Mark") == "EXPECTED ERROR"
    assert trust.summary_of(result) == json.loads(json.dumps(wanted.trust))
    assert result.GetName() in trust.map_of(result).GetName()


def test_a_further_run_into_the_same_node_brings_its_own_map_or_none(scene: Any, head: Any, calibrated: Path) -> None:
    result = synthesize(head, calibrated, reliability=True)
    node, count = trust.map_of(result), scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    slicer.util.updateVolumeFromArray(node, np.zeros_like(slicer.util.arrayFromVolume(node)))
    synthesize(head, calibrated, outputNode=result, reliability=True)
    assert trust.map_of(result) is node and slicer.util.arrayFromVolume(node).any()
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == count
    synthesize(head, calibrated, outputNode=result)
    assert trust.map_of(result) is None and trust.interval_of(result) is None and trust.summary_of(result) == {}


def test_maps_are_no_places_for_results(scene: Any, head: Any, calibrated: Path) -> None:
    result = synthesize(head, calibrated, reliability=True)
    difference = score_nodes.show_difference(result, head, slicer.util.arrayFromVolume(result))
    count = scene.GetNumberOfNodes()
    for node in (trust.map_of(result), trust.interval_of(result), difference):
        for role in ("outputNode", "cycleNode"):
            with pytest.raises(OutputError, match="holds a map") as caught:
                synthesize(head, calibrated, **{role: node})
            assert caught.value.code == "output-exists"
    for node in (trust.map_of(result), trust.interval_of(result)):
        with pytest.raises(OutputError, match="a map of it") as caught:
            synthesize(head, calibrated, outputNode=result, cycleNode=node)
        assert caught.value.code == "output-is-input"
    assert scene.GetNumberOfNodes() == count and trust.map_of(result).GetAttribute("MRSynth.Mark") == "EXPECTED ERROR"


def test_a_checkpoint_that_was_not_calibrated_refuses(scene: Any, head: Any, tiny_checkpoint: Path) -> None:
    count = scene.GetNumberOfNodes()
    with pytest.raises(ModelError) as refused:
        synthesize(head, tiny_checkpoint, reliability=True)
    assert refused.value.code == "model-reliability"
    assert scene.GetNumberOfNodes() == count


def test_no_map_stays_where_one_cannot_be_shown(
    scene: Any, head: Any, calibrated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")

    def fail(*_: object) -> None:
        raise RuntimeError("no colours today")

    monkeypatch.setattr(trust, "paint", fail)
    with pytest.raises(Exception, match="no colours today"):
        synthesize(head, calibrated, reliability=True)
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == count


def test_larger_errors_are_lighter() -> None:
    lightness = trust.colour_ramp() @ [0.2126, 0.7152, 0.0722]
    assert np.all(np.diff(lightness) > 0) and lightness[0] == 0


def test_jumping_goes_to_the_place_in_the_world(scene: Any, head: Any) -> None:
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = slicer.util.vtkMatrixFromArray(np.array([[1, 0, 0, 10], [0, 1, 0, -20], [0, 0, 1, 5], [0, 0, 0, 1.0]]))
    transform.SetMatrixTransformToParent(matrix)
    head.SetAndObserveTransformNodeID(transform.GetID())
    view = scene.AddNewNodeByClass("vtkMRMLSliceNode")
    trust.jump_to(head, (1.0, 2.0, 3.0))
    assert np.allclose([view.GetSliceToRAS().GetElement(row, 3) for row in range(3)], [11.0, -18.0, 8.0])
