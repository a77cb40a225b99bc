"""How every figure of a report looks and what stands below it: protocol, n, seed and commit."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from mrsynth_training import provenance
from MRSynthLib.engine.writing import write_aside

DPI = 130
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "axes.grid.axis": "y",
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "legend.fontsize": 8,
}
COLOURS = ("#9e9e9e", "#bdb76b", "#8d6e63", "#1f77b4", "#d95f02", "#1b9e77", "#7570b3", "#e7298a")


styled = matplotlib.rc_context(STYLE)  # decorates what draws


def colours(methods: list[str]) -> dict[str, str]:
    """One colour per method, the same in every figure."""
    return {method: COLOURS[n % len(COLOURS)] for n, method in enumerate(methods)}


def empty(width: float, height: float) -> Figure:
    """A figure in inches, drawn without a display."""
    return Figure(figsize=(width, height), dpi=DPI)


def save(figure: Figure, path: Path, title: str, protocol: str, subjects: str, seeds: str) -> Path:
    """Put the title above and what must be known below, and write a PNG.

    Parameters
    ----------
    figure : Figure
        Its axes are already laid out; the margins are widened here.
    path : Path
        Ends in .png.
    title : str
    protocol, subjects, seeds : str
        By which rule, on whom (n or names), and with which seeds.
    """
    width, height = figure.get_size_inches()
    note = f"{protocol}; {subjects}; {seeds}; {provenance.commit()}"
    lines = textwrap.wrap(note, int(width * 17))
    top, bottom = 0.34, 0.12 + 0.15 * len(lines)
    figure.set_size_inches(width, height + top + bottom)
    total = height + top + bottom
    figure.text(0.5, 1 - 0.10 / total, title, ha="center", va="top", fontsize=11, weight="bold")
    figure.text(0.01, 0.05 / total, "\n".join(lines), ha="left", va="bottom", fontsize=7, color="#444444")
    for axes in figure.axes:
        box = axes.get_position(original=True)
        axes.set_position((box.x0, (box.y0 * height + bottom) / total, box.width, box.height * height / total))
    for text in figure.texts[:-2]:
        x, y = text.get_position()
        text.set_position((x, (y * height + bottom) / total))
    with write_aside(path) as aside:
        figure.savefig(aside, format="png")
    return path
