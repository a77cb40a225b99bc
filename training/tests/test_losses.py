"""Every loss term against its equation, written out slowly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from mrsynth_training import losses
from mrsynth_training.discriminators import PatchGAN
from mrsynth_training.pool import ImagePool

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


@pytest.mark.parametrize(
    ("gan", "literal"), [("log", lambda s: -math.log(sigmoid(s))), ("lsgan", lambda s: (s - 1) ** 2)]
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


@pytest.mark.parametrize("side", [64, 128])
def test_discriminator_judges_patches_of_70_pixels(side):
    discriminator = PatchGAN(2)
    image = torch.rand(1, 1, side, side, requires_grad=True)
    scores = discriminator(image)
    assert scores.shape == (1, 1, side // 8 - 2, side // 8 - 2)


def test_discriminators_field_of_view_is_70_pixels():
    strides = [layer.stride[0] for layer in PatchGAN(2).layers if isinstance(layer, torch.nn.Conv2d)]
    field = 1
    for stride in reversed(strides):
        field = (field - 1) * stride + 4
    assert field == 70


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
