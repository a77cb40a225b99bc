"""Runs that the application's event loop drives. 3D Slicer's Qt application is the stand-in of `standin`."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("PySide6", reason="the application is a stand-in on PySide6")
pytest.importorskip("slicer")

import slicer
import standin
from children import PATIENCE, POSIX, Stub
from children import stub as stub
from children import temporary as temporary
from runs import ANSWER, HANG, Bench, children, is_negative

from MRSynthLib.desktop import background
from MRSynthLib.desktop.pump import Pump
from MRSynthLib.engine.errors import Cancelled

pytestmark = POSIX  # the stubs are scripts


@pytest.fixture
def app(tmp_path: Path, temporary: Path) -> Iterator[Any]:
    with standin.application(tmp_path / "application") as application:
        yield application


@pytest.fixture
def bench(app: Any, stub: Stub) -> Bench:
    return Bench(slicer.mrmlScene, stub)


def test_without_an_application_nothing_is_called() -> None:
    calls: list[int] = []
    pump = Pump(lambda: bool(calls.append(1)), 1)
    pump.stop()
    assert calls == []


def test_calls_come_until_the_function_has_had_enough(app: Any) -> None:
    calls: list[int] = []

    def function() -> bool:
        calls.append(len(calls))
        return len(calls) == 3

    reference = weakref.ref(function)
    pump = Pump(function, 1)
    assert calls == []
    app.wait_until(lambda: len(calls) == 3, PATIENCE)
    app.process_events(0.1)
    assert calls == [0, 1, 2]
    pump.stop()
    del function, pump
    gc.collect()
    assert reference() is None  # the timer, and what it held, is gone


def test_stop_ends_the_calls(app: Any) -> None:
    calls: list[int] = []
    pump = Pump(lambda: bool(calls.append(1)), 1)
    app.wait_until(lambda: len(calls) > 2, PATIENCE)
    pump.stop()
    count = len(calls)
    app.process_events(0.1)
    assert len(calls) == count


def test_a_run_goes_by_itself_also_where_nobody_keeps_it(app: Any, bench: Bench) -> None:
    reference = weakref.ref(bench.start(ANSWER))
    gc.collect()
    assert reference() is not None
    app.wait_until(lambda: bool(bench.told.finished), PATIENCE)
    is_negative(bench.told.node, bench.source)
    app.process_events(0.1)
    gc.collect()
    assert reference() is None
    assert background.active() is None


def test_wait_works_without_the_event_loop(app: Any, bench: Bench) -> None:
    assert bench.start(ANSWER).wait() is bench.told.node
    app.process_events(0.1)
    assert len(bench.told.finished) == 1


def test_cancel_stops_the_timer_too(app: Any, bench: Bench) -> None:
    run = bench.start(HANG)
    app.wait_until(lambda: bench.told.stage == "synthesize", PATIENCE)
    run.cancel()
    reference = weakref.ref(run)
    del run
    assert reference() is None  # at once: nothing waits for another call
    told = len(bench.told.progress)
    app.process_events(0.2)
    assert len(bench.told.progress) == told
    assert isinstance(bench.told.error, Cancelled)
    assert children() == set()


def test_after_the_end_of_the_application_nothing_is_called(app: Any, bench: Bench) -> None:
    """The timer goes with the module manager; the process goes with Python, see test_background."""
    run = bench.start(HANG)
    app.wait_until(lambda: bench.told.stage == "synthesize", PATIENCE)
    told = len(bench.told.progress)
    app.quit()
    app.process_events(0.2)
    assert len(bench.told.progress) == told
    run.cancel()
    assert children() == set()
