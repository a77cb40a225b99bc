"""Ctrl-C and SIGTERM: a step, or a child, is let end first."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any


class Stop:
    """Whether the user or the system asked for an end."""

    def __init__(self) -> None:
        self.wanted = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: the first lets the step end, a second Ctrl-C does not wait."""
        if self.wanted and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.wanted = True


@contextlib.contextmanager
def stopping() -> Iterator[Stop]:
    """Take Ctrl-C and SIGTERM as the wish to stop after this step."""
    stop = Stop()
    with handling(stop, signal.SIGINT, signal.SIGTERM):
        yield stop


@contextlib.contextmanager
def handling(handler: Callable[[int, FrameType | None], Any], *signals: int) -> Iterator[None]:
    """Have signals handled meanwhile; outside the main thread nothing is changed."""
    earlier = {}
    for number in signals:
        with contextlib.suppress(ValueError):
            earlier[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, former in earlier.items():
            signal.signal(number, former)
