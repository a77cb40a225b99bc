"""The maths of the reliability map against plain references, and the whole way from residuals to a card."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from engine_helpers import save_untrained, small_head

from mrsynth_training import calibration, calibration_data, calibration_fit, cli
from mrsynth_training.calibration_data import Residuals
from mrsynth_training.calibration_scores import ause, conformal_quantile, coverage, sparsification, spearman
from mrsynth_training.errors import TrainingError
from mrsynth_training.pairs import load_pair
from mrsynth_training.preparation import find_cases
from MRSynthLib.engine import checkpoint, generators, reliability
from MRSynthLib.engine.preparation import prepare
from MRSynthLib.engine.reliability_features import NAMES
from MRSynthLib.engine.synthesis import CONTRASTS, Synthesizer

# --- scores -----------------------------------------------------------------------------------------------


def test_the_oracle_has_an_area_of_0_a_constant_of_1_and_a_reversed_map_of_more() -> None:
    error = np.random.default_rng(0).gamma(1, 0.05, 5000)
    assert ause(error, error) == pytest.approx(0, abs=1e-9)
    assert ause(np.full(5000, 0.3), error) == pytest.approx(1, abs=1e-6)
    assert ause(-error, error) > 1.5
    random = ause(np.random.default_rng(1).random(5000), error)
    assert random == pytest.approx(1, abs=0.05)


def test_sparsification_by_hand() -> None:
    """Ten errors 0 to 9, the map in order: without the worst half, the mean of 0 to 4 over that of all is 2 / 4.5."""
    error = np.arange(10.0)
    curve = sparsification(error**2, error)
    assert curve[0] == 1
    assert curve[50] == pytest.approx(2 / 4.5)
    assert curve[90] == pytest.approx(0)
    mixed = sparsification(np.array([1.0, 1, 1, 1, 1, 2, 2, 2, 2, 2]), error)  # ties take their mean error
    assert mixed[50] == pytest.approx(2 / 4.5)
    assert mixed[80] == pytest.approx(2 / 4.5)


def test_only_the_order_of_a_map_counts() -> None:
    rng = np.random.default_rng(2)
    error = rng.gamma(1, 1, 3000)
    guess = error * rng.lognormal(0, 0.5, 3000)
    assert ause(guess, error) == pytest.approx(ause(np.log(guess), error), abs=1e-9)
    assert spearman(guess, error) == pytest.approx(spearman(guess**3, error))
    assert spearman(np.ones(5), np.arange(5.0)) == 0
    assert spearman(np.arange(9.0), np.arange(9.0)) == pytest.approx(1)


@pytest.mark.parametrize("count", [9, 10, 39, 100])
def test_a_conformal_quantile_is_the_order_statistic_of_the_theorem(count: int) -> None:
    scores = np.random.default_rng(count).random(count)
    rank = int(np.ceil((count + 1) * 0.9))
    expected = np.sort(scores)[rank - 1] if rank <= count else np.inf
    assert conformal_quantile(scores, 0.9) == expected


def test_conformal_intervals_cover_what_they_promise() -> None:
    """Over 4,000 draws of 19 calibration scores and one new one: 90 % are covered, neither fewer nor many more."""
    rng = np.random.default_rng(3)
    draws = rng.gamma(1, 1, (4000, 20))
    covered = [row[19] <= conformal_quantile(row[:19], 0.9) for row in draws]
    assert np.mean(covered) == pytest.approx(0.9, abs=0.015)


def test_weights_count_like_copies() -> None:
    scores, weights = np.array([1.0, 2.0, 3.0, 4.0]), np.array([5.0, 1.0, 1.0, 3.0])
    copies = np.repeat(scores, weights.astype(int))
    for level in (0.3, 0.55, 0.6):
        plain = np.sort(copies)[int(np.ceil(level * (10 + 2.5))) - 1]  # the new voxel has the mean weight, 2.5 copies
        assert conformal_quantile(scores, level, weights) == plain
    assert conformal_quantile(scores, 0.95, weights) == np.inf


# --- fit --------------------------------------------------------------------------------------------------


def table(subject: str, contrast: str, seed: int, count: int = 1500, brightness: float = 1.0) -> Residuals:
    """Voxels whose error is Laplace about a scale that grows with the source's texture and the synthetic's value.

    And with the volume's `brightness`, whose square the cycle error goes with. Slices are at four heights.
    """
    rng = np.random.default_rng(seed)
    measured = rng.random((count, len(NAMES))).astype(np.float32)
    measured[:, NAMES.index("source_texture")] *= 0.2
    scale = (
        brightness
        * 0.02
        * np.exp(6 * measured[:, NAMES.index("source_texture")] + measured[:, NAMES.index("synthetic")])
    )
    error = rng.exponential(scale).astype(np.float32)
    return Residuals(
        about={
            "subject": subject,
            "patient": subject.partition("_")[0],
            "contrast": contrast,
            "model": "fold",
            "weights_sha256": "f" * 64,
            "role": "unseen",
            "frame": "native",
            "slices": 3,
            "cycle": 0.05 * brightness**2,
        },
        features=measured,
        error=error,
        reference=rng.random(count).astype(np.float32),
        reference_texture=(0.2 * rng.random(count)).astype(np.float32),
        tissue=rng.integers(0, 3, count),
        place=np.column_stack([rng.integers(0, 4, count) / 4, rng.random((count, 2))]).astype(np.float32),
        drawn=np.arange(count) < count - 100,
        lesion=np.arange(count) >= count - 150,
        candidates={
            name: rng.random(count).astype(np.float32) for name in ("gradient of source", calibration_data.ORACLE)
        },
    )


@pytest.fixture(scope="module")
def tables() -> list[Residuals]:
    """Four visits of three patients in both directions; scanners differ in brightness, so whole volumes do in error."""
    names = [("A_1", 1.0), ("A_2", 0.9), ("B", 1.2), ("C", 0.95)]
    return [table(name, contrast, 7 * n, brightness=b) for n, (name, b) in enumerate(names) for contrast in CONTRASTS]


def test_the_fit_finds_the_scale_of_the_error(tables: list[Residuals]) -> None:
    own = [one for one in tables if one.about["contrast"] == "t1"]
    direction = calibration_fit.calibrate(own)
    unseen = table("D", "t1", 99)
    expected = direction.expected(unseen.features, unseen.about["cycle"])
    truth = 0.02 * np.exp(
        6 * unseen.features[:, NAMES.index("source_texture")] + unseen.features[:, NAMES.index("synthetic")]
    )
    assert np.corrcoef(np.log(expected), np.log(truth))[0, 1] > 0.97
    assert expected.mean() == pytest.approx(truth.mean(), rel=0.15)
    assert set(direction.quantiles) == set(reliability.TISSUES)
    # 90 % of an exponential distribution lie below 2.3 times its mean.
    assert np.mean(list(direction.quantiles.values())) == pytest.approx(2.3, abs=0.35)


def test_the_level_of_a_volume_follows_its_cycle_error() -> None:
    """Where errors go with the square root of the cycle error, the fit finds that; elsewhere, nothing."""
    brightness = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8)
    own = [table(name, "t1", 5 * n, brightness=b) for n, (name, b) in enumerate(zip("ABCDEF", brightness, strict=True))]
    level = calibration_fit.calibrate(own).level
    assert level is not None
    assert level.power == pytest.approx(0.5, abs=0.05)
    unseen = table("G", "t1", 99, brightness=2.2)
    direction = calibration_fit.calibrate(own)
    told, untold = (direction.expected(unseen.features, cycle).mean() for cycle in (unseen.about["cycle"], None))
    assert told == pytest.approx(unseen.error.mean(), rel=0.15)
    assert untold < 0.7 * unseen.error.mean()
    half = calibration_fit.half_width(direction, unseen)
    assert coverage(unseen.error, half) == pytest.approx(0.9, abs=0.03)
    shuffled = [replace(one, about={**one.about, "cycle": 0.05}) for one in own]
    level = calibration_fit.calibrate(shuffled).level
    assert level is not None
    assert level.power == 0
    falling = [replace(one, about={**one.about, "cycle": 1 / one.about["cycle"]}) for one in own]
    level = calibration_fit.calibrate(falling).level
    assert level is not None
    assert level.power == 0  # a better way back never makes a map worse


def test_the_way_back_of_a_2_5_d_generator_is_the_same_from_some_slices_as_from_all(tmp_path: Path) -> None:
    card = checkpoint.load().card
    path = save_untrained(tmp_path / "model.safetensors", card, in_channels=3)
    synthesizer = Synthesizer(path, device="cpu", precision="fp32")
    prepared = prepare(small_head(), "native", source="t1", target=None, mask=None, force=True)
    made = np.flatnonzero(prepared.slices.any(axis=(1, 2)))
    whole, some = np.zeros_like(prepared.slices), np.zeros_like(prepared.slices)
    whole[made] = calibration_data._pass(synthesizer, prepared.slices, made)
    whole *= prepared.sliced_inside
    back = made[1::4]
    some[back] = whole[back]
    errors = [calibration_data._cycle_error(synthesizer, prepared, each, back) for each in (whole, some)]
    assert errors[0] == pytest.approx(errors[1], rel=1e-5)


def test_a_map_fitted_to_the_volume_itself_sees_only_the_other_slices() -> None:
    one = table("A", "t1", 3)
    expected = calibration_fit.fitted_to_itself(one)
    half = np.isin(one.place[:, 0], (0.0, 0.5))
    other = replace(one, error=np.where(half, one.error * 7, one.error))
    changed = calibration_fit.fitted_to_itself(other)
    np.testing.assert_array_equal(changed[half], expected[half])
    assert changed[~half].mean() == pytest.approx(7 * expected[~half].mean(), rel=0.1)


def test_a_patients_own_residuals_do_not_move_its_conformal_scores(
    tables: list[Residuals], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The expected errors that a patient's scores are made with are from regressions fitted to the others alone."""

    def expected(own: list[Residuals]) -> dict[str, np.ndarray]:
        seen: dict[str, np.ndarray] = {}

        def noted(given: list[Residuals], values: list[np.ndarray]) -> dict[str, float]:
            seen.update({one.about["subject"]: value for one, value in zip(given, values, strict=True)})
            return dict.fromkeys(reliability.TISSUES, 1.0)

        monkeypatch.setattr(calibration_fit, "quantiles", noted)
        calibration_fit.calibrate(own)
        return seen

    own = [one for one in tables if one.about["contrast"] == "t1"]
    changed = [
        replace(one, error=3 * one.error[::-1], reference=1 - one.reference) if one.about["patient"] == "A" else one
        for one in own
    ]
    before, after = expected(own), expected(changed)
    for subject in ("A_1", "A_2"):
        np.testing.assert_array_equal(before[subject], after[subject])
    assert not np.allclose(before["B"], after["B"])


def test_quantiles_count_each_volume_the_same_and_leave_the_lesions_out() -> None:
    """1,000 voxels of score 1 and 10 of score 2 weigh the same; what was added from a lesion weighs nothing."""

    def volume(subject: str, score: float, drawn: int, added: int) -> Residuals:
        one = table(subject, "t1", 1, count=drawn + added)
        is_drawn = np.arange(drawn + added) < drawn
        error = np.where(is_drawn, score, 100).astype(np.float32)
        return replace(one, error=error, drawn=is_drawn, tissue=np.zeros(drawn + added, np.int64))

    volumes = [volume("A", 1, 1000, 500), volume("B", 2, 10, 500)]
    found = calibration_fit.quantiles(volumes, [np.ones(len(one.error), np.float32) for one in volumes], 0.6)
    assert found[reliability.TISSUES[0]] == 2
    assert calibration_fit.quantiles(volumes[:1], [np.ones(1500, np.float32)], 0.9)[reliability.TISSUES[0]] == 1


def test_nothing_of_a_patient_is_used_for_that_patient(tables: list[Residuals]) -> None:
    """Visits of one patient are left out together: what one of them says changes nothing for the other."""
    rows = calibration.cross_validate(tables)
    changed = [one for one in tables if one.about["subject"] != "A_2"]
    again = {(row["subject"], row["contrast"]): row for row in calibration.cross_validate(changed)}
    for row in rows:
        if row["subject"] == "A_1":
            assert again["A_1", row["contrast"]] == row
        elif row["subject"] == "B":
            assert again["B", row["contrast"]] != row


def test_cross_validated_scores_are_those_of_the_arrays(tables: list[Residuals]) -> None:
    row = calibration.cross_validate(tables)[0]
    own = [one for one in tables if one.about["contrast"] == "t1"]
    direction = calibration_fit.calibrate([one for one in own if one.about["patient"] != "A"])
    left, drawn = own[0], own[0].drawn
    expected = direction.expected(left.features, left.about["cycle"])
    half = calibration_fit.half_width(direction, left)
    assert row["maps"][calibration.MAP]["spearman"] == pytest.approx(spearman(expected[drawn], left.error[drawn]))
    smooth = left.candidates[calibration_data.ORACLE][drawn]
    assert row["regional"]["spearman"] == pytest.approx(spearman(expected[drawn], smooth))
    assert row["coverage"] == pytest.approx(coverage(left.error[drawn], half[drawn]))
    assert row["lesion"]["coverage"] == pytest.approx(coverage(left.error[left.lesion], half[left.lesion]))
    assert row["width"] == pytest.approx(2000 * half[drawn].mean(), rel=1e-5)
    named = {calibration.MAP, "predicted intensity", "mean error map", "gradient of source", "fitted to itself"}
    assert set(row["maps"]) >= named


def test_one_patient_is_too_few(tables: list[Residuals]) -> None:
    with pytest.raises(TrainingError, match="one patient"):
        calibration.cross_validate([one for one in tables if one.about["patient"] == "A"])


def test_the_mean_error_map_is_the_mean_by_place(tables: list[Residuals]) -> None:
    known = calibration.MeanMap(tables[:1])
    place = np.floor(tables[0].place * calibration.CELLS)
    cell = np.all(place == place[0], axis=1) & tables[0].drawn
    assert known(tables[0])[0] == pytest.approx(tables[0].error[cell].mean(), rel=1e-5)


# --- files and the command --------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """An untrained checkpoint in the native frame."""
    torch.manual_seed(0)
    arguments = {"growth": 4, "blocks": [1, 1, 1, 1]}
    card = {
        "name": "tiny",
        "created": "2026-01-01T00:00:00+00:00",
        "generator": {"name": "DenseUNet", "arguments": arguments},
        "frame": "native",
        "intensity": {},
        "contrasts": ["t1", "t2"],
        "training_data": [{"subject": "A_1", "source": "computed", "licence": "CC0", "role": "train"}],
        "seed": 0,
        "config_sha256": "0" * 64,
        "training": {},
        "metrics": {},
        "reliability": None,
        "known_failures": [],
        "intended_use": "tests",
        "licence": "CC0",
    }
    path = tmp_path / "tiny.safetensors"
    checkpoint.save(generators.build("DenseUNet", arguments).eval(), card, path)
    return path


def test_residuals_come_back_from_their_file(tables: list[Residuals], tmp_path: Path) -> None:
    for one in tables[:2]:
        calibration_data.write(one, tmp_path)
    back = calibration_data.read(tmp_path)
    assert [one.about for one in back] == [one.about for one in tables[:2]]
    for name in calibration_data.COLUMNS:
        np.testing.assert_array_equal(getattr(back[0], name), getattr(tables[0], name))
    np.testing.assert_array_equal(back[0].candidates["gradient of source"], tables[0].candidates["gradient of source"])


def test_the_calibration_goes_into_the_card_and_the_weights_stay(
    tables: list[Residuals], model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "residuals"
    folder.mkdir()
    for one in tables:
        calibration_data.write(one, folder)
    before = checkpoint.load(model)
    report, output = tmp_path / "report.json", tmp_path / "calibrated.safetensors"
    arguments = ["calibrate", "--residuals", str(folder), "--into", str(model), "-o", str(output)]
    assert cli.main([*arguments, "--report", str(report)]) == 0
    after = checkpoint.load(output)
    assert after.card["weights_sha256"] == before.card["weights_sha256"]
    changed = {name for name in after.card if after.card[name] != before.card[name]}
    assert changed == {"reliability"}
    assert after.card["reliability"]["own_residuals"] is False
    scores = json.loads(report.read_text(encoding="utf-8"))
    assert after.card["reliability"]["scores"] == scores["summary"]
    own = [one for one in tables if one.about["contrast"] == "t2"]
    kept = reliability.of_card(after.card, "t2", "tiny")
    fitted, cycle = calibration_fit.calibrate(own), own[0].about["cycle"]
    np.testing.assert_allclose(
        kept.expected(own[0].features, cycle), fitted.expected(own[0].features, cycle), rtol=2e-2
    )
    assert kept.level is not None
    assert kept.level.power > 0
    assert checkpoint.load(model).card["reliability"] is None


def test_residuals_of_another_frame_are_refused(tables: list[Residuals], model: Path) -> None:
    own = list(tables)
    own[0] = Residuals(**{**vars(own[0]), "about": {**own[0].about, "frame": "paper"}})
    with pytest.raises(TrainingError, match="frame"):
        calibration.write_card(model, own, calibration.cross_validate(own), model)


def test_residuals_are_made_on_unseen_subjects_only(studies: Path, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "residuals"
    told: list[str] = []
    calibration.collect([str(model)], studies, folder, candidates=True, device="cpu", report=told.append)
    made = calibration_data.read(folder)
    assert {one.about["subject"] for one in made} == {"B", "C"}  # of A, the first visit was trained on
    assert len(made) == 4
    assert len(told) == 4
    with_lesion = [one for one in made if one.lesion.any()]
    assert {one.about["subject"] for one in with_lesion} == {"C"}
    for one in made:
        error = np.abs(one.features[:, NAMES.index("synthetic")] - one.reference)
        np.testing.assert_allclose(one.error, error, atol=1e-6)
        assert {"flip", "shift", "cycle error", "cycle error, noisy", "gradient of source"} <= set(one.candidates)
        assert one.about["cycle error psnr"] > 0
        assert 0 < one.about["cycle"] < 1
        # The mean around a voxel is the smoother of the two, and of the same size.
        smooth = one.candidates[calibration_data.ORACLE][one.drawn]
        assert smooth.mean() == pytest.approx(one.error[one.drawn].mean(), rel=0.1)
        assert smooth.std() < one.error[one.drawn].std()
    with pytest.raises(TrainingError, match="trained on A_2"):
        calibration.collect([str(model)], studies, folder, subjects=["A_2"], device="cpu")
    again = next(case for case in find_cases(studies) if case.subject == "A_2")
    with pytest.raises(TrainingError, match="trained on A_2"):
        calibration_data.residuals(Synthesizer(str(model), "cpu", "fp32"), again, load_pair(again, "t1"))
