"""What a batch run finds in BIDS datasets, CSV lists, DICOM exports and odd folders."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_series import T1, T2, examination, write_series
from engine_helpers import small_head

from MRSynthLib.engine import batch_inputs
from MRSynthLib.engine.batch_cohort import Examination
from MRSynthLib.engine.errors import MRSynthError


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
    assert (berta.folder, berta.scans[0].stem, berta.mask) == ("berta/2", "berta_2", None)
    for one in (nobody, cora):
        assert one.problem is not None
        assert one.problem.code == "batch-list"
    assert "Line 6" in str(cora.problem)


@pytest.mark.parametrize("text", ["", "name,t1\na,b", "subject\na", "subject,t1,t1\na,b,c", "\x00\xff"])
def test_no_list(tmp_path: Path, text: str) -> None:
    (tmp_path / "list.csv").write_bytes(text.encode("latin-1"))
    assert code_of(tmp_path / "list.csv") == "batch-list"


@pytest.mark.parametrize("name", ["../../up", "a/b", "CON", ".", "x" * 300, "Zoë\nA", "=1+1"])
def test_a_subject_of_any_name_gets_a_folder_of_its_own_below_the_output(tmp_path: Path, name: str) -> None:
    from MRSynthLib.engine.batch_csv import safe_name

    folder = safe_name(name)
    made = tmp_path / folder
    made.mkdir()
    assert made.parent == tmp_path
    assert made.resolve() != tmp_path.resolve()
    assert safe_name(name + " ") != folder


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
