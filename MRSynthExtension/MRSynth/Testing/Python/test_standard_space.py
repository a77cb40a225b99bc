"""From any grid to axial slices and back: nothing moves, nothing is mirrored, nothing is lost."""

from __future__ import annotations

import numpy as np
import pytest
from engine_helpers import axes_of, blob, centroid, grid, orthogonal_axes, rotated, sheared
from hypothesis import given, settings
from hypothesis import strategies as st

from MRSynthLib.engine.standard_space import FRAMES, Axis, StandardSpace, canonical_axes, interpolation_weights, plan
from MRSynthLib.engine.volume import Volume

RAS = axes_of("RAS")
ORTHOGONAL = dict(orthogonal_axes())
SOME_AXES = rotated(RAS, (12, -9, 17))
Spacing = tuple[float, float, float]
Shape = tuple[int, int, int]

# name: shape (k, j, i), spacing (i, j, k) in mm, unit axes
GRIDS: dict[str, tuple[Shape, Spacing, np.ndarray]] = {
    "oblique": ((20, 24, 28), (1, 1, 1), SOME_AXES),
    "left-handed oblique": ((20, 24, 28), (1, 1, 1), SOME_AXES * [1, 1, -1]),
    "anisotropic axial": ((9, 64, 56), (0.5, 0.5, 6), axes_of("LPS")),
    "anisotropic sagittal": ((9, 64, 56), (0.5, 0.5, 6), axes_of("PIR")),
    "anisotropic coronal": ((9, 64, 56), (0.5, 0.5, 6), axes_of("LIP")),
    "oblique anisotropic sagittal": ((9, 64, 56), (0.5, 0.5, 6), rotated(axes_of("PIR"), (5, 8, -11))),
    "thick 2-D": ((7, 40, 44), (0.9, 0.9, 8), rotated(axes_of("LPS"), (14, 0, 3))),
    "sub-millimetre": ((40, 44, 48), (0.7, 0.7, 0.7), axes_of("ASR")),
    "half a millimetre": ((48, 52, 44), (0.4, 0.5, 0.6), axes_of("RAS")),
    "coarse": ((12, 14, 10), (4.25, 4.25, 4.25), axes_of("RAS")),
    "non-cubic voxels": ((18, 26, 22), (1.3, 0.8, 2.1), axes_of("SLP")),
    "sheared": ((12, 40, 36), (0.8, 0.8, 4), sheared(axes_of("LPS"), 18)),
    "sheared left-handed": ((12, 40, 36), (0.8, 0.8, 4), sheared(axes_of("RPS"), -12)),
}


def on(name: str) -> Volume:
    shape, spacing, axes = GRIDS[name]
    return Volume(np.zeros(shape, dtype=np.float32), grid(shape, spacing, axes))


def planned(volume: Volume, frame: str = "native") -> StandardSpace:
    return plan(volume, np.ones(volume.shape, dtype=bool), frame)


def wide_blob(volume: Volume, centre: tuple[float, ...]) -> np.ndarray:
    """A blob that no grid of about 1 mm loses."""
    return blob(volume.shape, centre, tuple(max(1.3, 2.0 / mm) for mm in volume.spacing[::-1]))


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("spacing", [0.5, 0.7])
@pytest.mark.parametrize("first", [0, 60, 130])
def test_thin_slices_with_little_head_among_them(first: int, spacing: float, frame: str) -> None:
    """Whole bands of slices are outside of what the generator sees."""
    shape = (180, 20, 22)
    volume = Volume(np.zeros(shape, np.float32), grid(shape, (1, 1, spacing), axes_of("LPS")))
    foreground = np.zeros(shape, dtype=bool)
    foreground[first : first + 40, 3:-3, 3:-3] = True
    space = plan(volume, foreground, frame)
    back = space.to_input(space.to_model(foreground.astype(np.float32)))
    assert np.abs(back[first + 8 : first + 32, 8:-8, 8:-8] - 1).max() < 0.02
    assert not back[: max(0, first - 40)].any() and not back[first + 80 :].any()


# --- at 1 mm nothing is interpolated ------------------------------------------------------------------


@pytest.mark.parametrize("name", ORTHOGONAL)
def test_all_48_orientations_come_back_without_any_error(name: str) -> None:
    shape = (9, 21, 14)
    voxels = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    volume = Volume(voxels, grid(shape, (1, 1, 1), ORTHOGONAL[name]))
    space = planned(volume)
    assert np.array_equal(space.to_input(space.to_model(voxels)), voxels)


@pytest.mark.parametrize("name", ["oblique", "left-handed oblique"])
def test_oblique_grids_of_1_mm_come_back_without_any_error(name: str) -> None:
    volume = on(name)
    voxels = np.random.default_rng(1).normal(size=volume.shape).astype(np.float32)
    space = planned(volume)
    assert np.array_equal(space.to_input(space.to_model(voxels)), voxels)


def test_all_48_orientations_give_the_generator_the_same_slices() -> None:
    shape = (16, 16, 16)  # (S, P, L) of one and the same head
    head = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    reference = None
    for axes in ORTHOGONAL.values():
        affine = grid(shape, (1, 1, 1), axes)
        k, j, i = np.meshgrid(*(np.arange(size) for size in shape), indexing="ij")
        ras = affine[:3, :3] @ np.stack([i, j, k]).reshape(3, -1) + affine[:3, 3:]
        left, posterior, superior = np.rint(ras * [[-1], [-1], [1]] + 7.5).astype(int)
        voxels = head[superior, posterior, left].reshape(shape)
        slices = planned(Volume(voxels, affine)).to_model(voxels)
        reference = slices if reference is None else reference
        assert np.array_equal(slices, reference)


# --- on every grid ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("name", GRIDS)
def test_smooth_intensities_come_back_within_interpolation_error(name: str, frame: str) -> None:
    volume = on(name)
    voxels = sum(
        wide_blob(volume, tuple(part * (size - 1) for part, size in zip(parts, volume.shape, strict=True)))
        for parts in [(0.5, 0.5, 0.5), (0.3, 0.4, 0.6), (0.6, 0.7, 0.3)]
    )
    space = planned(volume, frame)
    back = space.to_input(space.to_model(voxels))
    assert back.shape == volume.shape
    assert np.abs(back - voxels).max() < 0.03 * voxels.max()


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("name", GRIDS)
def test_nothing_is_shifted(name: str, frame: str) -> None:
    volume = on(name)
    middle = tuple(size // 2 for size in volume.shape)
    voxels = wide_blob(volume, middle)
    space = planned(volume, frame)
    back = space.to_input(space.to_model(voxels))
    np.testing.assert_allclose(centroid(back), centroid(voxels), atol=0.005)  # voxels
    correlation = np.fft.ifftn(np.fft.fftn(voxels) * np.conj(np.fft.fftn(back))).real
    assert np.unravel_index(np.argmax(correlation), volume.shape) == (0, 0, 0)


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("name", GRIDS)
def test_a_mark_comes_back_at_its_voxel(name: str, frame: str) -> None:
    volume = on(name)
    mark = tuple(int(part * size) for part, size in zip((0.45, 0.35, 0.6), volume.shape, strict=True))
    space = planned(volume, frame)
    back = space.to_input(space.to_model(wide_blob(volume, mark)))
    assert np.unravel_index(np.argmax(back), volume.shape) == mark


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("name", [*GRIDS, "RAS", "PIL", "ILA"])
def test_slices_are_axial_with_anterior_up_and_the_patients_right_on_the_left(name: str, frame: str) -> None:
    volume = on(name) if name in GRIDS else Volume(np.zeros((20, 20, 20)), grid((20, 20, 20), (1, 1, 1), axes_of(name)))
    space = planned(volume, frame)
    from_ras = np.linalg.inv(volume.ijk_to_ras)
    reach = min((size - 1) * mm for size, mm in zip(volume.shape, volume.spacing[::-1], strict=True)) * 0.25

    def found_at(ras: tuple[float, float, float]) -> np.ndarray:
        """(slice, row, column) of a mark at a point of the patient."""
        i, j, k = from_ras[:3, :3] @ np.array(ras) * reach + from_ras[:3, 3]
        return centroid(np.maximum(space.to_model(wide_blob(volume, (k, j, i))), 0))

    middle = found_at((0, 0, 0))
    for point, axis, sign in [((0, 0, 1), 0, 1), ((0, 1, 0), 1, -1), ((1, 0, 0), 2, -1)]:
        step = found_at(point) - middle
        mm = np.array([along.spacing for along in space.model_axes]) * step
        assert np.argmax(np.abs(mm)) == axis, point
        assert np.sign(mm[axis]) == sign, point


@pytest.mark.parametrize("frame", FRAMES)
def test_what_the_slices_do_not_cover_is_0(frame: str) -> None:
    volume = Volume(np.ones((30, 70, 70), dtype=np.float32), np.eye(4))
    foreground = np.zeros(volume.shape, dtype=bool)
    foreground[10:20, 30:40, 30:40] = True
    space = plan(volume, foreground, frame)
    back = space.to_input(np.ones_like(space.to_model(volume.voxels)))
    assert (back[foreground] > 0.999).all()
    assert not back[:10].any()
    assert not back[20:].any()
    assert not back[:, :5].any()


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("name", GRIDS)
def test_what_is_not_looked_at_does_not_matter(name: str, frame: str) -> None:
    volume = on(name)
    space = planned(volume, frame)
    inside = blob(volume.shape, tuple(0.4 * n for n in volume.shape), tuple(0.12 * n for n in volume.shape)) > 0.3
    slices = np.random.default_rng(4).random([axis.size for axis in space.model_axes], dtype=np.float32)
    expected = space.to_input(slices)[inside]
    rows, columns = space.looked_at(inside)
    needed = rows[:, :, None] & columns[:, None, :]
    assert 0 < needed.sum() < needed.size
    np.testing.assert_allclose(space.to_input(np.where(needed, slices, np.float32(1e30)))[inside], expected, atol=1e-5)


# --- the frames ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GRIDS)
def test_native_frame_is_1_mm_in_plane_and_a_multiple_of_16(name: str) -> None:
    space = planned(on(name))
    _, rows, columns = space.model_axes
    assert rows.spacing == pytest.approx(1.0, abs=0.01)
    assert columns.spacing == pytest.approx(1.0, abs=0.01)
    assert rows.size % 16 == columns.size % 16 == 0


@pytest.mark.parametrize(("spacing", "kept"), [(0.995, True), (1.005, True), (0.98, False), (1.02, False)])
def test_pixels_of_nearly_1_mm_are_not_resampled(spacing: float, kept: bool) -> None:
    volume = Volume(np.zeros((6, 20, 22)), grid((6, 20, 22), (spacing, spacing, 3), axes_of("LPS")))
    _, rows, columns = planned(volume).model_axes
    assert (rows.spacing, columns.spacing) == pytest.approx((spacing if kept else 1.0,) * 2)


def test_native_frame_keeps_8_mm_of_surroundings() -> None:
    volume = Volume(np.zeros((30, 100, 100)), np.eye(4))
    foreground = np.zeros(volume.shape, dtype=bool)
    foreground[5:25, 40:60, 30:61] = True
    slices, rows, columns = plan(volume, foreground, "native").model_axes
    assert (slices.start, slices.size) == (5.0, 20)
    for axis, first, last in [(rows, 99 - 59, 99 - 40), (columns, 99 - 60, 99 - 30)]:  # to posterior, to left
        assert axis.centres[0] <= first - 8
        assert axis.centres[-1] >= last + 8


@pytest.mark.parametrize(("spacing", "used"), [(0.5, 1.0), (0.7, 1.0), (0.8, 0.8), (1.2, 1.2), (6.0, 6.0)])
def test_slices_are_taken_as_acquired_unless_very_thin(spacing: float, used: float) -> None:
    volume = Volume(np.zeros((20, 20, 20)), np.diag([1, 1, spacing, 1.0]))
    assert planned(volume).model_axes[0].spacing == pytest.approx(used)


def test_paper_frame_is_one_square_of_128_around_the_brain() -> None:
    volume = Volume(np.zeros((30, 90, 100)), np.diag([1.5, 1.5, 2, 1.0]))
    foreground = np.zeros(volume.shape, dtype=bool)
    foreground[:, 20:60, 30:80] = True
    _, rows, columns = plan(volume, foreground, "paper").model_axes
    side = 50 * 1.5 * 1.04  # the longer extent and 4 %
    for axis, size, first, last in [(rows, 90, 20, 59), (columns, 100, 30, 79)]:
        assert (axis.size, axis.spacing) == (128, pytest.approx(side / 128))
        middle = (size - 1 - (first + last) / 2) * 1.5
        assert axis.centres.mean() == pytest.approx(middle)


def test_empty_foreground_stands_for_the_whole_volume() -> None:
    volume = Volume(np.random.default_rng(0).normal(size=(8, 20, 20)).astype(np.float32), np.eye(4))
    space = plan(volume, np.zeros(volume.shape, dtype=bool), "native")
    assert np.array_equal(space.to_input(space.to_model(volume.voxels)), volume.voxels)


def test_unknown_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="panoramic"):
        planned(Volume(np.zeros((8, 8, 8)), np.eye(4)), "panoramic")


def test_canonical_axes_of_a_ras_grid() -> None:
    assert canonical_axes(np.eye(4)) == ((0, 1, 2), (False, True, True))


# --- interpolation -------------------------------------------------------------------------------------

any_axis = st.builds(
    Axis,
    size=st.integers(5, 60),
    spacing=st.floats(0.2, 8.0),
    start=st.floats(-20, 20),
)


@given(source=any_axis, target=any_axis)
@settings(max_examples=60, deadline=None)
def test_rows_of_weights_sum_to_1_inside_and_are_0_outside(source: Axis, target: Axis) -> None:
    weights = interpolation_weights(source, target)
    assert weights.shape == (target.size, source.size)
    position = (target.centres - source.start) / source.spacing
    far = (position < -0.501) | (position > source.size - 0.499)
    inside = (position > -0.499) & (position < source.size - 0.501)
    np.testing.assert_allclose(weights.sum(axis=1)[inside], 1.0, atol=1e-5)
    assert not weights[far].any()


@given(source=any_axis, share=st.floats(0.1, 1.0), offset=st.floats(0.0, 1.0))
@settings(max_examples=60, deadline=None)
def test_linear_ramps_are_exact_where_the_kernel_stays_inside(source: Axis, share: float, offset: float) -> None:
    """Onto a finer or equal grid; the kernel reaches two samples to either side."""
    spacing = source.spacing * share
    first = source.start + (2 + offset) * source.spacing
    last = source.start + (source.size - 3) * source.spacing
    size = int((last - first) / spacing) + 1
    if size < 1:
        return
    target = Axis(size, spacing, first)
    ramp = interpolation_weights(source, target).astype(np.float64) @ source.centres
    np.testing.assert_allclose(ramp, target.centres, atol=1e-4 * max(1.0, np.abs(source.centres).max()))


def test_the_same_samples_are_taken_over_as_they_are() -> None:
    axis = Axis(9, 1.5, 3.0)
    assert np.array_equal(interpolation_weights(axis, axis), np.eye(9, dtype=np.float32))


def test_coarser_grids_do_not_alias() -> None:
    source, target = Axis(120, 0.25), Axis(30, 1.0, 0.375)
    stripes = (np.arange(120) % 2).astype(np.float32)  # finer than the target can hold
    inner = (interpolation_weights(source, target) @ stripes)[3:-3]
    np.testing.assert_allclose(inner, 0.5, atol=0.05)


# --- any grid at all ------------------------------------------------------------------------------------


@given(
    shape=st.tuples(*[st.integers(5, 20)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 7.0)] * 3),
    degrees=st.tuples(*[st.floats(-180, 180)] * 3),
    lean=st.floats(-25, 25),
    mirrored=st.booleans(),
    frame=st.sampled_from(FRAMES),
)
@settings(max_examples=60, deadline=None)
def test_on_any_grid_a_constant_comes_back_everywhere(
    shape: Shape, spacing: Spacing, degrees: Spacing, lean: float, mirrored: bool, frame: str
) -> None:
    leaning = sheared(rotated(RAS, degrees), lean) * [1, 1, -1 if mirrored else 1]
    volume = Volume(np.ones(shape, dtype=np.float32), grid(shape, spacing, leaning))
    space = planned(volume, frame)
    slices = space.to_model(volume.voxels)
    assert slices.shape[1] % 16 == slices.shape[2] % 16 == 0
    assert slices.flags.c_contiguous
    assert slices.dtype == np.float32
    back = space.to_input(np.ones_like(slices))
    assert back.shape == shape
    np.testing.assert_allclose(back, 1.0, atol=1e-5)
