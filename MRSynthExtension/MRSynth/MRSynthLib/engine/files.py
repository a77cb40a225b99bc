"""Volumes in and out of files: NIfTI by nibabel, NRRD, MetaImage and DICOM folders by SimpleITK.

A result on the grid of a file keeps that file's geometry fields as they were. Files are written aside and renamed,
so that no half-written one stays behind.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from .checks import check_geometry, check_size
from .errors import InputError, OutputError
from .volume import Volume

NIFTI = (".nii", ".nii.gz")
ITK = (".nrrd", ".nhdr", ".mha", ".mhd")
WRITTEN = (".nii", ".nii.gz", ".nrrd", ".mha")
DICOM_TAGS = {
    "0018|0081": "EchoTime",
    "0018|0080": "RepetitionTime",
    "0018|0082": "InversionTime",
    "0008|103e": "SeriesDescription",
    "0008|0008": "ImageType",
    "0008|0060": "Modality",
}
NIFTI2_SIZE = (540).to_bytes(4, "little")  # what a NIfTI-2 file begins with, in its own byte order
IMAGE_POSITION = "0020|0032"
UNEQUAL_STEPS = 0.02  # of the usual step between DICOM slices; rounding in headers stays below
GZIP_LEVEL = 1  # nibabel's: higher levels cost seconds and save a few per cent
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


def ending(path: Path) -> str:
    """The file ending in lower case, ".nii.gz" as a whole."""
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


def read_volume(path: str | os.PathLike[str]) -> Volume:
    """Read one 3-D volume.

    Parameters
    ----------
    path : path
        .nii, .nii.gz, .nrrd, .nhdr, .mha, .mhd, or a folder with one DICOM series.

    Returns
    -------
    Volume
        Voxels in the file's own units (NIfTI and DICOM slopes applied).

    Raises
    ------
    InputError
        input-not-found, input-not-an-image, input-corrupt, input-not-3d, input-color, input-too-large,
        input-too-few-slices, input-spacing, input-affine, input-empty.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return _read_dicom(path)
        if not path.exists():
            raise InputError("input-not-found", f"There is no file '{path}'.", "the path of a volume.")
        if ending(path) in NIFTI:
            return _read_nifti(path)
        if ending(path) in ITK:
            return _read_itk(path)
    except OSError as error:  # no permission, a name that is too long, a drive that went away
        raise InputError(
            "input-not-found", f"'{path}' cannot be read ({error.strerror}).", "a readable file."
        ) from error
    raise InputError(
        "input-not-an-image", f"'{path.name}' ends in '{ending(path)}'.", ".nii, .nii.gz, .nrrd, .mha or a folder."
    )


def _corrupt(path: Path, error: Exception) -> InputError:
    text = " ".join(str(error).split()) or type(error).__name__
    reason = text.rpartition("ITK ERROR: ")[2]  # without the path of the library's source file
    if "change spacing" in reason:
        return InputError("input-spacing", f"'{path.name}': {reason[:300]}.", "spacings above 0 mm.")
    return InputError("input-corrupt", f"'{path.name}' could not be read: {reason[:300]}.", "a whole, undamaged file.")


def _read_nifti(path: Path) -> Volume:
    import nibabel

    try:
        _check_nifti_spacing(path)
        image = nibabel.load(path)
        shape = image.shape
        kind = image.get_data_dtype()
    except (InputError, PermissionError):
        raise
    except Exception as error:  # nibabel raises many kinds for a damaged header
        raise _corrupt(path, error) from error
    if kind.names or kind.kind == "c":
        raise InputError("input-color", f"'{path.name}' holds {kind} voxels.", "one number per voxel.")
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    check_size(shape, f"'{path.name}'")
    check_geometry(np.asarray(image.affine, dtype=np.float64), f"'{path.name}'")
    try:
        voxels = np.asarray(image.dataobj).reshape(shape, order="F").T
        voxels = np.ascontiguousarray(voxels, dtype=voxels.dtype.newbyteorder("="))
    except Exception as error:  # gzip, zlib, EOF and value errors of a truncated body
        raise _corrupt(path, error) from error
    name = path.name[: -len(ending(path))]
    return Volume(voxels, image.affine, header=image.header.copy(), name=name)


def _check_nifti_spacing(path: Path) -> None:
    """Nibabel takes a spacing of 0 for 1 mm; where the grid rests on it, that would be a guess."""
    import nibabel
    from nibabel.openers import Opener

    with Opener(path) as file:
        start = file.read(4)
    kind = nibabel.Nifti2Header if NIFTI2_SIZE in (start, start[::-1]) else nibabel.Nifti1Header
    with Opener(path) as file:
        header = kind.from_fileobj(file, check=False)
    spacing = header["pixdim"][1:4]
    if header["sform_code"] == 0 and not (np.isfinite(spacing) & (spacing > 0)).all():
        seen = " x ".join(f"{s:g}" for s in spacing)
        raise InputError("input-spacing", f"'{path.name}' has voxels of {seen} mm.", "spacings above 0 mm.")


def _read_itk(path: Path) -> Volume:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _corrupt(path, error) from error
    components = reader.GetNumberOfComponents()
    if components != 1:
        raise InputError("input-color", f"'{path.name}' has {components} values per voxel.", "one number per voxel.")
    check_size(reader.GetSize(), f"'{path.name}'")
    _check_body(path, reader)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise _corrupt(path, error) from error
    return _from_itk(image, path.stem)


def _check_body(path: Path, reader: sitk.ImageFileReader) -> None:
    """MetaIO fills what is missing at the end of an uncompressed file with zeros: look at the size first."""
    if ending(path) != ".mha":
        return
    with path.open("rb") as file:
        head = file.read(65536).partition(b"ElementDataFile")[0]
    if b"CompressedData = True" in head:
        return
    voxel_bytes = sitk.GetArrayViewFromImage(sitk.Image([1, 1, 1], reader.GetPixelID())).itemsize
    expected = math.prod(reader.GetSize()) * voxel_bytes
    if path.stat().st_size < expected:
        seen = f"the file has {path.stat().st_size:,} bytes where its voxels alone need {expected:,}"
        raise _corrupt(path, ValueError(seen))


def _from_itk(image: sitk.Image, name: str, metadata: dict[str, str] | None = None) -> Volume:
    geometry = ItkGeometry(image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    check_geometry(geometry.ijk_to_ras, f"'{name}'")
    voxels = sitk.GetArrayFromImage(image)
    return Volume(voxels, geometry.ijk_to_ras, header=geometry, name=name, metadata=metadata or {})


def _read_dicom(folder: Path) -> Volume:
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
        raise _corrupt(folder, error) from error
    _check_slice_positions(folder, reader, len(names))
    tags = {keyword: reader.GetMetaData(0, key).strip() for key, keyword in DICOM_TAGS.items()
            if reader.HasMetaDataKey(0, key)}  # fmt: skip
    check_size(image.GetSize(), f"'{folder.name}'")
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError("input-color", f"'{folder.name}' holds colour images.", "one number per voxel.")
    return _from_itk(image, folder.name, tags)


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


def sha256_of(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, or of the names and contents of all files of a folder, as 64 hexadecimal digits."""
    path = Path(path)
    digest = hashlib.sha256()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        if path.is_dir():
            digest.update(str(file.relative_to(path)).encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _write_error(path: Path, error: Exception) -> OutputError:
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or _is_full(path.parent):
        return OutputError("output-full", f"'{path}' could not be written: no space is left.", "a disk with space.")
    return OutputError("output-not-writable", f"'{path}' could not be written: {error}.", "a folder to write to.")


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < 1 << 16
    except OSError:
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
    if not path.parent.is_dir():
        raise OutputError("output-folder-missing", f"There is no folder '{path.parent}'.", "an existing folder.")
    try:
        handle, name = tempfile.mkstemp(prefix=".mrsynth-", suffix=ending(path), dir=path.parent)
    except OSError as error:
        raise _write_error(path, error) from error
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        umask = os.umask(0)
        os.umask(umask)
        aside.chmod(0o666 & ~umask)
        aside.replace(path)
    except OSError as error:
        raise _write_error(path, error) from error
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
            _write_nifti(volume, aside, description)
        else:
            _write_itk(volume, aside, description)
    return path


def _write_nifti(volume: Volume, path: Path, description: str) -> None:
    import nibabel

    is_nifti = isinstance(volume.header, nibabel.Nifti1Header)
    header: Any = volume.header.copy() if is_nifti else nibabel.Nifti1Header()
    header.set_data_dtype(volume.voxels.dtype)
    kind = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    image = kind(volume.voxels.T, None if is_nifti else volume.ijk_to_ras, header)
    if not is_nifti:
        image.set_sform(volume.ijk_to_ras, code=1)
        axes = volume.ijk_to_ras[:3, :3] / np.linalg.norm(volume.ijk_to_ras[:3, :3], axis=0)
        orthogonal = np.allclose(axes.T @ axes, np.eye(3), atol=1e-4)  # a qform cannot hold shears
        image.set_qform(volume.ijk_to_ras if orthogonal else None, code=1 if orthogonal else 0)
        image.header.set_xyzt_units("mm")
    image.header["descrip"] = description.encode("ascii", "replace")[:79]
    image.header["cal_max"] = image.header["cal_min"] = 0
    # Streams of our own: on a full disk nibabel leaves its file open, and an open file cannot be removed everywhere.
    with path.open("wb") as file:
        if ending(path) == ".nii":
            image.to_stream(file)
        else:
            with gzip.GzipFile("", "wb", GZIP_LEVEL, file, mtime=0) as compressed:  # the same bytes in every run
                image.to_stream(compressed)


def _write_itk(volume: Volume, path: Path, description: str) -> None:
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
        raise _write_error(path, error) from error
