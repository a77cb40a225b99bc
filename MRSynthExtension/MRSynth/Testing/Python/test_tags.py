"""Acquisition tags of a node that was loaded from DICOM, and what becomes of them in a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("slicer")
pytest.importorskip("pydicom")

import pydicom
import slicer
from mrml_scenes import add_volume, calculated, in_process
from mrml_scenes import scene as scene

from MRSynth import MRSynthLogic
from MRSynthLib.desktop.runner import RunResult
from MRSynthLib.desktop.tags import acquisition_tags
from MRSynthLib.engine.volume import Volume


class Database:
    """Stands in for ctkDICOMDatabase: instances and their files, values as text, "" for what is not there."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}

    def fileForInstance(self, uid: str) -> str:  # noqa: N802
        return self.files.get(uid, "")

    def fileValue(self, file: str, tag: str) -> str:  # noqa: N802
        group, element = (int(part, 16) for part in tag.split(","))
        found = pydicom.dcmread(file).get((group, element))
        if found is None or found.value in (None, ""):
            return ""
        several = isinstance(found.value, pydicom.multival.MultiValue)
        return "\\".join(str(each) for each in found.value) if several else str(found.value)


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Database:
    """A database that holds the first instance of a T2, in a real file."""
    instance = pydicom.dataset.FileDataset(str(tmp_path / "1.dcm"), {}, preamble=b"\0" * 128)
    instance.file_meta = pydicom.dataset.FileMetaDataset()
    instance.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    instance.SOPClassUID, instance.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "1.2.3.1"
    instance.EchoTime, instance.RepetitionTime = "95", "5000"
    instance.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    instance.SequenceName, instance.ContrastBolusAgent, instance.BodyPartExamined = "*tse2d1_15 ", "", "HEAD"
    instance.PatientName = "Nobody^At All"
    instance.save_as(tmp_path / "1.dcm", enforce_file_format=True)
    made = Database()
    made.files["1.2.3.1"] = str(tmp_path / "1.dcm")
    monkeypatch.setattr(slicer, "dicomDatabase", made, raising=False)
    return made


def loaded(scene: Any) -> Any:
    node = add_volume(scene)
    node.SetAttribute("DICOM.instanceUIDs", "1.2.3.1 1.2.3.2")
    return node


@pytest.mark.usefixtures("database")
def test_tags_come_by_keyword_from_the_first_instance_and_name_nobody(scene: Any) -> None:
    tags = acquisition_tags(loaded(scene))
    assert {key: float(tags.pop(key)) for key in ("EchoTime", "RepetitionTime")} == {
        "EchoTime": 95,
        "RepetitionTime": 5000,
    }
    assert tags == {
        "ImageType": "ORIGINAL\\PRIMARY\\M\\ND",
        "SequenceName": "*tse2d1_15",
        "BodyPartExamined": "HEAD",
    }


@pytest.mark.usefixtures("database")
def test_a_node_that_was_not_loaded_from_dicom_has_none(scene: Any) -> None:
    node = add_volume(scene)
    assert acquisition_tags(node) == {}
    node.SetAttribute("DICOM.instanceUIDs", "")
    assert acquisition_tags(node) == {}
    node.SetAttribute("DICOM.instanceUIDs", "9.9.9")
    assert acquisition_tags(node) == {}


def test_without_a_database_there_are_none(scene: Any) -> None:
    assert not hasattr(slicer, "dicomDatabase")
    assert acquisition_tags(loaded(scene)) == {}


def test_a_file_that_is_gone_is_not_asked(scene: Any, database: Database) -> None:
    Path(database.files["1.2.3.1"]).unlink()
    assert acquisition_tags(loaded(scene)) == {}


def test_a_database_that_fails_stops_nobody(scene: Any, database: Database) -> None:
    Path(database.files["1.2.3.1"]).write_bytes(b"no DICOM at all")
    assert acquisition_tags(loaded(scene)) == {}


@pytest.mark.usefixtures("database")
def test_a_run_gets_the_tags(scene: Any) -> None:
    seen: list[Volume] = []

    def run(volume: Volume, **options: Any) -> RunResult:
        seen.append(volume)
        return calculated(volume, **options)

    MRSynthLogic(worker=in_process(run)).synthesize(loaded(scene))
    assert float(seen[0].metadata["EchoTime"]) == 95
    np.testing.assert_array_equal(seen[0].voxels, slicer.util.arrayFromVolume(scene.GetFirstNodeByName("MRHead")))
