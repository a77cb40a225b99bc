"""Scenes, volumes, transforms and a stand-in for the child process, for the tests of the MRML side."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer")
vtk = pytest.importorskip("vtk")

from MRSynth import MRSynthLogic  # noqa: E402
from MRSynthLib.desktop import mrml  # noqa: E402
from MRSynthLib.desktop.runner import RunResult  # noqa: E402
from MRSynthLib.engine.volume import Volume  # noqa: E402

SHAPE = (6, 7, 8)  # k, j, i

INFO: dict[str, Any] = {
    "source_contrast": "t1",
    "target_contrast": "t2",
    "contrast_reason": "white matter is brighter than grey matter",
    "device": "cpu",
    "precision": "fp32",
    "device_reason": "no GPU was found",
    "seconds": 1.25,
    "warnings": [],
    "checkpoint_name": "tiny-untrained",
    "checkpoint_sha256": "ab" * 32,
    "description": "SYNTHETIC T2w from T1w, MRSynth 0.1.0 tiny-untrained abababababab",
}


def rotation(degrees: float, axis: int) -> np.ndarray:
    angle = math.radians(degrees)
    a, b = [n for n in range(3) if n != axis]
    matrix = np.eye(4)
    matrix[[a, a, b, b], [a, b, a, b]] = math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)
    return matrix


def placed(directions: np.ndarray) -> np.ndarray:
    affine = np.array(directions, dtype=np.float64)
    affine[:3, 3] = -31.5, 12.25, 80.0
    return affine


SHEAR = np.eye(4)
SHEAR[1, 2] = 0.3
AFFINES = {
    "axial": placed(np.diag([1.0, 1.0, 1.0, 1.0])),
    "anisotropic": placed(np.diag([0.5, 0.5, 6.0, 1.0])),
    "left-handed": placed(np.diag([-1.0, 1.0, 1.2, 1.0])),
    "sagittal": placed(np.diag([1.0, 0.9, 0.8, 1.0])[:, [2, 0, 1, 3]]),
    "oblique": placed(rotation(17, 0) @ rotation(-8, 2) @ np.diag([0.9, 1.1, 3.0, 1.0])),
    "gantry tilt": placed(rotation(5, 1) @ SHEAR @ np.diag([1.0, 1.0, 2.0, 1.0])),
}


@pytest.fixture
def scene() -> Iterator[Any]:
    scene = slicer.vtkMRMLScene()
    before, slicer.mrmlScene = getattr(slicer, "mrmlScene", None), scene
    yield scene
    scene.Clear(True)
    slicer.mrmlScene = before


def add_volume(scene: Any, name: str = "MRHead", affine: np.ndarray = AFFINES["oblique"]) -> Any:
    voxels = np.random.default_rng(5).integers(0, 900, SHAPE).astype(np.int16)
    node = scene.AddNode(mrml.node_from_volume(Volume(voxels=voxels, ijk_to_ras=affine, name=name)))
    node.CreateDefaultDisplayNodes()
    return node


def add_result(scene: Any, name: str) -> Any:
    """A volume that an earlier run has made: what a later one may overwrite."""
    node = add_volume(scene, name)
    node.SetAttribute("MRSynth.Synthetic", "1")
    return node


def add_linear(scene: Any, matrix: np.ndarray) -> Any:
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    return transform


def add_warp(scene: Any) -> Any:
    """A transform that no matrix can hold: a thin-plate spline that bends the volume by some millimetres."""
    points, moved = vtk.vtkPoints(), vtk.vtkPoints()
    for corner in np.ndindex(2, 2, 2):
        x, y, z = (np.array(corner) * 40.0) + (-40.0, 0.0, 70.0)
        points.InsertNextPoint(x, y, z)
        moved.InsertNextPoint(x + 3.0 * corner[1], y - 2.0 * corner[0] * corner[2], z + 2.5 * corner[0])
    spline = vtk.vtkThinPlateSplineTransform()
    spline.SetBasisToR()
    spline.SetSourceLandmarks(points)
    spline.SetTargetLandmarks(moved)
    transform = scene.AddNewNodeByClass("vtkMRMLTransformNode")
    transform.SetAndObserveTransformToParent(spline)
    assert not transform.IsLinear()
    return transform


def calculated(volume: Volume, **options: Any) -> RunResult:
    """Stand in for the child process: the negative of the input, so that every voxel is known."""
    voxels = (1000 - volume.voxels).astype(np.int16)
    return RunResult(
        voxels=voxels,
        info={**INFO, "target_contrast": options["target"] or "t2"},
        cycle=np.full_like(voxels, 7) if options["cycle"] else None,
    )


class InProcess:
    """Stands in for `WorkerRun`: a function gives the result, in this process, when the run is polled."""

    def __init__(self, calculate: Callable[..., RunResult], volume: Volume, options: dict[str, Any]) -> None:
        self._calculate, self._volume, self._options = calculate, volume, options
        self._outcome: RunResult | Exception | None = None

    def start(self) -> None:
        pass

    def poll(self, timeout: float = 0.0) -> bool:
        try:
            self._outcome = self._calculate(self._volume, **self._options)
        except Exception as error:
            self._outcome = error
        return True

    def cancel(self) -> None:
        pass

    def result(self) -> RunResult:
        if isinstance(self._outcome, RunResult):
            return self._outcome
        assert self._outcome is not None
        raise self._outcome


def in_process(calculate: Callable[..., RunResult]) -> Callable[..., InProcess]:
    """Make a worker for `MRSynthLogic` out of a function like `calculated`."""

    def worker(volume: Volume, *, on_progress: object, **options: Any) -> InProcess:
        return InProcess(calculate, volume, options)

    return worker


def synthesize(node: Any, **arguments: Any) -> Any:
    return MRSynthLogic(worker=in_process(calculated)).synthesize(node, **arguments)


def world(node: Any, ijk: tuple[int, int, int]) -> np.ndarray:
    """World position (RAS, mm) of a voxel, through the node's parent transform."""
    ras = mrml.ijk_to_ras(node) @ (*ijk, 1.0)
    moved = [0.0, 0.0, 0.0]
    node.TransformPointToWorld(ras[:3], moved)
    return np.array(moved)


def snapshot(scene: Any) -> dict[str, Any]:
    """Everything of the scene that a user could miss if it changed."""
    kept = {}
    for index in range(scene.GetNumberOfNodes()):
        node = scene.GetNthNode(index)
        if node.IsA("vtkMRMLTransformableNode"):
            node.GetTransformNodeID()  # the first such call by anyone moves the node's own modification time
        voxels = None
        if node.IsA("vtkMRMLVolumeNode") and node.GetImageData():
            voxels = slicer.util.arrayFromVolume(node).tobytes()
        kept[node.GetID()] = (node.GetMTime(), node.GetName(), voxels)
    return kept
