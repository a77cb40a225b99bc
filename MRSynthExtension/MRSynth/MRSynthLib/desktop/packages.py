"""Whether a Python package is there and whole, told from its files: nothing is imported.

Importing a half-installed torch raises whatever it likes, and a whole one would lock its files in 3D Slicer's own
process, so that they could not be repaired on Windows.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

State = Literal["whole", "missing", "broken"]

_CODE = (".py", ".so", ".pyd", ".dll", ".dylib")
_ASIDE = "~-.=%0123456789"  # what pip puts before the names of what it is removing


@dataclass(frozen=True)
class Package:
    """What was found of a package.

    Attributes
    ----------
    name : str
        As pip calls it.
    version : str
        "" where it has none.
    state : {'whole', 'missing', 'broken'}
    why : str
        What is broken about it, for the user; else "".
    """

    name: str
    version: str
    state: State
    why: str = ""


def find(name: str, paths: Sequence[str] | None = None) -> Package:
    """Look for a package.

    Parameters
    ----------
    name : str
        The name that is both installed and imported.
    paths : sequence of str, optional
        Where to look; by default where Python does.
    """
    paths = list(sys.path if paths is None else paths)
    found = list(importlib.metadata.distributions(name=name, path=paths))
    version = _version(found[0]) if found else ""
    beside = sorted({_version(one) for one in found if one.locate_file("") == found[0].locate_file("")})
    if len(beside) > 1:
        return Package(name, version, "broken", f"two versions lie in one place, {' and '.join(beside)}")
    if found:
        why = _damage(found[0], name)
        return Package(name, version, "broken" if why else "whole", why)
    for folder in _site_folders(paths):
        if (folder / name).is_dir():
            return Package(name, "", "broken", "its files are there, but not its entry in the list of packages")
        if any(is_leftover(entry.name, name) for entry in folder.iterdir()):
            return Package(name, "", "broken", "the remains of an interrupted installation are there")
    return Package(name, "", "missing")


def remains(name: str, folder: Path) -> Iterator[Path]:
    """Everything in a site-packages folder that belongs to a package, whole or not."""
    record = re.compile(rf"{re.escape(name)}-[^-]+(-py[\d.]+)?\.(dist|egg)-info", re.IGNORECASE)
    for entry in folder.iterdir():
        if entry.name == name or record.fullmatch(entry.name) or is_leftover(entry.name, name):
            yield entry


def is_leftover(entry: str, name: str) -> bool:
    """Whether pip left `entry` behind when it was interrupted: "~orch" or "~orch-2.5.1.dist-info" for "torch"."""
    rest = entry.lstrip(_ASIDE)
    end = rest.partition("-")[0]
    # As long as the name was: "~orch" is of "torch" and not of "functorch".
    same_length = len(entry) - len(rest) + len(end) == len(name)
    return entry.startswith("~") and same_length and len(end) >= min(3, len(name) - 1) and name.endswith(end)


def _version(found: importlib.metadata.Distribution) -> str:
    try:
        return str(found.version or "")
    # METADATA is missing, empty or somebody else's. Where the backport importlib_metadata is imported, it finds the
    # packages, and has an error of its own.
    except (KeyError, TypeError, AttributeError, FileNotFoundError, importlib.metadata.PackageNotFoundError):
        return ""


def _damage(found: importlib.metadata.Distribution, name: str) -> str:
    """What an installed package lacks of what it says it has, or ""."""
    if not _version(found):
        return "its entry in the list of packages is damaged"
    record = found.read_text("RECORD")
    if not record:
        return "the list of its files is missing"
    inside = False
    for line in record.splitlines():
        rest, _, size = line.rpartition(",")
        path = rest.rpartition(",")[0].strip('"')
        if path.startswith("..") or not path.endswith(_CODE):
            continue
        inside = inside or path == f"{name}/__init__.py"
        try:
            seen = Path(str(found.locate_file(path))).stat().st_size
        except OSError:
            return f"{path} is missing"
        if size.isdecimal() and int(size) != seen and not path.endswith(".py"):
            return f"{path} is not whole"
    return "" if inside else "its package folder is missing"


def _site_folders(paths: Sequence[str]) -> list[Path]:
    """Those of `paths` that pip installs into."""
    folders = [Path(path) for path in paths if path]
    return [path for path in folders if path.is_dir() and path.name in ("site-packages", "dist-packages")]
