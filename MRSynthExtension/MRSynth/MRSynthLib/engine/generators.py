"""The generators: DenseU-net of Fu et al. (Table 1), its two baselines, U-net and ResNet, and two in a row.

All are fully convolutional: input (N, C, H, W) and output (N, 1, H, W) with H and W multiples of 16, intensities in
[0, 1]. Constructor arguments are what a checkpoint's card stores. There is no training code here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .generator_parts import UPSAMPLING, Output, norm_of, resized, start_in_the_middle, upsampled

BOTTLENECK = 4  # a dense layer's 1x1 convolution has 4 x growth channels (Huang et al. 2017, DenseNet-B)
COMPRESSION = 2  # a transition halves the channels (DenseNet-C)


class DenseLayer(nn.Module):
    """1x1 then 3x3 convolution, each after norm and ReLU; the k new features join the old ones."""

    def __init__(self, channels: int, growth: int, norm: str) -> None:
        super().__init__()
        width = BOTTLENECK * growth
        self.norm1 = norm_of(norm, channels)
        self.conv1 = nn.Conv2d(channels, width, 1, bias=norm == "none")
        self.norm2 = norm_of(norm, width)
        self.conv2 = nn.Conv2d(width, growth, 3, padding=1, bias=norm == "none")

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C + growth, H, W)."""
        new = self.conv1(functional.relu(self.norm1(x)))
        new = self.conv2(functional.relu(self.norm2(new)))
        return torch.cat([x, new], dim=1)


class ConvNorm(nn.Sequential):
    """Convolution, norm, ReLU."""

    def __init__(self, channels: int, out: int, kernel: int, norm: str) -> None:
        convolution = nn.Conv2d(channels, out, kernel, padding=kernel // 2, bias=norm == "none")
        super().__init__(convolution, norm_of(norm, out), nn.ReLU())


class Transition(nn.Sequential):
    """Norm, ReLU, 1x1 convolution to half the channels, 2x2 average pool."""

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__(
            norm_of(norm, channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels // COMPRESSION, 1, bias=norm == "none"),
            nn.AvgPool2d(2),
        )


class DenseUNet(nn.Module):
    """DenseU-net generator (Fu et al., Table 1).

    Parameters
    ----------
    growth : int
        Features that each dense layer adds (the paper's k).
    blocks : sequence of 4 int
        Dense layers per block.
    norm : {'batch', 'instance', 'none'}
    output : {'relu_clip', 'sigmoid', 'softclip'}
    in_channels : int
        1, or more for neighbouring slices.
    upsampling : {'nearest', 'bilinear', 'transposed'}
        2x2 upsampling of Table 1: by repetition, by interpolation, or by a transposed convolution 2x2.

    Notes
    -----
    Table 1 fixes kernel sizes, strides, layer counts, skips and k. It leaves open what follows a concatenation; here
    a 3x3 convolution to half of the skip's channels (at least 4k) does, which gives 1.93 M parameters and 1.42 GMAC
    for a slice of 128x128.
    """

    def __init__(
        self,
        growth: int = 10,
        blocks: Sequence[int] = (6, 12, 24, 16),
        norm: str = "batch",
        output: str = "relu_clip",
        in_channels: int = 1,
        upsampling: str = "nearest",
    ) -> None:
        super().__init__()
        if len(blocks) != 4:
            raise ValueError(f"blocks is {tuple(blocks)}; expected four numbers, as Table 1 has four dense blocks")
        if upsampling not in UPSAMPLING:
            raise ValueError(f"upsampling is {upsampling!r}; expected one of {UPSAMPLING}")
        channels = 2 * growth
        self.convolution1 = ConvNorm(in_channels, channels, 7, norm)
        self.pooling = nn.MaxPool2d(3, stride=2, padding=1)
        skips = [channels]
        self.dense_blocks = nn.ModuleList()
        self.transitions = nn.ModuleList()
        for index, depth in enumerate(blocks):
            layers = [DenseLayer(channels + n * growth, growth, norm) for n in range(depth)]
            self.dense_blocks.append(nn.Sequential(*layers))
            channels += depth * growth
            if index < 3:
                skips.append(channels)
                self.transitions.append(Transition(channels, norm))
                channels //= COMPRESSION
        self.bottom = nn.Sequential(norm_of(norm, channels), nn.ReLU())
        # One for all levels, as it has no parameters; or one each.
        self.upsampling = nn.ModuleList() if upsampling == "transposed" else resized(upsampling)
        self.decoder = nn.ModuleList()
        for skip in reversed(skips):
            width = max(skip // 2, BOTTLENECK * growth)
            if isinstance(self.upsampling, nn.ModuleList):
                self.upsampling.append(nn.ConvTranspose2d(channels, channels, 2, stride=2))
            self.decoder.append(ConvNorm(channels + skip, width, 3, norm))
            channels = width
        self.convolution2 = nn.Conv2d(channels, 1, 1)
        self.output = Output(output)
        if not self.convolution2.weight.is_meta:  # on "meta" there are only shapes, and drawing for them takes a second
            self._draw()

    def _draw(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        start_in_the_middle(self.convolution2, self.output)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 1, H, W)."""
        x = self.convolution1(x)
        skips = [x]
        x = self.pooling(x)
        for index, block in enumerate(self.dense_blocks):
            x = block(x)
            if index < len(self.transitions):
                skips.append(x)
                x = self.transitions[index](x)
        x = self.bottom(x)
        each = self.upsampling if isinstance(self.upsampling, nn.ModuleList) else [self.upsampling] * len(skips)
        for upsampling, convolution, skip in zip(each, self.decoder, reversed(skips), strict=True):
            x = self.joined(x, skip, upsampling, convolution)
        return self.output(self.convolution2(x))

    def joined(self, x: Tensor, skip: Tensor, upsampling: nn.Module, convolution: nn.Module) -> Tensor:
        """One level of the decoder: (N, C, H, W) and its skip (N, D, 2H, 2W) to (N, E, 2H, 2W)."""
        joined: Tensor = convolution(torch.cat([upsampling(x), skip], dim=1))
        return joined


class UNet(nn.Module):
    """The image-to-image U-net of the CycleGAN family (Isola et al. 2017), four levels deep.

    Four levels instead of pix2pix's seven or eight, so that any H and W that are multiples of 16 fit.
    """

    def __init__(
        self,
        base: int = 64,
        norm: str = "instance",
        output: str = "relu_clip",
        in_channels: int = 1,
        upsampling: str = "transposed",
    ) -> None:
        super().__init__()
        widths = [base, 2 * base, 4 * base, 8 * base]
        self.down = nn.ModuleList()
        channels = in_channels
        for level, width in enumerate(widths):
            layers: list[nn.Module] = [] if level == 0 else [nn.LeakyReLU(0.2)]
            layers.append(nn.Conv2d(channels, width, 4, stride=2, padding=1))
            if level > 0:
                layers.append(norm_of(norm, width))
            self.down.append(nn.Sequential(*layers))
            channels = width
        self.up = nn.ModuleList()
        for width in [4 * base, 2 * base, base]:
            up = upsampled(upsampling, nn.ConvTranspose2d(channels, width, 4, stride=2, padding=1))
            self.up.append(nn.Sequential(nn.ReLU(), up, norm_of(norm, width)))
            channels = 2 * width
        last = upsampled(upsampling, nn.ConvTranspose2d(channels, 1, 4, stride=2, padding=1))
        self.last = nn.Sequential(nn.ReLU(), last)
        self.output = Output(output)
        start_in_the_middle(self.last, self.output)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 1, H, W)."""
        skips: list[Tensor] = []
        for stage in self.down:
            x = stage(x)
            skips.append(x)
        skips.pop()
        for stage in self.up:
            x = torch.cat([stage(x), skips.pop()], dim=1)
        return self.output(self.last(x))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around which the input is carried (He et al. 2016)."""

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect"),
            norm_of(norm, channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect"),
            norm_of(norm, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W), kept."""
        return x + self.body(x)


class ResNet(nn.Module):
    """The CycleGAN generator: two strided convolutions, residual blocks, two transposed ones (Zhu et al. 2017)."""

    def __init__(
        self,
        base: int = 64,
        blocks: int = 9,
        norm: str = "instance",
        output: str = "relu_clip",
        in_channels: int = 1,
        upsampling: str = "transposed",
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, base, 7, padding=3, padding_mode="reflect"),
            norm_of(norm, base),
            nn.ReLU(),
        ]
        for width in (base, 2 * base):
            layers += [nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), norm_of(norm, 2 * width), nn.ReLU()]
        layers += [ResidualBlock(4 * base, norm) for _ in range(blocks)]
        for width in (4 * base, 2 * base):
            transposed = nn.ConvTranspose2d(width, width // 2, 3, stride=2, padding=1, output_padding=1)
            layers += [upsampled(upsampling, transposed), norm_of(norm, width // 2), nn.ReLU()]
        layers.append(nn.Conv2d(base, 1, 7, padding=3, padding_mode="reflect"))
        self.body = nn.Sequential(*layers)
        self.output = Output(output)
        start_in_the_middle(self.body, self.output)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 1, H, W)."""
        return self.output(self.body(x))


class AutoContext(nn.Module):
    """Auto-context refinement (Nie et al. 2018): a second generator sees the input and what the first made of it.

    Parameters
    ----------
    first, second : dict
        ``name`` and ``arguments`` of a generator each. The first is a trained one, which stays as it is.
    in_channels : int
        Of the input; both are given it.
    """

    def __init__(self, first: dict[str, Any], second: dict[str, Any], in_channels: int = 1) -> None:
        super().__init__()
        self.first, self.second = (
            build(about["name"], {**about.get("arguments", {}), "in_channels": channels})
            for about, channels in ((first, in_channels), (second, in_channels + 1))
        )
        self.first.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> AutoContext:
        """Only the second; the first keeps its batch statistics."""
        super().train(mode)
        self.first.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 1, H, W)."""
        refined: Tensor = self.second(torch.cat([x, self.first(x)], dim=1))
        return refined


GENERATORS: dict[str, type[nn.Module]] = {
    "DenseUNet": DenseUNet,
    "UNet": UNet,
    "ResNet": ResNet,
    "AutoContext": AutoContext,
}


def build(name: str, arguments: dict[str, Any]) -> nn.Module:
    """A generator by the name and arguments that a card stores.

    Raises
    ------
    ValueError
        If the name is not one of `GENERATORS`, or the arguments are not the constructor's.
    """
    if name not in GENERATORS:
        raise ValueError(f"no generator named {name!r}; there are {', '.join(sorted(GENERATORS))}")
    try:
        return GENERATORS[name](**arguments)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"arguments {arguments} do not fit {name}: {error}") from error
