"""The training loop: draws batches, has the framework learn from them, validates, saves and resumes."""

from __future__ import annotations

import contextlib
import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mrsynth_training import frameworks, splits
from mrsynth_training.batches import Batch, Batches
from mrsynth_training.config import Config
from mrsynth_training.errors import TrainingError
from mrsynth_training.guard import Guard, keep_batch
from mrsynth_training.hardware import TrainingFabric
from mrsynth_training.progress import Speed, Teller
from mrsynth_training.run_files import (
    BEST,
    LAST,
    config_differences,
    data_differences,
    read_checkpoint,
    write_checkpoint,
)
from mrsynth_training.signals import Stop, stopping
from mrsynth_training.slices import SliceStore
from mrsynth_training.validation import Validator
from MRSynthLib.engine.locks import LOCK, only_one
from MRSynthLib.engine.writing import write_aside, write_error

__all__ = ["Run", "learning_rate_factor", "read_checkpoint"]

CHECKPOINT = LAST


def learning_rate_factor(step: int, config: Config, total: int) -> float:
    """Factor on the learning rate in a step: warm-up, constant, then down to 0 on a line or a cosine."""
    warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    start = config.constant_fraction * total
    if step < start:
        return warm
    left = max(0.0, 1 - (step - start) / max(1.0, total - start))
    return warm * (left if config.schedule == "linear" else 0.5 * (1 - math.cos(math.pi * left)))


class Run:
    """One training run in a folder.

    The folder gets `config.json`, `split.json`, `last.ckpt`, `best.ckpt` (by the mean PSNR of the validation) and
    TensorBoard's event files.  Under `torchrun` all processes share every batch: `batch_size` pairs are those of all
    together, and what is learnt does not depend on how many there are.

    Parameters
    ----------
    config : Config
    store : SliceStore
        Prepared in the configuration's frame.
    folder : Path
        Continued exactly where it stopped if it holds a checkpoint of the same configuration and data.
    init_from : Path, optional
        Another run's folder or checkpoint, whose (averaged) generator is the starting point of a new run.
    accelerator, devices : str
        As Fabric takes them.
    compiled : {"off", "default", "cuda-graphs"}
        See `hardware.TrainingFabric`.

    Raises
    ------
    TrainingError
        If store, configuration and folder do not fit one another.
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
        compiled: str = "off",
    ) -> None:
        if store.meta["frame"] != config.frame:
            raise TrainingError(
                f"the store's frame is {store.meta['frame']}", f"{config.frame}", "Prepare a store with this --frame"
            )
        if not len(store.indices("train")):
            raise TrainingError("the store has no training slices", "at least one", "Prepare it with training subjects")
        self.config, self.folder = config, folder
        self.total = config.total_steps(len(store.indices("train")))
        self.fabric = TrainingFabric(config.precision, accelerator, devices, compiled)
        self.fabric.launch()
        if config.batch_size % self.fabric.world_size:
            raise TrainingError(
                f"a batch of {config.batch_size} for {self.fabric.world_size} processes",
                "the same number of pairs for each",
                "Change batch_size or the number of processes",
            )
        self.store = store.on(self.fabric.device, _free_memory(self.fabric.device))
        self.fabric.seed_everything(config.seed, verbose=False)
        draws = torch.Generator().manual_seed(config.seed)
        self.framework = frameworks.build(config, self.fabric, draws)
        self.started_from: str | None = None
        if init_from is not None:
            self._start_from(init_from)
        self.batches = Batches(self.store, config, draws)
        self.validator = Validator(self.store, config.validation_slices, config.depth)
        self.guard = Guard()
        self.step = 0
        self.seconds = 0.0
        self.scores: dict[str, float] = {}
        self.best: float | None = None
        self.interrupted = False
        self._prepare_folder()

    def _prepare_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(self.folder, error) from error
        if (self.folder / LAST).exists():
            self._resume()
        elif self.fabric.is_global_zero:
            with write_aside(self.folder / "config.json") as aside:
                aside.write_text(json.dumps(self.config.as_dict(), indent=1), encoding="utf-8")
            if "split" in self.store.meta:
                split = splits.from_dict(self.store.meta["split"], "the store's split")
                splits.write(split, self.folder / splits.FILE)
        self.fabric.barrier()

    def _start_from(self, run: Path) -> None:
        earlier = read_checkpoint(run)
        self.framework.start_from(earlier)
        self.started_from = f"{earlier['config']['name']}, {earlier['step']} steps"

    def train(self, max_minutes: float | None = None) -> bool:
        """Train to the end, or for so many minutes, or until Ctrl-C; the state is saved either way.

        Returns
        -------
        bool
            True if the run is complete; if not, `interrupted` says whether somebody stopped it.

        Raises
        ------
        TrainingError
            If another process trains in the folder; or a loss explodes or is no longer finite: then the batch is kept
            there.
        OutputError
            If a file cannot be written; the last checkpoint stays whole.
        """
        first = self.fabric.is_global_zero
        with contextlib.ExitStack() as held:
            alone = held.enter_context(only_one(self.folder / LOCK)) if first else True
            if self.fabric.agreed(not alone):
                raise TrainingError(f"another process trains in {self.folder}", "one at a time", "Wait, or end it")
            stop = held.enter_context(stopping())
            teller = held.enter_context(Teller(self.folder, self.step, self.total, first=first))
            try:
                self._train(max_minutes, stop, teller)
            except OSError as error:  # TensorBoard's files
                raise write_error(self.folder / "events", error) from error
        return self.step >= self.total

    def _train(self, max_minutes: float | None, stop: Stop, teller: Teller) -> None:
        started, before, speed, config = time.monotonic(), self.seconds, Speed(), self.config
        if self.fabric.compiled != "off" and self.step < self.total:
            self._check_compiled(teller)
        while self.step < self.total:
            speed.begin()
            batch = self.draw()
            speed.drawn()
            terms = self._learn(batch)
            self.step += 1
            speed.end()
            self.seconds = before + time.monotonic() - started
            late = max_minutes is not None and time.monotonic() - started > 60 * max_minutes
            last = self.step == self.total
            ending = self.fabric.agreed(stop.wanted or late)
            teller.step(self.step, terms, speed, self._learning_rate())
            if self.step % config.validate_every == 0 or last:
                self._validate(teller)
            if self.step % config.checkpoint_every == 0 or last or ending:
                self.save()
            if ending:
                self.interrupted = stop.wanted
                break

    def draw(self) -> Batch:
        """The process's share of the next batch, on its device."""
        joint = self.batches.draw()
        return _share(joint, self.fabric.global_rank, self.fabric.world_size).to(self.fabric.device)

    def optimise(self, batch: Batch) -> dict[str, Tensor]:
        """One step of the framework; the loss terms before weighting."""
        return self.framework.optimise(batch, self.step, self._learning_rate())

    def _learn(self, batch: Batch) -> dict[str, Tensor]:
        """A step, watched; the loss terms are means over all processes."""
        try:
            terms = self.optimise(batch)
            if self.fabric.world_size > 1:
                terms = {name: self.fabric.all_reduce(term) for name, term in terms.items()}
            self.guard.check(terms, self.step)
        except TrainingError as error:
            kept = keep_batch(self.folder, batch, self.step, self.fabric.global_rank)
            where = f"; the batch is in {kept}" if kept else ""
            raise type(error)(error.seen + where, error.expected, error.remedy) from error
        return terms

    def _check_compiled(self, teller: Teller) -> None:
        """Compare with the uncompiled modules on the first training slices; nothing is drawn for that."""
        indices = self.store.indices("train")[: 2 * self.config.batch_size]
        images = self.store.images(indices)[:, :1, : self.config.crop, : self.config.crop].to(self.fabric.device)
        missing = [self.config.crop - n for n in images.shape[:1:-1]]
        for line in self.fabric.check_compiled(torch.nn.functional.pad(images, (0, missing[0], 0, missing[1]))):
            teller.say(line)

    def _learning_rate(self) -> float:
        return self.config.learning_rate * learning_rate_factor(self.step, self.config, self.total)

    def _validate(self, teller: Teller) -> None:
        """Score the averaged generators in the first process; the others wait at the next common step."""
        if not self.fabric.is_global_zero:
            return
        self.scores, picture = self.validator(self.framework.averages, self.fabric.device)
        teller.scalars({f"validation/{name}": score for name, score in self.scores.items()}, self.step)
        if picture is not None:
            teller.picture("validation/t1_made_t2_made", picture, self.step)
        parts = "  ".join(f"{name} {score:.3f}" for name, score in self.scores.items())
        teller.say(f"validation at step {self.step}: {parts or 'no subject, or no slice wanted'}")
        psnr = [self.scores[name] for name in ("psnr/t1_to_t2", "psnr/t2_to_t1") if name in self.scores]
        if psnr and (self.best is None or sum(psnr) / len(psnr) > self.best):
            self.best = sum(psnr) / len(psnr)
            write_checkpoint(self.folder / BEST, self._state())

    def save(self) -> Path:
        """Write `last.ckpt`."""
        path = self.folder / LAST
        pools = self._pools_of_all()
        if self.fabric.is_global_zero:
            write_checkpoint(path, {**self._state(), "pools_by_rank": pools})
        self.fabric.barrier()
        return path

    def _pools_of_all(self) -> list[Any] | None:
        """The image pools of every process; None where there is only one."""
        if self.fabric.world_size == 1:
            return None
        gathered: list[Any] = [None] * self.fabric.world_size
        torch.distributed.all_gather_object(gathered, self.framework.state_dict()["pools"])
        return gathered

    def _state(self) -> dict[str, Any]:
        return {
            "config": self.config.as_dict(),
            "config_sha256": self.config.sha256(),
            "step": self.step,
            "total": self.total,
            "seconds": self.seconds,
            "device": str(self.fabric.device),
            "scores": self.scores,
            "best": self.best,
            "started_from": self.started_from,
            "store": self.store.meta,
            "draws": self.batches.generator.get_state(),
            "torch_random": torch.get_rng_state(),
            "precision": self.fabric.precision_state(),
            **self.batches.state_dict(),
            **self.framework.state_dict(),
        }

    def _resume(self) -> None:
        state = read_checkpoint(self.folder)
        if state["config_sha256"] != self.config.sha256():
            differences = "; ".join(config_differences(state["config"], self.config.as_dict()))
            raise TrainingError(
                f"{self.folder} holds a run of another configuration ({differences})",
                "the same settings",
                "Choose another folder; --init-from starts a new run from this one's generator",
            )
        changed = data_differences(state["store"], self.store.meta)
        if changed:
            raise TrainingError(
                f"{self.folder} holds a run on other data ({'; '.join(changed)})",
                "the store that it was begun with",
                "Choose another folder or the other store",
            )
        by_rank = state.get("pools_by_rank")
        if by_rank and len(by_rank) == self.fabric.world_size:
            state["pools"] = by_rank[self.fabric.global_rank]
        self.framework.load_state_dict(state)
        self.fabric.load_precision_state(state.get("precision"))
        self.batches.load_state_dict(state)
        self.batches.generator.set_state(state["draws"])
        torch.set_rng_state(state["torch_random"])
        self.step, self.seconds, self.scores = state["step"], state["seconds"], state["scores"]
        self.started_from, self.best = state.get("started_from"), state.get("best")


def _share(batch: Batch, rank: int, processes: int) -> Batch:
    """The pairs of a batch that are one process's: every `processes`-th, the same of T1 and T2."""

    def of(images: Tensor) -> Tensor:
        return torch.cat([half[rank::processes] for half in images.chunk(2)])

    if processes == 1:
        return batch
    return replace(batch, **{name: of(part) for name, part in vars(batch).items() if part is not None})


def _free_memory(device: torch.device) -> int:
    """Bytes that are free on a GPU; 0 elsewhere, where the store's files are in the system's memory anyway."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else 0
