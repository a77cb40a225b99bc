"""Terms that compare structure rather than intensity: MS-SSIM, gradients, and the MIND descriptor.

Images are (N,1,H,W) in [0, 1]. All is computed in float32 whatever the autocast: variances are small differences of
large numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import torch
import torch.nn.functional as F
from torch import Tensor

SSIM_WINDOW = 7
C1, C2 = 0.01**2, 0.03**2  # of SSIM, for intensities in [0, 1]
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, finest scale first
MIND_REACH = 4  # pixels: a search region of 9x9 (Yang et al. 2018)
MIND_PATCH = 7  # pixels
MIND_SIGMA = 2.0  # pixels, of the weights within a patch
MIND_FLOOR = 1e-4  # least variance: that of noise of 1 % of the scale
CORRELATION_FLOOR = 1e-6


def in_float32(term: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """The term of two images, computed in float32."""

    @wraps(term)
    def computed(a: Tensor, b: Tensor) -> Tensor:
        with torch.autocast(device_type=a.device.type, enabled=False):
            return term(a.float(), b.float())

    return computed


def similarity(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Maps of SSIM's factors: luminance, then contrast times structure, each as numerator and denominator."""
    unbiased = SSIM_WINDOW**2 / (SSIM_WINDOW**2 - 1)
    mean_x, mean_y = F.avg_pool2d(x, SSIM_WINDOW, 1), F.avg_pool2d(y, SSIM_WINDOW, 1)
    var_x = unbiased * (F.avg_pool2d(x * x, SSIM_WINDOW, 1) - mean_x**2)
    var_y = unbiased * (F.avg_pool2d(y * y, SSIM_WINDOW, 1) - mean_y**2)
    cov = unbiased * (F.avg_pool2d(x * y, SSIM_WINDOW, 1) - mean_x * mean_y)
    return 2 * mean_x * mean_y + C1, mean_x**2 + mean_y**2 + C1, 2 * cov + C2, var_x + var_y + C2


@in_float32
def ms_ssim_loss(synthetic: Tensor, target: Tensor) -> Tensor:
    """1 − MS-SSIM = 1 − l_M^βM · Π_j cs_j^βj (Wang et al. 2003, eq. 7), averaged over the images.

    Scale j + 1 is scale j after 2×2 averaging; l and cs are SSIM's luminance and contrast-structure terms, averaged
    over the image, with the window and constants of `ssim_loss`. As many of the five scales as leave room for the
    window are used, and their β made to sum to 1. A cs below 0 counts as (nearly) 0.
    """
    scales = 1
    while scales < len(MS_SSIM_WEIGHTS) and min(synthetic.shape[2:]) // 2**scales >= SSIM_WINDOW:
        scales += 1
    weights = torch.tensor(MS_SSIM_WEIGHTS[:scales], device=synthetic.device)
    logarithm = torch.zeros(len(synthetic), device=synthetic.device)
    for scale, weight in enumerate(weights / weights.sum()):
        mean, mean_norm, contrast, contrast_norm = similarity(synthetic, target)
        factor = (contrast / contrast_norm).mean((1, 2, 3)).clamp(min=CORRELATION_FLOOR)
        if scale == scales - 1:
            factor = factor * (mean / mean_norm).mean((1, 2, 3))
        logarithm = logarithm + weight * torch.log(factor)
        synthetic, target = F.avg_pool2d(synthetic, 2), F.avg_pool2d(target, 2)
    return 1 - logarithm.exp().mean()


def _gradients(images: Tensor) -> tuple[Tensor, Tensor]:
    """Magnitudes of the differences of neighbours along rows and along columns."""
    return images.diff(dim=3).abs(), images.diff(dim=2).abs()


@in_float32
def gradient_difference_loss(synthetic: Tensor, target: Tensor) -> Tensor:
    """Σ_d ‖ |∂_d ŷ| − |∂_d y| ‖₂², per pixel, d over x and y (Nie et al. 2018, eq. 4): keeps edges from blurring."""
    pairs = zip(_gradients(synthetic), _gradients(target), strict=True)
    return torch.stack([(made - true).square().mean() for made, true in pairs]).sum()


@in_float32
def gradient_consistency_loss(synthetic: Tensor, source: Tensor) -> Tensor:
    """1 − ½ Σ_d NCC(|∂_d ŷ|, |∂_d x|), d over x and y (Hiasa et al. 2018, eq. 2 and 4): edges stay where they were.

    NCC is the normalised cross-correlation over one image; the result is their mean. It needs no pairs. Hiasa et al.
    compare signed gradients of MR and CT; many edges between tissues have opposite signs in T1 and T2, so here the
    magnitudes are compared.
    """
    correlations = []
    for made, true in zip(_gradients(synthetic), _gradients(source), strict=True):
        a, b = (image.flatten(1) - image.flatten(1).mean(1, keepdim=True) for image in (made, true))
        correlations.append((a * b).sum(1) / (a.square().sum(1) * b.square().sum(1) + CORRELATION_FLOOR).sqrt())
    return 1 - torch.stack(correlations).mean()


@in_float32
def structure_loss(synthetic: Tensor, source: Tensor) -> Tensor:
    """1/|R| Σ_α |MIND(ŷ, α) − MIND(x, α)|, per pixel (Yang et al. 2018, eq. 4): same structure, other contrast."""
    return (mind(synthetic) - mind(source)).abs().mean()


def mind(images: Tensor) -> Tensor:
    """Modality-independent neighbourhood descriptor (Heinrich et al. 2012; region and patch of Yang et al. 2018).

    MIND(I, p, α) = exp(−D(p, α) / V(p)) / Z. D is the Gaussian-weighted squared difference of the patches around p and
    p + α; V the mean of D over the four direct neighbours, here at least `MIND_FLOOR`; Z makes the largest entry 1.

    Returns
    -------
    Tensor
        (N, |R|, H, W): one channel per offset α of the search region, row by row, without α = 0.
    """
    reach, (height, width) = MIND_REACH, images.shape[2:]
    padded = F.pad(images, [reach] * 4, mode="replicate")
    offsets = [
        (row, column)
        for row in range(-reach, reach + 1)
        for column in range(-reach, reach + 1)
        if (row, column) != (0, 0)
    ]
    shifted = [padded[:, :, reach + r : reach + r + height, reach + c : reach + c + width] for r, c in offsets]
    distances = _weighted_patches((torch.cat(shifted, dim=1) - images).square())
    near = [offsets.index(offset) for offset in ((-1, 0), (0, -1), (0, 1), (1, 0))]
    variance = distances[:, near].mean(dim=1, keepdim=True).clamp(min=MIND_FLOOR)
    # Divided by the largest: the smallest distance is taken off within the exponent.
    return torch.exp((distances.amin(dim=1, keepdim=True) - distances) / variance)


def _weighted_patches(squares: Tensor) -> Tensor:
    """Gaussian-weighted mean over the patch around every pixel, edges repeated."""
    places = torch.arange(MIND_PATCH, device=squares.device) - MIND_PATCH // 2
    kernel = torch.exp(-0.5 * (places / MIND_SIGMA) ** 2)
    kernel = kernel / kernel.sum()
    count = squares.shape[1]
    squares = F.pad(squares, [MIND_PATCH // 2] * 4, mode="replicate")
    squares = F.conv2d(squares, kernel.view(1, 1, -1, 1).expand(count, -1, -1, -1), groups=count)
    return F.conv2d(squares, kernel.view(1, 1, 1, -1).expand(count, -1, -1, -1), groups=count)
