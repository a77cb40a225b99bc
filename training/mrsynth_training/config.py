"""One experiment = one YAML file, read into a validated, immutable `Config`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from mrsynth_training.errors import TrainingError

CHOICES = {
    "frame": ("native", "paper"),
    "pairing": ("paired", "unpaired"),
    "augmentation": ("none", "strong"),
    "sampling": ("epochs", "groups"),
    "gan": ("lsgan", "log"),
    "schedule": ("linear", "cosine"),
    "precision": ("32-true", "bf16-mixed", "16-mixed"),
}


@dataclass(frozen=True)
class Term:
    """Weight of one loss term, which costs nothing before `from_step` or with weight 0."""

    weight: float = 0.0
    from_step: int = 0

    def at(self, step: int) -> float:
        """Weight of the term in the given step."""
        return self.weight if step >= self.from_step else 0.0


@dataclass(frozen=True)
class Losses:
    """The terms of the generator's objective; see `mrsynth_training.losses`."""

    paired_l1: Term = Term()
    ssim: Term = Term()
    cycle: Term = Term()
    adversarial: Term = Term()


@dataclass(frozen=True)
class Generator:
    """A generator of `MRSynthLib.engine.generators`, by name, with its constructor's arguments."""

    name: str = "DenseUNet"
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Config:
    """An experiment.

    `crop` is the side, in pixels, of the training images (a multiple of 16).  Exactly one of `steps` and `epochs` is
    given.  The learning rate rises over `warmup_steps`, stays constant for `constant_fraction` of the run and then
    falls to 0: on a line (CycleGAN's schedule) or on a cosine.
    """

    name: str
    frame: str = "native"
    seed: int = 1
    generator: Generator = Generator()
    discriminator_filters: int = 64
    pairing: str = "paired"
    augmentation: str = "strong"
    sampling: str = "groups"
    crop: int = 144
    batch_size: int = 10
    steps: int | None = None
    epochs: float | None = None
    learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    warmup_steps: int = 0
    constant_fraction: float = 0.5
    schedule: str = "linear"
    gan: str = "lsgan"
    losses: Losses = Losses()
    pool_size: int = 50
    ema_decay: float = 0.999
    precision: str = "32-true"
    checkpoint_every: int = 200
    validate_every: int = 500
    validation_slices: int = 32

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise _bad(f"{name} is {getattr(self, name)!r}", f"one of {', '.join(allowed)}")
        if (self.steps is None) == (self.epochs is None):
            raise _bad(f"steps is {self.steps} and epochs is {self.epochs}", "exactly one of the two")
        if self.crop <= 0 or self.crop % 16:
            raise _bad(f"crop is {self.crop}", "a positive multiple of 16")
        if self.pairing == "unpaired" and (self.losses.paired_l1.weight or self.losses.ssim.weight):
            raise _bad("a paired loss has a weight, but pairing is 'unpaired'", "weight 0 for paired_l1 and ssim")
        for term in ("paired_l1", "ssim", "cycle", "adversarial"):
            if getattr(self.losses, term).weight < 0:
                raise _bad(f"losses.{term}.weight is negative", "0 or more")

    def total_steps(self, training_slices: int) -> int:
        """Optimiser steps of the whole run, for a store with so many training slices."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return max(1, round(self.epochs * training_slices / self.batch_size))

    def as_dict(self) -> dict[str, Any]:
        """Plain nested dictionaries, for the run's record and the card."""
        return asdict(self)

    def sha256(self) -> str:
        """Hash that two configurations share if and only if all their settings agree."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()


def load(path: str | Path) -> Config:
    """Read an experiment's YAML file.

    Raises
    ------
    TrainingError
        If the file is missing or not YAML, has an unknown or missing key, or a value of the wrong kind.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise _bad(f"{path} cannot be read ({error})", "an experiment's YAML file") from error
    return from_dict(content)


def from_dict(content: Any) -> Config:
    """Build a validated `Config` from nested dictionaries as YAML gives them."""
    values = dict(_known(content, Config, "the experiment"))
    if "name" not in values:
        raise _bad("the experiment has no name", "a key 'name'")
    values["generator"] = Generator(**_known(values.get("generator", {}), Generator, "generator"))
    terms = _known(values.get("losses", {}), Losses, "losses")
    values["losses"] = Losses(**{k: Term(**_known(v, Term, f"losses.{k}")) for k, v in terms.items()})
    if "betas" in values:
        values["betas"] = tuple(values["betas"])
    for key, kind in (("learning_rate", float), ("ema_decay", float), ("constant_fraction", float)):
        if key in values:
            try:
                values[key] = kind(values[key])  # YAML 1.1 reads 2e-4 as a string
            except (TypeError, ValueError) as error:
                raise _bad(f"{key} is {values[key]!r}", "a number") from error
    return Config(**values)


def _known(content: Any, kind: type, where: str) -> Mapping[str, Any]:
    if not isinstance(content, Mapping):
        raise _bad(f"{where} is {type(content).__name__}", "a mapping of keys to values")
    names = [f.name for f in fields(kind)]
    unknown = sorted(set(content) - set(names))
    if unknown:
        raise _bad(f"unknown key {', '.join(map(repr, unknown))} in {where}", f"only {', '.join(names)}")
    return content


def _bad(seen: str, expected: str) -> TrainingError:
    return TrainingError(seen, expected, "Correct the experiment's YAML file")
