"""Widgets that show a parameter: which kinds of widget can, and how the value goes to and fro."""

from __future__ import annotations

import enum
import math
import pathlib
import types
import typing
from collections.abc import Callable
from typing import Any

import slicer

from .parameter_rules import Choice, Decimals, Maximum, Minimum, SingleStep, WithinRange, split

__all__ = ["Connection", "connection"]


class Connection:
    """One widget that shows one parameter."""

    def __init__(self, widget: Any, signal: str, read: Callable[[], Any], write: Callable[[Any], None]) -> None:
        self._signal = getattr(widget, signal) if signal else None
        self._changed: Callable[[], None] | None = None
        self.read = read
        self.write = write

    def _on_signal(self) -> None:
        if self._changed is not None:
            self._changed()

    def start(self, changed: Callable[[], None]) -> None:
        """Call a function whenever the widget changes."""
        self._changed = changed
        if self._signal is not None:
            self._signal.connect(self._on_signal)

    def stop(self) -> None:
        """Call it no more."""
        self._changed = None
        if self._signal is not None:
            self._signal.disconnect(self._on_signal)


def connection(widget: Any, datatype: Any) -> Connection:
    """Return the connection of a widget with a parameter of a type.

    Raises
    ------
    RuntimeError
        When widgets of this class cannot show such a parameter in 3D Slicer.
    """
    plain, annotations = split(datatype)
    name = type(widget).__name__
    makers: list[tuple[tuple[str, ...], bool, Callable[..., Connection]]] = [
        (("QCheckBox", "ctkCheckBox", "QPushButton"), plain is bool, _checked),
        (("QSlider", "QSpinBox"), plain is int, _number),
        (("QDoubleSpinBox", "ctkSliderWidget", "ctkDoubleSlider"), plain in (int, float), _number),
        (("QComboBox", "ctkComboBox"), plain in (int, float, str, bool), _choice),
        (("QComboBox", "ctkComboBox"), isinstance(plain, type) and issubclass(plain, enum.Enum), _enumeration),
        (("QLineEdit",), plain is str, _text),
        (("QLabel",), plain is str, _label),
        (("QTextEdit",), plain is str, _long_text),
        (("ctkPathLineEdit",), isinstance(plain, type) and issubclass(plain, pathlib.PurePath), _path),
        (("qMRMLNodeComboBox",), bool(_node_types(plain)), _node),
    ]
    for names, fits, maker in makers:
        if fits and name in names:
            return maker(widget, plain, annotations)
    raise RuntimeError(f"Unable to create GUI connector from datatype '{datatype}' to widget type '{name}'.")


def _find(annotations: list[Any], wanted: type) -> Any:
    return next((annotation for annotation in annotations if isinstance(annotation, wanted)), None)


def _setter(widget: Any, name: str) -> Callable[[Any], None]:
    return lambda value: setattr(widget, name, value)


def _checked(widget: Any, plain: Any, annotations: list[Any]) -> Connection:
    if type(widget).__name__ == "QPushButton":
        widget.checkable = True
        return Connection(widget, "toggled", lambda: widget.checked, _setter(widget, "checked"))
    return Connection(widget, "stateChanged", lambda: widget.checked, _setter(widget, "checked"))


def _number(widget: Any, plain: Any, annotations: list[Any]) -> Connection:
    decimals, step = _find(annotations, Decimals), _find(annotations, SingleStep)
    within, low, high = (_find(annotations, rule) for rule in (WithinRange, Minimum, Maximum))
    name = type(widget).__name__
    unbounded = within is None and (low is None or high is None)
    if name in ("QSlider", "ctkSliderWidget") and unbounded:
        raise RuntimeError(f"Cannot have a connection to {name} where the type is unbounded.")
    if name not in ("QSlider", "QSpinBox", "ctkDoubleSlider"):
        if plain is int:
            widget.decimals = 0
        elif decimals is not None:
            widget.decimals = decimals.value
    if step is not None:
        widget.singleStep = step.value
    lowest, highest = (-(2**31), 2**31 - 1) if name in ("QSlider", "QSpinBox") else (-math.inf, math.inf)
    widget.minimum = within.minimum if within is not None else low.minimum if low is not None else lowest
    widget.maximum = within.maximum if within is not None else high.maximum if high is not None else highest
    return Connection(widget, "valueChanged", lambda: plain(widget.value), lambda v: setattr(widget, "value", plain(v)))


def _choice(widget: Any, plain: Any, annotations: list[Any]) -> Connection:
    choice = _find(annotations, Choice)
    if choice is None:
        raise RuntimeError("ComboBoxToStringableConnector requires the Choice annotation to be used.")
    return _from_list(widget, [(str(value), value) for value in choice.choices])


def _enumeration(widget: Any, plain: Any, annotations: list[Any]) -> Connection:
    label = getattr(plain, "label", lambda member: member.name)
    return _from_list(widget, [(label(member), member) for member in plain])


def _from_list(widget: Any, items: list[tuple[str, Any]]) -> Connection:
    widget.clear()
    for text, _ in items:
        widget.addItem(text)

    def write(value: Any) -> None:
        found = [index for index, (_, item) in enumerate(items) if item == value]
        if not found:
            raise ValueError(f"Unable to find value {value} in choices {items}")
        widget.currentIndex = found[0]

    return Connection(widget, "currentIndexChanged", lambda: items[widget.currentIndex][1], write)


def _text(widget: Any, plain: Any, annotations: list[Any]) -> Connection:
    def write(value: str) -> None:
        if value != widget.text:  # otherwise the cursor would jump while somebody types
            widget.text = value

    return Connection(widget, "textChanged", lambda: widget.text, write)


def _label(widget: Any, plain: Any, annotations: list[Any]) -> Connection:
    return Connection(widget, "", lambda: widget.text, _setter(widget, "text"))


def _long_text(widget: Any, plain: Any, annotations: list[Any]) -> Connection:
    return Connection(widget, "textChanged", widget.toPlainText, widget.setPlainText)


def _path(widget: Any, plain: Any, annotations: list[Any]) -> Connection:
    return Connection(
        widget,
        "currentPathChanged",
        lambda: plain(widget.currentPath),
        lambda value: setattr(widget, "currentPath", str(value)),
    )


def _node_types(plain: Any) -> list[str]:
    """Return the class names of a node type or of a union of node types and None; empty for anything else."""
    members = [plain]
    if typing.get_origin(plain) in (typing.Union, types.UnionType):
        members = [split(member)[0] for member in typing.get_args(plain) if member is not types.NoneType]
    if all(isinstance(member, type) and issubclass(member, slicer.vtkMRMLNode) for member in members):
        return [member().GetClassName() for member in members]
    return []


def _node(widget: Any, plain: Any, annotations: list[Any]) -> Connection:
    widget.nodeTypes = _node_types(plain)
    return Connection(widget, "currentNodeChanged", widget.currentNode, widget.setCurrentNode)
