"""What a batch run finds in BIDS datasets, CSV lists, DICOM exports and odd folders."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import phantom
from dicom_series import T1, T2, examination, write_series
from engine_helpers import small_head

from MRSynthLib.engine import batch_inputs, batch_looks, batch_plan
from MRSynthLib.engine.batch_cohort import Examination, Scan
from MRSynthLib.engine.batch_looks import Looks
from MRSynthLib.engine.batch_plan import Plan, Settings
from MRSynthLib.engine.batch_records import Records
from MRSynthLib.engine.errors import MRSynthError
from MRSynthLib.engine.files import write_volume


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"")
    return root


def find(*inputs: Path, output: Path | None = None, layout: str = "auto") -> list[Examination]:
    return batch_inputs.find(inputs, output or inputs[0].parent / "out", layout)


def found(examinations: list[Examination]) -> dict[str, list[Any]]:
    return {one.name: sorted((scan.contrast, scan.path.name) for scan in one.scans) for one in examinations}


def code_of(*inputs: Path, output: Path | None = None, layout: str = "auto") -> str:
    with pytest.raises(MRSynthError) as caught:
        find(*inputs, output=output, layout=layout)
    return caught.value.code


def planned(examinations: list[Examination], output: Path) -> Plan:
    """What would be done with them; none of them needs a look."""
    settings = Settings(output, "model", "0" * 64)
    *_, plan = batch_plan.make(examinations, settings, look=lambda scan: (None, "not looked at"))
    return plan


def test_bids_sessions_runs_and_what_is_left_out(tmp_path: Path) -> None:
    data = touch(
        tmp_path / "data",
        "dataset_description.json",
        "sub-01/anat/sub-01_T1w.nii.gz",
        "sub-01/anat/sub-01_T1w.json",
        "sub-01/anat/sub-01_ce-gd_T1w.nii.gz",
        "sub-01/anat/sub-01_FLAIR.nii.gz",
        "sub-01/anat/sub-01_part-phase_T2w.nii.gz",
        "sub-02/ses-a/anat/sub-02_ses-a_run-1_T2w.nii.gz",
        "sub-02/ses-a/anat/sub-02_ses-a_run-2_T2w.nii.gz",
        "sub-02/ses-b/anat/sub-02_ses-b_T1w.nii",
        "sub-03/func/sub-03_task-rest_bold.nii.gz",
        "derivatives/x/sub-04/anat/sub-04_T1w.nii.gz",
        "sub-evil name/anat/sub-05_T1w.nii.gz",
    )
    examinations = find(data)
    assert found(examinations) == {
        "sub-01": [("t1", "sub-01_T1w.nii.gz")],
        "sub-02 ses-a": [("t2", "sub-02_ses-a_run-1_T2w.nii.gz"), ("t2", "sub-02_ses-a_run-2_T2w.nii.gz")],
        "sub-02 ses-b": [("t1", "sub-02_ses-b_T1w.nii")],
    }
    assert [one.folder for one in examinations] == ["sub-01/anat", "sub-02/ses-a/anat", "sub-02/ses-b/anat"]
    assert examinations[1].scans[0].stem == "sub-02_ses-a_run-1"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_list(tmp_path: Path, separator: str) -> None:
    rows = [
        ["Subject", "session", "t1", "t2", "mask"],
        ["anna", "", "a t1.nii", "", "m.nii"],
        ["berta", "2", "", "b/t2.nii", ""],
        ["", "", "", "", ""],
        ["", "", "x.nii", "", ""],
        ["cora", "", "", "", ""],
    ]
    path = tmp_path / "list.csv"
    path.write_text("\n".join(separator.join(row) for row in rows), encoding="utf-8-sig")
    anna, berta, nobody, cora = find(path)
    assert [(scan.path, scan.contrast) for scan in anna.scans] == [(tmp_path / "a t1.nii", "t1")]
    assert anna.mask == tmp_path / "m.nii"
    assert anna.problem is not None
    assert (anna.problem.code, anna.problem.seen) == (
        "input-not-found",
        f"Line 2 names '{tmp_path / 'a t1.nii'}' (No such file or directory).",
    )
    assert (berta.folder, berta.scans[0].stem, berta.mask) == ("berta/2", "berta_2", None)
    for one in (nobody, cora):
        assert one.problem is not None
        assert one.problem.code == "batch-list"
    assert "Line 6" in str(cora.problem)


def test_what_is_listed_and_not_there_is_not_complete(tmp_path: Path) -> None:
    touch(tmp_path, "t1.nii", "t2.nii")
    (tmp_path / "list.csv").write_text("subject,t1,t2\nanna,t1.nii,t2.nii\nberta,t1.nii,none.nii\ncora,t1.nii,\n")
    plan = planned(find(tmp_path / "list.csv"), tmp_path / "out")
    assert [row.status for row in plan.rows] == ["complete", "failed", "open"]
    assert plan.rows[1].error["code"] == "input-not-found"


@pytest.mark.parametrize("text", ["", "name,t1\na,b", "subject\na", "subject,t1,t1\na,b,c", "\x00\xff"])
def test_no_list(tmp_path: Path, text: str) -> None:
    (tmp_path / "list.csv").write_bytes(text.encode("latin-1"))
    assert code_of(tmp_path / "list.csv") == "batch-list"


@pytest.mark.parametrize(
    "name", ["../../up", "a/b", "CON", "COM1", "lpt9", "nul.txt", ".", "x" * 300, "Zoë\nA", "=1+1"]
)
def test_a_subject_of_any_name_gets_a_folder_of_its_own_below_the_output(tmp_path: Path, name: str) -> None:
    from MRSynthLib.engine.batch_csv import safe_name

    folder = safe_name(name)
    made = tmp_path / folder
    made.mkdir()
    assert made.parent == tmp_path
    assert made.resolve() != tmp_path.resolve()
    assert safe_name(name + " ") != folder
    # Windows has no folder with such a name, whatever follows a dot.
    assert folder.partition(".")[0].lower() not in ("con", "com1", "lpt9", "nul")


def test_names_that_are_one_folder_on_some_systems_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "t1.nii")
    names = ("a", "A", "b", "caf\u00e9", "cafe\u0301")
    (tmp_path / "list.csv").write_text("subject,t1\n" + "".join(f"{n},t1.nii\n" for n in names), encoding="utf-8")
    plan = planned(find(tmp_path / "list.csv"), tmp_path / "out")
    assert [row.error.get("code") for row in plan.rows[:3]] == ["batch-doubled", "batch-doubled", None]
    assert "upper and lower case" in plan.rows[0].error["message"]
    decomposed = [Examination("x", "", name, find(tmp_path / "list.csv")[2].scans, "folder") for name in names[3:]]
    assert {row.status for row in planned(decomposed, tmp_path / "out").rows} == {"failed"}


def test_a_dicom_export(tmp_path: Path) -> None:
    volume, export = small_head(), tmp_path / "export"
    one, two = examination("ID-1"), examination("ID 2")
    write_series(export / "a", volume.voxels, volume.ijk_to_ras, SeriesNumber=4, **{**one, **T1})
    write_series(export / "b", volume.voxels, volume.ijk_to_ras, SeriesNumber=5, **{**one, **T2})
    write_series(export / "c", volume.voxels, volume.ijk_to_ras, SeriesNumber=2, **{**two, **T2})
    three = {**examination("ID-3"), "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    write_series(export / "d", volume.voxels[:6], volume.ijk_to_ras, SeriesNumber=1, **three)
    by_id = {each.subject: each for each in find(export)}
    assert [scan.contrast for scan in by_id["ID-1"].scans] == ["t1", "t2"]
    assert [(scan.contrast, len(scan.files)) for scan in by_id["ID 2"].scans] == [("t2", 12)]
    assert by_id["ID-1"].taken == (4, 5)
    assert len({each.folder for each in by_id.values()}) == 3
    assert by_id["ID-3"].problem is not None


def test_a_dicom_series_in_several_folders(tmp_path: Path) -> None:
    volume, disc = small_head(), tmp_path / "disc"
    files = write_series(disc / "A", volume.voxels, volume.ijk_to_ras, **{**examination(), **T1})
    (disc / "B").mkdir()
    for file in files[6:]:
        shutil.move(file, disc / "B")
    ((scan,),) = (one.scans for one in find(disc))
    assert scan.path == disc
    assert len(scan.files) == 12


def test_a_dicom_series_that_cannot_be_used_is_noted(tmp_path: Path) -> None:
    """The T1 would be made, as none can be read: but one was acquired, and the user should know."""
    volume, export, one = small_head(), tmp_path / "export", examination("ID-1")
    files = write_series(export / "a", volume.voxels, volume.ijk_to_ras, SeriesNumber=4, **{**one, **T1})
    write_series(export / "b", volume.voxels, volume.ijk_to_ras, SeriesNumber=5, **{**one, **T2})
    localizer = {**one, "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    write_series(export / "c", volume.voxels[::3], volume.ijk_to_ras, SeriesNumber=6, **localizer)
    files[5].unlink()
    (row,) = planned(find(export), tmp_path / "out").rows
    assert (row.status, row.target) == ("open", "t1")
    assert row.note.startswith("T1w is there, but cannot be used: series 4 't1_mprage_sag': ")
    assert "series 6" not in row.note


def test_of_several_the_finest_is_taken(tmp_path: Path) -> None:
    head = small_head()
    coarse = replace(head, ijk_to_ras=head.ijk_to_ras @ np.diag([1, 1, 3, 1.0]))
    for name, volume in (("x_run-1_T1w", coarse), ("x_run-2_T1w", head), ("x_run-3_T1w", coarse)):
        (tmp_path / "data" / "sub-x" / "anat").mkdir(parents=True, exist_ok=True)
        write_volume(volume, tmp_path / "data" / "sub-x" / "anat" / f"sub-{name}.nii.gz")
    plan = planned(find(tmp_path / "data"), tmp_path / "out")
    assert plan.jobs[0].source.path.name == "sub-x_run-2_T1w.nii.gz"


def test_a_result_has_one_description(tmp_path: Path) -> None:
    data = touch(tmp_path / "data", "sub-02/anat/sub-02_run-1_desc-preproc_T1w.nii.gz")
    job = planned(find(data), tmp_path / "out").jobs[0]
    assert job.target_path("synthetic", "t2") == "sub-02/anat/sub-02_run-1_desc-synthetic_T2w.nii.gz"


def test_one_file(tmp_path: Path) -> None:
    touch(tmp_path, "anna_T1.nii.gz", "berta_T1.nii.gz")
    assert found(find(tmp_path / "anna_T1.nii.gz")) == {"anna": [("t1", "anna_T1.nii.gz")]}


def test_what_lies_in_the_output_is_no_input(tmp_path: Path) -> None:
    data = touch(tmp_path / "data", "anna/t1.nii", "out/berta/t1.nii")
    assert list(found(find(data, output=data / "out"))) == ["anna"]


def test_what_a_sidecar_calls_synthetic_is_no_input(tmp_path: Path) -> None:
    data = touch(tmp_path / "data", "anna/t1.nii.gz", "anna/made_T2w.nii.gz")
    (data / "anna" / "made_T2w.json").write_text('{"synthetic": true}')
    assert found(find(data)) == {"anna": [("t1", "t1.nii.gz")]}


@pytest.mark.parametrize("what", ["synthetic", "cycleDifference", "expectedError", "errorInterval"])
def test_what_has_the_name_of_a_map_is_no_input(tmp_path: Path, what: str) -> None:
    name = f"sub-1/anat/sub-1_desc-{what}_T2w.nii.gz"  # of a dataset that an earlier run wrote
    data = touch(tmp_path / "data", "dataset_description.json", "sub-1/anat/sub-1_T1w.nii.gz", name)
    for layout in ("bids", "folder"):
        assert [len(one.scans) for one in find(data, layout=layout)] == [1], layout


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("what", ["", "cycle difference, ", "cycle of "])  # the last one: as batches once wrote it
def test_what_a_header_calls_synthetic_is_no_input(tmp_path: Path, ending: str, what: str) -> None:
    data = touch(tmp_path / "data", "anna/t1.nii.gz")
    description = f"{what}SYNTHETIC T2w from T1w, MRSynth 0.1 model 0123"
    write_volume(small_head(), data / "anna" / f"t2{ending}", description=description)
    assert found(find(data)) == {"anna": [("t1", "t1.nii.gz")]}
    write_volume(small_head(), data / "anna" / f"t2{ending}", description="T2 TSE", overwrite=True)
    assert [len(one.scans) for one in find(data)] == [2]


def test_a_look_is_remembered_until_file_or_version_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = Records(tmp_path / "out")
    (tmp_path / "out" / ".mrsynth").mkdir(parents=True)
    scan = Scan(tmp_path / "scan.nii.gz", None, "x")
    write_volume(phantom("t1"), scan.path)

    def looked() -> tuple[str | None, bool]:
        """Contrast, and whether the volume was read for it."""
        read: list[Scan] = []
        with monkeypatch.context() as patch:
            real = batch_looks.batch_scan.read
            patch.setattr(batch_looks.batch_scan, "read", lambda scan: read.append(scan) or real(scan))
            looks = Looks(records)
            contrast, _ = looks.look(scan)
            looks.save()
        return contrast, bool(read)

    assert [looked(), looked()] == [("t1", True), ("t1", False)]
    write_volume(phantom("t2"), scan.path, overwrite=True)
    assert [looked(), looked()] == [("t2", True), ("t2", False)]
    monkeypatch.setattr(batch_looks, "__version__", "another")
    assert [looked(), looked()] == [("t2", True), ("t2", False)]


def test_a_look_that_failed_is_not_remembered(tmp_path: Path) -> None:
    """The header keeps size and time while its voxels come and go, as a share does."""
    records, header = Records(tmp_path / "out"), tmp_path / "scan.mhd"
    (tmp_path / "out" / ".mrsynth").mkdir(parents=True)
    image = sitk.GetImageFromArray(phantom("t1").voxels)
    image.SetSpacing((4.25, 4.25, 4.25))
    sitk.WriteImage(image, str(header))
    scan, voxels = Scan(header, None, "x"), tmp_path / "scan.raw"
    voxels.rename(tmp_path / "away")
    looks = Looks(records)
    assert looks.look(scan)[0] is None
    looks.save()
    (tmp_path / "away").rename(voxels)
    assert Looks(records).look(scan)[0] == "t1"


def test_links_in_a_circle_come_to_an_end(tmp_path: Path) -> None:
    data = touch(tmp_path / "data", "anna/t1.nii", "elsewhere/t2.nii")
    try:
        (data / "anna" / "again").symlink_to(data, target_is_directory=True)
        (data / "anna" / "nowhere").symlink_to(tmp_path / "missing")
        (data / "anna" / "self.nii").symlink_to(data / "anna" / "self.nii")
    except OSError:
        pytest.skip("links are not permitted here")
    names = [scan.path.name for one in find(data) for scan in one.scans]
    assert sorted(names) == ["t1.nii", "t2.nii"]


@pytest.mark.skipif(os.name == "nt", reason="names that Windows does not have")
def test_names_with_spaces_newlines_and_letters_of_the_world(tmp_path: Path) -> None:
    names = ["Zoë 1", "line\nbreak", "日本", "a'b\"c<d>&"]
    data = touch(tmp_path / "data", *(f"{name}/t1.nii.gz" for name in names))
    assert sorted(found(find(data))) == sorted(names)


def test_inputs_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    touch(tmp_path / "texts", "a.txt")
    touch(tmp_path / "data", "anna/flair.nii.gz")
    assert code_of(tmp_path / "missing") == "input-not-found"
    assert code_of(tmp_path / ("x" * 400)) == "input-not-found"
    assert code_of(tmp_path / "empty") == "input-not-an-image"
    assert code_of(tmp_path / "texts") == "input-not-an-image"
    assert code_of(tmp_path / "data") == "batch-nothing"
    assert code_of(tmp_path / "data", output=tmp_path / "data") == "output-is-input"
    assert code_of(tmp_path / "data", output=tmp_path) == "output-is-input"


def test_the_picture_shows_the_patients_right_on_the_left(tmp_path: Path) -> None:
    """A bright corner at right, anterior, superior ends up at the upper left of all planes; whatever the axes."""
    from engine_helpers import axes_of, grid

    from MRSynthLib.engine.batch_picture import SIDE, _planes
    from MRSynthLib.engine.volume import Volume

    for name in ("RAS", "PIL", "SLA"):
        affine = grid((40, 40, 40), (5.0, 5.0, 5.0), axes_of(name))
        index = np.stack(np.meshgrid(*map(np.arange, (40, 40, 40)), indexing="ij")[::-1], axis=-1)
        points = index @ affine[:3, :3].T + affine[:3, 3]
        planes = _planes(Volume((points > 50).any(axis=-1) * 1.0, affine), np.zeros(3))
        for n in range(3):
            plane = planes[:, n * SIDE : (n + 1) * SIDE]
            assert plane[SIDE // 2, 10] == 1, (name, n)
            assert plane[10, SIDE // 2] == 1, (name, n)
            assert plane[-10, -10] == 0, (name, n)
