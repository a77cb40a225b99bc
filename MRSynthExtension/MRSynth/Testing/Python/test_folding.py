"""The algebra of fixed norms, against drawn features and torch's own modules."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from MRSynthLib.engine.folding import affine, folded, mean_bent, moments


@pytest.fixture
def norm() -> nn.BatchNorm2d:
    """A norm with statistics, as after a training; a scale is negative."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(5).double().eval()
    norm.running_mean.copy_(torch.linspace(-2, 3, 5))
    norm.running_var.copy_(torch.tensor([0.01, 0.5, 1.0, 2.0, 9.0]))
    norm.weight.data.copy_(torch.tensor([1.0, -0.7, 0.2, 2.0, 0.5]))
    norm.bias.data.copy_(torch.linspace(0.5, -0.5, 5))
    return norm


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_mean_of_bent_features_is_that_of_many_draws(sign: float) -> None:
    torch.manual_seed(0)
    mean, deviation = torch.tensor([-1.0, 0.0, 0.3, 2.0]).double(), torch.tensor([0.5, 1.0, 0.01, 3.0]).double()
    corner = torch.tensor([0.0, 0.4, 0.3, -1.0]).double()
    drawn = mean + deviation * torch.randn(400_000, 4, dtype=torch.float64)
    bent = torch.maximum(drawn, corner) if sign > 0 else torch.minimum(drawn, corner)
    expected = mean_bent(mean, deviation, corner, torch.full_like(mean, sign))
    torch.testing.assert_close(expected, bent.mean(dim=0), rtol=0, atol=0.02)


def test_features_that_never_vary_are_bent_as_they_are() -> None:
    mean, corner = torch.tensor([-1.0, 0.0, 2.0]).double(), torch.zeros(3).double()
    result = mean_bent(mean, torch.zeros(3).double(), corner, torch.ones(3).double())
    assert result.tolist() == [0.0, 0.0, 2.0]


def test_scale_and_shift_are_the_norm_and_moments_are_copies(norm: nn.BatchNorm2d) -> None:
    x = torch.randn(2, 5, 3, 3, dtype=torch.float64)
    scale, shift = affine(norm, 5)
    torch.testing.assert_close(norm(x), x * scale[:, None, None] + shift[:, None, None])
    mean, deviation = moments(norm, 5)
    assert torch.equal(mean, norm.running_mean) and torch.allclose(deviation**2, norm.running_var)
    mean += 1
    assert not torch.equal(mean, norm.running_mean)


@pytest.mark.parametrize("bias", [True, False])
def test_a_norm_behind_a_convolution_folds_into_it(norm: nn.BatchNorm2d, bias: bool) -> None:
    convolution = nn.Conv2d(3, 5, 3, bias=bias).double()
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    weight, shift = folded(nn.Sequential(convolution, norm))
    torch.testing.assert_close(nn.functional.conv2d(x, weight, shift), norm(convolution(x)))
