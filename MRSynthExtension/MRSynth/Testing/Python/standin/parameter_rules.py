"""What a parameter can be annotated with: its default, the rules that its value keeps, hints for its widget."""

from __future__ import annotations

import typing
from dataclasses import dataclass
from typing import Any

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
    "Validator",
    "WithinRange",
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

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Default) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


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
