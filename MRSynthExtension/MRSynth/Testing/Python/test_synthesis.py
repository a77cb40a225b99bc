"""The whole way of a volume: same grid, same background, same voxels in every run, and every warning said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from engine_helpers import axes_of, grid, moved, orthogonal_axes, rotated, save_untrained, small_head
from torch import Tensor, nn

from MRSynthLib.engine import memory
from MRSynthLib.engine.checkpoint import read_card
from MRSynthLib.engine.errors import DeviceError, InputError
from MRSynthLib.engine.intensity import SCALE, to_output
from MRSynthLib.engine.preparation import Window
from MRSynthLib.engine.synthesis import Progress, Synthesizer
from MRSynthLib.engine.volume import Volume


class StandIn(nn.Module):
    """In a generator's place: a function of the slice itself, so that the way there and back can be seen."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, window: Window) -> Tensor:
        return self.function(x[:, x.shape[1] // 2, None])


class LittleMemory(nn.Module):
    """In a device's place: runs out of memory with more than so many slices."""

    def __init__(self, generator: nn.Module, slices: int) -> None:
        super().__init__()
        self.generator = generator
        self.slices = slices

    def forward(self, x: Tensor, window: Window) -> Tensor:
        if len(x) > self.slices:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return self.generator(x, window)


@pytest.fixture
def untrained(tiny_checkpoint: Path) -> Synthesizer:
    """A real, tiny generator on one CPU thread."""
    return one_thread(Synthesizer(tiny_checkpoint, device="cpu", precision="fp32"))


@pytest.fixture
def identity(untrained: Synthesizer) -> Synthesizer:
    """What goes in comes out."""
    untrained._generator = StandIn(lambda x: x)
    return untrained


def one_thread(synthesizer: Synthesizer) -> Synthesizer:
    synthesizer.device = replace(synthesizer.device, threads=1)
    return synthesizer


def normalized(volume: Volume) -> np.ndarray:
    """What an identity generator must give for a skull-stripped volume: the declared output scale."""
    tissue = volume.voxels[volume.voxels > 0]
    return to_output(np.clip(volume.voxels / np.float32(np.percentile(tissue, 99.5)), 0, 1).astype(np.float32))


# --- the result -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "target"), [("t1", "t2"), ("t2", "t1")])
def test_one_set_of_weights_works_in_both_directions(source: str, target: str, untrained: Synthesizer) -> None:
    volume = small_head(source)
    result = untrained.synthesize(volume)
    assert (result.source_contrast, result.target_contrast) == (source, target)
    assert result.contrast_reason
    assert result.volume.voxels.any()
    for asked in (untrained.synthesize(volume, target), untrained.synthesize(volume, source=source)):
        assert asked.contrast_reason == "as told"
        assert np.array_equal(asked.volume.voxels, result.volume.voxels)


def test_result_lies_on_the_grid_of_the_source_as_int16(phantom_t1: Volume, untrained: Synthesizer) -> None:
    header = object()
    volume = replace(phantom_t1, header=header)
    result = untrained.synthesize(volume).volume
    assert result.voxels.dtype == np.int16
    assert result.shape == volume.shape
    assert np.array_equal(result.ijk_to_ras, volume.ijk_to_ras)
    assert result.header is header
    assert 0 <= result.voxels.min() < result.voxels.max() <= 1000


def test_background_of_exact_zeros_stays_exactly_0(untrained: Synthesizer) -> None:
    untrained._generator = StandIn(lambda x: torch.full_like(x, 0.7))  # would paint over everything
    volume = replace(small_head(), ijk_to_ras=grid((12, 30, 26), (0.8, 0.9, 3), rotated(axes_of("LPS"), (9, 8, 7))))
    result = untrained.synthesize(volume, source="t1").volume.voxels
    assert not result[volume.voxels == 0].any()
    assert (result[volume.voxels > 0] == 700).all()


def test_the_source_is_left_as_it_is(untrained: Synthesizer) -> None:
    volume = small_head()
    volume.voxels.setflags(write=False)
    before = volume.voxels.copy()
    untrained.synthesize(volume, cycle=True)
    assert np.array_equal(volume.voxels, before)


@pytest.mark.parametrize("name", [name for name, _ in orthogonal_axes()][::5])
def test_an_identity_generator_gives_the_source_in_output_units(name: str, identity: Synthesizer) -> None:
    volume = small_head(axes=axes_of(name))
    assert np.array_equal(identity.synthesize(volume, source="t1").volume.voxels, normalized(volume))


def test_a_marked_voxel_is_marked_in_the_result(identity: Synthesizer) -> None:
    volume = small_head()
    voxels = volume.voxels.copy()
    voxels[5, 11, 9] = 20  # darker than any tissue
    result = identity.synthesize(volume.replaced(voxels), source="t1").volume.voxels
    darkest = np.argmin(np.where(volume.voxels > 0, result, 1000))
    assert np.unravel_index(darkest, result.shape) == (5, 11, 9)


def test_scaling_is_per_volume_so_that_slices_do_not_flicker(identity: Synthesizer) -> None:
    """One tissue that fades from slice to slice keeps its fading: no slice is stretched to its own maximum."""
    volume = small_head()
    fading = np.linspace(1.0, 0.4, volume.shape[0])
    voxels = np.where(volume.voxels > 0, 600 * fading[:, None, None], 0)
    means = [
        float(plane[inside].mean())
        for plane, inside in zip(
            identity.synthesize(volume.replaced(voxels), source="t1").volume.voxels, voxels > 0, strict=True
        )
        if inside.any()
    ]
    shown = fading[(voxels > 0).any(axis=(1, 2))]
    np.testing.assert_allclose(np.array(means) / means[0], shown / shown[0], atol=0.003)


def test_scanner_units_do_not_matter(untrained: Synthesizer) -> None:
    volume = small_head()
    reference = untrained.synthesize(volume).volume.voxels.astype(int)
    other = untrained.synthesize(volume.replaced(volume.voxels.astype(np.float64) * 0.0317)).volume.voxels
    assert np.abs(other - reference).max() <= 1


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_the_cpu_gives_the_same_bits_in_every_run(precision: str, tiny_checkpoint: Path) -> None:
    synthesizers = [Synthesizer(tiny_checkpoint, "cpu", precision) for _ in range(2)]
    runs = [synthesizer.synthesize(small_head()).volume.voxels for synthesizer in synthesizers]
    assert runs[0].tobytes() == runs[1].tobytes()


def test_what_auto_takes_on_the_cpu_is_as_good_as_fp32(untrained: Synthesizer, tiny_checkpoint: Path) -> None:
    automatic, exact = (
        synthesizer.synthesize(small_head()).volume.voxels.astype(float)
        for synthesizer in (one_thread(Synthesizer(tiny_checkpoint, "cpu")), untrained)
    )
    assert exact.std() > 1  # something is there to be compared
    assert np.square((automatic - exact) / SCALE).mean() < 1e-5  # 50 dB


def test_the_result_says_how_it_came_about(tiny_checkpoint: Path, untrained: Synthesizer) -> None:
    result = untrained.synthesize(small_head())
    assert (result.checkpoint_name, len(result.checkpoint_sha256)) == ("tiny-untrained", 64)
    assert (result.device.device, result.device.precision) == ("cpu", "fp32")
    assert set(result.stage_seconds) == {"prepare", "synthesize", "restore"}
    assert sum(result.stage_seconds.values()) <= result.seconds
    assert result.cycle is None
    assert result.warnings == ()


@pytest.mark.parametrize("frame", ["native", "paper"])
def test_the_frame_is_that_of_the_card(frame: str, tiny_checkpoint: Path, tmp_path: Path) -> None:
    path = save_untrained(tmp_path / "model.safetensors", {**read_card(tiny_checkpoint), "frame": frame})
    synthesizer = one_thread(Synthesizer(path, device="cpu"))
    sizes = []
    synthesizer._generator = StandIn(lambda x: sizes.append(tuple(x.shape[2:])) or x)
    synthesizer.synthesize(small_head(), source="t1")
    assert set(sizes) == {(128, 128) if frame == "paper" else (48, 48)}


def test_neighbouring_slices_are_given_where_the_card_says_so(tiny_checkpoint: Path, tmp_path: Path) -> None:
    path = save_untrained(tmp_path / "model.safetensors", read_card(tiny_checkpoint), in_channels=3)
    synthesizer = one_thread(Synthesizer(path, device="cpu"))
    volume = small_head()
    assert synthesizer.synthesize(volume).volume.voxels.any()

    class Below(nn.Module):
        def forward(self, x: Tensor, window: Window) -> Tensor:
            return x[:, :1]

    synthesizer._generator = Below()
    result = synthesizer.synthesize(volume, source="t1").volume.voxels  # RAS: slice k sees slice k - 1
    expected = np.roll(normalized(volume), 1, axis=0)
    both = (volume.voxels > 0) & (np.roll(volume.voxels, 1, axis=0) > 0)
    both[0] = False
    assert np.array_equal(result[both], expected[both])


def test_a_slice_at_the_end_is_its_own_neighbour(tiny_checkpoint: Path, tmp_path: Path) -> None:
    path = save_untrained(tmp_path / "model.safetensors", read_card(tiny_checkpoint), in_channels=3)
    synthesizer, seen = one_thread(Synthesizer(path, device="cpu", precision="fp32")), []
    synthesizer._generator = lambda x, window: seen.append(x.numpy()) or x[:, 1:2]
    slices = np.arange(5, dtype=np.float32)[:, None, None] * np.ones((1, 16, 16), np.float32)
    synthesizer.forward(slices, np.array([0, 2, 4]))
    assert seen[0][:, :, 0, 0].tolist() == [[0, 0, 1], [1, 2, 3], [3, 4, 4]]


# --- the cycle --------------------------------------------------------------------------------------------


def test_the_cycle_of_an_identity_is_0(identity: Synthesizer) -> None:
    volume = small_head()
    cycle = identity.synthesize(volume, source="t1", cycle=True).cycle
    assert cycle is not None
    assert cycle.voxels.dtype == np.int16
    assert np.array_equal(cycle.ijk_to_ras, volume.ijk_to_ras)
    assert not cycle.voxels.any()


def test_the_cycle_is_the_difference_to_going_there_and_back(untrained: Synthesizer) -> None:
    untrained._generator = StandIn(lambda x: x / 2)
    volume = small_head()
    result = untrained.synthesize(volume, source="t1", cycle=True)
    assert result.cycle is not None
    np.testing.assert_allclose(result.cycle.voxels, normalized(volume) * 0.75, atol=1)
    assert "cycle" in result.stage_seconds


def test_the_cycle_does_not_change_the_result(untrained: Synthesizer) -> None:
    with_cycle, without = (untrained.synthesize(small_head(), cycle=cycle) for cycle in (True, False))
    assert np.array_equal(with_cycle.volume.voxels, without.volume.voxels)


# --- masks ------------------------------------------------------------------------------------------------


def half(volume: Volume) -> np.ndarray:
    mask = np.zeros(volume.shape, dtype=np.uint8)
    mask[:, :, : volume.shape[2] // 2] = 1
    return mask


def test_outside_of_the_mask_the_result_is_0(untrained: Synthesizer) -> None:
    volume = small_head()
    untrained._generator = StandIn(lambda x: torch.full_like(x, 0.5))
    result = untrained.synthesize(volume, source="t1", mask=volume.replaced(half(volume))).volume.voxels
    tissue = volume.voxels > 0
    assert np.array_equal(result[tissue] > 0, half(volume)[tissue] > 0)
    assert not result[half(volume) == 0].any()


def test_exact_zeros_stay_0_inside_of_a_generous_mask(untrained: Synthesizer) -> None:
    volume = small_head()
    untrained._generator = StandIn(lambda x: torch.full_like(x, 0.5))
    everything = volume.replaced(np.ones(volume.shape, dtype=np.uint8))
    result = untrained.synthesize(volume, source="t1", mask=everything).volume.voxels
    assert np.array_equal(result > 0, volume.voxels > 0)


def test_a_mask_on_another_grid_marks_the_same_place(untrained: Synthesizer) -> None:
    volume = small_head()
    untrained._generator = StandIn(lambda x: torch.full_like(x, 0.5))
    fine = np.repeat(half(volume), 2, axis=2)  # twice the columns of half the width, turned round
    affine = volume.ijk_to_ras @ np.diag([0.5, 1, 1, 1])
    affine[:3, 3] = (volume.ijk_to_ras @ [-0.25, 0, 0, 1])[:3]
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = fine.shape[2] - 1
    result = untrained.synthesize(volume, source="t1", mask=Volume(fine[:, :, ::-1], affine @ flip)).volume.voxels
    tissue = volume.voxels > 0
    assert np.array_equal(result[tissue] > 0, half(volume)[tissue] > 0)
    assert not result[half(volume) == 0].any()


def test_the_mask_sets_the_scale(identity: Synthesizer) -> None:
    volume = small_head()
    voxels = volume.voxels.astype(np.int32)
    voxels[:, :, 13:] *= 5  # bright, and outside of the mask
    result = identity.synthesize(volume.replaced(voxels), source="t1", mask=volume.replaced(half(volume)))
    tissue = voxels[(half(volume) > 0) & (voxels > 0)]
    assert result.volume.voxels[5, 15, 4] == pytest.approx(1000 * voxels[5, 15, 4] / np.percentile(tissue, 99.5), abs=1)


@pytest.mark.parametrize(
    ("mask", "code"),
    [
        (lambda volume: volume.replaced(half(volume) * 0), "mask-empty"),
        (lambda volume: moved(volume.replaced(half(volume)), (0, 0, 900)), "mask-off-grid"),
    ],
)
def test_masks_that_mark_nothing_are_refused(
    mask: Callable[[Volume], Volume], code: str, untrained: Synthesizer
) -> None:
    with pytest.raises(InputError) as caught:
        untrained.synthesize(small_head(), mask=mask(small_head()))
    assert caught.value.code == code


# --- progress ---------------------------------------------------------------------------------------------


def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CPU_PIXELS", 2 * 48 * 48)


@pytest.mark.parametrize("cycle", [False, True])
def test_progress_grows_from_0_to_1_and_the_last_step_has_the_result(
    cycle: bool, untrained: Synthesizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_batches(monkeypatch)
    steps = list(untrained.steps(small_head(), cycle=cycle))
    fractions = [step.fraction for step in steps]
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert fractions == sorted(fractions)
    assert len(steps) > 6
    assert [step.result is not None for step in steps] == [False] * (len(steps) - 1) + [True]
    stages = list(dict.fromkeys(step.stage for step in steps))
    assert stages == ["prepare", "synthesize", *(["cycle"] if cycle else []), "restore"]
    assert all(step.seconds_left is None or step.seconds_left >= 0 for step in steps)


def test_a_run_given_up_half_way_does_not_disturb_the_next(
    untrained: Synthesizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_batches(monkeypatch)
    reference = untrained.synthesize(small_head()).volume.voxels
    given_up = untrained.steps(small_head("t2"))
    for step in given_up:
        if step.fraction > 0.4:
            break
    given_up.close()
    assert np.array_equal(untrained.synthesize(small_head()).volume.voxels, reference)


def test_a_step_is_no_longer_than_a_few_slices(untrained: Synthesizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two steps a run can be stopped."""
    small_batches(monkeypatch)
    sizes = []
    untrained._generator = StandIn(lambda x: sizes.append(len(x)) or x)
    steps = list(untrained.steps(small_head(), source="t1"))
    assert max(sizes) == 2
    assert len([step for step in steps if step.stage == "synthesize"]) == len(sizes)


def test_empty_slices_cost_nothing(untrained: Synthesizer) -> None:
    seen = []
    untrained._generator = StandIn(lambda x: seen.append(len(x)) or x)
    volume = small_head()
    voxels = volume.voxels.copy()
    voxels[5] = 0
    untrained.synthesize(volume.replaced(voxels), source="t1")
    assert sum(seen) == np.count_nonzero(voxels.any(axis=(1, 2)))


@pytest.mark.parametrize(
    ("shape", "spacing", "turn"),
    [
        ((12, 30, 26), (1.0, 1.0, 1.0), (0, 0, 0)),
        ((12, 30, 26), (1.7, 2.1, 3.0), (9, 8, 7)),
        ((30, 26, 12), (1.3, 3.4, 0.5), (80, 0, 0)),
    ],
)
def test_pixels_that_the_result_is_not_made_from_need_not_be_right(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    turn: tuple[float, float, float],
    untrained: Synthesizer,
) -> None:
    class Hidden(nn.Module):
        """Gives what the generator gives, and a huge number outside of the window."""

        def __init__(self, network: Callable[[Tensor, Window | None], Tensor]) -> None:
            super().__init__()
            self.network = network
            self.left_out = 0

        def forward(self, x: Tensor, window: Window) -> Tensor:
            everywhere = self.network(x, None)
            rows, columns = (slice(*span) for span in window)
            result = torch.full_like(everywhere, 1e30)
            result[:, :, rows, columns] = everywhere[:, :, rows, columns]
            self.left_out += int((result != everywhere).sum())
            return result

    head = small_head()
    voxels = np.resize(head.voxels, shape)
    volume = Volume(np.pad(voxels, 9), grid(tuple(n + 18 for n in shape), spacing, rotated(axes_of("PSR"), turn)))
    expected = untrained.synthesize(volume, source="t1", cycle=True)
    hidden = Hidden(untrained._generator)
    untrained._generator = hidden
    result = untrained.synthesize(volume, source="t1", cycle=True)
    assert hidden.left_out > 0
    for made, right in ((result.volume, expected.volume), (result.cycle, expected.cycle)):
        assert made is not None
        assert right is not None
        assert right.voxels.any()
        assert np.abs(made.voxels.astype(int) - right.voxels).max() <= 1


# --- out of memory ----------------------------------------------------------------------------------------


def test_out_of_memory_goes_on_with_fewer_slices_and_says_so(untrained: Synthesizer) -> None:
    reference = untrained.synthesize(small_head()).volume.voxels
    untrained._generator = LittleMemory(untrained._generator, slices=3)
    steps = list(untrained.steps(small_head()))
    result = steps[-1].result
    assert result is not None
    assert np.abs(result.volume.voxels.astype(int) - reference).max() <= 1
    said = [step.message for step in steps if step.message]
    assert said
    assert tuple(said) == result.warnings
    assert all("Out of memory on cpu" in message for message in said)


def test_when_not_even_one_slice_fits_the_run_ends_with_a_device_error(untrained: Synthesizer) -> None:
    untrained._generator = LittleMemory(untrained._generator, slices=0)
    with pytest.raises(DeviceError) as caught:
        untrained.synthesize(small_head())
    assert caught.value.code == "device-out-of-memory"


def pretend_gpu(untrained: Synthesizer, monkeypatch: pytest.MonkeyPatch, slices: int) -> list[int]:
    """Let `untrained` run as on a GPU with memory for so many slices; the list that is filled with its batches."""
    batches: list[int] = []
    on_cpu = untrained.forward

    def forward(stack: np.ndarray, chunk: np.ndarray, window: Window) -> np.ndarray:
        device = untrained.device
        if device.device == "cpu":
            return on_cpu(stack, chunk, window)
        if len(chunk) > slices:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        batches.append(len(chunk))
        untrained.device = replace(device, device="cpu")
        try:
            return on_cpu(stack, chunk, window)
        finally:
            untrained.device = device

    monkeypatch.setattr(untrained, "forward", forward)
    untrained.device = replace(untrained.device, device="cuda:0", precision="bf16")
    for name, answer in {
        "reset_peak_memory_stats": None,
        "memory_allocated": 500,  # the weights
        "max_memory_allocated": 500 + 100,  # and one slice
        "empty_cache": None,
        "mem_get_info": (round(100 * (slices + 0.5) / memory.GPU_SHARE), 1 << 40),
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer: answer)
    return batches


def test_on_a_gpu_the_first_slice_shows_how_many_fit(untrained: Synthesizer, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = untrained.synthesize(small_head()).volume.voxels
    batches = pretend_gpu(untrained, monkeypatch, slices=4)
    result = untrained.synthesize(small_head())
    assert batches == [1, 4, 4, 1]  # 10 slices with tissue
    assert not result.warnings
    assert np.abs(result.volume.voxels.astype(int) - reference).max() <= 1


def test_a_gpu_without_memory_for_one_slice_leaves_the_rest_to_the_cpu(
    untrained: Synthesizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = untrained.synthesize(small_head()).volume.voxels
    pretend_gpu(untrained, monkeypatch, slices=0)
    on_gpu = untrained._generator
    result = untrained.synthesize(small_head())
    assert untrained._generator is not on_gpu  # made anew where it is used now
    assert (result.device.device, result.device.precision) == ("cpu", "fp32")
    assert "Out of memory on cuda:0" in result.device.reason
    assert "on the CPU" in result.warnings[-1]
    assert np.abs(result.volume.voxels.astype(int) - reference).max() <= 1


def test_other_errors_of_the_device_are_not_taken_for_memory(untrained: Synthesizer) -> None:
    def broken(x: Tensor) -> Tensor:
        raise RuntimeError("device-side assert triggered")

    untrained._generator = StandIn(broken)
    with pytest.raises(RuntimeError, match="device-side assert"):
        untrained.synthesize(small_head(), source="t1")


# --- warnings and refusals --------------------------------------------------------------------------------


def first_message(steps: list[Progress]) -> str:
    return next(step.message for step in steps if step.message)


@pytest.mark.parametrize(("looks", "told"), [("t1", "t2"), ("t2", "t1")])
def test_a_contrast_told_against_its_looks_is_taken_with_a_warning(
    looks: str, told: str, untrained: Synthesizer
) -> None:
    result = untrained.synthesize(small_head(looks), source=told)
    assert (result.source_contrast, result.target_contrast) == (told, looks)
    assert f"looks like {looks.upper()}" in result.warnings[0]
    wanted = untrained.synthesize(small_head(looks), target=looks)
    assert wanted.warnings == result.warnings


def test_an_unclear_contrast_has_to_be_told(untrained: Synthesizer) -> None:
    volume = small_head()
    even = np.zeros(volume.shape)
    inside = volume.voxels > 0
    even[inside] = np.random.default_rng(1).permutation(np.linspace(1, 1000, np.count_nonzero(inside)))
    unclear = volume.replaced(even)  # its median is half of its maximum
    with pytest.raises(InputError) as caught:
        untrained.synthesize(unclear)
    assert caught.value.code == "input-contrast-unknown"
    assert untrained.synthesize(unclear, source="t2").target_contrast == "t1"


@pytest.mark.parametrize(("source", "target"), [("t1", "t1"), ("t2", "t2"), ("flair", None), ("auto", "pd")])
def test_directions_that_do_not_exist_are_refused(source: str, target: str | None, untrained: Synthesizer) -> None:
    with pytest.raises(ValueError, match="expected one of"):
        untrained.synthesize(small_head(), target, source=source)


def test_voxels_that_are_not_finite_are_cleaned_with_a_warning(untrained: Synthesizer) -> None:
    volume = small_head()
    voxels = volume.voxels.astype(np.float32)
    voxels[0, 0, :3] = np.nan, np.inf, -np.inf  # background
    steps = list(untrained.steps(volume.replaced(voxels)))
    assert "3 voxels were not finite" in first_message(steps)
    result = steps[-1].result
    assert result is not None
    assert np.array_equal(result.volume.voxels, untrained.synthesize(volume).volume.voxels)


def test_bad_volumes_are_refused_before_any_work(untrained: Synthesizer) -> None:
    untrained._generator = StandIn(lambda x: pytest.fail("the generator ran"))
    volume = small_head()
    with pytest.raises(InputError) as caught:
        untrained.synthesize(volume.replaced(np.zeros_like(volume.voxels)))
    assert caught.value.code == "input-empty"
