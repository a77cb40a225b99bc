"""Registration of one contrast to the other: where it ends, and that it ends there every time."""

from __future__ import annotations

import numpy as np
import pytest

from mrsynth_training.registration import register_rigid
from MRSynthLib.engine.volume import Volume


@pytest.fixture
def pair(brain) -> tuple[Volume, Volume, np.ndarray]:
    """T1, its T2 with an affine that is 3 mm off, and the T2 as it should lie."""
    t1, t2, _ = brain(5)
    off = t2.ijk_to_ras.copy()
    off[:3, 3] += (3.0, -2.0, 1.0)
    return t1, Volume(t2.voxels, off, name="t2"), np.asarray(t2.voxels, np.float32)


def test_it_finds_the_place_and_is_the_same_every_time(pair: tuple[Volume, Volume, np.ndarray]) -> None:
    t1, moved, truth = pair
    first, covered = register_rigid(t1, moved)
    again, _ = register_rigid(t1, moved)
    np.testing.assert_allclose(again, first, atol=1e-2)
    inside = covered & (truth > 0)
    before = np.asarray(moved.voxels, np.float32)
    assert np.corrcoef(first[inside], truth[inside])[0, 1] > 0.9
    assert np.abs(first - truth)[inside].mean() < 0.5 * np.abs(np.roll(before, 3, axis=2) - truth)[inside].mean()
