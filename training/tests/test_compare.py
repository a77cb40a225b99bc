"""Baselines and comparisons on phantom patients whose answers are known."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from mrsynth_training import baselines, candidates, compare, downstream, evaluation
from mrsynth_training.cli import main
from mrsynth_training.pairs import load_pair
from mrsynth_training.preparation import find_cases
from MRSynthLib.engine import checkpoint, generators, intensity, model_folders


@pytest.fixture(scope="module")
def cases(studies):
    return {case.subject: case for case in find_cases(studies)}


@pytest.fixture(scope="module")
def training(cases):
    return baselines.fit([cases["A_1"], cases["A_2"]])


def errors(pair, training):
    """Mean squared error in the brain by baseline."""
    result = {}
    for baseline in baselines.every(training):
        made, _ = baseline.synthesize(pair)
        assert made.dtype == np.int16 and not made[pair.source.voxels == 0].any()
        result[baseline.name] = float(np.mean((made[pair.brain] / 1000 - pair.reference[pair.brain]) ** 2))
    return result


def test_identity_is_the_source_on_its_own_scale(cases, training):
    pair = load_pair(cases["B"], "t1")
    made, _ = baselines.Baseline("identity", training).synthesize(pair)
    assert np.array_equal(made, intensity.to_output(pair.unit_source()))


def test_regression_is_the_mean_target_of_each_source_intensity(cases, training):
    pairs = [load_pair(cases[name], "t1") for name in ("A_1", "A_2")]
    bins = [(p.unit_source()[p.brain] * 64).astype(int) for p in pairs]
    fullest = int(np.bincount(bins[0]).argmax())
    chosen = [values == fullest for values in bins]
    weights = [1 / p.brain.sum() for p in pairs]
    sums = sum(w * p.reference[p.brain][c].sum() for w, p, c in zip(weights, pairs, chosen, strict=True))
    counts = sum(w * c.sum() for w, c in zip(weights, chosen, strict=True))
    assert training.regression["t1"][fullest] == pytest.approx(sums / counts, rel=1e-6)


@pytest.mark.parametrize("contrast", ["t1", "t2"])
def test_regression_beats_the_others_where_contrast_turns_round(cases, training, contrast):
    found = errors(load_pair(cases["B"], contrast), training)
    assert found["voxel-wise regression"] < 0.5 * min(found["identity"], found["histogram matching"])


def test_histogram_matching_gives_the_training_subjects_distribution_and_keeps_the_order(cases, training):
    pair = load_pair(cases["B"], "t1")
    made, _ = baselines.Baseline("histogram matching", training).synthesize(pair)
    for share in (0.1, 0.5, 0.9):
        wanted = training.quantiles["t2"][round(100 * share)]
        assert np.quantile(made[pair.brain] / 1000, share) == pytest.approx(wanted, abs=0.02)
    order = np.argsort(pair.unit_source()[pair.brain], kind="stable")
    assert (np.diff(made[pair.brain][order].astype(int)) >= 0).all()


def test_what_was_learnt_can_be_kept(training, tmp_path):
    baselines.write(training, tmp_path / "b.json")
    assert baselines.read(tmp_path / "b.json") == training


def test_baselines_are_not_judged_by_their_own_training_patients(training, cases):
    first = dataclasses.replace(training, subjects=("A_1",))
    roles = {b.name: {name: b.role(case) for name, case in cases.items()} for b in baselines.every(first)}
    assert set(roles["identity"].values()) == {"unseen"}
    assert roles["voxel-wise regression"] == {"A_1": "train", "A_2": "train", "B": "unseen", "C": "unseen"}


def test_tissues_of_a_phantom_are_found_in_both_contrasts(cases):
    pair = load_pair(cases["B"], "t1")
    for image, contrast in ((pair.unit_source(), "t1"), (pair.reference, "t2")):
        labels = downstream.segment(image, pair.brain, contrast)
        assert not labels[~pair.brain].any()
        means = [image[labels == label].mean() for label in (1, 2, 3)]
        assert means == sorted(means, reverse=contrast == "t2")
        ventricle = pair.reference > 0.9
        assert downstream.dice(labels == 1, ventricle) > 0.9


def test_tissue_scores_of_the_reference_itself_are_perfect_and_a_constant_is_not(cases):
    pair = load_pair(cases["B"], "t1")
    same = downstream.score(pair, pair.reference)
    assert same["dice"] == 1
    assert same["volume_white_made"] == same["volume_white_true"]
    assert same["mean_csf_made"] == same["mean_csf_true"]
    spacing = np.prod(pair.source.spacing) / 1000
    total = sum(same[f"volume_{name}_true"] for name in downstream.TISSUES)
    assert total == pytest.approx(pair.brain.sum() * spacing)
    assert downstream.score(pair, np.where(pair.brain, 0.5, 0))["dice"] < 0.5


def test_dice_by_hand():
    first, second = np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 0], bool)
    assert downstream.dice(first, second) == 0.5
    assert downstream.dice(first, ~first) == 0
    assert downstream.dice(first & ~first, first & ~first) == 1


def test_differences_are_tested_in_one_family_per_score():
    subjects = [f"s{n}" for n in range(8)]
    base = dict(zip(subjects, np.linspace(20, 30, 8), strict=True))
    scores = {
        direction: {
            "ours": {s: value + gain for s, value in base.items()},
            "theirs": base,
            "same": {s: value + gain for s, value in base.items()},
        }
        for direction, gain in (("t1_to_t2", 1.0), ("t2_to_t1", -1.0))
    }
    rows = {(row["direction"], row["other"]): row for row in compare.tested(scores, "ours")}
    assert len(rows) == 4
    assert rows["t1_to_t2", "theirs"]["mean"] == pytest.approx(1)
    assert rows["t2_to_t1", "theirs"]["mean"] == pytest.approx(-1)
    assert rows["t1_to_t2", "theirs"]["p"] == pytest.approx(2 / 2**8)
    assert rows["t1_to_t2", "theirs"]["p_holm"] == pytest.approx(4 * 2 / 2**8)  # four tests of this score
    assert rows["t1_to_t2", "same"]["p_holm"] == 1


def test_only_subjects_that_both_have_are_compared():
    scores = {"t1_to_t2": {"ours": {"a": 2.0, "b": 3.0, "c": 9.0}, "theirs": {"a": 1.0, "b": 1.0, "d": 0.0}}}
    (row,) = compare.tested(scores, "ours")
    assert (row["subjects"], row["mean"]) == (2, 1.5)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two untrained checkpoints whose cards say that they were trained on A_1, the first visit of a patient."""
    folder = tmp_path_factory.mktemp("models")
    card = dict(checkpoint.read_card(model_folders.find("mrsynth-native")))
    data = [{"subject": "A_1", "source": "", "licence": "", "role": "train"}]
    arguments = {"growth": 4, "blocks": [1, 1, 1, 1]}
    for name in ("one", "two"):
        generator = generators.build("DenseUNet", arguments)
        about = {"name": name, "training_data": data, "generator": {"name": "DenseUNet", "arguments": arguments}}
        checkpoint.save(generator, {**card, **about}, folder / f"{name}.safetensors")
    return folder


def test_compare_writes_means_and_tests_of_unseen_subjects(models, studies, tmp_path, capsys):
    paths = [str(models / "one.safetensors"), f"other={models / 'two.safetensors'}"]
    options = ["--data", str(studies), "-o", str(tmp_path), "--device", "cpu", "--protocols", "brain", "tissue"]
    chosen = ["--subjects", "A_1", "A_2", "B"]
    assert main(["compare", "--models", *paths, *options, *chosen]) == 0
    content = json.loads((tmp_path / "compare.json").read_text())
    assert content["candidates"] == ["one", "other", *baselines.NAMES]
    assert content["subjects"] == ["B"]  # of A, the first visit was trained on
    assert {entry["role"] for entry in content["results"]["one"]["subjects"]} == {"unseen"}
    others = {row["other"] for row in content["differences"]}
    assert others == {"other", *baselines.NAMES}
    assert {(row["protocol"], row["score"]) for row in content["differences"]} == {
        ("brain", "psnr"), ("brain", "ssim"), ("brain", "mae"), ("tissue", "dice")
    }  # fmt: skip
    text = (tmp_path / "compare.md").read_text()
    assert "With so few subjects (1) no difference can reach p < 0.05" in text
    assert "n = 1 subject," in text and content["commit"] in text
    assert "| one − voxel-wise regression | 1 |" in capsys.readouterr().out


def test_another_visit_of_a_training_patient_is_scored_as_trained_on(models, studies, tmp_path):
    model = candidates.network(str(models / "one.safetensors"), "cpu")
    for _ in range(2):  # as scored, and as kept
        (found,) = evaluation.evaluate(
            [model], studies, subjects=["A_2", "B"], protocols=["brain"], cache=tmp_path, report=lambda line: None
        )
        assert {entry["subject"]: entry["role"] for entry in found["subjects"]} == {"A_2": "train", "B": "unseen"}
        for file in tmp_path.rglob("A_2*.json"):
            file.write_text(file.read_text().replace('"train"', '"unseen"'))  # as an earlier version kept it


def test_nothing_unseen_or_nothing_to_fit_to_is_told(models, studies, tmp_path, capsys):
    model = str(models / "one.safetensors")
    options = ["--data", str(studies), "-o", str(tmp_path), "--device", "cpu", "--protocols", "brain"]
    assert main(["compare", "--models", model, *options, "--subjects", "A_1"]) == 3
    assert main(["compare", "--models", "mrsynth-native", *options]) == 3
    assert main(["compare", "--models", model, model, *options]) == 3
    said = capsys.readouterr().err
    assert "every subject was in some candidate's training data" in said
    assert "mrsynth-native was trained on none" in said and "--no-baselines" in said
    assert "Expected: different names" in said
    assert not (tmp_path / "compare.json").exists()


def test_a_folder_that_cannot_be_made_is_told_before_anything_is_scored(studies, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(compare, "compare", None)
    (tmp_path / "file").write_text("")
    options = ["compare", "--models", "mrsynth-native", "--data", str(studies), "-o"]
    assert main([*options, str(tmp_path / "file" / "x")]) == 5
    (tmp_path / "out" / "compare.md").mkdir(parents=True)
    assert main([*options, str(tmp_path / "out")]) == 5
    assert "compare.md' is a folder" in capsys.readouterr().err
