"""What slice views show of a source and of its result: sides, orientation and voxels, by Slicer's own slice pipeline.

No OpenGL: a slice logic's picture is an image. The sides are those of 3D Slicer's presets: as in radiology, the
patient's left is on the right of axial and coronal views; in sagittal views the front is on the left.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("slicer")

import slicer
from mrml_scenes import SHEAR, add_linear, rotation, synthesize, world
from mrml_scenes import scene as scene
from slice_views import Views

from MRSynth import MRSynthLogic
from MRSynthLib.desktop import mrml
from MRSynthLib.desktop.compare import Comparison
from MRSynthLib.engine.volume import Volume

SHAPE = (34, 30, 36)  # k, j, i; about 3 mm each
BODY = 150
# Where each marked ball lies (RAS, mm), and its brightness.
BALLS = {
    "left": ((-22, 0, 0), 900),
    "right": ((22, 0, 0), 780),
    "anterior": ((0, 22, 0), 660),
    "posterior": ((0, -22, 0), 540),
    "superior": ((0, 0, 22), 420),
    "inferior": ((0, 0, -22), 300),
}
# View: which ball is where on the screen.
SCREEN = {
    "Red": {"right": "left", "left": "right", "up": "anterior", "down": "posterior"},
    "Green": {"right": "left", "left": "right", "up": "superior", "down": "inferior"},
    "Yellow": {"left": "anterior", "right": "posterior", "up": "superior", "down": "inferior"},
}
DIRECTIONS = {"right": (1, 0), "left": (-1, 0), "up": (0, 1), "down": (0, -1)}


def centred(directions: np.ndarray) -> np.ndarray:
    """An affine with the middle of the grid at the origin of the world."""
    affine = np.array(directions, dtype=float)
    affine[:3, 3] = -(affine[:3, :3] @ [(n - 1) / 2 for n in reversed(SHAPE)])
    return affine


def along(*axes: int) -> np.ndarray:
    """Voxel axes i, j, k that run along these axes of the patient: 1 right, 2 anterior, 3 superior; negative: back."""
    matrix = np.zeros((4, 4))
    matrix[3, 3] = 1
    for column, axis in enumerate(axes):
        matrix[abs(axis) - 1, column] = 3.0 * np.sign(axis)
    return matrix


ORIENTATIONS = {
    "RAS": along(1, 2, 3),
    "LPS": along(-1, -2, 3),
    "LAS, left-handed": along(-1, 2, 3),
    "sagittal": along(2, 3, 1),
    "coronal, left-handed": along(-1, -3, -2),
    "oblique": rotation(14, 0) @ rotation(-11, 2) @ along(-1, -2, 3),
    "oblique, left-handed": rotation(-17, 1) @ rotation(9, 0) @ along(1, -2, 3),
    "gantry tilt": SHEAR @ along(-1, -2, 3),
}


def marked_volume(directions: np.ndarray) -> Volume:
    """A round body with six balls of different brightness, sampled on a grid of this orientation."""
    affine = centred(directions)
    k, j, i = np.indices(SHAPE)
    positions = np.stack([i, j, k], axis=-1) @ affine[:3, :3].T + affine[:3, 3]
    voxels = np.where(np.linalg.norm(positions, axis=-1) < 38, BODY, 0)
    for place, brightness in BALLS.values():
        voxels[np.linalg.norm(positions - place, axis=-1) < 9] = brightness
    return Volume(voxels.astype(np.int16), affine, name="marked")


def add_marked(scene: Any, directions: np.ndarray) -> Any:
    node = scene.AddNode(mrml.node_from_volume(marked_volume(directions)))
    show_exactly(node)
    return node


def show_exactly(node: Any) -> None:
    """Grey values that tell the voxel: no automatic window, no interpolation."""
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0, 1000)
    display.InterpolateOff()


def picture(views: Views, name: str) -> np.ndarray:
    """Brightness 0 to 1000 as a view shows it, (rows, columns), the first row at the bottom."""
    return views.picture(name)[..., 0] * (1000 / 255)


def place_of(shown: np.ndarray, brightness: float) -> np.ndarray:
    """Middle of what is this bright, (x to the right, y up), from the middle of the picture."""
    rows, columns = np.nonzero(np.abs(shown - brightness) < 20)
    assert rows.size > 50
    return np.array([columns.mean(), rows.mean()]) - (np.array(shown.shape[::-1]) - 1) / 2


@pytest.mark.parametrize("directions", ORIENTATIONS.values(), ids=ORIENTATIONS)
@pytest.mark.parametrize("fade", [0, 1], ids=["source", "result"])
def test_sides_are_right_in_every_view(scene: Any, directions: np.ndarray, fade: int) -> None:
    views = Views(scene)
    source = add_marked(scene, directions)
    result = synthesize(source)  # 1000 - source
    show_exactly(result)
    comparison = Comparison(scene, source, result)
    comparison.show()
    comparison.fade(fade)
    for name, sides in SCREEN.items():
        shown = picture(views, name)
        for side, ball in sides.items():
            brightness = BALLS[ball][1]
            x, y = place_of(shown, 1000 - brightness if fade else brightness)
            to_the_side = np.dot((x, y), DIRECTIONS[side])
            assert to_the_side > 20, (name, ball, x, y)
            assert np.hypot(x, y) < 1.3 * to_the_side, (name, ball, x, y)


@pytest.mark.parametrize("directions", ORIENTATIONS.values(), ids=ORIENTATIONS)
@pytest.mark.parametrize("moved", [False, True], ids=["", "under a transform"])
def test_the_results_picture_lies_exactly_on_the_sources(scene: Any, directions: np.ndarray, moved: bool) -> None:
    views = Views(scene)
    source = add_marked(scene, directions)
    if moved:
        source.SetAndObserveTransformNodeID(add_linear(scene, rotation(12, 1)).GetID())
    result = synthesize(source)
    show_exactly(result)
    comparison = Comparison(scene, source, result)
    comparison.show()
    for name in SCREEN:
        of_result = picture(views, name)
        comparison.fade(0)
        of_source = picture(views, name)
        comparison.fade(1)
        inside = of_source > BODY / 2
        assert inside.mean() > 0.15
        assert np.abs(of_result + of_source - 1000)[inside].max() <= 8  # two roundings to 255 levels


@pytest.mark.parametrize("directions", ORIENTATIONS.values(), ids=ORIENTATIONS)
@pytest.mark.parametrize("ijk", [(17, 14, 16), (9, 20, 12), (25, 8, 22)], ids=str)
def test_a_point_of_the_view_shows_the_voxel_that_lies_there(
    scene: Any, directions: np.ndarray, ijk: tuple[int, int, int]
) -> None:
    views = Views(scene)
    result = synthesize(add_marked(scene, directions))
    show_exactly(result)
    voxels = slicer.util.arrayFromVolume(result)
    voxels[:] = 100
    voxels[ijk[::-1]] = 600
    result.GetImageData().Modified()
    views.show(result)
    position = world(result, ijk)
    for name in SCREEN:
        views.logic(name).FitSliceToAll()
        normal = slicer.util.arrayFromVTKMatrix(views.node(name).GetSliceToRAS())[:3, 2]
        views.node(name).SetSliceOffset(float(np.dot(position, normal)))
        shown = picture(views, name)
        column, row, depth = views.pixel_of(name, position)
        assert abs(depth) < 1e-6
        assert shown[round(row), round(column)] == pytest.approx(600, abs=4)
        bright = np.argwhere(shown > 300)  # and nowhere else: within a voxel of the point
        pixels_per_mm = views.node(name).GetDimensions()[0] / views.node(name).GetFieldOfView()[0]
        assert np.abs(bright - [row, column]).max() < 6 * pixels_per_mm


@pytest.mark.parametrize("name", SCREEN)
def test_side_by_side_both_rows_show_the_same_place(scene: Any, name: str) -> None:
    views = Views(scene)
    source = add_marked(scene, ORIENTATIONS["oblique, left-handed"])
    result = synthesize(source)
    show_exactly(result)
    Comparison(scene, source, result).side_by_side(True)
    views.update()
    above, below = picture(views, name), picture(views, f"{name}+")
    inside = above > BODY / 2
    assert inside.mean() > 0.15
    assert np.abs(above + below - 1000)[inside].max() <= 8


@pytest.mark.parametrize("orientation", ["oblique, left-handed"])
def test_the_generators_own_result_has_the_sources_outline(scene: Any, tiny_checkpoint: Path, orientation: str) -> None:
    """Through the real child process and a real network: background stays 0, so the outline must be the source's."""
    views = Views(scene)
    volume = marked_volume(ORIENTATIONS[orientation])
    k, j, i = np.indices(SHAPE)
    positions = np.stack([i, j, k], axis=-1) @ volume.ijk_to_ras[:3, :3].T + volume.ijk_to_ras[:3, 3]
    outline = volume.voxels > 0  # lopsided in every direction
    for axis, sign, depth in ((0, 1, 12), (1, -1, 18), (2, 1, 24)):
        outline &= sign * positions[..., axis] < depth
    noise = np.random.default_rng(2).integers(0, 40, SHAPE)
    source = scene.AddNode(
        mrml.node_from_volume(volume.replaced(np.where(outline, volume.voxels + noise, 0).astype(np.int16)))
    )
    result = MRSynthLogic().synthesize(source, target="t2", model=str(tiny_checkpoint), device="cpu")
    for node in (source, result):
        show_exactly(node)
        node.GetDisplayNode().SetWindowLevelMinMax(0, 1)
    comparison = Comparison(scene, source, result)
    comparison.show()
    for name in SCREEN:
        of_result = picture(views, name) > 0
        comparison.fade(0)
        of_source = picture(views, name) > 0
        comparison.fade(1)
        assert of_result.any()
        assert not (of_result & ~of_source).any()
        np.testing.assert_array_equal(of_result, of_source)
        for mirrored in (of_source[::-1], of_source[:, ::-1]):
            assert np.mean(mirrored != of_source) > 0.03  # a mirrored result would be seen
