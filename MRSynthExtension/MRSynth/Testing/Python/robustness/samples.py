"""The sound volumes that are damaged: one small head in every format that is read, the same bytes in every run."""

from __future__ import annotations

import functools
import gzip
import tempfile
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk
from dicom_series import T1, Dataset, write_enhanced, write_series
from engine_helpers import small_head
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from MRSynthLib.engine.itk import ItkGeometry

SYNTAXES = {
    "explicit": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "big-endian": ExplicitVRBigEndian,
    "rle": RLELossless,
}
DEFLATED = DeflatedExplicitVRLittleEndian
ROOT = "1.2.826.0.1.3680043.8.498."  # pydicom's own, for examples


@functools.cache
def nifti(version: int) -> bytes:
    """An uncompressed NIfTI file of version 1 or 2."""
    head = small_head()
    kind = {1: nibabel.Nifti1Image, 2: nibabel.Nifti2Image}[version]
    image = kind(head.voxels.T, head.ijk_to_ras)
    image.set_qform(head.ijk_to_ras, code=1)
    return bytes(image.to_bytes())


@functools.cache
def nifti_gz(version: int = 1) -> bytes:
    """A compressed one, with a file name in the gzip header."""
    with tempfile.TemporaryFile() as file:
        with gzip.GzipFile("head.nii", "wb", 6, file, mtime=0) as stream:  # type: ignore[arg-type]
            stream.write(nifti(version))
        file.seek(0)
        return file.read()


@functools.cache
def itk(ending: str, compressed: bool = False) -> dict[str, bytes]:
    """An NRRD or MetaImage file, with its data file where the header is detached, by name."""
    head = small_head()
    geometry = ItkGeometry.of(head.ijk_to_ras)
    image = sitk.GetImageFromArray(head.voxels)
    image.SetSpacing(geometry.spacing)
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction)
    with tempfile.TemporaryDirectory() as folder:
        sitk.WriteImage(image, str(Path(folder, f"bad{ending}")), useCompression=compressed)
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


@functools.cache
def dicom(syntax: str = "explicit") -> tuple[bytes, ...]:
    """A classic series, one file per slice, in one of `SYNTAXES`."""
    head = small_head()
    with tempfile.TemporaryDirectory() as folder:
        uids = {"StudyInstanceUID": f"{ROOT}1", "FrameOfReferenceUID": f"{ROOT}3"}
        files = write_series(
            Path(folder),
            head.voxels,
            head.ijk_to_ras,
            syntax=SYNTAXES[syntax],
            change=_numbered,
            **{**T1, **uids, "SeriesInstanceUID": f"{ROOT}2"},
        )
        return tuple(path.read_bytes() for path in files)


@functools.cache
def enhanced() -> bytes:
    """The same as one enhanced file."""
    head = small_head()
    with tempfile.TemporaryDirectory() as folder:
        uids = {"StudyInstanceUID": f"{ROOT}1", "FrameOfReferenceUID": f"{ROOT}3"}
        path = Path(folder, "enhanced.dcm")
        change = _numbered
        write_enhanced(
            path, head.voxels, head.ijk_to_ras, change=change, **{**T1, **uids, "SeriesInstanceUID": f"{ROOT}2"}
        )
        return path.read_bytes()


def _numbered(data: Dataset, k: int) -> None:
    """Not a random UID: the same file in every run."""
    data.SOPInstanceUID = f"{ROOT}4.{k + 1}"


def voxel_count() -> int:
    """Number of voxels of the head."""
    return int(np.prod(small_head().shape))
