"""The generators' objective: which loss is computed of what. The losses themselves are in `losses*`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from mrsynth_training import losses, losses_structure


@dataclass(frozen=True)
class Made:
    """What the terms of one step look at, each (2B,1,S,S), T1 sources in the first half.

    `synthetic`: G(x).  `sources`: x, clean.  `targets`: images of the wanted contrast, in a paired experiment of the
    same slice.  `mask`: brain and lesion of the slice, where a term needs it.  `cycled`: G(G(x)), where one needs it.
    """

    synthetic: Tensor
    sources: Tensor
    targets: Tensor
    mask: Tensor | None = None
    cycled: Tensor | None = None


Compute = Callable[[Made], Tensor]

PAIRED: dict[str, Compute] = {
    "paired_l1": lambda made: losses.paired_loss(made.synthetic, made.targets),
    "ssim": lambda made: losses.ssim_loss(made.synthetic, made.targets),
    "ms_ssim": lambda made: losses_structure.ms_ssim_loss(made.synthetic, made.targets),
    "local": lambda made: losses.local_loss(made.synthetic, made.targets),
    "gradient_difference": lambda made: losses_structure.gradient_difference_loss(made.synthetic, made.targets),
    "lesion": lambda made: losses.lesion_loss(made.synthetic, made.targets, _there(made.mask)),
}
# Against the clean slice: what degradation took from the source, G(G(x)) cannot know.
CYCLE: dict[str, Compute] = {
    "cycle": lambda made: losses.cycle_loss(_there(made.cycled), made.sources),
    "local_cycle": lambda made: losses.local_loss(_there(made.cycled), made.sources),
}
STRUCTURE: dict[str, Compute] = {
    "gradient_consistency": lambda made: losses_structure.gradient_consistency_loss(made.synthetic, made.sources),
    "structure": lambda made: losses_structure.structure_loss(made.synthetic, made.sources),
}
TERMS = {**PAIRED, **CYCLE, **STRUCTURE}  # all but the adversarial term, which needs discriminators


def _there(tensor: Tensor | None) -> Tensor:
    assert tensor is not None, "a term is on whose input was not made"
    return tensor


def terms(made: Made, on: list[str]) -> dict[str, Tensor]:
    """The terms named, each a scalar: a mean over both directions."""
    return {name: compute(made) for name, compute in TERMS.items() if name in on}
