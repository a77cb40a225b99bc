"""How far a batch run is, and how long it will take."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

Listener = Callable[[dict[str, Any]], None]

_TOLD_EVERY = 0.5  # seconds between two events


class Progress:
    """How far a run is, and how long it will take: by the jobs that are done, and parts of those under way."""

    def __init__(self, total: int, tell: Listener) -> None:
        self._total = total
        self._tell = tell
        self._begin = time.monotonic()
        self._parts: dict[int, float] = {}
        self._ended: set[int] = set()
        self._lock = threading.Lock()  # workers tell of their jobs in a thread of their own
        self._done = 0
        self._throttle = Throttle()

    def within(self, number: int, fraction: float, stage: str) -> None:
        """Tell of a job that is under way."""
        with self._lock:
            if number not in self._ended:  # messages may come late
                self._parts[number] = fraction
            due = self._throttle.due()
        if due:
            self._send(stage)

    def finished(self, number: int) -> None:
        """Tell of a job that is done."""
        with self._lock:
            self._parts.pop(number, None)
            self._ended.add(number)
            self._done += 1
        self._send("")

    def _send(self, stage: str) -> None:
        with self._lock:
            amount = self._done + sum(self._parts.values())
        spent = time.monotonic() - self._begin
        left = spent / amount * (self._total - amount) if amount > 0 else None
        event = {"event": "progress", "done": self._done, "total": self._total, "stage": stage}
        self._tell({**event, "fraction": amount / max(1, self._total), "seconds_left": left})


class Throttle:
    """Says when enough time has gone by to tell something again."""

    def __init__(self) -> None:
        self._next = 0.0

    def due(self) -> bool:
        """Whether it has; then it begins anew."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + _TOLD_EVERY
        return True
