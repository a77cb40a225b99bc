"""Every loss term against its equation, written out slowly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from mrsynth_training import losses, losses_structure
from mrsynth_training.discriminators import PatchGAN
from mrsynth_training.pool import ImagePool
from mrsynth_training.store_files import LESION

SCORES = torch.tensor([[-2.0, 0.5], [0.0, 3.0]])
REAL = torch.tensor([[1.5, -0.5], [2.0, 0.1]])


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def images(seed: int) -> torch.Tensor:
    return torch.rand((2, 1, 24, 20), generator=torch.Generator().manual_seed(seed))


def test_log_discriminator_loss_is_the_negative_of_equation_1_halved():
    real = [math.log(sigmoid(s)) for s in REAL.flatten().tolist()]
    made = [math.log(1 - sigmoid(s)) for s in SCORES.flatten().tolist()]
    expected = -0.5 * (sum(real) / 4 + sum(made) / 4)
    assert float(losses.discriminator_loss(REAL, SCORES, "log")) == pytest.approx(expected, rel=1e-5)


def test_least_squares_discriminator_loss():
    real = [(s - 1) ** 2 for s in REAL.flatten().tolist()]
    made = [s**2 for s in SCORES.flatten().tolist()]
    expected = 0.5 * (sum(real) / 4 + sum(made) / 4)
    assert float(losses.discriminator_loss(REAL, SCORES, "lsgan")) == pytest.approx(expected, rel=1e-5)


def test_hinge_discriminator_loss():
    real = [max(0, 1 - s) for s in REAL.flatten().tolist()]
    made = [max(0, 1 + s) for s in SCORES.flatten().tolist()]
    expected = 0.5 * (sum(real) / 4 + sum(made) / 4)
    assert float(losses.discriminator_loss(REAL, SCORES, "hinge")) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("gan", "literal"),
    [("log", lambda s: -math.log(sigmoid(s))), ("lsgan", lambda s: (s - 1) ** 2), ("hinge", lambda s: -s)],
)
def test_adversarial_loss(gan, literal):
    expected = sum(literal(s) for s in SCORES.flatten().tolist()) / 4
    assert float(losses.adversarial_loss(SCORES, gan)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", [losses.cycle_loss, losses.paired_loss])
def test_l1_terms_are_means_of_absolute_differences(loss):
    a, b = images(1), images(2)
    expected = sum(abs(x - y) for x, y in zip(a.flatten().tolist(), b.flatten().tolist(), strict=True)) / a.numel()
    assert float(loss(a, b)) == pytest.approx(expected, rel=1e-5)
    assert float(loss(a, a)) == 0


def test_ssim_loss_is_that_of_the_scores():
    a, b = images(3), images(4)
    b = 0.5 * (a + b)
    expected = np.mean(
        [
            structural_similarity(x, y, win_size=7, data_range=1)
            for x, y in zip(a[:, 0].numpy(), b[:, 0].numpy(), strict=True)
        ]
    )
    assert float(losses.ssim_loss(a, b)) == pytest.approx(1 - expected, abs=1e-5)


def edge(array: np.ndarray, row: int, column: int) -> float:
    """Pixel of an image whose edges go on for ever."""
    return float(array[min(max(row, 0), array.shape[0] - 1), min(max(column, 0), array.shape[1] - 1)])


def test_local_loss_weighs_errors_by_the_texture_around_them():
    a, b = images(5), images(6)
    expected = []
    for x, y in zip(a[:, 0].numpy(), b[:, 0].numpy(), strict=True):
        above, weights = 0.0, 0.0
        for row in range(24):
            for column in range(20):
                around = [edge(y, row + r, column + c) for r in range(-3, 4) for c in range(-3, 4)]
                weight = np.std(around) + 0.02
                above += weight * abs(x[row, column] - y[row, column])
                weights += weight
        expected.append(above / weights)
    assert float(losses.local_loss(a, b)) == pytest.approx(np.mean(expected), rel=1e-4)


def test_the_same_error_costs_more_at_an_edge_than_in_flat_tissue():
    target = torch.zeros(1, 1, 24, 24)
    target[..., 12:] = 0.8
    at_edge, in_tissue = target.clone(), target.clone()
    at_edge[..., 5, 12] -= 0.3
    in_tissue[..., 5, 20] -= 0.3
    assert float(losses.local_loss(at_edge, target)) > 5 * float(losses.local_loss(in_tissue, target))


def test_lesion_loss_is_the_mean_of_the_regions_means():
    a, b = images(7), images(8)
    mask = torch.ones(2, 1, 24, 20, dtype=torch.uint8)
    mask[..., :2] = 0
    mask[0, :, 4:7, 6:9] = LESION
    lesion, rest = [], []
    for x, y, m in zip(a.flatten().tolist(), b.flatten().tolist(), mask.flatten().tolist(), strict=True):
        if m == 2:
            lesion.append(abs(x - y))
        elif m == 1:
            rest.append(abs(x - y))
    expected = 0.5 * (sum(lesion) / len(lesion) + sum(rest) / len(rest))
    assert float(losses.lesion_loss(a, b, mask)) == pytest.approx(expected, rel=1e-5)
    healthy = mask.clamp(max=1)
    assert float(losses.lesion_loss(a, b, healthy)) == pytest.approx(float((a - b).abs()[healthy > 0].mean()), rel=1e-5)
    assert float(losses.lesion_loss(a, b, torch.zeros_like(mask))) == 0


def test_deep_supervision_is_the_mean_over_the_levels():
    made, real = [SCORES, 2 * SCORES], [REAL, REAL - 1]
    expected = 0.5 * sum(float(losses.discriminator_loss(r, m, "log")) for r, m in zip(real, made, strict=True))
    assert float(losses.deeply_supervised(losses.discriminator_loss, real, made, gan="log")) == pytest.approx(expected)
    expected = 0.5 * sum(float(losses.adversarial_loss(m, "hinge")) for m in made)
    assert float(losses.deeply_supervised(losses.adversarial_loss, made, gan="hinge")) == pytest.approx(expected)


def literal_terms(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Mean luminance and mean contrast-structure term of SSIM over all 7x7 windows."""
    luminance, contrast = [], []
    for row in range(x.shape[0] - 6):
        for column in range(x.shape[1] - 6):
            a, b = (image[row : row + 7, column : column + 7].astype(float).ravel() for image in (x, y))
            cov = np.cov(a, b)
            luminance.append((2 * a.mean() * b.mean() + 1e-4) / (a.mean() ** 2 + b.mean() ** 2 + 1e-4))
            contrast.append((2 * cov[0, 1] + 9e-4) / (cov[0, 0] + cov[1, 1] + 9e-4))
    return float(np.mean(luminance)), float(np.mean(contrast))


def test_ms_ssim_loss_uses_the_scales_that_fit():
    a = torch.rand((2, 1, 32, 36), generator=torch.Generator().manual_seed(9))
    b = 0.7 * a + 0.3 * torch.rand((2, 1, 32, 36), generator=torch.Generator().manual_seed(10))
    weights = np.array([0.0448, 0.2856, 0.3001])  # a fourth scale would have 4 pixels
    weights /= weights.sum()
    expected = []
    for x, y in zip(a[:, 0].numpy(), b[:, 0].numpy(), strict=True):
        value = 1.0
        for scale in range(3):
            luminance, contrast = literal_terms(x, y)
            value *= (contrast * (luminance if scale == 2 else 1)) ** weights[scale]
            if scale < 2:
                x, y = (i.reshape(i.shape[0] // 2, 2, i.shape[1] // 2, 2).mean((1, 3)) for i in (x, y))
        expected.append(value)
    assert float(losses_structure.ms_ssim_loss(a, b)) == pytest.approx(1 - np.mean(expected), abs=1e-5)
    assert float(losses_structure.ms_ssim_loss(a, a)) == pytest.approx(0, abs=1e-6)


def test_gradient_difference_loss():
    a, b = images(11), images(12)
    along_rows, along_columns = [], []
    for x, y in zip(a[:, 0].tolist(), b[:, 0].tolist(), strict=True):
        for r in range(24):
            for c in range(20):
                if c:
                    along_rows.append((abs(x[r][c] - x[r][c - 1]) - abs(y[r][c] - y[r][c - 1])) ** 2)
                if r:
                    along_columns.append((abs(x[r][c] - x[r - 1][c]) - abs(y[r][c] - y[r - 1][c])) ** 2)
    expected = np.mean(along_rows) + np.mean(along_columns)
    assert float(losses_structure.gradient_difference_loss(a, b)) == pytest.approx(expected, rel=1e-4)
    assert float(losses_structure.gradient_difference_loss(1 - a, a)) == pytest.approx(0, abs=1e-6)


def test_gradient_consistency_loss_is_1_minus_the_correlation_of_edges():
    a, b = images(13), images(14)
    expected = []
    for x, y in zip(a[:, 0].numpy(), b[:, 0].numpy(), strict=True):
        for axis in (0, 1):
            edges = [np.abs(np.diff(image.astype(float), axis=axis)).ravel() for image in (x, y)]
            expected.append(1 - np.corrcoef(*edges)[0, 1])
    assert float(losses_structure.gradient_consistency_loss(a, b)) == pytest.approx(np.mean(expected), abs=1e-4)
    assert float(losses_structure.gradient_consistency_loss(1 - a, a)) == pytest.approx(0, abs=1e-4)  # other contrast
    flat = torch.zeros_like(a)
    assert float(losses_structure.gradient_consistency_loss(flat, a)) == pytest.approx(1)


def literal_mind(image: np.ndarray) -> np.ndarray:
    offsets = [(r, c) for r in range(-4, 5) for c in range(-4, 5) if (r, c) != (0, 0)]
    gauss = {(r, c): math.exp(-(r * r + c * c) / 8) for r in range(-3, 4) for c in range(-3, 4)}
    total = sum(gauss.values())
    height, width = image.shape
    squares = np.empty((len(offsets), height, width))
    for n, (dr, dc) in enumerate(offsets):
        for r in range(height):
            for c in range(width):
                squares[n, r, c] = (edge(image, r + dr, c + dc) - image[r, c]) ** 2
    result = np.empty_like(squares)
    near = [offsets.index(o) for o in ((-1, 0), (1, 0), (0, -1), (0, 1))]
    for r in range(height):
        for c in range(width):
            patch = [sum(g * edge(s, r + i, c + j) for (i, j), g in gauss.items()) / total for s in squares]
            entries = np.exp(-np.array(patch) / max(np.mean([patch[n] for n in near]), 1e-4))
            result[:, r, c] = entries / entries.max()
    return result


def test_mind_and_the_structure_loss():
    a, b = (torch.rand((1, 1, 7, 9), generator=torch.Generator().manual_seed(seed)) for seed in (15, 16))
    of_a, of_b = literal_mind(a[0, 0].numpy()), literal_mind(b[0, 0].numpy())
    torch.testing.assert_close(losses_structure.mind(a)[0].double(), torch.from_numpy(of_a), rtol=1e-3, atol=1e-4)
    expected = np.abs(of_a - of_b).mean()
    assert float(losses_structure.structure_loss(a, b)) == pytest.approx(expected, rel=1e-3)
    assert float(losses_structure.structure_loss(1 - a, a)) == pytest.approx(0, abs=1e-5)  # the other contrast


@pytest.mark.parametrize(
    "term",
    [
        losses.local_loss,
        losses.ssim_loss,
        losses_structure.ms_ssim_loss,
        losses_structure.gradient_difference_loss,
        losses_structure.gradient_consistency_loss,
        losses_structure.structure_loss,
    ],
)
def test_every_term_has_a_gradient_that_lowers_it_even_on_background(term):
    target = torch.rand((2, 1, 32, 32), generator=torch.Generator().manual_seed(17))
    target[..., :10] = 0
    other = torch.rand(target.shape, generator=torch.Generator().manual_seed(18))
    made = torch.where(target > 0, 0.5 * (target + other), 0.0).requires_grad_()
    before = term(made, target)
    before.backward()
    assert made.grad is not None and torch.isfinite(made.grad).all() and made.grad.abs().sum() > 0
    after = term((made - 0.1 * made.grad / made.grad.norm()).detach(), target)
    assert float(after) < float(before.detach())


@pytest.mark.parametrize("side", [64, 128])
def test_discriminator_judges_patches_of_70_pixels(side):
    discriminator = PatchGAN(2)
    image = torch.rand(1, 1, side, side, requires_grad=True)
    scores = discriminator(image)
    assert [tuple(score.shape) for score in scores] == [(1, 1, side // 8 - 2, side // 8 - 2)]


def test_discriminators_field_of_view_is_70_pixels():
    strides = [layer.stride[0] for layer in PatchGAN(2).layers if isinstance(layer, torch.nn.Conv2d)]
    field = 1
    for stride in reversed(strides):
        field = (field - 1) * stride + 4
    assert field == 70


def test_deep_supervision_judges_patches_of_four_sizes():
    discriminator = PatchGAN(2, deep_supervision=True)
    image = torch.rand(1, 1, 128, 128, requires_grad=True)
    assert [tuple(score.shape[2:]) for score in discriminator(image)] == [(64, 64), (32, 32), (16, 16), (14, 14)]
    # Instance norm spreads every later score's gradient; the first level has none.
    (touched,) = torch.autograd.grad(discriminator(image)[0][0, 0, 32, 32], image)
    assert int((touched != 0).sum()) == 4 * 4


def test_pool_fills_then_swaps_half_of_the_images():
    pool = ImagePool(4, torch.Generator().manual_seed(0))
    first = torch.arange(4.0).view(4, 1, 1, 1)
    assert torch.equal(pool.exchange(first), first)
    later = torch.arange(100.0, 500.0).view(400, 1, 1, 1)
    shown = pool.exchange(later)
    swapped = int((shown != later).sum())
    assert 150 < swapped < 250
    assert len(pool.images) == 4
    everything = torch.cat([first, later]).flatten().tolist()
    seen = sorted(shown.flatten().tolist() + [float(image) for image in pool.images])
    assert seen == sorted(everything)  # nothing is lost, nothing is shown twice


def test_pool_of_size_0_passes_through():
    made = images(5)
    assert ImagePool(0, torch.Generator()).exchange(made) is made
