"""A reliability map in a line and a short list: how much of the brain is in doubt, and where most."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from .intensity import SCALE
from .volume import Volume

OFF = 0.15  # of bright brain: what counts as off
REGIONS = 5
WORST = 98.0  # percentile of the brain's smoothed map, above which a region is suspicious
SMOOTHING = 2.0  # mm; single voxels are no region
LEAST_ML = 0.05


def trust(expected: Volume, brain: NDArray[np.bool_]) -> dict[str, Any]:
    """What the panel, the command line and the sidecar say about a map.

    Parameters
    ----------
    expected : Volume
        Expected absolute error, output units.
    brain : ndarray of bool, shape (k, j, i)
        Not empty.

    Returns
    -------
    dict
        summary (one line), share_above_15_percent (0 to 1), mean_expected_error, and regions: the largest connected
        parts of brain where the map, smoothed, is in its highest 2 %; each with centre_ras (mm; the voxel in it that
        is nearest to its centre), volume_ml and expected_error.
    """
    share = float(np.mean(expected.voxels[brain] > OFF * SCALE))
    percent = f"{100 * share:.0f} %" if share == 0 or share >= 0.01 else "Less than 1 %"
    return {
        "summary": f"{percent} of the brain is expected to be off by more than {100 * OFF:.0f} %",
        "share_above_15_percent": round(share, 4),
        "mean_expected_error": round(float(expected.voxels[brain].mean()), 1),
        "regions": _regions(expected, brain),
    }


def _regions(expected: Volume, brain: NDArray[np.bool_]) -> list[dict[str, Any]]:
    smooth = _smoothed(expected, brain)
    suspicious = brain & (smooth > np.percentile(smooth[brain], WORST))
    labels = sitk.RelabelComponent(sitk.ConnectedComponent(sitk.GetImageFromArray(suspicious.astype(np.uint8))))
    found = sitk.GetArrayViewFromImage(labels)
    ml = abs(float(np.linalg.det(expected.ijk_to_ras[:3, :3]))) / 1000
    regions = []
    for label in range(1, REGIONS + 1):
        voxels = np.argwhere(found == label)
        if len(voxels) * ml < LEAST_ML:
            break
        spacing = np.array(expected.spacing[::-1])
        nearest = voxels[np.argmin((((voxels - voxels.mean(axis=0)) * spacing) ** 2).sum(axis=1))]
        centre = expected.ijk_to_ras @ np.array([*nearest[::-1], 1.0])
        regions.append(
            {
                "centre_ras": [round(float(mm), 1) for mm in centre[:3]],
                "volume_ml": round(len(voxels) * ml, 2),
                "expected_error": round(float(expected.voxels[tuple(voxels.T)].mean()), 1),
            }
        )
    return regions


def _smoothed(expected: Volume, brain: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The map smoothed within the brain, what is around it left out."""

    def blurred(array: NDArray[np.float32]) -> NDArray[np.float32]:
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(expected.spacing)
        return np.asarray(sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(image, [SMOOTHING] * 3)))

    inside = brain.astype(np.float32)
    return blurred(expected.voxels * inside) / np.maximum(blurred(inside), np.float32(0.05))
