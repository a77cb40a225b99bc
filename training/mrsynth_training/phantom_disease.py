"""What is ill in a phantom: a glioma-like tumour with core and oedema, and lesions like those of multiple sclerosis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrsynth_training.phantom_anatomy import Anatomy, Grid, pulled, smooth_field
from mrsynth_training.phantom_physics import Array

NECROSIS, OEDEMA, ENHANCING = 1, 2, 4  # labels of BraTS

RADIUS = (9.0, 20.0)  # of the tumour's core, mm
NECROTIC = (0.5, 0.8)  # radius of necrosis over that of the core
OEDEMA_REACH = (1.4, 2.2)  # radius of oedema over that of the core
ROUGHNESS = 0.22  # how far from a ball
MASS_EFFECT = (0.10, 0.35)
EDGE = 0.06  # width of a border over the radius

LESIONS = (5, 16)  # how many, fewest and most
LESION_RADIUS = (1.5, 5.0)  # mm
DEPTH = 12.0  # mm below the brain's surface, at least


@dataclass(frozen=True, eq=False)
class Tumour:
    """Where a tumour lies, and how large it is.

    Attributes
    ----------
    centre : ndarray (3,)
        RAS mm from the middle of the grid.
    radius : float
        Of its core, mm.
    mass_effect : float
        How far the brain is pushed aside, over the distance from the centre.
    """

    centre: NDArray[np.float64]
    radius: float
    mass_effect: float

    def pushing(self, places: Array, grid: Grid) -> Array:
        """Places (3, k, j, i) of the template, with the brain around the tumour pushed aside."""
        away = grid.offsets() - self.centre.astype(np.float32)[:, None, None, None]
        return pulled(places, away, 1.5 * self.radius, self.mass_effect)

    def grow(self, anatomy: Anatomy, rng: np.random.Generator) -> None:
        """Put the tumour into a brain: oedema along white matter, then the core with its enhancing rim."""
        grid, brain = anatomy.grid, anatomy.brain
        away = grid.offsets()[:, brain] - self.centre.astype(np.float32)[:, None]
        rough = 1 + ROUGHNESS * smooth_field(grid, 1.2 * self.radius, rng)[brain]
        level = np.sqrt(np.square(away).sum(axis=0)) / np.float32(self.radius) * np.clip(rough, 0.4, 1.6)
        reach, necrotic = rng.uniform(*OEDEMA_REACH), rng.uniform(*NECROTIC)

        # Oedema spreads along white matter, hardly into grey matter, and not into fluid.
        white = anatomy.fractions["white"]
        slow = 1 + 0.8 * (1 - white)
        swollen = within(reach, level * slow) * (1 - anatomy.fractions["csf"])
        core, dead = within(1.0, level), within(necrotic, level)
        anatomy.replace("oedema", swollen)
        anatomy.replace("enhancing", core)
        anatomy.replace("necrosis", dead)
        labels = np.select([dead > 0.5, core > 0.5, swollen > 0.5], [NECROSIS, ENHANCING, OEDEMA], 0)
        anatomy.labels[brain] = labels.astype(np.uint8)


def draw_tumour(healthy: Anatomy, rng: np.random.Generator) -> Tumour:
    """Draw a tumour in the white matter of a brain."""
    radius = rng.uniform(*RADIUS)
    places = _deep_white_matter(healthy, depth=max(DEPTH, 0.8 * radius))
    centre = places[:, rng.integers(places.shape[1])].astype(np.float64)
    return Tumour(centre, radius, rng.uniform(*MASS_EFFECT))


def add_lesions(anatomy: Anatomy, rng: np.random.Generator) -> None:
    """Put some small, drawn-out lesions into the deep white matter."""
    centres = _deep_white_matter(anatomy, depth=DEPTH)
    places = anatomy.grid.offsets()[:, anatomy.brain]
    share = np.zeros(places.shape[1], np.float32)
    for _ in range(rng.integers(LESIONS[0], LESIONS[1] + 1)):
        centre = centres[:, rng.integers(centres.shape[1])]
        radius = rng.uniform(*LESION_RADIUS)
        stretch = rng.uniform(0.6, 1.6, 3)
        axes = (rng.standard_normal((3, 3)) / 3 + np.diag(stretch)).astype(np.float32)
        near = np.flatnonzero(np.abs(places - centre[:, None]).max(axis=0) < 4 * radius)
        level = np.sqrt(np.square(axes @ (places[:, near] - centre[:, None])).sum(axis=0)) / np.float32(radius)
        share[near] = np.maximum(share[near], within(1.0, level, edge=0.2))
    share *= anatomy.fractions["white"]
    anatomy.replace("lesion", share)
    anatomy.lesions[anatomy.brain] = share > 0.5


def within(limit: float, level: NDArray[np.floating[Any]], edge: float = EDGE) -> Array:
    """1 where `level` is below the limit and 0 above, with a soft border."""
    return np.asarray(1 / (1 + np.exp(np.clip((level - limit) / edge, -30, 30))), dtype=np.float32)


def _deep_white_matter(anatomy: Anatomy, depth: float) -> Array:
    """Places (3, N), mm from the middle of the grid, in white matter so many mm below the brain's surface."""
    white = np.zeros(anatomy.grid.shape, bool)
    white[anatomy.brain] = anatomy.fractions["white"] > 0.9
    sides = np.rint(2 * depth / anatomy.grid.spacing[::-1]).astype(int) | 1
    below = ndimage.minimum_filter(anatomy.brain.astype(np.uint8), size=tuple(sides), mode="constant") > 0
    return anatomy.grid.offsets()[:, white & below]
