"""SIGKILL at random moments of a batch run: a short run of what `make soak` does in full."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from engine_helpers import small_head
from robustness import kills
from robustness.command import SEED

from MRSynthLib.engine.files import write_volume

pytestmark = pytest.mark.skipif(os.name == "nt", reason="SIGKILL of POSIX")


def test_killed_and_resumed_runs_end_as_an_undisturbed_one(tiny_checkpoint: Path) -> None:
    result = kills.torture(tiny_checkpoint, 3, SEED, 0)
    assert result.failures == []
    assert (result.kills, result.runs >= 1) == (3, True)


def test_a_voxel_a_file_and_a_field_that_differ_are_seen(tmp_path: Path) -> None:
    def output(name: str, add: int = 0, contrast: str = "t1") -> dict[str, str]:
        folder = tmp_path / name / "p0"
        folder.mkdir(parents=True)
        head = small_head()
        voxels = head.voxels.copy()
        voxels[5, 5, 5] += np.int16(add)
        write_volume(head.replaced(voxels), folder / "a.nii.gz")
        (folder / "a.json").write_text(f'{{"SourceContrast": "{contrast}", "Created": "{name}"}}')
        return kills.contents(tmp_path / name)

    same = output("same")
    assert output("again") == same
    assert output("voxel", add=1) != same
    assert output("field", contrast="t2") != same
    (tmp_path / "same" / "p0" / "b.txt").write_text("")
    assert kills.contents(tmp_path / "same") != same
