"""The terms of the objective, one function each; equation numbers are those of the self-inverse One2One paper.

Images are (N,1,H,W) in [0, 1].  Equations 4-6 are 1-3 with the two contrasts exchanged: the same functions serve both.
Terms that compare structure are in `losses_structure`; `objective` puts them together.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mrsynth_training.losses_structure import in_float32, similarity
from mrsynth_training.store_files import BRAIN, LESION

LOCAL_WINDOW = 7  # pixels
LOCAL_FLOOR = 0.02  # local standard deviation that a flat region counts as having


def discriminator_loss(real: Tensor, synthetic: Tensor, gan: str) -> Tensor:
    """What D minimises: the negative of eq. 1 (eq. 4 for the other direction), halved.

    Parameters
    ----------
    real, synthetic : Tensor
        D's scores, without a sigmoid, of acquired images and of G's.
    gan : {"log", "lsgan", "hinge"}
        Eq. 1 as printed; its least-squares form (Mao et al. 2017), which the public One2One code uses; or its hinge
        form, max(0, 1 − D(y)) + max(0, 1 + D(G(x))) (Lim and Ye 2017).
    """
    if gan == "log":
        return 0.5 * (F.softplus(-real).mean() + F.softplus(synthetic).mean())
    if gan == "hinge":
        return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + synthetic).mean())
    return 0.5 * ((real - 1).square().mean() + synthetic.square().mean())


def adversarial_loss(synthetic: Tensor, gan: str) -> Tensor:
    """What G minimises of eq. 1 (and 4), given D's scores of its images.

    For "log" it is the non-saturating form, −log D(G(x)) (Goodfellow et al. 2014, section 3): same fixed point as
    log(1 − D(G(x))), but with a gradient while D still wins. For "hinge" it is −D(G(x)).
    """
    if gan == "log":
        return F.softplus(-synthetic).mean()
    if gan == "hinge":
        return -synthetic.mean()
    return (synthetic - 1).square().mean()


def deeply_supervised(loss: Callable[..., Tensor], *scores: list[Tensor], gan: str) -> Tensor:
    """1/K Σ_k L(D_k): a discriminator that judges at K of its levels is taught at each of them (Zhao et al. 2018).

    Parameters
    ----------
    loss : callable
        `discriminator_loss` or `adversarial_loss`.
    *scores : list of Tensor
        What `loss` takes, each by level; one level is the usual discriminator.
    gan : str
    """
    return torch.stack([loss(*level, gan) for level in zip(*scores, strict=True)]).mean()


def cycle_loss(cycled: Tensor, original: Tensor) -> Tensor:
    """Self-inverse cycle consistency ‖G(G(x)) − x‖₁, per pixel (eq. 2; eq. 5 for y)."""
    return (cycled - original).abs().mean()


def paired_loss(synthetic: Tensor, target: Tensor) -> Tensor:
    """‖G(x) − y‖₁, per pixel, of a registered pair (Pix2Pix eq. 3): the term the unpaired paper does without."""
    return (synthetic - target).abs().mean()


@in_float32
def ssim_loss(synthetic: Tensor, target: Tensor) -> Tensor:
    """1 − mean SSIM with the window, constants and covariance of `skimage.metrics` at data_range 1 (score `paper`)."""
    mean, mean_norm, contrast, contrast_norm = similarity(synthetic, target)
    return 1 - ((mean * contrast) / (mean_norm * contrast_norm)).mean()


def local_loss(synthetic: Tensor, target: Tensor) -> Tensor:
    """Locally weighted regression: Σ_p w_p |ŷ_p − y_p| / Σ_p w_p, w_p = s_p(y) + 0.02, averaged over the images.

    s_p is the standard deviation of the target in the 7×7 pixels around p: errors count where there is texture or an
    edge, which a mean over the whole image (the paper's global regression) drowns in flat tissue and background. The
    paper's discussion asks for such a loss without giving one; this form is ours. G(G(x)) against x is the same.
    """
    weights = local_weights(target)
    return ((synthetic - target).abs() * weights).mean((1, 2, 3)).div(weights.mean((1, 2, 3))).mean()


def local_weights(target: Tensor) -> Tensor:
    """Local standard deviation plus a floor, (N,1,H,W), edges repeated."""
    with torch.autocast(device_type=target.device.type, enabled=False):
        padded = F.pad(target.float(), [LOCAL_WINDOW // 2] * 4, mode="replicate")
        mean = F.avg_pool2d(padded, LOCAL_WINDOW, 1)
        variance = F.avg_pool2d(padded.square(), LOCAL_WINDOW, 1) - mean.square()
        return variance.clamp(min=0).sqrt() + LOCAL_FLOOR


def lesion_loss(synthetic: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean over the regions R of 1/|R| Σ_{p∈R} |ŷ_p − y_p|, R: lesion, and brain without it (Wei et al. 2019).

    A lesion of a hundred pixels weighs as much as the rest of the brain, so it cannot be painted over cheaply.

    Parameters
    ----------
    synthetic, target : Tensor
    mask : Tensor, shape (N,1,H,W)
        `BRAIN`, `LESION` or 0, as in a slice store. Regions are those of the batch; one that is empty does not count.
    """
    error = (synthetic - target).abs()
    regions = torch.stack([mask == LESION, mask == BRAIN]).to(error.dtype)
    sizes = regions.flatten(1).sum(1)
    means = (regions * error).flatten(1).sum(1) / sizes.clamp(min=1)
    return means.sum() / (sizes > 0).sum().clamp(min=1)
