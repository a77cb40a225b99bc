"""Brains that nobody has: nilearn's MNI152 tissue maps, turned, scaled and bent at random, with tumours and lesions.

Positions are RAS mm. A phantom's grid is centred on the brain, wherever the grid lies and however it is turned.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrsynth_training.phantom_physics import Array

BRATS_SHAPE = (155, 240, 240)  # k, j, i at 1 mm

TURN_DEGREES = 6.0
SIZE = (0.86, 1.0)  # of each axis; the template is larger than most brains
SHIFT = 3.0  # mm
BENDS = ((45.0, 3.5), (18.0, 1.5))  # knot distance and standard deviation of the displacement, mm
VENTRICLES = (0.0, -18.0, 14.0)  # MNI: between the two lateral ventricles
VENTRICLE_GROWTH = (-0.10, 0.45)
VENTRICLE_REACH = 26.0  # mm
SPLINE_DEVIATION = np.float32(0.4794**1.5)  # of a cubic B-spline in three dimensions with knots of deviation 1
SHARPNESS = (1.3, 2.2)
RIM = 2.0  # mm; over which the brain mask is blurred
STRIPPED = (0.6, 0.85)  # of the blurred mask: the brain begins 0.5 to 2 mm below the template's surface


@dataclass(frozen=True, eq=False)
class Grid:
    """Where voxels lie: shape (k, j, i) and affine from (i, j, k, 1) to RAS mm."""

    shape: tuple[int, int, int]
    ijk_to_ras: NDArray[np.float64]

    @property
    def spacing(self) -> NDArray[np.float64]:
        """Distance of voxel centres along i, j, k, mm."""
        return np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0)

    def offsets(self) -> Array:
        """Position of every voxel from the middle of the grid, (3, k, j, i), mm along R, A, S."""
        axes = [(np.arange(n) - (n - 1) / 2).astype(np.float32) for n in self.shape]
        k, j, i = np.meshgrid(*axes, indexing="ij", sparse=True)
        r = self.ijk_to_ras[:3, :3].astype(np.float32)
        return np.stack([r[n, 0] * i + r[n, 1] * j + r[n, 2] * k for n in range(3)])


def brats_grid(spacing: float = 1.0) -> Grid:
    """The grid of BraTS, 240×240×155 at 1 mm, or the same field of view at another spacing in mm."""
    k, j, i = (round(n / spacing) for n in BRATS_SHAPE)
    affine = np.diag([-spacing, -spacing, spacing, 1.0])
    affine[1, 3] = spacing * (j - 1)
    return Grid((k, j, i), affine)


@dataclass(eq=False)
class Anatomy:
    """A brain on a grid.

    Attributes
    ----------
    grid : Grid
    brain : ndarray of bool (k, j, i)
        What skull stripping leaves.
    fractions : dict of str to ndarray (N,)
        Share of "csf", "grey", "white" and disease in the N brain voxels, in the order of `brain`; their sum is 1.
    labels : ndarray of uint8 (k, j, i)
        Tumour, as BraTS labels it.
    lesions : ndarray of bool (k, j, i)
        White-matter lesions like those of multiple sclerosis.
    """

    grid: Grid
    brain: NDArray[np.bool_]
    fractions: dict[str, Array]
    labels: NDArray[np.uint8]
    lesions: NDArray[np.bool_]

    def replace(self, name: str, share: Array) -> None:
        """Let `share` (N,), 0 to 1, of every voxel become tissue `name`, at the cost of all others alike."""
        for other in self.fractions:
            self.fractions[other] = self.fractions[other] * (1 - share)
        self.fractions[name] = self.fractions.get(name, np.zeros_like(share)) + share


@functools.lru_cache(maxsize=1)
def _template() -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float64]]:
    """Grey, white and blurred brain maps (i, j, k), 0 to 255, at 1 mm, and the affine; all of it comes with nilearn."""
    from nilearn.datasets import load_mni152_gm_template, load_mni152_template, load_mni152_wm_template

    grey, white = (
        np.rint(np.asarray(load(resolution=1).dataobj) * 255).astype(np.uint8)
        for load in (load_mni152_gm_template, load_mni152_wm_template)
    )
    head = load_mni152_template(resolution=1)
    brain = ndimage.gaussian_filter(np.where(np.asarray(head.dataobj) > 0, np.uint8(255), np.uint8(0)), RIM)
    return grey, white, brain, np.asarray(head.affine, dtype=np.float64)


def smooth_field(grid: Grid, knots: float, rng: np.random.Generator) -> Array:
    """Random smooth field (k, j, i) of standard deviation 1: a cubic B-spline with a knot every so many mm.

    The numbers at the knots do not depend on the grid's spacing, so that a stream bends a coarse and a fine grid alike.
    """
    lengths = np.array(grid.shape) * grid.spacing[::-1]
    weights = [_spline(n, length, knots) for n, length in zip(grid.shape, lengths, strict=True)]
    field = rng.standard_normal([w.shape[1] for w in weights], dtype=np.float32) / SPLINE_DEVIATION
    for axis in range(3):
        field = np.moveaxis(np.tensordot(weights[axis], field, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(field)


def _spline(count: int, length: float, knots: float) -> Array:
    """Weights (count, knots) of uniform cubic B-splines at `count` places along `length` mm."""
    places = (np.arange(count) + 0.5) * (length / count) / knots
    number = math.ceil(length / knots) + 3
    distance = np.abs(places[:, None] - (np.arange(number) - 1)[None])
    inner = 2 / 3 - distance**2 + distance**3 / 2
    outer = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, inner, outer).astype(np.float32)


def bent(grid: Grid, rng: np.random.Generator) -> Array:
    """The place in the template, RAS mm, that every voxel shows, (3, k, j, i): turned, scaled and bent at random."""
    centre = _template_centre()
    angles = np.radians(rng.uniform(-TURN_DEGREES, TURN_DEGREES, 3))
    matrix = _rotation(angles) @ np.diag(1 / rng.uniform(*SIZE, 3))
    shift = rng.uniform(-SHIFT, SHIFT, 3)
    places = np.einsum("ab,bkji->akji", matrix.astype(np.float32), grid.offsets())
    places += (centre + shift).astype(np.float32)[:, None, None, None]
    for knots, deviation in BENDS:
        for axis in range(3):
            places[axis] += np.float32(deviation) * smooth_field(grid, knots, rng)
    away = places - np.array(VENTRICLES, np.float32)[:, None, None, None]
    return pulled(places, away, VENTRICLE_REACH, rng.uniform(*VENTRICLE_GROWTH))


def pulled(places: Array, away: Array, reach: float, strength: float) -> Array:
    """Places moved against `away`, which is their distance (3, k, j, i) from a point, most within `reach` of it.

    What is sampled closer to the point than it lies becomes larger; a strength below 1 never folds.
    """
    weight = np.float32(strength) * np.exp(np.square(away).sum(axis=0) * np.float32(-0.5 / reach**2))
    return places - weight * away


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    (a, b, c), (s, t, u) = np.cos(angles), np.sin(angles)
    x = np.array([[1, 0, 0], [0, a, -s], [0, s, a]])
    y = np.array([[b, 0, t], [0, 1, 0], [-t, 0, b]])
    z = np.array([[c, -u, 0], [u, c, 0], [0, 0, 1]])
    return np.asarray(x @ y @ z)


@functools.lru_cache(maxsize=1)
def _template_centre() -> NDArray[np.float64]:
    """Middle of the box around the template's brain, RAS mm."""
    *_, brain, affine = _template()
    ends = [np.flatnonzero(brain.any(axis=tuple(n for n in range(3) if n != axis)))[[0, -1]] for axis in range(3)]
    return np.asarray((affine @ (*np.mean(ends, axis=1), 1.0))[:3])


def sampled(grid: Grid, places: Array, sharpness: float, stripped: float) -> Anatomy:
    """The healthy brain at these places (3, k, j, i) of the template.

    Parameters
    ----------
    sharpness : float
        Power that every share is taken to: the maps are means of 152 people, and one person's borders are sharper.
    stripped : float
        Share of the blurred brain mask, 0 to 1, where skull stripping cuts.
    """
    grey, white, head, affine = _template()
    voxels = (
        places - affine[:3, 3].astype(np.float32)[:, None, None, None]
    )  # the template has 1 mm voxels along R, A, S
    brain = _linear(head, voxels) > 255 * stripped
    inside = voxels[:, brain]
    matter = {"grey": _linear(grey, inside) / 255, "white": _linear(white, inside) / 255}
    fractions = {"csf": np.clip(1 - matter["grey"] - matter["white"], 0, 1), **matter}
    sharp = {name: np.asarray(share ** np.float32(sharpness), np.float32) for name, share in fractions.items()}
    total = sum(sharp.values(), np.float32(0))
    return Anatomy(
        grid,
        brain,
        {name: share / total for name, share in sharp.items()},
        np.zeros(grid.shape, np.uint8),
        np.zeros(grid.shape, bool),
    )


def _linear(volume: NDArray[np.uint8], voxels: Array) -> Array:
    """Volume at voxel coordinates (3, ...), trilinear; 0 outside."""
    return np.asarray(ndimage.map_coordinates(volume, voxels, output=np.float32, order=1, prefilter=False))
