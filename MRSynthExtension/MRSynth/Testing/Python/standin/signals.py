"""Connections of Python callables to signals, by their C++ signature or through ``object.signal.connect``.

Signals of Qt's own classes go through Qt. Signals of the imitated classes are kept here, because they carry
MRML nodes, whose types Qt does not know.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import shiboken6
from PySide6 import QtCore

from . import members, names, values
from .complaints import complain, complain_of_exception

__all__ = ["SignalFunction", "connect", "disconnect", "emit", "emit_to_connected", "forget_all"]

# One entry per connection: object, normalised signature, callable, what Qt itself calls (or None).
_connections: list[tuple[Any, str, Callable[..., Any], Callable[..., Any] | None]] = []


def forget_all() -> None:
    """Drop every connection."""
    for owner, signature, _, adapter in _connections:
        if adapter is not None and shiboken6.isValid(owner):
            QtCore.QObject.disconnect(owner, f"2{signature}", adapter)
    _connections.clear()


def connect(owner: Any, signal: str, receiver: Callable[..., Any]) -> bool:
    """Connect; an unknown signal is complained of in PythonQt's words, and False comes back."""
    signature = names.normalised(signal.lstrip("2"))
    if not _has_signal(owner, signature):
        complain(f"PythonQt: QObject::connect() signal '{signal}' does not exist on {type(owner).__name__}")
        return False
    adapter = None
    if not _is_imitated(owner, signature):

        def adapter(*arguments: Any) -> None:
            deliver(receiver, arguments)

        QtCore.QObject.connect(owner, f"2{signature}", adapter)
    _connections.append((owner, signature, receiver, adapter))
    return True


def disconnect(owner: Any, signal: str, receiver: Callable[..., Any] | None = None) -> bool:
    """Disconnect one receiver (one connection of it) or all; returns whether there was one."""
    signature = names.normalised(signal.lstrip("2"))
    if not _has_signal(owner, signature):
        complain(f"PythonQt: QObject::disconnect() signal '{signal}' does not exist on {type(owner).__name__}")
        return False
    found = [
        connection
        for connection in _connections
        if connection[0] is owner and connection[1] == signature and (receiver is None or connection[2] == receiver)
    ]
    for connection in found if receiver is None else found[:1]:
        if connection[3] is not None:
            QtCore.QObject.disconnect(owner, f"2{signature}", connection[3])
        _connections.remove(connection)
    return bool(found)


def emit(owner: Any, signature: str, *arguments: Any) -> None:
    """Emit a signal of an imitated class to whoever is connected now."""
    assert _has_signal(owner, signature), f"{type(owner).__name__} has no signal {signature}"
    if owner.signalsBlocked():
        return
    for connection in _connections:
        if connection[0] is owner and connection[1] == signature and connection in _connections:
            deliver(connection[2], arguments)


def emit_to_connected(owner: Any, signature: str, *arguments: Any) -> None:
    """Call whoever is connected to a signal of Qt that only Qt itself can emit."""
    for connection in _connections:
        if connection[0] is owner and connection[1] == signature:
            deliver(connection[2], arguments)


def deliver(receiver: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Call a receiver as PythonQt does: with as many arguments as it takes; an exception is printed."""
    limit = _positional_limit(receiver)
    given = arguments if limit is None else arguments[:limit]
    try:
        receiver(*[values.wrap(argument) for argument in given])
    except Exception:
        complain_of_exception()


def _positional_limit(receiver: Callable[..., Any]) -> int | None:
    """Return how many arguments a plain function or method takes; None when PythonQt would pass all."""
    from .pythonqt import SlotFunction

    if isinstance(receiver, SlotFunction):
        return _slot_limit(receiver)
    function = receiver.__func__ if inspect.ismethod(receiver) else receiver
    if not inspect.isfunction(function) or function.__code__.co_flags & inspect.CO_VARARGS:
        return None
    return function.__code__.co_argcount - inspect.ismethod(receiver)


def _slot_limit(slot: Any) -> int | None:
    """Return the most arguments that a slot of Qt takes, as connecting signal to slot does."""
    overloads = members.qt_slot_signatures(members.qt_base(type(slot._owner)), slot._name)
    return max(map(_parameter_count, overloads)) if overloads else None


def _is_imitated(owner: Any, signature: str) -> bool:
    name = signature.partition("(")[0]
    return any(signature in declared.signals.get(name, ()) for declared in members.declarations(type(owner)))


def _has_signal(owner: Any, signature: str) -> bool:
    if _is_imitated(owner, signature):
        return True
    known = members.qt_signals(members.qt_base(type(owner))).get(signature.partition("(")[0], ())
    return signature in known


class SignalFunction:
    """A signal bound to its object: ``connect``, ``disconnect``, ``emit``; calling it emits, too."""

    def __init__(self, owner: Any, signatures: tuple[str, ...]) -> None:
        self._owner = owner
        self._signatures = signatures

    def connect(self, receiver: Callable[..., Any]) -> bool:
        """Connect the first overload that the class declares."""
        return connect(self._owner, self._signatures[0], receiver)

    def disconnect(self, receiver: Callable[..., Any] | None = None) -> bool:
        """Disconnect one receiver, or all."""
        return disconnect(self._owner, self._signatures[0], receiver)

    def emit(self, *arguments: Any) -> None:
        """Emit the overload with so many arguments."""
        given = [values.unwrap(argument) for argument in arguments]
        signature = next(
            (known for known in self._signatures if _parameter_count(known) == len(given)), self._signatures[0]
        )
        if _is_imitated(self._owner, signature):
            emit(self._owner, signature, *given)
        else:
            getattr(self._owner, signature.partition("(")[0]).emit(*given)

    __call__ = emit


def _parameter_count(signature: str) -> int:
    inside = signature.partition("(")[2].rstrip(")")
    return inside.count(",") + 1 if inside else 0
