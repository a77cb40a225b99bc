"""How 3D Slicer finds, loads and shows a scripted module: `<Name>.py` with the classes Name and NameWidget."""
# ruff: noqa: N801, N802, N815 (the names are those of Qt and 3D Slicer)

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property

from . import signals
from .pythonqt import proxy
from .stored import stored
from .views import qMRMLWidget

__all__ = [
    "LOADED",
    "LOADING_CLASSES",
    "load_module",
    "qSlicerScriptedLoadableModule",
    "qSlicerScriptedLoadableModuleWidget",
]

LOADED: set[str] = set()  # names of the modules that were loaded since the application started


def load_source(name: str, path: Path) -> Any:
    """Execute a module's file as a fresh module under its name."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def load_module(path: Path, manager: Any) -> Any:
    """Load a scripted module into the application; `slicer.modules` knows it afterwards.

    Raises
    ------
    AttributeError
        When the file has no class of its own name.
    """
    name = path.stem
    LOADED.add(name)
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    source = load_source(name, path)
    module = qSlicerScriptedLoadableModule(manager, path, source)
    manager.modules[name] = module
    setattr(slicer.modules, name.lower(), proxy(module))
    setattr(slicer.moduleNames, name, name)
    setattr(slicer.modules, f"{name}Instance", getattr(source, name)(proxy(module)))
    signals.emit(manager, "moduleLoaded(QString)", name)
    return module


class qSlicerAbstractCoreModule(QtCore.QObject):
    """A module of the application."""

    name = stored(str, "name", "")
    path = stored(str, "path", "")
    title = stored(str, "title", "")
    categories = stored("QStringList", "categories", [])
    contributors = stored("QStringList", "contributors", [])
    dependencies = stored("QStringList", "dependencies", [])
    associatedNodeTypes = stored("QStringList", "associatedNodeTypes", [])
    helpText = stored(str, "helpText", "")
    acknowledgementText = stored(str, "acknowledgementText", "")
    hidden = stored(bool, "hidden", False)
    index = stored(int, "index", -1)
    widgetRepresentationCreationEnabled = stored(bool, "widgetRepresentationCreationEnabled", True)
    isInstalled = Property(bool, lambda self: True)
    isBuiltIn = Property(bool, lambda self: False)


class qSlicerAbstractModule(qSlicerAbstractCoreModule):
    """A module with a panel."""

    icon = stored(QtGui.QIcon, "icon", QtGui.QIcon())
    logo = stored(QtGui.QImage, "logo", QtGui.QImage())


class qSlicerScriptedLoadableModule(qSlicerAbstractModule):
    """A module written in Python."""

    extensions = stored("QVariantMap", "extensions", {})

    def __init__(self, parent: Any, path: Path, source: Any) -> None:
        super().__init__(parent)
        self.name = path.stem
        self.path = str(path)
        self.widgetRepresentationCreationEnabled = hasattr(source, f"{path.stem}Widget")
        self._widget: Any = None
        self._logic = slicer.vtkSlicerScriptedLoadableModuleLogic()

    def widgetRepresentation(self) -> Any:
        if self._widget is None and self.widgetRepresentationCreationEnabled:
            self._widget = qSlicerScriptedLoadableModuleWidget(self)
            self._widget.setMRMLScene(slicer.mrmlScene)
            self._widget.reload()
        return self._widget

    def logic(self) -> Any:
        return self._logic


class qSlicerWidget(qMRMLWidget):
    """Widget of the application that knows the scene."""


class qSlicerAbstractModuleWidget(qSlicerWidget):
    """Panel of a module."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self._module = module
        self._entered = False
        QtWidgets.QVBoxLayout(self)

    def module(self) -> Any:
        return self._module

    def setEditedNode(self, node: Any, role: str = "", context: str = "") -> bool:
        return False

    isEntered = Property(bool, lambda self: self._entered)


class qSlicerScriptedLoadableModuleWidget(qSlicerAbstractModuleWidget):
    """Panel of a module written in Python, which its Python class fills."""

    _python: Any = None

    def self(self) -> Any:
        return self._python

    def reload(self) -> None:
        """Make the Python object anew from the class that is loaded now, and let it fill the panel."""
        name = self._module.name
        self._python = getattr(sys.modules[name], f"{name}Widget")(proxy(self))
        setattr(slicer.modules, f"{name}Widget", self._python)
        self._python.setup()

    def show_and_enter(self) -> None:
        self.show()
        if not self._entered:
            self._entered = True
            getattr(self._python, "enter", lambda: None)()

    def leave(self) -> None:
        if self._entered:
            self._entered = False
            getattr(self._python, "exit", lambda: None)()
        self.hide()

    moduleName = Property(str, lambda self: self._module.name)


LOADING_CLASSES = {
    widget.__name__: widget
    for widget in (qSlicerScriptedLoadableModule, qSlicerScriptedLoadableModuleWidget, qSlicerWidget)
}
