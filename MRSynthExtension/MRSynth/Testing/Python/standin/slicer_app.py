"""`slicer.app`, its module manager and its main window."""
# ruff: noqa: N801, N802, N815 (the names are those of Qt and 3D Slicer)

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property

from . import signals
from .extensions import qSlicerExtensionsManagerModel
from .stored import stored
from .views import qSlicerLayoutManager

__all__ = ["qSlicerApplication", "qSlicerMainWindow", "the_application"]

VERSION = "5.10.0"  # the oldest that is imitated
_OS = {"Linux": "linux", "Darwin": "macosx", "Windows": "win"}


class qSlicerCommandOptions(QtCore.QObject):
    """Command line of the application: nothing was given."""

    testingEnabled = Property(bool, lambda self: slicer.app.testingEnabled())
    noMainWindow = Property(bool, lambda self: False)
    runPythonAndExit = stored(bool, "runPythonAndExit", False)


class qSlicerModuleFactoryManager(QtCore.QObject):
    """Names of the modules that are there."""

    def loadedModuleNames(self) -> list[str]:
        return list(self.parent().modules)


class qSlicerModuleManager(QtCore.QObject):
    """The modules that are there."""

    def __init__(self, parent: Any) -> None:
        super().__init__(parent)
        self.modules: dict[str, Any] = {}
        self._factory = qSlicerModuleFactoryManager(self)

    def factoryManager(self) -> Any:
        return self._factory

    def module(self, name: str) -> Any:
        return self.modules.get(name)

    def modulesNames(self) -> list[str]:
        return list(self.modules)


class qSlicerModuleSelectorToolBar(QtWidgets.QToolBar):
    """Chooser of the module whose panel is shown."""

    _selected = ""

    def selectModule(self, name: str) -> None:
        if name == self._selected:
            return
        if name and slicer.app.moduleManager().module(name) is None:
            raise RuntimeError(f"There is no module {name}")
        previous = self.window()._manager.module(self._selected)
        self._selected = name
        if previous is not None:
            previous._widget.leave()
        chosen = self.window()._manager.module(name)
        if chosen is not None:
            chosen.widgetRepresentation().show_and_enter()
        signals.emit(self, "moduleSelected(QString)", name)

    selectedModule = Property(str, lambda self: self._selected)


class qSlicerMainWindow(QtWidgets.QMainWindow):
    """Main window with the module panel; the views are not in it."""

    def __init__(self, manager: qSlicerModuleManager) -> None:
        super().__init__()
        self.setObjectName("qSlicerMainWindow")
        self._manager = manager
        self._selector = qSlicerModuleSelectorToolBar(self)
        self.addToolBar(self._selector)
        self.statusBar()

    def moduleSelector(self) -> Any:
        return self._selector


class qSlicerCoreApplication(QtWidgets.QApplication):
    """What an application without windows knows."""

    def start(self, scene: Any, folder: Path) -> None:
        """Begin a new life: an empty scene, settings and temporary files in `folder`."""
        self._scene = scene
        self._folder = folder
        self._testing = False
        ini, user = QtCore.QSettings.Format.IniFormat, QtCore.QSettings.Scope.UserScope
        QtCore.QSettings.setDefaultFormat(ini)
        QtCore.QSettings.setPath(ini, user, str(folder / "settings"))
        self.setApplicationName("Slicer")
        self.setApplicationVersion(VERSION)
        self.setOrganizationName("slicer.org")
        self._settings = QtCore.QSettings()
        self._revision_settings = QtCore.QSettings(ini, user, "slicer.org", "Slicer-1")
        self._options = qSlicerCommandOptions(self)
        self._manager = qSlicerModuleManager(self)
        self._extensions = qSlicerExtensionsManagerModel(self)
        self._logic = slicer.vtkSlicerApplicationLogic()
        self._logic.SetMRMLScene(scene)
        (folder / "temporary").mkdir(parents=True, exist_ok=True)

    def mrmlScene(self) -> Any:
        return self._scene

    def applicationLogic(self) -> Any:
        return self._logic

    def moduleManager(self) -> Any:
        return self._manager

    def extensionsManagerModel(self) -> Any:
        return self._extensions

    def moduleLogic(self, name: str) -> Any:
        found = self._manager.module(name)
        return found.logic() if found is not None else None

    def settings(self) -> Any:
        return self._settings

    def userSettings(self) -> Any:
        return self._settings

    def revisionUserSettings(self) -> Any:
        return self._revision_settings

    def testingEnabled(self) -> bool:
        return self._testing

    def startupEnvironment(self) -> Any:
        return QtCore.QProcessEnvironment.systemEnvironment()

    environment = startupEnvironment

    def pauseRender(self) -> None:
        return

    def resumeRender(self) -> None:
        return

    def logUsageEvent(self, component: str, event: str) -> None:
        return

    def moduleDocumentationUrl(self, name: str) -> str:
        return f"{self.documentationBaseUrl}user_guide/modules/{name.lower()}.html"

    majorVersion = Property(int, lambda self: int(VERSION.split(".")[0]))
    minorVersion = Property(int, lambda self: int(VERSION.split(".")[1]))
    revision = Property(str, lambda self: "33988")
    repositoryRevision = Property(str, lambda self: "66f3d12")
    releaseType = Property(str, lambda self: "Stable")
    os = Property(str, lambda self: _OS.get(platform.system(), "linux"))
    arch = Property(str, lambda self: "amd64")
    platform = Property(str, lambda self: f"{self.os}-{self.arch}")
    isInstalled = Property(bool, lambda self: True)
    mainApplicationName = Property(str, lambda self: "Slicer")
    slicerHome = Property(str, lambda self: str(self._folder))
    temporaryPath = Property(str, lambda self: str(self._folder / "temporary"))
    defaultScenePath = Property(str, lambda self: str(self._folder))
    startupWorkingPath = Property(str, lambda self: str(Path.cwd()))
    extensionsInstallPath = Property(str, lambda self: str(self._folder / "Extensions"))
    slicerUserSettingsFilePath = Property(str, lambda self: self._settings.fileName())
    slicerRevisionUserSettingsFilePath = Property(str, lambda self: self._revision_settings.fileName())
    documentationBaseUrl = Property(str, lambda self: "https://slicer.readthedocs.io/en/latest/")


class qSlicerApplication(qSlicerCoreApplication):
    """The application with its layout manager and main window."""

    def open_windows(self) -> None:
        """Make what an application with windows has."""
        self._layout_manager = qSlicerLayoutManager(self._scene, self._logic)
        self._main_window = qSlicerMainWindow(self._manager)

    def end(self) -> None:
        """End this life: delete its windows, what a test left open, and timers that still wait."""
        for widget in self.topLevelWidgets():
            widget.hide()
            widget.deleteLater()
        for child in (*self.findChildren(QtCore.QTimer), self._options, self._manager, self._extensions):
            child.deleteLater()
        self.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)
        self.processEvents()

    def layoutManager(self) -> Any:
        return self._layout_manager

    def commandOptions(self) -> Any:
        return self._options


def the_application() -> qSlicerApplication:
    """Return the one application object of this process.

    Raises
    ------
    RuntimeError
        When another library has made a QApplication of its own before.
    """
    existing = QtWidgets.QApplication.instance()
    if existing is None:
        existing = qSlicerApplication(["Slicer"])
        existing.setQuitOnLastWindowClosed(False)
        existing.setStyle("Fusion")
    if not isinstance(existing, qSlicerApplication):
        raise RuntimeError("Another QApplication runs in this process; the stand-in needs its own.")
    return existing
