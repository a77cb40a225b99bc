"""What one training step does: the modules, optimisers and image pools of a method, and how they learn from a batch."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Adam

from mrsynth_training import losses
from mrsynth_training.batches import Batch
from mrsynth_training.config import Config
from mrsynth_training.discriminators import PatchGAN
from mrsynth_training.errors import TrainingError
from mrsynth_training.pool import ImagePool
from MRSynthLib.engine import generators

DIRECTIONS = ("t1_to_t2", "t2_to_t1")


class NotFinite(TrainingError):
    """The loss is NaN or infinite; no weight has been changed by this step."""


class Framework:
    """One self-inverse generator and two discriminators (PAPER eq. 1-6), with or without paired terms.

    Parameters
    ----------
    config : Config
    fabric : Fabric
        Launched and seeded; modules and optimisers are set up with it.
    draws : torch.Generator
        Source of the pools' draws; the caller saves its state.

    Attributes
    ----------
    averages : dict of str to nn.Module
        Averaged generator by direction, in evaluation mode: what is validated and exported.
    trained : list of nn.Module
        Everything that an optimiser changes.
    """

    def __init__(self, config: Config, fabric: Fabric, draws: torch.Generator) -> None:
        self.config, self.fabric = config, fabric
        generator = generators.build(config.generator.name, config.generator.arguments)
        self.average = copy.deepcopy(generator).eval().requires_grad_(False).to(fabric.device)
        self.generator, self.generator_optimiser = self._set_up(generator)
        self.discriminators = nn.ModuleList()
        self.discriminator_optimisers = []
        for _ in range(2 if config.losses.adversarial.weight else 0):  # D_Y judges G's T2, D_X its T1
            discriminator, optimiser = self._set_up(PatchGAN(config.discriminator_filters))
            self.discriminators.append(discriminator)
            self.discriminator_optimisers.append(optimiser)
        self.pools = [ImagePool(config.pool_size, draws) for _ in range(2)]

    def _set_up(self, module: nn.Module) -> tuple[Any, Any]:
        """A module and its optimiser, ready for the device and the precision."""
        optimiser = Adam(module.parameters(), self.config.learning_rate, betas=self.config.betas)
        channels_last = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self.fabric.setup(channels_last, optimiser)

    @property
    def averages(self) -> dict[str, nn.Module]:
        """Averaged generator by direction; the self-inverse one serves both."""
        return dict.fromkeys(DIRECTIONS, self.average)

    @property
    def trained(self) -> list[nn.Module]:
        """Generators, then discriminators."""
        return [self.generator, *self.discriminators]

    def start_from(self, state: Mapping[str, Any]) -> None:
        """Take the averaged generator of another run's state as the starting point."""
        self.generator.load_state_dict(state["average"])
        self.average.load_state_dict(state["average"])

    def optimise(self, batch: Batch, step: int, learning_rate: float) -> dict[str, Tensor]:
        """One step of G and, where the adversarial term is on, of D_Y and D_X.

        Parameters
        ----------
        batch : Batch
            On the device.
        step : int
            Counted from 0: decides which terms are on.
        learning_rate : float

        Returns
        -------
        dict of str to Tensor
            The loss terms before weighting, scalars.

        Raises
        ------
        NotFinite
            Before any weight has been changed.
        TrainingError
            If no term is on.
        """
        for optimiser in (self.generator_optimiser, *self.discriminator_optimisers):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate
        synthetic, terms = self._optimise_generator(batch, step)
        if "adversarial" in terms:
            terms["discriminators"] = self._optimise_discriminators(synthetic.detach(), batch.targets)
        self._update_average(step)
        return {name: term.detach() for name, term in terms.items()}

    def _optimise_generator(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        weights = {name: getattr(self.config.losses, name).at(step) for name in self.config.as_dict()["losses"]}
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
            raise TrainingError(f"no loss term is on in step {step}", "at least one", "Lower a `from_step` to 0")
        # Eq. 3 + eq. 6: L1 and cycle terms are means over both directions, the adversarial term is their sum.
        total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
        if not torch.isfinite(total):
            parts = ", ".join(f"{name} {float(term.detach()):g}" for name, term in terms.items())
            raise NotFinite(
                f"the loss is not finite in step {step} ({parts})",
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
    def _update_average(self, step: int) -> None:
        """Exponential moving average of G, batch-norm buffers included; short at first, to forget the start."""
        decay = min(self.config.ema_decay, (step + 1) / (step + 10))
        current_state = self.generator.state_dict()
        for name, average in self.average.state_dict().items():
            current = current_state[name]
            if average.is_floating_point():
                average.lerp_(current.to(average), 1 - decay)
            else:
                average.copy_(current)

    def _parts(self) -> dict[str, Any]:
        return {
            "generator": self.generator,
            "average": self.average,
            # One by one: a ModuleList of Fabric's wrappers does not read the names that it writes.
            **{f"discriminator_{i}": d for i, d in enumerate(self.discriminators)},
            "generator_optimiser": self.generator_optimiser,
            **{f"discriminator_optimiser_{i}": o for i, o in enumerate(self.discriminator_optimisers)},
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything that an exact resume needs, by names that are part of the run's own state."""
        return {
            **{name: part.state_dict() for name, part in self._parts().items()},
            "pools": [pool.state_dict() for pool in self.pools],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave; other entries of `state` are left alone."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        for pool, content in zip(self.pools, state["pools"], strict=True):
            pool.load_state_dict(content, self.fabric.device)


def build(config: Config, fabric: Fabric, draws: torch.Generator) -> Framework:
    """The framework that a configuration names."""
    return Framework(config, fabric, draws)
