"""The states of a run: the legal ways through them, and no other."""

from __future__ import annotations

import itertools

import pytest

from MRSynthLib.desktop.state import TRANSITIONS, IllegalTransition, RunState, StateMachine

IDLE, PREPARING, RUNNING, IMPORTING, CANCELLING, FAILED = RunState

LEGAL = {
    (IDLE, PREPARING),
    (PREPARING, RUNNING),
    (PREPARING, CANCELLING),
    (PREPARING, FAILED),
    (RUNNING, IMPORTING),
    (RUNNING, CANCELLING),
    (RUNNING, FAILED),
    (IMPORTING, IDLE),
    (IMPORTING, CANCELLING),
    (IMPORTING, FAILED),
    (CANCELLING, IDLE),
}
WAYS = {
    IDLE: (),
    PREPARING: (PREPARING,),
    RUNNING: (PREPARING, RUNNING),
    IMPORTING: (PREPARING, RUNNING, IMPORTING),
    CANCELLING: (PREPARING, CANCELLING),
    FAILED: (PREPARING, FAILED),
}


def machine_in(state: RunState) -> StateMachine:
    machine = StateMachine()
    for step in WAYS[state]:
        machine.go(step)
    assert machine.state is state
    return machine


def test_names_are_those_of_the_panel_and_the_log() -> None:
    assert [state.value for state in RunState] == [
        "idle",
        "preparing",
        "running",
        "importing",
        "cancelling",
        "failed",
    ]


def test_the_table_is_complete() -> None:
    assert {(before, after) for before, allowed in TRANSITIONS.items() for after in allowed} == LEGAL
    assert set(TRANSITIONS) == set(RunState)


@pytest.mark.parametrize(("before", "after"), list(itertools.product(RunState, RunState)))
def test_every_step_is_legal_or_raises_and_changes_nothing(before: RunState, after: RunState) -> None:
    machine = machine_in(before)
    if (before, after) in LEGAL:
        machine.go(after)
        assert machine.state is after
    else:
        with pytest.raises(IllegalTransition, match=f"{before.value} cannot become {after.value}"):
            machine.go(after)
        assert machine.state is before


def test_the_observer_is_told_after_each_change_and_of_no_other() -> None:
    seen: list[tuple[RunState, RunState]] = []
    machine = StateMachine(lambda state: seen.append((state, machine.state)))
    machine.go(PREPARING)
    machine.go(RUNNING)
    with pytest.raises(IllegalTransition):
        machine.go(IDLE)
    assert seen == [(PREPARING, PREPARING), (RUNNING, RUNNING)]
