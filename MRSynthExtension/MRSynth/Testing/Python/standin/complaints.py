"""What 3D Slicer would only print, which is easily missed: the stand-in keeps it, and fails at the end."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Iterator
from typing import Any

from PySide6 import QtCore

__all__ = ["COMPLAINTS", "complain", "complain_of_exception", "listening"]

COMPLAINTS: list[str] = []

_HARMLESS = ("This plugin does not support",)  # the offscreen platform, about window managers


def complain(text: str) -> None:
    """Print as PythonQt does (standard error), and keep."""
    print(text, file=sys.stderr)
    COMPLAINTS.append(text)


def complain_of_exception() -> None:
    """Print the exception under way, as PythonQt does for an exception in a slot, and keep it."""
    complain(traceback.format_exc())


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Keep Qt's warnings and exceptions in observers of MRML nodes, too, which nobody else would see."""
    before = sys.excepthook

    def keep_exception(kind: Any, error: BaseException, trace: Any) -> None:
        complain("".join(traceback.format_exception(kind, error, trace)))

    def keep_message(level: Any, context: Any, message: str) -> None:
        if level != QtCore.QtMsgType.QtDebugMsg and not message.startswith(_HARMLESS):
            complain(f"Qt: {message}")

    sys.excepthook = keep_exception
    QtCore.qInstallMessageHandler(keep_message)
    try:
        yield
    finally:
        QtCore.qInstallMessageHandler(None)
        sys.excepthook = before
