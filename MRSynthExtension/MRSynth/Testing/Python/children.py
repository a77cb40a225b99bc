"""Stand-ins for the worker process, and what shows that a process and its files are gone."""

from __future__ import annotations

import os
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

POSIX = pytest.mark.skipif(os.name == "nt", reason="process groups and scripts of POSIX")
PATIENCE = 120.0  # seconds after which a test that waits has failed

Stub = Callable[[str], str]

# The start of a stub that can `save` a result and `answer`; a test spoils it.
GOOD_RESULT = textwrap.dedent(
    """
    import numpy as np
    folder = os.path.dirname(request)
    asked = json.load(open(request))
    voxels = np.load(os.path.join(folder, "in.npy"))
    event = {"event": "result", "voxels": "out.npy", "cycle": None, "info": {}}
    event["ijk_to_ras"] = asked["ijk_to_ras"]
    def save(array):
        np.save(os.path.join(folder, "out.npy"), array)
    def answer(code=0):
        print(json.dumps(event), flush=True)
        sys.exit(code)
    """
)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder for temporary files, which every test has to leave empty."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))  # where children put theirs
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def stub(tmp_path: Path) -> Stub:
    """Makes an executable that stands in for the worker, to do what a real one must not."""

    def make(body: str) -> str:
        path = tmp_path / "stub.py"
        head = f"#!{sys.executable}\nimport json, os, signal, subprocess, sys, time\nrequest = sys.argv[3]\n"
        path.write_text(head + textwrap.dedent(body))
        path.chmod(0o755)
        return str(path)

    return make


def gone(pid: int) -> bool:
    """Whether a process has ended within a while (a zombie, which nobody has waited for, has)."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
            status = Path(f"/proc/{pid}/stat")
            if status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False
