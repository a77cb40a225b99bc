"""The engine's own PSNR and SSIM against scikit-image, which 3D Slicer does not ship."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from MRSynthLib.engine import intensity, scores, standard_space
from MRSynthLib.engine.volume import Volume

PRECISION = 1e-6


def images(kind: str, shape: tuple[int, int], phantoms: tuple[Volume, Volume]) -> tuple[np.ndarray, np.ndarray]:
    """A reference and a synthetic image in [0, 1]."""
    random = np.random.default_rng(sum(shape))
    if kind == "noise":
        return random.random(shape), random.random(shape)
    if kind == "flat":
        return np.full(shape, 0.4), np.full(shape, 0.7)
    if kind == "corner":  # all the structure where the window reaches beyond the image
        image = np.zeros(shape)
        image[:2, :3] = 1
        return image, np.roll(image, 1, axis=1)
    t1, t2 = (intensity.normalize(volume.voxels[20], 1000.0) for volume in phantoms)
    return t1[: shape[0], : shape[1]].astype(np.float64), t2[: shape[0], : shape[1]].astype(np.float64)


@pytest.mark.parametrize("shape", [(48, 40), (41, 23), (7, 7), (8, 31)], ids=str)
@pytest.mark.parametrize("kind", ["noise", "flat", "corner", "phantom"])
def test_ssim_is_scikit_images_at_every_pixel(
    kind: str, shape: tuple[int, int], phantom_t1: Volume, phantom_t2: Volume
) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    true, made = images(kind, shape, (phantom_t1, phantom_t2))
    mean, full = metrics.structural_similarity(true, made, win_size=7, data_range=1, full=True)
    mine = scores.structural_similarity(true, made)
    np.testing.assert_allclose(mine, full, atol=PRECISION, rtol=0)
    assert mine[3:-3, 3:-3].mean() == pytest.approx(mean, abs=PRECISION)


def test_psnr_is_scikit_images() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    random = np.random.default_rng(3)
    true, made = random.random((2, 31, 17))
    expected = metrics.peak_signal_noise_ratio(true, made, data_range=1)
    assert scores.psnr_of(float(np.mean((true - made) ** 2))) == pytest.approx(expected, abs=PRECISION)
    assert scores.psnr_of(0.0) == scores.HIGHEST_PSNR


def test_both_protocols_are_scikit_images_on_a_volume(
    phantom_t1: Volume, phantom_t2: Volume, phantom_mask: np.ndarray
) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    true = intensity.normalize(np.where(phantom_mask, phantom_t2.voxels, 0), 1000.0)
    made = intensity.normalize(np.where(phantom_mask, 1000 - phantom_t1.voxels, 0), 1000.0)
    space = standard_space.plan(phantom_t1, phantom_mask, "paper")
    stacks = [np.clip(space.to_model(array), 0, 1).astype(np.float64) for array in (true, made)]
    psnr = [metrics.peak_signal_noise_ratio(a, b, data_range=1) for a, b in zip(*stacks, strict=True)]
    ssim = [metrics.structural_similarity(a, b, win_size=7, data_range=1) for a, b in zip(*stacks, strict=True)]
    paper = scores.paper(true, made, phantom_mask, phantom_t1)
    assert paper["psnr"] == pytest.approx(np.mean(psnr), abs=PRECISION)
    assert paper["ssim"] == pytest.approx(np.mean(ssim), abs=PRECISION)
    assert paper["slices"] == len(psnr)

    exact = [array.astype(np.float64) for array in (true, made)]
    pairs = zip(*exact, strict=True)
    planes = [metrics.structural_similarity(a, b, win_size=7, data_range=1, full=True)[1] for a, b in pairs]
    brain = scores.within(true, made, phantom_mask, scores.ssim_map(true, made, phantom_t1))
    inside = [array[phantom_mask] for array in exact]
    assert brain["ssim"] == pytest.approx(np.stack(planes)[phantom_mask].mean(), abs=PRECISION)
    assert brain["psnr"] == pytest.approx(metrics.peak_signal_noise_ratio(*inside, data_range=1), abs=PRECISION)
    assert brain["mae"] == pytest.approx(np.abs(inside[0] - inside[1]).mean(), abs=PRECISION)
    assert brain["voxels"] == np.count_nonzero(phantom_mask)


def test_training_scores_by_the_same_functions() -> None:
    metrics = pytest.importorskip("mrsynth_training.metrics")
    for name in ("paper", "paper_slices", "ssim_map", "within"):
        assert getattr(metrics, name) is getattr(scores, name)
    assert metrics.PROTOCOL_VERSION is scores.PROTOCOL_VERSION


def test_scoring_needs_nothing_that_slicer_lacks() -> None:
    code = "import sys, MRSynthLib.engine.scores; print({'skimage', 'scipy', 'torch'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
