"""PSNR, SSIM and MAE by the project's scoring protocol, version 1, on arrays.

Images are in [0, 1], background exactly 0, data range 1. `reference` is acquired, `synthetic` is used on its own
declared scale: neither is ever fitted to the other. PSNR and SSIM are those of `skimage.metrics` (7x7 window), which
3D Slicer does not ship; the tests hold them to it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import standard_space
from .volume import Volume

PROTOCOL_VERSION = 1
WINDOW = 7  # pixels, side of the SSIM window
C1, C2 = 0.01**2, 0.03**2  # SSIM's constants (Wang et al. 2004) at data range 1
HIGHEST_PSNR = 100.0  # dB; what identical images score, so that means stay finite
PAPER_SLICES = 81

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
    stacks = (np.clip(space.to_model(array)[chosen], 0, 1).astype(np.float64) for array in (reference, synthetic))
    pairs = [(true, made) for true, made in zip(*stacks, strict=True) if true.any()]
    psnr = [psnr_of(float(np.mean((made - true) ** 2))) for true, made in pairs]
    inner = slice(WINDOW // 2, -(WINDOW // 2))  # of the slice, only whole windows count
    ssim = [structural_similarity(true, made)[inner, inner].mean() for true, made in pairs]
    return {"psnr": float(np.mean(psnr)), "ssim": float(np.mean(ssim)), "slices": float(len(pairs))}


def ssim_map(reference: Array, synthetic: Array, grid: Volume) -> NDArray[np.float64]:
    """SSIM at every voxel, (k, j, i), from 7x7 windows in the axial plane: slices may be five times thicker."""
    space = standard_space.plan(grid, np.ones(grid.shape, dtype=bool), "native")
    result = np.zeros(grid.shape)
    views = (space.canonical(array) for array in (reference, synthetic))
    for true, made, out in zip(*views, space.canonical(result), strict=True):
        out[:] = structural_similarity(true, made)
    return result


def structural_similarity(reference: Array, synthetic: Array) -> NDArray[np.float64]:
    """SSIM at every pixel of two images, from a uniform window and the sample covariance (Wang et al. 2004, eq. 13).

    Parameters
    ----------
    reference, synthetic : ndarray, shape (rows, columns)
        In [0, 1]; mirrored at their borders, where the window reaches beyond.

    Returns
    -------
    ndarray, shape (rows, columns)
    """
    x, y = (np.asarray(image, dtype=np.float64) for image in (reference, synthetic))
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = _window_means(np.stack((x, y, x * x, y * y, x * y)))
    unbiased = WINDOW**2 / (WINDOW**2 - 1)
    variances = unbiased * (mean_xx + mean_yy - mean_x**2 - mean_y**2)
    covariance = unbiased * (mean_xy - mean_x * mean_y)
    brightness = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    result: NDArray[np.float64] = brightness * (2 * covariance + C2) / (variances + C2)
    return result


def _window_means(images: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the 7x7 window around every pixel of a stack of images, which are mirrored at their borders."""
    reach = WINDOW // 2
    for axis in (1, 2):
        size = images.shape[axis]
        width = [(0, 0)] * 3
        width[axis] = (reach, reach)
        mirrored = np.moveaxis(np.pad(images, width, mode="symmetric"), axis, 0)
        total = mirrored[:size].copy()
        for offset in range(1, WINDOW):
            total += mirrored[offset : offset + size]
        images = np.moveaxis(total, 0, axis) / WINDOW
    return images


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
