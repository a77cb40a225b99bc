"""The commands that know DICOM: synthesize from and to folders, list, send."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from conftest import phantom
from dicom_archive import an_archive
from dicom_series import T1, T2, examination, write_series

from MRSynthLib.engine import Synthesizer, read_volume
from MRSynthLib.engine.cli import main
from MRSynthLib.engine.writing import sha256_of


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with an examination in `exam`: a localiser (1), a T1 (4)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    shared, volume = examination(), phantom("t1")
    write_series(tmp_path / "exam" / "a", volume.voxels, volume.ijk_to_ras, **{**shared, **T1})
    localiser = {
        **shared,
        "SeriesDescription": "loc",
        "SeriesNumber": 1,
        "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"],
    }
    write_series(tmp_path / "exam" / "b", volume.voxels[:3], volume.ijk_to_ras, **localiser)
    return tmp_path


def run(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main([*arguments, "--json"])
    return code, json.loads(capfd.readouterr().out)


def synthesize(model: Path, capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    return run(capfd, "synthesize", "exam", *arguments, "--model", str(model), "--device", "cpu")


def test_from_an_examination_to_a_series_in_it(
    folder: Path, tiny_checkpoint: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, said = synthesize(tiny_checkpoint, capfd, "-o", "out", "--dicom", "--cycle-series")
    assert code == 0
    assert said["series"] == ["out/synthetic", "out/cycle-difference"]
    assert said["source"]["number"] == 4
    volume = read_volume(folder / "exam" / "a")
    here = Synthesizer(tiny_checkpoint, "cpu").synthesize(volume, "t2")
    back = read_volume(folder / "out" / "synthetic")
    assert np.array_equal(back.voxels, here.volume.voxels)
    assert np.array_equal(back.ijk_to_ras, volume.ijk_to_ras)
    image = pydicom.dcmread(next((folder / "out" / "synthetic").iterdir()))
    assert image.PatientName == "Muster^Maria"
    assert image.SeriesNumber == 4001
    assert sorted(path.name for path in folder.iterdir()) == ["exam", "out"]


def test_numbers_of_earlier_results_in_the_folder_are_not_used_again(
    folder: Path, tiny_checkpoint: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, number in (("exam/first", 4001), ("exam/second", 4002)):
        assert synthesize(tiny_checkpoint, capfd, "-o", name, "--dicom")[0] == 0
        assert pydicom.dcmread(folder / name / "synthetic" / "0001.dcm").SeriesNumber == number


def test_anonymous_on_request(folder: Path, tiny_checkpoint: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("dicomanonymizer")
    assert synthesize(tiny_checkpoint, capfd, "-o", "out", "--dicom", "--anonymize")[0] == 0
    image = pydicom.dcmread(folder / "out" / "synthetic" / "0001.dcm")
    assert image.PatientIdentityRemoved == "YES"
    assert "Muster" not in str(image)


def test_to_an_image_file_its_sidecar_knows_the_series(
    folder: Path, tiny_checkpoint: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert synthesize(tiny_checkpoint, capfd, "-o", "t2.nii.gz")[0] == 0
    document = json.loads((folder / "t2.json").read_text())
    assert document["SourceMetadata"]["SeriesDescription"] == "t1_mprage_sag"
    only = sorted((folder / "exam" / "a").iterdir())
    assert document["SourceSHA256"] == sha256_of(folder / "exam", only) != sha256_of(folder / "exam")


def test_a_series_is_chosen_by_name(folder: Path, tiny_checkpoint: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, said = synthesize(tiny_checkpoint, capfd, "-o", "out", "--dicom", "--series", "1")
    assert (code, said["error"]["code"]) == (3, "input-too-few-slices")
    code, said = synthesize(tiny_checkpoint, capfd, "-o", "out", "--dicom", "--series", "5")
    assert (code, said["error"]["code"]) == (3, "dicom-series-unknown")
    assert synthesize(tiny_checkpoint, capfd, "-o", "out", "--dicom", "--series", "4")[0] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["exam", "-o", "out", "--anonymize"],
        ["exam", "-o", "out", "--cycle-series"],
        ["exam", "-o", "out", "--dicom", "--cycle", "c.nii"],
        ["exam", "-o", "out", "--dicom", "--overwrite"],
        ["file.nii", "-o", "out", "--dicom"],
        ["file.nii", "-o", "out.nii", "--series", "4"],
    ],
)
def test_what_does_not_go_together(folder: Path, arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "file.nii").write_text("")
    before = sorted(folder.rglob("*"))
    assert main(["synthesize", *arguments]) == 2
    assert "[usage]" in capfd.readouterr().err
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("name", ["missing", "x" * 300])
def test_an_input_that_is_not_there(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    code, said = run(capfd, "synthesize", name, "-o", "out", "--dicom")
    assert (code, said["error"]["code"]) == (3, "input-not-found")


@pytest.mark.parametrize(("output", "code"), [("exam", "output-exists"), ("no/out", "output-folder-missing"),
                                              ("x" * 300, "output-not-writable")])  # fmt: skip
def test_a_folder_that_cannot_be_is_refused_before_anything_is_computed(
    output: str, code: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    exit_code, said = run(capfd, "synthesize", "exam", "-o", output, "--dicom", "--model", "missing")
    assert (exit_code, said["error"]["code"]) == (5, code)


def test_the_list_names_every_series_and_what_speaks_against_it(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    volume = phantom("t2")
    write_series(folder / "exam" / "gap", volume.voxels, volume.ijk_to_ras, SeriesNumber=9, skip=[20], **T2)
    assert main(["dicom", "list", "exam"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("patient TEST-1, study 20240301 MR brain")]
    t1 = next(line for line in lines if "t1_mprage_sag" in line)
    assert t1.split()[:3] == ["4", "T1", "40"]
    assert "4.25 x 4.25 x 4.25 mm" in t1
    assert t1.endswith("suitable")
    assert "not picked" in next(line for line in lines if line.split()[:2] == ["1", "localiser"])
    assert "1 missing" in next(line for line in lines if "t2_tse_tra" in line)

    code, said = run(capfd, "dicom", "list", "exam")
    assert code == 0
    entry = next(entry for entry in said["series"] if entry["number"] == 4)
    assert entry["contrast"] == "t1"
    assert entry["suitable"] is True
    assert next(entry for entry in said["series"] if entry["number"] == 9)["error"] == "dicom-slices"


@pytest.mark.parametrize(("where", "code"), [("missing", "input-not-found"), ("empty", "input-not-an-image")])
def test_a_list_of_nothing(where: str, code: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "empty").mkdir()
    exit_code, said = run(capfd, "dicom", "list", where)
    assert (exit_code, said["error"]["code"]) == (3, code)


def test_hostile_descriptions_do_not_steer_the_terminal(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for path in (folder / "exam" / "a").iterdir():
        data = pydicom.dcmread(path)
        data.SeriesDescription = "t1\x1b[2J\x07bad"
        data.save_as(path)
    assert main(["dicom", "list", "exam"]) == 0
    out = capfd.readouterr().out
    assert "bad" in out
    assert "\x1b" not in out
    assert "\x07" not in out


def test_a_result_is_sent(folder: Path, tiny_checkpoint: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert synthesize(tiny_checkpoint, capfd, "-o", "out", "--dicom")[0] == 0
    with an_archive() as archive:
        node = archive.start(require_calling_aet=["SCANNER9"])
        address = f"127.0.0.1:{node.port}"
        code, said = run(capfd, "send", "out", address, "--aec", "ARCHIVE", "--aet", "SCANNER9", "--timeout", "10")
        assert (code, said["sent"]) == (0, 40)
        assert len(archive.received) == 40
        assert main(["send", "out", address, "--aec", "ARCHIVE", "--aet", "STRANGER"]) == 5
        assert "[dicom-send]" in capfd.readouterr().err
        assert len(archive.received) == 40


@pytest.mark.parametrize(
    "arguments",
    [["localhost"], ["localhost:0"], ["localhost:x"], [":104"], ["h:1", "--aet", "x" * 17], ["h:1", "--aec", ""],
     ["h:1", "--timeout", "0"]],
)  # fmt: skip
def test_an_address_has_a_host_and_a_port(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["send", "exam", *arguments]) == 2
    assert "[usage]" in capfd.readouterr().err


def test_a_node_that_is_not_there(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pynetdicom")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code, said = run(capfd, "send", "exam", f"127.0.0.1:{port}")
    assert (code, said["error"]["code"]) == (5, "dicom-send")
