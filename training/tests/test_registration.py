"""Registration of one contrast to the other, the same every time; and the brain of a whole head, too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from mrsynth_training import registration
from mrsynth_training.cohort import Case, find_cases
from mrsynth_training.pairs import load_pair
from mrsynth_training.registration import core_of_brain, register_rigid
from mrsynth_training.scoring import score
from mrsynth_training.subject_slices import prepare_case
from MRSynthLib.engine import intensity, screening
from MRSynthLib.engine.files import write_volume
from MRSynthLib.engine.volume import Volume


@pytest.fixture
def pair(brain) -> tuple[Volume, Volume, np.ndarray]:
    """T1, its T2 with an affine that is 3 mm off, and the T2 as it should lie."""
    t1, t2, _ = brain(5)
    off = t2.ijk_to_ras.copy()
    off[:3, 3] += (3.0, -2.0, 1.0)
    return t1, Volume(t2.voxels, off, name="t2"), np.asarray(t2.voxels, np.float32)


def test_it_finds_the_place_and_is_the_same_every_time(pair: tuple[Volume, Volume, np.ndarray]) -> None:
    t1, moved, truth = pair
    first, covered = register_rigid(t1, moved)
    usual = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    for threads in (1, 2, 5):
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
        again, _ = register_rigid(t1, moved)
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(usual)
        assert np.array_equal(again, first)
    inside = covered & (truth > 0)
    before = np.asarray(moved.voxels, np.float32)
    assert np.corrcoef(first[inside], truth[inside])[0, 1] > 0.9
    assert np.abs(first - truth)[inside].mean() < 0.5 * np.abs(np.roll(before, 3, axis=2) - truth)[inside].mean()


FAT = 1500  # brighter than all brain in both contrasts
ROOM = ((5, 5), (7, 7), (7, 7))  # voxels


@pytest.fixture
def head(brain, tmp_path: Path) -> tuple[Case, tuple[Volume, Volume], np.ndarray]:
    """Study of a brain in 27 mm of fat, in noise; its volumes; and a mask that reaches a voxel into the fat."""
    distance = ndimage.distance_transform_edt(np.pad(brain(0)[0].voxels == 0, ROOM, constant_values=True), (6, 4, 4))
    volumes = []
    for volume in brain(0)[:2]:
        noise = np.abs(np.random.default_rng(0).normal(0, 15, distance.shape))
        voxels = np.select([distance == 0, distance <= 27], [np.pad(volume.voxels, ROOM), FAT], noise)
        affine = volume.ijk_to_ras.copy()
        affine[:3, 3] -= affine[:3, :3] @ [before for before, _ in ROOM[::-1]]
        volumes.append(Volume(np.rint(voxels).astype(np.int16), affine))
        write_volume(volumes[-1], tmp_path / f"t{len(volumes)}.nii.gz")
    (case,) = find_cases(tmp_path)
    assert not screening.look(volumes[0]).skull_stripped
    return case, (volumes[0], volumes[1]), distance <= 4.5


def scale_of(case: Case, contrast: str) -> float:
    """By which `load_pair` divided the other contrast."""
    pair = load_pair(case, contrast)
    within = (pair.reference > 0.2) & (pair.reference < 0.9)
    return float(np.median(pair.measured[within] / pair.reference[within]))


@pytest.mark.parametrize("own", [True, False], ids=["brain.nii.gz", "template"])
def test_a_whole_head_is_scaled_alike_in_preparation_and_scoring(head, own, tmp_path, monkeypatch) -> None:
    """By all of the mask that came with it, or by the core of the template's, whose rim is fat."""
    case, (t1, t2), mask = head
    if own:
        write_volume(t1.replaced(mask.astype(np.uint8)), tmp_path / "brain.nii.gz")
        case = replace(case, brain=tmp_path / "brain.nii.gz")
    monkeypatch.setattr(registration, "brain_of_head", None if own else lambda volume: mask)
    tissue = mask if own else core_of_brain(mask, t1)
    expected = [intensity.brain_scale(volume.voxels, tissue) for volume in (t1, t2)]
    assert (expected[0] == FAT) is own
    made = prepare_case(case, "paper")
    assert [made.record["t1_scale"], made.record["t2_scale"]] == expected
    assert [scale_of(case, "t2"), scale_of(case, "t1")] == pytest.approx(expected, rel=1e-3)
    pair = load_pair(case, "t1")
    assert not pair.skull_stripped
    assert np.array_equal(pair.brain, mask) and np.array_equal(pair.scored, mask)
    lit = np.where(mask, np.rint(1000 * pair.reference), 1000).astype(np.int16)  # all that is not brain shines
    assert score(pair, lit, ["paper"])["paper"]["psnr"] > 60
