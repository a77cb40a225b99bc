"""Lesions to put into a brain: how large, of what, and where there is room for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrsynth_training.phantom_disease import within
from mrsynth_training.phantom_physics import CSF, Tissue, with_water

MILLILITRES = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
# Share of free water, from the centre to the border: of white-matter lesions like those of multiple sclerosis (as in
# `phantom_physics.WATER`), and of a tumour: necrotic core and solid border.
KINDS: dict[str, tuple[float, ...]] = {"faint": (0.35,), "medium": (0.5,), "strong": (0.7,), "tumour": (0.85, 0.4)}
LARGEST_MS = 2.0  # ml; larger ones are tumours, or oedema, which is as "medium"
NECROTIC = 0.6  # radius of a tumour's necrotic core over its own
EDGE = 0.12  # width of the border over the radius
SHELL = (2.0, 6.0)  # mm outside a lesion: what it is compared with
APART = 8.0  # mm between the borders of two lesions
HOST = 0.75  # share of a lesion's box that has to be white matter; the largest get less
HOST_LARGE = 0.45
PER_VOLUME = (20.0, 10.0, 5.0, 2.0, 2.0, 1.0, 1.0, 0.5, 0.5, 0.2, 0.2, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05)
NEIGHBOURHOOD = 1.6  # radii around a lesion in which its volume is measured

Mask = NDArray[np.bool_]
Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Lesion:
    """A lesion in a volume.

    Attributes
    ----------
    millilitres : float
    kind : str
        Of `KINDS`.
    box : tuple of 3 slice
        The part of the volume (k, j, i) that the arrays are of.
    shares : tuple of ndarray
        How much of each voxel is each part of `KINDS[kind]`, 0 to 1.
    core, shell, around : ndarray of bool
        The lesion; what surrounds it 2 to 6 mm away; and all within 1.6 radii, where its volume is measured.
    """

    millilitres: float
    kind: str
    box: tuple[slice, slice, slice]
    shares: tuple[Array, ...]
    core: Mask
    shell: Mask
    around: Mask


def radius_of(millilitres: float) -> float:
    """Radius in mm of a ball of that volume."""
    return float((millilitres * 1000 * 3 / (4 * np.pi)) ** (1 / 3))


def diseased(white: Tissue, share: float) -> Tissue:
    """What a lesion of that share of free water is made of."""
    return with_water(white, share) if share < 1 else CSF


def place(
    white: Mask, brain: Mask, spacing: tuple[float, float, float], rng: np.random.Generator, wanted: Sequence[float]
) -> list[Lesion]:
    """Find room in white matter for lesions, the largest first; those that find none are left out.

    Parameters
    ----------
    white, brain : ndarray of bool, shape (k, j, i)
    spacing : tuple of float
        Along k, j, i, mm.
    rng : Generator
    wanted : sequence of float
        Volumes in ml.
    """
    steps = np.array(spacing)
    placed: list[tuple[NDArray[Any], float]] = []
    lesions = []
    for number, millilitres in enumerate(sorted(wanted, reverse=True)):
        radius = radius_of(millilitres)
        sides = np.maximum(1, np.rint(1.6 * radius / steps)).astype(int)
        share = ndimage.uniform_filter(white.astype(np.float32), sides, mode="constant")
        room = white & (share > (HOST if millilitres <= LARGEST_MS else HOST_LARGE))
        for other, reach in placed:
            box = _box(other, reach + radius + APART, steps, white.shape)
            room[box] &= _distance(other, box, steps, np.eye(3)) > reach + radius + APART
        centres = np.flatnonzero(room)
        if centres.size:
            centre = np.array(np.unravel_index(rng.choice(centres), white.shape))
            lesions.append(_lesion(millilitres, _kind(millilitres, number), centre, brain, steps, rng))
            placed.append((centre, radius))
    return lesions


def _kind(millilitres: float, number: int) -> str:
    if millilitres > LARGEST_MS:
        return ("tumour", "medium")[number % 2]
    return ("faint", "medium", "strong")[number % 3]


def _lesion(
    millilitres: float, kind: str, centre: NDArray[Any], brain: Mask, steps: NDArray[Any], rng: np.random.Generator
) -> Lesion:
    radius = radius_of(millilitres)
    axes = rng.standard_normal((3, 3)) / 6 + np.diag(rng.uniform(0.8, 1.25, 3))
    axes /= abs(np.linalg.det(axes)) ** (1 / 3)  # an ellipsoid of the volume that was asked for
    box = _box(centre, 2 * radius + SHELL[1] + 1, steps, brain.shape)
    level = _distance(centre, box, steps, axes) / radius
    inside = brain[box]
    edge = max(EDGE, 0.35 * float(steps.min()) / radius)  # a border is not sharper than a voxel
    limits = (NECROTIC, 1.0) if kind == "tumour" else (1.0,)
    parts = [within(limit, level, edge / 2) * inside for limit in limits]
    shares = (parts[0], parts[1] * (1 - parts[0])) if kind == "tumour" else (parts[0],)
    core = (parts[-1] > 0.5) & inside
    away = ndimage.distance_transform_edt(~core, sampling=steps)
    shell = (away >= SHELL[0]) & (away <= SHELL[1]) & inside
    return Lesion(millilitres, kind, box, shares, core, shell, (level <= NEIGHBOURHOOD) & inside)


def _box(centre: NDArray[Any], reach: float, steps: NDArray[Any], shape: Sequence[int]) -> tuple[slice, slice, slice]:
    sides = np.ceil(reach / steps).astype(int)
    k, j, i = (
        slice(max(0, int(c - s)), min(int(n), int(c + s) + 1)) for c, s, n in zip(centre, sides, shape, strict=True)
    )
    return k, j, i


def _distance(
    centre: NDArray[Any], box: tuple[slice, slice, slice], steps: NDArray[Any], axes: NDArray[Any]
) -> NDArray[Any]:
    """Distance from the centre after a linear change, mm."""
    places = [(np.arange(part.start, part.stop) - c) * step for part, c, step in zip(box, centre, steps, strict=True)]
    away = np.stack(np.meshgrid(*places, indexing="ij"))
    return np.asarray(np.sqrt(np.square(np.einsum("ab,bkji->akji", axes, away)).sum(axis=0)))
