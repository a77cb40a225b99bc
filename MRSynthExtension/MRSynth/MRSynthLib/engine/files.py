"""Volumes in and out of files: NIfTI by nibabel, NRRD and MetaImage by SimpleITK, DICOM folders by pydicom.

A result on the grid of a file keeps that file's geometry fields as they were. Files are written aside and renamed,
so that no half-written one stays behind.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import nifti
from .errors import InputError, OutputError
from .volume import Volume

NIFTI = (".nii", ".nii.gz")
ITK = (".nrrd", ".nhdr", ".mha", ".mhd")
WRITTEN = (".nii", ".nii.gz", ".nrrd", ".mha")


def ending(path: Path) -> str:
    """The file ending in lower case, ".nii.gz" as a whole."""
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


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


def sha256_of(path: str | os.PathLike[str], only: Sequence[Path] | None = None) -> str:
    """SHA-256 of a file, or of the names and contents of all files of a folder, as 64 hexadecimal digits.

    Parameters
    ----------
    path : path
    only : sequence of Path, optional
        Those files of the folder that count.
    """
    path = Path(path)
    digest = hashlib.sha256()
    files = sorted(only or (p for p in path.rglob("*") if p.is_file())) if path.is_dir() else [path]
    for file in files:
        if path.is_dir():
            digest.update(os.fsencode(file.relative_to(path)))
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def write_error(path: Path, error: Exception) -> OutputError:
    """The error for a file or folder that could not be written."""
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or _is_full(path.parent):
        return OutputError("output-full", f"'{path}' could not be written: no space is left.", "a disk with space.")
    return OutputError("output-not-writable", f"'{path}' could not be written: {error}.", "a folder to write to.")


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < 1 << 16
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def write_aside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it on success and removed on any failure.

    Raises
    ------
    OutputError
        output-folder-missing, output-not-writable, output-full.
    """
    path = Path(path)
    try:
        if not path.parent.is_dir():
            raise OutputError("output-folder-missing", f"There is no folder '{path.parent}'.", "an existing folder.")
        handle, name = tempfile.mkstemp(prefix=".mrsynth-", suffix=ending(path), dir=path.parent)
    except (OSError, ValueError) as error:  # also a name that no file can have
        raise write_error(path, error) from error
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        umask = os.umask(0)
        os.umask(umask)
        aside.chmod(0o666 & ~umask)
        aside.replace(path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        aside.unlink(missing_ok=True)


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
    if path.exists() and not overwrite:
        raise OutputError("output-exists", f"'{path}' is there already.", "a new file name.")
    with write_aside(path) as aside:
        if ending(path) in NIFTI:
            nifti.write(volume, aside, description)
        else:
            from . import itk

            itk.write(volume, aside, description)
    return path
