"""A broken input: how it is made, and what is asked of it."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


class ImpossibleError(Exception):
    """This machine cannot have such a case."""


@dataclass(frozen=True)
class Asked:
    """What a case asks for; paths are relative to its folder.

    Attributes
    ----------
    input, output : str
    vanish : (str, float) or None
        A file or folder, and the seconds after which it is taken away.
    good : bool
        The volume is sound, and only its name or place is odd: this has to succeed.
    """

    input: str
    output: str = "out.nii.gz"
    vanish: tuple[str, float] | None = None
    good: bool = False


Make = Callable[[Path, random.Random], Asked]


@dataclass(frozen=True)
class Case:
    """One broken input.

    Attributes
    ----------
    name : str
        Of its kind first, e.g. "nifti1/truncated/dim".
    make : callable
        Puts the files into an empty folder.
    """

    name: str
    make: Make

    @property
    def kind(self) -> str:
        """What it is counted under: the name's first two parts."""
        return "/".join(self.name.split("/")[:2])


def of_bytes(name: str, file: str, content: Callable[[random.Random], bytes]) -> Case:
    """A case that is one file."""

    def make(folder: Path, rng: random.Random) -> Asked:
        (folder / file).write_bytes(content(rng))
        return Asked(file)

    return Case(name, make)


def of_files(name: str, asked: Asked, files: Callable[[random.Random], dict[str, bytes]]) -> Case:
    """A case that is several files."""

    def make(folder: Path, rng: random.Random) -> Asked:
        for file, content in files(rng).items():
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return asked

    return Case(name, make)


def fixed(content: bytes) -> Callable[[random.Random], bytes]:
    """Content that no random number changes."""
    return functools.partial(_ignore, content)


def _ignore(content: bytes, rng: random.Random) -> bytes:
    return content
