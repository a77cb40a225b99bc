"""The training loop: draws batches, has the framework learn from them, validates, saves and resumes."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from mrsynth_training import frameworks
from mrsynth_training.batches import Batch, Batches
from mrsynth_training.config import Config
from mrsynth_training.errors import TrainingError
from mrsynth_training.slices import SliceStore
from mrsynth_training.validation import Validator

CHECKPOINT = "last.ckpt"
LOG_EVERY = 20


def learning_rate_factor(step: int, config: Config, total: int) -> float:
    """Factor on the learning rate in a step: warm-up, constant, then down to 0 on a line or a cosine."""
    warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    start = config.constant_fraction * total
    if step < start:
        return warm
    left = max(0.0, 1 - (step - start) / max(1.0, total - start))
    return warm * (left if config.schedule == "linear" else 0.5 * (1 - math.cos(math.pi * left)))


class Run:
    """One training run in a folder: `config.json`, `last.ckpt` and TensorBoard's event files.

    Parameters
    ----------
    config : Config
    store : SliceStore
        Prepared in the configuration's frame.
    folder : Path
        Continued exactly where it stopped if it holds a checkpoint of the same configuration.
    init_from : Path, optional
        Another run's folder, whose (averaged) generator is the starting point of a new run.
    accelerator, devices : str
        As Fabric takes them.
    """

    def __init__(
        self,
        config: Config,
        store: SliceStore,
        folder: Path,
        *,
        init_from: Path | None = None,
        accelerator: str = "auto",
        devices: str = "1",
    ) -> None:
        if store.meta["frame"] != config.frame:
            raise TrainingError(
                f"the store's frame is {store.meta['frame']}", f"{config.frame}", "Prepare a store with this --frame"
            )
        if not len(store.indices("train")):
            raise TrainingError("the store has no training slices", "at least one", "Prepare it with training subjects")
        self.config, self.store, self.folder = config, store, folder
        self.total = config.total_steps(len(store.indices("train")))
        self.fabric = Fabric(accelerator=accelerator, devices=devices, precision=config.precision)
        self.fabric.launch()
        self.fabric.seed_everything(config.seed, verbose=False)
        draws = torch.Generator().manual_seed(config.seed + self.fabric.global_rank)
        self.framework = frameworks.build(config, self.fabric, draws)
        self.started_from: str | None = None
        if init_from is not None:
            self._start_from(init_from)
        self.batches = Batches(store, config, draws)
        self.validator = Validator(store, config.validation_slices)
        self.step = 0
        self.seconds = 0.0
        self.scores: dict[str, float] = {}
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / CHECKPOINT).exists():
            self._resume()
        else:
            (folder / "config.json").write_text(json.dumps(config.as_dict(), indent=1), encoding="utf-8")

    def _start_from(self, run: Path) -> None:
        earlier = read_checkpoint(run)
        self.framework.start_from(earlier)
        self.started_from = f"{earlier['config']['name']}, {earlier['step']} steps"

    def train(self, max_minutes: float | None = None) -> bool:
        """Train to the end, or for so many minutes; the state is saved either way.

        Returns
        -------
        bool
            True if the run is complete.

        Raises
        ------
        TrainingError
            If a loss is no longer finite.
        """
        started = time.monotonic()
        before, first = self.seconds, self.step
        config = self.config
        with SummaryWriter(str(self.folder), purge_step=self.step) as log:
            while self.step < self.total:
                terms = self.optimise(self.batches.draw().to(self.fabric.device))
                self.step += 1
                spent = time.monotonic() - started
                self.seconds = before + spent
                last = self.step == self.total
                late = max_minutes is not None and spent > 60 * max_minutes
                if self.step % LOG_EVERY == 0 or last:
                    self._report(log, terms, spent / (self.step - first))
                if self.step % config.validate_every == 0 or last:
                    self._validate(log)
                if self.step % config.checkpoint_every == 0 or last or late:
                    self.save()
                if late:
                    break
        return self.step >= self.total

    def optimise(self, batch: Batch) -> dict[str, Tensor]:
        """One step of the framework; the loss terms before weighting."""
        return self.framework.optimise(batch, self.step, self._learning_rate())

    def _learning_rate(self) -> float:
        return self.config.learning_rate * learning_rate_factor(self.step, self.config, self.total)

    def _report(self, log: SummaryWriter, terms: dict[str, Tensor], seconds_per_step: float) -> None:
        for name, term in terms.items():
            log.add_scalar(f"loss/{name}", float(term), self.step)
        log.add_scalar("learning_rate", self._learning_rate(), self.step)
        left = seconds_per_step * (self.total - self.step) / 60
        parts = "  ".join(f"{name} {float(term):.4f}" for name, term in terms.items())
        self.fabric.print(
            f"step {self.step}/{self.total}  {parts}  {seconds_per_step:.2f} s/step  {left:.0f} min left", flush=True
        )

    def _validate(self, log: SummaryWriter) -> None:
        self.scores, picture = self.validator(self.framework.averages, self.fabric.device)
        for name, score in self.scores.items():
            log.add_scalar(f"validation/{name}", score, self.step)
        if picture is not None:
            log.add_image("validation/t1_made_t2_made", picture, self.step)
        parts = "  ".join(f"{name} {score:.3f}" for name, score in self.scores.items())
        self.fabric.print(f"validation at step {self.step}: {parts or 'no validation subjects'}", flush=True)

    def save(self) -> Path:
        """Write `last.ckpt`: aside first and then renamed, so that a crash leaves the earlier one."""
        path = self.folder / CHECKPOINT
        if self.fabric.is_global_zero:
            aside = path.with_suffix(".partial")
            torch.save(self._state(), aside)
            aside.replace(path)
        self.fabric.barrier()
        return path

    def _state(self) -> dict[str, Any]:
        return {
            "config": self.config.as_dict(),
            "config_sha256": self.config.sha256(),
            "step": self.step,
            "total": self.total,
            "seconds": self.seconds,
            "device": str(self.fabric.device),
            "scores": self.scores,
            "started_from": self.started_from,
            "store": self.store.meta,
            "draws": self.batches.generator.get_state(),
            "torch_random": torch.get_rng_state(),
            "sampler": self.batches.sampler.state_dict(),
            **self.framework.state_dict(),
        }

    def _resume(self) -> None:
        state = read_checkpoint(self.folder)
        if state["config_sha256"] != self.config.sha256():
            raise TrainingError(
                f"{self.folder} holds a run of another configuration", "the same settings", "Choose another folder"
            )
        self.framework.load_state_dict(state)
        self.batches.sampler.load_state_dict(state["sampler"])
        self.batches.generator.set_state(state["draws"])
        torch.set_rng_state(state["torch_random"])
        self.step, self.seconds, self.scores = state["step"], state["seconds"], state["scores"]
        self.started_from = state.get("started_from")


def read_checkpoint(run: Path) -> dict[str, Any]:
    """State that a run saved (tensors and plain values only; nothing in the file is executed).

    Raises
    ------
    TrainingError
        If the run has no readable checkpoint.
    """
    path = run / CHECKPOINT if run.is_dir() else run
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise TrainingError(f"{path} cannot be read ({error})", "a run's last.ckpt", "Check the folder") from error
    return state
