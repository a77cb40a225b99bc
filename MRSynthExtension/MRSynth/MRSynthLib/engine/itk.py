"""NRRD and MetaImage, by SimpleITK."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from .checks import check_geometry, check_size, corrupt_file
from .errors import InputError
from .volume import Volume

RAS_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class ItkGeometry:
    """A grid as ITK files store it (LPS), carried so that it is written back as it was read."""

    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]

    @property
    def ijk_to_ras(self) -> NDArray[np.float64]:
        """Affine, shape (4, 4), mm."""
        lps = np.eye(4)
        lps[:3, :3] = np.array(self.direction).reshape(3, 3) * np.array(self.spacing)
        lps[:3, 3] = self.origin
        return RAS_LPS @ lps

    @classmethod
    def of(cls, ijk_to_ras: NDArray[np.float64]) -> ItkGeometry:
        """The same grid, from an affine."""
        lps = RAS_LPS @ ijk_to_ras
        spacing = np.linalg.norm(lps[:3, :3], axis=0)
        direction = lps[:3, :3] / spacing
        return cls(tuple(spacing.tolist()), tuple(lps[:3, 3].tolist()), tuple(direction.ravel().tolist()))


def read(path: Path) -> Volume:
    """Read an NRRD or MetaImage file; see `files.read_volume`."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise corrupt_file(path, error) from error
    components = reader.GetNumberOfComponents()
    if components != 1:
        raise InputError("input-color", f"'{path.name}' has {components} values per voxel.", "one number per voxel.")
    check_size(reader.GetSize(), f"'{path.name}'")
    _check_body(path, reader)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise corrupt_file(path, error) from error
    return _volume(image, path.stem)


def _check_body(path: Path, reader: sitk.ImageFileReader) -> None:
    """MetaIO fills what is missing at the end of an uncompressed file with zeros: look at the size first."""
    if path.suffix.lower() != ".mha":
        return
    with path.open("rb") as file:
        head = file.read(65536).partition(b"ElementDataFile")[0]
    if b"CompressedData = True" in head:
        return
    voxel_bytes = sitk.GetArrayViewFromImage(sitk.Image([1, 1, 1], reader.GetPixelID())).itemsize
    expected = math.prod(reader.GetSize()) * voxel_bytes
    if path.stat().st_size < expected:
        seen = f"the file has {path.stat().st_size:,} bytes where its voxels alone need {expected:,}"
        raise corrupt_file(path, ValueError(seen))


def _volume(image: sitk.Image, name: str) -> Volume:
    geometry = ItkGeometry(image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    check_geometry(geometry.ijk_to_ras, f"'{name}'")
    voxels = sitk.GetArrayFromImage(image)
    return Volume(voxels, geometry.ijk_to_ras, header=geometry, name=name)


def write(volume: Volume, path: Path, description: str) -> None:
    """Write an NRRD or MetaImage file; OSError where that fails."""
    geometry = volume.header if isinstance(volume.header, ItkGeometry) else ItkGeometry.of(volume.ijk_to_ras)
    image = sitk.GetImageFromArray(volume.voxels)
    image.SetSpacing(geometry.spacing)
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction)
    if description:
        image.SetMetaData("description", description)
    try:
        sitk.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:
        raise OSError(str(error)) from error
