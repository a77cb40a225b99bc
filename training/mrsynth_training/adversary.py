"""The discriminators of a method as they judge and learn, each with its optimiser and its pool of earlier images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mrsynth_training import losses
from mrsynth_training.config import Config
from mrsynth_training.discriminators import PatchGAN
from mrsynth_training.pool import ImagePool


class Adversary:
    """D_Y, which judges synthetic T2, and D_X, which judges synthetic T1; neither where the adversarial term is off.

    Images come for both at once: T2 first.

    Parameters
    ----------
    config : Config
    set_up : callable
        Makes a module ready for the device and the precision; returns it with its optimiser.
    backward : callable
        Called with a loss in place of its `backward`.
    draws : torch.Generator
        Source of the pools' draws; the caller saves its state.
    channels : int
        Of what is shown: 1, or 2 where the source stands beside the image.

    Attributes
    ----------
    discriminators : nn.ModuleList
    optimisers : list
    pools : list of ImagePool
        Always two.
    """

    def __init__(
        self,
        config: Config,
        set_up: Callable[[nn.Module], tuple[Any, Any]],
        backward: Callable[[Tensor], object],
        draws: torch.Generator,
        channels: int,
    ) -> None:
        self._gan, self._backward = config.gan, backward
        self.discriminators = nn.ModuleList()
        self.optimisers: list[Any] = []
        for _ in range(2 if config.losses.adversarial.weight else 0):
            discriminator, optimiser = set_up(PatchGAN(config.discriminator_filters, channels, config.deep_supervision))
            self.discriminators.append(discriminator)
            self.optimisers.append(optimiser)
        self.pools = [ImagePool(config.pool_size, draws) for _ in range(2)]

    def judge(self, synthetic: Tensor) -> Tensor:
        """The adversarial loss of the generators that made these images (N,C,S,S): a scalar."""
        self.discriminators.requires_grad_(False)
        scores = [d(half) for d, half in zip(self.discriminators, synthetic.chunk(2), strict=True)]
        each = [losses.deeply_supervised(losses.adversarial_loss, levels, gan=self._gan) for levels in scores]
        return torch.stack(each).mean()

    def learn(self, synthetic: Tensor, acquired: Tensor) -> Tensor:
        """One step of each, to tell synthetic from acquired images (N,C,S,S): eq. 1 for D_Y, eq. 4 for D_X.

        Returns
        -------
        Tensor
            The sum of both losses.
        """
        self.discriminators.requires_grad_(True)
        sum_of_losses = torch.zeros((), device=synthetic.device)
        halves = zip(synthetic.chunk(2), acquired.chunk(2), strict=True)
        parts = zip(self.discriminators, self.optimisers, self.pools, halves, strict=True)
        for discriminator, optimiser, pool, (made, true) in parts:
            scores = discriminator(true), discriminator(pool.exchange(made))
            loss = losses.deeply_supervised(losses.discriminator_loss, *scores, gan=self._gan)
            optimiser.zero_grad()
            self._backward(loss)
            optimiser.step()
            sum_of_losses += loss.detach()
        return sum_of_losses
