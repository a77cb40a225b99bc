"""What an experiment's YAML file may say."""

from __future__ import annotations

from pathlib import Path

import pytest

from mrsynth_training import config
from mrsynth_training.errors import TrainingError
from mrsynth_training.loop import learning_rate_factor

CONFIGS = sorted((Path(__file__).resolve().parents[1] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_experiments_are_valid(path):
    assert config.load(path).name == path.stem


def test_paper_experiment_is_unpaired_and_has_no_paired_term():
    paper = config.load(next(path for path in CONFIGS if path.stem == "paper"))
    assert paper.pairing == "unpaired"
    assert paper.losses.paired_l1.weight == paper.losses.ssim.weight == 0
    assert (paper.losses.cycle.weight, paper.losses.adversarial.weight) == (10, 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"colour": "red"}, "unknown key 'colour'"),
        ({"losses": {"l2": {"weight": 1}}}, "unknown key 'l2'"),
        ({"losses": {"cycle": {"wait": 1}}}, "unknown key 'wait'"),
        ({"losses": {"cycle": 10}}, "mapping"),
        ({"losses": {"cycle": {"weight": -1}}}, "negative"),
        ({"frame": "mni"}, "native, paper"),
        ({"gan": "wgan"}, "lsgan, log"),
        ({"crop": 100}, "multiple of 16"),
        ({"epochs": 3}, "exactly one"),
        ({"steps": None}, "exactly one"),
        ({"pairing": "unpaired"}, "paired loss has a weight"),
        ({"learning_rate": "fast"}, "a number"),
    ],
)
def test_mistakes_are_named(tiny, change, said):
    with pytest.raises(TrainingError, match=said):
        config.from_dict({**tiny, **change})


def test_name_is_needed_and_file_must_be_there(tiny, tmp_path):
    del tiny["name"]
    with pytest.raises(TrainingError, match="no name"):
        config.from_dict(tiny)
    with pytest.raises(TrainingError, match="cannot be read"):
        config.load(tmp_path / "none.yaml")


def test_numbers_that_yaml_reads_as_text(tiny):
    assert config.from_dict({**tiny, "learning_rate": "2e-4"}).learning_rate == 2e-4


def test_hash_follows_the_settings(tiny):
    first = config.from_dict(tiny).sha256()
    assert first == config.from_dict(dict(reversed(list(tiny.items())))).sha256()
    assert first != config.from_dict({**tiny, "seed": 2}).sha256()


def test_term_is_off_before_its_first_step():
    term = config.Term(2.0, from_step=3)
    assert [term.at(step) for step in (0, 2, 3, 9)] == [0, 0, 2, 2]


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_learning_rate_warms_up_stays_and_falls_to_0(tiny, schedule):
    setting = config.from_dict({**tiny, "warmup_steps": 10, "constant_fraction": 0.5, "schedule": schedule})
    factors = [learning_rate_factor(step, setting, 100) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[10:50] == [1.0] * 40
    assert factors[75] == pytest.approx(0.5)
    assert factors[100] == pytest.approx(0, abs=1e-12)
    assert factors[50:] == sorted(factors[50:], reverse=True)


def test_epochs_count_steps(tiny):
    assert config.from_dict({**tiny, "steps": None, "epochs": 80, "batch_size": 10}).total_steps(13_203) == 105_624
