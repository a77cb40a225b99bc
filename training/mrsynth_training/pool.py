"""Pool of earlier synthetic images for the discriminators (Shrivastava et al. 2017; CycleGAN uses 50)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class ImagePool:
    """Keeps earlier synthetic images, so that a discriminator does not forget what G made a while ago.

    Parameters
    ----------
    size : int
        How many images are kept; 0 passes every image straight through.
    generator : torch.Generator
        Source of the draws; its state is saved with the run.
    """

    def __init__(self, size: int, generator: torch.Generator) -> None:
        self.size = size
        self.generator = generator
        self.images: list[Tensor] = []

    def exchange(self, images: Tensor) -> Tensor:
        """Images (N,1,H,W) to show the discriminator: with even odds, each is swapped for an earlier one."""
        if self.size == 0:
            return images
        shown = []
        for image in images.detach():
            if len(self.images) < self.size:
                self.images.append(image.clone())
                shown.append(image)
            elif torch.rand((), generator=self.generator) < 0.5:
                place = int(torch.randint(self.size, (), generator=self.generator))
                shown.append(self.images[place])
                self.images[place] = image.clone()
            else:
                shown.append(image)
        return torch.stack(shown)

    def state_dict(self) -> dict[str, Any]:
        """The images, for an exact resume (the draws' state is saved by the owner of the generator)."""
        return {"images": list(self.images)}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Restore what `state_dict` gave."""
        self.images = [image.to(device) for image in state["images"]]
