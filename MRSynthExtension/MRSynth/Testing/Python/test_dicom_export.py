"""A result in the scene goes out as a DICOM series in the study of its source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("slicer")
pytest.importorskip("pydicom")
pytest.importorskip("dicomanonymizer")

import pydicom
import slicer
from dicom_series import write_series
from mrml_scenes import add_volume, scene, synthesize

from MRSynthLib.desktop import dicom_export, mrml, trust
from MRSynthLib.engine import read_volume
from MRSynthLib.engine.errors import OutputError

__all__ = ["scene"]


class Database:
    """Stands in for ctkDICOMDatabase, as far as it is asked: the file of an instance, "" for one that it lacks."""

    def __init__(self, files: list[Path]) -> None:
        self.files = {str(pydicom.dcmread(path).SOPInstanceUID): str(path) for path in files}

    def fileForInstance(self, uid: str) -> str:  # noqa: N802
        return self.files.get(uid, "")

    def fileValue(self, file: str, tag: str) -> str:  # noqa: N802
        return ""


@pytest.fixture
def result(scene: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A result whose source was loaded from a real series."""
    voxels = np.random.default_rng(3).integers(0, 900, (6, 24, 20)).astype(np.int16)
    affine = np.diag([-0.9, -0.9, 3.0, 1.0])
    affine[:3, 3] = 10.0, 20.0, -30.0
    files = write_series(tmp_path / "series", voxels, affine, EchoTime="4", RepetitionTime="500")
    database = Database(files)
    monkeypatch.setattr(slicer, "dicomDatabase", database, raising=False)
    source = scene.AddNode(mrml.node_from_volume(read_volume(tmp_path / "series")))
    source.SetAttribute("DICOM.instanceUIDs", " ".join(database.files))
    return synthesize(source)


def test_a_result_becomes_a_derived_series_of_the_same_study(result: Any, tmp_path: Path) -> None:
    made = dicom_export.export(result, tmp_path / "out")
    images = [pydicom.dcmread(path) for path in sorted(made.iterdir())]
    source = pydicom.dcmread(next((tmp_path / "series").iterdir()))
    assert len(images) == 6
    for image in images:
        assert list(image.ImageType)[:2] == ["DERIVED", "SECONDARY"]
        assert image.SeriesDescription.startswith("SYNTHETIC")
        assert (image.StudyInstanceUID, image.PatientID) == (source.StudyInstanceUID, source.PatientID)
        assert image.SeriesInstanceUID != source.SeriesInstanceUID
    again = read_volume(made)
    ours = mrml.volume_from_node(result)
    np.testing.assert_allclose(again.ijk_to_ras, ours.ijk_to_ras, atol=1e-4)
    np.testing.assert_array_equal(again.voxels, ours.voxels)


def test_the_expected_error_becomes_a_series_of_its_own(scene: Any, result: Any, tmp_path: Path) -> None:
    voxels = np.full_like(mrml.volume_from_node(result).voxels, 77)
    node = scene.AddNode(mrml.node_from_volume(mrml.volume_from_node(result).replaced(voxels)))
    trust.remember(result, {"summary": "some"}, node, None)
    made = dicom_export.export(result, tmp_path / "out")
    others = [folder for folder in made.parent.iterdir() if folder != made]
    assert [folder.name for folder in others] == ["expected-error"]
    assert np.all(read_volume(others[0]).voxels == 77)
    series = {pydicom.dcmread(next(folder.iterdir())).SeriesInstanceUID for folder in (made, *others)}
    assert len(series) == 2


def test_without_identity_on_request(result: Any, tmp_path: Path) -> None:
    made = dicom_export.export(result, tmp_path / "out", anonymous=True)
    source = pydicom.dcmread(next((tmp_path / "series").iterdir()))
    image = pydicom.dcmread(next(made.iterdir()))
    assert image.get("PatientID", "") != source.PatientID
    assert image.StudyInstanceUID != source.StudyInstanceUID


def test_without_a_dicom_source_nothing_is_written(scene: Any, tmp_path: Path) -> None:
    made = synthesize(add_volume(scene))
    assert dicom_export.source_files(made) == []
    with pytest.raises(OutputError) as caught:
        dicom_export.export(made, tmp_path / "out")
    assert caught.value.code == "dicom-no-source"
    assert not (tmp_path / "out").exists()


def test_a_folder_with_files_is_left_alone(result: Any, tmp_path: Path) -> None:
    kept = tmp_path / "out" / "thesis.txt"
    kept.parent.mkdir()
    kept.write_text("five years")
    with pytest.raises(OutputError):
        dicom_export.export(result, tmp_path / "out")
    assert list(kept.parent.iterdir()) == [kept]
