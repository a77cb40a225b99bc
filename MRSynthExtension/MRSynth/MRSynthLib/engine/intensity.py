"""One scale per volume, declared: 1000 is the 99.5th percentile of brain, 0 is background.

The scale belongs to the volume, never to the slice, so that neighbouring slices keep their relation (no flicker).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

PERCENTILE = 99.5
SCALE = 1000
RULE = "per volume: value / 99.5th percentile of brain, clipped to [0, 1]; output x 1000 as int16"


def brain_scale(voxels: NDArray[Any], brain: NDArray[np.bool_]) -> float:
    """The intensity that becomes 1.0 (1000 in the output): the 99.5th percentile of brain voxels above zero.

    Parameters
    ----------
    voxels : ndarray, shape (k, j, i)
        Intensities in scanner units.
    brain : ndarray of bool, shape (k, j, i)
        Brain tissue, or an estimate of it.

    Returns
    -------
    float
        Above 0; 1.0 where no voxel qualifies.
    """
    tissue = voxels[brain & (voxels > 0)]
    return float(np.percentile(tissue, PERCENTILE)) if tissue.size else 1.0


def normalize(voxels: NDArray[Any], scale: float) -> NDArray[np.float32]:
    """Scanner units to [0, 1]: negatives to 0, division by `scale`, values above 1 to 1."""
    unit: NDArray[np.float32] = np.divide(voxels, np.float32(scale), dtype=np.float32)
    return np.clip(unit, 0.0, 1.0, out=unit)


def to_output(unit: NDArray[np.floating[Any]]) -> NDArray[np.int16]:
    """[0, 1] to the declared output scale, int16."""
    scaled = np.clip(unit, 0.0, 1.0)
    scaled *= SCALE
    return np.rint(scaled, out=np.empty(unit.shape, dtype=np.int16), casting="unsafe")
