"""`--like`: a result in the brightness of a reference, and nothing of its anatomy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import phantom

from MRSynthLib.engine import likeness, screening
from MRSynthLib.engine.cli import main
from MRSynthLib.engine.errors import InputError
from MRSynthLib.engine.files import read_volume, write_volume
from MRSynthLib.engine.synthesis import Synthesizer
from MRSynthLib.engine.volume import Volume


def on_another_grid(volume: Volume) -> Volume:
    """The same head on turned and cropped axes, in other scanner units."""
    voxels = np.ascontiguousarray(volume.voxels.transpose(1, 2, 0)[::-1, :, 2:]) * 3
    order = np.zeros((4, 4))
    # New i runs along old k, new j along old i, new k against old j.
    order[2, 0], order[0, 1], order[1, 2], order[3, 3] = 1, 1, -1, 1
    order[2, 3], order[1, 3] = 2, volume.shape[1] - 1
    return Volume(voxels, volume.ijk_to_ras @ order)


def darker(volume: Volume, power: float) -> Volume:
    """The contrast of another scanner: the middle of the range moves, its ends stay."""
    top = np.percentile(volume.voxels[volume.voxels > 0], 99.9)
    return volume.replaced(np.rint(np.clip(volume.voxels / top, 0, 1) ** power * 900).astype(np.int16))


def test_a_curve_goes_through_its_landmarks_and_rises_everywhere() -> None:
    curve = likeness.between((0.1, 0.3, 0.6), (0.2, 0.5, 0.55))
    at = curve(np.array([0, 0.1, 0.2, 0.3, 0.6, 0.8, 1], np.float32))
    assert at.tolist() == pytest.approx([0, 0.2, 0.35, 0.5, 0.55, 0.775, 1])
    every = curve(np.linspace(0, 1, 2001, dtype=np.float32))
    assert (np.diff(every) > 0).all()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((0.2, 0.2, 0.2), (0.1, 0.5, 0.9)),  # a result that is all one brightness
        ((0.2, 0.4, 0.6), (0.5, 0.5, 0.5)),  # a reference that is
        ((0.01, 0.02, 0.999), (0.9, 1.0, 1.0)),
        ((0.5,), (0.0,)),
    ],
)
def test_a_curve_is_never_flat_or_steep(before: tuple[float, ...], after: tuple[float, ...]) -> None:
    curve = likeness.between(before, after)
    x = np.linspace(0, 1, 10_001, dtype=np.float64)
    y = curve(x.astype(np.float32)).astype(np.float64)
    assert y[0] == 0 and y[-1] == 1
    inner = x <= max(curve.before, default=0)
    slopes = np.diff(y[inner]) / np.diff(x[inner])
    assert slopes.size == 0 or (slopes.min() > 0 and slopes.max() <= likeness.STEEPEST * 1.01)


def test_the_result_gets_the_median_of_the_reference_and_fluid_counts_for_nothing(phantom_t2: Volume) -> None:
    unit = (np.maximum(phantom_t2.voxels, 0) / 1100).astype(np.float32)
    brain = screening.look(phantom_t2).brain
    wanted = likeness.Tissue("t2", 0.1, 0.4, True)
    curve = likeness.fit(unit, brain, phantom_t2, False, wanted)
    tissue = unit[brain & (unit > 0) & (unit < 0.55)]
    assert np.median(curve(tissue)) == pytest.approx(0.4, abs=1e-3)
    # Twice the fluid, as in a brain with large ventricles, is the same curve.
    atrophic = unit.copy()
    white = np.flatnonzero(brain & (unit < 0.3))
    atrophic.ravel()[white[::40]] = 0.95
    again = likeness.fit(atrophic, brain, phantom_t2, False, wanted)
    assert again.before == pytest.approx(curve.before, abs=0.005)


def test_only_brightness_is_taken_never_anatomy(phantom_t2: Volume) -> None:
    """The same head on another grid, or with its brain's voxels in random order, is the same reference."""
    here, there = (likeness.tissue_of(v, "t2") for v in (phantom_t2, on_another_grid(phantom_t2)))
    assert there.brain == pytest.approx(here.brain, abs=0.02)
    assert here.whole_head and there.whole_head
    brain = screening.look(phantom_t2).brain
    mixed = phantom_t2.voxels.copy()
    mixed[brain] = np.random.default_rng(3).permutation(mixed[brain])
    seen = likeness.tissue_of(phantom_t2.replaced(mixed), "t2")
    assert seen.brain == pytest.approx(here.brain, abs=0.03)


def test_a_run_with_a_reference_is_the_run_without_one_through_a_curve(
    tiny_checkpoint: Path, phantom_t1: Volume, phantom_t2: Volume
) -> None:
    synthesizer = Synthesizer(tiny_checkpoint, "cpu")
    reference = on_another_grid(darker(phantom_t2, 0.7))
    plain = synthesizer.synthesize(phantom_t1, cycle=True)
    liked = synthesizer.synthesize(phantom_t1, like=reference, cycle=True)
    assert plain.curve is None and liked.curve is not None
    assert not liked.volume.voxels[plain.volume.voxels == 0].any()
    # Monotone: whatever is brighter without the reference is not darker with it.
    order = np.argsort(plain.volume.voxels, axis=None, kind="stable")
    before, after = plain.volume.voxels.ravel()[order], liked.volume.voxels.ravel()[order].astype(int)
    levels = np.unique(before)
    means = np.array([after[before == level].mean() for level in levels])
    assert (np.diff(means) >= -1).all()  # of the rounding
    assert not np.array_equal(plain.volume.voxels, liked.volume.voxels)
    assert plain.cycle is not None and liked.cycle is not None
    np.testing.assert_array_equal(plain.cycle.voxels, liked.cycle.voxels)


def test_whole_head_and_skull_stripped_are_compared_by_their_depth(phantom_t2: Volume) -> None:
    head = likeness.tissue_of(phantom_t2, "t2")
    brain = likeness.tissue_of(phantom("t2", skull=False), "t2")
    assert head.whole_head and not brain.whole_head
    assert brain.core != brain.brain
    assert brain.contrast == head.contrast == "t2"
    assert head.core == pytest.approx(brain.core, abs=0.15)


def test_a_wrong_or_empty_reference_is_refused(tiny_checkpoint: Path, phantom_t1: Volume, phantom_t2: Volume) -> None:
    synthesizer = Synthesizer(tiny_checkpoint, "cpu")
    speck = np.zeros_like(phantom_t2.voxels)
    speck[18:21, 20:25, 18:21] = phantom_t2.voxels[18:21, 20:25, 18:21]
    for reference, code in (
        (phantom_t1, "reference-contrast"),
        (phantom_t2.replaced(np.zeros_like(phantom_t2.voxels)), "reference-unusable"),
        (phantom_t2.replaced(speck), "reference-unusable"),
    ):
        with pytest.raises(InputError) as caught:
            synthesizer.synthesize(phantom_t1, like=reference)
        assert caught.value.code == code
        assert caught.value.remedy


def test_the_command_declares_the_reference_in_the_sidecar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Path, phantom_t1: Volume, phantom_t2: Volume
) -> None:
    monkeypatch.chdir(tmp_path)
    write_volume(phantom_t1, tmp_path / "t1.nii.gz")
    write_volume(on_another_grid(phantom_t2), tmp_path / "before.nrrd")
    common = ["synthesize", "t1.nii.gz", "--model", str(tiny_checkpoint), "--device", "cpu"]
    assert main([*common, "-o", "t2.nii.gz", "--like", "before.nrrd"]) == 0
    declared = json.loads((tmp_path / "t2.json").read_text())["ContrastReference"]
    assert declared["Source"] == "before.nrrd"
    assert len(declared["SHA256"]) == 64
    assert declared["before"] == sorted(declared["before"]) and len(declared["after"]) == len(declared["before"])
    here = Synthesizer(tiny_checkpoint, "cpu").synthesize(phantom_t1, like=on_another_grid(phantom_t2))
    np.testing.assert_array_equal(read_volume(tmp_path / "t2.nii.gz").voxels, here.volume.voxels)
    assert main([*common, "-o", "no.nii.gz", "--like", "t1.nii.gz"]) == 3
    assert main([*common, "-o", "no.nii.gz", "--like", "none.nii.gz"]) == 3
    assert main([*common, "-o", "before.nrrd", "--like", "before.nrrd", "--force"]) == 5  # a reference is an input
    assert not (tmp_path / "no.nii.gz").exists()


def test_the_worker_takes_a_reference(tiny_checkpoint: Path, phantom_t1: Volume, phantom_t2: Volume) -> None:
    pytest.importorskip("slicer")
    from MRSynthLib.desktop.runner import run

    result = run(phantom_t1, model=tiny_checkpoint, device="cpu", like=phantom_t2)
    here = Synthesizer(tiny_checkpoint, "cpu").synthesize(phantom_t1, like=phantom_t2)
    np.testing.assert_array_equal(result.voxels, here.volume.voxels)
    assert here.curve is not None
    assert result.info["like"] == here.curve.document()


@pytest.mark.parametrize(("name", "target"), [("flair", "t1"), ("flair", "t2"), ("t1", "t2"), ("t2", "t1")])
def test_real_volumes_of_another_contrast_are_refused(shared_data: Path, name: str, target: str) -> None:
    with pytest.raises(InputError) as caught:
        likeness.tissue_of(read_volume(shared_data / "STROKE" / f"{name}.nii.gz"), target)
    assert caught.value.code == "reference-contrast"


def test_real_volumes_of_the_contrast_are_taken(shared_data: Path) -> None:
    for target in ("t1", "t2"):
        tissue = likeness.tissue_of(read_volume(shared_data / "STROKE" / f"{target}.nii.gz"), target)
        assert 0.1 < tissue.brain < 0.9 and not tissue.whole_head
