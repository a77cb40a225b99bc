"""Calls a function again and again from the application's event loop, where there is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import slicer

if TYPE_CHECKING:
    from .polled import PolledRun

_POLL = 200  # ms between looks at a child process


class Pump:
    """A repeated call in 3D Slicer's main thread, by a QTimer; without the application it never calls.

    Parameters
    ----------
    function : callable
        Called without arguments until it returns True. It is kept alive until then, or until `stop`.
    milliseconds : int
        From one call to the next.
    """

    def __init__(self, function: Callable[[], bool], milliseconds: int) -> None:
        self._function: Callable[[], bool] | None = None
        self._timer: Any = None
        if getattr(slicer, "app", None) is None:
            return
        import qt

        self._function = function
        # A child of the module manager, which ends before Python does: no call can come after that.
        self._timer = timer = qt.QTimer(slicer.app.moduleManager())
        timer.setInterval(milliseconds)
        timer.connect("timeout()", self._tick)
        timer.start()

    def stop(self) -> None:
        """End the calls; does nothing where they have ended."""
        timer, self._timer, self._function = self._timer, None, None
        if timer is not None:
            timer.stop()
            timer.deleteLater()  # not at once, for it may be inside its own signal

    def _tick(self) -> None:
        if self._function is not None and self._function():
            self.stop()


def follow(run: PolledRun[Any], ended: Callable[[], object]) -> Pump:
    """Poll a run until it is over, then call `ended`, once."""

    def look() -> bool:
        if not run.poll():
            return False
        ended()
        return True

    return Pump(look, _POLL)
