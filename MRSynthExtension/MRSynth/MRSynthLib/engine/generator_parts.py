"""Parts that all generators share: norms, ways to upsample, and the last activation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

UPSAMPLING = ("nearest", "bilinear", "transposed")


def norm_of(kind: str, channels: int) -> nn.Module:
    """Batch norm, instance norm with scale and shift, or nothing."""
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "instance":
        return nn.InstanceNorm2d(channels, affine=True)
    if kind == "none":
        return nn.Identity()
    raise ValueError(f"norm is {kind!r}; expected 'batch', 'instance' or 'none'")


def resized(kind: str) -> nn.Upsample:
    """To twice the height and width, without parameters."""
    return nn.Upsample(scale_factor=2, mode=kind, align_corners=False if kind == "bilinear" else None)


def upsampled(kind: str, transposed: nn.ConvTranspose2d) -> nn.Module:
    """To twice the size: by the transposed convolution given, or resized and then convolved 3x3 to its channels.

    The latter leaves no checkerboard (Odena et al. 2016).
    """
    if kind not in UPSAMPLING:
        raise ValueError(f"upsampling is {kind!r}; expected one of {UPSAMPLING}")
    if kind == "transposed":
        return transposed
    return nn.Sequential(resized(kind), nn.Conv2d(transposed.in_channels, transposed.out_channels, 3, padding=1))


def start_in_the_middle(last: nn.Module, output: Output) -> None:
    """The clip passes no gradient outside [0, 1]: start within, so that no pixel is born dead."""
    *_, last = last.modules()
    assert isinstance(last, nn.Conv2d | nn.ConvTranspose2d)
    if not last.weight.is_meta:
        assert last.bias is not None
        inputs = last.weight.numel() // last.out_channels
        nn.init.normal_(last.weight, std=min(0.01, 0.1 * inputs**-0.5))
        nn.init.constant_(last.bias, 0.0 if output.kind == "sigmoid" else 0.3)


class Output(nn.Module):
    """The last activation, onto [0, 1].

    ``relu_clip`` is the paper's: ReLU, then values above 1 set to 1. ``sigmoid`` and ``softclip`` are its smooth
    alternatives (softclip is the difference of two softplus functions, linear between 0 and 1).
    """

    SHARPNESS = 20.0

    def __init__(self, kind: str) -> None:
        super().__init__()
        if kind not in ("relu_clip", "sigmoid", "softclip"):
            raise ValueError(f"output is {kind!r}; expected 'relu_clip', 'sigmoid' or 'softclip'")
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        if self.kind == "relu_clip":
            return x.clamp(0.0, 1.0)
        if self.kind == "sigmoid":
            return torch.sigmoid(x)
        above_0 = functional.softplus(x, beta=self.SHARPNESS)
        above_1 = functional.softplus(x - 1.0, beta=self.SHARPNESS)
        return above_0 - above_1
