"""The worker that is kept between runs, so that the next one begins at once: there is never more than one.

It lies in the `slicer` package, which outlives a reload of MRSynth and MRSynthLib; where that is not loaded, here. It
is ended when it is let go, also by the end of the interpreter. Besides, it ends by itself; see `engine.worker`.
"""

from __future__ import annotations

import sys
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .child import Child, environment

IDLE_SECONDS = 300.0  # after which a worker without a run ends itself
_REGISTRY = "_mrsynth_warm"


@dataclass(frozen=True)
class Start:
    """What a worker was started with; one that would be started otherwise today is of no use.

    Attributes
    ----------
    python : str
        The interpreter.
    folder : str
        Its working directory: checkpoints may be named by paths relative to it.
    environment : dict
    """

    python: str
    folder: str
    environment: dict[str, str]


class _Place:
    """Where the idle worker lies; it ends when its place is gone."""

    def __init__(self, child: Child, start: Start) -> None:
        self.child, self.start = child, start
        self.ending = weakref.finalize(self, child.end)


def start(python: str) -> Start:
    """What a worker that is started now would be started with."""
    try:
        folder = str(Path.cwd())
    except FileNotFoundError:  # it was removed
        folder = ""
    return Start(python, folder, environment())


def take(wanted: Start) -> Child | None:
    """Return the idle worker, which is the caller's from now on; None where none lives that was started so.

    One that was started otherwise, or has died meanwhile, is cleared away.
    """
    place: Any = vars(_home()).pop(_REGISTRY, None)
    if place is None:
        return None
    if place.start != wanted or place.child.exit_code is not None:
        place.ending()
        return None
    place.ending.detach()
    child: Child = place.child
    child.forget_lines()
    return child


def keep(child: Child, started: Start) -> None:
    """Keep a worker that has said that it is idle, in place of the one that may be here."""
    release()
    setattr(_home(), _REGISTRY, _Place(child, started))


def release() -> None:
    """End the idle worker; does nothing where there is none."""
    place: Any = vars(_home()).pop(_REGISTRY, None)
    if place is not None:
        place.ending()


def idle() -> Child | None:
    """Return the idle worker without taking it; None where none lives."""
    place: Any = vars(_home()).get(_REGISTRY)
    return None if place is None or place.child.exit_code is not None else place.child


def _home() -> Any:
    return sys.modules.get("slicer") or sys.modules[__name__]
