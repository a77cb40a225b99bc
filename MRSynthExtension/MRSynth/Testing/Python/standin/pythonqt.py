"""Proxies that make PySide6 objects look as PythonQt shows Qt objects to Python.

A property is read and written without parentheses and hides a method of the same name; signals are connected
by their C++ signature; an attribute that the class does not have can be neither read nor made. Every class
derives directly from `PythonQtObject`, because PythonQt's do not inherit from each other either.
"""
# ruff: noqa: N802 (the names are those of Qt and 3D Slicer)

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import Any

import shiboken6
from PySide6 import QtCore

from . import members, signals, values

__all__ = ["PythonQtClass", "PythonQtObject", "class_for", "overrides", "proxy"]

# (name of a Qt class, name of a member): what the stand-in does instead; inherited. Called with the PySide6
# object first, or without it for static functions.
overrides: dict[tuple[str, str], Callable[..., Any]] = {}

_classes: dict[type, PythonQtClass] = {}
_proxies: weakref.WeakValueDictionary[int, PythonQtObject] = weakref.WeakValueDictionary()


def class_for(pyside: type) -> PythonQtClass:
    """Return the PythonQt class of a PySide6 class."""
    if pyside not in _classes:
        namespace = {"_pyside": pyside, "__module__": "PythonQt.Qt", "__doc__": pyside.__doc__}
        _classes[pyside] = PythonQtClass(pyside.__name__, (PythonQtObject,), namespace)
    return _classes[pyside]


def proxy(value: Any) -> PythonQtObject:
    """Return the one proxy of a PySide6 object, as long as somebody holds it."""
    found = getattr(value, "_derived_proxy", None) or _proxies.get(id(value))
    if found is None or found._qt is not value:
        found = object.__new__(class_for(type(value)))
        object.__setattr__(found, "_qt", value)
        _proxies[id(value)] = found
    return found


def override(pyside: type, name: str) -> Callable[..., Any] | None:
    """Return what the stand-in does instead of a member of this class or of its bases."""
    return next((overrides[base.__name__, name] for base in pyside.__mro__ if (base.__name__, name) in overrides), None)


class PythonQtClass(type):
    """Class of the proxies: enumerators, static and unbound functions are its attributes."""

    _pyside: type

    def __getattr__(cls, name: str) -> Any:
        pyside = cls.__dict__.get("_pyside") or next((b._pyside for b in cls.__mro__[1:] if "_pyside" in vars(b)), None)
        if pyside is None or name.startswith("__"):
            raise AttributeError(f"type object '{cls.__name__}' has no attribute '{name}'")
        replaced = override(pyside, name)
        if replaced is not None:
            return lambda *arguments: values.wrap(replaced(*[values.unwrap(argument) for argument in arguments]))
        found = members.class_member(pyside, name)
        if found is None:
            raise AttributeError(f"{cls.__name__} has no attribute named '{name}'")
        if isinstance(found, type):
            return found
        if callable(found):
            return lambda *arguments, **keywords: values.call(found, f"{cls.__name__}::{name}", arguments, keywords)
        return found


class PythonQtObject(metaclass=PythonQtClass):
    """Proxy of one object of Qt; ``_qt`` is the PySide6 object."""

    _qt: Any

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        pyside = type(self)._pyside
        derived = "_pyside" not in vars(type(self))
        made = values.call(pyside, pyside.__name__, arguments, keywords) if not derived else None
        object.__setattr__(self, "_qt", made._qt if made is not None else _shell(self, pyside, arguments))
        _proxies[id(self._qt)] = self

    # What PythonQt puts on every wrapper, before the members of the class.

    def className(self) -> str:
        """Return the name of the C++ class."""
        return type(self).__name__

    def inherits(self, name: str) -> bool:
        """Return whether the C++ class is, or inherits, the one of this name."""
        return any(base.__name__ == name for base in type(self._qt).__mro__)

    def delete(self) -> None:
        """Delete the C++ object at once."""
        shiboken6.delete(self._qt)

    def __bool__(self) -> bool:
        return shiboken6.isValid(self._qt)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PythonQtObject):
            return NotImplemented
        if self._qt is other._qt:
            return True
        return not isinstance(self._qt, QtCore.QObject) and bool(self._qt == other._qt)

    def __hash__(self) -> int:
        return id(self._qt)

    def __repr__(self) -> str:
        return f"{type(self).__name__} (stand-in, {type(self._qt).__name__} at: {id(self._qt):#x})"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_qt":
            raise AttributeError(name)
        class_name = type(self).__name__
        if not shiboken6.isValid(self._qt):
            raise ValueError(f"Trying to read '{name}' from a destroyed {class_name} object")
        member = members.member(self._qt, name)
        if member is not None and member.kind == "property":
            return values.wrap(members.read(self._qt, member.name))
        if member is not None and member.kind == "signal":
            return signals.SignalFunction(self._qt, member.signatures)
        if member is not None and member.kind == "slot":
            return SlotFunction(self._qt, member.name)
        if isinstance(self._qt, QtCore.QObject):
            if name in [bytes(known).decode() for known in self._qt.dynamicPropertyNames()]:
                return values.wrap(self._qt.property(name))
            for child in self._qt.children():
                if child.objectName() == name:
                    return proxy(child)
        try:
            return getattr(type(self), name)  # enumerators and nested classes
        except AttributeError:
            raise AttributeError(f"{class_name} has no attribute named '{name}'") from None

    def __setattr__(self, name: str, value: Any) -> None:
        class_name = type(self).__name__
        if not shiboken6.isValid(self._qt):
            raise AttributeError(f"Trying to set property '{name}' on a destroyed {class_name} object")
        member = members.member(self._qt, name)
        if member is not None and member.kind == "property":
            if not members.write(self._qt, member.name, values.unwrap(value)):
                shown = f"{type(value).__name__} ({value})"
                raise AttributeError(f"Property '{name}' of {class_name} does not accept an object of type {shown}")
        elif member is not None:
            raise AttributeError(f"{member.kind.title()} '{name}' can not be overwritten on {class_name} object")
        elif isinstance(self._qt, QtCore.QObject) and self._qt.property(name) is not None:
            self._qt.setProperty(name, values.unwrap(value))
        elif "_pyside" in vars(type(self)):
            raise AttributeError(
                f"'{name}' does not exist on {class_name} and creating new attributes on C++ objects is not allowed"
            )
        else:
            object.__setattr__(self, name, value)


class SlotFunction:
    """A slot or method bound to its object."""

    def __init__(self, owner: Any, name: str) -> None:
        self._owner = owner
        self._name = name

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        name = f"{type(self._owner).__name__}::{self._name}"
        if not shiboken6.isValid(self._owner):
            raise ValueError(f"Trying to call '{self._name}' on a destroyed {type(self._owner).__name__} object")
        replaced = override(type(self._owner), self._name)
        if replaced is not None:
            return values.wrap(replaced(self._owner, *[values.unwrap(argument) for argument in arguments]))
        return values.call(members.method(self._owner, self._name), name, arguments, keywords)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SlotFunction) and (self._owner, self._name) == (other._owner, other._name)

    def __hash__(self) -> int:
        return hash((id(self._owner), self._name))


def _shell(proxy_of: PythonQtObject, pyside: type, arguments: tuple[Any, ...]) -> Any:
    """Make the C++ object of a class derived in Python: Qt's virtual functions reach what Python overrides."""
    namespace: dict[str, Any] = {}
    for base in type(proxy_of).__mro__:
        if "_pyside" in vars(base):
            break
        for name, function in vars(base).items():
            if not name.startswith("__") and callable(function) and hasattr(pyside, name):
                namespace.setdefault(name, _virtual(name))
    made = type(pyside.__name__, (pyside,), namespace)(*[values.unwrap(argument) for argument in arguments])
    made._derived_proxy = proxy_of
    return made


def _virtual(name: str) -> Callable[..., Any]:
    def forward(self: Any, *arguments: Any) -> Any:
        function = getattr(self._derived_proxy, name)
        return values.unwrap(function(*[values.wrap(argument) for argument in arguments]))

    return forward


def floor(value: Any) -> Any:
    """Convert a float for an integer property, as PythonQt does."""
    return math.floor(value) if isinstance(value, float) else value
