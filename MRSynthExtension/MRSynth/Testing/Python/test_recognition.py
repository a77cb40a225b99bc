"""What a volume looks like before a run: the same answer as the run's own, in words."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

pytest.importorskip("slicer")

import slicer
from conftest import phantom
from mrml_scenes import add_volume, snapshot
from mrml_scenes import scene as scene

from MRSynthLib.desktop import mrml, recognition, tags
from MRSynthLib.desktop.recognition import recognise
from MRSynthLib.engine import screening
from MRSynthLib.engine.errors import InputError
from MRSynthLib.engine.volume import Volume


@pytest.mark.parametrize("contrast", ["t1", "t2"])
@pytest.mark.parametrize("skull", [True, False])
def test_contrast_skull_and_voxel_size_are_said(scene: Any, contrast: str, skull: bool) -> None:
    node = scene.AddNode(mrml.node_from_volume(phantom(contrast, skull=skull)))
    before = snapshot(scene)
    seen = recognise(node)
    assert (seen.contrast, seen.sure, seen.skull_stripped) == (contrast, True, not skull)
    assert 0.6 < seen.confidence <= 1
    assert seen.spacing == pytest.approx((4.25, 4.25, 4.25))
    form = rf"Looks like {contrast.upper()} \(\d+ % sure: .+\), {'with skull' if skull else 'skull-stripped'}, "
    assert re.fullmatch(form + "4.2 × 4.2 × 4.2 mm", seen.text)
    assert seen.reason in seen.text
    assert f"{seen.confidence:.0%}".replace("%", " %") in seen.text
    assert snapshot(scene) == before


def test_it_is_what_the_run_will_see(scene: Any, phantom_t2: Volume) -> None:
    here = screening.screen(phantom_t2).source
    assert here is not None
    seen = recognise(scene.AddNode(mrml.node_from_volume(phantom_t2)))
    assert (seen.contrast, seen.confidence, seen.reason) == (here.name, here.confidence, here.reason)


def test_dicom_tags_decide_where_they_tell(scene: Any, phantom_t2: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tags, "acquisition_tags", lambda node: {"EchoTime": "4", "RepetitionTime": "9"})
    seen = recognise(scene.AddNode(mrml.node_from_volume(phantom_t2)))
    assert (seen.contrast, seen.confidence) == ("t1", 0.95)
    assert "EchoTime 4 ms" in seen.text


def test_a_mask_says_where_brain_is(scene: Any, phantom_t1: Volume, phantom_mask: np.ndarray) -> None:
    """Brain like T1, and everything around it far brighter, as fat is."""
    voxels = np.where(phantom_mask, phantom_t1.voxels, np.where(phantom_t1.voxels > 0, 4000, 0)).astype(np.int16)
    node = scene.AddNode(mrml.node_from_volume(phantom_t1.replaced(voxels)))
    mask = scene.AddNode(mrml.node_from_volume(phantom_t1.replaced(phantom_mask)))
    masked, whole = recognise(node, mask), recognise(node)
    assert masked.contrast == "t1" and masked.sure
    assert masked.reason != whole.reason


def screened(contrast: str, confidence: float, *findings: screening.Finding) -> screening.Screening:
    source = screening.Contrast("t2", confidence, "half and half")
    return screening.Screening(contrast, screening.verdict(findings), (), confidence, True, findings, source)


def test_what_may_be_either_is_said_to_be_so(scene: Any, phantom_t1: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screening, "screen", lambda *_: screened("t2", 0.55))
    seen = recognise(scene.AddNode(mrml.node_from_volume(phantom_t1)))
    assert not seen.sure
    assert seen.text.startswith("May be T2 or T1 (55 % for T2: half and half), ")


def test_findings_are_lines_and_grave_ones_the_refusal(
    scene: Any, phantom_t1: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    grave, slight = screening.Finding("refuse", "It is FLAIR.", "contrast"), screening.Finding("warn", "It is noisy.")
    monkeypatch.setattr(screening, "screen", lambda *_: screened("flair", 0.97, grave, slight))
    seen = recognise(scene.AddNode(mrml.node_from_volume(phantom_t1)))
    first, *others = seen.text.splitlines()
    assert first.startswith("Looks like FLAIR (97 % sure), skull-stripped")
    assert others == ["⚠ It is FLAIR.", "⚠ It is noisy."]
    assert seen.refusal == "It is FLAIR."


def test_a_large_volume_is_thinned_out_and_seen_the_same(
    scene: Any, phantom_t1: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    fine = Volume(
        np.repeat(np.repeat(phantom_t1.voxels, 3, axis=0), 2, axis=2),
        phantom_t1.ijk_to_ras @ np.diag([1 / 2, 1, 1 / 3, 1]),
    )
    node = scene.AddNode(mrml.node_from_volume(fine))
    whole = recognise(node)
    looked_at: list[Volume] = []
    look = screening.look
    monkeypatch.setattr(recognition, "MOST_VOXELS", phantom_t1.voxels.size)
    monkeypatch.setattr(screening, "look", lambda volume: looked_at.append(volume) or look(volume))
    thinned = recognise(node)
    assert [volume.shape for volume in looked_at] == [(30, 48, 40)]  # k twice: from 120 to 30; i once: from 80 to 40
    assert looked_at[0].spacing == pytest.approx((4.25, 4.25, 4.25 / 3 * 4))
    assert (thinned.contrast, thinned.skull_stripped) == (whole.contrast, whole.skull_stripped)
    assert thinned.spacing == whole.spacing == pytest.approx((4.25 / 2, 4.25, 4.25 / 3))


@pytest.mark.parametrize(
    ("value", "code"), [(0, "input-empty"), (7, "input-constant"), (-3, "input-constant")], ids=["zero", "7", "-3"]
)
def test_what_cannot_be_used_is_refused_with_a_reason(scene: Any, value: int, code: str) -> None:
    node = add_volume(scene)
    slicer.util.updateVolumeFromArray(node, np.full((6, 7, 8), value, np.int16))
    with pytest.raises(InputError) as caught:
        recognise(node)
    assert caught.value.code == code


def test_labels_and_other_nodes_are_refused(scene: Any, phantom_t1: Volume, phantom_mask: np.ndarray) -> None:
    for node in (
        scene.AddNode(mrml.node_from_volume(phantom_t1.replaced(phantom_mask))),
        scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels"),
    ):
        with pytest.raises(InputError) as caught:
            recognise(node)
        assert caught.value.code == "input-label-map"
    with pytest.raises(InputError):
        recognise(None)


def test_a_mask_elsewhere_is_refused(scene: Any, phantom_t1: Volume, phantom_mask: np.ndarray) -> None:
    away = phantom_t1.ijk_to_ras.copy()
    away[:3, 3] += 1000
    mask = scene.AddNode(mrml.node_from_volume(Volume(phantom_mask, away)))
    with pytest.raises(InputError) as caught:
        recognise(scene.AddNode(mrml.node_from_volume(phantom_t1)), mask)
    assert caught.value.code == "mask-off-grid"
