"""The algebra of fixed norms, against torch's own modules."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from MRSynthLib.engine.folding import affine, folded


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


def test_scale_and_shift_are_the_norm(norm: nn.BatchNorm2d) -> None:
    x = torch.randn(2, 5, 3, 3, dtype=torch.float64)
    scale, shift = affine(norm, 5)
    torch.testing.assert_close(norm(x), x * scale[:, None, None] + shift[:, None, None])


@pytest.mark.parametrize("bias", [True, False])
def test_a_norm_behind_a_convolution_folds_into_it(norm: nn.BatchNorm2d, bias: bool) -> None:
    convolution = nn.Conv2d(3, 5, 3, bias=bias).double()
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    weight, shift = folded(nn.Sequential(convolution, norm))
    torch.testing.assert_close(nn.functional.conv2d(x, weight, shift), norm(convolution(x)))
