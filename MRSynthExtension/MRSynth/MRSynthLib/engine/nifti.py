"""NIfTI in and out, by nibabel, with the file's own geometry fields kept."""

from __future__ import annotations

import gzip
import math
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np

from .checks import check_geometry, check_size, check_swelling, corrupt_file, of_one_volume
from .errors import InputError
from .sidecar_tags import tags_of
from .volume import Volume

NIFTI2_SIZE = (540).to_bytes(4, "little")  # what a NIfTI-2 file begins with, in its own byte order
MAX_EXTENSIONS = 1 << 26  # bytes between header and voxels
GEOMETRY = (
    *("dim_info", "pixdim", "xyzt_units", "toffset", "qform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "sform_code", "srow_x", "srow_y", "srow_z"),
)
GZIP_LEVEL = 1  # nibabel's: higher levels cost seconds and save a few per cent


def read(path: Path) -> Volume:
    """Read a NIfTI-1 or NIfTI-2 file, compressed or not; see `files.read_volume`."""
    import nibabel

    try:
        _check_header(path)
        image = nibabel.load(os.path.abspath(path))  # noqa: PTH100 - nibabel takes a ~ in front for a home folder
        shape = of_one_volume(image.shape)
        kind = image.get_data_dtype()
    except (InputError, PermissionError):
        raise
    except Exception as error:  # nibabel raises many kinds for a damaged header
        raise corrupt_file(path, error) from error
    if kind.names or kind.kind == "c":
        raise InputError("input-color", f"'{path.name}' holds {kind} voxels.", "one number per voxel.")
    check_size(shape, f"'{path.name}'")
    check_geometry(np.asarray(image.affine, dtype=np.float64), f"'{path.name}'")
    _check_body(path, image.dataobj.offset + math.prod(shape) * kind.itemsize)
    try:
        voxels = np.asarray(image.dataobj).reshape(shape, order="F").T
        voxels = np.ascontiguousarray(voxels, dtype=voxels.dtype.newbyteorder("="))
    except Exception as error:  # gzip, zlib, EOF and value errors of a truncated body
        raise corrupt_file(path, error) from error
    name = path.name[: path.name.lower().rindex(".nii")]
    tags = tags_of(path, image.header["descrip"].item().decode("ascii", "replace"))
    return Volume(voxels, image.affine, header=image.header.copy(), name=name, metadata=tags)


def _check_header(path: Path) -> None:
    """Look at what nibabel takes as it comes."""
    import nibabel
    from nibabel.openers import Opener

    with Opener(os.path.abspath(path)) as file:  # noqa: PTH100 - see `read`
        start = file.read(4)
        kind = nibabel.Nifti2Header if NIFTI2_SIZE in (start, start[::-1]) else nibabel.Nifti1Header
        file.seek(0)
        header = kind.from_fileobj(file, check=False)
        _check_spacing(header, path)
        _check_extensions(file, header)


def _check_spacing(header: Any, path: Path) -> None:
    """Nibabel takes a spacing of 0 for 1 mm; where the grid rests on it, that would be a guess."""
    spacing = header["pixdim"][1:4]
    if header["sform_code"] == 0 and not (np.isfinite(spacing) & (spacing > 0)).all():
        seen = " x ".join(f"{s:g}" for s in spacing)
        raise InputError("input-spacing", f"'{path.name}' has voxels of {seen} mm.", "spacings above 0 mm.")


def _check_extensions(file: Any, header: Any) -> None:
    """Nibabel reads as many bytes as an extension claims, and the whole file where it claims fewer than none."""
    left = float(header["vox_offset"]) - header.sizeof_hdr - 4
    if not left <= MAX_EXTENSIONS:
        raise ValueError(f"the voxels are said to begin after {float(header['vox_offset']):,.0f} bytes")
    if file.read(4)[:1] in (b"", b"\0"):
        return
    while left >= 16:
        about = file.read(8)
        size = struct.unpack(f"{header.endianness}ii", about)[0] if len(about) == 8 else 0
        if not 8 <= size <= left:
            raise ValueError(f"an extension of {size:,} bytes, where {left:,.0f} are left before the voxels")
        file.read(size - 8)
        left -= size


def _check_body(path: Path, claimed: int) -> None:
    """Refuse, before memory is taken for them, voxels that cannot be in the file.

    Raises
    ------
    InputError
        input-corrupt, input-too-large.
    """
    stored = path.stat().st_size
    if path.suffix.lower() == ".nii" and stored < claimed:
        raise corrupt_file(path, ValueError(f"it has {stored:,} bytes where its header claims {claimed:,}"))
    check_swelling(stored, claimed, f"'{path.name}'")


def write(volume: Volume, path: Path, description: str) -> None:
    """Write a NIfTI file.

    Where the volume carries a NIfTI header and still lies where that says, its qform, sform and units stay as they
    were. Nothing else of it is handed on: extensions and names may tell who was scanned.
    """
    import nibabel

    given: Any = volume.header if isinstance(volume.header, nibabel.Nifti1Header) else None
    header: Any = nibabel.Nifti1Header() if given is None else type(given)()
    as_given = given is not None and np.allclose(given.get_best_affine(), volume.ijk_to_ras, rtol=1e-6, atol=1e-6)
    if as_given:
        for field in GEOMETRY:
            header[field] = given[field]
    header.set_data_dtype(volume.voxels.dtype)
    kind = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    image = kind(volume.voxels.T, None if as_given else volume.ijk_to_ras, header)
    if not as_given:
        image.set_sform(volume.ijk_to_ras, code=1)
        axes = volume.ijk_to_ras[:3, :3] / np.linalg.norm(volume.ijk_to_ras[:3, :3], axis=0)
        orthogonal = np.allclose(axes.T @ axes, np.eye(3), atol=1e-4)  # a qform cannot hold shears
        image.set_qform(volume.ijk_to_ras if orthogonal else None, code=1 if orthogonal else 0)
        image.header.set_xyzt_units("mm")
    image.header["descrip"] = description.encode("ascii", "replace")[:79]
    image.header["cal_max"] = image.header["cal_min"] = 0
    # Streams of our own: on a full disk nibabel leaves its file open, and an open file cannot be removed everywhere.
    with path.open("wb") as file:
        if path.suffix.lower() == ".nii":
            image.to_stream(file)
        else:
            with gzip.GzipFile("", "wb", GZIP_LEVEL, file, mtime=0) as compressed:  # the same bytes in every run
                image.to_stream(compressed)
