"""A folder of wheels for a computer without a network: what it lacks, told before anything is installed.

pip would say so too, one package at a time, and not which of the files that are there are for another system.
"""

from __future__ import annotations

import email.parser
import importlib
import importlib.metadata
import platform
import re
import sys
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .words import _


@dataclass(frozen=True)
class Wheel:
    """A wheel that fits this Python: its name as packages are compared, version, and what it requires."""

    name: str
    version: Any
    requires: tuple[str, ...]


def lacking(folder: Path, wanted: Iterable[str], paths: Sequence[str] | None = None) -> list[str]:
    """Return, in words, every requirement that neither the folder nor what is installed can meet.

    Parameters
    ----------
    folder : Path
    wanted : iterable of str
        Requirements as pip takes them, to be met by the folder alone; what they require in turn may be installed.
    paths : sequence of str, optional
        Where packages are installed; by default where Python looks.
    """
    here, elsewhere = _fitting(folder)
    todo = [(_requirement(text), "") for text in wanted]
    present = _installed(paths)
    for need, _nobody in todo:
        present.pop(_canonical(need.name), None)
    missing: list[str] = []
    done: set[str] = set()
    while todo:
        need, because = todo.pop(0)
        if str(need) in done:
            continue
        done.add(str(need))
        name = _canonical(need.name)
        if name in present and need.specifier.contains(present[name], prereleases=True):
            continue
        best = max((one for one in here if _meets(one, need)), key=lambda one: one.version, default=None)
        if best is not None:
            follow = (_requirement(text) for text in best.requires)
            todo += [(one, best.name) for one in follow if _applies(one, need.extras)]
            continue
        reason = _(" for {name}").format(name=because) if because else ""
        other = [file for file in elsewhere if _canonical(file.split("-")[0]) == name]
        if other:
            reason += _(" (there is {file}, which is for another system or Python)").format(file=other[0])
        missing.append(f"{need.name}{need.specifier}{reason}")
    return missing


def this_python() -> str:
    """Return in words what wheels have to be for."""
    return f"Python {sys.version_info.major}.{sys.version_info.minor}, {platform.system()} {platform.machine()}"


def _fitting(folder: Path) -> tuple[list[Wheel], list[str]]:
    """Return the wheels that this Python can install, and the file names of those that it cannot."""
    supported = frozenset(_packaging("tags").sys_tags())
    read = {path.name: _as_wheel(path, supported) for path in sorted(folder.glob("*.whl"))}
    return [one for one in read.values() if one is not None], [name for name, one in read.items() if one is None]


def _as_wheel(path: Path, supported: frozenset[Any]) -> Wheel | None:
    try:
        name, number, _build, its_tags = _packaging("utils").parse_wheel_filename(path.name)
        return None if supported.isdisjoint(its_tags) else Wheel(name, number, _required(path))
    except (_packaging("utils").InvalidWheelFilename, OSError, zipfile.BadZipFile, KeyError):  # half copied, or renamed
        return None


def _required(path: Path) -> tuple[str, ...]:
    with zipfile.ZipFile(path) as archive:
        entry = next((one for one in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", one)), "")
        text = archive.read(entry).decode("utf-8", "replace")
    return tuple(email.parser.Parser().parsestr(text, headersonly=True).get_all("Requires-Dist") or ())


def _meets(wheel: Wheel, need: Any) -> bool:
    return wheel.name == _canonical(need.name) and need.specifier.contains(wheel.version, prereleases=True)


def _applies(need: Any, extras: Iterable[str]) -> bool:
    """Whether a requirement is one on this system, for what is asked for with these extras."""
    surroundings = _packaging("markers").default_environment()
    return need.marker is None or any(need.marker.evaluate({**surroundings, "extra": one}) for one in ("", *extras))


def _installed(paths: Sequence[str] | None) -> dict[str, str]:
    found = importlib.metadata.distributions(path=list(sys.path if paths is None else paths))
    return {
        _canonical(one.metadata["Name"]): one.metadata["Version"]
        for one in reversed(list(found))
        if one.metadata and one.metadata["Name"] and one.metadata["Version"]
    }


def _packaging(part: str) -> Any:
    """Return a module of the package `packaging`, which every pip carries with it."""
    try:
        return importlib.import_module(f"packaging.{part}")
    except ImportError:
        return importlib.import_module(f"pip._vendor.packaging.{part}")


def _canonical(name: str) -> str:
    return str(_packaging("utils").canonicalize_name(name))


def _requirement(text: str) -> Any:
    return _packaging("requirements").Requirement(text)
