"""A batch run: what it makes, keeps, makes again and never touches; in one process, without Dask."""

from __future__ import annotations

import csv
import html
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from batch_cohorts import COMMAND, batch, cohort, contents, images
from conftest import fill, phantom
from dicom_series import T1, T2, examination, write_series
from engine_helpers import save_untrained, small_head

from MRSynthLib.engine import Synthesizer, batch_job, read_volume
from MRSynthLib.engine import batch as batch_runs
from MRSynthLib.engine.batch_job import Outcome
from MRSynthLib.engine.batch_plan import Job
from MRSynthLib.engine.batch_workers import Inline
from MRSynthLib.engine.checkpoint import read_card
from MRSynthLib.engine.cli import main
from MRSynthLib.engine.files import write_volume
from MRSynthLib.engine.writing import sha256_of

MADE = "p00/p00_desc-synthetic_T2w.nii.gz"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a cohort of two in `in`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    cohort(tmp_path / "in", 2)
    return tmp_path


@pytest.fixture
def run(tiny_checkpoint: Path, capfd: pytest.CaptureFixture[str]) -> Any:
    """Runs the command with the tiny network: exit code and counts by status that are not 0."""

    def once(*arguments: object) -> tuple[int, dict[str, int]]:
        code, said = batch(capfd, *arguments, "--model", tiny_checkpoint, "--device", "cpu")
        return code, {status: n for status, n in said["counts"].items() if n} if "counts" in said else said["error"]

    return once


def test_it_makes_what_is_missing_as_a_single_run_does(folder: Path, run: Any, tiny_checkpoint: Path) -> None:
    shutil.copytree(folder / "in" / "p00", folder / "in" / "whole")
    shutil.copy(folder / "in" / "p01" / "t2.nii.gz", folder / "in" / "whole")
    before = contents(folder / "in")
    assert run("in", "-o", "out") == (0, {"made": 2, "complete": 1})
    assert contents(folder / "in") == before
    assert sorted(images(folder / "out")) == [MADE, "p01/p01_desc-synthetic_T1w.nii.gz"]
    source = read_volume("in/p00/t1.nii.gz")
    here = Synthesizer(tiny_checkpoint, "cpu").synthesize(source, "t2", source="t1")
    there = nibabel.load(folder / "out" / MADE)
    assert np.array_equal(np.asarray(there.dataobj).T, here.volume.voxels)
    assert np.array_equal(there.affine, source.ijk_to_ras)
    document = json.loads((folder / "out" / "p00" / "p00_desc-synthetic_T2w.json").read_text())
    assert document["synthetic"] is True
    assert document["Sources"] == ["../../in/p00/t1.nii.gz"]
    assert document["SourceSHA256"] == sha256_of("in/p00/t1.nii.gz")
    assert document["OutputSHA256"] == sha256_of(folder / "out" / MADE)


def test_a_second_run_changes_nothing(folder: Path, run: Any) -> None:
    run("in", "-o", "out")
    before = {path: path.stat().st_mtime_ns for path in (folder / "out" / "p00").iterdir()}
    assert run("in", "-o", "out") == (0, {"kept": 2})
    assert {path: path.stat().st_mtime_ns for path in (folder / "out" / "p00").iterdir()} == before


def test_a_copy_with_new_times_is_known_by_its_bits(folder: Path, run: Any) -> None:
    run("in", "-o", "out")
    before = contents(folder / "out")
    for name in ("in", "out"):  # a copy has the same bits, and other times
        shutil.move(name, "old")
        shutil.copytree("old", name, copy_function=shutil.copyfile)
        shutil.rmtree("old")
    assert run("in", "-o", "out") == (0, {"kept": 2})
    assert contents(folder / "out") == before


def test_only_what_changed_is_made_again(folder: Path, run: Any) -> None:
    run("in", "-o", "out")
    before = images(folder / "out")
    changed = small_head()
    write_volume(changed.replaced(changed.voxels // 2 + changed.voxels // 4), "in/p00/t1.nii.gz", overwrite=True)
    assert run("in", "-o", "out") == (0, {"made": 1, "kept": 1})
    after = images(folder / "out")
    assert {path for path in before if before[path] != after[path]} == {MADE}


@pytest.mark.parametrize("harm", ["remove", "cut", "sidecar"])
def test_a_result_that_was_damaged_is_made_again(folder: Path, run: Any, harm: str) -> None:
    run("in", "-o", "out")
    before = images(folder / "out")
    made = folder / "out" / MADE
    if harm == "remove":
        made.unlink()
        expected: tuple[int, dict[str, int]] = (0, {"made": 1, "kept": 1})
    else:  # what is there and is not as it was written may be somebody's work
        victim = made if harm == "cut" else made.with_name("p00_desc-synthetic_T2w.json")
        victim.write_bytes(victim.read_bytes()[:-5])
        expected = (9, {"kept": 1, "failed": 1})
    assert run("in", "-o", "out") == expected
    assert (images(folder / "out") == before) is (harm != "cut")


def test_other_settings_make_all_again_and_leave_nothing_of_the_old(folder: Path, run: Any) -> None:
    run("in", "-o", "out")
    assert run("in", "-o", "out", "--cycle", "--format", ".nii") == (0, {"made": 2})
    assert sorted(contents(folder / "out")) == [
        *(f"p00/p00_desc-{what}" for what in ("cycleDifference_T1w.nii", "synthetic_T2w.json", "synthetic_T2w.nii")),
        *(f"p01/p01_desc-{what}" for what in ("cycleDifference_T2w.nii", "synthetic_T1w.json", "synthetic_T1w.nii")),
        *sorted(path for path in contents(folder / "out") if path.endswith(".png")),
    ]
    assert run("in", "-o", "out", "--overwrite", "--cycle", "--format", ".nii") == (0, {"made": 2})


def test_what_depends_on_a_setting_is_made_again_with_another(folder: Path, run: Any) -> None:
    """Precision, and the reference of brightness by its bits."""
    assert run("in", "-o", "out", "--to", "t2")[1]["made"] == 1
    assert run("in", "-o", "out", "--to", "t2", "--precision", "fp32")[1]["made"] == 1
    shutil.copy("in/p01/t2.nii.gz", "like.nii.gz")
    like = ("in", "-o", "out", "--to", "t2", "--like", "like.nii.gz")
    assert run(*like)[1]["made"] == 1
    assert run(*like)[1]["kept"] == 1
    reference = small_head("t2")
    write_volume(reference.replaced(reference.voxels // 2), "like.nii.gz", overwrite=True)
    assert run(*like)[1]["made"] == 1


def test_what_somebody_has_changed_is_not_removed_with_the_old(folder: Path, run: Any) -> None:
    run("in", "-o", "out")
    edited = folder / "out" / MADE
    edited.write_bytes(b"edited by hand")
    assert run("in", "-o", "out", "--format", ".nii") == (0, {"made": 2})
    assert edited.read_bytes() == b"edited by hand"
    assert sorted(images(folder / "out")) == [MADE]


def test_what_a_batch_made_is_no_input_of_the_next(folder: Path, run: Any) -> None:
    assert run("in", "-o", "in/run1", "--cycle") == (0, {"made": 2})
    assert run("in", "-o", "in/run2") == (0, {"made": 2})
    assert sorted(images(folder / "in" / "run2")) == [MADE, "p01/p01_desc-synthetic_T1w.nii.gz"]


def test_no_file_of_anybody_else_is_written_over(folder: Path, run: Any) -> None:
    acquired = folder / "out" / MADE
    acquired.parent.mkdir(parents=True)
    acquired.write_bytes(b"an acquired T2")
    for extra in ((), ("--overwrite",)):
        assert run("in", "-o", "out", *extra)[1]["failed"] == 1
        assert acquired.read_bytes() == b"an acquired T2"
    report = json.loads((folder / "out" / "report.json").read_text())
    assert [one["code"] for one in report["examinations"] if one["code"]] == ["output-exists"]


def test_one_bad_subject_does_not_stop_the_rest(folder: Path, run: Any, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "in" / "bad <b>").mkdir()
    (folder / "in" / "bad <b>" / "t1.nii.gz").write_bytes(b"junk")
    (folder / "in" / "=1+1").mkdir()
    write_volume(small_head().replaced(np.zeros((12, 30, 26), np.int16)), "in/=1+1/t1.nii")
    assert run("in", "-o", "out") == (9, {"made": 2, "failed": 2})
    with (folder / "out" / "report.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["subject"]: row for row in csv.DictReader(file)}
    assert rows["bad <b>"]["code"] == "input-corrupt"
    assert rows["'=1+1"]["code"] == "input-empty"  # no formula for a spreadsheet
    assert rows["p00"]["output"] == MADE
    page = (folder / "out" / "report.html").read_text(encoding="utf-8")
    assert "bad &lt;b&gt;" in page
    assert "<b>bad <b>" not in page
    for path in (*contents(folder / "out"),):
        if path.endswith((".png", ".nii.gz")):
            assert path in page
    assert (folder / "out" / "report.json").is_file()


def test_each_picture_is_of_source_and_result(folder: Path, run: Any) -> None:
    import SimpleITK as sitk

    run("in", "-o", "out")
    (picture, _) = sorted((folder / "out" / "report_pictures").iterdir())
    pixels = sitk.GetArrayFromImage(sitk.ReadImage(str(picture)))
    assert pixels.shape == (224, 336, 3)
    assert pixels[:112].any()


@pytest.mark.parametrize("after_another", [False, True])
def test_a_dry_run_tells_and_writes_nothing(
    folder: Path, tiny_checkpoint: Path, capfd: pytest.CaptureFixture[str], after_another: bool
) -> None:
    (folder / "in" / "x").mkdir()
    write_volume(phantom("t1"), folder / "in" / "x" / "scan.nii.gz")  # has to be looked at
    if after_another:
        (folder / "out" / ".mrsynth").mkdir(parents=True)
    before = sorted(folder.rglob("*"))
    code, said = batch(capfd, "in", "-o", "out", "--dry-run", "--model", tiny_checkpoint)
    assert (code, said["jobs"]) == (0, 3)
    made = [(one["subject"], one["target_contrast"]) for one in said["examinations"]]
    assert made == [("p00", "t2"), ("p01", "t1"), ("x", "t2")]
    assert sorted(folder.rglob("*")) == before


def test_a_volume_without_a_telling_name_is_looked_at(folder: Path, run: Any) -> None:
    (folder / "scans" / "x").mkdir(parents=True)
    write_volume(phantom("t2"), "scans/x/scan.nii.gz")
    assert run("scans", "-o", "out") == (0, {"made": 1})
    assert list(images(folder / "out")) == ["x/x_desc-synthetic_T1w.nii.gz"]
    assert (folder / "out" / ".mrsynth" / "looks.json").is_file()  # the next run need not look
    (folder / "scans" / "y").mkdir()
    (folder / "scans" / "y" / "scan.nii.gz").write_bytes(b"junk")
    assert run("scans", "-o", "out") == (0, {"kept": 1, "skipped": 1})


def test_only_the_wanted_contrast(run: Any) -> None:
    assert run("in", "-o", "out", "--to", "t1") == (0, {"made": 1, "skipped": 1})


def test_two_of_one_name_are_refused_both(folder: Path, run: Any) -> None:
    shutil.copytree("in/p00", "other/p00")
    assert run("in", "other", "-o", "out") == (9, {"made": 1, "failed": 2})


def test_a_bids_dataset_becomes_a_derivative(folder: Path, run: Any) -> None:
    anat = folder / "data" / "sub-01" / "ses-1" / "anat"
    anat.mkdir(parents=True)
    (folder / "data" / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    write_volume(small_head(), anat / "sub-01_ses-1_run-2_T1w.nii.gz")
    assert run("data", "-o", "data/derivatives/mrsynth") == (0, {"made": 1})
    out = folder / "data" / "derivatives" / "mrsynth"
    stem = "sub-01/ses-1/anat/sub-01_ses-1_run-2_desc-synthetic_T2w"
    assert list(images(out)) == [f"{stem}.nii.gz"]
    document = json.loads((out / f"{stem}.json").read_text())
    assert document["Sources"] == ["bids:raw:sub-01/ses-1/anat/sub-01_ses-1_run-2_T1w.nii.gz"]
    dataset = json.loads((out / "dataset_description.json").read_text())
    assert dataset["DatasetType"] == "derivative"
    assert dataset["GeneratedBy"][0]["Name"] == "MRSynth"
    assert (out / dataset["DatasetLinks"]["raw"]).resolve() == folder / "data"
    assert run("data", "-o", "data/derivatives/mrsynth") == (0, {"kept": 1})


def test_a_list_with_a_mask(folder: Path, run: Any) -> None:
    head = small_head()
    mask = np.zeros_like(head.voxels, dtype=np.uint8)
    mask[3:9, 8:22, 6:20] = 1
    write_volume(head.replaced(mask), "mask.nii.gz")
    Path("list.csv").write_text("subject,t1,t2,mask\nanna,in/p00/t1.nii.gz,,mask.nii.gz\nberta,in/none.nii,,\n")
    assert run("list.csv", "-o", "out") == (9, {"made": 1, "failed": 1})
    made = read_volume("out/anna/anna_desc-synthetic_T2w.nii.gz")
    assert made.voxels.any()
    assert not made.voxels[mask == 0].any()
    write_volume(head.replaced(np.roll(mask, 1, axis=1)), "mask.nii.gz", overwrite=True)
    assert run("list.csv", "-o", "out") == (9, {"made": 1, "failed": 1})


def test_a_dicom_export_to_series_of_the_same_studies(folder: Path, run: Any) -> None:
    import pydicom

    head = small_head()
    one = {**examination("ID-1"), **T1}
    write_series(folder / "export" / "a", head.voxels, head.ijk_to_ras, SeriesNumber=4, **one)
    write_series(folder / "export" / "b", head.voxels, head.ijk_to_ras, SeriesNumber=2, **{**examination("2"), **T2})
    assert run("export", "-o", "out", "--dicom") == (0, {"made": 2})
    files = [pydicom.dcmread(path) for path in (folder / "out" / "ID-1").rglob("*.dcm")]
    assert len(files) == 12
    assert {(file.StudyInstanceUID, file.SeriesNumber) for file in files} == {(one["StudyInstanceUID"], 4001)}
    assert run("export", "-o", "out", "--dicom") == (0, {"kept": 2})
    assert run("export", "-o", "out") == (0, {"made": 2})  # as images, and the series are gone
    assert len(images(folder / "out")) == 2
    assert not list((folder / "out").rglob("*.dcm"))


def test_a_dicom_series_in_several_folders_and_numbers_that_are_taken(folder: Path, run: Any) -> None:
    import pydicom

    head, one = small_head(), {**examination("ID-1"), **T1}
    files = write_series(folder / "disc" / "a", head.voxels, head.ijk_to_ras, SeriesNumber=4, **one)
    (folder / "disc" / "b").mkdir()
    for file in files[6:]:
        shutil.move(file, folder / "disc" / "b")
    flair = {**examination("ID-1"), **one, "SeriesDescription": "FLAIR", "SeriesNumber": 4001}
    write_series(folder / "disc" / "c", head.voxels, head.ijk_to_ras, **flair)
    assert run("disc", "-o", "out", "--dicom") == (0, {"made": 1})
    made = [pydicom.dcmread(path) for path in (folder / "out").rglob("*.dcm")]
    assert len(made) == 12
    assert {file.SeriesNumber for file in made} & {4, 4001} == set()
    assert {str(file.PatientName) for file in made} == {"Muster^Maria"}
    assert run("disc", "-o", "out", "--dicom", "--anonymize") == (0, {"made": 1})  # none with names is kept
    made = [pydicom.dcmread(path) for path in (folder / "out").rglob("*.dcm")]
    assert len(made) == 12
    assert "Muster" not in "".join(str(file) for file in made)


def test_one_patient_of_two_studies_stays_one_in_all_worker_processes(folder: Path, run: Any) -> None:
    import pydicom

    head = small_head()
    for study in ("1.2.3.1", "1.2.3.2"):
        tags = {**examination("ID-1"), **T1, "StudyInstanceUID": study, "StudyDate": f"2020010{study[-1]}"}
        write_series(folder / "export" / study, head.voxels, head.ijk_to_ras, **tags)
    code, counts = run("export", "-o", "out", "--dicom", "--anonymize", "--workers", "2")
    assert (code, counts["made"]) == (0, 2)
    made = [pydicom.dcmread(path) for path in (folder / "out").rglob("*.dcm")]
    assert len({file.StudyInstanceUID for file in made}) == 2
    assert len({file.PatientID for file in made} - {"ID-1"}) == 1


def test_a_full_disk_stops_the_run_and_the_next_one_goes_on(folder: Path, run: Any, small_disk: Path) -> None:
    cohort(folder / "many", 8)
    out = small_disk / "out"
    fill(small_disk, leave=90_000)
    code, error = run("many", "-o", out)
    assert (code, error["code"]) == (5, "output-full") if "code" in error else code == 5
    done = images(out)
    assert 0 < len(done) < 8
    for path in done:
        assert nibabel.load(out / path).get_fdata().any()  # whole
    (small_disk / "filling").unlink()
    code, counts = run("many", "-o", out)
    assert (code, counts["made"] + counts["kept"]) == (0, 8)
    assert len(done) - 1 <= counts["kept"] <= len(done)  # the disk may be full after an image, before its record
    run("many", "-o", folder / "undisturbed")
    assert images(out) == images(folder / "undisturbed")
    assert list((out / ".mrsynth" / "partial").iterdir()) == []


def test_an_output_folder_that_nobody_may_write_to(run: Any, read_only_folder: Path) -> None:
    code, error = run("in", "-o", read_only_folder / "out")
    assert (code, error["code"]) == (5, "output-not-writable")


def test_one_run_at_a_time_in_a_folder(folder: Path, run: Any) -> None:
    from MRSynthLib.engine.batch_records import Records

    with Records(folder / "out").locked():
        code, error = run("in", "-o", "out")
    assert (code, error["code"]) == (5, "batch-running")
    assert run("in", "-o", "out") == (0, {"made": 2})


@pytest.mark.parametrize(
    "arguments",
    [["--workers", "-1"], ["--scheduler", "tcp://x:1", "--workers", "2"], ["--anonymize"],
     ["--like", "x.nii"], ["--json", "--progress-json"]],
)  # fmt: skip
def test_what_does_not_go_together(arguments: list[str], folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["batch", "in", "-o", "out", *arguments]) == 2
    assert "[usage]" in capfd.readouterr().err
    assert not (folder / "out").exists()


def test_events_for_a_panel(folder: Path, tiny_checkpoint: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "in" / "p00" / "t1.nii.gz").write_bytes(b"junk")
    arguments = ["in", "-o", "out", "--workers", "0", "--progress-json", "--model", str(tiny_checkpoint)]
    assert main(["batch", *arguments]) == 9
    said = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    kinds = [event["event"] for event in said]
    assert kinds[-1] == "done"
    assert {"plan", "progress", "result", "failure"} <= set(kinds)
    (failure,) = (event for event in said if event["event"] == "failure")
    assert (failure["subject"], failure["error"]["code"]) == ("p00", "input-corrupt")
    (result,) = (event for event in said if event["event"] == "result")
    assert (folder / "out" / result["outputs"]["image"]).is_file()
    assert (folder / "out" / result["picture"]).is_file()
    last = [event for event in said if event["event"] == "progress"][-1]
    assert (last["done"], last["fraction"], last["seconds_left"]) == (2, 1.0, 0.0)
    assert said[-1]["report"] == str(folder / "out" / "report.html")


def test_what_cannot_begin_is_told_to_a_panel(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["batch", "missing", "-o", "out", "--workers", "0", "--progress-json"]) == 3
    assert json.loads(capfd.readouterr().out)["error"]["code"] == "input-not-found"


def test_results_whose_records_were_lost_are_known_by_their_sidecars(folder: Path, run: Any) -> None:
    run("in", "-o", "out")
    before = images(folder / "out")
    shutil.rmtree(folder / "out" / ".mrsynth")  # a copy without hidden files
    (folder / "out" / MADE).write_bytes(b"somebody's work")
    assert run("in", "-o", "out") == (9, {"made": 1, "failed": 1})
    after = images(folder / "out")
    assert {path for path in before if before[path] != after[path]} == {MADE}
    assert (folder / "out" / MADE).read_bytes() == b"somebody's work"


def test_maps_whose_records_were_lost_are_known_by_the_sidecar_of_the_image(folder: Path, run: Any) -> None:
    run("in", "-o", "out", "--cycle")
    before = images(folder / "out")
    shutil.rmtree(folder / "out" / ".mrsynth")
    assert run("in", "-o", "out", "--cycle") == (0, {"made": 2})
    assert images(folder / "out") == before
    shutil.rmtree(folder / "out" / ".mrsynth")
    edited = folder / "out" / "p00" / "p00_desc-cycleDifference_T1w.nii.gz"
    edited.write_bytes(b"somebody's work")
    assert run("in", "-o", "out", "--cycle") == (9, {"made": 1, "failed": 1})
    assert edited.read_bytes() == b"somebody's work"


@pytest.fixture
def job(folder: Path, tiny_checkpoint: Path) -> Job:
    """The first job of a run that ended before it was done, as a worker may hold it."""
    shutil.copy(tiny_checkpoint, folder / "model.safetensors")
    settings = batch_runs.settings_for(folder / "out", str(folder / "model.safetensors"), device="cpu", cycle=True)
    return batch_runs.plan([folder / "in"], settings)[0].jobs[0]


def carried_out(job: Job, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], object]) -> Outcome:
    """What comes of a job, where something happens when its voxels are computed and not yet written."""
    real = batch_job._synthesized

    def synthesized(*arguments: Any) -> Any:
        result = real(*arguments)
        monkeypatch.setattr(batch_job, "_synthesized", real)
        meanwhile()
        return result

    monkeypatch.setattr(batch_job, "_synthesized", synthesized)
    return batch_job.carry_out(job)


def test_a_file_that_comes_while_a_volume_is_computed_is_not_written_over(
    folder: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquired = folder / "out" / MADE

    def appear() -> None:
        acquired.parent.mkdir(parents=True)
        acquired.write_bytes(b"an acquired T2")

    outcome = carried_out(job, monkeypatch, appear)
    assert outcome["error"]["code"] == "output-exists"
    assert list(acquired.parent.iterdir()) == [acquired]
    assert acquired.read_bytes() == b"an acquired T2"


@pytest.mark.parametrize("of_a_run", [False, True])
def test_a_job_that_is_overtaken_by_the_next_run(
    folder: Path, job: Job, monkeypatch: pytest.MonkeyPatch, of_a_run: bool
) -> None:
    def overtake() -> None:
        assert batch_runs.run([folder / "in"], job.settings, Inline()).plan.counts()["made"] == 2

    mine = replace(job, settings=replace(job.settings, run="one that has ended")) if of_a_run else job
    if of_a_run:
        (folder / "out" / ".mrsynth").mkdir(parents=True)
        (folder / "out" / ".mrsynth" / "run").write_text("one that has ended")
    outcome = carried_out(mine, monkeypatch, overtake)
    # One that belongs to no run knows the same result for that of a run.
    assert outcome.get("error", {}).get("code") == ("cancelled" if of_a_run else None)
    assert batch_runs.run([folder / "in"], job.settings, Inline()).plan.counts()["kept"] == 2


def test_a_series_that_the_next_run_wrote_is_known_by_its_record(
    folder: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no sidecar that could tell."""
    head = small_head()
    write_series(folder / "export", head.voxels, head.ijk_to_ras, **{**examination("ID-1"), **T1})
    settings = replace(job.settings, dicom=True, cycle=False)
    job = batch_runs.plan([folder / "export"], settings)[0].jobs[0]
    outcome = carried_out(job, monkeypatch, lambda: batch_runs.run([folder / "export"], settings, Inline()))
    assert outcome["status"] == "made", outcome
    assert batch_runs.run([folder / "export"], settings, Inline()).plan.counts()["kept"] == 1


def test_a_job_of_a_run_that_has_ended_does_nothing(folder: Path, job: Job) -> None:
    assert batch_runs.run([folder / "in"], job.settings, Inline()).plan.counts()["made"] == 2
    before = contents(folder / "out")
    outcome = batch_job.carry_out(replace(job, settings=replace(job.settings, run="another", overwrite=True)))
    assert outcome["error"]["code"] == "cancelled"
    assert outcome["error"]["remedy"].endswith("what is done is kept.")
    assert contents(folder / "out") == before


def test_a_worker_with_another_version_or_another_checkpoint_refuses(folder: Path, job: Job) -> None:
    assert batch_job.carry_out(replace(job, software="0.0"))["error"]["code"] == "batch-scheduler"
    save_untrained(folder / "model.safetensors", read_card(folder / "model.safetensors"))
    assert batch_job.carry_out(job)["error"]["code"] == "model-hash"
    assert not images(folder / "out")


def test_names_that_are_no_unicode_text(folder: Path, tiny_checkpoint: Path, child_environment: dict[str, str]) -> None:
    """In a process of its own: ITK ends the one that gives it such a name."""
    name, out = os.fsdecode(b"M\xfcller"), folder / os.fsdecode(b"out-\xfc")
    try:
        shutil.move("in/p00/t1.nii.gz", folder / "in" / f"{name}_T1w.nii.gz")
    except OSError:
        pytest.skip("this file system has no such names")

    def said(*options: str) -> str:
        command = [*COMMAND, "in", "-o", str(out), "--model", str(tiny_checkpoint), "--workers", "0", *options]
        done = subprocess.run(command, env=child_environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    assert "M\\udcfcller: would make T2w" in said("--dry-run")
    assert "2 made" in said()
    assert sorted(images(out)) == [f"{name}/{name}_desc-synthetic_T2w.nii.gz", "p01/p01_desc-synthetic_T1w.nii.gz"]
    assert len(list((out / "report_pictures").iterdir())) == 2


def test_expected_errors_three_planes_and_a_reference_of_brightness(
    folder: Path, tiny_checkpoint: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from test_reliability import calibration

    card = {**read_card(tiny_checkpoint), "reliability": calibration()}
    calibrated = save_untrained(folder / "calibrated.safetensors", card)
    options = ["--to", "t2", "--planes", "three", "--reliability", "--like", "in/p01/t2.nii.gz"]
    code, said = batch(capfd, "in", "-o", "out", "--model", calibrated, "--device", "cpu", *options)
    assert (code, said["counts"]["made"]) == (0, 1)
    source = read_volume("in/p00/t1.nii.gz")
    here = Synthesizer(calibrated, "cpu").synthesize(
        source, "t2", source="t1", planes="three", reliability=True, like=read_volume("in/p01/t2.nii.gz")
    )
    assert here.reliability is not None
    assert here.interval is not None
    made = {"synthetic": here.volume, "expectedError": here.reliability, "errorInterval": here.interval}
    for name, expected in made.items():
        there = read_volume(f"out/p00/p00_desc-{name}_T2w.nii.gz")
        assert np.array_equal(there.voxels, expected.voxels), name
    document = json.loads((folder / "out" / "p00" / "p00_desc-synthetic_T2w.json").read_text())
    assert document["ContrastReference"]["Source"] == "../../in/p01/t2.nii.gz"
    assert here.trust is not None
    assert html.escape(here.trust["summary"]) in (folder / "out" / "report.html").read_text(encoding="utf-8")


def test_no_calibration_is_told_before_anything_is_done(folder: Path, run: Any) -> None:
    code, error = run("in", "-o", "out", "--reliability")
    assert (code, error["code"]) == (4, "model-reliability")
    assert not (folder / "out").exists()


def test_what_the_screening_refuses_fails_unless_forced(folder: Path, run: Any) -> None:
    (folder / "in" / "p00" / "t1.json").write_text('{"Modality": "CT"}')
    assert run("in", "-o", "out") == (9, {"made": 1, "failed": 1})
    report = json.loads((folder / "out" / "report.json").read_text())
    assert [one["code"] for one in report["examinations"] if one["code"]] == ["input-screened"]
    assert run("in", "-o", "out", "--force")[0] == 0
