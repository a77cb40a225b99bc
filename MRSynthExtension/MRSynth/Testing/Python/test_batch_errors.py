"""What a batch run refuses: examinations that would overwrite one another, and workers without Dask."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from batch_cohorts import batch as run_batch
from batch_cohorts import cohort, contents

from MRSynthLib.engine import batch, batch_plan, batch_workers
from MRSynthLib.engine.cli import main


def test_examinations_of_one_name_are_both_refused_and_the_others_made(
    tmp_path: Path, tiny_checkpoint: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    cohort(tmp_path / "in", 3)
    rows = ["subject,t1,t2", "anna,p00/t1.nii.gz,", "anna,,p01/t2.nii.gz", "bert,p02/t1.nii.gz,"]
    (tmp_path / "in" / "list.csv").write_text("\n".join(rows))
    code, said = run_batch(capfd, "in/list.csv", "-o", "out", "--model", tiny_checkpoint, "--device", "cpu")
    assert code == 9
    assert (said["counts"]["made"], said["counts"]["failed"]) == (1, 2)
    assert '"batch-doubled"' in (tmp_path / "out" / "report.json").read_text()
    assert all("bert" in path for path in contents(tmp_path / "out") if path.endswith(".nii.gz"))


@pytest.mark.parametrize("wrong", ["empty", "texts"])
def test_an_input_without_examinations_leaves_nothing_behind(
    tmp_path: Path, tiny_checkpoint: Path, capfd: pytest.CaptureFixture[str], wrong: str
) -> None:
    (tmp_path / wrong).mkdir()
    if wrong == "texts":
        (tmp_path / wrong / "flair.nii").write_text("no T1")
    arguments = ["batch", str(tmp_path / wrong), "-o", str(tmp_path / "out"), "--workers", "0"]
    assert main([*arguments, "--model", str(tiny_checkpoint)]) == 3
    assert [path.name for path in tmp_path.iterdir()] == [wrong]
    capfd.readouterr()


def test_an_interrupted_run_says_what_is_kept(
    tmp_path: Path, tiny_checkpoint: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort(tmp_path / "in", 2)
    real = batch.event_of

    def interrupted(row: batch_plan.Row) -> dict[str, Any]:
        signal.raise_signal(signal.SIGINT)
        return real(row)

    monkeypatch.setattr(batch, "event_of", interrupted)
    code, said = run_batch(capfd, tmp_path / "in", "-o", tmp_path / "out", "--model", tiny_checkpoint)
    assert (code, said["counts"]["made"], said["counts"]["open"]) == (7, 1, 1)
    assert said["error"]["remedy"] == "Run the same command again to go on; what is done is kept."
    assert (tmp_path / "out" / ".mrsynth" / "run").read_text() == ""


def test_workers_need_dask_and_one_process_does_not(
    tmp_path: Path, tiny_checkpoint: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(batch_workers, "has_dask", lambda: False)
    cohort(tmp_path / "in", 1)
    options = ["in", "-o", "out", "--model", tiny_checkpoint, "--device", "cpu"]
    assert main(["batch", *map(str, options), "--workers", "2", "--json"]) == 8
    assert '"batch-package"' in capfd.readouterr().out
    code, said = run_batch(capfd, *options)
    assert (code, said["counts"]["made"]) == (0, 1)
