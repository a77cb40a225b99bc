"""What a batch run refuses: examinations that would overwrite one another, and workers without Dask."""

from __future__ import annotations

from pathlib import Path

import pytest
from batch_cohorts import batch, cohort, contents

from MRSynthLib.engine import batch_workers
from MRSynthLib.engine.cli import main


def test_examinations_of_one_name_are_both_refused_and_the_others_made(
    tmp_path: Path, tiny_checkpoint: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    cohort(tmp_path / "in", 3)
    rows = ["subject,t1,t2", "anna,p00/t1.nii.gz,", "anna,,p01/t2.nii.gz", "bert,p02/t1.nii.gz,"]
    (tmp_path / "in" / "list.csv").write_text("\n".join(rows))
    code, said = batch(capfd, "in/list.csv", "-o", "out", "--model", tiny_checkpoint, "--device", "cpu")
    assert code == 9
    assert (said["counts"]["made"], said["counts"]["failed"]) == (1, 2)
    assert '"batch-doubled"' in (tmp_path / "out" / "report.json").read_text()
    assert all("bert" in path for path in contents(tmp_path / "out") if path.endswith(".nii.gz"))


def test_workers_need_dask_and_one_process_does_not(
    tmp_path: Path, tiny_checkpoint: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(batch_workers, "has_dask", lambda: False)
    cohort(tmp_path / "in", 1)
    options = ["in", "-o", "out", "--model", tiny_checkpoint, "--device", "cpu"]
    assert main(["batch", *map(str, options), "--workers", "2", "--json"]) == 8
    assert '"batch-package"' in capfd.readouterr().out
    code, said = batch(capfd, *options)
    assert (code, said["counts"]["made"]) == (0, 1)
