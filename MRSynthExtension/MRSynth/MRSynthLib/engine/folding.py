"""Norms with fixed statistics as algebra: what they multiply by and add, what they make of a mean, and folded away."""

from __future__ import annotations

import math
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


def moments(norm: Stage, channels: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the features that a norm has seen, float64; 0 where there is no norm."""
    if isinstance(norm, nn.Identity):
        return torch.zeros(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64)
    return norm.running_mean.detach().cpu().double().clone(), norm.running_var.detach().cpu().double().sqrt()


def mean_bent(mean: Tensor, deviation: Tensor, corner: Tensor, sign: Tensor) -> Tensor:
    """Mean of max(x, corner), or of min where `sign` is negative, of normally distributed features x."""
    side = torch.where(sign < 0, -1.0, 1.0)
    above = (mean - corner) * side
    z = above / deviation.clamp(min=torch.finfo(torch.float64).tiny)
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    return corner + side * (above * torch.special.ndtr(z) + deviation * density)


def folded(stage: Stage) -> tuple[Tensor, Tensor]:
    """Weight and bias, float64, of a convolution and the norm behind it, by identity 1."""
    convolution, norm, *_ = stage
    scale, shift = affine(norm, convolution.out_channels)
    weight = convolution.weight.detach().cpu().double() * scale[:, None, None, None]
    if convolution.bias is None:
        return weight, shift
    return weight, convolution.bias.detach().cpu().double() * scale + shift
