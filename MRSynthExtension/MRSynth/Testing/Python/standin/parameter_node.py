"""Stand-in for the package `slicer.parameterNodeWrapper`: typed attributes on a real parameter node."""
# ruff: noqa: N802, N815 (the names are those of Qt and 3D Slicer)

from __future__ import annotations

import logging
import typing
import weakref
from collections.abc import Callable
from typing import Any

import slicer
import vtk

from .parameter_gui import connection
from .parameter_rules import (
    Choice,
    Decimals,
    Default,
    Exclude,
    IsInstance,
    Maximum,
    Minimum,
    NotNone,
    SingleStep,
    Validator,
    WithinRange,
    split,
)
from .parameter_types import Kind, is_rule, kind_of

__all__ = [
    "Choice",
    "Decimals",
    "Default",
    "Exclude",
    "IsInstance",
    "Maximum",
    "Minimum",
    "NotNone",
    "SingleStep",
    "SlicerParameterNamePropertyName",
    "Validator",
    "WithinRange",
    "findChildWidgetForParameter",
    "isParameterNodeWrapper",
    "parameterNodeWrapper",
]

SlicerParameterNamePropertyName = "SlicerParameterName"


class _Parameter:
    """A parameter of the class: its name, how it is kept, and its value at first."""

    def __init__(self, name: str, annotated: Any, given: Any, is_given: bool) -> None:
        self.name = name
        self.annotated = annotated
        self.kind: Kind = kind_of(annotated)
        annotations = split(annotated)[1]
        default = next((a for a in annotations if isinstance(a, Default)), None)
        unused = [a for a in annotations if not is_rule(a) and (is_given or not isinstance(a, Default))]
        if unused:  # 3D Slicer says so of Decimals, too, although its sliders use it
            logging.warning("Unused annotations: %s", unused)
        self.default = Default(given) if is_given else default or Default(self.kind.default())


class _Stored:
    """A parameter in a parameter node. As in 3D Slicer its value is remembered until the node says "modified"."""

    def __init__(self, parameter: _Parameter, node: Any) -> None:
        self.parameter = parameter
        self._node = node
        self._writing = False
        if not parameter.kind.is_in(node, parameter.name):
            self._put(parameter.default.value)
        self._value = self._get()
        me = weakref.ref(self)
        self._tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: me() and me()._modified())

    def __del__(self) -> None:
        self._node.RemoveObserver(self._tag)

    def _put(self, value: Any) -> None:
        self.parameter.kind.check(value)
        self.parameter.kind.write(self._node, self.parameter.name, value)

    def _get(self) -> Any:
        if not self.parameter.kind.is_in(self._node, self.parameter.name):
            self._put(self.parameter.default.value)
        return self.parameter.kind.read(self._node, self.parameter.name)

    def _modified(self) -> None:
        if not self._writing:
            self._value = self._get()

    def read(self) -> Any:
        """Return the value."""
        return self._value if self.parameter.kind.cached else self._get()

    def write(self, value: Any) -> None:
        """Check and write a value."""
        self._writing = True
        try:
            with slicer.util.NodeModify(self._node):
                self._put(value)
                self._value = self._get()
        finally:
            self._writing = False


class _Wrapper:
    """What the decorator adds to a class."""

    allParameters: dict[str, _Parameter]
    _is_parameter_node_wrapper = True

    def __init__(self, parameterNode: Any, prefix: str | None = None) -> None:
        assert prefix is None, "The stand-in knows no prefix."
        self.parameterNode = parameterNode
        self._stored = {name: _Stored(p, parameterNode) for name, p in self.allParameters.items()}
        self._guis: dict[int, dict[str, Any]] = {}
        self._gui_observers: dict[int, int] = {}
        self._next_tag = 0
        self._updating = False

    def _check(self, name: str) -> None:
        if name not in self.allParameters:
            raise ValueError(f"Cannot find a param with the given name: {name}")

    def default(self, paramName: str) -> Default:
        """Return the default of a parameter."""
        self._check(paramName)
        return self.allParameters[paramName].default

    def isCached(self, paramName: str) -> bool:
        """Return whether the value is remembered."""
        self._check(paramName)
        return self.allParameters[paramName].kind.cached

    @classmethod
    def dataType(cls, membername: str) -> Any:
        """Return the annotated type of a parameter."""
        return cls.allParameters[membername].annotated

    def getValue(self, name: str) -> Any:
        """Return the value of a parameter."""
        self._check(name)
        return self._stored[name].read()

    def setValue(self, name: str, value: Any) -> None:
        """Set the value of a parameter."""
        self._check(name)
        self._stored[name].write(value)

    def connectGui(self, gui: Any) -> int:
        """Connect the widgets whose property "SlicerParameterName" names a parameter; returns a tag."""
        if hasattr(gui, "isWidgetType"):
            import qt

            widgets = gui.findChildren(qt.QWidget)
        else:
            widgets = vars(gui).values()
        named = ((widget.property(SlicerParameterNamePropertyName), widget) for widget in widgets)
        return self.connectParametersToGui({name: widget for name, widget in named if name})

    def connectParametersToGui(self, mapping: dict[str, Any]) -> int:
        """Connect parameters with widgets; returns a tag for `disconnectGui`."""
        for name in mapping:
            self._check(name)
        connections = {name: connection(widget, self.dataType(name)) for name, widget in mapping.items()}
        tag = self._next_tag
        self._next_tag += 1
        self._guis[tag] = connections
        for name, connected in connections.items():
            connected.write(self.getValue(name))
            connected.start(self._from_gui(name, connected))
        self._gui_observers[tag] = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._to_gui())
        return tag

    def disconnectGui(self, guiTag: int) -> None:
        """Undo a connection."""
        for connected in self._guis.pop(guiTag, {}).values():
            connected.stop()
        if guiTag in self._gui_observers:
            self.RemoveObserver(self._gui_observers.pop(guiTag))

    def _from_gui(self, name: str, connected: Any) -> Callable[[], None]:
        def changed() -> None:
            with slicer.util.NodeModify(self):
                if not self._updating:
                    self.setValue(name, connected.read())

        return changed

    def _to_gui(self) -> None:
        if self._updating:
            return
        self._updating = True
        try:
            with slicer.util.NodeModify(self):
                for connections in self._guis.values():
                    for name, connected in connections.items():
                        connected.write(self.getValue(name))
        finally:
            self._updating = False

    def StartModify(self) -> Any:
        """Hold "modified" events back."""
        return self.parameterNode.StartModify()

    def EndModify(self, wasModified: Any) -> Any:
        """Let them go."""
        return self.parameterNode.EndModify(wasModified)

    def AddObserver(self, event: Any, callback: Any, priority: float = 0.0) -> int:
        """Observe the parameter node."""
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag: int) -> None:
        """Stop observing the parameter node."""
        self.parameterNode.RemoveObserver(tag)

    def Modified(self) -> None:
        """Say that the parameter node was modified."""
        self.parameterNode.Modified()


def parameterNodeWrapper(classtype: Any = None) -> Any:
    """Make a class of annotated attributes a typed view of a parameter node; a class decorator.

    Raises
    ------
    ValueError
        For a parameter with a name that the wrapper needs itself.
    """
    if classtype is None:
        return parameterNodeWrapper
    parameters: dict[str, _Parameter] = {}
    for name, annotated in typing.get_type_hints(classtype, include_extras=True).items():
        if hasattr(_Wrapper, name):
            raise ValueError(f"Cannot use reserved name '{name}' in a parameterNodeWrapper")
        parameters[name] = _Parameter(name, annotated, getattr(classtype, name, None), hasattr(classtype, name))
        setattr(
            classtype,
            name,
            property(
                lambda self, name=name: self._stored[name].read(),
                lambda self, value, name=name: self._stored[name].write(value),
            ),
        )
    for name, member in vars(_Wrapper).items():
        if name not in ("__dict__", "__weakref__", "__module__", "__doc__", "__annotations__"):
            setattr(classtype, name, member)
    classtype.allParameters = parameters
    return classtype


def isParameterNodeWrapper(classOrObj: Any) -> bool:
    """Return whether a class, or an object's class, was made by `parameterNodeWrapper`."""
    return getattr(classOrObj, "_is_parameter_node_wrapper", False)


def findChildWidgetForParameter(widget: Any, parameter: str) -> Any:
    """Return the child widget whose property names a parameter, or None."""
    import qt

    children = widget.findChildren(qt.QWidget)
    return next((child for child in children if child.property(SlicerParameterNamePropertyName) == parameter), None)
