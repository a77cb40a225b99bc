"""The functions that PythonQt adds to every QObject, on PySide6 objects."""
# ruff: noqa: N802 (the names are those of Qt and 3D Slicer)

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PySide6 import QtCore

from . import signals

__all__ = [
    "children",
    "connect",
    "disconnect",
    "findChild",
    "findChildren",
    "metaObject",
    "parent",
    "property",
    "setParent",
    "setProperty",
    "tr",
]


def connect(owner: Any, signal: str, receiver: Any, slot: str | None = None) -> bool:
    """Connect a signal, named by its signature, to a Python callable or to a slot of a QObject."""
    return signals.connect(owner, signal, _target(receiver, slot))


def disconnect(owner: Any, signal: str, receiver: Any = None, slot: str | None = None) -> bool:
    """Undo `connect`; without a receiver, undo all for this signal."""
    return signals.disconnect(owner, signal, None if receiver is None else _target(receiver, slot))


def _target(receiver: Any, slot: str | None) -> Callable[..., Any]:
    if slot is None:
        return receiver
    from .pythonqt import SlotFunction

    return SlotFunction(receiver, slot.partition("(")[0])


def children(owner: Any) -> list[Any]:
    """Return the direct children."""
    return owner.children()


def parent(owner: Any) -> Any:
    """Return the parent, or None."""
    return owner.parent()


def setParent(owner: Any, new_parent: Any) -> None:
    """Give the object to another parent."""
    owner.setParent(new_parent)


def property(owner: Any, name: str) -> Any:  # noqa: A001
    """Return the value of a property, dynamic ones included; None for one that is not there."""
    from . import members

    found = members.member(owner, name)
    if found is not None and found.kind == "property":
        return members.read(owner, found.name)
    return owner.property(name)


def setProperty(owner: Any, name: str, value: Any) -> bool:
    """Set a property; an unknown name makes a dynamic property, as Qt does."""
    from . import members

    found = members.member(owner, name)
    if found is not None and found.kind == "property":
        return members.write(owner, found.name, value)
    return owner.setProperty(name, value)


def _is_a(child: Any, wanted: Any) -> bool:
    name = wanted if isinstance(wanted, str) else wanted.__name__
    return any(base.__name__ == name for base in type(child).__mro__)


def findChild(owner: Any, wanted: Any, name: str | None = None) -> Any:
    """Return the first descendant of a class (or of a class of this name) with an object name."""
    return next(iter(findChildren(owner, wanted, name)), None)


def findChildren(owner: Any, wanted: Any, name: str | None = None) -> list[Any]:
    """Return the descendants of a class (or of a class of this name) with an object name."""
    found = owner.findChildren(QtCore.QObject)
    return [child for child in found if _is_a(child, wanted) and name in (None, child.objectName())]


def metaObject(owner: Any) -> Any:
    """Return the meta-object of the imitating class."""
    return type(owner).staticMetaObject


def tr(owner: Any, text: str, disambiguation: str = "", number: int = -1) -> str:
    """Return the text: the stand-in has no translations."""
    return text
