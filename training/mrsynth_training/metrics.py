"""The scores of the project's protocol, version 1 (see training/README.md), as functions of arrays.

`paper` and `brain` are the engine's, so that a user's volume and a checkpoint's card are scored by the same code;
what only training needs stands here. Images are in [0, 1], background exactly 0, data range 1. `reference` is
acquired, `synthetic` is used on its own declared scale: neither is ever fitted to the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from skimage.registration import phase_cross_correlation

from MRSynthLib.engine import standard_space
from MRSynthLib.engine.scores import HIGHEST_PSNR, PROTOCOL_VERSION, Scores, paper, paper_slices, ssim_map, within
from MRSynthLib.engine.volume import Volume

__all__ = [
    "HIGHEST_PSNR",
    "PROTOCOL_VERSION",
    "Scores",
    "drift",
    "paper",
    "paper_slices",
    "rim",
    "shift",
    "slice_ratios",
    "ssim_map",
    "summary",
    "within",
]

RIM_MM = 5.0
LEAST_AREA = 0.1  # slices with less brain than this share of the largest one are left out of `drift`
UPSAMPLING = 20  # `shift` is found to 1/20 voxel

Array = NDArray[Any]
Mask = NDArray[np.bool_]


def rim(lesion: Mask, brain: Mask, spacing: tuple[float, float, float]) -> Mask:
    """Brain within 5 mm of a lesion, without the lesion; `spacing` along (i, j, k) in mm."""
    distance = distance_transform_edt(~lesion, sampling=spacing[::-1])
    result: Mask = (distance > 0) & (distance <= RIM_MM) & brain
    return result


def drift(reference: Array, synthetic: Array, brain: Mask, grid: Volume, plane: int = 0) -> Scores:
    """Protocol `drift`: how much the brightness changes from one slice to the next.

    Per slice, the ratio of the mean synthetic to the mean reference intensity in the brain; per pair of neighbouring
    slices, its absolute change; of these, the 95th percentile. Slices with next to no brain, whose mean is noise, are
    left out.

    Parameters
    ----------
    reference, synthetic : ndarray, shape (k, j, i)
    brain : ndarray of bool, shape (k, j, i)
    grid : Volume
    plane : {0, 1, 2}
        Of the slices: axial (the protocol's), coronal or sagittal.

    Returns
    -------
    dict
        p95, pairs (how many); empty where there are no two neighbouring slices.
    """
    ratio, good = slice_ratios(reference, synthetic, brain, grid, plane)
    changes = np.abs(np.diff(ratio))[good[1:] & good[:-1]]
    if not changes.size:
        return {}
    return {"p95": float(np.percentile(changes, 95)), "pairs": float(changes.size)}


def slice_ratios(
    reference: Array, synthetic: Array, brain: Mask, grid: Volume, plane: int
) -> tuple[NDArray[np.float64], Mask]:
    """Mean synthetic over mean reference intensity in the brain of every slice, and which slices count."""
    space = standard_space.plan(grid, brain, "native")
    across = tuple({0, 1, 2} - {plane})
    true, made, mask = (space.canonical(array) for array in (reference, synthetic, brain))
    area = mask.sum(axis=across)
    true_sum, made_sum = ((array * mask).sum(axis=across, dtype=np.float64) for array in (true, made))
    good = (area > LEAST_AREA * area.max()) & (true_sum > 0)
    return made_sum / np.where(good, true_sum, 1), good


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
