"""Artefacts, lesions, attacks and the gate: good generators pass, broken ones are caught by what they break."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from mrsynth_training import artefacts, attack_bench, attacks, faithfulness_cli, gate, lesion_trials, lesions
from mrsynth_training.cli import main
from mrsynth_training.errors import TrainingError
from mrsynth_training.lesion_trials import Trial
from mrsynth_training.pairs import Pair, load_pair
from mrsynth_training.preparation import find_cases
from mrsynth_training.variants import VARIANTS, Run, flips
from MRSynthLib.engine.volume import Volume

CONTRASTS = ("t1", "t2")


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    """A computed patient of 3 mm voxels, in both directions."""
    return [attack_bench.phantom_pair(4, contrast, 3.0) for contrast in CONTRASTS]


@pytest.fixture(scope="module")
def trials() -> list[Trial]:
    return lesion_trials.phantoms(2, 3.0)


# --- artefacts ----------------------------------------------------------------------------


def tiled(pair: Pair, amplitude: float, period: int) -> np.ndarray:
    """The reference with a pattern that repeats every so many voxels, in the slice."""
    _, j, i = np.indices(pair.reference.shape)
    pattern = np.where((j % period < period // 2) ^ (i % period < period // 2), amplitude, -amplitude)
    return np.clip(np.where(pair.brain, pair.reference + pattern, 0), 0, 1).astype(np.float32)


def test_the_reference_itself_has_no_artefact(pairs: list[Pair]) -> None:
    for pair in pairs:
        found = artefacts.measures(pair, pair.reference)
        for name, value in found.items():
            if name not in ("sharpness", "gain_over_source"):
                assert value == pytest.approx(0, abs=1e-6), name
        assert found["sharpness"] == pytest.approx(1)
        assert found["gain_over_source"] > 50


def test_flicker_is_what_sticks_out_and_drift_is_any_change(pairs: list[Pair]) -> None:
    pair = pairs[0]
    shape = [-1, 1, 1]  # the phantom's first axis is up
    count = pair.reference.shape[0]
    alternating = (pair.reference * (1 + 0.05 * (-1.0) ** np.arange(count)).reshape(shape)).astype(np.float32)
    rising = (pair.reference * (0.8 + 0.01 * np.arange(count)).reshape(shape)).astype(np.float32)
    one, other = (artefacts.measures(pair, made) for made in (alternating, rising))
    assert one["flicker_axial"] == pytest.approx(0.1, rel=0.1)
    assert one["drift_axial"] == pytest.approx(0.1, rel=0.05)
    assert other["flicker_axial"] < 0.002
    assert other["drift_axial"] == pytest.approx(0.01, rel=0.05)
    assert one["flicker_coronal"] < 0.01 and one["flicker_sagittal"] < 0.01


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_each_plane_has_its_own_drift(pairs: list[Pair], axis: int) -> None:
    shape = [1, 1, 1]
    shape[axis] = -1
    flicker = (1 + 0.05 * (-1.0) ** np.arange(pairs[0].reference.shape[axis])).reshape(shape)
    found = artefacts.measures(pairs[0], (pairs[0].reference * flicker).astype(np.float32))
    drifts = [found[f"drift_{plane}"] for plane in artefacts.PLANES]
    assert int(np.argmax(drifts)) == axis
    assert drifts[axis] == pytest.approx(0.1, rel=0.1)


def test_tiles_are_found_in_their_period_and_noise_is_none() -> None:
    pair = attack_bench.phantom_pair(4, "t1", 2.0)
    # 16 pixels of the native frame, which is 1 mm, are not a whole number of these voxels: made on the slices.
    from MRSynthLib.engine import standard_space

    space = standard_space.plan(pair.source, pair.brain, "native")
    rows, columns = np.indices(space.to_model(pair.reference).shape[1:])

    def found(period: int, amplitude: float) -> float:
        pattern = amplitude * np.where((rows % period < period // 2) ^ (columns % period < period // 2), 1.0, -1.0)
        slices = np.broadcast_to(pattern, space.to_model(pair.reference).shape).astype(np.float32)
        return artefacts.tiling(space.to_input(slices), pair)

    assert found(16, 0.03) == pytest.approx(0.03, rel=0.4)
    assert found(32, 0.03) == pytest.approx(0.03, rel=0.4)
    assert found(13, 0.03) < 0.005
    noise = np.random.default_rng(1).normal(0, 0.1, pair.reference.shape).astype(np.float32)
    assert artefacts.tiling(noise, pair) < 0.003


def test_sides_leakage_bias_blur_and_a_copy_are_told(pairs: list[Pair]) -> None:
    pair = pairs[0]
    half = np.zeros(pair.reference.shape, bool)
    half[..., pair.reference.shape[2] // 2 :] = True
    made = np.where(half, 1.1, 1.0) * pair.reference
    assert artefacts.asymmetry(pair.reference, made, pair) == pytest.approx(np.log(1.1), rel=0.1)
    assert artefacts.measures(pair, 0.8 * pair.reference)["bias"] == pytest.approx(-0.2, abs=1e-3)
    blurred = ndimage.gaussian_filter(pair.reference, 4 / 3)
    assert artefacts.measures(pair, blurred)["sharpness"] < 0.6
    assert artefacts.measures(pair, pair.unit_source())["gain_over_source"] == pytest.approx(0, abs=1e-6)
    glow = np.where(pair.brain, pair.reference, 0.2).astype(np.float32)
    assert artefacts.leakage(pair, glow) == {"leakage": pytest.approx(0.2)}
    assert artefacts.leakage(pair, pair.reference) == {"leakage": 0}


# --- lesions ------------------------------------------------------------------------------


def perfect(trial: Trial, volume: Volume, ill: bool = True) -> np.ndarray:
    truth = trial.ill_truth if volume is trial.ill and ill else trial.healthy_truth
    return np.rint(truth * 1000).astype(np.int16)


def test_lesions_have_the_volume_that_was_asked_for_and_lie_apart(trials: list[Trial]) -> None:
    fine = lesion_trials.phantoms(2, 1.5)[0]
    assert len(fine.lesions) >= 12
    for lesion in fine.lesions:
        measured = lesion.core.sum() * 1.5**3 / 1000
        if lesion.millilitres >= 0.2:
            assert measured == pytest.approx(lesion.millilitres, rel=0.25)
    taken = np.zeros(fine.brain.shape, int)
    for lesion in fine.lesions:
        taken[lesion.box] += lesion.core
    assert taken.max() == 1
    assert np.array_equal(trials[0].brain, trials[1].brain)


def test_a_lesion_changes_both_contrasts_as_water_does(trials: list[Trial]) -> None:
    to_t2, to_t1 = trials
    for lesion in to_t2.lesions:
        for trial, sign in ((to_t2, 1), (to_t1, -1)):
            change = (trial.ill_truth - trial.healthy_truth)[lesion.box][lesion.core].mean()
            assert sign * change > 0.005
    far = np.ones(to_t2.brain.shape, bool)
    for lesion in to_t2.lesions:
        far[lesion.box] = False
    assert np.array_equal(to_t2.ill_truth[far], to_t2.healthy_truth[far])


def test_a_perfect_generator_keeps_all_and_invents_nothing(trials: list[Trial]) -> None:
    for trial in trials:
        rows = lesions.examined(trial, lambda volume, _, t=trial: perfect(t, volume))
        assert 0.7 * len(trial.lesions) < len(rows) <= len(trial.lesions)  # faint ones are not seen in every truth
        assert all(row["response"] == pytest.approx(1, abs=0.05) for row in rows)
        assert not any(row["invented"] for row in rows)
        # Of a lesion of a few voxels, rounding to the output's scale may turn one over.
        assert all(abs(row["volume_error"]) < 0.05 for row in rows if row["millilitres"] >= 1)
        summary = lesions.summarize([{"origin": "phantom", **row} for row in rows])["phantom"][trial.direction]
        assert summary["all"]["kept"] == 1 and summary["all"]["erased"] == 0
        assert summary["smallest_kept"] == min(float(size) for size in summary["sizes"])


def test_an_eraser_and_an_inventor_are_told(trials: list[Trial]) -> None:
    trial = trials[0]
    erased = lesions.examined(trial, lambda volume, _: perfect(trial, volume, ill=False))
    assert all(row["response"] == pytest.approx(0, abs=0.05) for row in erased)
    assert (
        lesions.summarize([{"origin": "phantom", **row} for row in erased])["phantom"]["t1_to_t2"]["all"]["erased"] == 1
    )
    always = np.rint(trial.ill_truth * 1000).astype(np.int16)
    invented = lesions.examined(trial, lambda *_: always)
    assert np.mean([row["invented"] for row in invented]) > 0.9
    half = lesions.examined(
        trial,
        lambda volume, _: np.rint(
            (trial.healthy_truth + (perfect(trial, volume) / 1000 - trial.healthy_truth) / 2) * 1000
        ),
    )
    assert all(row["response"] == pytest.approx(0.5, abs=0.05) for row in half)


def test_the_smallest_size_that_is_kept() -> None:
    def rows(*shares: tuple[float, int, int]) -> list[dict[str, Any]]:
        return [
            {"millilitres": size, "response": 1.0 if n < kept else 0.1}
            for size, kept, count in shares
            for n in range(count)
        ]

    assert lesions.smallest_kept(rows((0.05, 20, 20), (0.5, 19, 20), (5.0, 20, 20))) == 0.05
    assert lesions.smallest_kept(rows((0.05, 20, 20), (0.5, 18, 20), (5.0, 20, 20))) == 5
    assert lesions.smallest_kept(rows((0.5, 20, 20), (5.0, 18, 20))) is None


@pytest.fixture(scope="module")
def real(studies: Path) -> list[Pair]:
    case = next(case for case in find_cases(studies) if case.subject == "C")
    return [load_pair(case, contrast) for contrast in CONTRASTS]


def test_lesions_are_put_into_real_volumes(studies: Path) -> None:
    case = next(case for case in find_cases(studies) if case.subject == "B")
    for contrast, sign in (("t1", 1), ("t2", -1)):
        pair = load_pair(case, contrast)
        trial = lesion_trials.inserted(pair)
        assert trial.lesions
        assert trial.healthy is pair.source
        for lesion in trial.lesions:
            truth = (trial.ill_truth - trial.healthy_truth)[lesion.box][lesion.core].mean()
            source = (trial.ill.voxels - trial.healthy.voxels.astype(float))[lesion.box][lesion.core].mean()
            assert sign * truth >= 0 >= sign * source


def test_own_lesions_are_painted_over_with_what_is_around_them(real: list[Pair]) -> None:
    for pair in real:
        trial = lesion_trials.removed(pair)
        assert trial is not None and len(trial.lesions) == 1
        lesion = trial.lesions[0]
        assert pair.lesion is not None
        far = ~ndimage.binary_dilation(pair.lesion)
        assert np.array_equal(trial.healthy.voxels[far], pair.source.voxels[far])
        contrast = [abs(v.voxels[lesion.box][lesion.core].mean() - v.voxels[lesion.box][lesion.shell].mean())
                    for v in (trial.healthy, trial.ill)]  # fmt: skip
        assert contrast[0] < 0.35 * contrast[1]
        always = np.rint(pair.reference * 1000).astype(np.int16)
        (row,) = lesions.examined(trial, lambda *_, a=always: a, own=True)
        assert row["still_there"] and row["response"] == pytest.approx(1, abs=0.05)


# --- attacks ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", attacks.ATTACKS)
def test_every_attack_moves_source_and_truth_alike(pairs: list[Pair], name: str) -> None:
    pair = pairs[0]
    attacked = attacks.ATTACKS[name](pair, np.random.default_rng(0))
    assert attacked.source.voxels.shape == attacked.move(pair.reference).shape == attacked.scored.shape
    assert attacked.scored.any()
    assert (attacked.source.voxels[attacked.scored] > 0).mean() > 0.98
    if attacked.move is not attacks._same:
        np.testing.assert_allclose(
            attacked.move(pair.source.voxels.astype(np.float32)), attacked.source.voxels, rtol=1e-5
        )
    else:
        assert not np.array_equal(attacked.source.voxels, pair.source.voxels)


def test_turning_is_by_20_degrees_about_the_middle_and_blocks_keep_their_place(pairs: list[Pair]) -> None:
    pair = pairs[0]
    axis = np.zeros(pair.reference.shape, np.float32)
    k, j, i = (int(np.nonzero(pair.brain)[n].mean()) for n in range(3))
    axis[k, j : j + 15, i - 1 : i + 2] = 1
    turned = np.argwhere(attacks.turned(pair, np.random.default_rng(0)).move(axis) > 0.5) - (k, j, i)
    direction = turned[np.argmax(np.linalg.norm(turned, axis=1))]
    assert np.degrees(np.arctan2(abs(direction[2]), abs(direction[1]))) == pytest.approx(20, abs=5)
    thick = attacks.thick(pair, np.random.default_rng(0))
    assert thick.source.spacing == pytest.approx((3, 3, 6))
    middles = [
        (volume.ijk_to_ras @ (*((n - 1) / 2 for n in volume.shape[::-1]), 1))[:3]
        for volume in (pair.source, thick.source)
    ]
    assert middles[0] == pytest.approx(middles[1])
    # Where the brain is, it stays: its middle in mm is the same.
    places = [
        volume.ijk_to_ras @ (*(axis.mean() for axis in np.nonzero(mask)[::-1]), 1)
        for volume, mask in ((pair.source, pair.brain), (thick.source, thick.scored))
    ]
    assert places[0] == pytest.approx(places[1], abs=1.0)
    fine = attacks.coarse(pair, np.random.default_rng(0)).source
    assert fine.spacing == pytest.approx((3, 3, 3))  # coarser than 2 mm already


# --- gate ---------------------------------------------------------------------------------


def scores_of(pairs: list[Pair], make: Any, weights: str = "w") -> dict[str, Any]:
    subjects = [
        {
            "subject": pair.subject,
            "role": "unseen",
            "direction": pair.direction,
            "scores": {"artefacts": artefacts.measures(pair, make(pair))},
        }
        for pair in pairs
    ]
    return {"checkpoint": {"weights_sha256": weights}, "subjects": subjects}


def lesions_of(trials: list[Trial], ill: bool = True, weights: str = "w") -> dict[str, Any]:
    rows = [
        {"origin": "phantom", **row}
        for trial in trials
        for row in lesions.examined(trial, lambda volume, _, t=trial: perfect(t, volume, ill))
    ]
    summary = lesions.summarize(rows)
    return {"kind": "lesions", "checkpoint": {"weights_sha256": weights}, "lesions": rows, "summary": summary}


def good(pair: Pair) -> np.ndarray:
    """Neither perfect nor broken: the reference with some noise."""
    noise = np.random.default_rng(2).normal(0, 0.05, pair.reference.shape)
    return np.clip(np.where(pair.brain, pair.reference + noise, 0), 0, 1).astype(np.float32)


BROKEN = {
    "gain_over_source": lambda pair: pair.unit_source(),
    "sharpness": lambda pair: ndimage.gaussian_filter(pair.reference, 2.0),
    "tiling": lambda pair: tiled(pair, 0.15, 16),
    "flicker_axial": lambda pair: pair.reference * (1 + 0.1 * (-1.0) ** np.arange(len(pair.reference)))[:, None, None],
    "bias": lambda pair: 0.5 * pair.reference,
    "asymmetry": lambda pair: pair.reference * np.linspace(0.7, 1.2, pair.reference.shape[2], dtype=np.float32),
}


def failed(*documents: dict[str, Any]) -> set[str]:
    return {finding.measure for finding in gate.judged(documents) if not finding.passed}


def test_a_good_generator_passes_the_gate(pairs: list[Pair], trials: list[Trial]) -> None:
    assert failed(scores_of(pairs, good), lesions_of(trials)) == set()


@pytest.mark.parametrize("measure", BROKEN)
def test_a_broken_generator_fails_by_what_it_breaks(pairs: list[Pair], trials: list[Trial], measure: str) -> None:
    if measure == "tiling":  # of the generator's pixels, which are 1 mm
        pairs = [with_native_tiles(contrast) for contrast in CONTRASTS]
        assert measure in failed(scores_of(pairs, lambda pair: pair.measured), lesions_of(trials))
        return
    assert measure in failed(scores_of(pairs, BROKEN[measure]), lesions_of(trials))


def with_native_tiles(contrast: str) -> Pair:
    """A pair whose `measured` is its reference with tiles of 16 pixels of the native frame."""
    from MRSynthLib.engine import standard_space

    pair = attack_bench.phantom_pair(4, contrast, 3.0)
    space = standard_space.plan(pair.source, pair.brain, "native")
    slices = space.to_model(pair.reference)
    rows, columns = np.indices(slices.shape[1:])
    slices += 0.05 * np.where((rows % 16 < 8) ^ (columns % 16 < 8), 1.0, -1.0).astype(np.float32)
    made = np.clip(np.where(pair.brain, space.to_input(slices), 0), 0, 1)
    return dataclasses.replace(pair, measured=made.astype(np.float32))


def test_a_lesion_eraser_fails_the_gate(pairs: list[Pair], trials: list[Trial]) -> None:
    assert failed(scores_of(pairs, good), lesions_of(trials, ill=False)) == {"response"}


def test_what_was_not_measured_is_not_passed(pairs: list[Pair], trials: list[Trial]) -> None:
    assert failed(scores_of(pairs, good)) == {"response", "invented"}
    assert "tiling" in failed(lesions_of(trials))
    trained = scores_of(pairs, good)
    for entry in trained["subjects"]:
        entry["role"] = "train"  # what was trained on proves nothing
    assert "gain_over_source" in failed(trained, lesions_of(trials))


def test_no_document_hides_what_another_one_tells(pairs: list[Pair], trials: list[Trial]) -> None:
    sharp, blurred = scores_of(pairs, good), scores_of(pairs, BROKEN["sharpness"])
    keeping, erasing = lesions_of(trials), lesions_of(trials, ill=False)
    for documents in ((blurred, sharp, keeping), (sharp, blurred, keeping)):
        assert "sharpness" in failed(*documents)
    for documents in ((sharp, erasing, keeping), (sharp, keeping, erasing)):
        assert failed(*documents) == {"response"}
    worst = {(f.measure, f.direction): f.seen for f in gate.judged([blurred, sharp])}
    alone = {(f.measure, f.direction): f.seen for f in gate.judged([blurred])}
    assert worst["sharpness", "t1_to_t2"] == alone["sharpness", "t1_to_t2"]
    nothing = json.loads(json.dumps(sharp))
    nothing["subjects"][0]["scores"]["artefacts"]["bias"] = float("nan")
    assert failed(nothing, sharp, keeping) == failed(sharp, nothing, keeping) == {"bias"}


def test_the_gate_names_what_was_seen_and_what_is_allowed(
    pairs: list[Pair], trials: list[Trial], tmp_path: Path
) -> None:
    blur, lesion = tmp_path / "scores.json", tmp_path / "lesions.json"
    blur.write_text(json.dumps(scores_of(pairs, BROKEN["sharpness"])))
    lesion.write_text(json.dumps(lesions_of(trials)))
    with pytest.raises(TrainingError, match=r"sharpness t1_to_t2: 0\.\d+, allowed at least"):
        gate.check([blur, lesion], "w")
    with pytest.raises(TrainingError, match="of weights w"):
        gate.check([lesion], "other")
    blur.write_text(json.dumps(scores_of(pairs, good)))
    passed = gate.check([blur, lesion], "w")
    assert all(finding["passed"] for finding in passed["gate"])
    assert passed["lesions"]["phantom"]["t1_to_t2"]["all"]["kept"] == 1
    blur.write_text("{}")
    with pytest.raises(TrainingError, match="cannot be read"):
        gate.check([blur], "w")


# --- the commands, with a checkpoint that was hardly trained --------------------------------


@pytest.fixture(scope="module")
def hardly_trained(studies: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run and its export."""
    folder = tmp_path_factory.mktemp("hardly")
    smoke = Path(__file__).resolve().parents[1] / "configs" / "smoke.yaml"
    assert main(["prepare", str(studies), "-o", str(folder / "store"), "--validation", "A"]) == 0
    options = ["--store", str(folder / "store"), "-o", str(folder / "run"), "--accelerator", "cpu", "--threads", "1"]
    assert main(["train", str(smoke), *options, "--max-minutes", "0"]) == 0
    model = folder / "hardly.safetensors"
    assert main(["export", str(folder / "run"), "-o", str(model), "--name", "hardly"]) == 0
    return folder / "run", model


def test_the_commands_and_the_refusal(
    hardly_trained: tuple[Path, Path], studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, model = hardly_trained
    common = ["--model", str(model), "--device", "cpu"]
    scores, bench = tmp_path / "scores.json", tmp_path / "lesions.json"
    chosen = ["--protocols", "artefacts", "--subjects", "A_1", "-o", str(scores)]
    assert main(["evaluate", *common, "--data", str(studies), *chosen]) == 0
    own = ["--data", str(studies), "--subjects", "A_1"]
    assert main(["lesions", *common, "--phantoms", "1", "--spacing", "4", *own, "-o", str(bench)]) == 0
    found = json.loads(bench.read_text())
    assert {row["origin"] for row in found["lesions"]} == {"phantom", "inserted"}
    assert "| 2 ml |" in capsys.readouterr().out
    picture, table = tmp_path / "attack.png", tmp_path / "attack.json"
    written = ["-o", str(table), "--picture", str(picture)]
    assert main(["attack", *common, "--phantoms", "1", "--spacing", "4", *written]) == 0
    rows = json.loads(table.read_text())["rows"]
    assert {row["attack"] for row in rows} == {"clean", *attacks.ATTACKS}
    assert all(row["loss"] == 0 for row in rows if row["attack"] == "clean")
    assert picture.read_bytes().startswith(b"\x89PNG")
    refused = tmp_path / "refused.safetensors"
    export = ["export", str(run), "-o", str(refused), "--name", "refused", "--gate", str(scores), str(bench)]
    assert main(export) == 3
    said = capsys.readouterr().err
    assert "does not pass the gate" in said and "allowed at least" in said
    assert not refused.exists()


def test_variants_of_a_run_are_scored_where_the_checkpoint_was_not_trained(
    hardly_trained: tuple[Path, Path], studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, model = hardly_trained
    out = tmp_path / "experiments.json"
    common = ["experiments", "--models", str(model), "--data", str(studies), "--device", "cpu", "-o", str(out)]
    assert main([*common, "--subjects", "A_1", "--like", "A_1=A_2"]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert {row["subject"] for row in rows} == {"A_1"}
    assert {row["variant"] for row in rows} == {"plain", *VARIANTS}
    # What is hardly trained may make nothing but darkness, which has no tissue to be matched; that is told, not lost.
    failures = [row for row in rows if "failure" in row]
    assert all(row["variant"] in ("like", "oracle") and "too little brain" in row["failure"] for row in failures)
    assert all("scores" in row for row in rows if row["direction"] == "t1_to_t2")
    scored = {row["variant"]: row["scores"]["brain psnr"] for row in rows if row["direction"] == "t1_to_t2"}
    assert scored["plain"] != scored["like"]
    assert "| t1_to_t2 | like | 1 |" in capsys.readouterr().out
    assert main([*common, "--subjects", "B"]) == 3  # trained on
    assert main([*common, "--subjects", "A_1", "--variants", "like", "--like", "A_1=nobody"]) == 0
    assert "no subject named nobody" in capsys.readouterr().out


def test_the_command_knows_every_variant() -> None:
    assert set(faithfulness_cli.VARIANTS) == set(VARIANTS)


def test_mirroring_goes_there_and_back(pairs: list[Pair]) -> None:
    """A generator that copies its source gives, mirrored and back, the same copy."""

    class Copy:
        def synthesize(self, volume: Volume, *_: Any, **__: Any) -> Any:
            made = dataclasses.make_dataclass("Made", ["volume"])
            return made(volume)

    pair = pairs[0]
    plain = pair.source.voxels
    run = Run(Copy(), pair, plain, {}, (), {})  # type: ignore[arg-type]
    assert np.array_equal(flips(run), plain)
