"""How far off a volume is as a whole, beside others: told by how well the generator finds its way back.

Where a scanner is strange to the generator, everything in the volume is further off than its voxels show. The mean
cycle error |x - G(G(x))| of the whole volume tells some of that, although voxel by voxel it tells next to nothing. A
few slices are enough for a mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SLICES = 12  # that go back, evenly spaced
MARGIN = 1.15  # times outside of what the calibration has seen, the level follows no further
Array = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Level:
    """A factor of the expected error for a whole volume: a power of its cycle error.

    Attributes
    ----------
    usual : float
        Cycle error at which the factor is 1.
    power : float
        0 or more.
    seen : tuple of 2 float
        Lowest and highest cycle error of the calibration.
    """

    usual: float
    power: float
    seen: tuple[float, float]

    def __call__(self, cycle: float | None) -> float:
        """The factor; 1 where the cycle error was not measured."""
        if cycle is None:
            return 1.0
        near = float(np.clip(cycle, self.seen[0] / MARGIN, self.seen[1] * MARGIN))
        return (near / self.usual) ** self.power

    @classmethod
    def from_card(cls, entry: Mapping[str, Any]) -> Level:
        """The level as the card has it; ValueError, KeyError or TypeError where it is none."""
        usual, power = float(entry["usual"]), float(entry["power"])
        low, high = (float(value) for value in entry["seen"])
        if not (0 < low <= high < np.inf and 0 < usual < np.inf and 0 <= power < np.inf):
            raise ValueError(f"the level is a power {power} of {usual}, seen from {low} to {high}")
        return cls(usual, power, (low, high))

    def to_card(self) -> dict[str, Any]:
        """The same for a card, with five digits."""
        usual, power, *seen = (float(f"{value:.5g}") for value in (self.usual, self.power, *self.seen))
        return {"usual": usual, "power": power, "seen": seen}


def chosen(brain: Mask) -> NDArray[np.intp]:
    """The slices that go back: up to `SLICES` of those with brain, evenly spaced.

    Parameters
    ----------
    brain : ndarray of bool, shape (slices, rows, columns)
    """
    filled = np.flatnonzero(brain.any(axis=(1, 2)))
    return filled[np.unique(np.linspace(0, len(filled) - 1, min(SLICES, len(filled))).round().astype(int))]


def cycle_error(source: Array, back: Array, brain: Mask) -> float | None:
    """Mean of |x - G(G(x))| in the brain of slices that went back, all of shape (n, rows, columns); None without brain.

    The same number for every volume, whatever lies around its brain.
    """
    return float(np.abs(back[brain] - source[brain]).mean(dtype=np.float64)) if brain.any() else None
