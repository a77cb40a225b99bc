"""The whole study, from computed patients to the report, with three tiny generators; and what it refuses."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from matplotlib.image import imread

from mrsynth_training import baselines, curves, figures, loop, phantom_files, provenance, study, study_plan
from mrsynth_training.cli import main
from mrsynth_training.errors import TrainingError
from MRSynthLib.engine import checkpoint

GENERATORS = {
    "unet": ("UNet", {"base": 8}),
    "resnet": ("ResNet", {"base": 8, "blocks": 2}),
    "denseunet": ("DenseUNet", {"growth": 8, "blocks": [2, 2, 2, 2]}),
}
FIGURES = {
    *("figure_4", "figure_5", "figure_6", "differences"),
    *("curves", "boxes", "bland_altman", "tissues"),
}
LABELS = ["U-net", "ResNet", "DenseU-net"]


def experiment(kind: str, **changes: object) -> dict[str, object]:
    generator, arguments = GENERATORS[kind]
    return {
        "name": kind,
        "frame": "paper",
        "generator": {"name": generator, "arguments": arguments},
        "framework": "self_inverse_paired",
        "augmentation": "none",
        "crop": 64,
        "batch_size": 8,
        "steps": 80 if kind == "denseunet" else 30,
        "learning_rate": 0.002,
        "schedule": "cosine",
        "losses": {"paired_l1": {"weight": 1.0}, "cycle": {"weight": 0.1, "from_step": 20}},
        "ema_decay": 0.95,
        "checkpoint_every": 80,
        "validate_every": 40,
        "validation_slices": 4,
        **changes,
    }


@pytest.fixture(scope="module")
def patients(tmp_path_factory):
    folder = tmp_path_factory.mktemp("patients")
    phantom_files.write_cohort(folder, 6, seed=3, spacing=4.0)
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiments")
    paths = []
    for name in GENERATORS:
        paths.append(folder / f"{name}.yaml")
        paths[-1].write_text(yaml.safe_dump(experiment(name)))
    return paths


@pytest.fixture(scope="module")
def command(patients, files, tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    options = ["--data", str(patients), "-o", str(out), "--experiments", *map(str, files), "--seeds", "1"]
    return [*options, "--split", "3+2+1", "--accelerator", "cpu", "--threads", "1"]


@pytest.fixture(scope="module")
def done(command):
    """The study's folder after one run."""
    assert main(["study", *command]) == 0
    return study.Path(command[3])


@pytest.fixture(scope="module")
def means(done):
    """Mean score over test subjects by method, direction, protocol and score, from the table that is written."""
    values = defaultdict(list)
    with (done / "tables" / "scores.csv").open() as table:
        for row in csv.DictReader(table):
            values[row["method"], row["direction"], row["protocol"], row["score"]].append(float(row["value"]))
    return {key: float(np.mean(found)) for key, found in values.items()}


@pytest.mark.parametrize("direction", ["t1_to_t2", "t2_to_t1"])
def test_denseunet_learns(means, direction):
    for simple in ("identity", "histogram matching"):
        for score in ("psnr", "ssim"):
            ours, theirs = (means[method, direction, "paper", score] for method in ("DenseU-net", simple))
            assert ours > theirs, (simple, score)


def test_test_subjects_are_never_trained_on(done):
    split = json.loads((done / "store" / "split.json").read_text())
    assert [len(split[role]) for role in ("train", "test", "validation")] == [3, 2, 1]
    tested = {subject for studies in split["test"].values() for subject in studies}
    for name in GENERATORS:
        scored = json.loads((done / "scores" / f"{name}-seed1.json").read_text())
        assert {entry["subject"] for entry in scored["subjects"]} == tested
        assert {entry["role"] for entry in scored["subjects"]} == {"test"}
        assert scored["failures"] == {}
    learnt_from = set(baselines.read(done / "scores" / "baselines.json").subjects)
    assert learnt_from == {subject for studies in split["train"].values() for subject in studies}


def test_report_has_table_2_beside_the_published_figures(done, means):
    text = (done / "report.md").read_text()
    table = text.partition("## Table 2")[2].partition("\n## ")[0]
    rows = {line.split("|")[1].strip(): line for line in table.splitlines() if line.startswith("| ")}
    assert "22.78" in rows["*DenseU-net, published*"] and "0.79" in rows["*DenseU-net, published*"]
    for label in [*LABELS, *baselines.NAMES]:
        assert f"| {means[label, 't1_to_t2', 'paper', 'psnr']:.2f} (" in rows[label]
    assert "Computed patients: nothing in this report says anything about people" in text


def test_every_table_states_protocol_n_seed_and_commit(done):
    sections = (done / "report.md").read_text().split("\n## ")[1:]
    with_tables = [section for section in sections if "|---|" in section]
    assert len(with_tables) == 6
    for section in with_tables:
        state = rf"\*Protocol .+, version 1; n = 2 test subjects; seed 1; {re.escape(provenance.commit())}\.\*"
        assert re.search(state, section), section[:40]
    tumours = next(section for section in sections if section.startswith("Tumour regions"))
    for region in ("whole lesion (n = 2)", "core", "oedema", "enhancing", "5 mm rim"):
        assert region in tumours
    assert "With so few subjects (2) no difference can reach p < 0.05" in "".join(sections)


def test_every_figure_is_drawn_and_shown_in_the_report(done):
    text = (done / "report.md").read_text()
    assert {path.stem for path in (done / "figures").iterdir()} == FIGURES
    for name in FIGURES:
        assert f"](figures/{name}.png)" in text
        image = imread(done / "figures" / f"{name}.png")[..., :3]
        assert image.std() > 0.05 and min(image.shape[:2]) > 300


def test_checkpoints_carry_their_scores_and_are_what_was_scored(done, means):
    for name, label in zip(GENERATORS, LABELS, strict=True):
        card = checkpoint.load(done / "checkpoints" / f"{name}-seed1.safetensors").card
        scored = json.loads((done / "scores" / f"{name}-seed1.json").read_text())
        assert card["weights_sha256"] == scored["checkpoint"]["weights_sha256"]
        said = card["metrics"]["test"]["t2_to_t1"]["paper"]["psnr"]
        assert said == pytest.approx(means[label, "t2_to_t1", "paper", "psnr"], abs=1e-3)


def test_learning_curves_are_those_of_the_run(done):
    found = curves.read(done / "runs" / "denseunet-seed1")
    steps, values = found["loss/paired_l1"]
    assert steps[-1] == 80 and values[-1] < values[0]
    assert found["validation/psnr/t1_to_t2"][0] == [40, 80]


def test_a_second_run_computes_nothing_again(done, command, monkeypatch):
    kept = {
        path: path.stat().st_mtime_ns for path in done.rglob("*") if path.parent.parent.name in ("runs", "subjects")
    }
    assert len(kept) > 20

    def never(*_: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(study, "_train", never)
    monkeypatch.setattr("mrsynth_training.evaluation.score", never)
    monkeypatch.setattr(baselines, "fit", never)
    (done / "report.md").unlink()
    assert main(["study", *command]) == 0
    assert (done / "report.md").exists()
    assert kept == {path: path.stat().st_mtime_ns for path in kept}


def test_other_settings_in_the_same_folder_are_refused(done, command, files, tmp_path, capsys):
    assert main(["study", *command, "--split", "4+2"]) == 3
    changed = tmp_path / "denseunet.yaml"
    changed.write_text(yaml.safe_dump(experiment("denseunet", steps=90)))
    others = [str(changed) if path.name == changed.name else str(path) for path in files]
    start = command.index("--experiments") + 1
    assert main(["study", *command[:start], *others, *command[start + 3 :]]) == 3
    said = capsys.readouterr().err
    assert "other settings (split)" in said and "other settings (denseunet)" in said


def test_seeds_may_be_added(done, command, patients, files):
    experiments = study_plan.experiments("paper", files)
    plan = study_plan.Study(patients, done, experiments, (1, 2), split="3+2+1")
    study._claim(plan)
    assert json.loads((done / "study.json").read_text())["seeds"] == [1, 2]
    assert [(e.name, e.seed) for e, _, _ in study._plan(plan)] == [
        (name, seed) for seed in (1, 2) for name in GENERATORS
    ]
    study._claim(study_plan.Study(patients, done, experiments, (1,), split="3+2+1"))


def test_a_training_that_fails_stops_the_study_by_name(patients, tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text(yaml.safe_dump(experiment("unet", name="bad", learning_rate=1e30, steps=5)))
    plan = study_plan.Study(
        patients, tmp_path / "out", study_plan.experiments("paper", [file]), (1,), "1+1", accelerator="cpu", threads=1
    )
    with pytest.raises(TrainingError, match="training bad-seed1 ended with exit code 3"):
        study.run(plan, report=lambda _: None)


@pytest.mark.skipif(sys.platform == "win32", reason="signals to a group of processes are POSIX's")
def test_an_interrupted_training_has_the_time_to_save(tmp_path):
    heeding = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # the shell may have it ignored
    )
    saving = heeding + (
        "import pathlib, time\n"
        "try:\n"
        "    print('training', flush=True)\n"
        "    time.sleep(600)\n"
        "except KeyboardInterrupt:\n"
        "    time.sleep(2)\n"
        f"    pathlib.Path({str(tmp_path / 'saved')!r}).touch()\n"
    )
    code = heeding + "import sys; from mrsynth_training.study import waited_for\n"
    code += f"waited_for([sys.executable, '-c', {saving!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        assert process.stdout.readline() == b"training\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) != 0
    assert (tmp_path / "saved").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM is POSIX's")
def test_a_study_that_is_terminated_ends_its_training_and_goes_on_from_there(patients, tmp_path):
    file = tmp_path / "long.yaml"
    file.write_text(yaml.safe_dump(experiment("unet", name="long", steps=100_000, checkpoint_every=5)))
    command = [sys.executable, "-m", "mrsynth_training.cli", "study", "--data", str(patients), "-o", str(tmp_path)]
    command += ["--experiments", str(file), "--seeds", "1", "--split", "3+2+1"]
    command += ["--accelerator", "cpu", "--threads", "1"]
    last = tmp_path / "runs" / "long-seed1" / "last.ckpt"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        deadline = time.monotonic() + 300
        while process.poll() is None and not last.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        process.terminate()
        said, _ = process.communicate(timeout=60)  # to the end of the training, which writes here, too
    assert process.returncode == 7, said
    saved = loop.read_checkpoint(last)["step"]
    assert saved >= 5
    assert f"stopped at step {saved} of 100000".encode() in said


def test_presets_differ_in_nothing_but_the_generator():
    for preset in study_plan.PRESETS:
        found = study_plan.experiments(preset)
        assert [e.generator.name for e in found] == ["UNet", "ResNet", "DenseUNet"]
        rest = [{k: v for k, v in e.as_dict().items() if k not in ("name", "generator")} for e in found]
        assert rest[0] == rest[1] == rest[2]
    assert study_plan.experiments("paper")[-1].as_dict()["epochs"] == 80


def test_experiments_of_one_name_or_two_frames_are_refused(files, tmp_path):
    other = tmp_path / "other.yaml"
    for changes in ({"name": "unet"}, {"name": "other", "frame": "native"}):
        other.write_text(yaml.safe_dump(experiment("denseunet", **changes)))
        with pytest.raises(TrainingError, match="different names and one frame"):
            study_plan.experiments("paper", [files[0], other])


def test_experiments_with_a_generator_for_each_direction_are_refused(tmp_path):
    file = tmp_path / "two.yaml"
    losses = {"paired_l1": {"weight": 1.0}, "adversarial": {"weight": 1.0}}
    file.write_text(yaml.safe_dump(experiment("unet", framework="pix2pix", losses=losses)))
    with pytest.raises(TrainingError, match="one generator per direction in unet"):
        study_plan.experiments("paper", [file])


def test_smaller_cohorts_are_split_in_the_papers_shares(monkeypatch):
    monkeypatch.setattr(study, "find", lambda _: None)
    for count, expected in ((216, "paper"), (300, "paper"), (40, "28+10+2"), (20, "14+5+1"), (4, "3+1+0")):
        usable = [SimpleNamespace(patient=f"patient {number}") for number in range(count)]
        monkeypatch.setattr(study, "inspect", lambda _, usable=usable: SimpleNamespace(usable=usable))
        assert study._auto_split(study.Path()) == expected


def test_a_damaged_study_is_not_counted_in_the_default_split(studies, tmp_path):
    data = shutil.copytree(studies, tmp_path / "data")  # three patients
    (data / "B" / "B_t2.nii.gz").write_bytes(b"")
    rule = study._auto_split(data)
    assert rule == "1+1+0"
    said = []
    study.prepare(data, tmp_path / "store", "paper", split=rule, broken="skip", dry_run=True, report=said.append)
    assert "2 studies to prepare" in said[-1]


def test_every_figure_states_protocol_n_seed_and_commit(tmp_path):
    figure = figures.empty(4, 3)
    figure.subplots()
    figures.save(figure, tmp_path / "f.png", "Title", "Protocol paper", "n = 5 test subjects", "seeds 1, 2, 3")
    note = figure.texts[-1].get_text().replace("\n", " ")
    assert note == f"Protocol paper; n = 5 test subjects; seeds 1, 2, 3; {provenance.commit()}"
    assert figure.texts[-2].get_text() == "Title"
    assert list(tmp_path.iterdir()) == [tmp_path / "f.png"]
