"""How a child process is ended, also as on Windows, and that its files go whatever happens."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from children import PATIENCE, POSIX, gone

from MRSynthLib.desktop import child
from MRSynthLib.desktop.child import Child
from MRSynthLib.desktop.polled import Traces

WATCHES = "import sys; print('ready', flush=True); sys.stdin.read(); print('in order', flush=True)"
IGNORES = "import time; print('ready', flush=True); time.sleep(600)"


def started(code: str) -> Child:
    process = Child([sys.executable, "-c", code], dict(os.environ))
    assert process.lines.get(timeout=PATIENCE) == ("stdout", "ready\n")
    return process


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """As on Windows, for children that were started before; returns the commands that were run to kill them."""
    commands: list[list[str]] = []

    def run(command: list[str], **options: Any) -> None:
        commands.append(command)
        assert options["creationflags"] == 7  # no window
        os.killpg(int(command[-1]), 9)

    monkeypatch.setattr(child, "sys", SimpleNamespace(platform="win32"))
    monkeypatch.setattr(subprocess, "CREATE_NO_WINDOW", 7, raising=False)
    monkeypatch.setattr(subprocess, "run", run)
    return commands


@POSIX
def test_on_windows_a_child_is_told_to_end_by_its_stdin(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    process = started(WATCHES)
    monkeypatch.setattr(child, "ORDERLY_END", PATIENCE)
    commands = request.getfixturevalue("windows")
    begin = time.monotonic()
    process.end()
    assert time.monotonic() - begin < PATIENCE / 2
    assert process.exit_code == 0 and process.lines.get_nowait() == ("stdout", "in order\n")
    assert commands == [["taskkill", "/T", "/F", "/PID", str(process.pid)]]  # what it has left behind


@POSIX
def test_on_windows_a_child_that_does_not_listen_is_killed(request: pytest.FixtureRequest) -> None:
    process = started(IGNORES)
    commands = request.getfixturevalue("windows")
    process.end()
    process.end()
    assert len(commands) == 1 and gone(process.pid)


def test_the_files_of_a_run_go_also_where_its_child_cannot_be_ended(tmp_path: Path) -> None:
    def end() -> None:
        raise SystemError("a function returned a result with an exception set")

    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "in.npy").write_bytes(b"an image")
    unending: Any = SimpleNamespace(end=end)
    with pytest.raises(SystemError):
        Traces(unending, folder).remove()
    assert not folder.exists()
