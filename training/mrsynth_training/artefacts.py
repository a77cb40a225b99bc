"""What a score of likeness does not see: flicker, tiling, sides, leakage, bias, blur, and a copy of the source.

Every measure is a number per volume. For the acquired reference itself most are 0 and sharpness is 1, so that
thresholds mean something; leakage is what the reference shows in the dark, and gain_over_source, 0 for a copy of the
source, is then at its highest. `evaluate` takes them as the protocol `artefacts`; `gate` holds checkpoints to them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrsynth_training import metrics
from mrsynth_training.pairs import Pair
from MRSynthLib.engine import standard_space
from MRSynthLib.engine.scores import psnr_of

PLANES = ("axial", "coronal", "sagittal")
PERIODS = (16, 32)  # pixels: the generators halve four times; a pattern of 2, 4 or 8 pixels is one of 16, too
NEIGHBOURS = (-3, -2, 2, 3)  # periods beside these, in which anatomy repeats itself as much
SMOOTH = 33  # pixels; what is wider is anatomy
DARK = 0.03  # of the 99.5th percentile of brain: air, and bone
FAR = 10.0  # mm from the brain
FINE, COARSE = 1.0, 3.0  # mm; details between these sizes are compared

Array = NDArray[Any]


def measures(pair: Pair, made: Array) -> metrics.Scores:
    """All artefact measures of one synthetic volume.

    Parameters
    ----------
    pair : Pair
    made : ndarray, shape (k, j, i)
        In [0, 1].

    Returns
    -------
    dict
        drift_axial, drift_coronal, drift_sagittal
            As protocol `drift`, in each plane.
        flicker_axial, flicker_coronal, flicker_sagittal
            See `flicker`.
        tiling, asymmetry, leakage
            See there. `leakage` is left out where there is no air to look at.
        bias
            Mean synthetic over mean reference intensity in the brain, less 1.
        sharpness
            See there; 1 for the reference.
        gain_over_source
            PSNR in the brain less that of the source taken for the result, in dB; 0 for a copy of the source.
    """
    true, brain, grid = pair.reference, pair.brain, pair.source
    found: metrics.Scores = {}
    for plane, name in enumerate(PLANES):
        drift = metrics.drift(true, made, brain, grid, plane)
        if drift:
            found[f"drift_{name}"] = drift["p95"]
        found |= flicker(true, made, pair, plane)
    found["tiling"] = tiling(made - true, pair)
    found["asymmetry"] = asymmetry(true, made, pair)
    found |= leakage(pair, made)
    found["bias"] = float(made[brain].mean() / true[brain].mean() - 1)
    found["sharpness"] = sharpness(true, made, pair)
    found["gain_over_source"] = _psnr(true, made, brain) - _psnr(true, pair.unit_source(), brain)
    return found


def _psnr(true: Array, made: Array, brain: Array) -> float:
    return psnr_of(float(np.mean((made[brain].astype(np.float64) - true[brain]) ** 2)))


def flicker(true: Array, made: Array, pair: Pair, plane: int) -> metrics.Scores:
    """How far a slice's brightness, against the reference's, sticks out from the mean of its two neighbours.

    Unlike `drift` it does not see a change that goes on over many slices. 95th percentile over the slices, relative;
    empty where there are no three neighbouring slices.
    """
    ratio, good = metrics.slice_ratios(true, made, pair.brain, pair.source, plane)
    level = np.log(np.maximum(ratio, 1e-3))
    inner = good[:-2] & good[1:-1] & good[2:]
    if not inner.any():
        return {}
    sticking_out = np.abs(level[1:-1] - (level[:-2] + level[2:]) / 2)[inner]
    return {f"flicker_{PLANES[plane]}": float(np.percentile(sticking_out, 95))}


def tiling(error: Array, pair: Pair) -> float:
    """Root mean square of the part of the error that repeats every 16 or 32 pixels of the generator's slices.

    The error is folded: averaged over all voxels of the brain that have the same place in a tile. Anatomy gives some of
    that in every period, so what neighbouring periods show is taken off. Both frames are looked at, the larger counts.

    Parameters
    ----------
    error : ndarray, shape (k, j, i)
        Synthetic less reference, in [-1, 1].
    pair : Pair

    Returns
    -------
    float
        0 to 1, in the intensity's own units.
    """
    largest = 0.0
    for frame in standard_space.FRAMES:
        space = standard_space.plan(pair.source, pair.brain, frame)
        mask = space.to_model(pair.brain.astype(np.float32))
        inside = mask > 0.5
        slices = space.to_model(np.where(pair.brain, error, 0).astype(np.float32))
        window = (1, SMOOTH, SMOOTH)
        mean = ndimage.uniform_filter(slices, window) / np.maximum(ndimage.uniform_filter(mask, window), 0.05)
        _, rows, columns = np.nonzero(inside)
        values = (slices - mean)[inside]
        for period in PERIODS:
            beside = np.median([_folded(values, rows, columns, period + step) for step in NEIGHBOURS])
            largest = max(largest, _folded(values, rows, columns, period) - float(beside))
    return float(np.sqrt(largest))


def _folded(values: Array, rows: Array, columns: Array, period: int) -> float:
    """Mean square over the places in a tile of the mean of what lies there."""
    place = rows % period * period + columns % period
    count = np.bincount(place, minlength=period**2)
    total = np.bincount(place, values, minlength=period**2)
    used = count > 0
    return float(np.average((total[used] / count[used]) ** 2, weights=count[used]))


def asymmetry(true: Array, made: Array, pair: Pair) -> float:
    """How much brighter the left half is than the right, against how much it is so in the reference; 0.1 is 10 %."""
    space = standard_space.plan(pair.source, pair.brain, "native")
    mask, reference, synthetic = (space.canonical(array) for array in (pair.brain, true, made))
    middle = int(round(float(np.nonzero(mask)[2].mean())))
    halves = [(mask[..., part], reference[..., part], synthetic[..., part]) for part in _sides(middle)]
    if not all(inside.any() for inside, *_ in halves):
        return 0.0
    right, left = (np.log(max(float(s[m].mean()), 1e-6) / max(float(r[m].mean()), 1e-6)) for m, r, s in halves)
    return float(abs(left - right))


def _sides(middle: int) -> tuple[slice, slice]:
    return slice(None, middle), slice(middle, None)


def leakage(pair: Pair, made: Array) -> metrics.Scores:
    """Mean brightness where there is nothing: 10 mm from the brain, where both acquired contrasts are dark."""
    away = ndimage.distance_transform_edt(~pair.brain, sampling=pair.source.spacing[::-1]) > FAR
    nothing = away & (pair.reference < DARK) & (pair.unit_source() < DARK)
    if pair.registered:  # 0 is what was not measured
        nothing &= pair.reference > 0
    return {"leakage": float(made[nothing].mean())} if nothing.any() else {}


def sharpness(true: Array, made: Array, pair: Pair) -> float:
    """How much of the reference's detail there is: ratio of the deviations of what lies between 1 and 3 mm, in plane.

    A little noise of the reference counts as detail, so a clean synthetic volume has less than 1.
    """
    space = standard_space.plan(pair.source, pair.brain, "native")
    brain = space.canonical(pair.brain)
    inner = ndimage.binary_erosion(brain, np.ones((1, 3, 3)), iterations=3)
    inner = inner if inner.any() else brain
    pixel = [axis.spacing for axis in space.input_axes[1:]]
    deviations = []
    for array in (true, made):
        image = np.where(brain, space.canonical(array), 0).astype(np.float32)
        band = _blurred(image, FINE, pixel) - _blurred(image, COARSE, pixel)
        deviations.append(float(band[inner].std()))
    return deviations[1] / max(deviations[0], 1e-6)


def _blurred(image: Array, width: float, pixel: list[float]) -> NDArray[np.float32]:
    sigma = (0.0, *(width / spacing for spacing in pixel))
    return np.asarray(ndimage.gaussian_filter(image, sigma), dtype=np.float32)
