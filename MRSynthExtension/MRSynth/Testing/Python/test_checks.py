"""Each refusal of `checked`, by code, and what is cleaned instead of refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from MRSynthLib.engine.checks import MAX_LABELS, MAX_VOXELS, check_geometry, check_size, checked
from MRSynthLib.engine.errors import ERRORS, FAMILIES, Cancelled, InputError
from MRSynthLib.engine.volume import Volume


def volume(voxels: np.ndarray, affine: np.ndarray | None = None) -> Volume:
    return Volume(voxels, np.eye(4) if affine is None else affine, name="patient")


def grey(shape: tuple[int, ...] = (8, 9, 10), dtype: type = np.int16) -> np.ndarray:
    return (np.arange(np.prod(shape)).reshape(shape) % 251).astype(dtype)


def scaled(*spacing: float) -> np.ndarray:
    return np.diag([*spacing, 1.0])


def flat_axes() -> np.ndarray:
    affine = np.eye(4)
    affine[:3, 2] = affine[:3, 0] + affine[:3, 1]
    return affine


def with_nan() -> np.ndarray:
    affine = np.eye(4)
    affine[1, 3] = np.nan
    return affine


REFUSED: dict[str, tuple[str, Callable[[], Volume]]] = {
    "a picture": ("input-not-3d", lambda: volume(grey((20, 20)))),
    "a time series": ("input-not-3d", lambda: volume(grey((3, 8, 9, 10)))),
    "one slice": ("input-not-3d", lambda: volume(grey((1, 20, 20)))),
    "no voxels": ("input-empty", lambda: volume(np.zeros((0, 9, 10)))),
    "four slices": ("input-too-few-slices", lambda: volume(grey((4, 20, 20)))),
    "four columns": ("input-too-few-slices", lambda: volume(grey((20, 20, 4)))),
    "colours": ("input-color", lambda: volume(np.zeros((8, 9, 10), dtype=[("r", "u1"), ("g", "u1"), ("b", "u1")]))),
    "complex": ("input-color", lambda: volume(grey().astype(np.complex64))),
    "labels": ("input-label-map", lambda: volume(grey() % MAX_LABELS)),
    "a yes-or-no mask": ("input-label-map", lambda: volume(grey() > 100)),
    "zeros": ("input-empty", lambda: volume(np.zeros((8, 9, 10)))),
    "negatives only": ("input-empty", lambda: volume(grey() - 1000.0)),
    "a constant": ("input-constant", lambda: volume(np.full((8, 9, 10), 3.5))),
    "nothing but NaN": ("input-not-finite", lambda: volume(np.full((8, 9, 10), np.nan))),
    "nothing but infinity": ("input-not-finite", lambda: volume(np.full((8, 9, 10), np.inf))),
    "spacing of 0": ("input-spacing", lambda: volume(grey(), scaled(1, 1, 0))),
    "spacing of a metre": ("input-spacing", lambda: volume(grey(), scaled(1000, 1, 1))),
    "spacing in metres": ("input-spacing", lambda: volume(grey(), scaled(0.001, 0.001, 0.001))),
    "axes in one plane": ("input-affine", lambda: volume(grey(), flat_axes())),
    "affine with NaN": ("input-affine", lambda: volume(grey(), with_nan())),
    "affine of 3 x 3": ("input-affine", lambda: volume(grey(), np.eye(3))),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    code, make = REFUSED[name]
    with pytest.raises(InputError) as caught:
        checked(make())
    assert caught.value.code == code
    assert "patient" in str(caught.value)  # which volume


def test_gigantic_sizes_are_refused_from_the_header_alone() -> None:
    with pytest.raises(InputError) as caught:
        check_size((30_000, 30_000, 30_000), "'scan'")
    assert caught.value.code == "input-too-large"
    assert f"{MAX_VOXELS:,}" in str(caught.value)
    check_size((512, 512, 2048), "'scan'")


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_every_usual_type_of_voxel_is_taken_as_it_is(dtype: type) -> None:
    source = volume(grey(dtype=dtype))
    cleaned, warnings = checked(source)
    assert np.array_equal(cleaned.voxels, source.voxels)
    assert warnings == []


def test_floats_with_few_values_are_no_labels() -> None:
    """A smooth phantom may well hold few values; only whole numbers are taken for labels."""
    checked(volume((grey() % 4).astype(np.float32)))


def test_an_image_of_few_but_more_values_than_labels_is_taken() -> None:
    checked(volume(grey() % (MAX_LABELS + 1)))


def test_voxels_that_are_not_finite_are_cleaned_with_a_warning_and_the_input_is_left_alone() -> None:
    voxels = grey(dtype=np.float32)
    voxels[0, 0, :2] = np.nan, -np.inf
    source = volume(voxels)
    cleaned, warnings = checked(source)
    assert cleaned.voxels[0, 0, :2].tolist() == [0, 0]
    assert np.array_equal(cleaned.voxels[1:], voxels[1:])
    assert "2 voxels" in warnings[0]
    assert np.isnan(source.voxels[0, 0, 0])


def test_ct_is_warned_of() -> None:
    _, warnings = checked(volume(grey().astype(np.int16) * 8 - 1000))
    assert "CT" in warnings[0]


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.5, 0.5, 6), (-1, -1, 3), (0.1, 20, 5)])
def test_ordinary_spacings_pass_left_handed_too(spacing: tuple[float, float, float]) -> None:
    check_geometry(scaled(*spacing), "'scan'")


def test_a_tilted_gantry_passes() -> None:
    affine = scaled(0.5, 0.5, 5)
    affine[1, 2] = 2.0
    check_geometry(affine, "'scan'")


# --- the errors themselves -------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ERRORS)
def test_every_error_says_what_was_seen_what_was_expected_and_what_to_do(code: str) -> None:
    family = FAMILIES[ERRORS[code].family]
    error = family() if family is Cancelled else family(code, "This was seen.", "that.")
    assert error.code == code
    assert all(part in str(error) for part in (error.seen, error.expected, ERRORS[code].remedy))
    assert 3 <= error.exit_code <= 8


def test_an_undocumented_code_cannot_be_raised() -> None:
    with pytest.raises(KeyError):
        InputError("input-too-boring", "It is boring.", "something else.")
