"""What 3D Slicer would only print, which is easily missed: the stand-in keeps it, and fails at the end."""

from __future__ import annotations

import sys
import traceback

__all__ = ["COMPLAINTS", "complain", "complain_of_exception"]

COMPLAINTS: list[str] = []


def complain(text: str) -> None:
    """Print as PythonQt does (standard error), and keep."""
    print(text, file=sys.stderr)
    COMPLAINTS.append(text)


def complain_of_exception() -> None:
    """Print the exception under way, as PythonQt does for an exception in a slot, and keep it."""
    complain(traceback.format_exc())
