"""A list of examinations as a table: a line for each, with columns subject, session, t1, t2, mask."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from .batch_cohort import Examination, Scan
from .errors import InputError

COLUMNS = ("subject", "session", "t1", "t2", "mask")
_LARGEST = 64 << 20  # bytes
# Windows takes them for devices, whatever follows a dot.
_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(10))}


def find(path: Path, output: Path) -> list[Examination]:
    """The examinations of a list, one per line; columns are separated by comma, semicolon or tab.

    Paths are relative to the list's folder. ``subject`` and one of ``t1`` and ``t2`` are needed; an empty cell is a
    volume that is missing. A line that cannot be used becomes an examination with a problem.

    Raises
    ------
    InputError
        batch-list: it is not such a table.
    """
    rows = _rows(path)
    columns = [name.strip().lower() for name in rows[0]] if rows else []
    unknown = [name for name in columns if name and name not in COLUMNS]
    if "subject" not in columns or not {"t1", "t2"} & set(columns) or unknown or len(set(columns)) < len(columns):
        seen = f"The first line of '{path.name}' is {', '.join(columns)[:200] or 'empty'}."
        raise InputError("batch-list", seen, f"column names among {', '.join(COLUMNS)}.")
    lines = [(number, row) for number, row in enumerate(rows[1:], 2) if any(cell.strip() for cell in row)]
    return [_examination(path, number, dict(zip(columns, row, strict=False))) for number, row in lines]


def _rows(path: Path) -> list[list[str]]:
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError("batch-list", f"'{path.name}' is larger than 64 MB.", "a table of text.")
        text = path.read_text(encoding="utf-8-sig")
        first = text.splitlines()[0] if text.strip() else ""
        separator = max(",;\t", key=first.count)
        return list(csv.reader(text.splitlines(), delimiter=separator))
    except OSError as error:
        raise InputError(
            "input-not-found", f"'{path}' cannot be read ({error.strerror}).", "a readable list."
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError("batch-list", f"'{path.name}' is no table of text: {error}.", "UTF-8, as CSV.") from error


def _examination(path: Path, number: int, cells: dict[str, str]) -> Examination:
    cells = {name: cell.strip() for name, cell in cells.items()}
    subject, session = cells.get("subject", ""), cells.get("session", "")
    folder = "/".join(map(safe_name, filter(None, (subject, session)))) or f"line-{number}"
    stem = folder.replace("/", "_")
    scans = tuple(
        Scan(path.parent / cells[contrast], contrast, stem, reason="as listed")
        for contrast in ("t1", "t2")
        if cells.get(contrast)
    )
    problem = None
    if not subject or not scans:
        seen = f"Line {number} of '{path.name}' names no {'volume' if subject else 'subject'}."
        problem = InputError("batch-list", seen, "a subject and the path of a T1 or T2.")
    mask = path.parent / cells["mask"] if cells.get("mask") else None
    problem = problem or _missing([scan.path for scan in scans] + ([mask] if mask else []), f"Line {number}")
    return Examination(subject or f"line {number}", session, folder, scans, "csv", mask, problem)


def _missing(paths: list[Path], line: str) -> InputError | None:
    """The error for the first of these that is not there: two that are listed are no reason to call it complete."""
    try:
        for path in paths:
            path.stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL
        reason = getattr(error, "strerror", None) or error
        return InputError("input-not-found", f"{line} names '{path}' ({reason}).", "the path of a volume.")
    return None


def safe_name(name: str) -> str:
    """A name that a folder can have on every system; two names that differ stay different.

    Names that differ in upper and lower case alone are one folder on some systems; see `batch_cohort.place`.
    """
    import hashlib

    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:80]
    device = plain.partition(".")[0].upper() in _DEVICES
    if plain == name and not device:
        return plain
    plain = plain.replace(".", "-") if device else plain
    return f"{plain or 'name'}-{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:6]}"
