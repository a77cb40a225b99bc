"""From the slice store to the tensors of one training step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mrsynth_training import augment
from mrsynth_training.config import Config
from mrsynth_training.slices import SAMPLERS, EpochSampler, GroupSampler, SliceStore


def exchange(images: Tensor) -> Tensor:
    """Swap the T1 half and the T2 half of a batch (2B, ...)."""
    return torch.cat(images.chunk(2)[::-1])


@dataclass(frozen=True)
class Batch:
    """Both directions of one step, T1 in the first half, T2 in the second.

    `sources` (2B,1,S,S): what G sees.  `clean` (2B,1,S,S): the same slices before degradation; `exchange(clean)` are
    the targets of `sources` where the slices are paired, and merely images of the target contrast where they are not.
    """

    sources: Tensor
    clean: Tensor

    @property
    def targets(self) -> Tensor:
        """Images of the contrast that G makes of `sources`, in its order."""
        return exchange(self.clean)

    def to(self, device: torch.device) -> Batch:
        """The same on the device, in the memory layout its convolutions like."""
        layout = torch.channels_last
        return Batch(
            self.sources.to(device).contiguous(memory_format=layout),
            self.clean.to(device).contiguous(memory_format=layout),
        )


class Batches:
    """Draws batches; all its randomness comes from one seeded generator.

    Parameters
    ----------
    store : SliceStore
    config : Config
    generator : torch.Generator
        Its state, and `sampler`'s, are saved with the run.
    """

    def __init__(self, store: SliceStore, config: Config, generator: torch.Generator) -> None:
        self.store = store
        self.config = config
        self.generator = generator
        self.sampler: GroupSampler | EpochSampler = SAMPLERS[config.sampling](store, generator)

    def draw(self) -> Batch:
        """The next batch, on the CPU; in an unpaired experiment T1 and T2 are of different slices."""
        pairs = self._pairs()
        t1, t2 = pairs[:, :1], pairs[:, 1:]
        if self.config.pairing == "unpaired":
            t2 = self._pairs()[:, 1:]
        clean = torch.cat([t1, t2])
        if self.config.augmentation == "none":
            return Batch(clean, clean)
        sources = augment.degrade(clean, self.generator)
        return Batch(sources, augment.soften_targets(clean, self.generator))

    def _pairs(self) -> Tensor:
        indices = self.sampler.draw(self.config.batch_size)
        return augment.crop(
            self.store.images(indices),
            self.store.boxes(indices),
            self.config.crop,
            self.generator,
            random=self.config.augmentation != "none",
        )
