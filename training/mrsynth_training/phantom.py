"""Computed patients: for tests, for the demo study and for augmentation.

Tissue maps of the MNI152 template (part of nilearn; nothing is downloaded) are bent into one brain per seed
(`phantom_anatomy`), may fall ill (`phantom_disease`), and are scanned by the spin-echo equation (`phantom_physics`).
Whatever is learnt or measured with them says nothing about patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mrsynth_training import phantom_disease, phantom_physics
from mrsynth_training.phantom_anatomy import SHARPNESS, STRIPPED, Anatomy, Grid, bent, brats_grid, sampled, smooth_field
from MRSynthLib.engine.volume import Volume

BIAS_KNOTS = 60.0  # mm
CONTRASTS = ("t1", "t1ce", "t2", "flair")


@dataclass(frozen=True, eq=False)
class Phantom:
    """A computed patient; all volumes are on one grid.

    Attributes
    ----------
    t1, t1ce, t2, flair : Volume
        int16, skull-stripped: 0 outside the brain, above 0 inside.
    labels : Volume
        uint8, the tumour as BraTS labels it: 1 necrosis, 2 oedema, 4 enhancing.
    lesions : Volume
        uint8, 1 in white-matter lesions.
    tissue : Volume
        uint8, of which tissue a voxel holds most: 1 CSF, 2 grey matter, 3 white matter; 0 outside and where disease is.
    drawn : dict
        Field strength (T), TR, TE and TI (ms) of every contrast, T1, T2 (ms) and PD of every tissue.
    """

    t1: Volume
    t1ce: Volume
    t2: Volume
    flair: Volume
    labels: Volume
    lesions: Volume
    tissue: Volume
    drawn: dict[str, Any]


def subject(
    seed: int | Sequence[int], *, grid: Grid | None = None, tumour: bool = True, lesions: bool = False
) -> Phantom:
    """Compute one patient; the same seed gives the same one.

    Parameters
    ----------
    seed : int or sequence of int
        Shape, diseases and scanner draw from streams of their own: a disease changes nothing but what it touches.
    grid : Grid, optional
        By default that of BraTS, 240×240×155 at 1 mm.
    tumour, lesions : bool
        Whether there is a tumour, and whether there are white-matter lesions.
    """
    grid = grid or brats_grid()
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(4)]
    shape, growth, scattered, scanner = streams
    places = bent(grid, shape)
    look = shape.uniform(*SHARPNESS), shape.uniform(*STRIPPED)
    anatomy = sampled(grid, places, *look)
    if tumour:
        found = phantom_disease.draw_tumour(anatomy, growth)
        anatomy = sampled(grid, found.pushing(places, grid), *look)
        found.grow(anatomy, growth)
    if lesions:
        phantom_disease.add_lesions(anatomy, scattered)
    images, drawn = _scanned(anatomy, scanner)

    def volume(voxels: np.ndarray) -> Volume:
        return Volume(voxels, grid.ijk_to_ras)

    return Phantom(
        **{name: volume(voxels) for name, voxels in images.items()},
        labels=volume(anatomy.labels),
        lesions=volume(anatomy.lesions.astype(np.uint8)),
        tissue=volume(_tissue(anatomy)),
        drawn=drawn,
    )


def _tissue(anatomy: Anatomy) -> np.ndarray:
    names = ["csf", "grey", "white", *(n for n in anatomy.fractions if n not in ("csf", "grey", "white"))]
    largest = np.argmax([anatomy.fractions[name] for name in names], axis=0)
    classes = np.zeros(anatomy.grid.shape, np.uint8)
    classes[anatomy.brain] = np.where(largest < 3, largest + 1, 0)
    return classes


def _scanned(anatomy: Anatomy, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """int16 voxels (k, j, i) of every contrast, and what was drawn for them."""
    strength, tissues = phantom_physics.tissues(rng)
    scans = phantom_physics.scans(rng)
    enhanced = phantom_physics.with_gadolinium(
        tissues["enhancing"], strength, rng.uniform(*phantom_physics.CONCENTRATION)
    )
    images = {}
    for name, scan in scans.items():
        known = {**tissues, "enhancing": enhanced} if name == "t1ce" else tissues
        bias = smooth_field(anatomy.grid, BIAS_KNOTS, rng)[anatomy.brain]
        images[name] = np.zeros(anatomy.grid.shape, np.int16)
        images[name][anatomy.brain] = phantom_physics.scanned(
            phantom_physics.image(anatomy.fractions, known, scan), bias, rng
        )
    drawn = {
        "field_strength": strength,
        "scans": {name: {"tr": scan.tr, "te": scan.te, "ti": scan.ti} for name, scan in scans.items()},
        "tissues": {name: tissue._asdict() for name, tissue in tissues.items()},
    }
    return images, drawn
