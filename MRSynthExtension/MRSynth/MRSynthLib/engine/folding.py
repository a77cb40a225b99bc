"""Norms with fixed statistics as algebra: what they multiply by and add, and how a convolution takes them in."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

Stage = Any  # an nn.Sequential of `generators`; type checkers know its members as Module only


def affine(norm: Stage, channels: int) -> tuple[Tensor, Tensor]:
    """Scale and shift of a fixed norm, float64."""
    if isinstance(norm, nn.Identity):
        return torch.ones(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64)
    mean, variance, weight, bias = (
        tensor.detach().cpu().double() for tensor in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    scale = weight / torch.sqrt(variance + norm.eps)
    return scale, bias - mean * scale


def folded(stage: Stage) -> tuple[Tensor, Tensor]:
    """Weight and bias, float64, of a convolution and the norm behind it, by identity 1."""
    convolution, norm, *_ = stage
    scale, shift = affine(norm, convolution.out_channels)
    weight = convolution.weight.detach().cpu().double() * scale[:, None, None, None]
    if convolution.bias is None:
        return weight, shift
    return weight, convolution.bias.detach().cpu().double() * scale + shift
