"""A user's mask, on any grid, looked up on the grid of a volume."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .checks import check_geometry
from .errors import InputError
from .volume import Volume

Mask = NDArray[np.bool_]


def mask_on_grid(mask: Volume, grid: Volume) -> Mask:
    """A mask on any grid, looked up (nearest neighbour) at the voxels of another grid.

    Parameters
    ----------
    mask : Volume
        Above 0 is inside.
    grid : Volume
        In the same patient space.

    Returns
    -------
    ndarray of bool, shape of `grid`
    """
    inside = mask.voxels > 0
    if mask.shape == grid.shape and np.allclose(mask.ijk_to_ras, grid.ijk_to_ras, atol=1e-4):
        return inside
    to_mask = np.linalg.inv(mask.ijk_to_ras) @ grid.ijk_to_ras
    size = np.array(mask.shape[::-1])
    k, j, i = grid.shape
    result = np.zeros(grid.shape, dtype=bool)
    jj, ii = np.meshgrid(np.arange(j), np.arange(i), indexing="ij")
    plane = to_mask[:3, 0, None, None] * ii + to_mask[:3, 1, None, None] * jj + to_mask[:3, 3, None, None]
    for slice_index in range(k):
        index = np.rint(plane + (to_mask[:3, 2] * slice_index)[:, None, None]).astype(np.int64)
        valid = np.all((index >= 0) & (index < size[:, None, None]), axis=0)
        x, y, z = index[:, valid]
        result[slice_index][valid] = inside[z, y, x]
    return result


def brain_mask(mask: Volume, grid: Volume) -> Mask:
    """A user's brain mask on the grid of the volume.

    Raises
    ------
    InputError
        mask-empty, mask-off-grid; input-affine or input-spacing where the mask has no place in space.
    """
    check_geometry(mask.ijk_to_ras, "The brain mask")
    if not (mask.voxels > 0).any():
        raise InputError("mask-empty", "The brain mask has no voxel above 0.", "a mask of the brain.")
    inside = mask_on_grid(mask, grid)
    if not inside.any():
        raise InputError("mask-off-grid", "The brain mask lies outside the volume.", "a mask in the same space.")
    return inside
