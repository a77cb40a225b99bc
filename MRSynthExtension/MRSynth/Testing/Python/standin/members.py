"""What an object of Qt has: which names are properties, which are slots, which are signals.

For classes of Qt the answer comes from Qt's own meta-objects and from the list of PythonQt's wrappers; for
the imitated classes of CTK and 3D Slicer it comes from their headers (`allowed_names.json`), so that a name
which the imitation has and the real class does not have stays out of reach.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PySide6 import QtCore

from . import names, values

__all__ = ["Member", "class_member", "member", "method", "qt_base", "read", "write"]

# PythonQt's decorators for every QObject; `decorators` holds what they do.
_DECORATED = frozenset(
    {"connect", "disconnect", "findChild", "findChildren", "children", "parent", "property", "setParent"}
    | {"setProperty", "metaObject", "tr"}
)


@dataclass(frozen=True)
class Member:
    """A reachable name: its kind ("property", "slot" or "signal") and its real name."""

    kind: str
    name: str
    signatures: tuple[str, ...] = ()


def qt_base(pyside: type) -> type:
    """Return the class of Qt itself that a PySide6 class is, or is derived from."""
    return next(base for base in pyside.__mro__ if base.__module__.startswith("PySide6."))


def declarations(pyside: type) -> list[names.Declared]:
    """Return what the imitated classes above Qt's own declare, the most derived first."""
    found = []
    for base in pyside.__mro__:
        if base.__module__.startswith("PySide6."):
            break
        declared = names.declared(base.__name__)
        if declared is not None:
            found.append(declared)
    return found


def member(owner: Any, name: str) -> Member | None:
    """Look a name up as PythonQt does: properties first, then slots and signals; ``exec_`` is ``exec``."""
    return _member(type(owner), name)


@functools.cache
def _member(pyside: type, name: str) -> Member | None:
    classes = declarations(pyside)
    base = qt_base(pyside)
    is_qobject = issubclass(base, QtCore.QObject)
    ignored = name == "singleShot" and issubclass(base, QtCore.QTimer)
    if any(name in declared.properties for declared in classes):
        return Member("property", name)
    real = "objectName" if is_qobject and name == "name" else name
    if is_qobject and not ignored and real in qt_properties(base):
        return Member("property", real)
    for declared in classes:
        if name in declared.signals:
            return Member("signal", name, declared.signals[name])
        if name in declared.slots:
            return Member("slot", name)
    if is_qobject and name in _DECORATED:
        return Member("slot", name)
    signatures = qt_signals(base).get(name) if is_qobject else None
    if signatures:
        return Member("signal", name, signatures)
    if _is_method(base, name):
        return Member("slot", name)
    if name.endswith("_") and not name.endswith("__"):
        return _member(pyside, name[:-1])
    return None


# Meta-objects are asked through the class only: PySide6 takes what an object's own metaObject() gave for
# deleted, for every object of the class, when that object is.


@functools.cache
def qt_properties(base: type) -> dict[str, str]:
    """Return the properties of a class of Qt, and their C++ types."""
    meta = base.staticMetaObject
    entries = (meta.property(index) for index in range(meta.propertyCount()))
    return {e.name(): e.typeName() for e in entries if _is_of_qt5(base, "properties", e.name(), _own_properties)}


@functools.cache
def _own_properties(cls: type) -> frozenset[str]:
    meta = getattr(cls, "staticMetaObject", None)
    indices = range(meta.propertyOffset(), meta.propertyCount()) if meta is not None else ()
    return frozenset(meta.property(index).name() for index in indices)


@functools.cache
def _own_methods(cls: type) -> frozenset[str]:
    return frozenset(vars(cls))


def _is_of_qt5(base: type, kind: str, name: str, own: Callable[[type], frozenset[str]]) -> bool:
    """Return whether Qt 5 has a name that PySide6 has; classes that are not listed are taken as they are."""
    for cls in base.__mro__:
        listed = names.declared_by_qt(cls.__name__)
        if name in (getattr(listed, kind) if listed is not None else own(cls)):
            return True
    return False


@functools.cache
def _qt_invokables(base: type) -> list[tuple[str, str, bool]]:
    """Return signature, name and "is a signal" of the methods of a class of Qt's meta-object."""
    meta = getattr(base, "staticMetaObject", None)
    entries = [meta.method(index) for index in range(meta.methodCount())] if meta is not None else []
    signal = QtCore.QMetaMethod.MethodType.Signal
    return [(_text(entry.methodSignature()), _text(entry.name()), entry.methodType() == signal) for entry in entries]


def _text(data: QtCore.QByteArray) -> str:
    return data.data().decode()


@functools.cache
def qt_signals(base: type) -> dict[str, tuple[str, ...]]:
    """Return the signals of a class of Qt, by name, with the signatures of the overloads."""
    found: dict[str, tuple[str, ...]] = {}
    for signature, name, is_signal in _qt_invokables(base):
        if is_signal and _is_of_qt5(base, "signals", name, _own_methods):
            found[name] = (*found.get(name, ()), signature)
    return found


def qt_slot_signatures(base: type, name: str) -> list[str]:
    """Return the signatures of the overloads of a slot of a class of Qt."""
    return [signature for signature, slot, is_signal in _qt_invokables(base) if slot == name and not is_signal]


@functools.cache
def _is_method(base: type, name: str) -> bool:
    function = getattr(base, name, None) if not name.startswith("_") else None
    if function is None or isinstance(function, (type, QtCore.Signal)) or not callable(function):
        return False
    return _is_of_qt5(base, "slots", name, _own_methods)


def class_member(pyside: type, name: str) -> Any:
    """Return an enumerator, an enumeration, a nested class or an unbound function of a class; None if neither."""
    enums = values.nested_enums(pyside)
    if name in enums:
        return values.enum_type(enums[name])
    for enumeration in enums.values():
        if name in enumeration.__members__:
            return values.wrap(enumeration.__members__[name])
    found = getattr(pyside, name, None)
    if isinstance(found, type):
        from .pythonqt import class_for

        return class_for(found)
    return found if _member(pyside, name) is not None and callable(found) else None


def method(owner: Any, name: str) -> Callable[..., Any]:
    """Return the function behind a slot of an object.

    Raises
    ------
    NotImplementedError
        When the real class has the slot and the stand-in does not imitate it.
    """
    from . import decorators

    if isinstance(owner, QtCore.QObject) and name in _DECORATED:
        return functools.partial(getattr(decorators, name), owner)
    function = getattr(owner, name, None)
    if callable(function):
        return function
    written = name[3:4].lower() + name[4:]
    if name.startswith("set") and any(written in declared.properties for declared in declarations(type(owner))):
        return functools.partial(write, owner, written)
    raise NotImplementedError(f"The stand-in does not imitate {type(owner).__name__}::{name}.")


def read(owner: Any, name: str) -> Any:
    """Return the value of a property, as PySide6 has it."""
    if any(name in declared.properties for declared in declarations(type(owner))):
        if not hasattr(type(owner), name):
            raise NotImplementedError(f"The stand-in does not imitate the property {type(owner).__name__}.{name}.")
        return getattr(owner, name)
    try:
        return owner.property(name)
    except RuntimeError:  # PySide6 cannot convert some enumerations; the getter can
        return getattr(owner, name)()


def write(owner: Any, name: str, value: Any) -> bool:
    """Set a property with Qt's own conversion; returns False for a value that it does not take."""
    if any(name in declared.properties for declared in declarations(type(owner))):
        if not hasattr(type(owner), name):
            raise NotImplementedError(f"The stand-in does not imitate the property {type(owner).__name__}.{name}.")
        return bool(owner.setProperty(name, value))
    if isinstance(value, float) and isinstance(owner.property(name), int):
        value = math.floor(value)
    if qt_properties(qt_base(type(owner))).get(name) == "QString":
        value = str(value)
    return bool(owner.setProperty(name, value))
