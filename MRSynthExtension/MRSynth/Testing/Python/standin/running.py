"""The stand-in application: what a test starts, drives and looks at."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import slicer
import slicer.util
from PySide6 import QtCore, QtGui, QtWidgets

from . import dialogs, loading, parameter_node, qt_modules, sample_data, scripted_module, signals, words
from .complaints import COMPLAINTS, listening
from .pythonqt import class_for, proxy
from .slicer_app import the_application

__all__ = ["Application", "run"]


class Application:
    """A running stand-in application.

    Attributes
    ----------
    scene : vtkMRMLScene
        The scene, also `slicer.mrmlScene`.
    answers : list
        How the next dialogs are answered; see `dialogs`.
    dialogs : list of Dialog
        What dialogs have shown.
    complaints : list of str
        What 3D Slicer would only have printed; when anything is left here at the end, the end fails.
    opened_urls : list of str
        What was opened with the desktop (`qt.QDesktopServices.openUrl`).
    extensions : qSlicerExtensionsManagerModel
        The Extensions Manager; its `on_server` and `installed` are lists of names to fill.
    """

    def __init__(self, folder: Path, modules: Path) -> None:
        self.folder = folder
        self.modules = modules
        self.answers = dialogs.ANSWERS
        self.dialogs = dialogs.DIALOGS
        self.complaints = COMPLAINTS
        self.opened_urls = qt_modules.OPENED_URLS
        self._qt = the_application()
        self.extensions = self._qt.extensionsManagerModel()
        self._has_quit = False

    @property
    def scene(self) -> Any:
        """The scene."""
        return self._qt.mrmlScene()

    def load(self, name: str = "MRSynth") -> Any:
        """Load a module without showing it, as at start-up; `startupCompleted()` is not emitted."""
        known = self._qt.moduleManager().module(name)
        return known or loading.load_module(self.modules / f"{name}.py", self._qt.moduleManager())

    def complete_startup(self) -> None:
        """Emit what the application emits when all modules are loaded."""
        signals.emit(self._qt, "startupCompleted()")

    def open(self, module_name: str = "MRSynth") -> Any:
        """Load a module if it is not yet, show its panel, and return its Python widget object."""
        if self._qt.moduleManager().module(module_name) is None:
            self.load(module_name)
            self.complete_startup()
        slicer.util.selectModule(module_name)
        self.process_events()
        return slicer.util.getModuleWidget(module_name)

    def leave(self) -> None:
        """Switch to no module: the panel's `exit` is called."""
        slicer.util.selectModule("")

    def reload(self, module_name: str = "MRSynth") -> Any:
        """Press "Reload": the widget is cleaned up, the file executed again, a new widget set up."""
        slicer.util.getModuleWidget(module_name).onReload()
        self.process_events()
        return slicer.util.getModuleWidget(module_name)

    def quit(self) -> None:
        """End as 3D Slicer does: `aboutToQuit()`, then every module is unloaded and its widget cleaned up."""
        if self._has_quit:
            return
        self._has_quit = True
        signals.emit_to_connected(self._qt, "aboutToQuit()")
        manager = self._qt.moduleManager()
        for name in reversed(list(manager.modules)):
            signals.emit(manager, "moduleAboutToBeUnloaded(QString)", name)
            self._forget(name)

    def _forget(self, name: str) -> None:
        for owner, attribute in (
            (slicer.modules, name.lower()),
            (slicer.modules, f"{name}Instance"),
            (slicer.modules, f"{name}Widget"),
            (slicer.moduleNames, name),
        ):
            if hasattr(owner, attribute):
                delattr(owner, attribute)

    def process_events(self, seconds: float = 0.0) -> None:
        """Let Qt work, timers included, for so long."""
        end = time.monotonic() + seconds
        while True:
            self._qt.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)
            self._qt.processEvents(QtCore.QEventLoop.ProcessEventsFlag.AllEvents, 20)
            if time.monotonic() >= end:
                return
            time.sleep(0.005)

    def wait_until(self, condition: Any, seconds: float = 30.0) -> None:
        """Let Qt work until a function returns true.

        Raises
        ------
        AssertionError
            When it does not in time.
        """
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"not so within {seconds:g} s"
            self.process_events(0.01)

    def grab(self, path: Path, width: int = 380, dark: bool = False, module_name: str = "MRSynth") -> Path:
        """Save a picture of the panel as it is in a side panel of this width (pixels), and return its path."""
        panel = self._qt.moduleManager().module(module_name).widgetRepresentation()
        before = QtWidgets.QApplication.palette()
        QtWidgets.QApplication.setPalette(_palette(dark))
        try:
            panel.setMinimumWidth(0)
            for _ in range(3):  # texts that wrap need a second look at the height
                panel.resize(width, max(panel.heightForWidth(width), panel.sizeHint().height(), 1))
                self.process_events()
            assert panel.grab().save(str(path)), f"could not write {path}"
        finally:
            QtWidgets.QApplication.setPalette(before)
            self.process_events()
        return path


def _palette(dark: bool) -> QtGui.QPalette:
    """Return a palette like that of 3D Slicer's light or dark style."""
    shades = ("#353535", "#191919", "#ffffff", "#7f7f7f") if dark else ("#efefef", "#ffffff", "#000000", "#7f7f7f")
    window, base, text, disabled = map(QtGui.QColor, shades)
    palette = QtGui.QPalette(window, window)
    roles = QtGui.QPalette.ColorRole
    for role in (roles.WindowText, roles.Text, roles.ButtonText):
        palette.setColor(role, text)
        palette.setColor(QtGui.QPalette.ColorGroup.Disabled, role, disabled)
    palette.setColor(roles.Base, base)
    palette.setColor(roles.AlternateBase, window)
    palette.setColor(roles.ToolTipBase, base)
    palette.setColor(roles.ToolTipText, text)
    palette.setColor(roles.PlaceholderText, disabled)
    palette.setColor(roles.Highlight, QtGui.QColor("#2a82da" if dark else "#308cc6"))
    palette.setColor(roles.HighlightedText, QtGui.QColor("#ffffff"))
    palette.setColor(roles.Link, QtGui.QColor("#5aa9ff" if dark else "#0057ae"))
    return palette


@contextlib.contextmanager
def _restored() -> Iterator[None]:
    """Put `sys.modules`, `sys.path` and the attributes of `slicer` back as they were."""
    attributes = dict(vars(slicer))
    utilities = dict(vars(slicer.util))
    modules = dict(sys.modules)
    path = list(sys.path)
    level = logging.getLogger().level
    try:
        yield
    finally:
        for owner, before in ((slicer, attributes), (slicer.util, utilities)):
            for name in set(vars(owner)) - set(before):
                delattr(owner, name)
            vars(owner).update(before)
        for name in (*_INSTALLED, *loading.LOADED):
            sys.modules.pop(name, None)
            if name in modules:
                sys.modules[name] = modules[name]
        loading.LOADED.clear()
        sys.path[:] = path
        logging.getLogger().setLevel(level)


_INSTALLED = (
    "qt",
    "ctk",
    "SampleData",
    "slicer.i18n",
    "slicer.modules",
    "slicer.moduleNames",
    "slicer.packaging",
    "slicer.parameterNodeWrapper",
    "slicer.ScriptedLoadableModule",
)


def _install() -> None:
    """Put the modules and the attributes of `slicer` in place that only the application has."""
    slicer.modules = types.ModuleType("slicer.modules")
    slicer.moduleNames = types.ModuleType("slicer.moduleNames")
    slicer.i18n = words
    slicer.parameterNodeWrapper = parameter_node
    slicer.ScriptedLoadableModule = scripted_module
    slicer.packaging = sample_data.packaging_module()
    slicer.selfTests = {}
    for name, widget in {**qt_modules.CUSTOM_WIDGETS, **loading.LOADING_CLASSES}.items():
        if name.startswith("q"):
            setattr(slicer, name, class_for(widget))
    sys.modules.update(
        {"qt": qt_modules.QT, "ctk": qt_modules.CTK, "SampleData": sample_data.sample_data_module()}
        | {f"slicer.{name}": getattr(slicer, name) for name in ("modules", "moduleNames", "i18n", "packaging")}
        | {f"slicer.{name}": getattr(slicer, name) for name in ("parameterNodeWrapper", "ScriptedLoadableModule")}
    )


def _new_scene() -> Any:
    scene = slicer.vtkMRMLScene()
    scene.AddNode(slicer.vtkMRMLSelectionNode())
    scene.AddNode(slicer.vtkMRMLInteractionNode())
    return scene


@contextlib.contextmanager
def run(folder: Path, modules: Path) -> Iterator[Application]:
    """Start the application; see `standin.application`."""
    qt_app = the_application()
    for kept in (dialogs.ANSWERS, dialogs.DIALOGS, COMPLAINTS, qt_modules.OPENED_URLS):
        kept.clear()
    with _restored(), listening():
        _install()
        slicer.mrmlScene = _new_scene()
        qt_app.start(slicer.mrmlScene, folder)
        qt_app.open_windows()
        slicer.app = proxy(qt_app)
        app = Application(folder, modules)
        try:
            yield app
            app.quit()
            assert not COMPLAINTS, "3D Slicer would only have printed this:\n" + "\n".join(COMPLAINTS)
        finally:
            app.quit()
            signals.forget_all()
            qt_app.end()
