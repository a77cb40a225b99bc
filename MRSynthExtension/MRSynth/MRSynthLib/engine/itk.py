"""NRRD, MetaImage and DICOM folders, by SimpleITK."""

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
DICOM_TAGS = {
    "0018|0081": "EchoTime",
    "0018|0080": "RepetitionTime",
    "0018|0082": "InversionTime",
    "0008|103e": "SeriesDescription",
    "0008|0008": "ImageType",
    "0008|0060": "Modality",
}
IMAGE_POSITION = "0020|0032"
UNEQUAL_STEPS = 0.02  # of the usual step between DICOM slices; rounding in headers stays below


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


def _volume(image: sitk.Image, name: str, metadata: dict[str, str] | None = None) -> Volume:
    geometry = ItkGeometry(image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    check_geometry(geometry.ijk_to_ras, f"'{name}'")
    voxels = sitk.GetArrayFromImage(image)
    return Volume(voxels, geometry.ijk_to_ras, header=geometry, name=name, metadata=metadata or {})


def read_dicom(folder: Path) -> Volume:
    """Read the one DICOM series of a folder, with the tags that tell its contrast; see `files.read_volume`."""
    found = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if len(found) != 1:
        seen = f"'{folder}' holds {len(found)} DICOM series." if found else f"'{folder}' holds no DICOM series."
        raise InputError("input-not-an-image", seen, "a folder with the files of one series.")
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), found[0])
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(names)
    reader.MetaDataDictionaryArrayUpdateOn()
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise corrupt_file(folder, error) from error
    _check_slice_positions(folder, reader, len(names))
    tags = {keyword: reader.GetMetaData(0, key).strip() for key, keyword in DICOM_TAGS.items()
            if reader.HasMetaDataKey(0, key)}  # fmt: skip
    check_size(image.GetSize(), f"'{folder.name}'")
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError("input-color", f"'{folder.name}' holds colour images.", "one number per voxel.")
    return _volume(image, folder.name, tags)


def _check_slice_positions(folder: Path, reader: sitk.ImageSeriesReader, slices: int) -> None:
    """A missing or doubled slice would be stretched over without a word: refuse it, and say where it is."""
    if slices < 2 or not all(reader.HasMetaDataKey(n, IMAGE_POSITION) for n in range(slices)):
        return
    positions = np.array([[float(x) for x in reader.GetMetaData(n, IMAGE_POSITION).split("\\")] for n in range(slices)])
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    usual = float(np.median(steps))
    odd = np.flatnonzero(np.abs(steps - usual) > UNEQUAL_STEPS * usual)
    if odd.size:
        first = int(odd[0])
        seen = (
            f"Slices {first + 1} and {first + 2} of '{folder.name}' are {steps[first]:g} mm apart, most {usual:g} mm."
        )
        raise InputError("input-spacing", seen, "a series without gaps or doubled slices.", "Export the series again.")


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
