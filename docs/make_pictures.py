"""Make the pictures of the tutorial and of the Sample Data module, from the sample data alone.

    python docs/make_pictures.py

Slice views are what 3D Slicer's own slice pipeline makes of the scene, without a window; letters are written over them.
Panels are the shipped form and widget, drawn by the tests' stand-in for 3D Slicer's Qt application, so that fonts and
frames differ a little from 3D Slicer's.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

REPOSITORY = Path(__file__).resolve().parents[1]
MODULE = REPOSITORY / "MRSynthExtension" / "MRSynth"
sys.path[:0] = [str(MODULE / "Testing" / "Python"), str(MODULE), str(REPOSITORY / "training")]
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import slicer  # noqa: E402
import standin  # noqa: E402
from slice_views import Views  # noqa: E402

from mrsynth_training import phantom_files  # noqa: E402
from MRSynthLib.desktop import marks, samples, scoring, trust, views  # noqa: E402
from MRSynthLib.desktop.compare import ROWS, Comparison  # noqa: E402

PICTURES = REPOSITORY / "docs" / "images"
ICONS = MODULE / "Resources" / "Icons"
VIEW = (300, 330)  # pixels of a slice view: columns, rows
THUMBNAIL = (260, 280)
PANEL = 400  # pixels, its width
GAP = 4
GREY, ORANGE, BLACK = (210, 210, 210), (255, 176, 0), (0, 0, 0)
PATIENCE = 300.0  # seconds


def main() -> None:
    """Make them all, over those that are there."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MRSYNTH_MODELS"] = str(Path(folder) / "models")  # not those that this user has added
        with standin.application(Path(folder)) as app:
            panel_pictures(app)
        view_pictures()


def panel_pictures(app: Any) -> None:
    """The panel with the sample data, during a run, and with its scores."""
    panel = app.open().panel
    ui = panel.ui
    ui.helpSection.collapsed = False
    ui.sampleT1Button.click()
    ui.sampleT2Button.click()
    app.wait_until(lambda: panel.model.probe is not None, PATIENCE)
    app.grab(PICTURES / "tutorial-panel.png", PANEL)
    ui.helpSection.collapsed = True
    ui.runButton.click()
    app.wait_until(lambda: 20 < ui.progressBar.value < 90 or not panel.run.running, PATIENCE)
    app.grab(PICTURES / "tutorial-running.png", PANEL)
    app.wait_until(lambda: not panel.run.running, PATIENCE)
    ui.scoreButton.click()
    app.wait_until(lambda: not panel.compare.scoring, PATIENCE)
    app.grab(PICTURES / "tutorial-finished.png", PANEL)


def view_pictures() -> None:
    """Slice views of the sample data and of what is made of them; thumbnails of the sample data."""
    from MRSynth import MRSynthLogic

    scene = slicer.mrmlScene = slicer.vtkMRMLScene()
    shown = Views(scene)
    source, acquired = samples.load("t1"), samples.load("t2")
    for volume in (source, acquired):
        picture = view(shown, "Red", volume, size=THUMBNAIL, zoom=1.15)
        picture.save(ICONS / f"{volume.GetName()}.png", optimize=True)
    synthetic = MRSynthLogic().synthesize(source, reliability=True)
    reliability(shown, synthetic)
    scored = scoring.score(synthetic, acquired)
    side_by_side(shown, source, synthetic)
    titled = [("T1, source", source), ("", synthetic), ("T2, acquired", acquired), ("", scored.difference_node)]
    lesion(shown, titled)


def side_by_side(shown: Views, source: Any, synthetic: Any) -> None:
    """The layout of "Side by side": the source above, the result below it."""
    comparison = Comparison(shown.scene, source, synthetic)
    comparison.side_by_side(True)
    rows = []
    for row, volume in zip(zip(*ROWS, strict=True), (source, synthetic), strict=True):
        rows.append(beside([view(shown, name, volume, zoom=1.15) for name in row]))
    above(rows).save(PICTURES / "tutorial-side-by-side.png", optimize=True)
    comparison.restore()


def reliability(shown: Views, synthetic: Any) -> None:
    """The expected error over the result, in three planes through the most doubtful region, and its colours."""
    place = np.array(trust.summary_of(synthetic)["regions"][0]["centre_ras"])
    planes = [
        view(shown, name, synthetic, place=place, zoom=1.15, over=trust.map_of(synthetic))
        for name in ("Red", "Green", "Yellow")
    ]
    beside([*planes, legend(VIEW[1])]).save(PICTURES / "tutorial-reliability.png", optimize=True)


def legend(height: int) -> Image.Image:
    """The colours of the expected error, with numbers, as 3D Slicer's legend has them."""
    ramp = (255 * trust.colour_ramp()[::-1]).astype(np.uint8)
    picture = Image.new("RGB", (110, height), BLACK)
    draw = ImageDraw.Draw(picture)
    top, bottom = 60, height - 40
    picture.paste(Image.fromarray(ramp[:, None]).resize((22, bottom - top)), (14, top))
    font = ImageFont.truetype("DejaVuSans-Bold.ttf", 13)
    draw.text((10, 8), "expected\nerror of 1000", font=font, fill=GREY)
    for value in range(0, trust.WINDOW + 1, 100):
        draw.text((44, bottom - (bottom - top) * value / trust.WINDOW), str(value), font=font, fill=GREY, anchor="lm")
    return picture


def lesion(shown: Views, volumes: list[tuple[str, Any]]) -> None:
    """The largest lesion of the phantom in every volume, in the axial plane; marked volumes need no title."""
    place = largest_lesion()
    pictures = [view(shown, "Red", volume, place=place, zoom=1.8, title=title) for title, volume in volumes]
    beside(pictures).save(PICTURES / "tutorial-lesion.png", optimize=True)


def largest_lesion() -> np.ndarray:
    """Middle of the largest lesion of the sample data, RAS mm."""
    lesions = phantom_files.sample().lesions
    labels, _count = ndimage.label(lesions.voxels)
    k, j, i = ndimage.center_of_mass(labels == np.argmax(np.bincount(labels.ravel())[1:]) + 1)
    return (lesions.ijk_to_ras @ (i, j, k, 1.0))[:3]


def view(
    shown: Views,
    name: str,
    volume: Any,
    *,
    size: tuple[int, int] = VIEW,
    place: np.ndarray | None = None,
    zoom: float = 1.0,
    title: str = "",
    over: Any = None,
) -> Image.Image:
    """A slice view that shows one volume, with its mark; at a place (RAS, mm), which an arrow points at.

    `over` is a map that lies over it, half transparent.
    """
    node, composite = shown.node(name), shown.composite(name)
    node.SetDimensions(*size, 1)
    composite.SetBackgroundVolumeID(volume.GetID())
    composite.SetForegroundVolumeID(over.GetID() if over is not None else None)
    composite.SetForegroundOpacity(0.5 if over is not None else 0.0)
    views.fit(node, volume)
    if place is not None:
        node.JumpSliceByCentering(*place)
    width, height, depth = node.GetFieldOfView()
    node.SetFieldOfView(width / zoom, height / zoom, depth)
    node.UpdateMatrices()
    picture = Image.fromarray(np.ascontiguousarray(shown.picture(name)[::-1]))
    draw = ImageDraw.Draw(picture)
    font = ImageFont.truetype("DejaVuSans-Bold.ttf", 15)
    mark = marks.shown_synthetic(composite)
    if mark:
        draw.text((size[0] - 8, 8), mark, font=font, fill=ORANGE, anchor="ra")
    if title:
        draw.text((8, 8), title, font=font, fill=GREY, stroke_width=1, stroke_fill=BLACK)
    if place is not None:
        column, row, _depth = shown.pixel_of(name, place)
        point_at(draw, column, size[1] - 1 - row)
    return picture


def point_at(draw: ImageDraw.ImageDraw, x: float, y: float) -> None:
    """An arrow from the lower right that ends a little before a pixel."""
    draw.line([x + 14, y + 14, x + 40, y + 40], fill=ORANGE, width=3)
    draw.polygon([(x + 10, y + 10), (x + 23, y + 13), (x + 13, y + 23)], fill=ORANGE)


def beside(pictures: list[Image.Image]) -> Image.Image:
    """Pictures in a row."""
    return _joined(pictures, axis=1)


def above(pictures: list[Image.Image]) -> Image.Image:
    """Pictures in a column."""
    return _joined(pictures, axis=0)


def _joined(pictures: list[Image.Image], axis: int) -> Image.Image:
    arrays = [np.asarray(picture) for picture in pictures]
    shape = list(arrays[0].shape)
    shape[axis] = GAP
    line = np.full(shape, 90, dtype=np.uint8)
    return Image.fromarray(np.concatenate([part for a in arrays for part in (line, a)][1:], axis=axis))


if __name__ == "__main__":
    main()
