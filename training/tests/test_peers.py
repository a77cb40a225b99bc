"""The peers' scoring rules against literal arithmetic, and what each of them forgives."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from mrsynth_training import peers
from MRSynthLib.engine.volume import Volume

SHAPE = (31, 40, 36)
GRID = Volume(np.zeros(SHAPE, np.int16), np.diag([-1.0, -1.0, 1.0, 1.0]))  # axes already S, P, L; 1 mm


@pytest.fixture(scope="module")
def images():
    """Reference in scanner units, synthetic in [0, 1], T1 and head mask."""
    rng = np.random.default_rng(3)
    axes = [np.linspace(-1.2, 1.2, n) for n in SHAPE]
    inside = sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")) < 1
    smooth = [np.where(inside, 0.5 + 3 * gaussian_filter(rng.normal(size=SHAPE), 2), 0).clip(0, 1) for _ in range(3)]
    return smooth[0] * 800, 0.7 * smooth[0] + 0.2 * smooth[1], smooth[2] * 300, inside


def mean_squares(first, second):
    return sum((float(a) - float(b)) ** 2 for a, b in zip(first.ravel(), second.ravel(), strict=True)) / first.size


def chosen(images):
    """The slices that count: 27/155 to 127/155 of 31 is 5 to 25."""
    reference, synthetic, t1, _ = images
    return [(reference[k], synthetic[k], t1[k]) for k in range(5, 25)]


def run(rule, images):
    reference, synthetic, t1, inside = images
    return peers.score(rule, reference, synthetic, t1, inside, GRID)


def test_selfrdb_masks_by_t1_divides_by_means_and_takes_the_references_maximum(images):
    psnr = []
    for true, made, t1 in chosen(images):
        mask = (t1 - t1.min()) / (t1.max() - t1.min()) > 0.1
        true, made = true * mask, made * mask
        true, made = true / true.mean(), made / made.mean()
        psnr.append(10 * np.log10(true.max() ** 2 / mean_squares(true, made)))
    scores = run("peer:selfrdb", images)
    assert scores["psnr"] == pytest.approx(np.mean(psnr))
    assert scores["slices"] == 20
    assert 0 < scores["ssim"] < 1


def test_resvit_divides_by_maxima(images):
    psnr = [-10 * np.log10(mean_squares(true / true.max(), made / made.max())) for true, made, _ in chosen(images)]
    assert run("peer:resvit", images) == {"psnr": pytest.approx(np.mean(psnr)), "slices": 20}


def test_syndiff_pads_crops_and_takes_the_synthetic_maximum(images):
    psnr = []
    for true, made, _ in chosen(images):
        true, made = true / true.max(), made / made.max()
        # 40x36 in 256x152 after padding: every pixel is there, the rest is 0 in both.
        error = mean_squares(true, made) * true.size / (256 * 152)
        psnr.append(20 * np.log10(made.max() / np.sqrt(error)))
    assert run("peer:syndiff", images) == {"psnr": pytest.approx(np.mean(psnr)), "slices": 20}


def test_syndiff_crops_what_is_wider_than_152_mm():
    wide = np.zeros((10, 200))
    wide[:, :] = np.linspace(0.1, 1, 200)
    other = wide.copy()
    other[:, [0, 20, 180, 190]] = 0.5  # outside the middle 152 columns, 24 to 175
    assert peers.syndiff(wide, other, wide, (10, 152)) == (100.0, None)
    other[:, 24] = 0.9
    assert peers.syndiff(wide, other, wide, (10, 152))[0] < 100


@pytest.mark.parametrize("rule", peers.RULES)
def test_rules_forgive_a_gain_on_every_slice(images, rule):
    reference, synthetic, t1, inside = images
    gains = np.linspace(0.3, 1, SHAPE[0])[:, None, None]
    flickering = (reference, synthetic * gains, t1, inside)
    assert run(rule, flickering)["psnr"] == pytest.approx(run(rule, images)["psnr"], abs=1e-9)
    assert run(rule, (reference, reference / 800 * gains, t1, inside))["psnr"] > 90


@pytest.mark.parametrize("rule", peers.RULES)
def test_slices_without_a_value_are_left_out(images, rule):
    reference, synthetic, t1, inside = images
    cut = reference.copy()
    cut[5:8] = 0
    assert run(rule, (cut, synthetic, t1, inside))["slices"] == 17
    assert run(rule, (np.zeros_like(cut), synthetic, t1, inside)) == {}
    outside = np.where(inside, synthetic, 0.8)  # what is not scored does not count
    assert run(rule, (reference, outside, t1, inside)) == run(rule, images)
