"""A U-net of the size that denoising diffusion uses for this job, for comparison of its cost; it is never trained.

Six levels, two residual blocks per level on the way down and three on the way up, attention at 16x16 pixels for an
input of 128x128, an embedding of the time step in every block: the shape of DDPM (Ho et al. 2020) and SynDiff
(Özbey et al. 2023), with 41 M parameters. A slice takes four evaluations, as SynDiff's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

EVALUATIONS = 4
BASE = 64
WIDTHS = (1, 1, 2, 2, 4, 6)  # of a level, in units of BASE
BLOCKS = 2
ATTENTION_LEVEL = 3
EMBEDDING = 4 * BASE


class Block(nn.Module):
    """Norm, SiLU and 3x3 convolution, twice, with the time step added in between and the input around both."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(32, channels)
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1)
        self.time = nn.Linear(EMBEDDING, out)
        self.norm2 = nn.GroupNorm(32, out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.shortcut = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """(N, C, H, W) to (N, out, H, W)."""
        y = self.conv1(functional.silu(self.norm1(x))) + self.time(time)[:, :, None, None]
        return self.shortcut(x) + self.conv2(functional.silu(self.norm2(y)))


class Attention(nn.Module):
    """Self-attention among all pixels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, channels)
        self.query_key_value = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W), kept."""
        n, c, h, w = x.shape
        query, key, value = self.query_key_value(self.norm(x)).reshape(n, 3, 1, c, h * w).mT.unbind(1)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return x + self.out(mixed.mT.reshape(n, c, h, w))


class DiffusionUNet(nn.Module):
    """`EVALUATIONS` evaluations of the U-net: what one slice costs."""

    def __init__(self) -> None:
        super().__init__()
        widths = [BASE * width for width in WIDTHS]
        self.first = nn.Conv2d(2, BASE, 3, padding=1)  # the noisy target and the source
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        channels, skips = BASE, [BASE]
        for level, width in enumerate(widths):
            for _ in range(BLOCKS):
                self.down.append(self._stage(channels, width, level))
                channels = width
                skips.append(channels)
            if level < len(widths) - 1:
                self.down.append(nn.Conv2d(channels, channels, 3, stride=2, padding=1))
                skips.append(channels)
        self.middle = nn.ModuleList([Block(channels, channels), Attention(channels), Block(channels, channels)])
        for level, width in reversed(list(enumerate(widths))):
            for _ in range(BLOCKS + 1):
                self.up.append(self._stage(channels + skips.pop(), width, level))
                channels = width
            if level > 0:
                self.up.append(nn.Conv2d(channels, channels, 3, padding=1))
        self.last = nn.Sequential(nn.GroupNorm(32, channels), nn.SiLU(), nn.Conv2d(channels, 1, 3, padding=1))

    @staticmethod
    def _stage(channels: int, out: int, level: int) -> nn.ModuleList:
        attention = [Attention(out)] if level == ATTENTION_LEVEL else []
        return nn.ModuleList([Block(channels, out), *attention])

    def evaluate(self, x: Tensor, time: Tensor) -> Tensor:
        """One evaluation, (N, 2, H, W) to (N, 1, H, W)."""
        x = self.first(x)
        skips = [x]
        for stage in self.down:
            x = stage(x) if isinstance(stage, nn.Conv2d) else _through(stage, x, time)
            skips.append(x)
        x = _through(self.middle, x, time)
        for stage in self.up:
            if isinstance(stage, nn.Conv2d):
                x = stage(functional.interpolate(x, scale_factor=2.0))
            else:
                x = _through(stage, torch.cat([x, skips.pop()], dim=1), time)
        return self.last(x)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, H, W), kept: source to synthetic target."""
        target = torch.randn_like(x)
        for step in range(EVALUATIONS):
            target = self.evaluate(torch.cat([target, x], dim=1), x.new_full((len(x), EMBEDDING), step))
        return target


def _through(stage: nn.Module, x: Tensor, time: Tensor) -> Tensor:
    for part in stage.children():
        x = part(x, time) if isinstance(part, Block) else part(x)
    return x
