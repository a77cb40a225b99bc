"""The training loop: one self-inverse generator, two discriminators (PAPER eq. 1-6), an optional paired term."""

from __future__ import annotations

import copy
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Adam
from torch.utils.tensorboard import SummaryWriter

from mrsynth_training import losses
from mrsynth_training.batches import Batch, Batches
from mrsynth_training.config import Config
from mrsynth_training.discriminators import PatchGAN
from mrsynth_training.errors import TrainingError
from mrsynth_training.pool import ImagePool
from mrsynth_training.slices import SliceStore
from mrsynth_training.validation import Validator
from MRSynthLib.engine import generators

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
        self._build(init_from)
        draws = torch.Generator().manual_seed(config.seed + self.fabric.global_rank)
        self.batches = Batches(store, config, draws)
        self.pools = [ImagePool(config.pool_size, draws) for _ in range(2)]
        self.validator = Validator(store, config.validation_slices)
        self.step = 0
        self.seconds = 0.0
        self.scores: dict[str, float] = {}
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / CHECKPOINT).exists():
            self._resume()
        else:
            (folder / "config.json").write_text(json.dumps(config.as_dict(), indent=1), encoding="utf-8")

    def _build(self, init_from: Path | None) -> None:
        config = self.config
        generator = generators.build(config.generator.name, config.generator.arguments)
        self.started_from: str | None = None
        if init_from is not None:
            earlier = read_checkpoint(init_from)
            generator.load_state_dict(earlier["average"])
            self.started_from = f"{earlier['config']['name']}, {earlier['step']} steps"
        self.average = copy.deepcopy(generator).eval().requires_grad_(False).to(self.fabric.device)
        optimiser = Adam(generator.parameters(), config.learning_rate, betas=config.betas)
        self.generator, self.generator_optimiser = self.fabric.setup(_channels_last(generator), optimiser)
        self.discriminators = nn.ModuleList()
        self.discriminator_optimisers = []
        for _ in range(2 if config.losses.adversarial.weight else 0):  # D_Y judges G's T2, D_X its T1
            module = PatchGAN(config.discriminator_filters)
            optimiser = Adam(module.parameters(), config.learning_rate, betas=config.betas)
            wrapped, optimiser = self.fabric.setup(_channels_last(module), optimiser)
            self.discriminators.append(wrapped)
            self.discriminator_optimisers.append(optimiser)

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
        """One step of G and, where the adversarial term is on, of D_Y and D_X; the loss terms before weighting."""
        for optimiser in (self.generator_optimiser, *self.discriminator_optimisers):
            for group in optimiser.param_groups:
                group["lr"] = self._learning_rate()
        synthetic, terms = self._optimise_generator(batch)
        if "adversarial" in terms:
            terms["discriminators"] = self._optimise_discriminators(synthetic.detach(), batch.targets)
        self._update_average()
        return {name: term.detach() for name, term in terms.items()}

    def _learning_rate(self) -> float:
        return self.config.learning_rate * learning_rate_factor(self.step, self.config, self.total)

    def _optimise_generator(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        weights = {name: getattr(self.config.losses, name).at(self.step) for name in self.config.as_dict()["losses"]}
        synthetic = self.generator(batch.sources)  # both directions in one pass: batch statistics are of both contrasts
        terms: dict[str, Tensor] = {}
        if weights["paired_l1"]:
            terms["paired_l1"] = losses.paired_loss(synthetic, batch.targets)
        if weights["ssim"]:
            terms["ssim"] = losses.ssim_loss(synthetic, batch.targets)
        if weights["cycle"]:
            # Against the clean slice: what degradation took from the source, G(G(x)) cannot know.
            terms["cycle"] = losses.cycle_loss(self.generator(synthetic), batch.clean)
        if weights["adversarial"]:
            self.discriminators.requires_grad_(False)
            scores = [d(half) for d, half in zip(self.discriminators, synthetic.chunk(2), strict=True)]
            terms["adversarial"] = sum((losses.adversarial_loss(s, self.config.gan) for s in scores), torch.tensor(0.0))
        if not terms:
            raise TrainingError(f"no loss term is on in step {self.step}", "at least one", "Lower a `from_step` to 0")
        # Eq. 3 + eq. 6: L1 and cycle terms are means over both directions, the adversarial term is their sum.
        total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
        if not torch.isfinite(total):
            parts = ", ".join(f"{name} {float(term.detach()):g}" for name, term in terms.items())
            raise TrainingError(
                f"the loss is not finite in step {self.step} ({parts})",
                "finite numbers",
                "Resume from last.ckpt with a lower learning_rate, or with precision 32-true",
            )
        self.generator_optimiser.zero_grad()
        self.fabric.backward(total)
        self.generator_optimiser.step()
        return synthetic, terms

    def _optimise_discriminators(self, synthetic: Tensor, real: Tensor) -> Tensor:
        """Eq. 1 for D_Y, eq. 4 for D_X."""
        self.discriminators.requires_grad_(True)
        sum_of_losses = torch.zeros((), device=synthetic.device)
        for discriminator, optimiser, pool, made, true in zip(
            self.discriminators,
            self.discriminator_optimisers,
            self.pools,
            synthetic.chunk(2),
            real.chunk(2),
            strict=True,
        ):
            scores = discriminator(true), discriminator(pool.exchange(made))
            loss = losses.discriminator_loss(*scores, self.config.gan)
            optimiser.zero_grad()
            self.fabric.backward(loss)
            optimiser.step()
            sum_of_losses += loss.detach()
        return sum_of_losses

    @torch.no_grad()
    def _update_average(self) -> None:
        """Exponential moving average of G, batch-norm buffers included; short at first, to forget the start."""
        decay = min(self.config.ema_decay, (self.step + 1) / (self.step + 10))
        current_state = self.generator.state_dict()
        for name, average in self.average.state_dict().items():
            current = current_state[name]
            if average.is_floating_point():
                average.lerp_(current.to(average), 1 - decay)
            else:
                average.copy_(current)

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
        self.scores, picture = self.validator(self.average, self.fabric.device)
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

    def _parts(self) -> dict[str, Any]:
        return {
            "generator": self.generator,
            "average": self.average,
            # One by one: a ModuleList of Fabric's wrappers does not read the names that it writes.
            **{f"discriminator_{i}": d for i, d in enumerate(self.discriminators)},
            "generator_optimiser": self.generator_optimiser,
            **{f"discriminator_optimiser_{i}": o for i, o in enumerate(self.discriminator_optimisers)},
            "sampler": self.batches.sampler,
        }

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
            "pools": [pool.state_dict() for pool in self.pools],
            **{name: part.state_dict() for name, part in self._parts().items()},
        }

    def _resume(self) -> None:
        state = read_checkpoint(self.folder)
        if state["config_sha256"] != self.config.sha256():
            raise TrainingError(
                f"{self.folder} holds a run of another configuration", "the same settings", "Choose another folder"
            )
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        for pool, content in zip(self.pools, state["pools"], strict=True):
            pool.load_state_dict(content, self.fabric.device)
        self.batches.generator.set_state(state["draws"])
        torch.set_rng_state(state["torch_random"])
        self.step, self.seconds, self.scores = state["step"], state["seconds"], state["scores"]
        self.started_from = state.get("started_from")


def _channels_last(module: nn.Module) -> nn.Module:
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


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
