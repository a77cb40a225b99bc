"""NRRD and MetaImage, by SimpleITK."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from .checks import check_geometry, check_size, check_swelling, corrupt_file, of_one_volume
from .errors import InputError
from .sidecar_tags import tags_of
from .volume import Volume

MAX_HEADER = 1 << 20  # bytes
NRRD_END = re.compile(rb"\r?\n\r?\n")
META_END = re.compile(rb"^ElementDataFile[ \t]*=.*?(\n|\Z)", re.MULTILINE)
DIMENSIONS = re.compile(rb"^(?:NDims[ \t]*=|dimension[ \t]*:)(.*)$", re.MULTILINE | re.IGNORECASE)
TEXT = re.compile(rb"^encoding[ \t]*:[ \t]*(?:te?xt|ascii)", re.MULTILINE | re.IGNORECASE)
MOST_DIMENSIONS = 10  # MetaIO has room for no more, and does not look
DATA_FILE = re.compile(
    rb"^(?:data ?file[ \t]*:|ElementDataFile[ \t]*=)[ \t]*(.*?)[ \t\r]*$", re.MULTILINE | re.IGNORECASE
)
COMPRESSED = re.compile(
    rb"^(?:encoding[ \t]*:[ \t]*(?!raw)|CompressedData[ \t]*=[ \t]*[t1]|BinaryData[ \t]*=[ \t]*[f0])",
    re.MULTILINE | re.IGNORECASE,
)

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
    if not _is_unicode(path):
        seen = f"'{path}' has a name that is no Unicode text."
        raise InputError("input-not-found", seen, "a name that the reader can open.", "Rename the file or its folder.")
    body, encoded = _body(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise corrupt_file(path, error) from error
    components = reader.GetNumberOfComponents()
    if components != 1:
        raise InputError("input-color", f"'{path.name}' has {components} values per voxel.", "one number per voxel.")
    check_size(of_one_volume(reader.GetSize()), f"'{path.name}'")
    _check_body(path, body, encoded, reader)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise corrupt_file(path, error) from error
    description = image.GetMetaData("description") if image.HasMetaDataKey("description") else ""
    return replace(_volume(image, path.stem), metadata=tags_of(path, description))


def _is_unicode(path: Path) -> bool:
    """ITK ends the whole process over any other name."""
    try:
        os.path.abspath(path).encode()  # noqa: PTH100 - without following links
    except UnicodeEncodeError:
        return False
    return True


def _body(path: Path) -> tuple[Path, bool]:
    """The file that holds the voxels, and whether they are encoded; by the header, before ITK sees it.

    Raises
    ------
    InputError
        input-corrupt, input-not-an-image.
    """
    with path.open("rb") as file:
        start = file.read(MAX_HEADER)
    end = (NRRD_END if start.startswith(b"NRRD") else META_END).search(start)
    if end is None and len(start) == MAX_HEADER:
        raise corrupt_file(path, ValueError(f"its header has no end within {MAX_HEADER:,} bytes"))
    header = start if end is None else start[: end.end()]
    named = DATA_FILE.search(header)
    encoded = COMPRESSED.search(header) is not None
    for number in DIMENSIONS.findall(header):
        if not re.fullmatch(rb"\s*\d{1,2}\s*", number) or not 1 <= int(number) <= MOST_DIMENSIONS:
            raise corrupt_file(path, ValueError(f"it has {os.fsdecode(number).strip()[:40]!r} dimensions"))
    if header.startswith(b"NRRD") and TEXT.search(header):  # its reader ends the process over what is no text
        seen = f"The voxels of '{path.name}' are written as text."
        raise InputError("input-not-an-image", seen, "raw or compressed voxels.", "Save the volume as one .nrrd file.")
    name = "" if named is None else os.fsdecode(named[1])
    if not name or name.upper() == "LOCAL":
        return path, encoded
    if name.upper().startswith("LIST") or "%" in name or re.search(r"\s-?\d+\s+-?\d+", name):
        seen = f"The voxels of '{path.name}' lie in several files."
        raise InputError("input-not-an-image", seen, "one file with the voxels.", "Save the volume as one .nrrd file.")
    body = path.parent / name
    if not body.is_file():
        raise corrupt_file(path, ValueError(f"there is no file '{name}', which should hold its voxels"))
    return body, encoded


def _check_body(path: Path, body: Path, encoded: bool, reader: sitk.ImageFileReader) -> None:
    """Refuse, before memory is taken for them, voxels that cannot be in the file; MetaIO would fill up with zeros.

    Raises
    ------
    InputError
        input-corrupt, input-too-large.
    """
    voxel_bytes = sitk.GetArrayViewFromImage(sitk.Image([1, 1, 1], reader.GetPixelID())).itemsize
    claimed = math.prod(reader.GetSize()) * voxel_bytes
    stored = body.stat().st_size
    if not encoded and stored < claimed:
        seen = f"the file has {stored:,} bytes where its voxels alone need {claimed:,}"
        raise corrupt_file(path, ValueError(seen))
    check_swelling(stored, claimed, f"'{path.name}'")


def _volume(image: sitk.Image, name: str) -> Volume:
    while image.GetDimension() > 3:
        to_3d = sitk.ExtractImageFilter.DIRECTIONCOLLAPSETOSUBMATRIX
        image = sitk.Extract(image, [*image.GetSize()[:-1], 0], directionCollapseToStrategy=to_3d)
    geometry = ItkGeometry(image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    check_geometry(geometry.ijk_to_ras, f"'{name}'")
    voxels = sitk.GetArrayFromImage(image)
    return Volume(voxels, geometry.ijk_to_ras, header=geometry, name=name)


def write(volume: Volume, path: Path, description: str) -> None:
    """Write an NRRD or MetaImage file; OSError where that fails."""
    geometry = volume.header
    if not isinstance(geometry, ItkGeometry) or not np.allclose(geometry.ijk_to_ras, volume.ijk_to_ras, rtol=1e-6):
        geometry = ItkGeometry.of(volume.ijk_to_ras)
    image = sitk.GetImageFromArray(volume.voxels)
    image.SetSpacing(geometry.spacing)
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction)
    if not _is_unicode(path):
        raise OSError("the format cannot be written to a name that is no Unicode text")
    if description:
        image.SetMetaData("description", description)
    try:
        sitk.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:
        raise OSError(str(error)) from error
