"""Words that users read, in their language where 3D Slicer has a translation of them."""

from __future__ import annotations

try:
    from slicer.i18n import tr as _
except ImportError:  # slicer-core has no translations

    def _(text: str) -> str:
        """Return the text as it is."""
        return text


__all__ = ["_"]
