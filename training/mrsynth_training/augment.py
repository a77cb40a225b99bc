"""Augmentation of a batch of slice pairs: one geometry for both contrasts, scanner differences for the source only.

The training set is small, and intensity scale and contrast are the largest part of the error between scanners.  The
target stays clean, so G learns to undo noise, bias and blur of the source, never to produce them.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

ZOOM = (0.7, 1.25)
ROTATION_DEGREES = 10.0
SHEAR = 0.05
GAIN = (0.85, 1.15)
GAMMA = (0.7, 1.4)
KNOTS = 5
STEEPNESS = 0.5  # spread of the logarithm of the steps' rises
TARGET_GAMMA = (0.97, 1.03)
BIAS_AMPLITUDE = 0.3
NOISE_SIGMA = 0.04
COARSEST = 3.0


def crop(pairs: Tensor, boxes: Tensor, side: int, generator: torch.Generator, *, random: bool = True) -> Tensor:
    """Cut one square per pair, both contrasts alike, moved, zoomed, rotated, sheared and flipped at random.

    Parameters
    ----------
    pairs : Tensor
        (N, 2, H, W).
    boxes : Tensor
        (N, 4) top, bottom, left, right of the head or brain, in pixels; the square lies over it.
    side : int
        Height and width of the result, in pixels.
    random : bool
        False: centred on the box, no other change than whole-pixel translation.

    Returns
    -------
    Tensor
        (N, 2, side, side); 0 outside the input.
    """
    count, _, height, width = pairs.shape
    lo, hi = boxes[:, (0, 2)].float(), boxes[:, (1, 3)].float()
    centre = ((lo + hi) / 2).floor()
    if random:
        draw = _drawer(count, generator)
        zoom = torch.exp(draw(math.log(ZOOM[0]), math.log(ZOOM[1])))
        angle = torch.deg2rad(draw(-ROTATION_DEGREES, ROTATION_DEGREES))
        shear = draw(-SHEAR, SHEAR)
        flip = (draw(0, 1) < 0.5).float() * 2 - 1
        # Where the head is larger than the square, the square may lie anywhere on it; else the head anywhere within.
        spare = ((hi - lo) - side / zoom[:, None]).abs() / 2
        centre = centre + torch.stack([draw(-1, 1), draw(-1, 1)], 1) * spare
    else:
        zoom, angle, shear, flip = torch.ones(count), torch.zeros(count), torch.zeros(count), torch.ones(count)
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    # Matrix from a pixel of the square (x, y from its centre) to one of the slice, x first as grid_sample wants it.
    matrix = torch.stack(
        [torch.stack([cos * flip, -sin + shear * cos], 1), torch.stack([sin * flip, cos + shear * sin], 1)], 1
    )
    steps = torch.arange(side, dtype=torch.float32) - side // 2
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    square = torch.stack([x, y], -1).reshape(1, -1, 2)
    places = square @ matrix.transpose(1, 2) + centre[:, None, (1, 0)]
    size = torch.tensor([width, height], dtype=torch.float32)
    grid = ((2 * places + 1) / size - 1).reshape(count, side, side, 2)
    return F.grid_sample(pairs, grid.to(pairs), mode="bilinear", padding_mode="zeros", align_corners=False)


def degrade(sources: Tensor, generator: torch.Generator) -> Tensor:
    """Another scanner's image of the same anatomy (N,1,H,W): gain, gamma, bias field, blur, noise, cut field of view.

    What is exactly 0 (outside a stripped skull or the field of view) stays exactly 0.
    """
    draw = _drawer(len(sources), generator, sources.device)
    present = sources > 0
    images = _power(sources, draw(*GAMMA)) * draw(*GAIN).view(-1, 1, 1, 1)
    images = images * _bias_field(images, generator)
    images = _blur(images, draw(0, 1) < 0.3, draw(1.2, COARSEST))
    sigma = (draw(0, NOISE_SIGMA) * (draw(0, 1) < 0.6)).view(-1, 1, 1, 1)
    real, imaginary = (sigma * torch.randn(images.shape, generator=generator).to(images.device) for _ in range(2))
    noisy = torch.sqrt((images + real) ** 2 + imaginary**2)  # magnitude of a complex signal: Rician noise
    return torch.where(present & _field_of_view(images, generator), noisy, 0.0).clamp_(0, 1)


def recontrast(sources: Tensor, generator: torch.Generator) -> Tensor:
    """Images (N,C,H,W) of other settings of the scanner: 0 and 1 stay, what lies between follows a random rising curve.

    The curve is straight between `KNOTS` equal steps, each of which rises by a random share of the whole. Which tissue
    is brighter than which stays; by how much does not.
    """
    rises = torch.exp(STEEPNESS * torch.randn((len(sources), KNOTS), generator=generator)).to(sources.device)
    tops = torch.cumsum(rises / rises.sum(1, keepdim=True), dim=1)
    curve = torch.cat([torch.zeros_like(tops[:, :1]), tops], dim=1)
    places = sources.clamp(0, 1).flatten(1) * KNOTS
    below = places.floor().clamp(max=KNOTS - 1)
    low, high = (torch.gather(curve, 1, below.long() + step) for step in (0, 1))
    return torch.lerp(low, high, places - below).view_as(sources)


def soften_targets(targets: Tensor, generator: torch.Generator) -> Tensor:
    """The slightest change of contrast of the targets (N,1,H,W), so that no single scanner's is learnt by heart."""
    return _power(targets, _drawer(len(targets), generator, targets.device)(*TARGET_GAMMA))


def _drawer(count: int, generator: torch.Generator, device: torch.device | None = None):  # type: ignore[no-untyped-def]
    """Return a function draw(low, high) of uniform numbers (count,); drawn on the CPU, the same for every device."""
    return lambda low, high: low + (high - low) * torch.rand(count, generator=generator).to(device)


def _power(images: Tensor, gamma: Tensor) -> Tensor:
    return images.clamp(min=0).pow(gamma.view(-1, 1, 1, 1))


def _bias_field(images: Tensor, generator: torch.Generator) -> Tensor:
    """Smooth multiplicative field (N,1,H,W): a 4×4 grid of numbers, interpolated.

    Its logarithm is within ±0.3 at the grid's points; between them the bicubic curve may overshoot.
    """
    strength = _drawer(len(images), generator, images.device)(0, BIAS_AMPLITUDE).view(-1, 1, 1, 1)
    coarse = torch.rand((len(images), 1, 4, 4), generator=generator).to(images.device) * 2 - 1
    field = F.interpolate(coarse, size=images.shape[2:], mode="bicubic", align_corners=True)
    return torch.exp(strength * field)


def _blur(images: Tensor, chosen: Tensor, factor: Tensor) -> Tensor:
    """Images with some of them at a coarser resolution, in one or both directions, on the same grid."""
    result = images.clone()
    for i in torch.nonzero(chosen).flatten().tolist():
        height, width = images.shape[2:]
        rows = height if i % 3 == 1 else max(8, round(height / float(factor[i])))
        columns = width if i % 3 == 2 else max(8, round(width / float(factor[i])))
        small = F.interpolate(images[i : i + 1], size=(rows, columns), mode="bilinear", antialias=True)
        result[i] = F.interpolate(small, size=(height, width), mode="bilinear")[0]
    return result


def _field_of_view(images: Tensor, generator: torch.Generator) -> Tensor:
    """True within the field of view (N,1,H,W); one image in twelve has a side cut off by up to a fifth."""
    inside = torch.ones_like(images, dtype=torch.bool)
    draw = _drawer(len(images), generator)
    chosen, part, side = draw(0, 1) < 1 / 12, draw(0.03, 0.2), draw(0, 4).long()
    for i in torch.nonzero(chosen).flatten().tolist():
        axis = 1 + int(side[i]) % 2
        length = inside[i].shape[axis]
        cut = round(float(part[i]) * length)
        inside[i].narrow(axis, 0 if side[i] < 2 else length - cut, cut).fill_(False)
    return inside
