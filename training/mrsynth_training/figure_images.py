"""Slices side by side, as in the paper's figures 4, 5 and 6: the same slices for the originals and every generator.

Slices are axial and shown as radiologists see them: the patient's right is on the left of the picture, front is up.
Every image of one contrast is shown with the same window, 0 to 1 on the declared scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from mrsynth_training import figures
from mrsynth_training.compare import title as direction_title
from mrsynth_training.study_volumes import DETAIL, Image, Shown

TILE = 1.75  # inches
LARGEST_DIFFERENCE = 0.5  # of the colour bar
BOX = "#ffd400"
PROTOCOL = "Window 0 to 1 of the declared scale (1 = 99.5th percentile of brain)"


@figures.styled
def examples(path: Path, volumes: Sequence[Shown], seeds: str) -> Path:
    """Figure 4: whole slices, source and originals beside the synthetic ones."""
    names = list(volumes[0].made)
    grid = _Grid(len(volumes), ["source", "acquired", *names])
    for row, shown in enumerate(volumes):
        number = shown.middle()
        stacks = [shown.source, shown.reference, *(shown.made[name] for name in names)]
        for column, stack in enumerate(stacks):
            grid.image(row, column, _cropped(stack[number], shown, number), shown)
        grid.label(row, f"{shown.subject}\n{direction_title(shown.direction)}")
    return figures.save(grid.figure, path, "Synthetic and acquired slices", PROTOCOL, _who(volumes), seeds)


@figures.styled
def details(path: Path, volumes: Sequence[Shown], seeds: str, *, tumour: bool) -> Path | None:
    """Figures 5 and 6: the slice with a box, and the box enlarged; None where no subject shown has a tumour."""
    places = [(shown, shown.of_tumour() if tumour else shown.without_tumour()) for shown in volumes]
    found = [(shown, place) for shown, place in places if place is not None]
    if not found:
        return None
    names = list(found[0][0].made)
    grid = _Grid(len(found), ["acquired, slice", "source", "acquired", *names])
    for row, (shown, (number, centre_row, centre_column)) in enumerate(found):
        square = shown.square(centre_row, centre_column)
        axes = grid.image(row, 0, shown.reference[number], shown)
        axes.add_patch(
            Rectangle(
                (square[1].start - 0.5, square[0].start - 0.5),
                square[1].stop - square[1].start,
                square[0].stop - square[0].start,
                fill=False,
                edgecolor=BOX,
                linewidth=1.2,
            )
        )
        stacks = [shown.source, shown.reference, *(shown.made[name] for name in names)]
        for column, stack in enumerate(stacks, start=1):
            axes = grid.image(row, column, stack[number][square], shown)
            outline = shown.lesion[number][square]
            if tumour and not outline.all():
                axes.contour(outline, [0.5], colors=BOX, linewidths=0.7)
        grid.label(row, f"{shown.subject}\n{direction_title(shown.direction)}")
    title = f"Details {'with' if tumour else 'without'} tumour, {DETAIL:.0f} mm wide"
    protocol = PROTOCOL + ("; outline: segmented disease" if tumour else "")
    return figures.save(grid.figure, path, title, protocol, _who([shown for shown, _ in found]), seeds)


@figures.styled
def differences(path: Path, volumes: Sequence[Shown], seeds: str) -> Path:
    """Synthetic minus acquired, of the slices of figure 4."""
    names = list(volumes[0].made)
    grid = _Grid(len(volumes), ["acquired", *names], bar=True)
    drawn = None
    for row, shown in enumerate(volumes):
        number = shown.middle()
        grid.image(row, 0, _cropped(shown.reference[number], shown, number), shown)
        for column, name in enumerate(names, start=1):
            difference = shown.made[name][number] - shown.reference[number]
            axes = grid.axes(row, column)
            drawn = axes.imshow(
                _cropped(difference, shown, number),
                cmap="RdBu_r",
                vmin=-LARGEST_DIFFERENCE,
                vmax=LARGEST_DIFFERENCE,
                aspect=shown.spacing[1] / shown.spacing[2],
                interpolation="nearest",
            )
        grid.label(row, f"{shown.subject}\n{direction_title(shown.direction)}")
    grid.colour_bar(drawn, "synthetic − acquired")
    return figures.save(grid.figure, path, "Difference maps", "In units of the declared scale", _who(volumes), seeds)


class _Grid:
    """Rows and columns of square images, with names above the columns and beside the rows."""

    def __init__(self, rows: int, columns: Sequence[str], *, bar: bool = False) -> None:
        self.rows, self.columns = rows, len(columns)
        self.left, self.right, self.top = 1.0, 0.75 if bar else 0.05, 0.25
        self.width = self.left + TILE * self.columns + self.right
        self.height = self.top + TILE * rows
        self.figure = figures.empty(self.width, self.height)
        for column, name in enumerate(columns):
            x = (self.left + TILE * (column + 0.5)) / self.width
            self.figure.text(x, 1 - 0.06 / self.height, name, ha="center", va="top", fontsize=9)

    def axes(self, row: int, column: int) -> Axes:
        """Empty axes of one tile."""
        gap = 0.03
        place = (
            (self.left + TILE * column + gap) / self.width,
            (self.height - self.top - TILE * (row + 1) + gap) / self.height,
            (TILE - 2 * gap) / self.width,
            (TILE - 2 * gap) / self.height,
        )
        axes = self.figure.add_axes(place)
        axes.set_axis_off()
        return axes

    def image(self, row: int, column: int, image: Image, shown: Shown) -> Axes:
        """A grey image in a tile."""
        axes = self.axes(row, column)
        axes.imshow(
            image, cmap="gray", vmin=0, vmax=1, aspect=shown.spacing[1] / shown.spacing[2], interpolation="nearest"
        )
        return axes

    def label(self, row: int, text: str) -> None:
        """Name of a row."""
        y = (self.height - self.top - TILE * (row + 0.5)) / self.height
        self.figure.text(0.06 / self.width, y, text, ha="left", va="center", fontsize=7)

    def colour_bar(self, drawn: object, label: str) -> None:
        """Scale of the last drawn map, on the right."""
        axes = self.figure.add_axes(
            (1 - 0.62 / self.width, 0.2 / self.height, 0.12 / self.width, (self.height - self.top - 0.4) / self.height)
        )
        bar = self.figure.colorbar(drawn, cax=axes)  # type: ignore[arg-type]
        bar.set_label(label, fontsize=8)
        bar.ax.tick_params(labelsize=7)


def _cropped(image: Image, shown: Shown, number: int) -> Image:
    """The slice about its brain, square in millimetres, so that all subjects are shown equally large."""
    rows, columns = np.nonzero(shown.brain[number])
    side = 1.06 * max(np.ptp(rows) * shown.spacing[1], np.ptp(columns) * shown.spacing[2])
    parts = []
    for found, axis in ((rows, 1), (columns, 2)):
        size = round(side / shown.spacing[axis]) + 1
        first = int(found.min() + found.max() + 1 - size) // 2
        total = image.shape[axis - 1]
        parts.append((first, first + size, max(0, -first), max(0, first + size - total)))
    padded = np.pad(image, [part[2:] for part in parts])
    inner = tuple(slice(part[0] + part[2], part[1] + part[2]) for part in parts)
    return padded[inner]


def _who(volumes: Sequence[Shown]) -> str:
    names = list(dict.fromkeys(shown.subject for shown in volumes))
    return f"n = {len(names)} test subject{'s' * (len(names) != 1)}: {', '.join(names)}"
