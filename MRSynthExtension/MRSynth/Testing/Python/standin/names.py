"""The names that the real classes have, read from `allowed_names.json`."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Declared", "declared", "declared_by_qt", "normalised"]


@dataclass(frozen=True)
class Declared:
    """What the header of one class declares itself, without its bases, and Python code can reach.

    Parameters
    ----------
    properties : frozenset of str
        Names of its properties.
    slots : frozenset of str
        Names of its slots, of its invokable methods and of what Python decorators add.
    signals : dict of str to tuple of str
        Name of a signal to the normalised signatures of its overloads, in the order of the header.
    """

    properties: frozenset[str]
    slots: frozenset[str]
    signals: dict[str, tuple[str, ...]]


@functools.cache
def _file() -> dict[str, dict[str, dict]]:
    return json.loads((Path(__file__).parent / "allowed_names.json").read_text(encoding="utf-8"))


@functools.cache
def declared(name: str) -> Declared | None:
    """Return what the class of this name of CTK or 3D Slicer declares; None for a class that is not listed."""
    found = _file()["classes"].get(name)
    return None if found is None else _declared(found, found["slots"])


@functools.cache
def declared_by_qt(name: str) -> Declared | None:
    """Return what a class of Qt 5.15 declares; None for a class that is not listed."""
    found = _file()["qt"].get(name)
    return None if found is None else _declared(found, found.get("methods", ()))


def _declared(entry: dict, slots: list[str]) -> Declared:
    by_name: dict[str, tuple[str, ...]] = {}
    for signature in entry.get("signals", ()):
        signal = signature.partition("(")[0]
        by_name[signal] = (*by_name.get(signal, ()), signature)
    return Declared(frozenset(entry.get("properties", ())), frozenset(slots), by_name)


def normalised(signature: str) -> str:
    """Return a signal's signature as Qt compares it: without spaces, ``const`` and references."""
    from PySide6 import QtCore

    return QtCore.QMetaObject.normalizedSignature(signature).data().decode()
