"""From the slice store to the tensors of one training step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from mrsynth_training import augment, inserted_lesions
from mrsynth_training.config import Config
from mrsynth_training.neighbours import middle, neighbours
from mrsynth_training.slices import SAMPLERS, EpochSampler, GroupSampler, SliceStore
from mrsynth_training.store_files import LESION

Sampler: TypeAlias = GroupSampler | EpochSampler


def exchange(images: Tensor) -> Tensor:
    """Swap the T1 half and the T2 half of a batch (2B, ...)."""
    return torch.cat(images.chunk(2)[::-1])


@dataclass(frozen=True)
class Batch:
    """Both directions of one step, T1 in the first half, T2 in the second.

    `sources` (2B,D,S,S): what G sees, D neighbouring slices (1 unless 2.5-D).  `clean` (2B,1,S,S): the slices in their
    middle before degradation; `exchange(clean)` are the targets of `sources` where the slices are paired, and merely
    images of the target contrast where they are not.  `mask` (2B,1,S,S), where a loss term needs it: 0, brain, lesion.
    """

    sources: Tensor
    clean: Tensor
    mask: Tensor | None = None

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
            None if self.mask is None else self.mask.to(device),
        )


class Batches:
    """Draws batches; all its randomness comes from one seeded generator.

    Parameters
    ----------
    store : SliceStore
    config : Config
    generator : torch.Generator
        Its state, and the samplers', are saved with the run.
    """

    def __init__(self, store: SliceStore, config: Config, generator: torch.Generator) -> None:
        self.store = store
        self.config = config
        self.generator = generator
        self.sampler: Sampler = SAMPLERS[config.sampling](store, generator)
        # One for each contrast of an unpaired experiment, so that an epoch shows every slice of both.
        self.sampler_t2 = self.sampler if config.pairing == "paired" else SAMPLERS[config.sampling](store, generator)
        self.neighbours = neighbours(store.rows, config.slab)

    def draw(self) -> Batch:
        """The next batch, on the CPU; in an unpaired experiment T1 and T2 are of different slices."""
        t1, t2, mask = self._pairs(self.sampler)
        if self.config.pairing == "unpaired":
            t2 = self._pairs(self.sampler_t2)[1]
        clean = torch.cat([t1, t2])
        masks = None if mask is None else torch.cat([mask, mask])
        if self.config.augmentation == "none":
            return Batch(clean, middle(clean), masks)
        other = augment.recontrast(clean, self.generator) if self.config.augmentation == "contrast" else clean
        sources = augment.degrade(other, self.generator)
        return Batch(sources, augment.soften_targets(middle(clean), self.generator), masks)

    def state_dict(self) -> dict[str, Any]:
        """The samplers' states."""
        return {"sampler": self.sampler.state_dict(), "sampler_t2": self.sampler_t2.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave; where a run was saved with one sampler, T2 begins an epoch."""
        self.sampler.load_state_dict(state["sampler"])
        if "sampler_t2" in state:
            self.sampler_t2.load_state_dict(state["sampler_t2"])

    def _pairs(self, sampler: Sampler) -> tuple[Tensor, Tensor, Tensor | None]:
        """Slabs of T1 and of T2 (B,D,S,S), and the mask (B,1,S,S) of the slices in their middle."""
        indices = sampler.draw(self.config.batch_size).numpy()
        count, depth = len(indices), self.neighbours.shape[1]
        images = self.store.images(self.neighbours[indices].ravel())
        channels = [images.view(count, depth, 2, *images.shape[2:]).transpose(1, 2).flatten(1, 2)]
        if self.config.losses.lesion.weight or self.config.inserted_lesions:
            mask = self.store.masks(indices)[:, None]
            channels += [(mask > 0).float(), (mask == LESION).float()]
        cut = augment.crop(
            torch.cat(channels, dim=1),
            self.store.boxes(indices),
            self.config.crop,
            self.generator,
            random=self.config.augmentation != "none",
        )
        marked = (cut[:, 2 * depth :] > 0.5).sum(dim=1, keepdim=True) if len(channels) > 1 else None
        t1, t2 = cut[:, :depth], cut[:, depth : 2 * depth]
        if marked is not None and self.config.inserted_lesions:
            inserted_lesions.insert(t1, t2, marked, self.config.inserted_lesions, self.generator)
        return t1, t2, marked
