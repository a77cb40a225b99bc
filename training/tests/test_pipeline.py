"""From studies on disk to a checkpoint that the engine runs, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mrsynth_training import evaluation
from mrsynth_training.cli import main
from mrsynth_training.evaluation import summarize
from mrsynth_training.pairs import load_pair
from mrsynth_training.preparation import find_cases
from mrsynth_training.protocols import PROTOCOLS
from mrsynth_training.scoring import score
from mrsynth_training.slices import open_store
from MRSynthLib.engine import checkpoint
from MRSynthLib.engine.errors import OutputError
from MRSynthLib.engine.files import read_volume
from MRSynthLib.engine.synthesis import Synthesizer

SMOKE = Path(__file__).resolve().parents[1] / "configs" / "smoke.yaml"


@pytest.fixture(scope="module")
def store(studies, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    assert main(["prepare", str(studies), "-o", str(folder), "--validation", "A"]) == 0
    return folder


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    options = ["--store", str(store), "-o", str(folder), "--accelerator", "cpu", "--threads", "1"]
    assert main(["train", str(SMOKE), *options]) == 0
    return folder


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "smoke.safetensors"
    assert main(["export", str(run), "-o", str(path), "--name", "smoke", "--known-failure", "Everything."]) == 0
    return path


@pytest.fixture(scope="module")
def evaluated(exported, studies, tmp_path_factory):
    path = tmp_path_factory.mktemp("scores") / "metrics.json"
    chosen = ["--subjects", "A_1", "C", "-o", str(path), "--device", "cpu"]
    assert main(["evaluate", "--model", str(exported), "--data", str(studies), *chosen]) == 0
    return path


def test_a_patient_is_never_on_both_sides(store):
    rows = open_store(store).rows
    sides = {role: {row["patient"] for row in rows if row["role"] == role} for role in ("train", "validation")}
    assert sides == {"train": {"B", "C"}, "validation": {"A"}}
    assert {row["subject"] for row in rows if row["role"] == "validation"} == {"A_1", "A_2"}


def test_prepared_slices_are_scaled_and_their_background_is_0(store):
    store = open_store(store)
    for contrast in range(2):
        tissue = store.data[:, contrast][store.mask > 0]
        assert 0.95 < np.percentile(tissue, 99) <= 1
        assert not store.data[:, contrast][:, 0].any()
    assert [subject["registered"] for subject in store.meta["subjects"]] == [False, False, False, True]


def test_card_says_how_it_was_made(exported, run):
    card = checkpoint.load(exported).card
    roles = {entry["subject"]: entry["role"] for entry in card["training_data"]}
    assert roles == {"A_1": "validation", "A_2": "validation", "B": "train", "C": "train"}
    assert {entry["subject"]: entry["patient"] for entry in card["training_data"]} == {
        "A_1": "A", "A_2": "A", "B": "B", "C": "C"
    }  # fmt: skip
    assert card["training"]["steps"] == card["training"]["planned_steps"] == 20
    assert card["training"]["losses"]["cycle"] == {"weight": 0.1, "from_step": 11, "to_step": 20}
    assert set(card["training"]["losses"]) == {"paired_l1", "ssim", "cycle", "adversarial"}
    assert card["known_failures"][-1] == "Everything."
    assert "only 2 studies" in card["known_failures"][0]
    assert card["licence"].startswith("Research use only")  # of unknown licence
    assert card["metrics"] == {}


def test_engine_runs_the_export(exported, studies):
    volume = read_volume(studies / "C" / "t1.nii.gz")
    result = Synthesizer(exported, device="cpu").synthesize(volume, "t2", source="t1")
    assert result.volume.shape == volume.shape
    assert not result.volume.voxels[volume.voxels == 0].any()


def test_evaluation_scores_every_protocol_and_keeps_roles_apart(evaluated, exported):
    results = json.loads(evaluated.read_text())
    assert results["checkpoint"]["sha256"] == checkpoint.load(exported).sha256
    assert list(results["summary"]) == ["validation", "train"]
    assert results["failures"] == {}
    by_key = {(entry["subject"], entry["direction"]): entry for entry in results["subjects"]}
    assert len(by_key) == 4
    assert {*PROTOCOLS} - {"lesion"} == set(by_key["A_1", "t1_to_t2"]["scores"])
    assert {"lesion", "lesion_rim"} < set(by_key["C", "t2_to_t1"]["scores"])
    assert by_key["C", "t1_to_t2"]["registered"]
    for direction in ("t1_to_t2", "t2_to_t1"):
        mean = results["summary"]["validation"][direction]["paper"]["psnr"]
        assert mean["mean"] == by_key["A_1", direction]["scores"]["paper"]["psnr"]
        assert mean["subjects"] == 1


def test_metrics_go_into_the_card_of_the_same_weights(run, exported, evaluated, tmp_path):
    path = tmp_path / "final.safetensors"
    arguments = ["export", str(run), "-o", str(path), "--name", "final", "--metrics", str(evaluated)]
    assert main([*arguments, "--frame", "native", "--licence", "CC0"]) == 0
    card = checkpoint.load(path).card
    assert card["weights_sha256"] == checkpoint.load(exported).card["weights_sha256"]
    assert card["metrics"]["validation"]["t1_to_t2"]["paper"]["psnr"] > 0
    assert card["licence"] == "CC0"


def test_metrics_of_other_weights_and_the_wrong_frame_are_refused(run, evaluated, tmp_path, capsys):
    results = json.loads(evaluated.read_text())
    results["checkpoint"]["weights_sha256"] = "0" * 64
    other = tmp_path / "other.json"
    other.write_text(json.dumps(results))
    path = tmp_path / "no.safetensors"
    for options in (["--metrics", str(other)], ["--metrics", str(tmp_path / "none")], ["--frame", "paper"]):
        assert main(["export", str(run), "-o", str(path), "--name", "no", *options]) == 3
    assert not path.exists()
    assert "Evaluate this run's export" in capsys.readouterr().err


def test_an_unfinished_run_is_exported_with_a_warning(store, tmp_path, capsys):
    options = ["--store", str(store), "-o", str(tmp_path / "run"), "--accelerator", "cpu", "--max-minutes", "0"]
    assert main(["train", str(SMOKE), *options]) == 0
    path = tmp_path / "early.safetensors"
    assert main(["export", str(tmp_path / "run"), "-o", str(path), "--name", "early"]) == 0
    assert "not complete: step 1 of 20" in capsys.readouterr().err
    assert set(checkpoint.load(path).card["training"]["losses"]) == {"paired_l1", "ssim"}


def test_acquired_reference_as_synthetic_scores_best(studies):
    case = next(case for case in find_cases(studies) if case.subject == "B")
    pair = load_pair(case, "t1")
    scores = score(pair, np.rint(pair.reference * 1000).astype(np.int16))
    assert scores["paper"]["psnr"] > 60
    assert scores["brain"]["ssim"] > 0.999
    assert scores["drift"]["p95"] < 1e-3


def test_reference_is_brought_onto_the_sources_grid(studies):
    case = next(case for case in find_cases(studies) if case.subject == "C")
    pair = load_pair(case, "t1")
    original = load_pair(next(c for c in find_cases(studies) if c.subject == "B"), "t1")
    assert pair.registered and not original.registered
    assert pair.reference.shape == pair.source.shape
    assert not pair.scored[:, :2].any()  # where T2 was not measured
    assert pair.reference[pair.lesion].mean() == pytest.approx(0.8, abs=0.1)


def test_means_never_mix_roles():
    entries = [
        {"role": role, "direction": "t1_to_t2", "scores": {"paper": {"psnr": value}}}
        for role, value in (("train", 30.0), ("validation", 20.0), ("unseen", 10.0), ("train", 32.0))
    ]
    summary = summarize(entries)
    assert list(summary) == ["validation", "unseen", "train"]
    assert [s["t1_to_t2"]["paper"]["psnr"]["mean"] for s in summary.values()] == [20, 10, 31]


def test_mistakes_on_the_command_line_are_told(studies, exported, tmp_path, capsys):
    assert main(["prepare", str(tmp_path), "-o", str(tmp_path / "store")]) == 3
    assert main(["prepare", str(studies), "-o", str(tmp_path / "store"), "--validation", "Z"]) == 3
    assert main(["evaluate", "--model", str(exported), "--data", str(studies), "--subjects", "Z"]) == 3
    assert main(["evaluate", "--model", "none", "--data", str(studies)]) == 4
    said = capsys.readouterr().err
    assert "no patient named Z" in said and "no subject named Z" in said and "no checkpoint 'none'" in said


def test_a_file_that_cannot_be_written_is_told_before_scoring_and_the_table_comes_first(
    exported, studies, tmp_path, capsys, monkeypatch
):
    options = ["evaluate", "--model", str(exported), "--data", str(studies), "--device", "cpu"]
    with monkeypatch.context() as patched:
        patched.setattr(evaluation, "evaluate", None)
        assert main([*options, "-o", str(tmp_path / "none" / "s.json")]) == 5
        assert main([*options, "-o", str(tmp_path)]) == 5
    assert "There is no folder" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())

    def full(*_):
        raise OutputError("output-full", "full", "space")

    monkeypatch.setattr(evaluation, "write", full)
    assert main([*options, "--subjects", "B", "--protocols", "brain", "-o", str(tmp_path / "s.json")]) == 5
    assert "MEAN train" in capsys.readouterr().out
