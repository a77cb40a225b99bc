"""Lesions put into the white matter of training slices, in both contrasts alike.

Lesions are rare in a training set, and small: a generator that paints them over, or takes a dark spot in T1 for grey
matter, loses almost nothing.  Here a share of the slices gets some, bright in T2 and dark in T1 by what
the spin-echo or inversion-recovery equation says of white matter with more free water (`phantom_physics`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from mrsynth_training import phantom_physics
from mrsynth_training.phantom_disease import within
from mrsynth_training.phantom_physics import Scan, Tissue
from mrsynth_training.store_files import LESION

NUMBER = (1, 6)  # small lesions of a slice, fewest and most
RADIUS = (1.0, 4.5)  # of small ones, pixels
WATER = (0.2, 0.8)  # share of free water
LARGE = 0.25  # share of the chosen slices that get a tumour or oedema besides
LARGE_RADIUS = (5.0, 14.0)
NECROTIC = (0.75, 0.95)  # share of water in a tumour's core
CORE = (0.4, 0.7)  # radius of the core over the tumour's
EDGE = (0.1, 0.35)  # width of a border over the radius
ROUGHNESS = 0.2
BELOW_SURFACE = 6  # pixels
FEWEST = 40  # pixels of white matter, below which a slice is left as it is
DRAWS = 24  # scanners and settings, of which the most fitting is taken
FAINTEST = 0.01  # brightness of a tissue: one contrast may be empty where the other is not
FLUID = 0.6  # of white matter in T1: what is darker is no tissue to put a lesion in

Array = NDArray[np.float32]


def insert(t1: Tensor, t2: Tensor, mask: Tensor, share: float, generator: torch.Generator) -> None:
    """Put lesions into some of the slices, in place.

    Parameters
    ----------
    t1, t2 : Tensor, shape (B,D,S,S)
        In [0, 1]; D neighbouring slices, which get the same lesions.
    mask : Tensor, shape (B,1,S,S)
        0, brain or lesion, as in a slice store; gets the new lesions as well.
    share : float
        How many of the slices get some, 0 to 1.
    generator : torch.Generator
        All that is random comes from it.
    """
    chosen = torch.rand(len(t1), generator=generator) < share
    seeds = torch.randint(2**62, (len(t1),), generator=generator)
    for n in torch.nonzero(chosen).flatten().tolist():
        rng = np.random.default_rng(int(seeds[n]))
        found = _ill(_array(t1[n]), _array(t2[n]), _array(mask[n, 0]) > 0, rng)
        if found is None:
            continue
        for image, changed in zip((t1, t2), found.images, strict=True):
            image[n] = torch.from_numpy(changed).to(image)
        mask[n, 0][torch.from_numpy(found.marked).to(mask.device)] = LESION


def _array(image: Tensor) -> Array:
    return np.asarray(image.detach().cpu().numpy(), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class _Ill:
    """Slices (D,S,S) of T1 and T2 with lesions, and where they are (S,S)."""

    images: tuple[Array, Array]
    marked: NDArray[np.bool_]


def _ill(t1: Array, t2: Array, brain: NDArray[np.bool_], rng: np.random.Generator) -> _Ill | None:
    """The slices with lesions; None where there is not enough white matter."""
    middle = len(t1) // 2
    smooth = [ndimage.uniform_filter(image[middle], 3) for image in (t1, t2)]
    white = _white_matter(smooth[0], smooth[1], brain)
    places = np.argwhere(white)
    if len(places) < FEWEST:
        return None
    levels = [float(np.median(image[white])) for image in smooth]
    tissue = brain & (t1[middle] > FLUID * levels[0])
    known, scans = _like(_grey_over_white(smooth, tissue, levels), rng)
    images, marked = (t1.copy(), t2.copy()), np.zeros_like(brain)
    for radius, water, core in _drawn(rng):
        shape = _shape(places[rng.integers(len(places))], radius, brain.shape, rng) * tissue
        marked |= shape > 0.5
        parts = [(shape, water)]
        if core:
            parts.append((_core_of(shape, core, rng), rng.uniform(*NECROTIC)))
        for part, share in parts:
            ill = phantom_physics.with_water(known["white"], share)
            for image, scan, level in zip(images, scans, levels, strict=True):
                _replace(image, part, scan.signal(ill) / scan.signal(known["white"]), level)
    return _Ill(images, marked)


def _white_matter(t1: Array, t2: Array, brain: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where white matter surely is: bright in T1, dark in T2, not near the brain's surface."""
    if not brain.any():
        return brain
    deep = ndimage.binary_erosion(brain, iterations=BELOW_SURFACE)
    return np.asarray(deep & (t1 > np.percentile(t1[brain], 55)) & (t2 < np.percentile(t2[brain], 45)))


def _grey_over_white(smooth: list[Array], tissue: NDArray[np.bool_], levels: list[float]) -> list[float]:
    """How bright grey matter is over white matter, in T1 and T2: what is darker in T1 than the brighter half."""
    darker = tissue & (smooth[0] <= np.percentile(smooth[0][tissue], 40))
    seen = zip(smooth, levels, strict=True)
    return [max(float(np.median(image[darker])), FAINTEST) / max(level, FAINTEST) for image, level in seen]


def _like(contrast: list[float], rng: np.random.Generator) -> tuple[dict[str, Tissue], tuple[Scan, Scan]]:
    """Of some scanners and settings drawn those that show grey and white matter most as the slices do.

    A lesion is then as dark or bright as it would be on this very image, which a generator can learn.
    """

    def difference(drawn: tuple[dict[str, Tissue], tuple[Scan, Scan]]) -> float:
        known, scans = drawn
        shown = [scan.signal(known["grey"]) / scan.signal(known["white"]) for scan in scans]
        return sum(abs(np.log(there / seen)) for there, seen in zip(shown, contrast, strict=True))

    drawn = [
        (phantom_physics.tissues(rng)[1], (_t1_weighted(rng), phantom_physics.scans(rng)["t2"])) for _ in range(DRAWS)
    ]
    return min(drawn, key=difference)


def _t1_weighted(rng: np.random.Generator) -> Scan:
    """A spin echo, or an inversion recovery as of MPRAGE, in which lesions are darker."""
    if rng.uniform() < 0.5:
        return phantom_physics.scans(rng)["t1"]
    return Scan(tr=rng.uniform(1800, 2500), te=rng.uniform(2, 5), ti=rng.uniform(800, 1100))


def _drawn(rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Radius, share of water, and radius of the necrotic core over the whole (0: none) of a slice's lesions."""
    small = [
        (float(np.exp(rng.uniform(*np.log(RADIUS)))), float(rng.uniform(*WATER)), 0.0)
        for _ in range(rng.integers(NUMBER[0], NUMBER[1] + 1))
    ]
    if rng.uniform() >= LARGE:
        return small
    core = float(rng.uniform(*CORE)) * float(rng.uniform() < 0.5)
    return [(float(rng.uniform(*LARGE_RADIUS)), float(rng.uniform(*WATER)), core), *small]


def _shape(centre: NDArray[np.int64], radius: float, size: tuple[int, ...], rng: np.random.Generator) -> Array:
    """A rough ellipse with a soft border: 1 within, 0 outside."""
    offsets = np.indices(size, dtype=np.float32) - centre.astype(np.float32)[:, None, None]
    angle, stretch = rng.uniform(0, np.pi), np.sqrt(rng.uniform(1, 2.5))
    along = np.cos(angle) * offsets[0] + np.sin(angle) * offsets[1]
    across = np.cos(angle) * offsets[1] - np.sin(angle) * offsets[0]
    waves = ndimage.zoom(rng.standard_normal((6, 6)), np.array(size) / 6, order=3)
    level = np.hypot(along / stretch, across * stretch) / radius * np.clip(1 + ROUGHNESS * waves, 0.4, 1.6)
    return within(1.0, level, rng.uniform(*EDGE))


def _core_of(shape: Array, core: float, rng: np.random.Generator) -> Array:
    """The necrotic core of a lesion: its inner part, `core` of its radius wide."""
    depth = ndimage.distance_transform_edt(shape > 0.5)
    inner = (1 - core) * depth.max()
    return np.asarray(shape * within(-inner, -depth, rng.uniform(0.5, 1.5)), dtype=np.float32)


def _replace(image: Array, share: Array, factor: float, white: float) -> None:
    """Mix diseased white matter into slices (D,S,S), in place; half of their texture stays to be seen in it."""
    image += share * (np.float32(factor) * (0.5 * image + np.float32(0.5 * white)) - image)
    np.clip(image, 0, 1, out=image)
