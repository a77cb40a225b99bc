"""Closing gives ITK's voxels."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from MRSynthLib.engine.morphology import closed


@pytest.mark.parametrize("share", [0.02, 0.15, 0.5, 0.9])
@pytest.mark.parametrize("radii", [(1, 1, 1), (3, 3, 3), (4, 4, 4), (2, 4, 3), (3, 8, 8), (8, 2, 1)])
def test_the_same_voxels_as_itk(radii: tuple[int, int, int], share: float) -> None:
    mask = np.random.default_rng(5).random((19, 23, 31)) < share
    mask[:3, :5, -4:] = True  # an object at the border
    by_itk = sitk.BinaryMorphologicalClosing(sitk.GetImageFromArray(mask.astype(np.uint8)), radii[::-1])
    assert np.array_equal(closed(mask, radii), sitk.GetArrayFromImage(by_itk) > 0)


def test_the_mask_is_left_as_it_is() -> None:
    mask = np.random.default_rng(5).random((9, 9, 9)) < 0.3
    before = mask.copy()
    closed(mask, (2, 2, 2))
    assert np.array_equal(mask, before)
