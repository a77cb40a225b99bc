"""DICOM files: found among whatever lies in a folder, read part by part, and written, with pydicom 2.4 or 3.

A file is known by its content, never by its name. What is no DICOM image (reports, DICOMDIR, text) is passed over;
what is a DICOM image and cannot be read is damaged, and is told so.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import stat
import warnings
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from .errors import InstallError

MAGIC_AT = 128  # bytes of preamble before "DICM"
FIRST_GROUPS = (b"\x02\x00", b"\x08\x00")  # how a file without preamble begins
INFLATED = 1 << 29  # bytes; a deflated file can claim any size
NOT_IMAGES = ("Directory", "Presentation State", "Segmentation", "Parametric Map", "Spectroscopy", "Raw Data")


class DamagedError(ValueError):
    """A DICOM file that cannot be read."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without pydicom's warnings: real headers break rules by the hundred, and what matters is tested here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def optional(module: str, package: str, purpose: str) -> Any:
    """Import what only some need.

    Raises
    ------
    InstallError
        dicom-package.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        seen = f"The Python package {package} is not installed."
        raise InstallError("dicom-package", seen, f"it, {purpose}.") from error


def files_below(folder: Path) -> list[Path]:
    """All regular files of a folder and its subfolders, sorted; links to folders are not followed.

    Raises
    ------
    OSError
        Where the folder, or one below it, cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise error

    found = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            with contextlib.suppress(OSError):  # a link to nowhere
                if stat.S_ISREG(path.stat().st_mode):
                    found.append(path)
    return found


def has_preamble(path: Path) -> bool | None:
    """Whether a DICOM file has the preamble that it should have; None for what is no DICOM file.

    Raises
    ------
    OSError
        If it cannot be opened.
    """
    with path.open("rb") as file:
        head = file.read(MAGIC_AT + 4)
    if head[MAGIC_AT:] == b"DICM":
        return True
    # Else the first element's tag must be there: its group, and an element number below 256.
    return False if len(head) > 8 and head[:2] in FIRST_GROUPS and head[3] == 0 else None


def read(path: Path, tags: Iterable[str | int] | None = None, *, pixels: bool = False) -> Dataset:
    """Read a DICOM file.

    Parameters
    ----------
    path : Path
        A file that looks like DICOM.
    tags : iterable of str or int, optional
        Keywords or numbers to read; by default all.
    pixels : bool
        Also read the pixel data.

    Raises
    ------
    DamagedError
        Whatever pydicom stumbles over.
    OSError
        If the file cannot be opened.
    """
    chosen = None if tags is None else list(tags)
    try:
        _check_inflated(path)
        dataset = pydicom.dcmread(path, force=True, stop_before_pixels=not pixels, specific_tags=chosen)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # pydicom raises nearly anything on damaged files
        raise DamagedError(f"{type(error).__name__}: {error}") from error
    if pixels and "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian  # what files without preamble are
    return dataset


def _check_inflated(path: Path) -> None:
    """Refuse a deflated file that swells beyond measure before pydicom inflates it in one piece."""
    with path.open("rb") as file:
        file.seek(MAGIC_AT)
        if file.read(4) != b"DICM":
            return
        meta = read_file_meta_info(path)
        if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            return
        file.seek(MAGIC_AT + 4 + 12 + int(meta.get("FileMetaInformationGroupLength", 0)))
        inflate, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while block := inflate.unconsumed_tail or file.read(1 << 16):
            size += len(inflate.decompress(block, 1 << 20))
            if size > INFLATED:
                raise DamagedError(f"it inflates to more than {INFLATED:,} bytes")


def is_image(dataset: Dataset) -> bool:
    """Whether a header is that of an image with pixel data, going by its class; by its size if the class is private.

    Raises
    ------
    DamagedError
        The header ends before it tells.
    """
    kind = dataset.get("SOPClassUID") or getattr(dataset, "file_meta", Dataset()).get("MediaStorageSOPClassUID")
    if not kind:
        if "Rows" in dataset:
            return True
        raise DamagedError("the header ends too early")
    name = UID(str(kind)).name
    if name == str(kind):  # not of the standard
        return "Rows" in dataset
    return "Image Storage" in name and not any(other in name for other in NOT_IMAGES)


def number(dataset: Dataset, keyword: str) -> float | None:
    """The (first) number of an element; None where it is absent, empty or no number."""
    value = _value(dataset, keyword)
    if isinstance(value, (list, tuple, pydicom.multival.MultiValue)):
        value = value[0] if len(value) else None
    try:
        return None if value is None or value == "" else float(value)
    except (TypeError, ValueError):
        return None


def whole(dataset: Dataset, keyword: str) -> int | None:
    """The number of an element, cut to an integer; None where it has none."""
    value = number(dataset, keyword)
    return int(value) if value is not None and math.isfinite(value) else None


def numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """The `count` numbers of an element; None where it is absent or does not hold as many."""
    value = _value(dataset, keyword)
    try:
        values = tuple(float(each) for each in value)
    except (TypeError, ValueError):
        return None
    return values if len(values) == count else None


def text(dataset: Dataset, keyword: str) -> str:
    """The element as text, several values joined by a backslash; "" where it is absent or cannot be read."""
    value = _value(dataset, keyword)
    if value is None:
        return ""
    several = isinstance(value, (list, tuple, pydicom.multival.MultiValue))
    joined = "\\".join(str(each).strip() for each in (value if several else [value]))
    # Nothing that could steer a terminal.
    return "".join(letter if letter.isprintable() else " " for letter in joined).strip()


def _value(dataset: Dataset, keyword: str) -> Any:
    try:
        return dataset.get(keyword)
    except Exception:  # the element's bytes are not of its type
        return None


def save(dataset: Dataset, path: Path) -> None:
    """Write an instance as a DICOM file, explicit VR, little endian.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    with quiet():
        file = FileDataset(path, dataset, file_meta=meta, preamble=b"\0" * MAGIC_AT)
        if int(pydicom.__version__.partition(".")[0]) >= 3:
            file.save_as(path, enforce_file_format=True)
        else:
            file.is_little_endian, file.is_implicit_VR = True, False
            file.save_as(path, write_like_original=False)
