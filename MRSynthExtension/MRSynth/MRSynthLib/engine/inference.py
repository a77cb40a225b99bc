"""A trained generator made ready to run: the function of its definition in fewer steps and with less memory traffic.

`ready` is the one door. What it does to a DenseU-net are identities of algebra, so that only rounding differs:

1. *Norm after a convolution*: its scale and shift go into weights and bias, and the ReLU into the same step.
2. *Norm and ReLU before a 1x1 convolution*: relu(s x + t) = s (max(x, c) - c) with c = -t / s (min where s < 0). The
   factors s go into the weights and the constants s c into the bias; one maximum per value is left to do.
3. *Average pooling after a 1x1 convolution* is the same before it, where it leaves a quarter of the work.
4. *A 3x3 convolution of [upsampled x, skip]* is one of x plus one of the skip, and that of the upsampled x is a
   transposed convolution of x, 4x4 with stride 2: four products per pixel and channel in place of nine.
5. *A dense block* writes the features of its layers side by side into one buffer; nothing is concatenated.
6. *Pixels that nobody asks for* are left out of the decoder, whose pixels depend on their surroundings alone. (In the
   encoder all are needed: by way of the coarse levels, every pixel depends on all others.)
7. *What the first convolution makes of air* is subtracted from its features before they are rounded. Most of a slice is
   air, and all its pixels would be rounded in the same direction: of what bf16 changes, that was the most.

Everything else (the baselines, instance norm, other ways of upsampling, Apple GPUs) runs as it is defined.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from .convolutions import Convolution, Place, fastest
from .folding import Stage, affine, folded
from .generators import AutoContext, DenseLayer, DenseUNet

Span = tuple[int, int]  # first, and one past the last
Window = tuple[Span, Span]  # rows and columns
Network = Callable[[Tensor, "Window | None"], Tensor]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def ready(generator: nn.Module, device: str = "cpu", precision: str = "fp32") -> Network:
    """Return the function of a generator for one device and precision.

    Parameters
    ----------
    generator : nn.Module
        In evaluation mode; it may be moved to `device`.
    device : str
        As torch spells it.
    precision : {'fp32', 'bf16', 'fp16'}
        Of weights and features.

    Returns
    -------
    callable
        Takes a float32 tensor (N, C, H, W) on `device`, H and W multiples of 16, and the window that is wanted (None
        for all), to float32 (N, 1, H, W). Outside of the window its pixels may be wrong, or 0.
    """
    if isinstance(generator, AutoContext):
        return InARow(*(ready(part, device, precision) for part in (generator.first, generator.second)))
    place = Place(torch.device(device), DTYPES[precision])
    if isinstance(generator, DenseUNet) and FusedDenseUNet.covers(generator, place):
        return FusedDenseUNet(generator, place)
    return AsDefined(generator, place)


class AsDefined:
    """The module as it is; below float32 by automatic mixed precision."""

    def __init__(self, generator: nn.Module, place: Place) -> None:
        self.place = place
        self.generator = generator.to(place.device)
        for parameter in self.generator.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

    def __call__(self, x: Tensor, window: Window | None = None) -> Tensor:
        """(N, C, H, W) to (N, 1, H, W)."""
        x = x.contiguous(memory_format=torch.channels_last)
        reduced = self.place.dtype != torch.float32
        with torch.inference_mode(), torch.autocast(self.place.device.type, self.place.dtype, enabled=reduced):
            result: Tensor = self.generator(x).float()
        return result


class InARow:
    """Auto-context: the second network is given the input and what the first makes of all of it."""

    def __init__(self, first: Network, second: Network) -> None:
        self.first, self.second = first, second

    def __call__(self, x: Tensor, window: Window | None = None) -> Tensor:
        """(N, C, H, W) to (N, 1, H, W)."""
        return self.second(torch.cat([x, self.first(x, None)], dim=1), window)


class FusedDenseUNet:
    """DenseU-net by the identities above.

    Parameters
    ----------
    net : DenseUNet
        One that is covered.
    place : Place
    make : type of Convolution, optional
        By default the fastest for `place`.
    """

    def __init__(self, net: DenseUNet, place: Place, make: type[Convolution] | None = None) -> None:
        self.place = place
        make = make or fastest(place)
        # The few weights of the first and the last convolution, rounded to bf16, would cost more than all others.
        self.exact = replace(place, dtype=torch.float32)
        weight, bias = folded(net.convolution1)
        self.first = make(weight, bias, self.exact)
        self.pooling = net.pooling
        air = bias.relu()
        self.air = self.exact.hold(air[:, None, None])
        blocks: Stage = net.dense_blocks
        missing = [air, *[None] * len(net.transitions)]  # in the features of each block
        self.blocks = [
            [_Layer(layer, less, make, place) for layer in block] for block, less in zip(blocks, missing, strict=True)
        ]
        self.transitions = [_Transition(*pair, make, place) for pair in zip(net.transitions, missing, strict=False)]
        channels = self.blocks[-1][-1].channels
        scale, shift = affine(net.bottom[0], channels)
        self.bottom = place.hold(scale), place.hold(shift)
        decoder: Stage = net.decoder
        below = [channels, *(stage[0].out_channels for stage in decoder)]
        self.decoder = [_Decoder(*pair, make, place) for pair in zip(decoder, below, strict=False)]
        # Packed, 1 channel pads to 16.
        self.last = Convolution(net.convolution2.weight, net.convolution2.bias, self.exact)
        self.output = net.output

    @staticmethod
    def covers(net: DenseUNet, place: Place) -> bool:
        """Whether norms are fixed, upsampling repeats, no block is empty, and the device is of a known kind."""
        blocks: Stage = net.dense_blocks
        fixed = not net.training and not any(isinstance(module, nn.InstanceNorm2d) for module in net.modules())
        repeats = isinstance(net.upsampling, nn.Upsample) and net.upsampling.mode == "nearest"
        return fixed and repeats and all(map(len, blocks)) and place.device.type in ("cpu", "cuda")

    def __call__(self, x: Tensor, window: Window | None = None) -> Tensor:
        """(N, C, H, W) to (N, 1, H, W)."""
        with torch.inference_mode():
            result = x.new_zeros(len(x), 1, *x.shape[2:])
            x, skips = self._encoded(self.exact.hold(x))
            sizes = result.shape[2:]
            wanted = window or [(0, size) for size in sizes]
            levels = (_needed(span, size, len(skips)) for span, size in zip(wanted, sizes, strict=True))
            top = left = 0  # of x, on its level
            for stage, rows, columns in zip(self.decoder, *levels, strict=True):
                below = x[:, :, rows[0] - top : rows[1] - top, columns[0] - left : columns[1] - left]
                (top, bottom), (left, right) = ((2 * first, 2 * end) for first, end in (rows, columns))
                x = stage(_packed(below), _packed(skips.pop()[:, :, top:bottom, left:right]))
            height, width = x.shape[2:]
            result[:, :, top : top + height, left : left + width] = self.output(self.last(self.exact.hold(x)))
        return result

    def _encoded(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The coarsest features, and those of each level that skip what is below it."""
        x = self.first.relu(x)
        skips = [self.place.hold(x)]
        x = self.place.hold(self.pooling(x) - self.air)
        for layers, transition in zip(self.blocks, self.transitions, strict=False):
            x = _dense_block(layers, x)
            skips.append(x)
            x = transition(x)
        skips[1][:, : len(self.air)] += self.air
        x = _dense_block(self.blocks[-1], x)
        scale, shift = self.bottom
        return _as_features(torch.addcmul(shift, _as_pixels(x), scale).relu_()), skips


def _needed(span: Span, size: int, levels: int) -> list[Span]:
    """What a span is made from on each level below, coarsest first: half of it, and a pixel on either side."""
    found = []
    for _ in range(levels):
        size //= 2
        span = max(0, (span[0] - 1) // 2), min(size, span[1] // 2 + 1)
        found.append(span)
    return found[::-1]


def _packed(part: Tensor) -> Tensor:
    """Features without gaps; a copy only where something was cut off."""
    return part.contiguous(memory_format=torch.channels_last)


def _dense_block(layers: Sequence[_Layer], x: Tensor) -> Tensor:
    """All layers of a block; each appends its new features to those of the ones before."""
    n, channels, height, width = x.shape
    features = x.new_empty(n, height, width, layers[-1].channels)
    features[..., :channels] = _as_pixels(x)
    for layer in layers:
        new = layer(features[..., :channels])
        features[..., channels : layer.channels] = _as_pixels(new)
        channels = layer.channels
    return _as_features(features)


class _Layer:
    """A dense layer: (N, H, W, C) to the new features alone, (N, growth, H, W)."""

    def __init__(self, layer: DenseLayer, less: Tensor | None, make: type[Convolution], place: Place) -> None:
        weight, bias = folded([layer.conv1, layer.norm2])
        self.narrow = _Activated(layer.norm1, less, weight, bias, make, place)
        self.grow = make(*folded([layer.conv2, nn.Identity()]), place)
        self.channels = layer.conv1.in_channels + layer.conv2.out_channels  # behind the layer

    def __call__(self, pixels: Tensor) -> Tensor:
        return self.grow(self.narrow.convolution.relu(self.narrow.activated(pixels)))


class _Transition:
    """Norm, ReLU, average pooling and 1x1 convolution."""

    def __init__(self, transition: Stage, less: Tensor | None, make: type[Convolution], place: Place) -> None:
        norm, _, convolution, self.pooling = transition
        self.half = _Activated(norm, less, *folded([convolution, nn.Identity()]), make, place)

    def __call__(self, x: Tensor) -> Tensor:
        return self.half.convolution(self.pooling(self.half.activated(_as_pixels(x))))


class _Activated:
    """Norm, ReLU and 1x1 convolution, by identity 2, of features whose first ones are `less` too low. In float64.

    Attributes
    ----------
    convolution : Convolution
        Of what `activated` gives.
    """

    def __init__(
        self,
        norm: Stage,
        less: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        make: type[Convolution],
        place: Place,
    ) -> None:
        scale, shift = affine(norm, weight.shape[1])
        if less is not None:
            shift[: len(less)] += scale[: len(less)] * less
        # A scale of nearly 0 leaves a constant, relu(shift), and no corner that could be told in `dtype`.
        flat = shift.abs() >= scale.abs() * (torch.finfo(place.dtype).max / 4)
        corner = place.hold(torch.where(flat, 0.0, -shift / scale))
        self.low = corner.masked_fill(place.hold(scale) < 0, -torch.inf)
        self.high = corner.masked_fill(place.hold(scale) >= 0, torch.inf) if (scale < 0).any() else None
        matrix = weight[:, :, 0, 0]
        bias = bias + matrix @ torch.where(flat, shift.relu(), 0.0)
        scaled = place.hold(matrix * torch.where(flat, 0.0, scale))
        # The bias is that of the rounded weights and corners: what lies below a corner cancels out exactly.
        bias = bias - (scaled.double() @ corner.double()).cpu()
        self.convolution = make(scaled[:, :, None, None], bias, place)

    def activated(self, pixels: Tensor) -> Tensor:
        """(N, H, W, C) to (N, C, H, W): max(x, c), or min where the scale is negative."""
        bent = torch.maximum(pixels, self.low)
        if self.high is not None:
            torch.minimum(bent, self.high, out=bent)
        return _as_features(bent)


class _Decoder:
    """A 3x3 convolution of the upsampled input joined with a skip, norm and ReLU, by identity 4."""

    def __init__(self, stage: Stage, channels: int, make: type[Convolution], place: Place) -> None:
        weight, bias = folded(stage)
        below, beside = weight[:, :channels], weight[:, channels:]
        # Each pixel below stands for 2x2 pixels here: the 3x3 kernel summed over these four places, as seen from it.
        ones = torch.ones(1, 1, 2, 2, dtype=weight.dtype)
        wide = functional.conv2d(below.flip(2, 3).reshape(-1, 1, 3, 3), ones, padding=1)
        wide = wide.view(len(weight), channels, 4, 4).transpose(0, 1)
        self.upsampling = make(wide, bias, place, upsampling=True)
        self.skip = make(beside, None, place)

    def __call__(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.skip.add_relu(skip, self.upsampling(x))


def _as_pixels(features: Tensor) -> Tensor:
    """(N, C, H, W) as (N, H, W, C): a view."""
    return features.permute(0, 2, 3, 1)


def _as_features(pixels: Tensor) -> Tensor:
    """(N, H, W, C) as (N, C, H, W): a view."""
    return pixels.permute(0, 3, 1, 2)
