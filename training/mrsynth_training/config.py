"""One experiment = one YAML file, read into a validated, immutable `Config`."""

from __future__ import annotations

import difflib
import hashlib
import inspect
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from mrsynth_training.errors import TrainingError

PAIRED_TERMS = ("paired_l1", "ssim", "ms_ssim", "local", "gradient_difference", "lesion")
CYCLE_TERMS = ("cycle", "local_cycle")
PAIRING = {"self_inverse": "unpaired", "self_inverse_paired": "paired", "cyclegan": "unpaired", "pix2pix": "paired"}
IMPLIED = {"unpaired": "self_inverse", "paired": "self_inverse_paired"}  # the framework, where only pairing is given
CHOICES = {
    "frame": ("native", "paper"),
    "framework": tuple(PAIRING),
    "pairing": ("paired", "unpaired"),
    "augmentation": ("none", "strong", "contrast"),
    "sampling": ("epochs", "groups"),
    "gan": ("lsgan", "log", "hinge"),
    "schedule": ("linear", "cosine"),
    "precision": ("32-true", "bf16-mixed", "16-mixed"),
}
INTEGERS = (
    *("seed", "discriminator_filters", "crop", "batch_size", "steps", "warmup_steps", "pool_size"),
    *("checkpoint_every", "validate_every", "validation_slices"),
)
NUMBERS = ("learning_rate", "ema_decay", "constant_fraction", "epochs", "inserted_lesions")
OPTIONAL = ("steps", "epochs")  # that may be null
POSITIVE = ("learning_rate", "epochs")
LEAST = {
    **dict.fromkeys(("seed", "warmup_steps", "pool_size", "validation_slices"), 0),
    **dict.fromkeys(("discriminator_filters", "batch_size", "steps", "checkpoint_every", "validate_every"), 1),
}
SHARES = ("ema_decay", "constant_fraction", "inserted_lesions")  # 0 to 1
LARGEST_SEED = 2**32 - 1  # of numpy's generators


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
    """The terms of the generators' objective; see `mrsynth_training.objective`."""

    paired_l1: Term = Term()
    ssim: Term = Term()
    cycle: Term = Term()
    adversarial: Term = Term()
    ms_ssim: Term = Term()
    local: Term = Term()
    local_cycle: Term = Term()
    gradient_difference: Term = Term()
    gradient_consistency: Term = Term()
    structure: Term = Term()
    lesion: Term = Term()

    def at(self, step: int) -> dict[str, float]:
        """Weights of the terms that are on in the given step."""
        weights = {f.name: getattr(self, f.name).at(step) for f in fields(self)}
        return {name: weight for name, weight in weights.items() if weight}

    def used(self, names: Iterable[str]) -> list[str]:
        """Which of the terms named have a weight in any step."""
        return [name for name in names if getattr(self, name).weight]


@dataclass(frozen=True)
class Generator:
    """A generator of `MRSynthLib.engine.generators`, by name, with its constructor's arguments."""

    name: str = "DenseUNet"
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Config:
    """An experiment.

    `framework` and `pairing` follow from one another where only one is given; without either the experiment is a
    paired self-inverse one.  `crop` is the side, in pixels, of the training images (a multiple of 16).  Exactly one of
    `steps` and `epochs` is given.  The learning rate rises over `warmup_steps`, stays constant for `constant_fraction`
    of the run and then falls to 0: on a line (CycleGAN's schedule) or on a cosine.  `inserted_lesions` is the share of
    the training slices that lesions are put into.
    """

    name: str
    frame: str = "native"
    seed: int = 1
    generator: Generator = Generator()
    discriminator_filters: int = 64
    deep_supervision: bool = False
    framework: str = ""
    pairing: str = ""
    augmentation: str = "strong"
    inserted_lesions: float = 0.0
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
        object.__setattr__(self, "framework", self.framework or IMPLIED.get(self.pairing or "paired", ""))
        object.__setattr__(self, "pairing", self.pairing or PAIRING.get(self.framework, ""))
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                raise _bad(f"{name} is {value!r}", f"one of {', '.join(allowed)}{_nearest(value, allowed)}")
        if (self.steps is None) == (self.epochs is None):
            raise _bad(f"steps is {self.steps} and epochs is {self.epochs}", "exactly one of the two")
        if self.crop <= 0 or self.crop % 16:
            raise _bad(f"crop is {self.crop}", "a positive multiple of 16")
        self._check_ranges()
        if self.depth % 2 == 0:
            raise _bad(
                f"generator.arguments.in_channels is {self.depth}", "an odd number: as many slices on both sides"
            )
        self._check_framework()

    def _check_ranges(self) -> None:
        for name in POSITIVE:
            if (value := getattr(self, name)) is not None and value <= 0:
                raise _bad(f"{name} is {value:g}", "above 0")
        for name, least in LEAST.items():
            if (value := getattr(self, name)) is not None and value < least:
                raise _bad(f"{name} is {value}", f"{least} or more")
        for name in SHARES:
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise _bad(f"{name} is {value:g}", "0 to 1")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise _bad(f"betas is {list(self.betas)}", "two numbers of 0 or more, below 1")
        if self.seed > LARGEST_SEED:
            raise _bad(f"seed is {self.seed}", f"at most {LARGEST_SEED}")
        for term in fields(self.losses):
            for key, value in asdict(getattr(self.losses, term.name)).items():
                if value < 0:
                    raise _bad(f"losses.{term.name}.{key} is negative", "0 or more")

    def _check_framework(self) -> None:
        """Refuse terms that the framework cannot compute, and an objective that could not work."""
        if self.pairing != PAIRING[self.framework]:
            raise _bad(f"pairing is '{self.pairing}'", f"'{PAIRING[self.framework]}', as {self.framework} needs it")
        paired, cycle = self.losses.used(PAIRED_TERMS), self.losses.used(CYCLE_TERMS)
        adversarial = bool(self.losses.adversarial.weight)
        if self.pairing == "unpaired" and paired:
            raise _bad(
                f"a paired loss has a weight ({', '.join(paired)}), but pairing is 'unpaired'",
                f"weight 0 for {', '.join(PAIRED_TERMS)}",
            )
        if self.framework == "pix2pix" and cycle:
            raise _bad(
                f"losses.{cycle[0]} has a weight", "weight 0, as the generators of pix2pix are no pair; or cyclegan"
            )
        if self.pairing == "unpaired" and not (cycle and adversarial):
            raise _bad(
                f"{self.framework} without {'an adversarial' if cycle else 'a cycle'} loss",
                "a weight for losses.adversarial and for losses.cycle or local_cycle",
            )
        if self.framework == "pix2pix" and not (paired and adversarial):
            raise _bad(
                f"pix2pix without {'an adversarial' if paired else 'a paired'} loss",
                "a weight for losses.adversarial and for a paired term",
            )

    @property
    def depth(self) -> int:
        """Neighbouring slices that the generator is shown: 1, or more for 2.5-D."""
        return int(self.generator.arguments.get("in_channels", 1))

    @property
    def slab(self) -> int:
        """Slices that are drawn together: G(G(x)) in 2.5-D needs the synthetic neighbours, which need theirs."""
        return 2 * self.depth - 1 if self.losses.used(CYCLE_TERMS) else self.depth

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
        """Hash that two configurations share if and only if all their settings agree.

        A key that came later is hashed only where it is not at its default, so that earlier runs keep their hash.
        """
        content = self.as_dict()
        known = ("paired_l1", "ssim", "cycle", "adversarial")
        content["losses"] = {k: v for k, v in content["losses"].items() if k in known or v["weight"]}
        default = {"framework": IMPLIED[self.pairing], "deep_supervision": False, "inserted_lesions": 0.0}
        content = {k: v for k, v in content.items() if k not in default or v != default[k]}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


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
    if not values.get("name"):
        raise _bad("the experiment has no name", "a key 'name'")
    values["generator"] = _generator(values.get("generator", {}))
    terms = _known(values.get("losses", {}), Losses, "losses")
    values["losses"] = Losses(**{k: _term(k, _known(v, Term, f"losses.{k}")) for k, v in terms.items()})
    if "betas" in values:
        betas = values["betas"]
        if not isinstance(betas, list | tuple) or len(betas) != 2:
            raise _bad(f"betas is {betas!r}", "two numbers")
        values["betas"] = tuple(_number("betas", beta) for beta in betas)
    for kind, keys in ((_number, NUMBERS), (_integer, INTEGERS)):
        for key in values.keys() & set(keys):
            if not (values[key] is None and key in OPTIONAL):
                values[key] = kind(key, values[key])
    if not isinstance(values.get("deep_supervision", False), bool):
        raise _bad(f"deep_supervision is {values['deep_supervision']!r}", "true or false")
    return Config(**values)


def _generator(content: Any) -> Generator:
    """A generator of the engine that can be built with its arguments."""
    import torch  # here, as it takes seconds

    from MRSynthLib.engine.generators import GENERATORS, build

    generator = Generator(**_known(content, Generator, "generator"))
    if not isinstance(generator.name, str) or generator.name not in GENERATORS:
        near = _nearest(generator.name, GENERATORS)
        raise _bad(f"generator.name is {generator.name!r}", f"one of {', '.join(GENERATORS)}{near}")
    names = list(inspect.signature(GENERATORS[generator.name]).parameters)
    _only(generator.arguments, names, "generator.arguments")
    try:
        with torch.device("meta"):  # shapes only
            built = build(generator.name, generator.arguments)
        if not all(parameter.numel() for parameter in built.parameters()):
            raise ValueError("a layer without channels")
    except (ValueError, RuntimeError) as error:  # the latter from torch
        raise _bad(f"generator.arguments do not fit {generator.name} ({error})", "what the README lists") from error
    return generator


def _term(name: str, content: Mapping[str, Any]) -> Term:
    weight = _number(f"losses.{name}.weight", content.get("weight", 0.0))
    return Term(weight, _integer(f"losses.{name}.from_step", content.get("from_step", 0)))


def _number(key: str, value: Any) -> float:
    """A finite number; YAML 1.1 reads 2e-4 as a string."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError) as error:
        raise _bad(f"{key} is {value!r}", "a number") from error
    if not math.isfinite(number):
        raise _bad(f"{key} is {value!r}", "a finite number")
    return number


def _integer(key: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _bad(f"{key} is {value!r}", "a whole number")
    return value


def _known(content: Any, kind: type, where: str) -> Mapping[str, Any]:
    return _only(content, [f.name for f in fields(kind)], where)


def _only(content: Any, names: list[str], where: str) -> Mapping[str, Any]:
    """The mapping, refused where it has another key than `names`; the nearest valid one is suggested."""
    if not isinstance(content, Mapping):
        raise _bad(f"{where} is {type(content).__name__}", "a mapping of keys to values")
    unknown = sorted(str(key) for key in content.keys() - set(names))
    if unknown:
        suggestions = "".join(_nearest(key, names) for key in unknown)
        raise _bad(f"unknown key {', '.join(map(repr, unknown))} in {where}", f"only {', '.join(names)}{suggestions}")
    return content


def _nearest(word: Any, valid: Iterable[str]) -> str:
    """A suggestion in parentheses, if a valid word is near."""
    found = difflib.get_close_matches(str(word), list(valid), n=1)
    return f" (did you mean '{found[0]}'?)" if found else ""


def _bad(seen: str, expected: str) -> TrainingError:
    return TrainingError(seen, expected, "Correct the experiment's YAML file")
