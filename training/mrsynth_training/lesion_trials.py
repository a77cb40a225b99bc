"""The same brain with and without lesions, in the source and in the truth.

Phantoms: both contrasts are computed with and without, so the truth is exact. Real volumes: white matter is made
brighter or darker by the factor that the spin-echo equation gives for the lesion against white matter, in the source
and in the reference alike. And lesions that are there are painted over in the source.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrsynth_training import lesion_sites, phantom_physics
from mrsynth_training.lesion_sites import KINDS, Lesion, Mask
from mrsynth_training.pairs import Pair
from mrsynth_training.phantom import BIAS_KNOTS
from mrsynth_training.phantom_anatomy import SHARPNESS, STRIPPED, Anatomy, bent, brats_grid, sampled, smooth_field
from MRSynthLib.engine import intensity
from MRSynthLib.engine.volume import Volume

PERIODS = {"t1": phantom_physics.Scan(tr=525, te=13), "t2": phantom_physics.Scan(tr=5000, te=97)}  # the usual ones
FIELD = 3.0  # T
PAINT = 4.0  # mm; how far the surroundings reach into a lesion that is painted over
LEAST_REAL = 0.05  # ml; smaller parts of a lesion mask are not looked at

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Trial:
    """One brain twice, in one direction of synthesis; all (k, j, i) on one grid.

    Attributes
    ----------
    name : str
    contrast : {"t1", "t2"}
        Of the source.
    healthy, ill : Volume
        The source without and with the lesions.
    healthy_truth, ill_truth : ndarray
        The target contrast in [0, 1].
    brain : ndarray of bool
    lesions : list of Lesion
    """

    name: str
    contrast: str
    healthy: Volume
    ill: Volume
    healthy_truth: Array
    ill_truth: Array
    brain: Mask
    lesions: list[Lesion]

    @property
    def direction(self) -> str:
        """As in the results of `evaluate`."""
        return f"{self.contrast}_to_{'t2' if self.contrast == 't1' else 't1'}"


def phantoms(seed: int, spacing: float = 1.0) -> list[Trial]:
    """A computed patient, in both directions.

    Parameters
    ----------
    seed : int
        The same seed gives the same patient and lesions.
    spacing : float
        mm.
    """
    grid = brats_grid(spacing)
    shape, sites, scanner = (np.random.default_rng(s) for s in np.random.SeedSequence((seed, 5)).spawn(3))
    healthy = sampled(grid, bent(grid, shape), shape.uniform(*SHARPNESS), shape.uniform(*STRIPPED))
    white = np.zeros(grid.shape, bool)
    white[healthy.brain] = healthy.fractions["white"] > 0.7
    steps = grid.spacing[::-1]
    lesions = lesion_sites.place(
        white, healthy.brain, (float(steps[0]), float(steps[1]), float(steps[2])), sites, lesion_sites.PER_VOLUME
    )
    ill = _with(healthy, lesions)
    _, tissues = phantom_physics.tissues(scanner)
    tissues |= {_name(water): lesion_sites.diseased(tissues["white"], water) for w in KINDS.values() for water in w}
    scans = phantom_physics.scans(scanner)
    images = {name: _scanned(healthy, ill, tissues, scans[name], scanner) for name in ("t1", "t2")}
    trials = []
    for contrast, target in (("t1", "t2"), ("t2", "t1")):
        before, after = (Volume(voxels, grid.ijk_to_ras) for voxels in images[contrast][0])
        truth, changed = images[target][1]
        trials.append(Trial(f"phantom {seed}", contrast, before, after, truth, changed, healthy.brain, lesions))
    return trials


def _name(water: float) -> str:
    return f"water {water:g}"


def _with(healthy: Anatomy, lesions: list[Lesion]) -> Anatomy:
    ill = copy.copy(healthy)
    ill.fractions = dict(healthy.fractions)
    for lesion in lesions:
        for water, share in zip(KINDS[lesion.kind], lesion.shares, strict=True):
            # One after the other, so what the second part takes of a voxel is taken of what the first has left.
            whole = np.zeros(healthy.grid.shape, np.float32)
            whole[lesion.box] = share
            ill.replace(_name(water), whole[healthy.brain])
    return ill


def _scanned(
    healthy: Anatomy,
    ill: Anatomy,
    tissues: dict[str, phantom_physics.Tissue],
    scan: phantom_physics.Scan,
    rng: np.random.Generator,
) -> tuple[list[NDArray[np.int16]], list[Array]]:
    """Scans without and with the lesions, with one noise and one bias field, and the truths, which have neither."""
    bias = smooth_field(healthy.grid, BIAS_KNOTS, rng)[healthy.brain]
    seed = rng.integers(2**32)
    signals = [phantom_physics.image(anatomy.fractions, tissues, scan) for anatomy in (healthy, ill)]
    scale = float(np.percentile(signals[0], intensity.PERCENTILE))
    scans, truths = [], []
    for signal in signals:
        voxels = np.zeros(healthy.grid.shape, np.int16)
        voxels[healthy.brain] = phantom_physics.scanned(signal, bias, np.random.default_rng(seed))
        truth = np.zeros(healthy.grid.shape, np.float32)
        truth[healthy.brain] = np.clip(signal / scale, 0, 1)
        scans.append(voxels)
        truths.append(truth)
    return scans, truths


def inserted(pair: Pair, seed: int = 0) -> Trial:
    """Lesions in a real volume: both contrasts of white matter change by what the spin-echo equation says.

    Parameters
    ----------
    pair : Pair
    seed : int
    """
    rng = np.random.default_rng((seed, 7))
    white = white_matter(pair)
    if pair.lesion is not None:
        white &= ~ndimage.binary_dilation(pair.lesion, iterations=4)
    k, j, i = pair.source.spacing[::-1]
    lesions = lesion_sites.place(white, pair.brain, (k, j, i), rng, lesion_sites.PER_VOLUME)
    target = "t2" if pair.contrast == "t1" else "t1"
    source, truth = pair.source.voxels.astype(np.float32), pair.reference.copy()
    for lesion in lesions:
        for contrast, array in ((pair.contrast, source), (target, truth)):
            array[lesion.box] *= _factor(lesion, contrast)
    return Trial(
        pair.subject, pair.contrast, pair.source, pair.source.replaced(source), pair.reference, np.clip(truth, 0, 1),
        pair.brain, lesions,
    )  # fmt: skip


def _factor(lesion: Lesion, contrast: str) -> Array:
    """What the signal of white matter is multiplied with, (k, j, i) of the lesion's box."""
    first, second = phantom_physics.PUBLISHED[FIELD]
    white = phantom_physics.Tissue(
        *(float(np.mean(pair)) for pair in zip(first["white"], second["white"], strict=True))
    )
    scan = PERIODS[contrast]
    factor = np.ones_like(lesion.shares[0])
    for water, share in zip(KINDS[lesion.kind], lesion.shares, strict=True):
        factor += share * (scan.signal(lesion_sites.diseased(white, water)) / scan.signal(white) - 1)
    return factor


def white_matter(pair: Pair) -> Mask:
    """Where white matter surely is: bright in T1, dark in T2, 6 mm from the brain's surface."""
    unit = {pair.contrast: pair.unit_source(), "t2" if pair.contrast == "t1" else "t1": pair.reference}
    t1, t2 = (
        ndimage.gaussian_filter(unit[name], [0.8 / s for s in pair.source.spacing[::-1]]) for name in ("t1", "t2")
    )
    deep = ndimage.distance_transform_edt(pair.brain, sampling=pair.source.spacing[::-1]) > 6
    bright = t1 > np.percentile(t1[pair.brain], 55)
    dark = t2 < np.percentile(t2[pair.brain], 45)
    return np.asarray(deep & bright & dark)


def removed(pair: Pair) -> Trial | None:
    """The subject's own lesions, painted over in the source; None where there are none that are large enough."""
    if pair.lesion is None:
        return None
    labels, count = ndimage.label(pair.lesion)
    steps = np.array(pair.source.spacing[::-1])
    lesions = []
    for number, box in enumerate(ndimage.find_objects(labels, count), start=1):
        reach = np.ceil((lesion_sites.SHELL[1] + 1) / steps).astype(int)
        wide = tuple(slice(max(0, p.start - r), p.stop + r) for p, r in zip(box, reach, strict=True))
        core = labels[wide] == number
        millilitres = float(core.sum() * np.prod(steps) / 1000)
        if millilitres < LEAST_REAL:
            continue
        away = ndimage.distance_transform_edt(~core, sampling=steps)
        free = pair.brain[wide] & ~pair.lesion[wide]
        shell = (away >= lesion_sites.SHELL[0]) & (away <= lesion_sites.SHELL[1]) & free
        around = (away <= lesion_sites.SHELL[1]) & (free | core)
        if shell.any():
            k, j, i = wide
            lesions.append(Lesion(millilitres, "own", (k, j, i), (), core, shell, around))
    if not lesions:
        return None
    painted = _painted(pair)
    return Trial(
        pair.subject, pair.contrast, pair.source.replaced(painted), pair.source, pair.reference, pair.reference,
        pair.brain, lesions,
    )  # fmt: skip


def _painted(pair: Pair) -> Array:
    """The source with white matter from around where its lesions are."""
    assert pair.lesion is not None
    steps = pair.source.spacing[::-1]
    hidden = ndimage.binary_dilation(pair.lesion, iterations=1) & pair.brain
    source = pair.source.voxels.astype(np.float32)
    good = (white_matter(pair) & ~hidden).astype(np.float32)
    total, weight = np.zeros_like(source), np.zeros_like(source)
    for width in (PAINT, 3 * PAINT):  # from further away, where nothing is near
        sigma = [width / s for s in steps]
        near = ndimage.gaussian_filter(good, sigma)
        missing = weight < 1e-3
        total[missing] = ndimage.gaussian_filter(good * source, sigma)[missing]
        weight[missing] = near[missing]
    fill = total / np.maximum(weight, 1e-6)
    return np.where(hidden & (weight > 1e-6), fill, source).astype(np.float32)
