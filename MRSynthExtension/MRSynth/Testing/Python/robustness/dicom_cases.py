"""Broken DICOM folders: one file of a series cut off at every element, flipped, or with a header that lies."""

from __future__ import annotations

import functools
import io
import os
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from . import samples
from .case import Asked, Case, of_files
from .mutate import flipped, one_bit, shuffled

FLIPS = 8
SERIES = Asked("series")
HURT = 5  # the slice that is damaged
DEEP = 5000


def cases() -> Iterator[Case]:
    """All of them."""
    yield from _truncated()
    yield from _flips()
    yield from _lies()
    yield from _folders()


def _series(damage: Callable[[bytes], bytes], syntax: str = "explicit") -> dict[str, bytes]:
    """The files of the series, one of them damaged."""
    files = list(samples.dicom(syntax))
    files[HURT] = damage(files[HURT])
    return {f"series/IM{k:03d}": data for k, data in enumerate(files)}


def _elements(data: bytes) -> Iterator[tuple[str, int]]:
    """Name and offset of each element at the top of an explicit file, and where the pixels begin."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    for element in [*dataset.file_meta, *dataset]:
        raw = element.file_tell if hasattr(element, "file_tell") else None
        if raw:
            yield element.keyword or str(element.tag), int(raw)


def _truncated() -> Iterator[Case]:
    for kind, data, wrap in (
        ("dicom", samples.dicom()[HURT], lambda d: _series(lambda _: d)),
        ("dicom-enhanced", samples.enhanced(), lambda d: {"series/enhanced.dcm": d}),
    ):
        for at in (0, 64, 128, 130, 132):
            yield of_files(f"{kind}/truncated/{at} bytes", SERIES, lambda r, d=data[:at], w=wrap: w(d))
        for keyword, offset in _elements(data):
            yield of_files(f"{kind}/truncated/value of {keyword}", SERIES, lambda r, d=data[:offset], w=wrap: w(d))
            cut = data[: max(offset - 5, 132)]
            yield of_files(f"{kind}/truncated/tag of {keyword}", SERIES, lambda r, d=cut, w=wrap: w(d))
        yield of_files(f"{kind}/truncated/last byte", SERIES, lambda r, d=data[:-1], w=wrap: w(d))


def _flips() -> Iterator[Case]:
    damages: dict[str, Callable[[random.Random, bytes], bytes]] = {
        "bit": lambda r, d: one_bit(d, r, _header_size(d)),
        "bytes": lambda r, d: flipped(d, r, 1 << r.randrange(5), _header_size(d)),
        "pieces": lambda r, d: shuffled(d, r, _header_size(d)),
        "anywhere": lambda r, d: flipped(d, r, 8),
    }
    for syntax in samples.SYNTAXES:
        for name, damage in damages.items():
            for n in range(FLIPS):
                yield of_files(
                    f"dicom-{syntax}/flips/{name} {n}",
                    SERIES,
                    lambda r, s=syntax, f=damage: _series(functools.partial(f, r), s),
                )
    for name, damage in damages.items():
        for n in range(FLIPS):
            yield of_files(
                f"dicom-enhanced/flips/{name} {n}",
                SERIES,
                lambda r, f=damage: {"series/enhanced.dcm": f(r, samples.enhanced())},
            )


def _header_size(data: bytes) -> int:
    """Where the pixels begin, nearly."""
    return max(data.rfind(b"\xe0\x7f\x10\x00"), 200)


def _with(change: Callable[[Dataset], Any]) -> Callable[[bytes], bytes]:
    """Damage that changes elements of the header."""

    def damage(data: bytes) -> bytes:
        dataset = pydicom.dcmread(io.BytesIO(data))
        with pydicom.config.disable_value_validation():
            change(dataset)
            out = io.BytesIO()
            dataset.save_as(out)
        return out.getvalue()

    return damage


def _set(**values: Any) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        for keyword, value in values.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)

    return change


def _lies() -> Iterator[Case]:
    lies: dict[str, dict[str, Any]] = {
        "rows and columns at most": {"Rows": 65535, "Columns": 65535},
        "rows 0": {"Rows": 0},
        "rows missing": {"Rows": None},
        "frames a billion": {"NumberOfFrames": 2_000_000_000},
        "frames negative": {"NumberOfFrames": -3},
        "bits allocated 0": {"BitsAllocated": 0},
        "bits allocated 64": {"BitsAllocated": 64},
        "bits allocated 1": {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0},
        "bits stored 0": {"BitsStored": 0},
        "bits stored 99": {"BitsStored": 99},
        "high bit 99": {"HighBit": 99},
        "samples 3": {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0},
        "samples 65535": {"SamplesPerPixel": 65535},
        "photometric unknown": {"PhotometricInterpretation": "ELEPHANT"},
        "photometric palette": {"PhotometricInterpretation": "PALETTE COLOR"},
        "representation 7": {"PixelRepresentation": 7},
        "spacing negative": {"PixelSpacing": ["-1", "-1"]},
        "spacing zero": {"PixelSpacing": ["0", "0"]},
        "spacing huge": {"PixelSpacing": ["1e300", "1e300"]},
        "spacing one value": {"PixelSpacing": "1"},
        "spacing missing": {"PixelSpacing": None},
        "position huge": {"ImagePositionPatient": ["1e300", "1e300", "1e300"]},
        "position missing": {"ImagePositionPatient": None},
        "position two values": {"ImagePositionPatient": ["1", "2"]},
        "orientation zero": {"ImageOrientationPatient": ["0"] * 6},
        "orientation parallel": {"ImageOrientationPatient": ["1", "0", "0", "1", "0", "0"]},
        "orientation missing": {"ImageOrientationPatient": None},
        "slope huge": {"RescaleSlope": "1e308", "RescaleIntercept": "1e308"},
        "slope zero": {"RescaleSlope": "0", "RescaleIntercept": "0"},
        "no pixels": {"PixelData": None},
        "few pixels": {"PixelData": b"\0\0"},
        "UID of words": {"SeriesInstanceUID": "not a uid at all"},
        "UID missing": {"SeriesInstanceUID": None},
        "class unknown": {"SOPClassUID": "1.2.3.4"},
        "class missing": {"SOPClassUID": None},
        "description of terminal codes": {"SeriesDescription": "\x1b[2J\x07t1"},
        "character set unknown": {"SpecificCharacterSet": "KLINGON", "PatientName": "Ä^Ö"},
        "number not a number": {"SeriesNumber": "99999999999999999999"},
        "instance number huge": {"InstanceNumber": "2147483647"},
    }
    for name, values in lies.items():
        damage = _with(_set(**values))
        yield of_files(f"dicom/lie/one slice: {name}", SERIES, lambda r, d=damage: _series(d))
        yield of_files(
            f"dicom/lie/every slice: {name}",
            SERIES,
            lambda r, d=damage: {f"series/IM{k:03d}": d(data) for k, data in enumerate(samples.dicom())},
        )
    for name, damage in {
        "length of an element beyond the end": lambda d: _length(d, b"\x08\x00\x3e\x10", 0xFFF0),
        "pixel length of 4 GB": lambda d: _long_length(d, 0xFFFFFFFE),
        "pixel length undefined": lambda d: _long_length(d, 0xFFFFFFFF),
        "pixel length 0": lambda d: _long_length(d, 0),
        "sequences in sequences": _nested,
        "items without end": lambda d: (
            d[: _header_size(d)]
            + b"\x40\x00\x75\x02SQ\0\0\xff\xff\xff\xff"
            + b"\xfe\xff\x00\xe0\xff\xff\xff\xff" * 5000
        ),
        "syntax unknown": lambda d: d.replace(ExplicitVRLittleEndian.encode(), b"1.2.840.10008.1.2.9", 1),
        "syntax of JPEG": lambda d: d.replace(ExplicitVRLittleEndian.encode(), b"1.2.840.10008.1.2.4", 1),
        "meta length wrong": lambda d: d[:140] + struct.pack("<I", 0xFFFFFF) + d[144:],
        "all ones": lambda d: d[:132] + b"\xff" * (len(d) - 132),
        "all zeros": lambda d: d[:132] + bytes(len(d) - 132),
    }.items():
        yield of_files(f"dicom/lie/{name}", SERIES, lambda r, f=damage: _series(f))
    enhanced: dict[str, dict[str, Any]] = {
        "frames a billion": {"NumberOfFrames": 2_000_000_000},
        "frames 1": {"NumberOfFrames": 1},
        "rows and columns at most": {"Rows": 65535, "Columns": 65535},
        "no groups": {"PerFrameFunctionalGroupsSequence": None},
        "empty groups": {"PerFrameFunctionalGroupsSequence": Sequence([Dataset()] * 12)},
        "no shared groups": {"SharedFunctionalGroupsSequence": None},
        "shared groups empty": {"SharedFunctionalGroupsSequence": Sequence([])},
        "frames 100000, all described": {
            "NumberOfFrames": 100_000,
            "PerFrameFunctionalGroupsSequence": Sequence([Dataset()] * 100_000),
        },
    }
    for name, values in enhanced.items():
        damage = _with(_set(**values))
        yield of_files(
            f"dicom-enhanced/lie/{name}", SERIES, lambda r, d=damage: {"series/enhanced.dcm": d(samples.enhanced())}
        )
    yield of_files("dicom/bomb/deflated, 4 GB", SERIES, lambda r: _series(_deflated_bomb))


def _length(data: bytes, tag: bytes, length: int) -> bytes:
    at = data.index(tag) + 6
    return data[:at] + struct.pack("<H", length) + data[at + 2 :]


def _long_length(data: bytes, length: int) -> bytes:
    at = data.rindex(b"\xe0\x7f\x10\x00") + 8
    return data[:at] + struct.pack("<I", length) + data[at + 4 :]


def _nested(data: bytes) -> bytes:
    """An element of sequences in sequences, in front of the pixels."""
    at = data.rindex(b"\xe0\x7f\x10\x00")
    level = b"\x40\x00\x75\x02SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    close = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    return data[:at] + level * DEEP + close * DEEP + data[at:]


def _deflated_bomb(data: bytes) -> bytes:
    dataset = pydicom.dcmread(io.BytesIO(data))
    dataset.file_meta.TransferSyntaxUID = samples.DEFLATED
    meta = io.BytesIO()
    pydicom.filewriter.write_file_meta_info(meta, dataset.file_meta)
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    piece = bytes(1 << 24)
    first = squeeze.compress(piece) + squeeze.flush(zlib.Z_FULL_FLUSH)
    again = squeeze.compress(piece) + squeeze.flush(zlib.Z_FULL_FLUSH)
    return bytes(128) + b"DICM" + meta.getvalue() + first + again * 255 + squeeze.flush()


def _folders() -> Iterator[Case]:
    whole = {f"series/IM{k:03d}": data for k, data in enumerate(samples.dicom())}
    for name, change in {
        "one slice missing": lambda files: {n: d for n, d in files.items() if n != "series/IM005"},
        "one slice twice": lambda files: {**files, "series/again": files["series/IM005"]},
        "every slice twice": lambda files: {**files, **{f"{n}-again": d for n, d in files.items()}},
        "one slice alone": lambda files: {"series/IM005": files["series/IM005"]},
        "one empty file": lambda files: {**files, "series/IM005": b""},
        "all empty files": lambda files: dict.fromkeys(files, b""),
        "a text beside": lambda files: {**files, "series/readme.txt": b"hello" * 100},
        "2000 texts beside": lambda files: {**files, **{f"series/{n}.txt": b"hello" * 100 for n in range(2000)}},
        "compressed beside plain": lambda files: {**files, "series/IM005": samples.dicom("rle")[5]},
        "two patients": lambda files: {**files, "series/other": _with(_set(PatientID="OTHER"))(files["series/IM005"])},
        "a folder 200 deep": lambda files: {f"series/{'d/' * 200}{n[7:]}": d for n, d in files.items()},
    }.items():
        yield of_files(f"dicom/folder/{name}", SERIES, lambda r, c=change: c(whole))
    yield Case("dicom/folder/a pipe beside", _folder_with(lambda folder: os.mkfifo(folder / "pipe")))
    yield Case("dicom/folder/a link to itself", _folder_with(lambda folder: (folder / "loop").symlink_to("loop")))
    yield Case("dicom/folder/a link to its parent", _folder_with(lambda folder: (folder / "up").symlink_to("..")))
    yield Case("dicom/folder/a link to nowhere", _folder_with(lambda folder: (folder / "no").symlink_to("missing")))
    yield Case("dicom/folder/slices are a link loop", _folder_with(_loops))


def _loops(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("a")


def _folder_with(change: Callable[[Path], Any]) -> Callable[[Path, random.Random], Asked]:
    def make(folder: Path, rng: random.Random) -> Asked:
        series = folder / "series"
        series.mkdir()
        for k, data in enumerate(samples.dicom()):
            (series / f"IM{k:03d}").write_bytes(data)
        change(series)
        return SERIES

    return make
