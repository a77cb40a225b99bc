"""What a voxel of the target ought to be like, as far as the source tells: tables from the calibration's references.

A result that is unlike every reference is suspect, whatever the generator believes: one that copies its source, blurs,
or paints healthy tissue over a lesion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.floating]


@dataclass(frozen=True)
class Prior:
    """Mean distance of a value made from the true ones, given the source's value there.

    Attributes
    ----------
    given, made : float
        The table's axes run from 0 to these, in equal steps.
    table : ndarray, shape (n, m)
        Entry (i, j): the mean of abs(true - made_j) over voxels whose source value is near given_i.
    """

    given: float
    made: float
    table: NDArray[np.float32]

    def __call__(self, given: Values, made: Values) -> NDArray[np.float32]:
        """The distance for each voxel, between the entries by bilinear interpolation; shapes (n,) to (n,)."""
        rows, row, down = _position(given, self.given, self.table.shape[0])
        columns, column, right = _position(made, self.made, self.table.shape[1])
        flat, width = self.table.ravel(), self.table.shape[1]
        upper = flat[row * width + column] * (1 - columns) + flat[row * width + right] * columns
        lower = flat[down * width + column] * (1 - columns) + flat[down * width + right] * columns
        return np.asarray(upper * (1 - rows) + lower * rows, dtype=np.float32)

    @classmethod
    def of(
        cls, given: Values, true: Values, weight: Values, limits: tuple[float, float], shape: tuple[int, int]
    ) -> Prior:
        """Make the table from voxels of references.

        Parameters
        ----------
        given, true : ndarray, shape (n,)
            The source's value and the reference's.
        weight : ndarray, shape (n,)
        limits : tuple of 2 float
            `given` and `made`.
        shape : tuple of 2 int
            Of the table.
        """
        rows, columns = np.linspace(0, limits[0], shape[0]), np.linspace(0, limits[1], shape[1])
        apart = np.abs(np.minimum(given, limits[0])[:, None] - rows) / rows[1]
        # A little of all voxels, so that an empty row tells what is known without the source.
        near = weight[:, None] * (np.maximum(1 - apart, 0) + 1e-3)
        table = near.T @ np.abs(true[:, None] - columns) / near.sum(axis=0)[:, None]
        return cls(limits[0], limits[1], table.astype(np.float32))

    @classmethod
    def from_card(cls, entry: Mapping[str, Any]) -> Prior:
        """The prior as the card has it; ValueError, KeyError or TypeError where it is none."""
        table = np.asarray(entry["table"], dtype=np.float32)
        given, made = float(entry["given"]), float(entry["made"])
        if table.ndim != 2 or min(table.shape) < 2 or not np.isfinite(table).all() or not (given > 0 and made > 0):
            raise ValueError(f"a prior has a table of shape {table.shape}")
        return cls(given, made, table)

    def to_card(self) -> dict[str, Any]:
        """The same for a card, with four digits."""
        return {"given": self.given, "made": self.made, "table": np.round(self.table.astype(float), 4).tolist()}


def _position(values: Values, end: float, size: int) -> tuple[Values, NDArray[np.intp], NDArray[np.intp]]:
    """Where values lie on an axis: share of the way from one node to the next, and both nodes."""
    place = np.clip(np.asarray(values, dtype=np.float32) / np.float32(end), 0, 1) * np.float32(size - 1)
    first = np.minimum(place.astype(np.intp), size - 2)
    return place - first, first, first + 1
