"""One declared scale per volume: 1000 is the 99.5th percentile of brain, 0 is background."""

from __future__ import annotations

import numpy as np
import pytest

from MRSynthLib.engine.intensity import PERCENTILE, SCALE, brain_scale, normalize, to_output


def test_the_scale_is_the_declared_percentile_of_brain() -> None:
    voxels = np.zeros((10, 10, 10))
    brain = np.zeros(voxels.shape, dtype=bool)
    brain[2:8] = True
    voxels[brain] = np.arange(600) + 1
    voxels[0] = 1e6  # bright, but not brain
    assert (PERCENTILE, SCALE) == (99.5, 1000)
    assert brain_scale(voxels, brain) == pytest.approx(np.percentile(np.arange(600) + 1, 99.5))


def test_zeros_and_negatives_inside_the_mask_do_not_count() -> None:
    voxels = np.concatenate([np.zeros(900), np.full(50, -5.0), np.arange(1, 51)]).reshape(10, 10, 10)
    assert brain_scale(voxels, np.ones(voxels.shape, dtype=bool)) == pytest.approx(
        np.percentile(np.arange(1, 51), 99.5)
    )


@pytest.mark.parametrize("value", [0, -3])
def test_without_brain_the_scale_is_1(value: int) -> None:
    voxels = np.full((5, 5, 5), value)
    assert brain_scale(voxels, np.ones(voxels.shape, dtype=bool)) == 1.0
    assert brain_scale(voxels, np.zeros(voxels.shape, dtype=bool)) == 1.0


def test_one_bright_vessel_does_not_darken_the_brain() -> None:
    voxels = np.full((10, 10, 10), 500.0)
    everywhere = np.ones(voxels.shape, dtype=bool)
    voxels[0, 0, :4] = 50_000  # 0.4 % of the brain
    assert brain_scale(voxels, everywhere) == 500.0


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_normalized_is_float32_from_0_to_1_and_leaves_the_source_alone(dtype: type) -> None:
    voxels = np.array([[[0, 50, 100, 200]]], dtype=dtype)
    before = voxels.copy()
    unit = normalize(voxels, 100.0)
    assert unit.dtype == np.float32
    assert unit.ravel().tolist() == [0.0, 0.5, 1.0, 1.0]
    assert np.array_equal(voxels, before)


def test_negatives_become_0() -> None:
    assert normalize(np.array([[[-100.0, -1e-9]]]), 10.0).tolist() == [[[0.0, 0.0]]]


def test_scaling_does_not_depend_on_scanner_units() -> None:
    voxels = np.random.default_rng(0).uniform(1, 1000, (8, 8, 8))
    brain = np.ones(voxels.shape, dtype=bool)
    units = [normalize(voxels * gain, brain_scale(voxels * gain, brain)) for gain in (1.0, 0.001, 37.5)]
    for unit in units[1:]:
        np.testing.assert_allclose(unit, units[0], rtol=1e-5)


def test_output_is_int16_rounded_and_clipped() -> None:
    unit = np.array([-0.1, 0.0, 0.0004, 0.0006, 0.5, 1.0, 1.7], dtype=np.float32)
    out = to_output(unit)
    assert out.dtype == np.int16
    assert out.tolist() == [0, 0, 0, 1, 500, 1000, 1000]


def test_every_output_value_survives_reading_it_again() -> None:
    values = np.arange(SCALE + 1)
    assert np.array_equal(to_output(normalize(values, SCALE)), values)
