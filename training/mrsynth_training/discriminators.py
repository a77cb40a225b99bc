"""The discriminators D_Y (on T2) and D_X (on T1): 70×70 PatchGAN (Isola et al. 2017, appendix 6.1.2)."""

from __future__ import annotations

from torch import Tensor, nn


class PatchGAN(nn.Module):
    """C64-C128-C256-C512 with instance normalisation; each output judges one 70×70 patch of the input.

    Parameters
    ----------
    filters : int
        Channels after the first convolution (64 in the paper).
    """

    def __init__(self, filters: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, filters, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for stride, before, after in ((2, 1, 2), (2, 2, 4), (1, 4, 8)):
            layers += [
                nn.Conv2d(before * filters, after * filters, 4, stride=stride, padding=1),
                nn.InstanceNorm2d(after * filters),
                nn.LeakyReLU(0.2),
            ]
        layers.append(nn.Conv2d(8 * filters, 1, 4, stride=1, padding=1))
        self.layers = nn.Sequential(*layers)
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, 0.0, 0.02)

    def forward(self, image: Tensor) -> Tensor:
        """Score, without a sigmoid, of every patch of (N,1,H,W) images: (N,1,H/8−2,W/8−2), higher is more real."""
        scores: Tensor = self.layers(image)
        return scores
