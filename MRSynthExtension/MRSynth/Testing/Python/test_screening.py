"""What is in the volume: head or brain, where it is, T1 or T2; and masks from any grid."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from engine_helpers import axes_of, grid, moved, orthogonal_axes, rotated

from MRSynthLib.engine import screening
from MRSynthLib.engine.errors import InputError
from MRSynthLib.engine.files import read_volume
from MRSynthLib.engine.screening import brain_mask, guess_contrast, look, mask_on_grid
from MRSynthLib.engine.volume import Volume


@pytest.fixture(params=["t1", "t2"])
def head(request: pytest.FixtureRequest, phantom_t1: Volume, phantom_t2: Volume) -> tuple[str, Volume]:
    """Contrast, and the whole-head phantom in it."""
    return request.param, phantom_t1 if request.param == "t1" else phantom_t2


@pytest.fixture
def stripped(head: tuple[str, Volume], phantom_mask: np.ndarray) -> tuple[str, Volume]:
    """Contrast, and the skull-stripped phantom in it."""
    contrast, volume = head
    return contrast, volume.replaced(np.where(phantom_mask, volume.voxels, 0))


# --- head or brain ----------------------------------------------------------------------------------------


def test_a_head_is_told_from_a_brain(head: tuple[str, Volume], stripped: tuple[str, Volume]) -> None:
    assert not look(head[1]).skull_stripped
    assert look(stripped[1]).skull_stripped


def test_foreground_of_a_head_is_the_head(head: tuple[str, Volume]) -> None:
    volume = head[1]
    assert np.array_equal(look(volume).foreground, volume.voxels > 0)


def test_brain_of_a_head_lies_within_the_brain(head: tuple[str, Volume], phantom_mask: np.ndarray) -> None:
    brain = look(head[1]).brain
    assert (phantom_mask[brain]).mean() > 0.98  # hardly any skull or scalp: they would set the scale
    assert brain.sum() > 0.3 * phantom_mask.sum()  # its core, well above the skull base


def test_foreground_and_brain_of_a_stripped_volume_are_what_is_not_0(
    stripped: tuple[str, Volume], phantom_mask: np.ndarray
) -> None:
    seen = look(stripped[1])
    assert np.array_equal(seen.foreground, phantom_mask)
    assert np.array_equal(seen.brain, phantom_mask)


def test_zeros_within_the_brain_belong_to_it(stripped: tuple[str, Volume], phantom_mask: np.ndarray) -> None:
    _, volume = stripped
    voxels = volume.voxels.copy()
    voxels[18:22, 20:24, 17:20] = 0
    assert np.array_equal(look(volume.replaced(voxels)).foreground, phantom_mask)


def test_noisy_air_is_not_foreground(head: tuple[str, Volume]) -> None:
    volume = head[1]
    noise = np.abs(np.random.default_rng(5).normal(0, 8, volume.shape))
    seen = look(volume.replaced(np.where(volume.voxels > 0, volume.voxels, noise + 1).astype(np.int16)))
    corners = np.zeros(volume.shape, dtype=bool)
    corners[:4, :4, :4] = corners[-4:, -4:, -4:] = True
    assert not (seen.foreground & corners).any()
    assert seen.foreground[volume.voxels > 0].mean() > 0.99


@pytest.mark.parametrize("name", ["LPS", "PIR", "SAL", "IRA", "LIP"])
def test_the_look_does_not_depend_on_how_the_voxels_lie(
    name: str, head: tuple[str, Volume], phantom_mask: np.ndarray
) -> None:
    contrast, volume = head
    axes = dict(orthogonal_axes())[name]  # patient axis (row) of each voxel axis (column)
    sources = [int(np.argmax(np.abs(axes[:, n]))) for n in range(3)]
    signs = [int(axes[row, n]) for n, row in enumerate(sources)]

    def laid(array: np.ndarray) -> np.ndarray:
        turned = array.T.transpose(sources)[tuple(slice(None, None, sign) for sign in signs)]
        return np.ascontiguousarray(turned.T)

    voxels = laid(volume.voxels)
    turned = Volume(voxels, grid(voxels.shape, volume.spacing, axes))
    seen = look(turned)
    assert not seen.skull_stripped
    assert np.array_equal(seen.foreground, laid(volume.voxels > 0))
    assert laid(phantom_mask)[seen.brain].mean() > 0.98
    assert guess_contrast(turned, seen.brain).name == contrast


def test_exact_zeros_that_reach_the_border_are_background() -> None:
    voxels = np.zeros((9, 9, 9))
    voxels[2:7, 2:7, 2:7] = 5
    voxels[4, 4, 4] = 0  # a hole
    mask = screening.without_background(voxels)
    assert mask[4, 4, 4]
    assert mask.sum() == 125


@pytest.mark.parametrize("zeros", [0.02, 0.1, 0.5, 0.9])
def test_background_is_what_filling_all_holes_leaves(zeros: float) -> None:
    voxels = (np.random.default_rng(3).random((12, 20, 17)) >= zeros) * 3
    filled = sitk.BinaryFillhole(sitk.GetImageFromArray((voxels != 0).astype(np.uint8)))
    np.testing.assert_array_equal(screening.without_background(voxels), sitk.GetArrayFromImage(filled) > 0)


# --- T1 or T2 ---------------------------------------------------------------------------------------------


def test_contrast_by_brightness_of_head_and_brain(head: tuple[str, Volume], stripped: tuple[str, Volume]) -> None:
    for contrast, volume in (head, stripped):
        guess = guess_contrast(volume, look(volume).brain)
        assert guess.name == contrast
        assert guess.confidence > 0.6
        assert "99.5th percentile" in guess.reason


@pytest.mark.parametrize(
    ("tags", "name"),
    [
        ({"EchoTime": "10", "RepetitionTime": "600"}, "t1"),
        ({"EchoTime": "2.98", "RepetitionTime": "2300", "InversionTime": "900"}, "t1"),
        ({"EchoTime": "95", "RepetitionTime": "5000"}, "t2"),
    ],
)
def test_acquisition_tags_go_first(tags: dict[str, str], name: str, head: tuple[str, Volume]) -> None:
    volume = replace(head[1], metadata=tags)
    guess = guess_contrast(volume, look(volume).brain)
    assert (guess.name, guess.confidence > 0.9) == (name, True)
    assert tags["EchoTime"] in guess.reason


@pytest.mark.parametrize(
    "tags",
    [
        {"EchoTime": "120", "RepetitionTime": "9000", "InversionTime": "2500"},  # FLAIR
        {"EchoTime": "30", "RepetitionTime": "3000"},  # PD
        {"EchoTime": "95"},
        {"EchoTime": "", "RepetitionTime": "about 500"},
    ],
)
def test_tags_that_do_not_decide_leave_it_to_brightness(tags: dict[str, str], head: tuple[str, Volume]) -> None:
    contrast, volume = head
    guess = guess_contrast(replace(volume, metadata=tags), look(volume).brain)
    assert guess.name == contrast
    assert "median" in guess.reason


def test_between_t1_and_t2_the_guess_is_unsure(phantom_t1: Volume, phantom_mask: np.ndarray) -> None:
    even = np.random.default_rng(1).uniform(1, 1000, phantom_t1.shape)  # its median is half of its maximum
    guess = guess_contrast(phantom_t1.replaced(np.where(phantom_mask, even, 0)), phantom_mask)
    assert guess.confidence < 0.6


def test_without_tissue_the_guess_is_as_unsure_as_can_be(phantom_t1: Volume) -> None:
    assert guess_contrast(phantom_t1, np.zeros(phantom_t1.shape, dtype=bool)).confidence == 0.5


# --- real subjects ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("contrast", ["t1", "t2"])
def test_real_subjects_are_seen_for_what_they_are(contrast: str, shared_data: Path) -> None:
    cases = json.loads((shared_data / "cases.json").read_text(encoding="utf-8"))["cases"]
    wrong = {}
    for name, about in cases.items():
        volume = read_volume(shared_data / name / f"{contrast}.nii.gz")
        seen = look(volume)
        guess = guess_contrast(volume, seen.brain)
        if (seen.skull_stripped, guess.name) != (about["skull_stripped"], contrast) or guess.confidence < 0.6:
            wrong[name] = (seen.skull_stripped, guess)
    assert not wrong


# --- masks ------------------------------------------------------------------------------------------------


def ball(volume: Volume, radius: float, centre: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    """Voxels within `radius` mm of a point in RAS."""
    k, j, i = np.meshgrid(*(np.arange(size) for size in volume.shape), indexing="ij")
    ras = volume.ijk_to_ras[:3, :3] @ np.stack([i, j, k]).reshape(3, -1) + volume.ijk_to_ras[:3, 3:]
    return (np.linalg.norm(ras - np.array(centre)[:, None], axis=0) <= radius).reshape(volume.shape)


def empty(shape: tuple[int, int, int], spacing: tuple[float, float, float], axes: np.ndarray) -> Volume:
    return Volume(np.zeros(shape, dtype=np.uint8), grid(shape, spacing, axes))


TARGET = empty((30, 32, 34), (1, 1, 1), axes_of("RAS"))


def test_a_mask_on_the_same_grid_is_taken_as_it_is() -> None:
    values = np.random.default_rng(0).integers(-1, 3, TARGET.shape)
    assert np.array_equal(mask_on_grid(TARGET.replaced(values), TARGET), values > 0)


@pytest.mark.parametrize("name", ["LPS", "PIR", "SAR"])
def test_a_mask_with_other_axes_is_looked_up_voxel_by_voxel(name: str) -> None:
    other = empty((40, 40, 40), (1, 1, 1), axes_of(name))
    aligned = moved(other, tuple((TARGET.ijk_to_ras - other.ijk_to_ras)[:3, 3] % 1.0))
    mask = mask_on_grid(aligned.replaced(ball(aligned, 9, (3, -2, 4))), TARGET)
    assert np.array_equal(mask, ball(TARGET, 9, (3, -2, 4)))


@pytest.mark.parametrize(
    "other",
    [
        empty((60, 64, 70), (0.5, 0.5, 0.5), axes_of("RAS")),
        empty((60, 64, 70), (0.6, 0.6, 0.6), rotated(axes_of("LPS"), (20, -30, 10))),
        empty((60, 64, 70), (0.6, 0.6, 0.6), rotated(axes_of("PIL"), (20, -30, 10))),
    ],
    ids=["finer", "oblique", "oblique sagittal"],
)
def test_a_mask_on_another_grid_marks_the_same_place(other: Volume) -> None:
    seen = mask_on_grid(other.replaced(ball(other, 9, (3, -2, 4))), TARGET)
    wanted = ball(TARGET, 9, (3, -2, 4))
    overlap = 2 * (seen & wanted).sum() / (seen.sum() + wanted.sum())
    assert overlap > 0.96
    assert not (seen & ~ball(TARGET, 10, (3, -2, 4))).any()


def test_a_mask_of_a_part_marks_only_that_part() -> None:
    part = empty((6, 6, 6), (1, 1, 1), axes_of("RAS"))
    seen = mask_on_grid(part.replaced(np.ones(part.shape)), TARGET)
    assert seen.sum() == 6 * 6 * 6


def test_an_empty_mask_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        brain_mask(TARGET, TARGET)
    assert caught.value.code == "mask-empty"


def test_a_mask_elsewhere_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        brain_mask(moved(TARGET.replaced(np.ones(TARGET.shape)), (500, 0, 0)), TARGET)
    assert caught.value.code == "mask-off-grid"


def test_a_mask_without_a_place_in_space_is_refused() -> None:
    flat = np.eye(4)
    flat[2, 2] = 0
    with pytest.raises(InputError):
        brain_mask(Volume(np.ones((5, 5, 5)), flat), TARGET)
