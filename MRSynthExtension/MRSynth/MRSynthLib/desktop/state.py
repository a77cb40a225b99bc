"""The states of a run, and which may follow which."""

from __future__ import annotations

import enum
from collections.abc import Callable


class RunState(enum.Enum):
    """Where a run stands."""

    IDLE = "idle"  # not begun, or over: finished or cancelled
    PREPARING = "preparing"  # the source is copied, the background process started
    RUNNING = "running"  # the background process works
    IMPORTING = "importing"  # the result is put into the scene
    CANCELLING = "cancelling"  # the background process is being ended
    FAILED = "failed"  # over, with an error


TRANSITIONS: dict[RunState, frozenset[RunState]] = {
    RunState.IDLE: frozenset({RunState.PREPARING}),
    RunState.PREPARING: frozenset({RunState.RUNNING, RunState.CANCELLING, RunState.FAILED}),
    RunState.RUNNING: frozenset({RunState.IMPORTING, RunState.CANCELLING, RunState.FAILED}),
    RunState.IMPORTING: frozenset({RunState.IDLE, RunState.CANCELLING, RunState.FAILED}),
    RunState.CANCELLING: frozenset({RunState.IDLE}),
    RunState.FAILED: frozenset(),  # the next attempt is another run
}


class IllegalTransition(RuntimeError):
    """A run was asked to go where it cannot go from here: a mistake in the program, never the user's."""


class StateMachine:
    """Holds the state of one run, and moves only along `TRANSITIONS`.

    Parameters
    ----------
    on_change : callable, optional
        Called with the new state after every change.
    """

    def __init__(self, on_change: Callable[[RunState], None] | None = None) -> None:
        self._state = RunState.IDLE
        self._on_change = on_change

    @property
    def state(self) -> RunState:
        """Where the run stands."""
        return self._state

    def go(self, state: RunState) -> None:
        """Change to `state`.

        Raises
        ------
        IllegalTransition
            If `state` may not follow the present one; nothing has changed then.
        """
        if state not in TRANSITIONS[self._state]:
            raise IllegalTransition(f"a run that is {self._state.value} cannot become {state.value}")
        self._state = state
        if self._on_change is not None:
            self._on_change(state)
