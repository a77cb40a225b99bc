"""The discriminators D_Y (on T2) and D_X (on T1): 70×70 PatchGAN (Isola et al. 2017, appendix 6.1.2)."""

from __future__ import annotations

from torch import Tensor, nn


class PatchGAN(nn.Module):
    """C64-C128-C256-C512 with instance normalisation; each output judges one 70×70 patch of the input.

    Parameters
    ----------
    filters : int
        Channels after the first convolution (64 in the paper).
    in_channels : int
        1; or 2, where it is shown the source beside the image (the conditional discriminator of Pix2Pix).
    deep_supervision : bool
        Also judge the features of each earlier level (Zhao et al. 2018): patches of 4, 10 and 22 pixels.
    """

    def __init__(self, filters: int = 64, in_channels: int = 1, deep_supervision: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(in_channels, filters, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for stride, before, after in ((2, 1, 2), (2, 2, 4), (1, 4, 8)):
            layers += [
                nn.Conv2d(before * filters, after * filters, 4, stride=stride, padding=1),
                nn.InstanceNorm2d(after * filters),
                nn.LeakyReLU(0.2),
            ]
        layers.append(nn.Conv2d(8 * filters, 1, 4, stride=1, padding=1))
        self.layers = nn.Sequential(*layers)
        widths = (filters, 2 * filters, 4 * filters) if deep_supervision else ()
        self.heads = nn.ModuleList(nn.Conv2d(width, 1, 1) for width in widths)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, 0.0, 0.02)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Scores, without a sigmoid, of every patch of (N,C,H,W) images, higher is more real.

        Returns
        -------
        list of Tensor
            (N,1,H/8−2,W/8−2) last; before it, with deep supervision, those of the earlier levels.
        """
        scores = []
        heads = list(self.heads)
        for layer in self.layers:
            image = layer(image)
            if heads and isinstance(layer, nn.LeakyReLU):
                scores.append(heads.pop(0)(image))
        return [*scores, image]
