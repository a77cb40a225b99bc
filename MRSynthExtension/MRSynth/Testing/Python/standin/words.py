"""Stand-in for `slicer.i18n`: no translations, the text comes back."""
# ruff: noqa: N802 (the names are those of Qt and 3D Slicer)

from __future__ import annotations

__all__ = ["getContext", "tr", "translate"]


def tr(text: str) -> str:
    """Return the text."""
    return text


def translate(context: str, text: str) -> str:
    """Return the text."""
    return text


def getContext(sourceFile: str) -> str:
    """Return the name of the translations of a source file."""
    from pathlib import Path

    path = Path(sourceFile)
    package = (path.parent / "__init__.py").is_file()
    return f"{path.parent.name}.{path.stem}" if package else path.stem
