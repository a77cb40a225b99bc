"""Files of a study, read once each: checked for being whole, for listed checksums, and for what they hold."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from mrsynth_training.errors import TrainingError
from MRSynthLib.engine.checks import checked
from MRSynthLib.engine.files import read_volume
from MRSynthLib.engine.volume import Volume

CHECKSUM_FILES = {"SHA256SUMS": "sha256", "MD5SUMS": "md5", "sha256sums.txt": "sha256", "md5sums.txt": "md5"}
KNOWN_LABELS = {0, 1, 2, 3, 4}  # BraTS: 1 necrosis, 2 oedema, 3 (from 2023) or 4 enhancing, 4 (2024) cavity
LONGEST_HEADER = 1 << 20  # bytes; beyond it the size of a compressed file is not judged by its end
Listed = dict[Path, tuple[str, str]]


def listed_checksums(data: Path) -> Listed:
    """Checksums that came with the data, {path: (algorithm, digest)}.

    They are those of `SHA256SUMS` or `MD5SUMS` (or `sha256sums.txt`, `md5sums.txt`) in the folder: lines as
    `sha256sum` and `md5sum` write them.

    Raises
    ------
    TrainingError
        If a line is no checksum.
    """
    listed: Listed = {}
    for name, algorithm in CHECKSUM_FILES.items():
        path = data / name
        if not path.is_file():
            continue
        length = 2 * hashlib.new(algorithm).digest_size
        for line in path.read_text(encoding="utf-8").splitlines():
            digest, _, file = line.strip().partition(" ")
            if not line.strip() or line.startswith("#"):
                continue
            if len(digest) != length or not file.strip(" *"):
                raise TrainingError(f"{path} has a line '{line[:80]}'", "lines of a checksum and a path", "Correct it")
            listed[(data / file.strip(" *")).resolve()] = (algorithm, digest.lower())
    return listed


def check_present(path: Path) -> None:
    """Refuse a file that is a link to nothing, or empty."""
    if path.is_symlink() and not path.exists():
        raise TrainingError(
            f"'{path}' is a link to nothing", "the file itself", "Fetch it (of git-annex: `datalad get`)"
        )
    if not path.is_file() or path.stat().st_size == 0:
        raise TrainingError(f"'{path}' is empty or no file", "a NIfTI file", "Copy or download it again")


def check_complete(path: Path, needed: int) -> None:
    """Refuse a file that is shorter than its header says.

    A compressed file tells its length in its last four bytes (RFC 1952), which those of a cut-off file do not hold.
    Some compressors write several members, of which the last one's length is there: only such a file is read through.
    """
    size = path.stat().st_size
    if path.suffix.lower() == ".gz":
        with path.open("rb") as file:
            file.seek(-4, 2)
            size = int.from_bytes(file.read(4), "little")
        if needed % 2**32 <= size <= needed % 2**32 + LONGEST_HEADER or needed >= 2**32:
            return
        size, _ = _unpacked(path)
    if size < needed:
        raise TrainingError(
            f"'{path}' is cut off: it holds {size} of {needed} bytes", "a whole file", "Copy or download it again"
        )


def _unpacked(path: Path) -> tuple[int, Exception | None]:
    """Bytes that a compressed file gives, and the error that ended it; its own checksums (CRC-32) are compared."""
    size = 0
    try:
        with gzip.open(path) as stream:
            while block := stream.read(1 << 20):
                size += len(block)
    except (OSError, EOFError, zlib.error) as error:
        return size, error
    return size, None


def read(path: Path, role: str, listed: Listed) -> tuple[Volume, dict[str, Any]]:
    """Read one file of a study.

    Parameters
    ----------
    path : Path
    role : {"t1", "t2", "brain", "segmentation", "lesion"}
    listed : dict
        From `listed_checksums`.

    Returns
    -------
    Volume
    dict
        `file`, `bytes`, `modified` (ns), `sha256`, `content` (SHA-256 of the voxels, whatever the compression and the
        header), `warnings`.

    Raises
    ------
    TrainingError
        If the file is not the one that its checksum is listed of, or a segmentation has unknown labels.
    MRSynthError
        If it cannot be read, or is constant, or holds no image.
    """
    check_present(path)
    status = path.stat()
    algorithm, expected = listed.get(path.resolve(), ("sha256", ""))
    digests = {name: hashlib.new(name) for name in {"sha256", algorithm}}
    with path.open("rb") as file:  # the volume is then read from the very pages of memory that this filled
        while block := file.read(1 << 20):
            for digest in digests.values():
                digest.update(block)
    seen = digests[algorithm].hexdigest()
    if expected and seen != expected:
        raise TrainingError(
            f"'{path}' has the {algorithm} checksum {seen[:12]}...",
            f"{expected[:12]}..., as listed",
            "Download it again",
        )
    if path.suffix.lower() == ".gz" and (error := _unpacked(path)[1]):  # readers of images stop before the CRC
        raise TrainingError(f"'{path}' is damaged ({error})", "a whole file", "Copy or download it again")
    volume = read_volume(path)
    warnings: list[str] = []
    if role in ("t1", "t2"):
        volume, warnings = checked(volume)
    elif role == "segmentation":
        _check_labels(volume, path)
    entry = {
        "file": path.name,
        "bytes": status.st_size,
        "modified": status.st_mtime_ns,
        "sha256": digests["sha256"].hexdigest(),
        "content": hashlib.sha256(np.ascontiguousarray(volume.voxels, np.float32).tobytes()).hexdigest(),
        "warnings": warnings,
    }
    return volume, entry


def _check_labels(volume: Volume, path: Path) -> None:
    unknown = sorted(set(np.unique(volume.voxels).tolist()) - KNOWN_LABELS)
    if unknown:
        shown = ", ".join(f"{label:g}" for label in unknown[:8])
        raise TrainingError(
            f"the segmentation '{path}' has the labels {shown}",
            "0, 1 necrosis, 2 oedema, 3 or 4 enhancing, as in BraTS",
            "Relabel it, or take it away: a study without one can be used too",
        )
