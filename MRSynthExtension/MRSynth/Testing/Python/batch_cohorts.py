"""What the tests of batch runs share: cohorts of small heads, the command in this process and in one of its own."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from engine_helpers import small_head

from MRSynthLib.engine.cli import main
from MRSynthLib.engine.files import write_volume

COMMAND = [sys.executable, "-m", "MRSynthLib.engine.cli", "batch"]


def cohort(folder: Path, count: int = 3) -> Path:
    """A folder of `count` people: every second has a T2 only, the others a T1."""
    for number in range(count):
        contrast = "t2" if number % 2 else "t1"
        (folder / f"p{number:02d}").mkdir(parents=True)
        write_volume(small_head(contrast), folder / f"p{number:02d}" / f"{contrast}.nii.gz")
    return folder


def batch(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any]]:
    """Run the command in this process, without Dask; return its exit code and what it says in JSON."""
    capfd.readouterr()
    code = main(["batch", *map(str, arguments), "--workers", "0", "--json"])
    return code, json.loads(capfd.readouterr().out)


def contents(folder: Path) -> dict[str, str]:
    """All files below a folder by path, with their SHA-256; but for the state of runs, and reports."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".mrsynth" not in path.parts and not path.name.startswith("report.")
    }


def images(folder: Path) -> dict[str, str]:
    """The images among `contents`: sidecars hold times, which differ from run to run."""
    return {path: digest for path, digest in contents(folder).items() if path.endswith(".nii.gz")}


@contextmanager
def started(environment: dict[str, str], *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """The command as a process that tells events as JSON lines; it does not outlive the test."""
    command = [*COMMAND, *map(str, arguments), "--progress-json"]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    if os.name == "posix":
        pipes["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # "&" has it ignored
    child = subprocess.Popen(command, env=environment, **pipes)
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def events(child: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    """What a child tells, as it comes."""
    assert child.stdout is not None
    for line in child.stdout:
        yield json.loads(line)


def wait_for(child: subprocess.Popen[str], kind: str) -> dict[str, Any]:
    """The next event of a kind."""
    for event in events(child):
        if event["event"] == kind:
            return event
    assert child.stderr is not None
    raise AssertionError(f"no event {kind!r}: {child.stderr.read()}")
