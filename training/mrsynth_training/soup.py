"""The mean of the generators of several runs that started from the same weights.

Fine-tuned from one point, runs of other seeds or settings end in one basin, where the mean of their weights can do
better on unknown data than each of them: a model soup (Wortsman et al., ICML 2022).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mrsynth_training.errors import TrainingError
from mrsynth_training.frameworks import averages_of

FARTHEST = 0.5  # distance of two runs' kernels over their length; of one origin it is 0.1, of two about 1.4

State = dict[str, Any]
Weights = dict[str, Tensor]


def mean_averages(states: Sequence[State]) -> dict[tuple[str, ...], Weights]:
    """Mean over runs of each averaged generator, by the directions that it is for.

    Parameters
    ----------
    states : sequence of dict
        What `run_files.read_checkpoint` gives, one or more.

    Raises
    ------
    TrainingError
        If generators, frames or training studies differ, or the runs did not start from the same weights.
    """
    first, *others = states
    for other in others:
        for what, of in _MUST_AGREE.items():
            if of(first) != of(other):
                raise _unlike(other, f"another {what}", f"the same {what} in all runs")
    averages = [averages_of(state) for state in states]
    for state, those in zip(others, averages[1:], strict=True):
        for directions, weights in averages[0].items():
            if (far := _distance(weights, those[directions])) > FARTHEST:
                raise _unlike(
                    state, f"weights of another origin (at a distance of {far:.2f})", f"at most {FARTHEST:g} apart"
                )
    return {directions: _mean([those[directions] for those in averages]) for directions in averages[0]}


def _unlike(state: State, seen: str, expected: str) -> TrainingError:
    return TrainingError(
        f"the run {state['config']['name']!r} (seed {state['config']['seed']}) has {seen}",
        expected,
        "Average runs that were started from one run (--init-from)",
    )


def _trained_on(state: State) -> set[str]:
    return {subject["subject"] for subject in state["store"]["subjects"] if subject["role"] == "train"}


_MUST_AGREE = {
    "generator": lambda state: state["config"]["generator"],
    "number of generators": lambda state: len(averages_of(state)),
    "frame": lambda state: state["config"]["frame"],
    "list of training studies": _trained_on,
}


def _distance(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """|a - b| / |a| of all kernels."""
    mine, its = (torch.cat([w[key].flatten().double() for key in a if a[key].dim() == 4]) for w in (a, b))
    return float((mine - its).norm() / mine.norm())


def _mean(several: Sequence[Weights]) -> Weights:
    """Mean of every tensor of real numbers; counters are the first's."""
    return {
        key: torch.stack([w[key].double() for w in several]).mean(dim=0).to(value.dtype)
        if value.is_floating_point()
        else value
        for key, value in several[0].items()
    }
