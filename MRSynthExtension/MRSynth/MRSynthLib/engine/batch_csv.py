"""A list of examinations as a table: a line for each, with columns subject, session, t1, t2, mask."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from .batch_cohort import Examination, Scan
from .errors import InputError

COLUMNS = ("subject", "session", "t1", "t2", "mask")
_LARGEST = 64 << 20  # bytes


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
    return Examination(subject or f"line {number}", session, folder, scans, "csv", mask, problem)


def safe_name(name: str) -> str:
    """A name that a folder can have everywhere; two names that differ stay different."""
    import hashlib

    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:80]
    if plain == name and plain.upper() not in ("CON", "PRN", "AUX", "NUL"):
        return plain
    return f"{plain or 'name'}-{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:6]}"
