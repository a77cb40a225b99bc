"""What an experiment's YAML file may say."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from mrsynth_training import config
from mrsynth_training.errors import TrainingError
from mrsynth_training.frameworks import FRAMEWORKS
from mrsynth_training.loop import learning_rate_factor
from MRSynthLib.engine.generators import GENERATORS, build

CONFIGS = sorted((Path(__file__).resolve().parents[1] / "configs").rglob("*.yaml"))
PINNED = "703e6644a8a830198dc7abe530d39dcfd954590f3a0fd7dc0a7eb0d590eb64be"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_experiments_are_valid(path):
    setting = config.load(path)
    assert setting.name == path.stem
    with torch.device("meta"):  # shapes only
        assert build(setting.generator.name, setting.generator.arguments)


def test_every_framework_term_and_variant_has_an_experiment():
    settings = [config.load(path) for path in CONFIGS]
    assert {setting.framework for setting in settings} == set(FRAMEWORKS)
    terms = {field.name for field in fields(config.Losses)}
    assert {term for setting in settings for term in setting.losses.used(terms)} == terms
    assert {setting.gan for setting in settings} == set(config.CHOICES["gan"])
    assert any(setting.deep_supervision for setting in settings)
    assert {setting.generator.name for setting in settings} == set(GENERATORS)
    for key, variants in (
        ("output", {"relu_clip", "sigmoid", "softclip"}),
        ("norm", {"batch", "instance", "none"}),
        ("upsampling", {"nearest", "bilinear", "transposed"}),
        ("in_channels", {1, 3}),
    ):
        defaults = {"upsampling": "nearest", "in_channels": 1}
        dense = [setting.generator.arguments for setting in settings if setting.generator.name == "DenseUNet"]
        assert {arguments.get(key, defaults.get(key)) for arguments in dense} >= variants


def test_table_2_differs_in_the_generator_alone():
    ours, *others = (
        config.load(path) for path in sorted(CONFIGS) if path.stem in ("paper", "paper_unet", "paper_resnet")
    )
    for other in others:
        assert replace(other, name=ours.name, generator=ours.generator) == ours
    assert {setting.generator.name for setting in (ours, *others)} == {"DenseUNet", "UNet", "ResNet"}


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
        ({"gan": "wgan"}, "lsgan, log, hinge"),
        ({"batch_size": "ten"}, "batch_size is 'ten'. Expected: a whole number"),
        ({"seed": True}, "seed is True"),
        ({"deep_supervision": "yes please"}, "true or false"),
        ({"betas": 0.5}, "two numbers"),
        ({"losses": {"cycle": {"weight": "much"}}}, "losses.cycle.weight is 'much'"),
        ({"losses": {"cycle": {"from_step": 1.5}}}, "losses.cycle.from_step is 1.5"),
        ({"generator": {"name": "DenseUNet", "arguments": {"in_channels": 2}}}, "odd"),
        ({"framework": "self_inverse", "pairing": "paired"}, "'unpaired', as self_inverse needs it"),
        ({"framework": "cyclegan", "losses": {"cycle": {"weight": 1}}}, "cyclegan without an adversarial loss"),
        ({"framework": "self_inverse", "losses": {"adversarial": {"weight": 1}}}, "without a cycle loss"),
        ({"framework": "pix2pix", "losses": {"adversarial": {"weight": 1}}}, "pix2pix without a paired loss"),
        ({"framework": "pix2pix"}, "losses.cycle has a weight"),
        ({"crop": 100}, "multiple of 16"),
        ({"epochs": 3}, "exactly one"),
        ({"steps": None}, "exactly one"),
        ({"pairing": "unpaired"}, "paired loss has a weight"),
        ({"learning_rate": "fast"}, "a number"),
        ({"learning_rate": -1}, "learning_rate is -1. Expected: above 0"),
        ({"learning_rate": float("inf")}, "learning_rate is inf. Expected: a finite number"),
        ({"learning_rate": True}, "a finite number"),
        ({"ema_decay": float("nan")}, "ema_decay is nan. Expected: a finite number"),
        ({"ema_decay": 1.5}, "ema_decay is 1.5. Expected: 0 to 1"),
        ({"constant_fraction": -0.1}, "constant_fraction is -0.1. Expected: 0 to 1"),
        ({"betas": [0.5, 1]}, "below 1"),
        ({"losses": {"cycle": {"weight": float("nan")}}}, "losses.cycle.weight is nan"),
        ({"losses": {"cycle": {"from_step": -1}}}, "losses.cycle.from_step is negative"),
        ({"steps": -5}, "steps is -5. Expected: 1 or more"),
        ({"steps": None, "epochs": -1}, "epochs is -1. Expected: above 0"),
        ({"batch_size": 0}, "batch_size is 0. Expected: 1 or more"),
        ({"validate_every": 0}, "validate_every is 0. Expected: 1 or more"),
        ({"checkpoint_every": 0}, "checkpoint_every is 0"),
        ({"discriminator_filters": 0}, "discriminator_filters is 0"),
        ({"pool_size": -1}, "pool_size is -1. Expected: 0 or more"),
        ({"validation_slices": -1}, "validation_slices is -1"),
        ({"warmup_steps": -1}, "warmup_steps is -1"),
        ({"seed": None}, "seed is None. Expected: a whole number"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**32}, "seed is 4294967296. Expected: at most"),
        ({"crop": None}, "crop is None. Expected: a whole number"),
        ({"ema_decay": None}, "ema_decay is None. Expected: a number"),
        ({"name": None}, "no name"),
        ({"generator": {"name": ["UNet"]}}, "generator.name is"),
        ({"generator": {"name": "DenseUNet", "arguments": {"growth": "ten"}}}, "do not fit DenseUNet"),
        ({"generator": {"name": "DenseUNet", "arguments": {"growth": -3}}}, "do not fit DenseUNet"),
        ({"generator": {"name": "UNet", "arguments": {"base": 0}}}, "do not fit UNet"),
    ],
)
def test_mistakes_are_named(tiny, change, said):
    with pytest.raises(TrainingError, match=said):
        config.from_dict({**tiny, **change})


@pytest.mark.parametrize(
    ("change", "nearest"),
    [
        ({"lerning_rate": 1e-4}, "learning_rate"),
        ({"losses": {"gradient_diference": {"weight": 1}}}, "gradient_difference"),
        ({"losses": {"cycle": {"wieght": 1}}}, "weight"),
        ({"framework": "cycelgan"}, "cyclegan"),
        ({"generator": {"name": "DenseUnet"}}, "DenseUNet"),
        ({"generator": {"name": "DenseUNet", "arguments": {"grwoth": 4}}}, "growth"),
    ],
)
def test_a_typo_is_answered_with_the_nearest_key(tiny, change, nearest):
    with pytest.raises(TrainingError, match=f"did you mean '{nearest}'"):
        config.from_dict({**tiny, **change})


def test_what_is_like_nothing_gets_no_suggestion(tiny):
    with pytest.raises(TrainingError) as caught:
        config.from_dict({**tiny, "qqq": 1})
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize(("framework", "pairing"), config.PAIRING.items())
def test_framework_and_pairing_follow_from_one_another(tiny, framework, pairing):
    losses = {"adversarial": {"weight": 1.0}, ("cycle" if pairing == "unpaired" else "ssim"): {"weight": 1.0}}
    assert config.from_dict({**tiny, "framework": framework, "losses": losses}).pairing == pairing
    if framework.startswith("self_inverse"):
        assert config.from_dict({**tiny, "pairing": pairing, "losses": losses}).framework == framework


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


def test_earlier_runs_keep_their_hash(tiny):
    """Of settings that need none of the keys that came later: as it was before there were any."""
    assert config.from_dict(tiny).sha256() == PINNED
    assert config.from_dict({**tiny, "framework": "self_inverse_paired", "deep_supervision": False}).sha256() == PINNED
    for change in ({"deep_supervision": True}, {"losses": {**tiny["losses"], "local": {"weight": 1}}}):
        assert config.from_dict({**tiny, **change}).sha256() != PINNED


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
