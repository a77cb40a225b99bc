"""The protocol's scores against literal implementations and known answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import fourier_shift

from mrsynth_training import metrics
from MRSynthLib.engine.volume import Volume


def ball(shape=(24, 40, 36), seed=0):
    """Smooth random image within an ellipsoid, its mask, and its 1 mm grid."""
    from scipy.ndimage import gaussian_filter

    axes = [np.linspace(-1.1, 1.1, n) for n in shape]
    mask = sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")) < 1
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    image = np.where(mask, np.clip(0.5 + noise, 0.05, 0.95), 0).astype(np.float32)
    return image, mask, Volume(image, np.diag([-1.0, -1.0, 1.0, 1.0]))  # axes already S, P, L


def literal_ssim(true, made):
    """Mean SSIM over all whole 7x7 windows (Wang et al. 2004, uniform window, sample covariance)."""
    values = []
    for row in range(true.shape[0] - 6):
        for column in range(true.shape[1] - 6):
            x = true[row : row + 7, column : column + 7].astype(np.float64).ravel()
            y = made[row : row + 7, column : column + 7].astype(np.float64).ravel()
            covariance = ((x - x.mean()) * (y - y.mean())).sum() / 48
            values.append(
                (2 * x.mean() * y.mean() + 1e-4)
                * (2 * covariance + 9e-4)
                / ((x.mean() ** 2 + y.mean() ** 2 + 1e-4) * (x.var(ddof=1) + y.var(ddof=1) + 9e-4))
            )
    return float(np.mean(values))


def test_paper_is_the_mean_over_slices_of_literal_psnr_and_ssim():
    true, mask, grid = ball(shape=(4, 40, 36))
    made = np.where(mask, true * 0.8 + 0.1, 0).astype(np.float32)
    space, _ = metrics.paper_slices(grid, mask)
    psnr, ssim = [], []
    for x, y in zip(*(np.clip(space.to_model(a), 0, 1) for a in (true, made)), strict=True):
        squares = [(float(a) - float(b)) ** 2 for a, b in zip(x.ravel(), y.ravel(), strict=True)]
        psnr.append(10 * np.log10(1 / np.mean(squares)))
        ssim.append(literal_ssim(x, y))
    scores = metrics.paper(true, made, mask, grid)
    assert scores["psnr"] == pytest.approx(np.mean(psnr), abs=1e-3)
    assert scores["ssim"] == pytest.approx(np.mean(ssim), abs=1e-4)
    assert scores["slices"] == len(psnr) == 2


def test_identical_images_score_the_finite_best():
    true, mask, grid = ball()
    assert metrics.paper(true, true, mask, grid)["psnr"] == metrics.HIGHEST_PSNR
    inside = metrics.within(true, true, mask, metrics.ssim_map(true, true, grid))
    assert (inside["psnr"], inside["mae"]) == (metrics.HIGHEST_PSNR, 0)
    assert inside["ssim"] == pytest.approx(1)


def test_square_is_the_brains_and_has_128_pixels():
    _, mask, grid = ball()
    rows, columns = metrics.paper_slices(grid, mask)[0].model_axes[1:]
    extent = max(np.flatnonzero(mask.any(axis=(0, n))).size for n in (1, 2))
    assert rows.size == columns.size == 128
    assert rows.spacing * 128 == pytest.approx(1.04 * extent)


def test_paper_scores_the_81_middle_slices_only():
    shape = (101, 12, 12)
    mask = np.zeros(shape, bool)
    mask[1:, 2:10, 2:10] = True  # 100 slices; of these, 10..90 are the 81 centred ones
    true = np.where(mask, 0.5, 0).astype(np.float32)
    grid = Volume(true, np.diag([-1.0, -1.0, 1.0, 1.0]))
    outside = true.copy()
    outside[[0, 1, 5, 10, 92, 95, 100]] = 1
    assert metrics.paper(true, outside, mask, grid) == metrics.paper(true, true, mask, grid)
    for edge in (11, 91):
        inside = true.copy()
        inside[edge] *= 0.5
        assert metrics.paper(true, inside, mask, grid)["psnr"] < metrics.HIGHEST_PSNR
    assert metrics.paper(true, true, mask, grid)["slices"] == 81


def test_empty_slices_are_left_out():
    true, mask, grid = ball()
    middle = true.copy()
    middle[:8] = 0
    made = middle.copy()
    made[:8] = 1
    assert metrics.paper(middle, made, mask, grid)["psnr"] == metrics.HIGHEST_PSNR


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_scores_do_not_depend_on_how_the_array_is_stored(axes):
    true, mask, grid = ball()
    made = np.where(mask, true * 0.9, 0).astype(np.float32)
    swap = np.zeros((4, 4))
    for new, old in enumerate(axes):
        swap[2 - old, 2 - new] = 1
    swap[3, 3] = 1
    stored = [array.transpose(axes) for array in (true, made, mask)]
    other = Volume(stored[0], grid.ijk_to_ras @ swap)
    for name in ("paper", "drift"):
        assert getattr(metrics, name)(*stored, other) == pytest.approx(
            getattr(metrics, name)(true, made, mask, grid), rel=1e-4
        )
    similarity = metrics.ssim_map(stored[0], stored[1], other)
    assert np.allclose(similarity, metrics.ssim_map(true, made, grid).transpose(axes), atol=1e-6)


def test_known_offset_gives_known_scores():
    true, mask, grid = ball()
    true = np.where(mask, true * 0.5, 0)
    made = np.where(mask, true + 0.1, 0.9)  # what is outside the mask does not count
    scores = metrics.within(true, made, mask, metrics.ssim_map(true, made, grid))
    assert scores["psnr"] == pytest.approx(20, abs=1e-3)
    assert scores["mae"] == pytest.approx(0.1, abs=1e-6)
    assert scores["bias"] == pytest.approx(0.1, abs=1e-6)
    assert scores["voxels"] == mask.sum()


def test_ssim_map_is_literal_in_the_axial_plane():
    true, mask, grid = ball()
    made = np.where(mask, true**1.3, 0).astype(np.float32)
    similarity = metrics.ssim_map(true, made, grid)
    assert similarity[12, 20, 18] == pytest.approx(
        literal_ssim(true[12, 17:24, 15:22], made[12, 17:24, 15:22]), abs=1e-5
    )


def test_rim_is_5_mm_wide_on_any_spacing():
    lesion, brain = np.zeros((2, 9, 21, 21), bool)
    lesion[4, 10, 10] = True
    brain[:, :, :16] = True
    rim = metrics.rim(lesion, brain, (1.0, 2.0, 3.0))
    for k, j, i in np.ndindex(rim.shape):
        distance = np.hypot(np.hypot((k - 4) * 3.0, (j - 10) * 2.0), (i - 10) * 1.0)
        assert rim[k, j, i] == (0 < distance <= 5 and i < 16)


def test_flicker_raises_drift_and_a_constant_gain_does_not():
    true, mask, grid = ball()
    flicker = true.copy()
    flicker[::2] *= 1.1
    assert metrics.drift(true, true * 0.7, mask, grid)["p95"] == pytest.approx(0, abs=1e-6)
    assert metrics.drift(true, flicker, mask, grid)["p95"] == pytest.approx(0.1, abs=1e-4)
    one = true.copy()
    one[12] *= 1.5  # a single bright slice is felt less than flicker throughout
    assert metrics.drift(true, one, mask, grid)["p95"] > 0.05


@pytest.mark.parametrize("moved", [(0, 0, 0), (0, 0, 1), (2, -1, 0), (0.5, 0.25, -0.5)])
def test_shift_is_found_in_another_contrast(moved):
    true, mask, _ = ball()
    other = np.where(mask, 1 - true, 0)  # what is bright becomes dark
    spectrum = fourier_shift(np.fft.fftn(other), moved)
    scores = metrics.shift(true, np.fft.ifftn(spectrum).real, mask)
    assert [scores[axis] for axis in "kji"] == pytest.approx(moved, abs=0.1)
    assert scores["voxels"] == pytest.approx(np.linalg.norm(moved), abs=0.1)


def test_summary_over_subjects():
    assert metrics.summary([1, 2, 3, 4, 10]) == {"mean": 4, "median": 3, "q1": 2, "q3": 4, "subjects": 5}
