"""Slice views and layout manager: real slice nodes, composite nodes and slice logics; nothing is rendered.

The corner annotation of a view is a real vtkCornerAnnotation, so that a test can read what stands there.
"""
# ruff: noqa: N801, N802, N815 (the names are those of Qt and 3D Slicer)

from __future__ import annotations

from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property

from . import signals
from .stored import stored

__all__ = ["MRML_WIDGETS", "SLICE_VIEWS", "qMRMLWidget", "qSlicerLayoutManager"]

SLICE_VIEWS = {"Red": "Axial", "Yellow": "Sagittal", "Green": "Coronal"}


class qMRMLWidget(QtWidgets.QWidget):
    """Widget that knows a scene and tells others."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._scene: Any = None

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self._scene:
            self._scene = scene
            signals.emit(self, "mrmlSceneChanged(vtkMRMLScene*)", scene)


class ctkVTKAbstractView(QtWidgets.QWidget):
    """View whose rendering is only counted."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._annotation = vtk.vtkCornerAnnotation()
        self.renders = 0

    def cornerAnnotation(self) -> Any:
        return self._annotation

    def scheduleRender(self) -> None:
        self.renders += 1

    def forceRender(self) -> None:
        self.renders += 1

    def setCornerAnnotationText(self, text: str) -> None:
        self._annotation.ClearAllTexts()
        self._annotation.SetText(1, text)

    cornerAnnotationText = Property(str, lambda self: self._annotation.GetText(1) or "", setCornerAnnotationText)
    renderEnabled = stored(bool, "renderEnabled", True)


class ctkVTKSliceView(ctkVTKAbstractView):
    """View of a slice; its render window has the picture's renderer and one over it, and never opens."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._window = vtk.vtkGenericOpenGLRenderWindow()
        self._window.SetNumberOfLayers(2)
        for layer in range(2):
            renderer = vtk.vtkRenderer()
            renderer.SetLayer(layer)
            self._window.AddRenderer(renderer)

    def renderWindow(self) -> Any:
        return self._window


class qMRMLSliceView(ctkVTKSliceView):
    """View of a slice of MRML."""

    _slice_node: Any = None

    def mrmlSliceNode(self) -> Any:
        return self._slice_node


class qMRMLSliceControllerWidget(QtWidgets.QWidget):
    """Bar above a slice view."""

    _widget: Any = None

    def mrmlSliceNode(self) -> Any:
        return self._widget.mrmlSliceNode()

    def sliceLogic(self) -> Any:
        return self._widget.sliceLogic()

    def setSliceLink(self, linked: bool) -> None:
        for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            composite.SetLinkedControl(linked)

    def fitSliceToBackground(self) -> None:
        self._widget.fitSliceToBackground()


class qMRMLSliceWidget(QtWidgets.QWidget):
    """Slice view with its bar, around a real vtkMRMLSliceLogic."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._logic: Any = None
        self._view = qMRMLSliceView(self)
        self._controller = qMRMLSliceControllerWidget(self)
        self._controller._widget = self

    def sliceView(self) -> Any:
        self._view._slice_node = self.mrmlSliceNode()
        return self._view

    def sliceController(self) -> Any:
        return self._controller

    def sliceLogic(self) -> Any:
        return self._logic

    def mrmlSliceNode(self) -> Any:
        return self._logic.GetSliceNode()

    def mrmlSliceCompositeNode(self) -> Any:
        return self._logic.GetSliceCompositeNode()

    def fitSliceToBackground(self) -> None:
        self._logic.FitSliceToBackground()

    sliceViewName = Property(str, lambda self: self._logic.GetSliceNode().GetName())
    sliceOrientation = Property(
        str,
        lambda self: self._logic.GetSliceNode().GetOrientation(),
        lambda self, name: self._logic.GetSliceNode().SetOrientation(name),
    )


class ctkLayoutFactory(QtCore.QObject):
    """Base of the layout manager."""


class qMRMLLayoutManager(ctkLayoutFactory):
    """Makes the slice views of every layout, by the real layout and link logics; there are no other views."""

    def __init__(self, scene: Any, application_logic: Any) -> None:
        super().__init__()
        self._scene = scene
        self._application_logic = application_logic
        self._logics = vtk.vtkCollection()
        self._widgets: dict[str, qMRMLSliceWidget] = {}
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
        self._link_logic = slicer.vtkMRMLSliceLinkLogic()
        self._link_logic.SetMRMLScene(scene)
        for name in SLICE_VIEWS:
            self._add_view(name)
        self._layout_logic = slicer.vtkMRMLLayoutLogic()
        self._layout_logic.SetMRMLScene(scene)
        self._layout_node = self._layout_logic.GetLayoutNode()
        self._layout_node.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        self._layout_node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: self._add_new_views())
        application_logic.SetSliceLogics(self._logics)

    def _add_view(self, name: str) -> None:
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLApplicationLogic(self._application_logic)
        logic.SetMRMLScene(self._scene)
        node = self._scene.GetNodeByID(f"vtkMRMLSliceNode{name}")
        if node is None:
            node = logic.AddSliceNode(name)
            node.SetLayoutLabel(name[0])
            node.SetOrientation(SLICE_VIEWS[name])
            node.SetMappedInLayout(1)
        else:
            logic.SetSliceNode(node)
        self._logics.AddItem(logic)
        self._widgets[name] = qMRMLSliceWidget()
        self._widgets[name]._logic = logic

    def _add_new_views(self) -> None:
        for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
            if node.GetLayoutName() not in self._widgets:
                self._add_view(node.GetLayoutName())

    def sliceViewNames(self) -> list[str]:
        return list(self._widgets)

    def sliceWidget(self, name: str) -> Any:
        return self._widgets.get(name)

    def mrmlSliceLogics(self) -> Any:
        return self._logics

    def mrmlScene(self) -> Any:
        return self._scene

    def resetSliceViews(self) -> None:
        for widget in self._widgets.values():
            widget.fitSliceToBackground()

    def resetThreeDViews(self) -> None:
        return

    def setLayout(self, layout: int) -> None:
        self._layout_node.SetViewArrangement(layout)
        signals.emit(self, "layoutChanged(int)", layout)

    layout = Property(int, lambda self: self._layout_node.GetViewArrangement(), setLayout)
    threeDViewCount = Property(int, lambda self: 0)
    tableViewCount = Property(int, lambda self: 0)
    plotViewCount = Property(int, lambda self: 0)


class qSlicerLayoutManager(qMRMLLayoutManager):
    """The layout manager of the application."""


MRML_WIDGETS = {
    widget.__name__: widget
    for widget in (qMRMLWidget, qMRMLSliceWidget, qMRMLSliceView, qMRMLSliceControllerWidget, qSlicerLayoutManager)
}
