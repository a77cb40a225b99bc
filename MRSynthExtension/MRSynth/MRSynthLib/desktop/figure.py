"""One picture of a result: source, synthetic volume and cycle difference, each axial, coronal and sagittal.

Slices are sampled in millimetres of patient space, whatever the volume's own orientation, so that proportions
and sides are right: as in radiology, the patient's right is on the left, and the front is on the left in
sagittal views.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from MRSynthLib.engine.volume import Volume
from MRSynthLib.engine.writing import write_aside

STEP = 0.5  # mm per pixel
MARGIN = 6.0  # mm around the head
VERTEX_TO_VENTRICLES = 75.0  # mm; where the head continues into the neck its middle is not the brain's
OFF_MIDLINE = 10.0  # mm; between the hemispheres there is little brain to see
STAMP = "#ffb000"  # of everything that marks a volume as synthetic


@dataclass(frozen=True)
class View:
    """A plane of patient space; axes are 0 (R-L), 1 (A-P), 2 (S-I), and the image runs down along both."""

    name: str
    column: int
    row: int
    edges: str  # left, right, top, bottom

    @property
    def normal(self) -> int:
        """The axis that the plane is perpendicular to."""
        return 3 - self.column - self.row


VIEWS = (
    View("axial", column=0, row=1, edges="RLAP"),
    View("coronal", column=0, row=2, edges="RLSI"),
    View("sagittal", column=1, row=2, edges="APSI"),
)


@dataclass(frozen=True)
class Panel:
    """A row of the picture: a volume, what it is, and the window that all three views share."""

    volume: Volume
    title: str
    maximum: float
    synthetic: bool = False
    colours: str = "gray"


def head_box(volume: Volume) -> NDArray[np.float64]:
    """Return the box around all voxels above 0, shape (2, 3): lowest and highest R, A, S in mm.

    The whole grid where nothing is above 0.
    """
    above = volume.voxels > 0
    if not above.any():
        above = np.ones(volume.shape, dtype=bool)
    ends = []
    for axis in (2, 1, 0):  # i, j, k
        others = tuple(n for n in range(3) if n != axis)
        indices = np.flatnonzero(above.any(axis=others))
        ends.append((indices[0], indices[-1]))
    corners = np.array([(i, j, k, 1) for i in ends[0] for j in ends[1] for k in ends[2]], dtype=np.float64)
    positions = corners @ volume.ijk_to_ras.T
    return np.array([positions[:, :3].min(axis=0), positions[:, :3].max(axis=0)])


def centre(box: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where the three views cross, (R, A, S) in mm: about the right lateral ventricle."""
    middle: NDArray[np.float64] = box.mean(axis=0)
    middle[0] += OFF_MIDLINE
    middle[2] = max(middle[2], box[1, 2] - VERTEX_TO_VENTRICLES)
    return middle


def sample(volume: Volume, view: View, position: NDArray[np.float64], box: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cut a plane out of a volume, by linear interpolation; 0 outside.

    Parameters
    ----------
    position : ndarray, shape (3,)
        A point of the plane, (R, A, S) in mm.
    box : ndarray, shape (2, 3)
        What to show, in mm.

    Returns
    -------
    ndarray, shape (rows, columns)
        `STEP` mm per pixel in both directions; the first pixel is the highest along both axes of the view.
    """
    from scipy.ndimage import map_coordinates

    columns = np.arange(box[1, view.column], box[0, view.column], -STEP)
    rows = np.arange(box[1, view.row], box[0, view.row], -STEP)
    points = np.empty((3, len(rows), len(columns)))
    points[view.normal] = position[view.normal]
    points[view.column] = columns
    points[view.row] = rows[:, None]
    to_ijk = np.linalg.inv(volume.ijk_to_ras)
    ijk = np.einsum("ab,brc->arc", to_ijk[:3, :3], points) + to_ijk[:3, 3, None, None]
    voxels = np.asarray(volume.voxels, dtype=np.float32)
    return np.asarray(map_coordinates(voxels, ijk[::-1], order=1, cval=0.0), dtype=np.float64)


def draw(panels: Sequence[Panel], path: str | os.PathLike[str], title: str, notes: Sequence[str]) -> None:
    """Draw one row of views per panel and save it as PNG.

    Parameters
    ----------
    panels : sequence of Panel
        The first one decides what part of space is shown.
    path : path
        Written aside and renamed.
    title : str
        Stands above.
    notes : sequence of str
        Stand below, one per line.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    box = head_box(panels[0].volume)
    position = centre(box)
    shown = box + np.array([[-MARGIN], [MARGIN]])
    size = shown[1] - shown[0]
    widths = [size[view.column] for view in VIEWS]
    height = max(size[view.row] for view in VIEWS)
    scale = 10.0 / sum(widths)  # inches per mm
    head, foot, left, right = 0.75, 0.35 + 0.22 * len(notes), 0.15, 1.0  # inches
    total = (left + 10.0 + right, head + foot + scale * height * len(panels))
    figure = Figure(figsize=total, facecolor="black")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        len(panels),
        3,
        width_ratios=widths,
        left=left / total[0],
        right=1 - right / total[0],
        top=1 - head / total[1],
        bottom=foot / total[1],
        wspace=0.02,
        hspace=0.1,
    )
    for number, panel in enumerate(panels):
        for index, view in enumerate(VIEWS):
            axes = figure.add_subplot(grid[number, index])
            image = _draw_view(axes, panel, view, position, shown)
            if index == 0:
                axes.set_title(panel.title, color=STAMP if panel.synthetic else "white", loc="left", fontsize=11)
        bar_axes = axes.inset_axes((1.03, 0.1, 0.04, 0.8))
        bar = figure.colorbar(image, cax=bar_axes)
        bar.ax.tick_params(colors="white", labelsize=8)
    figure.text(left / total[0], 1 - 0.28 / total[1], title, color="white", fontsize=14, va="center")
    for line, note in enumerate(notes):
        y = (foot - 0.3 - 0.22 * line) / total[1]
        figure.text(left / total[0], y, note, color=STAMP if line == 0 else "#c0c0c0", fontsize=9.5)
    with write_aside(path) as aside:
        figure.savefig(aside, format="png", dpi=110, facecolor="black")


def _draw_view(axes: Any, panel: Panel, view: View, position: NDArray[np.float64], box: NDArray[np.float64]) -> Any:
    pixels = sample(panel.volume, view, position, box)
    image = axes.imshow(
        pixels,
        cmap=panel.colours,
        vmin=0,
        vmax=panel.maximum,
        extent=(0, pixels.shape[1] * STEP, pixels.shape[0] * STEP, 0),  # mm
        interpolation="nearest",
        aspect="equal",
    )
    axes.set_axis_off()
    write = functools.partial(axes.text, transform=axes.transAxes)
    for letter, (x, y) in zip(view.edges, ((0.02, 0.5), (0.98, 0.5), (0.5, 0.98), (0.5, 0.02)), strict=True):
        axes.text(x, y, letter, color="#7fd4ff", fontsize=9, ha="center", va="center", transform=axes.transAxes)
    place = f"{view.name}  {'RAS'[view.normal]} {position[view.normal]:+.0f} mm"
    axes.text(0.98, 0.98, place, color="#c0c0c0", fontsize=7.5, ha="right", va="top", transform=axes.transAxes)
    if panel.synthetic:
        write(0.02, 0.02, "SYNTHETIC", color=STAMP, fontsize=9, weight="bold")
    return image
