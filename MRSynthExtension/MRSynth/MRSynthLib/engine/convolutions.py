"""Convolutions for inference: by the operations that every torch has, or in one step each by oneDNN.

Features are (N, C, H, W) with the channels last in memory. Strides are 1 and the size is kept, but for `upsampling`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Place:
    """Where a network runs, and the type of its weights and features."""

    device: torch.device
    dtype: torch.dtype

    def hold(self, tensor: Tensor) -> Tensor:
        """The tensor there; weights and features with the channels last."""
        tensor = tensor.detach().to(self.device, self.dtype)
        return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


class Convolution:
    """A convolution with bias, by the operations that every torch has.

    Parameters
    ----------
    weight : Tensor, shape (out, in, k, k), or (in, out, 4, 4) where `upsampling`
    bias : Tensor, shape (out,), or None
    place : Place
    upsampling : bool
        A transposed convolution with stride 2, to twice the height and width.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, place: Place, *, upsampling: bool = False) -> None:
        self.weight = place.hold(weight)
        self.bias = None if bias is None else place.hold(bias)
        self.padding = 1 if upsampling else weight.shape[2] // 2
        self.upsampling = upsampling

    def __call__(self, x: Tensor) -> Tensor:
        """Convolution and bias."""
        if self.upsampling:
            return functional.conv_transpose2d(x, self.weight, self.bias, stride=2, padding=self.padding)
        return functional.conv2d(x, self.weight, self.bias, padding=self.padding)

    def relu(self, x: Tensor) -> Tensor:
        """relu(convolution + bias)."""
        return self(x).relu_()

    def add_relu(self, x: Tensor, other: Tensor) -> Tensor:
        """relu(convolution + other), without bias, written over `other`."""
        return other.add_(self(x)).relu_()


class PackedConvolution(Convolution):
    """The same by oneDNN: weights in its own layout; bias, sum and ReLU in one step with the convolution.

    These are the operations that torch.compile uses on CPUs, the same from torch 2.2 to 2.13 at least. As they are not
    documented, `usable` tries them first.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, place: Place, *, upsampling: bool = False) -> None:
        super().__init__(weight, None, place, upsampling=upsampling)
        # Added before the result is rounded to `dtype`, so that it need not be rounded itself.
        self.bias = None if bias is None else bias.detach().float()
        self.packed: Tensor | None = None

    def _pack(self, x: Tensor) -> Tensor:
        """The weights in the layout that oneDNN likes best for the size of `x`; right for every other size, too."""
        if self.packed is None:
            pair, size = [self.padding] * 2, list(x.shape)
            if self.upsampling:
                reorder = torch.ops.mkldnn._reorder_convolution_transpose_weight
                self.packed = reorder(self.weight, pair, [0, 0], [2, 2], [1, 1], 1, size)
            else:
                reorder = torch.ops.mkldnn._reorder_convolution_weight
                self.packed = reorder(self.weight, pair, [1, 1], [1, 1], 1, size)
        return self.packed

    def __call__(self, x: Tensor, then: str = "none") -> Tensor:
        """Convolution and bias, and what oneDNN shall do `then`."""
        weight, pair = self._pack(x), [self.padding] * 2
        if self.upsampling:
            upsample = torch.ops.mkldnn._convolution_transpose_pointwise
            return upsample(x, weight, self.bias, pair, [0, 0], [2, 2], [1, 1], 1, then, [], None)
        convolve = torch.ops.mkldnn._convolution_pointwise
        return convolve(x, weight, self.bias, pair, [1, 1], [1, 1], 1, then, [], None)

    def relu(self, x: Tensor) -> Tensor:
        """relu(convolution + bias)."""
        return self(x, "relu")

    def add_relu(self, x: Tensor, other: Tensor) -> Tensor:
        """relu(convolution + other), without bias, written over `other`."""
        add = torch.ops.mkldnn._convolution_pointwise_.binary
        pair = [self.padding] * 2
        return add(other, x, self._pack(x), None, pair, [1, 1], [1, 1], 1, "add", 1.0, "relu", [], None)

    @classmethod
    def usable(cls, place: Place) -> bool:
        """Whether every operation works here and gives what `Convolution` gives."""
        if place.device.type != "cpu" or not torch.backends.mkldnn.is_available():
            return False
        x = place.hold(torch.linspace(-1, 1, 8 * 4 * 4).view(1, 8, 4, 4))
        bias = torch.linspace(-1, 1, 8)
        small, large = (torch.linspace(-1, 1, 64 * k * k).view(8, 8, k, k) for k in (3, 4))
        try:
            for mine, plain in (
                [kind(small, bias, place).relu(x) for kind in (cls, Convolution)],
                [kind(large, bias, place, upsampling=True)(x) for kind in (cls, Convolution)],
                [kind(small, None, place).add_relu(x, x.clone()) for kind in (cls, Convolution)],
            ):
                if not torch.allclose(mine, plain, rtol=0.02, atol=0.1):
                    return False
        except (RuntimeError, AttributeError, TypeError):  # not compiled in, renamed, other arguments
            return False
        return True


def fastest(place: Place) -> type[Convolution]:
    """The kind of convolution for `place`."""
    return PackedConvolution if PackedConvolution.usable(place) else Convolution
