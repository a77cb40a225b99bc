"""Broken NRRD and MetaImage files."""

from __future__ import annotations

import os
import random
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from . import samples
from .case import Asked, Case, fixed, of_bytes, of_files
from .mutate import flipped, gzip_member, one_bit, shuffled

FLIPS = 10
FORMATS = {  # name of the kind: ending, compressed
    "nrrd": (".nrrd", False),
    "nrrd-gzip": (".nrrd", True),
    "nhdr": (".nhdr", False),
    "mha": (".mha", False),
    "mha-zlib": (".mha", True),
    "mhd": (".mhd", False),
}
HUGE = "30000 30000 30000"
BIG = "800 800 780"  # half a billion: below the limit of voxels


def cases() -> Iterator[Case]:
    """All of them."""
    for name, (ending, compressed) in FORMATS.items():
        files = samples.itk(ending, compressed)
        yield from _truncated(name, ending, files)
        yield from _flips(name, ending, files)
    yield from _nrrd()
    yield from _meta()


def _header(data: bytes, ending: str) -> bytes:
    """The text in front of the voxels."""
    if ending in (".nhdr", ".mhd"):
        return data
    if ending == ".nrrd":
        return data[: data.index(b"\n\n") + 2]
    return data[: data.index(b"\n", data.index(b"ElementDataFile")) + 1]


def _truncated(name: str, ending: str, files: dict[str, bytes]) -> Iterator[Case]:
    file = f"bad{ending}"
    data = files[file]
    header = _header(data, ending)
    beside = {other: content for other, content in files.items() if other != file}
    starts = [0, *(match.end() for match in re.finditer(b"\n", header))]
    for line, start in enumerate(starts):
        word = re.split(rb"[:= \r\n]", header[start:])[0].decode(errors="replace").strip() or "end"
        for place, at in (("before", start), ("within", start + len(word) + 2)):
            if at < len(data):
                yield of_files(
                    f"{name}/truncated/{place} line {line} {word}",
                    Asked(file),
                    lambda r, d=data[:at]: {file: d, **beside},
                )
    if beside:
        voxels = next(iter(beside))
        yield of_files(f"{name}/truncated/voxels", Asked(file), lambda r: {file: data, voxels: beside[voxels][:-100]})
        yield of_files(f"{name}/truncated/no voxels", Asked(file), lambda r: {file: data})
    else:
        yield of_bytes(f"{name}/truncated/voxels", file, fixed(data[:-100]))


def _flips(name: str, ending: str, files: dict[str, bytes]) -> Iterator[Case]:
    file = f"bad{ending}"
    data = files[file]
    size = len(_header(data, ending))
    beside = {other: content for other, content in files.items() if other != file}
    for n in range(FLIPS):
        yield of_files(f"{name}/flips/bit {n}", Asked(file), lambda r: {file: one_bit(data, r, size), **beside})
        yield of_files(
            f"{name}/flips/bytes {n}",
            Asked(file),
            lambda r: {file: flipped(data, r, 1 << r.randrange(5), size), **beside},
        )
        yield of_files(f"{name}/flips/pieces {n}", Asked(file), lambda r: {file: shuffled(data, r, size), **beside})
        if not beside and n < 4:
            yield of_bytes(f"{name}/flips/anywhere {n}", file, lambda r: flipped(data, r, 16))


def _changed(data: bytes, **lines: str | None) -> bytes:
    """A header with other lines; the key's "_" is a space; None drops a line, a new key goes to the second line."""
    for key, value in lines.items():
        word = key.replace("_", " ").encode()
        line = re.compile(rb"^" + word + rb"( = |: ?).*\n", re.MULTILINE | re.IGNORECASE)
        found = line.search(data)
        if found:
            new = b"" if value is None else word + found[1] + value.encode("utf-8", "surrogateescape") + b"\n"
            data = data[: found.start()] + new + data[found.end() :]
        else:
            assert value is not None, key
            first = data.index(b"\n") + 1
            joint = b" = " if data.startswith(b"ObjectType") else b": "
            data = data[:first] + word + joint + value.encode() + b"\n" + data[first:]
    return data


def _nrrd() -> Iterator[Case]:
    raw = samples.itk(".nrrd")["bad.nrrd"]
    header, voxels = raw[: raw.index(b"\n\n")] + b"\n", raw[raw.index(b"\n\n") + 1 :]
    lies: dict[str, dict[str, str | None]] = {
        "sizes terabytes": {"sizes": HUGE},
        "sizes wrap": {"sizes": "4294967296 4294967296 12"},
        "sizes beyond 64 bits": {"sizes": "99999999999999999999999 30 12"},
        "sizes negative": {"sizes": "-26 30 12"},
        "sizes zero": {"sizes": "0 30 12"},
        "sizes of words": {"sizes": "many 30 12"},
        "sizes of two": {"sizes": "26 30"},
        "sizes half a billion": {"sizes": BIG},
        "half a billion doubles": {"sizes": BIG, "type": "double"},
        "half a billion, gzip": {"sizes": BIG, "encoding": "gzip"},
        "half a billion, hex": {"sizes": BIG, "encoding": "hex"},
        "half a billion, text": {"sizes": BIG, "encoding": "text"},
        "dimension 0": {"dimension": "0"},
        "dimension 16": {"dimension": "16"},
        "dimension a billion": {"dimension": "1000000000"},
        "dimension negative": {"dimension": "-3"},
        "type block": {"type": "block"},
        "type of words": {"type": "elephant"},
        "type double": {"type": "double"},
        "encoding unknown": {"encoding": "lzma"},
        "encoding bzip2": {"encoding": "bzip2"},
        "encoding text": {"encoding": "text"},
        "encoding gzip of raw voxels": {"encoding": "gzip"},
        "endian missing": {"endian": None},
        "endian unknown": {"endian": "middle"},
        "directions none": {"space_directions": "none none none"},
        "directions NaN": {"space_directions": "(nan,0,0) (0,1,0) (0,0,1)"},
        "directions infinite": {"space_directions": "(inf,0,0) (0,1,0) (0,0,1)"},
        "directions zero": {"space_directions": "(0,0,0) (0,1,0) (0,0,1)"},
        "directions in a plane": {"space_directions": "(1,0,0) (1,0,0) (0,0,1)"},
        "directions missing": {"space_directions": None},
        "directions unclosed": {"space_directions": "(1,0,0) (0,1,0) (0,0,1"},
        "origin NaN": {"space_origin": "(nan,nan,nan)"},
        "space unknown": {"space": "left-handed-moon"},
        "space of 4": {"space": "right-anterior-superior-time"},
        "kinds vector": {"kinds": "vector domain domain"},
        "kinds of two": {"kinds": "domain domain"},
        "byte skip negative": {"byte skip": "-1000"},
        "byte skip huge": {"byte skip": "99999999999"},
        "line skip huge": {"line skip": "99999999999"},
        "data in itself": {"data file": "bad.nrrd"},
        "data in /dev/zero": {"data file": "/dev/zero"},
        "half a billion in /dev/zero": {"data file": "/dev/zero", "sizes": BIG},
        "data in a folder": {"data file": "."},
        "data in a pattern": {"data file": "x%d%s%n.raw 1 1000000000 1"},
        "data in a list": {"data file": "LIST"},
        "min and max NaN": {"min": "nan", "max": "nan"},
    }
    for name, lines in lies.items():
        yield of_bytes(f"nrrd/lie/{name}", "bad.nrrd", fixed(_changed(header, **lines) + voxels))
    for name, content in {
        "no empty line": header + b"content: " + b"x" * 1000,
        "a line of 50 MB": header + b"# " + b"x" * (50 << 20) + b"\n" + voxels,
        "a million comments": header + b"# no\n" * 1_000_000 + voxels,
        "a million keys": header + b"".join(b"k%d:=v\n" % n for n in range(1_000_000)) + voxels,
        "terminal codes in a key": header + b"\x1b[2J:=\x07\xff\n" + voxels,
        "magic alone": b"NRRD0005\n",
        "magic of the future": b"NRRD9999\n" + header.partition(b"\n")[2] + voxels,
        "zeros": bytes(4096),
        "line ends of Windows": header.replace(b"\n", b"\r\n") + b"\r\n" + voxels[1:],
    }.items():
        yield of_bytes(f"nrrd/lie/{name}", "bad.nrrd", fixed(content))
    bomb = _changed(header, sizes=BIG, encoding="gzip") + b"\n" + gzip_member(bytes(64 << 20)) * 15
    yield of_bytes("nrrd-gzip/bomb/1 GB", "bad.nrrd", fixed(bomb))
    yield Case("nrrd/lie/data in a pipe", _pipe("nhdr", _changed(header, data_file="pipe")))


def _meta() -> Iterator[Case]:
    raw = samples.itk(".mha")["bad.mha"]
    at = len(_header(raw, ".mha"))
    header, voxels = raw[:at], raw[at:]
    lies: dict[str, dict[str, str | None]] = {
        "sizes terabytes": {"DimSize": HUGE},
        "sizes wrap": {"DimSize": "65536 65536 65536"},
        "sizes negative": {"DimSize": "-26 30 12"},
        "sizes zero": {"DimSize": "0 30 12"},
        "sizes of words": {"DimSize": "many 30 12"},
        "sizes of two": {"DimSize": "26 30"},
        "sizes half a billion": {"DimSize": BIG},
        "sizes missing": {"DimSize": None},
        "NDims 0": {"NDims": "0"},
        "NDims a billion": {"NDims": "1000000000"},
        "NDims 100": {"NDims": "100"},
        "NDims negative": {"NDims": "-3"},
        "NDims missing": {"NDims": None},
        "type none": {"ElementType": "MET_NONE"},
        "type string": {"ElementType": "MET_STRING"},
        "type unknown": {"ElementType": "MET_ELEPHANT"},
        "type double": {"ElementType": "MET_DOUBLE"},
        "type array": {"ElementType": "MET_SHORT_ARRAY"},
        "channels 3": {"ElementNumberOfChannels": "3"},
        "channels a billion": {"ElementNumberOfChannels": "1000000000"},
        "channels negative": {"ElementNumberOfChannels": "-1"},
        "header size -1": {"HeaderSize": "-1"},
        "header size huge": {"HeaderSize": "9999999999"},
        "compressed though raw": {"CompressedData": "True"},
        "compressed size huge": {"CompressedData": "True", "CompressedDataSize": "99999999999999"},
        "compressed size negative": {"CompressedData": "True", "CompressedDataSize": "-5"},
        "binary false": {"BinaryData": "False"},
        "order of bytes": {"BinaryDataByteOrderMSB": "True"},
        "matrix NaN": {"TransformMatrix": "nan nan nan nan nan nan nan nan nan"},
        "matrix zero": {"TransformMatrix": "0 0 0 0 0 0 0 0 0"},
        "matrix short": {"TransformMatrix": "1 0 0"},
        "matrix in a plane": {"TransformMatrix": "1 0 0 1 0 0 0 0 1"},
        "offset NaN": {"Offset": "nan nan nan"},
        "spacing negative": {"ElementSpacing": "-1 1 1"},
        "spacing NaN": {"ElementSpacing": "nan 1 1"},
        "spacing infinite": {"ElementSpacing": "inf 1 1"},
        "spacing tiny": {"ElementSpacing": "1e-300 1 1"},
        "data in itself": {"ElementDataFile": "bad.mha"},
        "data in /dev/zero": {"ElementDataFile": "/dev/zero"},
        "half a billion in /dev/zero": {"ElementDataFile": "/dev/zero", "DimSize": BIG},
        "data in a folder": {"ElementDataFile": "."},
        "data in a pattern": {"ElementDataFile": "x%s%n%n%d.raw 1 1000000000 1"},
        "data in a list": {"ElementDataFile": "LIST"},
        "data in a list without end": {"ElementDataFile": "LIST 99999999"},
        "data in no file": {"ElementDataFile": ""},
        "data in a missing file": {"ElementDataFile": "missing.raw"},
        "object type": {"ObjectType": "Tube"},
    }
    for name, lines in lies.items():
        yield of_bytes(f"mha/lie/{name}", "bad.mha", fixed(_changed(header, **lines) + voxels))
    for name, content in {
        "a line of 50 MB": b"Comment = " + b"x" * (50 << 20) + b"\n" + raw,
        "no data file": header[: header.index(b"ElementDataFile")],
        "a million unknown keys": b"".join(b"K%d = v\n" % n for n in range(1_000_000)) + raw,
        "zeros": bytes(4096),
        "terminal codes": b"\x1b[2J\x07\xff = \xfe\n" + raw,
    }.items():
        yield of_bytes(f"mha/lie/{name}", "bad.mha", fixed(content))
    squeezed = _zlib_of_zeros(800 * 800 * 780 * 2)
    bomb = _changed(header, DimSize=BIG, CompressedData="True", CompressedDataSize=str(len(squeezed)))
    yield of_bytes("mha-zlib/bomb/1 GB", "bad.mha", fixed(bomb + squeezed))
    yield Case("mha/lie/data in a pipe", _pipe("mhd", _changed(header, ElementDataFile="pipe")))


def _zlib_of_zeros(size: int) -> bytes:
    """A zlib stream of so many zeros, put together from equal pieces."""
    squeeze = zlib.compressobj(9)
    piece = 1 << 24
    first = squeeze.compress(bytes(piece)) + squeeze.flush(zlib.Z_FULL_FLUSH)
    again = squeeze.compress(bytes(piece)) + squeeze.flush(zlib.Z_FULL_FLUSH)
    rest = squeeze.compress(bytes(size % piece)) + squeeze.flush()
    checksum = (size % 65521) << 16 | 1  # Adler-32 of zeros
    return first + again * (size // piece - 1) + rest[:-4] + checksum.to_bytes(4, "big")


def _pipe(ending: str, header: bytes) -> object:
    """Voxels in a named pipe that nobody writes to: who opens it waits for ever."""

    def make(folder: Path, rng: random.Random) -> Asked:
        os.mkfifo(folder / "pipe")
        (folder / f"bad.{ending}").write_bytes(header)
        return Asked(f"bad.{ending}")

    return make
