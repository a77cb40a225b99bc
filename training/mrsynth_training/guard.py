"""Stops a run whose loss explodes or is no number, and keeps the batch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mrsynth_training.batches import Batch
from mrsynth_training.errors import TrainingError

FACTOR = 100.0  # of a term over its running mean: far beyond what an adversarial term swings
SETTLED = 50  # steps before a mean is one
SMALLEST = 1e-3  # a mean below this is none to compare with
MEMORY = 0.98  # of the running mean


class Guard:
    """Watches the loss terms of every step."""

    def __init__(self) -> None:
        self.means: dict[str, float] = {}
        self.seen: dict[str, int] = {}

    def check(self, terms: Mapping[str, Tensor], step: int) -> None:
        """Refuse terms that are not finite, or a hundred times their running mean.

        Raises
        ------
        TrainingError
        """
        values = dict(zip(terms, torch.stack([t.float() for t in terms.values()]).tolist(), strict=True))
        for name, value in values.items():
            mean, seen = self.means.get(name, value), self.seen.get(name, 0)
            finite = abs(value) < float("inf")  # false of NaN, too
            if not finite or (seen >= SETTLED and abs(value) > FACTOR * max(abs(mean), SMALLEST)):
                what = f"exploded: {value:g} after {mean:g} on average" if finite else f"is {value:g}"
                raise TrainingError(
                    f"the loss term '{name}' {what}, in step {step}",
                    "a loss that falls",
                    "The last checkpoint is from before: go on from it with a lower learning_rate in a new run "
                    "(--init-from), or look at the batch",
                )
            self.means[name] = MEMORY * mean + (1 - MEMORY) * value
            self.seen[name] = seen + 1


def keep_batch(folder: Path, batch: Batch, step: int, rank: int) -> Path | None:
    """Write the batch of a failed step: `torch.load` gives its sources, clean images and mask; None if it cannot be."""
    path = folder / f"failed_step_{step}{f'_rank_{rank}' if rank else ''}.pt"
    content = {"step": step, "sources": batch.sources.cpu(), "clean": batch.clean.cpu()}
    if batch.mask is not None:
        content["mask"] = batch.mask.cpu()
    try:
        torch.save(content, path)
    except (OSError, RuntimeError):  # a full disk must not hide the loss's error
        path.unlink(missing_ok=True)
        return None
    return path
