"""The reliability map: its arithmetic against plain formulas, its grid, its summary, and when it is refused."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from conftest import SPACING, phantom, phantom_labels
from dicom_series import T1, examination, write_series
from engine_helpers import axes_of, grid, rotated, save_untrained, small_head
from torch import Tensor, nn

from MRSynthLib.engine import reliability
from MRSynthLib.engine.checkpoint import read_card
from MRSynthLib.engine.errors import ModelError
from MRSynthLib.engine.files import read_volume, write_volume
from MRSynthLib.engine.model_folders import find
from MRSynthLib.engine.preparation import prepare
from MRSynthLib.engine.reliability import FEATURES, TISSUES, Regression
from MRSynthLib.engine.reliability_features import EDGE, FIRST, NAMES, NEAR, Slices, beside, box_sum, features
from MRSynthLib.engine.reliability_level import SLICES, Level, chosen
from MRSynthLib.engine.reliability_priors import Prior
from MRSynthLib.engine.reliability_summary import trust
from MRSynthLib.engine.synthesis import Synthesizer
from MRSynthLib.engine.volume import Volume


def flat_prior() -> dict[str, Any]:
    """A prior that is always 0.1."""
    return {"given": 1.0, "made": 1.0, "table": [[0.1, 0.1], [0.1, 0.1]]}


def calibration(bias: float = np.log(0.05), power: float = 0.0) -> dict[str, Any]:
    """What a card holds: expected error exp(bias), brighter with the synthetic intensity; intervals twice that.

    Times the volume's level, which is its cycle error over 0.1 to the power `power`.
    """
    count = len(FEATURES)
    weights = [1.0 if name == "synthetic" else 0.0 for name in FEATURES]
    regression = {"low": [-1.0] * count, "high": [2.0] * count, "weights": weights, "bias": float(bias)}
    quantiles = dict(zip(TISSUES, (2.0, 2.5, 3.0), strict=True))
    priors = {name: flat_prior() for name in reliability.PRIORS}
    direction = {"priors": priors, "regression": regression, "quantiles": quantiles, "sharpness": [0.01, 100.0]}
    direction["level"] = {"usual": 0.1, "power": power, "seen": [0.02, 0.8]}
    return {
        "version": reliability.VERSION,
        "level": 0.9,
        "features": list(FEATURES),
        "directions": {"t1": direction, "t2": copy.deepcopy(direction)},
    }


@pytest.fixture(scope="module")
def calibrated(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained checkpoint with a calibration in its card."""
    path = tmp_path_factory.mktemp("calibrated") / "calibrated.safetensors"
    return save_untrained(path, {**read_card(tiny_checkpoint), "reliability": calibration()})


def one_thread(path: Path, generator: nn.Module | None = None) -> Synthesizer:
    synthesizer = Synthesizer(path, device="cpu")
    synthesizer.device = replace(synthesizer.device, threads=1)
    if generator is not None:
        synthesizer._generator = generator
    return synthesizer


class Negative(nn.Module):
    """In a generator's place: bright becomes dark."""

    def forward(self, x: Tensor, window: object) -> Tensor:
        return (1.0 - x) * (x > 0)


class Never(nn.Module):
    """In a generator's place: must not be asked."""

    def forward(self, x: Tensor, window: object) -> Tensor:
        raise AssertionError("the generator ran")


# --- features ---------------------------------------------------------------------------------------------


@pytest.fixture
def slices() -> Slices:
    rng = np.random.default_rng(4)
    source, synthetic = rng.random((2, 3, 24, 20)).astype(np.float32)
    inside = rng.random((3, 24, 20)) < 0.8
    below = np.array([60.0, 30.0, 0.0], dtype=np.float32)
    return Slices(source, synthetic, inside, below, (1.0, 1.6), beside(source, 30.0))


def test_box_sums_are_sums_over_boxes(slices: Slices) -> None:
    summed = box_sum(slices.source, (2, 3))
    for n, r, c in ((0, 0, 0), (1, 12, 9), (2, 23, 19), (0, 5, 1)):
        part = slices.source[n, max(0, r - 2) : r + 3, max(0, c - 3) : c + 4]
        assert summed[n, r, c] == pytest.approx(part.sum(dtype=np.float64), rel=1e-6)


def test_features_are_what_their_names_say(slices: Slices) -> None:
    measured = features(slices)
    assert measured.shape == (slices.inside.sum(), len(NAMES))
    places = np.argwhere(slices.inside)
    for row in range(0, len(places), 97):
        n, r, c = places[row]
        near = [max(1, round(NEAR / mm)) for mm in slices.pixel]
        edge = [max(1, round(EDGE / mm)) for mm in slices.pixel]
        box = (n, slice(max(0, r - near[0]), r + near[0] + 1), slice(max(0, c - near[1]), c + near[1] + 1))
        wide = (n, slice(max(0, r - edge[0]), r + edge[0] + 1), slice(max(0, c - edge[1]), c + edge[1] + 1))
        found = dict(zip(NAMES, measured[row], strict=True))
        around = slices.source[box][slices.inside[box]].astype(np.float64)
        made = slices.synthetic[box][slices.inside[box]].astype(np.float64)
        own, down, up = (float(slices.source[m, r, c]) for m in (n, max(0, n - 1), min(2, n + 1)))
        area = np.prod([2 * reach + 1 for reach in edge])
        expected = {
            "source": slices.source[n, r, c],
            "synthetic": slices.synthetic[n, r, c],
            "source_contrast": slices.source[n, r, c] - around.mean(),
            "source_texture": around.std(),
            "synthetic_texture": made.std(),
            "likeness": np.mean((around - around.mean()) * (made - made.mean())) / (around.std() * made.std() + 3e-4),
            "through": (abs(own - down) + abs(own - up)) / 2,
            "bend": (down + up) / 2 - own,
            "edge": 1 - slices.inside[wide].sum() / area,
            "dark": 1 - slices.source[wide][slices.inside[wide]].sum(dtype=np.float64) / area,
            "below": slices.below[n] / 100,
        }
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, abs=2e-5), name


def test_features_are_those_asked_for_and_chunks_tell_the_same(slices: Slices) -> None:
    measured = features(slices)
    np.testing.assert_array_equal(features(slices, FIRST), measured[:, : len(FIRST)])
    parts = [features(slices.part(slice(first, first + 1))) for first in range(3)]
    np.testing.assert_array_equal(np.concatenate(parts), measured)


@pytest.mark.parametrize(("spacing", "step"), [(1.0, 3), (3.5, 1), (6.0, 1)])
def test_above_and_below_are_3_mm_away_or_the_next_slice(spacing: float, step: int) -> None:
    source = np.arange(8, dtype=np.float32)[:, None, None] * np.ones((1, 2, 2), np.float32)
    down, up = (images[:, 0, 0] for images in beside(source, spacing))
    assert down.tolist() == [max(0, n - step) for n in range(8)]
    assert up.tolist() == [min(7, n + step) for n in range(8)]


def test_a_prior_is_the_mean_distance_from_the_references() -> None:
    given, true = np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.2, 0.4, 0.8, 0.8])
    prior = Prior.of(given, true, np.ones(4), (1.0, 1.0), (2, 6))
    assert prior.table[0] == pytest.approx([np.abs(true[:2] - made).mean() for made in np.linspace(0, 1, 6)], abs=2e-3)
    assert prior.table[1] == pytest.approx([np.abs(0.8 - made) for made in np.linspace(0, 1, 6)], abs=2e-3)
    middle = prior(np.array([0.5]), np.array([0.1]))[0]  # half-way between two rows, and between two columns
    assert middle == pytest.approx(prior.table[:, :2].mean(), abs=1e-6)
    outside = prior(np.array([-3.0, 9.0]), np.array([0.0, 9.0]))
    assert outside == pytest.approx([prior.table[0, 0], prior.table[1, -1]], abs=1e-6)


def test_the_regression_is_its_formula_and_grows_beyond_what_was_seen() -> None:
    rng = np.random.default_rng(1)
    count = len(FEATURES)
    weights = rng.normal(0, 0.5, count).astype(np.float32)
    regression = Regression(np.zeros(count, np.float32), np.ones(count, np.float32), weights, -2.5)
    row = rng.random(count).astype(np.float32)
    expected = np.exp(sum(w * x for w, x in zip(weights, row, strict=True)) - 2.5)
    assert regression(row[None])[0] == pytest.approx(expected, rel=1e-5)
    at_end, beyond = row.copy(), row.copy()
    at_end[len(NAMES)], beyond[len(NAMES)] = 1.0, 3.0  # a prior three times as high as any that was seen
    assert regression(beyond[None])[0] == pytest.approx(3 * regression(at_end[None])[0], rel=1e-5)
    far = row.copy()
    far[0], at_end = 7.0, row.copy()
    at_end[0] = 1.0
    assert regression(far[None])[0] == regression(at_end[None])[0]
    again = Regression.from_card(json.loads(json.dumps(regression.to_card())), count)
    assert again(row[None])[0] == pytest.approx(regression(row[None])[0], rel=1e-5)


def test_the_level_is_a_power_of_the_cycle_error_within_what_was_seen() -> None:
    level = Level.from_card(json.loads(json.dumps(Level(0.1, 1.5, (0.05, 0.2)).to_card())))
    assert level(None) == 1
    assert level(0.1) == pytest.approx(1)
    assert level(0.18) == pytest.approx(1.8**1.5)
    assert level(9.0) == pytest.approx((1.15 * 0.2 / 0.1) ** 1.5)
    assert level(0.0) == pytest.approx((0.05 / 1.15 / 0.1) ** 1.5)


@pytest.mark.parametrize("count", [1, 5, 60])
def test_few_slices_go_back_and_they_span_the_brain(count: int) -> None:
    brain = np.zeros((70, 4, 4), bool)
    brain[6 : 6 + count, 1, 2] = True
    found = chosen(brain)
    assert (found[0], found[-1]) == (6, 5 + count)
    assert len(found) == min(count, SLICES)
    assert not chosen(np.zeros((3, 4, 4), bool)).size


def test_three_means_finds_the_bounds_between_three_tissues() -> None:
    rng = np.random.default_rng(2)
    parts = [rng.normal(mean, 0.03, n) for mean, n in ((0.2, 1500), (0.5, 5000), (0.75, 4000))]
    count, edges = np.histogram(np.concatenate(parts), bins=256, range=(0, 1))
    bounds = reliability.three_means(count, (edges[1:] + edges[:-1]) / 2)
    np.testing.assert_allclose(bounds, [0.35, 0.625], atol=0.02)


def test_slices_that_were_not_made_say_nothing_of_tissue() -> None:
    prepared = prepare(small_head(), "native", source="t2", target=None, mask=None, force=True)
    brain = prepared.sliced_brain
    synthetic = np.zeros(brain.shape, np.float32)
    synthetic[brain] = np.random.default_rng(4).choice(np.float32([0.2, 0.5, 0.8]), int(brain.sum()))
    whole = reliability.tissue_bounds(prepared, synthetic)
    np.testing.assert_allclose(whole, [0.35, 0.65], atol=0.01)
    made = np.flatnonzero(brain.any(axis=(1, 2)))
    synthetic[made[: len(made) // 2]] = 0
    np.testing.assert_allclose(reliability.tissue_bounds(prepared, synthetic), whole, atol=0.01)


# --- the map ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["RAS", "PSR"])
def test_the_map_lies_on_the_grid_of_the_source(name: str, calibrated: Path) -> None:
    volume = small_head(axes=axes_of(name))
    result = one_thread(calibrated, Negative()).synthesize(volume, source="t1", reliability=True)
    assert result.reliability is not None
    assert result.interval is not None
    made = result.volume.voxels / 1000
    inside = volume.voxels > 0
    for found in (result.reliability, result.interval):
        assert found.voxels.dtype == np.int16
        assert np.array_equal(found.ijk_to_ras, volume.ijk_to_ras)
        assert not found.voxels[~inside].any()
    expected = 50 * np.exp(made[inside])
    np.testing.assert_allclose(result.reliability.voxels[inside], expected, atol=0.6)
    factors = result.interval.voxels[inside] / expected
    white, grey, fluid = (
        (volume.voxels[inside] > 600),
        (np.abs(volume.voxels[inside] - 500) < 60),
        (volume.voxels[inside] < 220),
    )
    for tissue, factor in ((fluid, 2.0), (grey, 2.5), (white, 3.0)):
        assert np.median(factors[tissue]) == pytest.approx(factor, abs=0.02)


class Fading(nn.Module):
    """In a generator's place: everything becomes half as bright, so that the cycle error is 3/4 of the source."""

    def __init__(self) -> None:
        super().__init__()
        self.slices = 0

    def forward(self, x: Tensor, window: object) -> Tensor:
        self.slices += len(x)
        return x / 2


@pytest.mark.parametrize("cycle", [False, True])
def test_a_worse_way_back_raises_the_whole_map(cycle: bool, tiny_checkpoint: Path, tmp_path: Path) -> None:
    """By the power in the card, of the cycle error in the brain; a few slices go back, or all where asked for."""
    card, volume, found = read_card(tiny_checkpoint), small_head(), {}
    prepared = prepare(volume, "native", source="t1", target=None, mask=None, force=True)
    error = 0.75 * float(prepared.source[prepared.brain].mean())
    for power in (0.0, 1.0):
        path = save_untrained(tmp_path / "m.safetensors", {**card, "reliability": calibration(np.log(0.02), power)})
        generator = Fading()
        result = one_thread(path, generator).synthesize(volume, source="t1", reliability=True, cycle=cycle)
        assert result.reliability is not None
        assert result.interval is not None
        found[power] = result
        made = int(prepared.slices.any(axis=(1, 2)).sum())
        assert generator.slices <= (2 * made if cycle else made + SLICES)
    inside = volume.voxels > 0
    for name in ("reliability", "interval"):
        usual, raised = (getattr(found[power], name).voxels[inside].astype(float) for power in (0.0, 1.0))
        np.testing.assert_allclose(raised, usual * error / 0.1, rtol=0.03, atol=4)
    assert np.array_equal(found[0.0].volume.voxels, found[1.0].volume.voxels)


def test_a_calibration_of_the_first_kind_works_as_before(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """It looks at fewer features and at no way back."""
    entry = calibration()
    names = [*FIRST, *reliability.LAST]
    entry["features"] = names
    for direction in entry["directions"].values():
        del direction["level"]
        direction["regression"] |= {"low": [-1.0] * len(names), "high": [2.0] * len(names)}
        direction["regression"]["weights"] = [1.0 if name == "synthetic" else 0.0 for name in names]
    path = save_untrained(tmp_path / "m.safetensors", {**read_card(tiny_checkpoint), "reliability": entry})
    volume, generator = small_head(), Fading()
    result = one_thread(path, generator).synthesize(volume, source="t1", reliability=True)
    assert result.reliability is not None
    inside = volume.voxels > 0
    expected = 50 * np.exp(result.volume.voxels[inside] / 1000)
    np.testing.assert_allclose(result.reliability.voxels[inside], expected, atol=0.6)
    prepared = prepare(volume, "native", source="t1", target=None, mask=None, force=True)
    assert generator.slices == prepared.slices.any(axis=(1, 2)).sum()


def test_the_synthetic_volume_is_the_same_with_and_without_a_map(calibrated: Path) -> None:
    volume = replace(small_head(), ijk_to_ras=grid((12, 30, 26), (0.8, 0.9, 2), rotated(axes_of("LPS"), (9, 8, 7))))
    with_map, without = (one_thread(calibrated).synthesize(volume, reliability=wanted) for wanted in (True, False))
    assert np.array_equal(with_map.volume.voxels, without.volume.voxels)
    assert with_map.reliability is not None
    assert (without.reliability, without.interval, without.trust) == (None, None, None)


def test_the_same_input_gives_the_same_map(calibrated: Path) -> None:
    first, second = (one_thread(calibrated).synthesize(small_head(), reliability=True) for _ in range(2))
    assert first.reliability is not None
    assert second.reliability is not None
    assert first.reliability.voxels.tobytes() == second.reliability.voxels.tobytes()
    assert first.trust == second.trust


def test_it_is_said_where_the_calibration_does_not_hold(calibrated: Path) -> None:
    result = one_thread(calibrated).synthesize(small_head(), reliability=True, planes="three")
    assert any("axial passes" in warning for warning in result.warnings)
    assert not one_thread(calibrated).synthesize(small_head(), reliability=True).warnings


# --- refusals ---------------------------------------------------------------------------------------------


def broken(change: str) -> Any:
    entry = calibration()
    direction = entry["directions"]["t1"]
    if change == "another version":
        entry["version"] = 99
    elif change == "other features":
        entry["features"] = entry["features"][::-1]
    elif change == "no direction":
        del entry["directions"]["t1"]
    elif change == "not finite":
        direction["regression"]["bias"] = float("nan")
    elif change == "wrong shape":
        direction["regression"]["weights"] = [1.0, 2.0]
    elif change == "no interval":
        direction["quantiles"]["grey"] = float("inf")
    elif change == "no level":
        del direction["level"]
    elif change == "odd level":
        direction["level"]["usual"] = 0.0
    elif change == "no sharpness":
        direction["sharpness"] = [0.0, 1.0]
    elif change == "no prior":
        direction["priors"]["texture"]["table"] = [0.1]
    return entry


@pytest.mark.parametrize(
    "change",
    [
        "another version",
        "other features",
        "no direction",
        "not finite",
        "wrong shape",
        "no interval",
        "no prior",
        "no sharpness",
        "no level",
        "odd level",
    ],
)
def test_a_calibration_that_cannot_be_used_is_refused(change: str, tiny_checkpoint: Path) -> None:
    card = {**read_card(tiny_checkpoint), "reliability": broken(change)}
    with pytest.raises(ModelError) as refused:
        reliability.of_card(card, "t1", "x")
    assert refused.value.code == "model-reliability"


def test_without_a_calibration_nothing_is_computed(tiny_checkpoint: Path) -> None:
    with pytest.raises(ModelError) as refused:
        one_thread(tiny_checkpoint, Never()).synthesize(small_head(), source="t1", reliability=True)
    assert refused.value.code == "model-reliability"
    assert "was not calibrated" in str(refused.value)


# --- the summary ------------------------------------------------------------------------------------------


def test_the_summary_counts_and_finds_the_places() -> None:
    affine = grid((20, 40, 36), (2.0, 2.0, 2.0), axes_of("LPS"))
    voxels = np.full((20, 40, 36), 40, dtype=np.int16)
    voxels[8:13, 10:15, 8:13] = 300  # 125 voxels of 8 mm3: 1 ml
    voxels[4:6, 28:30, 24:26] = 400  # 8 voxels: 0.064 ml
    brain = np.zeros(voxels.shape, bool)
    brain[2:-2, 2:-2, 2:-2] = True
    found = trust(Volume(voxels, affine), brain)
    share = 133 / brain.sum()
    assert found["share_above_15_percent"] == pytest.approx(share, abs=1e-4)
    assert found["summary"] == "Less than 1 % of the brain is expected to be off by more than 15 %"
    largest = found["regions"][0]
    centre = (affine @ np.array([10, 12, 10, 1.0]))[:3]
    assert np.linalg.norm(np.array(largest["centre_ras"]) - centre) <= 2.1
    assert 0.5 < largest["volume_ml"] < 3
    assert largest["expected_error"] > 100
    second = (affine @ np.array([24.5, 28.5, 4.5, 1.0]))[:3]
    assert any(np.linalg.norm(np.array(region["centre_ras"]) - second) < 6 for region in found["regions"])


@pytest.mark.parametrize(("value", "text"), [(40, "0 %"), (200, "100 %")])
def test_the_summary_at_both_ends(value: int, text: str) -> None:
    voxels = np.full((8, 8, 8), value, dtype=np.int16)
    found = trust(Volume(voxels, np.eye(4)), np.ones(voxels.shape, bool))
    assert found["summary"].startswith(f"{text} of the brain")
    assert found["regions"] == []


# --- the doors --------------------------------------------------------------------------------------------


def test_the_command_line_writes_map_interval_and_summary(calibrated: Path, tmp_path: Path) -> None:
    from MRSynthLib.engine.cli import main

    write_volume(small_head(), tmp_path / "t1.nii.gz")
    made = [tmp_path / name for name in ("t2.nii.gz", "error.nii.gz", "interval.nrrd")]
    options = ["--from", "t1", "--model", str(calibrated), "--device", "cpu", "--quiet"]
    maps = ["--reliability", str(made[1]), "--interval", str(made[2])]
    assert main(["synthesize", str(tmp_path / "t1.nii.gz"), "-o", str(made[0]), *options, *maps]) == 0
    result = one_thread(calibrated).synthesize(read_volume(tmp_path / "t1.nii.gz"), source="t1", reliability=True)
    assert result.reliability is not None
    assert np.array_equal(read_volume(made[1]).voxels, result.reliability.voxels)
    sidecar = json.loads((tmp_path / "t2.json").read_text(encoding="utf-8"))
    assert sidecar["Reliability"] == result.trust
    assert sidecar["Planes"] == "axial"
    assert "SYNTHETIC" in str(read_volume(made[1]).header["descrip"])


def test_the_command_line_refuses_and_leaves_nothing(tiny_checkpoint: Path, tmp_path: Path, capsys: Any) -> None:
    from MRSynthLib.engine.cli import main

    write_volume(small_head(), tmp_path / "t1.nii.gz")
    before = sorted(tmp_path.iterdir())
    arguments = ["synthesize", str(tmp_path / "t1.nii.gz"), "-o", str(tmp_path / "t2.nii.gz"), "--from", "t1"]
    assert main([*arguments, "--model", str(tiny_checkpoint), "--reliability", str(tmp_path / "e.nii.gz")]) == 4
    assert "model-reliability" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_the_worker_hands_over_maps_and_summary(calibrated: Path, tmp_path: Path) -> None:
    from MRSynthLib.engine import worker
    from MRSynthLib.engine.serving import Networks

    volume = small_head()
    np.save(tmp_path / "in.npy", volume.voxels)
    request = {
        "voxels": "in.npy",
        "ijk_to_ras": volume.ijk_to_ras.tolist(),
        "model": str(calibrated),
        "device": "cpu",
        "source": "t1",
        "reliability": True,
        "output_dir": ".",
    }
    events: list[dict[str, Any]] = []
    worker.run(request, tmp_path, lambda event, **content: events.append({"event": event, **content}), Networks())
    told = events[-1]
    result = one_thread(calibrated).synthesize(volume, source="t1", reliability=True)
    assert result.reliability is not None
    assert np.array_equal(np.load(tmp_path / told["reliability"]), result.reliability.voxels)
    assert np.load(tmp_path / told["interval"]).dtype == np.int16
    assert told["info"]["trust"] == json.loads(json.dumps(result.trust))
    assert told["cycle"] is None


def test_dicom_export_has_the_map_as_a_series_of_its_own(calibrated: Path, tmp_path: Path, capfd: Any) -> None:
    from MRSynthLib.engine.cli import main

    volume = phantom("t1")
    write_series(tmp_path / "exam", volume.voxels, volume.ijk_to_ras, **{**examination(), **T1})
    arguments = ["synthesize", str(tmp_path / "exam"), "-o", str(tmp_path / "out"), "--dicom", "--reliability-series"]
    assert main([*arguments, "--model", str(calibrated), "--device", "cpu", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["series"] == [str(tmp_path / "out" / name) for name in ("synthetic", "expected-error")]
    assert told["trust"]["summary"].endswith("expected to be off by more than 15 %")
    back = read_volume(tmp_path / "out" / "expected-error")
    made = one_thread(calibrated).synthesize(read_volume(tmp_path / "exam"), reliability=True).reliability
    assert made is not None
    assert np.array_equal(back.voxels, made.voxels)
    image = pydicom.dcmread(next((tmp_path / "out" / "expected-error").iterdir()))
    assert image.SeriesDescription.startswith("SYNTHETIC T2w from T1w, expected error")
    assert image.ImageType[0] == "DERIVED"


# --- broken generators, by the calibration that is shipped --------------------------------------------------


@pytest.fixture(scope="module", params=["t1", "t2"])
def bench(request: pytest.FixtureRequest) -> dict[str, Any]:
    """A phantom with and without a lesion, what a perfect generator makes of both, and the shipped calibration."""
    contrast = request.param
    source, target = (phantom(name, skull=False) for name in (contrast, "t2" if contrast == "t1" else "t1"))
    lesion = np.zeros(source.shape, bool)
    lesion[22:25, 22:27, 27:30] = True
    lesion &= phantom_labels()["white"]
    sick = source.voxels.copy(), target.voxels.copy()
    for voxels, name in zip(sick, (contrast, "t2" if contrast == "t1" else "t1"), strict=True):
        voxels[lesion] = {"t1": 520, "t2": 800}[name]
    runs = [
        prepare(source.replaced(voxels), "native", source=contrast, target=None, mask=None, force=True)
        for voxels in (source.voxels, sick[0])
    ]
    made = [
        run.space.to_model(voxels / np.float32(1000))
        for run, voxels in zip(runs, (target.voxels, sick[1]), strict=True)
    ]
    direction = reliability.of_card(read_card(find(None)), contrast, "shipped")
    return {"healthy": runs[0], "sick": runs[1], "made": made, "lesion": lesion, "direction": direction}


def test_a_copied_source_is_flagged(bench: dict[str, Any]) -> None:
    """Above all in white matter, where T1 and T2 differ most."""
    honest, copied = (
        bench["direction"].maps(bench["healthy"], made)[0] for made in (bench["made"][0], bench["healthy"].slices)
    )
    brain, white = bench["healthy"].brain, phantom_labels()["white"]
    assert copied[brain].mean() > 1.1 * honest[brain].mean()
    assert copied[white].mean() > 1.5 * honest[white].mean()


def test_a_lesion_painted_over_is_flagged(bench: dict[str, Any]) -> None:
    healthy, erased = (bench["direction"].maps(bench[name], bench["made"][0])[0] for name in ("healthy", "sick"))
    assert erased[bench["lesion"]].mean() > 1.25 * healthy[bench["lesion"]].mean()
    far = bench["healthy"].brain & ~binary_dilation(bench["lesion"], 4)
    assert np.abs(erased[far].astype(int) - healthy[far]).mean() < 2


def test_a_blurred_result_is_flagged(bench: dict[str, Any]) -> None:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(bench["made"][0])
    image.SetSpacing((1.0, 1.0, SPACING))
    blurred = sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(image, [6.0] * 3))
    doubt = bench["direction"].maps(bench["healthy"], np.clip(blurred, 0, 1))[2]
    assert doubt.startswith("The result looks blurred")


def binary_dilation(mask: np.ndarray, steps: int) -> np.ndarray:
    for _ in range(steps):
        mask = mask | np.any([np.roll(mask, by, axis) for axis in range(3) for by in (1, -1)], axis=0)
    return mask


def test_the_way_back_rests_on_no_hidden_signal() -> None:
    """Noise of 0.02 costs the shipped generator's cycle less than 1 dB (Chu et al. 2017: else it hides its source)."""
    run = prepare(phantom("t1", skull=False), "native", source="t1", target=None, mask=None, force=True)
    synthesizer = one_thread(find(None))
    chunk = np.flatnonzero(run.slices.any(axis=(1, 2)))[10:30:5]
    source = run.slices[chunk]
    made = np.zeros_like(run.slices)
    made[chunk] = synthesizer.forward(run.slices, chunk)
    noise = np.random.default_rng(0).normal(0, 0.02, made.shape).astype(np.float32)
    ways = [synthesizer.forward(back, chunk) for back in (made, np.clip(made + noise, 0, 1) * (made > 0))]
    clean, noisy = (10 * np.log10(1 / np.mean((back - source)[source > 0] ** 2)) for back in ways)
    assert clean - noisy < 1
    assert clean > 10  # there is a way back
