"""A scalar 3-D image with its place in the patient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels on a grid in patient space.

    Parameters
    ----------
    voxels : ndarray, shape (k, j, i)
        Intensities; the last axis runs fastest in the file (numpy order of Slicer and SimpleITK).
    ijk_to_ras : ndarray, shape (4, 4)
        Affine from voxel indices (i, j, k, 1) to RAS millimetres. Kept bit-exact, made read-only.
    header : object, optional
        The header of the file that the volume was read from, carried so that a result on the same grid is
        written with the same geometry fields (qform, sform, units).
    name : str
        What the user calls it.
    metadata : mapping
        Acquisition tags by DICOM keyword ("EchoTime", ...), where known.
    """

    voxels: NDArray[Any]
    ijk_to_ras: NDArray[np.float64]
    header: Any = None
    name: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        affine = np.array(self.ijk_to_ras, dtype=np.float64)
        affine.setflags(write=False)
        object.__setattr__(self, "ijk_to_ras", affine)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along (k, j, i)."""
        k, j, i = self.voxels.shape
        return k, j, i

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between voxel centres along (i, j, k), in mm."""
        i, j, k = np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0)
        return float(i), float(j), float(k)

    def replaced(self, voxels: NDArray[Any]) -> Volume:
        """The same grid with other voxels.

        Raises
        ------
        ValueError
            If `voxels` has another shape.
        """
        if voxels.shape != self.voxels.shape:
            raise ValueError(f"voxels of shape {voxels.shape} do not fit a grid of shape {self.voxels.shape}")
        return replace(self, voxels=voxels)
