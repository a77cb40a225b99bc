"""How typed parameters are kept in a vtkMRMLScriptedModuleNode: the same strings as 3D Slicer writes.

A number, text, path, enumeration or truth value is one string parameter; a node is a node reference of the
parameter's name beside an empty parameter; a member of a union is kept as "<name>.<number in the union>".
"""

from __future__ import annotations

import enum
import pathlib
import types
import typing
from typing import Any

import slicer

from .parameter_rules import IsInstance, NotNone, Validator, split

__all__ = ["Kind", "is_rule", "kind_of"]


class Kind:
    """How values of one type are written to a parameter node and read from it."""

    cached = True
    checks: tuple[Validator, ...] = ()

    def default(self) -> Any:
        """Return the value of a parameter without a default of its own."""
        raise NotImplementedError

    def check(self, value: Any) -> None:
        """Raise when the value is not of the type, or against the annotations."""
        for rule in self.checks:
            rule.validate(value)  # a class of rules with a static method will do, too

    def takes(self, datatype: type) -> bool:
        """Return whether a value of this type may be kept so, when it is one of several kinds."""
        return False

    def is_in(self, node: Any, name: str) -> bool:
        """Return whether the parameter node has the parameter."""
        return bool(node.HasParameter(name))

    def write(self, node: Any, name: str, value: Any) -> None:
        """Write a value that was checked."""
        node.SetParameter(name, self.to_text(value))

    def read(self, node: Any, name: str) -> Any:
        """Return the value."""
        return self.from_text(node.GetParameter(name))

    def remove(self, node: Any, name: str) -> None:
        """Take the parameter out of the parameter node."""
        node.UnsetParameter(name)

    def to_text(self, value: Any) -> str:
        """Return the string that stands for a value."""
        return str(value)

    def from_text(self, text: str) -> Any:
        """Return the value that a string stands for."""
        raise NotImplementedError


class SimpleKind(Kind):
    """Number, text or path."""

    def __init__(self, datatype: type) -> None:
        self.datatype = datatype
        self.checks = (NotNone(), IsInstance((int, float) if datatype is float else datatype))

    def takes(self, datatype: type) -> bool:
        numbers = (int, float)
        return datatype in numbers if self.datatype in numbers else issubclass(datatype, self.datatype)

    def default(self) -> Any:
        return 0 if self.datatype in (int, float) else self.datatype()

    def from_text(self, text: str) -> Any:
        return self.datatype(text)


class BoolKind(SimpleKind):
    """True or False, written as "true" words of Python."""

    def to_text(self, value: Any) -> str:
        return "True" if value else "False"

    def from_text(self, text: str) -> bool:
        return text == "True"


class EnumKind(Kind):
    """Member of an enumeration, kept by its name."""

    def __init__(self, datatype: Any) -> None:
        self.datatype = datatype
        self.checks = (IsInstance(datatype),)

    def takes(self, datatype: type) -> bool:
        return issubclass(datatype, self.datatype)

    def default(self) -> Any:
        return next(iter(self.datatype))

    def to_text(self, value: Any) -> str:
        return value.name

    def from_text(self, text: str) -> Any:
        return self.datatype[text]


class NodeKind(Kind):
    """A MRML node of a class, or None."""

    def __init__(self, datatype: type) -> None:
        self.datatype = datatype
        self.checks = (IsInstance(datatype),)

    def takes(self, datatype: type) -> bool:
        return issubclass(datatype, slicer.vtkMRMLNode)

    def default(self) -> None:
        return None

    def write(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, None if value is None else value.GetID())

    def read(self, node: Any, name: str) -> Any:
        return node.GetNodeReference(name)

    def remove(self, node: Any, name: str) -> None:
        node.UnsetParameter(name)
        node.RemoveNodeReferenceIDs(name)


class NoneKind(Kind):
    """None, as the second half of Optional."""

    def takes(self, datatype: type) -> bool:
        return datatype is types.NoneType

    def default(self) -> None:
        return None

    def check(self, value: Any) -> None:
        if value is not None:
            raise ValueError("Value must be None")

    def to_text(self, value: Any) -> str:
        return "True"

    def from_text(self, text: str) -> None:
        return None


class UnionKind(Kind):
    """A value of one of several types."""

    def __init__(self, members: list[Kind]) -> None:
        self.members = members
        self.cached = all(member.cached for member in members)

    def default(self) -> Any:
        optional = len(self.members) == 2 and isinstance(self.members[1], NoneKind)
        return None if optional else self.members[0].default()

    def _fitting(self, value: Any) -> int:
        problem: Exception = TypeError(f"Unable to write value '{value}' of type '{type(value)}'")
        for index, member in enumerate(self.members):
            if not member.takes(type(value)):
                continue
            try:
                member.check(value)
            except (TypeError, ValueError) as error:
                problem = error
            else:
                return index
        raise problem

    def check(self, value: Any) -> None:
        super().check(value)
        self._fitting(value)

    def is_in(self, node: Any, name: str) -> bool:
        return any(member.is_in(node, f"{name}.{index}") for index, member in enumerate(self.members))

    def write(self, node: Any, name: str, value: Any) -> None:
        index = self._fitting(value)
        with slicer.util.NodeModify(node):
            self.remove(node, name)
            self.members[index].write(node, f"{name}.{index}", value)

    def read(self, node: Any, name: str) -> Any:
        for index, member in enumerate(self.members):
            if member.is_in(node, f"{name}.{index}"):
                return member.read(node, f"{name}.{index}")
        raise KeyError(f"Unable to find value for name: {name}")

    def remove(self, node: Any, name: str) -> None:
        for index, member in enumerate(self.members):
            member.remove(node, f"{name}.{index}")


def kind_of(annotated: Any) -> Kind:
    """Return how values of a type are kept.

    Raises
    ------
    NotImplementedError
        For types that 3D Slicer keeps and the stand-in does not (lists, tuples, dictionaries, packs, colours).
    """
    datatype, annotations = split(annotated)
    kind = _plain_kind(datatype)
    kind.checks = (*kind.checks, *filter(is_rule, annotations))
    return kind


def is_rule(annotation: Any) -> bool:
    """Return whether an annotation is a rule that values keep, or a class of such rules."""
    return isinstance(annotation, Validator) or (isinstance(annotation, type) and issubclass(annotation, Validator))


def _plain_kind(datatype: Any) -> Kind:
    if typing.get_origin(datatype) in (typing.Union, types.UnionType):
        return UnionKind([kind_of(member) for member in typing.get_args(datatype)])
    if datatype is bool:
        return BoolKind(bool)
    if datatype is types.NoneType:
        return NoneKind()
    if isinstance(datatype, type) and issubclass(datatype, slicer.vtkMRMLNode):
        return NodeKind(datatype)
    if isinstance(datatype, type) and issubclass(datatype, enum.Enum):
        return EnumKind(datatype)
    if datatype in (int, float, str) or (isinstance(datatype, type) and issubclass(datatype, pathlib.PurePath)):
        return SimpleKind(datatype)
    raise NotImplementedError(f"The stand-in keeps no parameters of type {datatype}.")
