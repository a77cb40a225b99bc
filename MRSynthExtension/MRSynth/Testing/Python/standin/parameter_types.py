"""How typed parameters are kept in a vtkMRMLScriptedModuleNode: the same strings as 3D Slicer writes.

A number, text, path, enumeration or truth value is one string parameter; a node is a node reference of the
parameter's name beside an empty parameter; a member of a union is kept as "<name>.<number in the union>"; a
list as "<name>.len" and "<name>.<index>".
"""

from __future__ import annotations

import enum
import pathlib
import types
import typing
from collections.abc import Iterator, MutableSequence
from dataclasses import dataclass
from typing import Any

import slicer

__all__ = [
    "Choice",
    "Decimals",
    "Default",
    "Exclude",
    "IsInstance",
    "Kind",
    "Maximum",
    "Minimum",
    "NotNone",
    "SingleStep",
    "Validator",
    "WithinRange",
    "kind_of",
    "split",
]


@dataclass(frozen=True)
class Decimals:
    """How many decimals a widget shows."""

    value: int


@dataclass(frozen=True)
class SingleStep:
    """How far one step of a widget goes."""

    value: float


class Default:
    """The value that a parameter has at first."""

    def __init__(self, value: Any = None, *, generator: Any = None) -> None:
        self._value = value
        self._generator = generator

    @property
    def value(self) -> Any:
        """The value, made anew when there is a generator."""
        return self._generator() if self._generator else self._value


class Validator:
    """Rule that a value must keep; `validate` raises when it does not."""

    def validate(self, value: Any) -> None:
        """Raise ValueError or TypeError for a value that breaks the rule."""
        raise NotImplementedError


class NotNone(Validator):
    """There must be a value."""

    def validate(self, value: Any) -> None:
        if value is None:
            raise ValueError("Value must not be None")


class IsInstance(Validator):
    """The value must be of a type."""

    def __init__(self, classtype: Any) -> None:
        self.classtype = classtype

    def validate(self, value: Any) -> None:
        if value is not None and not isinstance(value, self.classtype):
            raise TypeError(f"Value must be of type '{self.classtype}', is type '{type(value)}' value '{value}'")


class WithinRange(Validator):
    """The value must lie between two numbers, both included."""

    def __init__(self, minimum: float, maximum: float) -> None:
        self.minimum = minimum
        self.maximum = maximum

    def validate(self, value: Any) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"Value must be within range [{self.minimum}, {self.maximum}], is {value}")


class Minimum(Validator):
    """The value must not be smaller."""

    def __init__(self, minimum: float) -> None:
        self.minimum = minimum

    def validate(self, value: Any) -> None:
        if value < self.minimum:
            raise ValueError(f"Value must be greater than {self.minimum}, is {value}")


class Maximum(Validator):
    """The value must not be greater."""

    def __init__(self, maximum: float) -> None:
        self.maximum = maximum

    def validate(self, value: Any) -> None:
        if value > self.maximum:
            raise ValueError(f"Value must be less than {self.maximum}, is {value}")


class Choice(Validator):
    """The value must be one of a list."""

    def __init__(self, choices: Any) -> None:
        self.choices = choices

    def validate(self, value: Any) -> None:
        if value not in self.choices:
            raise ValueError(f"Value is {value}, but must be in one of the following: {self.choices}")


class Exclude(Validator):
    """The value must not be one of a list."""

    def __init__(self, excludedValues: Any) -> None:
        self.excludedValues = excludedValues

    def validate(self, value: Any) -> None:
        if value in self.excludedValues:
            raise ValueError(f"Value is {value}, but must not be an excluded value: {self.excludedValues}")


def split(annotated: Any) -> tuple[Any, list[Any]]:
    """Split ``Annotated[type, ...]`` into the type and what it is annotated with."""
    if typing.get_origin(annotated) is typing.Annotated:
        return annotated.__origin__, list(annotated.__metadata__)
    return annotated, []


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
            rule.validate(value)

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
            if isinstance(member, NoneKind) != (value is None):
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


class ListKind(Kind):
    """List of values of one type; what comes back writes itself when it is changed."""

    def __init__(self, member: Kind) -> None:
        self.member = member
        self.cached = member.cached

    def default(self) -> list[Any]:
        return []

    def check(self, value: Any) -> None:
        super().check(value)
        for item in value:
            self.member.check(item)

    def is_in(self, node: Any, name: str) -> bool:
        return bool(node.HasParameter(f"{name}.len"))

    def write(self, node: Any, name: str, value: Any) -> None:
        items = list(value)
        with slicer.util.NodeModify(node):
            self.remove(node, name)
            for index, item in enumerate(items):
                self.member.write(node, f"{name}.{index}", item)
            node.SetParameter(f"{name}.len", str(len(items)))

    def read(self, node: Any, name: str) -> ObservedList:
        length = int(node.GetParameter(f"{name}.len"))
        items = [self.member.read(node, f"{name}.{index}") for index in range(length)]
        return ObservedList(self, node, name, items)

    def remove(self, node: Any, name: str) -> None:
        for index in range(int(node.GetParameter(f"{name}.len") or 0)):
            self.member.remove(node, f"{name}.{index}")
        node.UnsetParameter(f"{name}.len")


class ObservedList(MutableSequence):
    """List of a parameter node: every change is written."""

    def __init__(self, kind: ListKind, node: Any, name: str, items: list[Any]) -> None:
        self._where = (kind, node, name)
        self._items = items

    def _save(self) -> None:
        kind, node, name = self._where
        kind.check(self._items)
        kind.write(node, name, self._items)

    def __getitem__(self, index: Any) -> Any:
        return self._items[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self._items[index] = value
        self._save()

    def __delitem__(self, index: Any) -> None:
        del self._items[index]
        self._save()

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._items))

    def __eq__(self, other: object) -> bool:
        return self._items == (other._items if isinstance(other, ObservedList) else other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"ObservedList({self._items})"

    def insert(self, index: int, value: Any) -> None:
        self._items.insert(index, value)
        self._save()


def kind_of(annotated: Any) -> Kind:
    """Return how values of a type are kept.

    Raises
    ------
    NotImplementedError
        For types that 3D Slicer keeps and the stand-in does not (tuples, dictionaries, parameter packs, colours).
    """
    datatype, annotations = split(annotated)
    kind = _plain_kind(datatype)
    kind.checks = (*kind.checks, *(rule for rule in annotations if isinstance(rule, Validator)))
    return kind


def _plain_kind(datatype: Any) -> Kind:
    if typing.get_origin(datatype) in (typing.Union, types.UnionType):
        return UnionKind([kind_of(member) for member in typing.get_args(datatype)])
    if typing.get_origin(datatype) is list:
        return ListKind(kind_of(typing.get_args(datatype)[0]))
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
