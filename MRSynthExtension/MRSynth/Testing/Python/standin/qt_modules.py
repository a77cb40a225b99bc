"""The modules `qt` and `ctk` as PythonQt fills them."""
# ruff: noqa: N802 (the names are those of Qt and 3D Slicer)

from __future__ import annotations

import types
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtGui, QtNetwork, QtUiTools, QtWidgets

from . import dialogs, signals
from .complaints import complain
from .node_combo_box import qMRMLNodeComboBox
from .pythonqt import class_for, overrides, proxy
from .views import MRML_WIDGETS
from .widgets_ctk import CTK_WIDGETS

__all__ = ["CTK", "CUSTOM_WIDGETS", "OPENED_URLS", "QT"]

CUSTOM_WIDGETS: dict[str, type] = {
    **CTK_WIDGETS,
    **MRML_WIDGETS,
    "qMRMLNodeComboBox": qMRMLNodeComboBox,
}
OPENED_URLS: list[str] = []

# What a form may set although the class has no such property: Qt's form builder knows these itself.
_FORM_ONLY = {("QLabel", "buddy"), ("Line", "orientation")}


class _QtModule(types.ModuleType):
    """Finds a class of Qt when it is first asked for."""

    def __getattr__(self, name: str) -> Any:
        for library in (QtCore, QtGui, QtWidgets, QtNetwork):
            found = getattr(library, name, None)
            if isinstance(found, type):
                setattr(self, name, class_for(found))
                return self.__dict__[name]
        raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")


class _UiLoader(QtUiTools.QUiLoader):
    """Makes the imitated widgets that a form names.

    3D Slicer replaces an unknown class by its base, makes a dynamic property of an unknown one, and ignores a
    connection to an unknown slot, each with a line in the log at most. All three are complaints here.
    """

    def createWidget(self, name: str, parent: Any = None, object_name: str = "") -> Any:
        if name in CUSTOM_WIDGETS:
            widget = CUSTOM_WIDGETS[name](parent)
            widget.setObjectName(object_name)
            self._made.append(widget)
            return widget
        if name not in self.availableWidgets():
            complain(f"QFormBuilder was unable to create a custom widget of the class '{name}'")
        return super().createWidget(name, parent, object_name)

    def load_form(self, path: str) -> Any:
        self._made: list[Any] = []
        tree = ElementTree.parse(path)
        connections = _take_connections(tree)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(tree.getroot()))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        self.setWorkingDirectory(QtCore.QDir(str(Path(path).parent)))
        form = self.load(buffer)
        if form is not None:
            _check_properties(tree, form)
            for sender, signal, receiver, slot in connections:
                _connect(form, sender, signal, receiver, slot)
        return form


def _take_connections(tree: ElementTree.ElementTree) -> list[tuple[str, ...]]:
    """Take the connections out of a form: they name MRML types, which Qt itself cannot connect here."""
    section = tree.getroot().find("connections")
    if section is None:
        return []
    tree.getroot().remove(section)
    parts = ("sender", "signal", "receiver", "slot")
    return [tuple(entry.findtext(part, "") for part in parts) for entry in section]


def _named(form: Any, name: str) -> Any:
    return form if form.objectName() == name else form.findChild(QtCore.QObject, name)


def _connect(form: Any, sender: str, signal: str, receiver: str, slot: str) -> None:
    source, target = _named(form, sender), _named(form, receiver)
    if source is None or target is None:
        complain(f"The form connects {sender} to {receiver}, and has no such widget")
        return
    try:
        signals.connect(source, signal, getattr(proxy(target), slot.partition("(")[0]))
    except AttributeError as error:
        complain(f"The form connects {sender} to {receiver}: {error}")


def _check_properties(tree: ElementTree.ElementTree, form: Any) -> None:
    """Complain of properties that a form sets and its widgets do not have."""
    from . import members

    for element in tree.iter("widget"):
        widget = _named(form, element.get("name", ""))
        for entry in element.findall("property"):
            name = entry.get("name", "")
            special = (element.get("class", ""), name) in _FORM_ONLY
            if widget is None or entry.get("stdset") == "0" or special:
                continue
            found = members.member(widget, name)
            if found is None or found.kind != "property":
                complain(
                    f"The form sets '{name}' of {element.get('name')}; {type(widget).__name__} has no such property"
                )


def _load(loader: Any, device: Any, parent: Any = None) -> Any:
    return loader.load_form(device.fileName()) if device.exists() else None


def _open_url(url: Any) -> bool:
    OPENED_URLS.append(QtCore.QUrl(url).toString())
    return True


def _single_shot(milliseconds: int, receiver: Any, slot: str | None = None) -> None:
    """Call once, later: 3D Slicer replaces QTimer.singleShot by a function that takes Python callables."""
    from . import decorators

    timer = QtCore.QTimer(QtCore.QCoreApplication.instance())
    timer.setSingleShot(True)
    decorators.connect(timer, "timeout()", receiver, slot)
    decorators.connect(timer, "timeout()", timer.deleteLater)
    timer.start(milliseconds)


def _make_qt() -> types.ModuleType:
    module = _QtModule("qt", "Stand-in for the module `qt` of 3D Slicer.")
    module.QUiLoader = class_for(_UiLoader)
    module.QUiLoader.__name__ = "QUiLoader"
    overrides["_UiLoader", "load"] = _load
    overrides["QDesktopServices", "openUrl"] = _open_url
    overrides["QTimer", "singleShot"] = _single_shot
    dialogs.install(overrides)
    return module


def _make_ctk() -> types.ModuleType:
    module = types.ModuleType("ctk", "Stand-in for the module `ctk` of 3D Slicer.")
    for name, widget in CTK_WIDGETS.items():
        setattr(module, name, class_for(widget))
    return module


QT = _make_qt()
CTK = _make_ctk()
