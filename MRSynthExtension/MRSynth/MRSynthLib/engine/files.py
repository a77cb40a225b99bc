"""Volumes in and out of files: NIfTI by nibabel, NRRD and MetaImage by SimpleITK, DICOM folders by pydicom.

A result on the grid of a file keeps that file's geometry fields as they were.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import nifti
from .errors import InputError, OutputError
from .volume import Volume
from .writing import ending, write_aside, write_error

NIFTI = (".nii", ".nii.gz")
ITK = (".nrrd", ".nhdr", ".mha", ".mhd")
WRITTEN = (".nii", ".nii.gz", ".nrrd", ".mha")


def read_volume(path: str | os.PathLike[str]) -> Volume:
    """Read one 3-D volume.

    Parameters
    ----------
    path : path
        .nii, .nii.gz, .nrrd, .nhdr, .mha, .mhd, or a folder with DICOM images: its one series, or the one that
        `dicom.pick` picks.

    Returns
    -------
    Volume
        Voxels in the file's own units (NIfTI and DICOM slopes applied).

    Raises
    ------
    InputError
        input-not-found, input-not-an-image, input-corrupt, input-not-3d, input-color, input-too-large,
        input-too-few-slices, input-spacing, input-affine, input-empty; of DICOM also dicom-slices, dicom-mosaic,
        dicom-compressed, dicom-several, dicom-unsuitable.
    """
    path = Path(path)
    try:
        if path.is_dir():
            from . import dicom

            return dicom.read_folder(path)
        if not path.exists():
            raise InputError("input-not-found", f"There is no file '{path}'.", "the path of a volume.")
        if not path.is_file():  # whoever opens a pipe waits, and a device may have no end
            raise InputError("input-not-an-image", f"'{path}' is a pipe or a device.", "a file or a folder.")
        if ending(path) in NIFTI:
            return nifti.read(path)
        if ending(path) in ITK:
            from . import itk  # SimpleITK takes a quarter of a second to load, and many runs do without

            return itk.read(path)
    except OSError as error:  # no permission, a name that is too long, a drive that went away
        raise InputError(
            "input-not-found", f"'{path}' cannot be read ({error.strerror}).", "a readable file."
        ) from error
    raise InputError(
        "input-not-an-image", f"'{path.name}' ends in '{ending(path)}'.", ".nii, .nii.gz, .nrrd, .mha or a folder."
    )


def write_volume(
    volume: Volume, path: str | os.PathLike[str], *, description: str = "", overwrite: bool = False
) -> Path:
    """Write a volume by the ending of `path`.

    Parameters
    ----------
    volume : Volume
        Where it carries the header of a file of the same format, that header's geometry is kept as it is.
    path : path
        .nii, .nii.gz, .nrrd or .mha.
    description : str
        For the format's description field (NIfTI holds 79 bytes).
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    OutputError
        output-format, output-exists, output-folder-missing, output-not-writable, output-full.
    """
    path = Path(path)
    if ending(path) not in WRITTEN:
        raise OutputError("output-format", f"'{path.name}' ends in '{ending(path)}'.", ".nii, .nii.gz, .nrrd or .mha.")
    if _is_there(path) and not overwrite:
        raise OutputError("output-exists", f"'{path}' is there already.", "a new file name.")
    volume = volume.replaced(_storable(volume.voxels))
    with write_aside(path) as aside:
        if ending(path) in NIFTI:
            nifti.write(volume, aside, description)
        else:
            from . import itk

            itk.write(volume, aside, description)
    return path


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:  # a name that no file can have
        raise write_error(path, error) from error
    return True


def _storable(voxels: NDArray[Any]) -> NDArray[Any]:
    """The same numbers in a type that every format has, in the machine's byte order."""
    kind = voxels.dtype
    if kind.kind == "b":
        return voxels.astype(np.uint8)
    if kind.kind == "f" and kind.itemsize not in (4, 8):
        return voxels.astype(np.float32 if kind.itemsize < 4 else np.float64)
    return np.asarray(voxels, dtype=kind.newbyteorder("="))
