"""Values on their way between Python code and PySide6, as PythonQt converts them.

Objects of Qt travel as the proxies of `pythonqt`, enumerators as integers, lists as tuples.
"""

from __future__ import annotations

import enum
import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import shiboken6

__all__ = ["call", "enum_type", "nested_enums", "unwrap", "wrap"]

_enum_types: dict[type, type] = {}


def enum_type(pyside: type) -> type:
    """Return PythonQt's type of an enumeration: a plain subclass of int, whose values print as numbers."""
    if pyside not in _enum_types:
        _enum_types[pyside] = type(pyside.__name__, (int,), {"_pyside": pyside})
    return _enum_types[pyside]


def nested_enums(pyside: type) -> dict[str, type]:
    """Return the enumerations declared in a PySide6 class and its bases."""
    return {
        name: value
        for base in reversed(pyside.__mro__)
        for name, value in vars(base).items()
        if isinstance(value, enum.EnumMeta)
    }


def wrap(value: Any) -> Any:
    """Convert what PySide6 gave into what PythonQt would give."""
    if isinstance(value, shiboken6.Shiboken.Object):
        from .pythonqt import proxy

        return proxy(value)
    if isinstance(value, enum.Enum):
        return enum_type(type(value))(value.value)
    if isinstance(value, (list, tuple)):
        return tuple(wrap(item) for item in value)
    if isinstance(value, dict):
        return {key: wrap(item) for key, item in value.items()}
    return value


def unwrap(value: Any) -> Any:
    """Convert what Python code gave into what PySide6 takes."""
    from .pythonqt import PythonQtObject

    if isinstance(value, PythonQtObject):
        return value._qt
    if hasattr(type(value), "_pyside"):
        return type(value)._pyside(int(value))
    if isinstance(value, (list, tuple)):
        return [unwrap(item) for item in value]
    return value


def call(function: Callable[..., Any], name: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """Call a function of PySide6 as PythonQt calls a slot.

    Raises
    ------
    ValueError
        When no overload takes the arguments, or for keyword arguments, which PythonQt's slots do not take.
    """
    if keywords:
        raise ValueError(f"Called {name} with keyword arguments, but called slot does not support kwargs.")
    given = [unwrap(argument) for argument in arguments]
    if None in given:
        given = _coerced(function, given) or given
    try:
        return wrap(function(*given))
    except TypeError as error:
        # Only PySide6's own complaint about arguments; a TypeError of Python code that Qt called back passes.
        if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
            raise
        coerced = _coerced(function, given)
        if coerced is None:
            raise ValueError(f"Called {name} with wrong arguments: {arguments}\n{error}") from None
    try:
        return wrap(function(*coerced))
    except TypeError as error:
        raise ValueError(f"Called {name} with wrong arguments: {arguments}\n{error}") from None


def _coerced(function: Callable[..., Any], given: list[Any]) -> list[Any] | None:
    """Convert arguments as PythonQt does in its second, not strict pass: any int is an enumerator, and so on."""
    for signature in _signatures(function):
        parameters = [parameter for parameter in signature.parameters.values() if parameter.name != "self"]
        if len(given) > len(parameters):
            continue
        try:
            pairs = zip(given, parameters, strict=False)
            converted = [_convert(value, parameter.annotation) for value, parameter in pairs]
        except ValueError:  # no enumerator of this overload's enumeration
            continue
        if any(new is not old for new, old in zip(converted, given, strict=True)):
            return converted
    return None


def _signatures(function: Callable[..., Any]) -> list[Any]:
    """Return the signatures of the overloads of a function of PySide6; those of a bound one are its class's."""
    from shibokensupport.signature import get_signature

    owner, name = type(getattr(function, "__self__", None)), getattr(function, "__name__", "")
    unbound = [vars(cls)[name] for cls in owner.__mro__ if name in vars(cls)]
    found = next(filter(None, map(get_signature, [function, *unbound])), [])
    return found if isinstance(found, list) else [found]


def _convert(value: Any, wanted: Any) -> Any:
    if isinstance(wanted, enum.EnumMeta) and isinstance(value, int):
        known = functools.reduce(operator.or_, (member.value for member in wanted), 0)
        if issubclass(wanted, enum.Flag) and value & ~known:
            raise ValueError(value)
        return wanted(value)
    if wanted is int and isinstance(value, float):
        return math.floor(value)
    if wanted is str and not isinstance(value, str):
        return str(value)
    return value
