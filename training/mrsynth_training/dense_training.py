"""DenseU-net in the form in which it is trained on CPUs: the same function and the same weights, with less to compute.

`faster` changes what a DenseU-net's modules do in `forward`, not what they hold: the names of its weights, its state
and its results are the plain one's, up to the rounding of sums in another order.

1. *A 3x3 convolution of [upsampled x, skip]* is one of x plus one of the skip, and that of the upsampled x is a
   transposed convolution of x, 4x4 with stride 2: four products per pixel and channel in place of nine, and no joined
   features to write, read and differentiate.
2. *ReLU of a norm* is written over its input, which no gradient needs.
"""

from __future__ import annotations

import itertools

from torch import Tensor, nn
from torch.nn import functional

from MRSynthLib.engine.generators import ConvNorm, DenseUNet, Transition


def faster(module: nn.Module) -> nn.Module:
    """The module itself, with every DenseU-net in it in the form for training on a CPU, where there is one for it."""
    for net in module.modules():
        if type(net) is DenseUNet and isinstance(net.upsampling, nn.Upsample) and net.upsampling.mode == "nearest":
            net.__class__ = TrainedDenseUNet
            for part in net.modules():
                if isinstance(part, ConvNorm | Transition):
                    _overwrite(part)
    return module


def _overwrite(sequence: nn.Sequential) -> None:
    """Have every ReLU after a norm written over the norm's result."""
    for before, after in itertools.pairwise(sequence):
        if isinstance(after, nn.ReLU) and not isinstance(before, nn.Identity):
            after.inplace = True


class TrainedDenseUNet(DenseUNet):
    """DenseU-net, upsampling by repetition, with its decoder's convolutions split in two."""

    def joined(self, x: Tensor, skip: Tensor, upsampling: nn.Module, convolution: nn.Module) -> Tensor:
        """One level of the decoder."""
        assert isinstance(convolution, ConvNorm)
        convolve, *rest = convolution
        assert isinstance(convolve, nn.Conv2d)
        of_x, of_skip = convolve.weight.split([x.shape[1], skip.shape[1]], dim=1)
        joined = functional.conv2d(skip, of_skip, convolve.bias, padding=1)
        joined += functional.conv_transpose2d(x, _upsampling(of_x), stride=2, padding=1)
        for part in rest:
            joined = part(joined)
        return joined


def _upsampling(weight: Tensor) -> Tensor:
    """3x3 kernels (out, in, 3, 3) for an image repeated 2x2, as 4x4 kernels (in, out, 4, 4) for the image itself."""
    turned = functional.pad(weight.transpose(0, 1).flip(2, 3), (1, 1, 1, 1))
    tall = turned[:, :, :4] + turned[:, :, 1:]
    return tall[..., :4] + tall[..., 1:]
