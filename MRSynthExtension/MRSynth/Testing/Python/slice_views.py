"""Slice views as 3D Slicer makes them (layout, slice logics, links), without windows: for tests of what they show."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer")

from vtk.util.numpy_support import vtk_to_numpy  # noqa: E402

STANDARD = ("Red", "Green", "Yellow")


class Views:
    """The slice views of a scene: makes a slice logic for every slice node, as the layout manager does."""

    def __init__(self, scene: Any) -> None:
        self.scene = scene
        self._color_logic = slicer.vtkMRMLColorLogic()  # without its grey table every picture is black
        self._color_logic.SetMRMLScene(scene)
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
        self._link_logic = slicer.vtkMRMLSliceLinkLogic()  # first: it sees the nodes that come after it
        self._link_logic.SetMRMLScene(scene)
        self._layout_logic = slicer.vtkMRMLLayoutLogic()
        self._layout_logic.SetMRMLScene(scene)
        self.layout = self._layout_logic.GetLayoutNode()
        self.layout.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        self._logics: dict[str, Any] = {}
        self.update()

    def update(self) -> None:
        """Give every slice node that has none its slice logic."""
        for index in range(self.scene.GetNumberOfNodesByClass("vtkMRMLSliceNode")):
            node = self.scene.GetNthNodeByClass(index, "vtkMRMLSliceNode")
            if node.GetLayoutName() not in self._logics:
                logic = slicer.vtkMRMLSliceLogic()
                logic.SetMRMLScene(self.scene)
                logic.SetSliceNode(node)
                self._logics[node.GetLayoutName()] = logic

    def logic(self, name: str) -> Any:
        self.update()
        return self._logics[name]

    def node(self, name: str) -> Any:
        return self.logic(name).GetSliceNode()

    def composite(self, name: str) -> Any:
        return self.logic(name).GetSliceCompositeNode()

    def names(self) -> list[str]:
        """All views of the scene, visible or not."""
        self.update()
        return list(self._logics)

    def show(self, background: Any, foreground: Any = None, opacity: float = 0.0) -> None:
        """Choose volumes in all views, as a user does."""
        for name in self.names():
            composite = self.composite(name)
            composite.SetBackgroundVolumeID(background.GetID() if background else None)
            composite.SetForegroundVolumeID(foreground.GetID() if foreground else None)
            composite.SetForegroundOpacity(opacity)

    def picture(self, name: str) -> np.ndarray:
        """What a view shows: red, green, blue of 0 to 255, (rows, columns, 3), the first row at the bottom."""
        logic = self.logic(name)
        algorithm = logic.GetImageDataConnection().GetProducer()
        algorithm.Update()
        image = algorithm.GetOutputDataObject(logic.GetImageDataConnection().GetIndex())
        columns, rows, _ = image.GetDimensions()
        pixels = vtk_to_numpy(image.GetPointData().GetScalars())
        return np.array(pixels.reshape(rows, columns, -1)[..., :3])

    def pixel_of(self, name: str, world: np.ndarray) -> tuple[float, float, float]:
        """(column, row, distance from the plane in pixels) of a point of the world (RAS, mm)."""
        to_xy = np.linalg.inv(slicer.util.arrayFromVTKMatrix(self.node(name).GetXYToRAS()))
        column, row, depth = (to_xy @ (*world, 1.0))[:3]
        return float(column), float(row), float(depth)


def layers(composite: Any) -> tuple[Any, ...]:
    """Everything of a composite node that a comparison could change or must not."""
    return (
        composite.GetBackgroundVolumeID(),
        composite.GetForegroundVolumeID(),
        composite.GetForegroundOpacity(),
        composite.GetLabelVolumeID(),
        composite.GetLabelOpacity(),
        composite.GetCompositing(),
        composite.GetLinkedControl(),
        composite.GetHotLinkedControl(),
    )


def geometry(node: Any) -> tuple[Any, ...]:
    """Where a slice view looks."""
    matrix = slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS())
    return (
        tuple(matrix.ravel()),
        tuple(node.GetFieldOfView()),
        tuple(node.GetXYZOrigin()),
        node.GetViewGroup(),
        node.GetOrientation(),
    )
