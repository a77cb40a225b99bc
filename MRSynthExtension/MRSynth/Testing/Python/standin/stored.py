"""Properties of imitated classes that only keep their value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PySide6.QtCore import Property

__all__ = ["stored"]


def stored(kind: Any, name: str, default: Any, changed: Callable[[Any], None] | None = None) -> Property:
    """Return a property that keeps its value, and calls ``changed(widget)`` when it is set."""

    def read(self: Any) -> Any:
        return self.__dict__.get(f"_{name}", default)

    def write(self: Any, value: Any) -> None:
        self.__dict__[f"_{name}"] = value
        if changed is not None:
            changed(self)

    return Property(kind, read, write)
