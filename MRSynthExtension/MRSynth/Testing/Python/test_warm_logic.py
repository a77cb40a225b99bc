"""When 3D Slicer keeps the worker for the next run, and when it lets it go: real MRML, real worker, stand-in for Qt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PySide6", reason="the application is a stand-in on PySide6")
slicer = pytest.importorskip("slicer")

import standin  # noqa: E402
from children import PATIENCE, gone  # noqa: E402
from children import temporary as temporary  # noqa: E402
from mrml_scenes import scene as scene  # noqa: E402
from runs import children  # noqa: E402
from standin import slicer_app  # noqa: E402

import MRSynth  # noqa: E402
from MRSynthLib.desktop import mrml, warm  # noqa: E402
from MRSynthLib.engine.volume import Volume  # noqa: E402


@pytest.fixture
def app(tmp_path: Path, temporary: Path) -> Iterator[Any]:
    with standin.application(tmp_path / "application") as application:
        yield application
    assert warm.idle() is None
    assert children() == set()


def add(volume: Volume) -> Any:
    return slicer.mrmlScene.AddNode(mrml.node_from_volume(volume))


def synthesized(logic: Any, source: Any, model: Path) -> np.ndarray:
    node = logic.synthesize(source, model=str(model), device="cpu")
    return slicer.util.arrayFromVolume(node).copy()


def idle_pid() -> int:
    child = warm.idle()
    assert child is not None
    return child.pid


def test_in_the_application_the_next_run_has_the_same_process(
    app: Any, phantom_t1: Volume, tiny_checkpoint: Path
) -> None:
    source = add(phantom_t1)
    first = synthesized(MRSynth.MRSynthLogic(), source, tiny_checkpoint)
    pid = idle_pid()
    np.testing.assert_array_equal(synthesized(MRSynth.MRSynthLogic(), source, tiny_checkpoint), first)
    assert idle_pid() == pid
    MRSynth.MRSynthLogic.releaseWorker()
    assert gone(pid)


def test_who_says_no_gets_no_kept_process(app: Any, phantom_t1: Volume, tiny_checkpoint: Path) -> None:
    synthesized(MRSynth.MRSynthLogic(keepWorker=False), add(phantom_t1), tiny_checkpoint)
    assert children() == set()


def test_tests_of_the_application_keep_none(
    app: Any, phantom_t1: Volume, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slicer_app.qSlicerCoreApplication, "testingEnabled", lambda application: True)
    assert slicer.app.testingEnabled()
    synthesized(MRSynth.MRSynthLogic(), add(phantom_t1), tiny_checkpoint)
    assert children() == set()


def test_without_the_application_none_is_kept(
    scene: Any, temporary: Path, phantom_t1: Volume, tiny_checkpoint: Path
) -> None:
    source = scene.AddNode(mrml.node_from_volume(phantom_t1))
    synthesized(MRSynth.MRSynthLogic(), source, tiny_checkpoint)
    assert children() == set()
    synthesized(MRSynth.MRSynthLogic(keepWorker=True), source, tiny_checkpoint)
    assert children() == {idle_pid()}
    MRSynth.MRSynthLogic.releaseWorker()
    assert children() == set()


@pytest.mark.parametrize("end", ["reload", "quit"])
def test_the_panel_keeps_it_until_it_is_closed(app: Any, phantom_t1: Volume, tiny_checkpoint: Path, end: str) -> None:
    widget = app.open()
    source = add(phantom_t1)
    widget.panel.parameters.source = source
    widget.panel.parameters.model = str(tiny_checkpoint)
    pids = set()
    for _ in range(2):
        widget.panel.ui.runButton.click()
        app.wait_until(lambda: not widget.panel.run.running, PATIENCE)
        assert "Done" in widget.panel.ui.statusLabel.text
        pids.add(idle_pid())
    app.leave()
    slicer.mrmlScene.Clear()
    assert {idle_pid()} == pids
    getattr(app, end)()
    assert warm.idle() is None
    assert all(map(gone, pids))


def test_the_self_test_leaves_none(app: Any) -> None:
    MRSynth.MRSynthTest().runTest()
    assert children() == set()
