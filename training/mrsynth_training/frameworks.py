"""What one training step does: the generators of a method, their averages, and how they learn from a batch."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Adam

from mrsynth_training import objective
from mrsynth_training.adversary import Adversary
from mrsynth_training.batches import Batch
from mrsynth_training.config import Config
from mrsynth_training.errors import TrainingError
from mrsynth_training.neighbours import middle, windows
from MRSynthLib.engine import generators
from MRSynthLib.engine.checkpoint import DIRECTIONS


class NotFinite(TrainingError):
    """The loss is NaN or infinite; no weight has been changed by this step."""


class Framework:
    """Generators, discriminators and their optimisers; the frameworks below say which generator makes what.

    Parameters
    ----------
    config : Config
    fabric : Fabric
        Launched and seeded; modules and optimisers are set up with it.
    draws : torch.Generator
        Source of the pools' draws; the caller saves its state.

    Attributes
    ----------
    names : tuple of str
        One per generator; in the run's state what follows "generator" and "average".
    serves : tuple of tuple of str
        The directions that each generator is for.
    shows_source : bool
        Whether the discriminators see the source beside the image.
    """

    names: ClassVar[tuple[str, ...]] = ("",)
    serves: ClassVar[tuple[tuple[str, ...], ...]] = (DIRECTIONS,)
    shows_source: ClassVar[bool] = False

    def __init__(self, config: Config, fabric: Fabric, draws: torch.Generator) -> None:
        self.config, self.fabric = config, fabric
        self.generators, self.generator_optimisers, self._averages = [], [], []
        for _ in self.names:
            generator = generators.build(config.generator.name, config.generator.arguments)
            average = copy.deepcopy(generator).eval().requires_grad_(False).to(fabric.device)
            wrapped, optimiser = self._set_up(generator)
            self.generators.append(wrapped)
            self.generator_optimisers.append(optimiser)
            self._averages.append(average)
        channels = 1 + self.shows_source
        self.adversary = Adversary(config, self._set_up, fabric.backward, draws, channels)
        self._needs_first = config.generator.name == "AutoContext"

    def _set_up(self, module: nn.Module) -> tuple[Any, Any]:
        """A module and its optimiser, ready for the device and the precision."""
        learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
        optimiser = Adam(learning, self.config.learning_rate, betas=self.config.betas)
        channels_last = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self.fabric.setup(channels_last, optimiser)

    @property
    def averages(self) -> dict[str, nn.Module]:
        """Averaged generator by direction, in evaluation mode: what is validated and exported."""
        return {d: average for average, served in zip(self._averages, self.serves, strict=True) for d in served}

    @property
    def trained(self) -> list[nn.Module]:
        """Generators, then discriminators."""
        return [*self.generators, *self.discriminators]

    @property
    def discriminators(self) -> nn.ModuleList:
        """D_Y and D_X, or none."""
        return self.adversary.discriminators

    @property
    def discriminator_optimisers(self) -> list[Any]:
        """Theirs, in the same order."""
        return self.adversary.optimisers

    def forth(self, images: Tensor) -> Tensor:
        """Images of the other contrast (M,1,S,S) of (M,C,S,S), whose first half is T1."""
        raise NotImplementedError

    def back(self, images: Tensor) -> Tensor:
        """The same of images whose first half is T2, as `forth` gives them."""
        raise NotImplementedError

    def start_from(self, state: Mapping[str, Any]) -> None:
        """Take the averaged generators of another run's state as the starting point; for auto-context, as the first.

        Raises
        ------
        TrainingError
            If they are other generators than this configuration's.
        """
        earlier = averages_of(state)
        refines = self._needs_first and state["config"]["generator"]["name"] != "AutoContext"
        for generator, average, served in zip(self.generators, self._averages, self.serves, strict=True):
            weights = next((w for directions, w in earlier.items() if set(served) <= set(directions)), None)
            try:
                if weights is None:
                    raise RuntimeError(f"it has no generator for {' and '.join(served)}")
                for module in (generator, average):
                    part: Any = module.first if refines else module
                    part.load_state_dict(weights)
            except RuntimeError as error:
                raise TrainingError(
                    f"the run {state['config']['name']!r} does not fit {self.config.generator.name} ({error})",
                    "a run whose generator is this one's, or for AutoContext its first",
                    "Start from another run, or correct the generator's arguments",
                ) from error
        self._needs_first = False

    def optimise(self, batch: Batch, step: int, learning_rate: float) -> dict[str, Tensor]:
        """One step of the generators and, where the adversarial term is on, of D_Y and D_X.

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
            If no term is on, or an auto-context generator has no trained first one.
        """
        if self._needs_first:
            raise TrainingError(
                "AutoContext has no trained first generator", "a run to refine", "Start with --init-from RUN"
            )
        for optimiser in (*self.generator_optimisers, *self.discriminator_optimisers):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate
        synthetic, terms = self._optimise_generators(batch, step)
        if "adversarial" in terms:
            terms["discriminators"] = self._optimise_discriminators(synthetic.detach(), batch)
        self._update_averages(step)
        return {name: term.detach() for name, term in terms.items()}

    def _optimise_generators(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        weights = self.config.losses.at(step)
        made = self._made(batch, cycled=any(name in weights for name in objective.CYCLE))
        terms = objective.terms(made, list(weights))
        if "adversarial" in weights:
            terms["adversarial"] = self.adversary.judge(self._shown(made.synthetic, batch))
        if not terms:
            raise TrainingError(f"no loss term is on in step {step}", "at least one", "Lower a `from_step` to 0")
        # Half of eq. 3 + eq. 6: every term is the mean over both directions, so weights are the papers' lambdas.
        total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
        if not torch.isfinite(total):
            parts = ", ".join(f"{name} {float(term.detach()):g}" for name, term in terms.items())
            raise NotFinite(
                f"the loss is not finite in step {step} ({parts})",
                "finite numbers",
                "Resume from last.ckpt with a lower learning_rate, or with precision 32-true",
            )
        for optimiser in self.generator_optimisers:
            optimiser.zero_grad()
        self.fabric.backward(total)
        for optimiser in self.generator_optimisers:
            optimiser.step()
        return made.synthetic, terms

    def _made(self, batch: Batch, *, cycled: bool) -> objective.Made:
        """G(x), and where wanted G(G(x)); of neighbouring slices, too, where G needs them for that."""
        depth = self.config.depth
        sources = batch.sources if cycled else middle(batch.sources, depth)
        synthetic = self.forth(windows(sources, depth))  # both directions at once: batch statistics are of both
        slab = synthetic if depth == 1 or not cycled else synthetic.unflatten(0, (len(sources), depth)).squeeze(2)
        return objective.Made(
            synthetic=middle(slab),
            sources=batch.clean,
            targets=batch.targets,
            mask=batch.mask,
            cycled=self.back(slab) if cycled else None,
        )

    def _shown(self, images: Tensor, batch: Batch) -> Tensor:
        """What the discriminators see: images, in Pix2Pix with their source."""
        return torch.cat([batch.clean, images], dim=1) if self.shows_source else images

    def _optimise_discriminators(self, synthetic: Tensor, batch: Batch) -> Tensor:
        return self.adversary.learn(self._shown(synthetic, batch), self._shown(batch.targets, batch))

    @torch.no_grad()
    def _update_averages(self, step: int) -> None:
        """Exponential moving average of G, batch-norm buffers included; short at first, to forget the start."""
        decay = min(self.config.ema_decay, (step + 1) / (step + 10))
        for generator, averaged in zip(self.generators, self._averages, strict=True):
            current_state = generator.state_dict()
            for name, average in averaged.state_dict().items():
                current = current_state[name]
                if average.is_floating_point():
                    average.lerp_(current.to(average), 1 - decay)
                else:
                    average.copy_(current)

    def _parts(self) -> dict[str, Any]:
        """Everything with a state; one by one, as a ModuleList of Fabric's wrappers does not read what it writes."""

        def named(stem: str, parts: Sequence[Any], names: Sequence[Any]) -> dict[str, Any]:
            return {f"{stem}{name}": part for name, part in zip(names, parts, strict=True)}

        numbers = [f"_{n}" for n in range(len(self.discriminators))]
        return {
            **named("generator", self.generators, self.names),
            **named("average", self._averages, self.names),
            **named("discriminator", list(self.discriminators), numbers),
            **named("generator_optimiser", self.generator_optimisers, self.names),
            **named("discriminator_optimiser", self.discriminator_optimisers, numbers),
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything that an exact resume needs, by names that are part of the run's own state."""
        return {
            **{name: part.state_dict() for name, part in self._parts().items()},
            "pools": [pool.state_dict() for pool in self.adversary.pools],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave; other entries of `state` are left alone."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        for pool, content in zip(self.adversary.pools, state["pools"], strict=True):
            pool.load_state_dict(content, self.fabric.device)
        self._needs_first = False


class SelfInverse(Framework):
    """One generator for both directions, unpaired (Fu et al., eq. 1-6) or with paired terms (ours)."""

    @property
    def generator(self) -> Any:
        """G."""
        return self.generators[0]

    def forth(self, images: Tensor) -> Tensor:
        """G(x)."""
        made: Tensor = self.generator(images)
        return made

    back = forth


class TwoGenerators(Framework):
    """One generator per direction, cycle-consistent as a pair (CycleGAN, Zhu et al. 2017, eq. 1-3)."""

    names = tuple(f"_{direction}" for direction in DIRECTIONS)
    serves = tuple((direction,) for direction in DIRECTIONS)

    def forth(self, images: Tensor) -> Tensor:
        """G(x) and F(y)."""
        return torch.cat([g(half) for g, half in zip(self.generators, images.chunk(2), strict=True)])

    def back(self, images: Tensor) -> Tensor:
        """F(G(x)) and G(F(y))."""
        return torch.cat([g(half) for g, half in zip(self.generators[::-1], images.chunk(2), strict=True)])


class Pix2Pix(TwoGenerators):
    """Two paired translations side by side: discriminators see the source, too (Isola et al. 2017, eq. 1-4)."""

    shows_source = True


FRAMEWORKS: dict[str, type[Framework]] = {
    "self_inverse": SelfInverse,
    "self_inverse_paired": SelfInverse,
    "cyclegan": TwoGenerators,
    "pix2pix": Pix2Pix,
}


def build(config: Config, fabric: Fabric, draws: torch.Generator) -> Framework:
    """The framework that a configuration names."""
    return FRAMEWORKS[config.framework](config, fabric, draws)


def averages_of(state: Mapping[str, Any]) -> dict[tuple[str, ...], dict[str, Tensor]]:
    """Averaged weights in a run's state, by the directions that each is for."""
    framework = FRAMEWORKS[state["config"].get("framework", "self_inverse")]
    pairs = zip(framework.serves, framework.names, strict=True)
    return {served: state[f"average{name}"] for served, name in pairs}
