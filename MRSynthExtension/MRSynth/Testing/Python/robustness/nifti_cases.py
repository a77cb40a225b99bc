"""Broken NIfTI files: cut off at every field, flipped, with headers that lie, and bombs."""

from __future__ import annotations

import gzip
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from . import samples
from .case import Asked, Case, fixed, of_bytes
from .mutate import bomb, flipped, gzip_member, one_bit, shuffled

HEADERS = {1: nibabel.Nifti1Header, 2: nibabel.Nifti2Header}
FLIPS = 12  # per kind of flip and format
GZIP_FIELDS = {"magic": 0, "method": 2, "flags": 3, "mtime": 4, "xfl": 8, "os": 9, "name": 10, "deflate": 20}


def cases() -> Iterator[Case]:
    """All of them."""
    for version in HEADERS:
        yield from _truncated(version)
        yield from _lies(version)
    yield from _gzip()
    yield from _flips()
    yield from _bombs()


def _offsets(version: int) -> dict[str, int]:
    """Where each field of a header begins, and where header and extension flag end."""
    fields = HEADERS[version].template_dtype.fields
    size = HEADERS[version].template_dtype.itemsize
    return {**{str(name): int(about[1]) for name, about in fields.items()}, "extension": size, "voxels": size + 4}


def _truncated(version: int) -> Iterator[Case]:
    data = samples.nifti(version)
    for field, offset in _offsets(version).items():
        yield of_bytes(f"nifti{version}/truncated/{field}", "bad.nii", fixed(data[:offset]))
        yield of_bytes(f"nifti{version}-gz/truncated/{field}", "bad.nii.gz", fixed(gzip_member(data[:offset])))
    for share in (0.3, 0.7, 0.999):
        yield of_bytes(f"nifti{version}/truncated/{share:g} of all", "bad.nii", fixed(data[: int(share * len(data))]))


def with_fields(version: int, **values: Any) -> bytes:
    """The NIfTI file with other values in its header."""
    data = samples.nifti(version)
    size = HEADERS[version].template_dtype.itemsize
    header = np.frombuffer(data[:size], HEADERS[version].template_dtype).copy()
    with np.errstate(all="ignore"):
        for name, value in values.items():
            header[name] = value
    return header.tobytes() + data[size:]


def _lies(version: int) -> Iterator[Case]:
    top = 32767 if version == 1 else 2**62
    claims: dict[str, dict[str, Any]] = {
        "dim terabytes": {"dim": (3, *[min(top, 10**6)] * 3, 1, 1, 1, 1)},
        "dim all at most": {"dim": (7, *[top] * 7)},
        "dim product wraps to small": {"dim": (3, *[min(top, 2**22)] * 3, 1, 1, 1, 1)},
        "dim 500 million voxels": {"dim": (3, 800, 800, 780, 1, 1, 1, 1)},
        "dim negative": {"dim": (3, -26, 30, 12, 1, 1, 1, 1)},
        "dim two negative": {"dim": (3, -26, -30, 12, 1, 1, 1, 1)},
        "dim zero": {"dim": (3, 26, 0, 12, 1, 1, 1, 1)},
        "dim count 0": {"dim": (0, 26, 30, 12, 1, 1, 1, 1)},
        "dim count 8": {"dim": (8, 26, 30, 12, 1, 1, 1, 1)},
        "dim count negative": {"dim": (-3, 26, 30, 12, 1, 1, 1, 1)},
        "dim 5-D": {"dim": (5, 26, 30, 12, 1, 3, 1, 1)},
        "dim vector": {"dim": (5, 26, 30, 4, 1, 3, 1, 1), "intent_code": 1007},
        "datatype 0": {"datatype": 0},
        "datatype unknown": {"datatype": 9999},
        "datatype bit": {"datatype": 1, "bitpix": 1},
        "datatype float128": {"datatype": 1536, "bitpix": 128},
        "datatype complex": {"datatype": 32, "bitpix": 64},
        "datatype rgb": {"datatype": 128, "bitpix": 24},
        "datatype float64": {"datatype": 64, "bitpix": 64},
        "bitpix another": {"bitpix": 8},
        "vox_offset huge": {"vox_offset": 2.0**40},
        "vox_offset in header": {"vox_offset": 16},
        "vox_offset negative": {"vox_offset": -1000},
        "slope huge": {"scl_slope": 3e38 if version == 1 else 1e308, "scl_inter": 1},
        "slope tiny": {"scl_slope": 1e-45 if version == 1 else 5e-324, "scl_inter": 0},
        "slope infinite": {"scl_slope": np.inf, "scl_inter": 0},
        "intercept infinite": {"scl_slope": 1, "scl_inter": np.inf},
        "intercept NaN": {"scl_slope": 2, "scl_inter": np.nan},
        "pixdim NaN": {"pixdim": (1, np.nan, 1, 1, 1, 1, 1, 1), "sform_code": 0},
        "pixdim huge": {"pixdim": (1, 1e30, 1e30, 1e30, 1, 1, 1, 1), "sform_code": 0},
        "pixdim negative": {"pixdim": (1, -1, -1, -1, 1, 1, 1, 1), "sform_code": 0},
        "qfac 7": {"pixdim": (7, 1, 1, 1, 1, 1, 1, 1), "sform_code": 0},
        "no codes at all": {"sform_code": 0, "qform_code": 0},
        "sform code unknown": {"sform_code": 99},
        "quaternion no rotation": {"quatern_b": 5, "quatern_c": 5, "quatern_d": 5, "sform_code": 0},
        "quaternion NaN": {"quatern_b": np.nan, "sform_code": 0},
        "offset huge": {"srow_x": (1, 0, 0, 3e38)},
        "srow zero": {"srow_x": 0, "srow_y": 0, "srow_z": 0},
        "srow infinite": {"srow_x": np.inf},
        "srow absurd": {"srow_x": (1e-9, 0, 0, 0)},
        "magic another": {"magic": b"XXXX"},
        "magic of a pair": {"magic": b"ni1" if version == 1 else b"ni2"},
        "sizeof_hdr swapped": {"sizeof_hdr": struct.unpack(">i", struct.pack("<i", 348))[0]},
        "sizeof_hdr 0": {"sizeof_hdr": 0},
        "descrip of terminal codes": {"descrip": b"\x1b[2J\x07\xff\xfe" * 10},
    }
    for name, values in claims.items():
        yield of_bytes(f"nifti{version}/lie/{name}", "bad.nii", fixed(with_fields(version, **values)))
    size = HEADERS[version].template_dtype.itemsize
    data = samples.nifti(version)
    for name, extension in {
        "of gigabytes": struct.pack("<ii", 2**31 - 16, 6),
        "of size 0": struct.pack("<ii", 0, 6),
        "of negative size": struct.pack("<ii", -32, 6),
        "of another size": struct.pack("<ii", 13, 4) + b"x" * 8,
    }.items():
        content = data[:size] + b"\1\0\0\0" + extension + data[size + 4 :]
        yield of_bytes(f"nifti{version}/lie/extension {name}", "bad.nii", fixed(content))


def _gzip() -> Iterator[Case]:
    data = samples.nifti_gz()
    for field, offset in GZIP_FIELDS.items():
        yield of_bytes(f"gz/truncated/{field}", "bad.nii.gz", fixed(data[:offset]))
    for name, content in {
        "half": data[: len(data) // 2],
        "without trailer": data[:-8],
        "trailer of 4": data[:-4],
        "wrong checksum": data[:-8] + b"\0\0\0\0" + data[-4:],
        "wrong length": data[:-4] + b"\xff\xff\xff\x7f",
        "twice": data + data,
        "with garbage behind": data + b"garbage" * 100,
        "with zeros behind": data + bytes(1000),
        "of gzip": gzip_member(data),
        "of text": gzip_member(b"hello"),
        "of nothing": gzip_member(b""),
        "not at all": samples.nifti(1),
        "endless name": b"\x1f\x8b\x08\x08" + bytes(6) + b"x" * 100_000,
        "extra field cut off": b"\x1f\x8b\x08\x04" + bytes(6) + b"\xff\xff" + b"x" * 10,
        "reserved flags": data[:3] + b"\xff" + data[4:],
        "method 9": data[:2] + b"\x09" + data[3:],
    }.items():
        yield of_bytes(f"gz/stream/{name}", "bad.nii.gz", fixed(content))
    yield of_bytes("gz/stream/under the name .nii", "bad.nii", fixed(data))


def _flips() -> Iterator[Case]:
    for version in HEADERS:
        plain, size = samples.nifti(version), _offsets(version)["voxels"]
        for n in range(FLIPS):
            yield of_bytes(f"nifti{version}/flips/bit {n}", "bad.nii", lambda r, d=plain, s=size: one_bit(d, r, s))
            yield of_bytes(
                f"nifti{version}/flips/bytes {n}",
                "bad.nii",
                lambda r, d=plain, s=size: flipped(d, r, 1 << r.randrange(6), s),
            )
            yield of_bytes(f"nifti{version}/flips/pieces {n}", "bad.nii", lambda r, d=plain, s=size: shuffled(d, r, s))
            yield of_bytes(
                f"nifti{version}-gz/flips/inside {n}",
                "bad.nii.gz",
                lambda r, d=plain, s=size: gzip_member(flipped(d, r, 1 << r.randrange(6), s)),
            )
    packed = samples.nifti_gz()
    for n in range(FLIPS):
        yield of_bytes(f"gz/flips/{n}", "bad.nii.gz", lambda r: flipped(packed, r, 1 << r.randrange(4)))


def _bombs() -> Iterator[Case]:
    huge = with_fields(1, dim=(3, 800, 800, 780, 1, 1, 1, 1))[:352]
    double = with_fields(1, dim=(3, 800, 800, 780, 1, 1, 1, 1), datatype=64, bitpix=64)[:352]
    wide = with_fields(2, dim=(3, 10**6, 10**6, 10**6, 1, 1, 1, 1))[:544]
    far = with_fields(1, vox_offset=float(2**34))[:352]
    extended = samples.nifti(1)[:348] + b"\1\0\0\0" + struct.pack("<ii", 2**31 - 16, 6)
    for name, start, size in (
        ("1 GB that the header claims", huge, 800 * 800 * 780 * 2),
        ("4 GB that the header claims", double, 800 * 800 * 780 * 8),
        ("10 GB behind a sound volume", samples.nifti(1), 10 << 30),
        ("10 GB of zeros", b"", 10 << 30),
        ("4 GB for a header that claims exabytes", wide, 4 << 30),
        ("4 GB before the voxels", far, 4 << 30),
        ("2 GB in an extension", extended, 2 << 30),
        ("1 GB of which the last voxel is missing", huge, 800 * 800 * 780 * 2 - 2),
    ):
        yield Case(f"gz/bomb/{name}", _bomb(start, size))
    nested = gzip.compress(gzip.compress(gzip.compress(bytes(64 << 20), mtime=0), mtime=0), mtime=0)
    yield of_bytes("gz/bomb/in a bomb", "bad.nii.gz", fixed(nested))


def _bomb(start: bytes, size: int) -> Any:
    def make(folder: Path, rng: random.Random) -> Asked:
        with (folder / "bad.nii.gz").open("wb") as file:
            for piece in bomb(size, start):
                file.write(piece)
        return Asked("bad.nii.gz")

    return make
