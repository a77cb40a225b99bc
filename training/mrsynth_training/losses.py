"""The terms of the objective, one function each; equation numbers are those of the self-inverse One2One paper.

Images are (N,1,H,W) in [0, 1].  Equations 4-6 are 1-3 with the two contrasts exchanged: the same functions serve both.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SSIM_WINDOW = 7


def discriminator_loss(real: Tensor, synthetic: Tensor, gan: str) -> Tensor:
    """What D minimises: the negative of eq. 1 (eq. 4 for the other direction), halved.

    Parameters
    ----------
    real, synthetic : Tensor
        D's scores, without a sigmoid, of acquired images and of G's.
    gan : {"log", "lsgan"}
        Eq. 1 as printed, or its least-squares form (Mao et al. 2017), which the public One2One code uses.
    """
    if gan == "log":
        return 0.5 * (F.softplus(-real).mean() + F.softplus(synthetic).mean())
    return 0.5 * ((real - 1).square().mean() + synthetic.square().mean())


def adversarial_loss(synthetic: Tensor, gan: str) -> Tensor:
    """What G minimises of eq. 1 (and 4), given D's scores of its images.

    For "log" it is the non-saturating form, −log D(G(x)) (Goodfellow et al. 2014, section 3): same fixed point as
    log(1 − D(G(x))), but with a gradient while D still wins.
    """
    if gan == "log":
        return F.softplus(-synthetic).mean()
    return (synthetic - 1).square().mean()


def cycle_loss(cycled: Tensor, original: Tensor) -> Tensor:
    """Self-inverse cycle consistency ‖G(G(x)) − x‖₁, per pixel (eq. 2; eq. 5 for y)."""
    return (cycled - original).abs().mean()


def paired_loss(synthetic: Tensor, target: Tensor) -> Tensor:
    """‖G(x) − y‖₁, per pixel, of a registered pair (Pix2Pix eq. 3): the term the unpaired paper does without."""
    return (synthetic - target).abs().mean()


def ssim_loss(synthetic: Tensor, target: Tensor) -> Tensor:
    """1 − mean SSIM with the window, constants and covariance of `skimage.metrics` at data_range 1 (PROTOCOL `paper`).

    Computed in float32 whatever the autocast: variances are small differences of large numbers.
    """
    with torch.autocast(device_type=synthetic.device.type, enabled=False):
        x, y = synthetic.float(), target.float()
        unbiased = SSIM_WINDOW**2 / (SSIM_WINDOW**2 - 1)
        mean_x, mean_y = F.avg_pool2d(x, SSIM_WINDOW, 1), F.avg_pool2d(y, SSIM_WINDOW, 1)
        var_x = unbiased * (F.avg_pool2d(x * x, SSIM_WINDOW, 1) - mean_x**2)
        var_y = unbiased * (F.avg_pool2d(y * y, SSIM_WINDOW, 1) - mean_y**2)
        cov = unbiased * (F.avg_pool2d(x * y, SSIM_WINDOW, 1) - mean_x * mean_y)
        c1, c2 = 0.01**2, 0.03**2
        ssim = ((2 * mean_x * mean_y + c1) * (2 * cov + c2)) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
        return 1 - ssim.mean()
