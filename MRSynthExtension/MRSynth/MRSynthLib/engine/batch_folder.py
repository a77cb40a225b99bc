"""A folder of studies, one folder per examination or all in one, told apart by their names."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from . import batch_names
from .batch_cohort import IMAGES, Examination, Scan, files_below
from .errors import InputError
from .sidecar_tags import MARK, sidecar_path
from .writing import ending

_OURS = re.compile(r"(?:^|_)desc-(?:synthetic|cycleDifference|expectedError|errorInterval)(?=_|$)")
_HEADER = 4096  # bytes; the description is within them in every format

_Found = tuple[Path, tuple[str, ...]]  # a file, and its path below the input without the file's ending


def find(path: Path, output: Path) -> list[Examination]:
    """The examinations of a folder, or of one file.

    A folder with at most one T1 and one T2 is an examination, also if each lies in a folder of its own, as in
    ``anna/T1/x.nii.gz`` and ``anna/T2/y.nii.gz``. Where there are more, and in the input folder itself, names are
    compared without their words for the contrast: ``anna_T1.nii.gz`` and ``anna_T2.nii.gz`` belong together.
    What was computed (see `is_synthetic`) is passed over, as is what the names call something else (FLAIR, T1c, seg).
    """
    root = path if path.is_dir() else path.parent
    unreadable: list[Path] = []
    files = files_below(path, output, unreadable) if path.is_dir() else [path]
    by_folder: dict[tuple[str, ...], list[tuple[_Found, str | None]]] = {}
    for file in files:
        if ending(file) not in IMAGES:
            continue
        parts = (*file.relative_to(root).parts[:-1], stem_of(file))
        contrast, other = batch_names.contrast_of(parts)
        if not other and not is_synthetic(file):
            folder = _cleaned(parts[:-1])
            by_folder.setdefault(folder, []).append(((file, parts), contrast))
    examinations: list[Examination] = []
    for folder, found in by_folder.items():
        for key, members in _grouped(folder, found).items():
            examinations.append(_examination(key, members, path))
    return examinations + [_unreadable(folder, root) for folder in unreadable]


def _unreadable(folder: Path, root: Path) -> Examination:
    name = folder.relative_to(root).as_posix()
    error = InputError("input-not-found", f"'{folder}' cannot be listed.", "a readable folder.")
    return Examination(name, "", name, (), "folder", problem=error)


def stem_of(path: Path) -> str:
    """The name of a file without its ending (".nii.gz" is one)."""
    return path.name[: -len(ending(path))] if ending(path) else path.name


def is_synthetic(path: Path) -> bool:
    """Whether name, sidecar or header of an image say that it was computed; also of a map, which has no sidecar."""
    return _OURS.search(stem_of(path)) is not None or _sidecar_says_so(path) or _header_says_so(path)


def _sidecar_says_so(path: Path) -> bool:
    beside = sidecar_path(path)
    try:
        document = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and document.get("synthetic") is True


def _header_says_so(path: Path) -> bool:
    """By the description that MRSynth writes into every image."""
    try:
        if not path.is_file():  # whoever opens a pipe waits
            return False
        with gzip.open(path) if ending(path) == ".nii.gz" else path.open("rb") as file:
            return MARK.search(file.read(_HEADER)) is not None
    except (OSError, EOFError, zlib.error):
        return False


def _cleaned(parts: Iterable[str]) -> tuple[str, ...]:
    return tuple(filter(None, (batch_names.without_contrast(part) for part in parts)))


def _grouped(
    folder: tuple[str, ...], found: list[tuple[_Found, str | None]]
) -> dict[tuple[str, ...], list[tuple[_Found, str | None]]]:
    """Members by examination: the folder as a whole, where that cannot mix two people, else by name."""
    contrasts = [contrast for _, contrast in found]
    if folder and all(contrasts.count(one) <= 1 for one in ("t1", "t2", None)):
        return {folder: found}
    groups: dict[tuple[str, ...], list[tuple[_Found, str | None]]] = {}
    for (file, parts), contrast in found:
        stem = batch_names.without_contrast(parts[-1], incidental=True)
        key = (*folder, stem) if stem and (not folder or stem != folder[-1]) else folder
        groups.setdefault(key, []).append(((file, parts), contrast))
    return groups


def _examination(key: tuple[str, ...], members: list[tuple[_Found, str | None]], path: Path) -> Examination:
    name = "/".join(key) or path.name
    stem = (key[-1] if key else "") or batch_names.without_contrast(stem_of(path)) or "volume"
    scans = tuple(Scan(file, contrast, stem) for (file, _), contrast in members)
    return Examination(name, "", str(PurePosixPath(*key)) if key else stem, scans, "folder")
