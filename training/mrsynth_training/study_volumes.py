"""The volumes that the study's pictures show: the same subjects and slices for every generator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from mrsynth_training.candidates import Network
from mrsynth_training.pairs import Pair, load_pair
from mrsynth_training.study import Outcome
from MRSynthLib.engine import intensity, standard_space
from MRSynthLib.engine.synthesis import CONTRASTS

SUBJECTS = 2
DETAIL = 48.0  # mm, side of the zoomed square

Image = NDArray[np.float32]


@dataclass(frozen=True)
class Shown:
    """One direction of one subject, all stacks (slices upwards, rows to posterior, columns to the left).

    Attributes
    ----------
    subject, direction : str
    source, reference : ndarray
        In [0, 1].
    made : dict of ndarray
        Synthetic stacks by method, of the first seed.
    brain, lesion : ndarray of bool
    spacing : tuple of float
        mm along slices, rows, columns.
    """

    subject: str
    direction: str
    source: Image
    reference: Image
    made: dict[str, Image]
    brain: NDArray[np.bool_]
    lesion: NDArray[np.bool_]
    spacing: tuple[float, float, float]

    def middle(self) -> int:
        """Slice with the most brain."""
        return int(self.brain.sum(axis=(1, 2)).argmax())

    def of_tumour(self) -> tuple[int, int, int] | None:
        """Centre of a detail with tumour: slice with most of it, and its middle there; None without any."""
        if not self.lesion.any():
            return None
        number = int(self.lesion.sum(axis=(1, 2)).argmax())
        rows, columns = np.nonzero(self.lesion[number])
        return number, int(rows.mean()), int(columns.mean())

    def without_tumour(self) -> tuple[int, int, int]:
        """Centre of a detail without tumour: wholly brain, free of disease, with the most structure in it."""
        number = self.middle()
        size = [max(3, round(DETAIL / mm)) for mm in self.spacing[1:]]
        covered = uniform_filter(self.brain[number].astype(float), size)
        diseased = uniform_filter(self.lesion[number].astype(float), size)
        # Of both contrasts, so that either direction shows the same place.
        edges = sum(np.hypot(*np.gradient(stack[number])) for stack in (self.source, self.reference))
        structure = uniform_filter(edges * self.brain[number], size) * np.where(diseased > 1e-6, 0.01, 1.0) * covered**4
        row, column = np.unravel_index(int(structure.argmax()), structure.shape)
        return number, int(row), int(column)

    def square(self, row: int, column: int) -> tuple[slice, slice]:
        """Rows and columns of the detail about a centre, moved inwards where it would leave the image."""
        parts = []
        for centre, axis in ((row, 1), (column, 2)):
            total, size = self.brain.shape[axis], round(DETAIL / self.spacing[axis])
            first = int(np.clip(centre - size // 2, 0, max(0, total - size)))
            parts.append(slice(first, min(total, first + size)))
        return parts[0], parts[1]


def shown(outcome: Outcome, device: str = "auto") -> list[Shown]:
    """Synthesize what is shown: the first test subjects by name, those with tumour first, in both directions.

    They are chosen by name before anything is scored, never by how they came out.
    """
    first = min(item.seed for item in outcome.trained)
    networks = {i.label: Network(i.name, str(i.checkpoint), device) for i in outcome.trained if i.seed == first}
    ordered = sorted(outcome.cases, key=lambda case: (case.segmentation is None and case.lesion is None, case.subject))
    result = []
    for case in ordered[:SUBJECTS]:
        for contrast in CONTRASTS:
            pair = load_pair(case, contrast)
            made = {label: network.synthesize(pair)[0] / intensity.SCALE for label, network in networks.items()}
            result.append(_laid_out(pair, made))
    return result


def _laid_out(pair: Pair, made: dict[str, NDArray[Any]]) -> Shown:
    space = standard_space.plan(pair.source, np.ones(pair.source.shape, dtype=bool), "native")

    def stack(array: NDArray[Any]) -> Image:
        return np.ascontiguousarray(space.canonical(array), dtype=np.float32)

    lesion = pair.lesion if pair.lesion is not None else np.zeros(pair.brain.shape, bool)
    spacing = tuple(axis.spacing for axis in space.input_axes)
    return Shown(
        subject=pair.subject,
        direction=pair.direction,
        source=stack(np.where(pair.scored, pair.unit_source(), 0)),
        reference=stack(np.where(pair.scored, pair.reference, 0)),
        made={label: stack(np.where(pair.scored, voxels, 0)) for label, voxels in made.items()},
        brain=space.canonical(pair.brain).copy(),
        lesion=space.canonical(lesion).copy(),
        spacing=(spacing[0], spacing[1], spacing[2]),
    )
