"""The scores of the project's protocol, version 1 (see training/README.md), as functions of arrays.

Images are in [0, 1], background exactly 0, data range 1. `reference` is acquired, `synthetic` is used on its own
declared scale: neither is ever fitted to the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from skimage.registration import phase_cross_correlation

from MRSynthLib.engine import standard_space
from MRSynthLib.engine.volume import Volume

PROTOCOL_VERSION = 1
WINDOW = 7  # pixels, side of the SSIM window
HIGHEST_PSNR = 100.0  # dB; what identical images score, so that means stay finite
PAPER_SLICES = 81
RIM_MM = 5.0
LEAST_AREA = 0.1  # slices with less brain than this share of the largest one are left out of `drift`
UPSAMPLING = 20  # `shift` is found to 1/20 voxel

Array = NDArray[Any]
Mask = NDArray[np.bool_]
Scores = dict[str, float]


def psnr_of(mean_squared_error: float) -> float:
    """PSNR in dB at data range 1, at most `HIGHEST_PSNR`."""
    return float(min(HIGHEST_PSNR, -10 * np.log10(max(mean_squared_error, 1e-30))))


def paper_slices(volume: Volume, brain: Mask) -> tuple[standard_space.StandardSpace, slice]:
    """Where `paper` looks: the subject's one brain square at 128x128, and the 81 axial slices about its middle.

    Parameters
    ----------
    volume : Volume
        The grid.
    brain : ndarray of bool, shape (k, j, i)

    Returns
    -------
    StandardSpace
        Its slices are those with brain.
    slice
        Which of them count: 81 centred on the brain's extent, or all, if fewer.
    """
    space = standard_space.plan(volume, brain, "paper")
    count = space.model_axes[0].size
    first = max(0, count // 2 - PAPER_SLICES // 2)
    return space, slice(first, min(count, first + PAPER_SLICES))


def paper(reference: Array, synthetic: Array, brain: Mask, grid: Volume) -> Scores:
    """Protocol `paper`: PSNR and SSIM per axial slice of 128x128 pixels, full frame, mean over the slices.

    Parameters
    ----------
    reference, synthetic : ndarray, shape (k, j, i)
    brain : ndarray of bool, shape (k, j, i)
        Lays the square.
    grid : Volume
        The grid of the three.

    Returns
    -------
    dict
        psnr (dB), ssim, slices (how many were scored: those with some reference).
    """
    space, chosen = paper_slices(grid, brain)
    stacks = (np.clip(space.to_model(array)[chosen], 0, 1) for array in (reference, synthetic))
    pairs = [(true, made) for true, made in zip(*stacks, strict=True) if true.any()]
    with np.errstate(divide="ignore"):  # identical slices: infinite, then capped
        psnr = [min(HIGHEST_PSNR, peak_signal_noise_ratio(true, made, data_range=1)) for true, made in pairs]
    ssim = [structural_similarity(true, made, win_size=WINDOW, data_range=1) for true, made in pairs]
    return {"psnr": float(np.mean(psnr)), "ssim": float(np.mean(ssim)), "slices": float(len(pairs))}


def ssim_map(reference: Array, synthetic: Array, grid: Volume) -> NDArray[np.float64]:
    """SSIM at every voxel, (k, j, i), from 7x7 windows in the axial plane: slices may be five times thicker."""
    space = standard_space.plan(grid, np.ones(grid.shape, dtype=bool), "native")
    result = np.zeros(grid.shape)
    views = (space.canonical(array) for array in (reference, synthetic))
    for true, made, out in zip(*views, space.canonical(result), strict=True):
        out[:] = structural_similarity(true, made, win_size=WINDOW, data_range=1, full=True)[1]
    return result


def within(reference: Array, synthetic: Array, mask: Mask, similarity: Array) -> Scores:
    """Protocol `brain` (and `lesion`) inside a mask.

    Parameters
    ----------
    reference, synthetic : ndarray, shape (k, j, i)
    mask : ndarray of bool, shape (k, j, i)
        At least one voxel.
    similarity : ndarray, shape (k, j, i)
        From `ssim_map`.

    Returns
    -------
    dict
        psnr (dB) of all the mask's voxels together, ssim (the map's mean), mae, bias (mean of synthetic - reference),
        voxels.
    """
    difference = synthetic[mask].astype(np.float64) - reference[mask]
    return {
        "psnr": psnr_of(float(np.mean(difference**2))),
        "ssim": float(similarity[mask].mean()),
        "mae": float(np.abs(difference).mean()),
        "bias": float(difference.mean()),
        "voxels": float(np.count_nonzero(mask)),
    }


def rim(lesion: Mask, brain: Mask, spacing: tuple[float, float, float]) -> Mask:
    """Brain within 5 mm of a lesion, without the lesion; `spacing` along (i, j, k) in mm."""
    distance = distance_transform_edt(~lesion, sampling=spacing[::-1])
    result: Mask = (distance > 0) & (distance <= RIM_MM) & brain
    return result


def drift(reference: Array, synthetic: Array, brain: Mask, grid: Volume) -> Scores:
    """Protocol `drift`: how much the brightness flickers from one axial slice to the next.

    Per slice, the ratio of the mean synthetic to the mean reference intensity in the brain; per pair of neighbouring
    slices, its absolute change; of these, the 95th percentile. Slices with next to no brain, whose mean is noise, are
    left out.

    Returns
    -------
    dict
        p95, pairs (how many); empty where there are no two neighbouring slices.
    """
    space = standard_space.plan(grid, brain, "native")
    true, made, mask = (space.canonical(array) for array in (reference, synthetic, brain))
    area = mask.sum(axis=(1, 2))
    true_sum, made_sum = ((array * mask).sum(axis=(1, 2), dtype=np.float64) for array in (true, made))
    good = (area > LEAST_AREA * area.max()) & (true_sum > 0)
    ratio = made_sum / np.where(good, true_sum, 1)
    changes = np.abs(np.diff(ratio))[good[1:] & good[:-1]]
    if not changes.size:
        return {}
    return {"p95": float(np.percentile(changes, 95)), "pairs": float(changes.size)}


def shift(source: Array, synthetic: Array, mask: Mask) -> Scores:
    """Protocol `shift`: offset of the synthetic from its source in voxels, by phase correlation.

    Of the gradients' magnitudes, not of the intensities: T1 and T2 of one scan, acquired in place, seem up to 1 voxel
    apart by their intensities (bright is dark in the other), and at most 0.1 by their edges.

    Parameters
    ----------
    source, synthetic : ndarray, shape (k, j, i)
    mask : ndarray of bool, shape (k, j, i)
        What to look at; its bounding box is compared.

    Returns
    -------
    dict
        voxels (length of the offset), k, j, i; to 1/20 voxel.
    """
    filled = (np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3))
    box = tuple(slice(int(found[0]), int(found[-1]) + 1) for found in filled)
    if min(mask[box].shape) < 2 or not synthetic[box].any():
        return {}
    edges = (_edges(array[box]) for array in (source, synthetic))
    offset = phase_cross_correlation(*edges, upsample_factor=UPSAMPLING)[0]
    k, j, i = (-float(n) + 0.0 for n in offset)  # what was returned would move it back
    return {"voxels": float(np.linalg.norm(offset)), "k": k, "j": j, "i": i}


def _edges(array: Array) -> NDArray[np.float32]:
    parts = np.gradient(array.astype(np.float32))
    result: NDArray[np.float32] = np.sqrt(sum(part**2 for part in parts))
    return result


def summary(values: list[float]) -> Scores:
    """Mean, median and quartiles over subjects."""
    quarter, median, three_quarters = np.percentile(values, (25, 50, 75))
    return {
        "mean": float(np.mean(values)),
        "median": float(median),
        "q1": float(quarter),
        "q3": float(three_quarters),
        "subjects": float(len(values)),
    }
