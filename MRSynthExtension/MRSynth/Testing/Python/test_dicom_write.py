"""Derived DICOM series out: what they say, where they lie, and that all of it is written or nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_series import LPS, T1, examination, write_enhanced, write_series
from engine_helpers import axes_of, grid, rotated, sheared, small_head
from pydicom import uid

from MRSynthLib import __version__
from MRSynthLib.engine import Synthesizer, dicom, dicom_derive, read_volume
from MRSynthLib.engine.errors import InputError, InstallError, OutputError
from MRSynthLib.engine.volume import Volume

SHAPE, SPACING = (7, 18, 16), (0.9, 1.1, 2.5)
AXES = {
    "axial": axes_of("LPS"),
    "sagittal": axes_of("PIR"),
    "oblique": rotated(axes_of("LIP"), (20, -35, 50)),
    "tilted": sheared(rotated(axes_of("LPS"), (3, 0, 2)), 12),
}
SYNTAXES = {
    "explicit": uid.ExplicitVRLittleEndian,
    "implicit": uid.ImplicitVRLittleEndian,
    "big endian": uid.ExplicitVRBigEndian,
    "RLE": uid.RLELossless,
    "JPEG": uid.JPEGLosslessSV1,
    "JPEG-LS": uid.JPEGLSLossless,
}
MADE = dicom.Derivation("t1", "t2", "modèle", "a1" * 32)
SECRETS = {  # of the scanner and its people: nothing of this may be in what is written
    "InstitutionName": "St. Elsewhere",
    "ClinicalTrialSubjectID": "TRIAL-9",
    "OperatorsName": "Operator^Otto",
    "StationName": "MAGNET7",
    "DeviceSerialNumber": "SN12345",
    "ProtocolName": "secret protocol",
    "EchoTime": "3.7712345",
    "RepetitionTime": "2311",
    "InversionTime": "911",
    "FlipAngle": "9",
    "MagneticFieldStrength": "3",
    "SequenceName": "*tfl3d1",
    "ContrastBolusAgent": "Gadolinium",
    "AcquisitionDate": "20240229",
    "ImageComments": "call Dr Who",
}


def voxels(top: int = 1200) -> np.ndarray:
    return np.random.default_rng(9).integers(0, top, SHAPE).astype(np.int16)


def affine_of(name: str = "oblique") -> np.ndarray:
    return grid(SHAPE, SPACING, AXES[name])


def source(folder: Path, orientation: str = "oblique", **options: Any) -> dicom.Series:
    write_series(folder, voxels(900), affine_of(orientation), **{**T1, **options})
    return dicom.find_series(folder)[0]


def synthetic(series: dicom.Series, values: np.ndarray | None = None) -> Volume:
    assert series.ijk_to_ras is not None
    return Volume(voxels() if values is None else values, series.ijk_to_ras, name="T2")


def telling(secrets: list[str]) -> list[str]:
    """Those that a random UID does not hold by chance."""
    return [secret for secret in secrets if len(secret) > 3 and (len(secret) > 7 or not secret.isdecimal())]


def written(folder: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.rglob("*.dcm"))]


@pytest.fixture
def exported(tmp_path: Path) -> tuple[dicom.Series, list[pydicom.Dataset], Path]:
    """The source, the images made from it, and the folder that they lie in."""

    def private(data: pydicom.Dataset, k: int) -> None:
        data.private_block(0x0029, "ACME", create=True).add_new(1, "LO", "private words")

    series = source(tmp_path / "source", **SECRETS, change=private)
    dicom.write_series(synthetic(series), series, tmp_path / "out", MADE)
    return series, written(tmp_path / "out"), tmp_path / "out"


# --- what it says -------------------------------------------------------------------------------------------


def test_it_never_passes_for_an_acquired_series(exported: tuple[dicom.Series, list[pydicom.Dataset], Path]) -> None:
    for image in exported[1]:
        assert list(image.ImageType)[:2] == ["DERIVED", "SECONDARY"]
        assert "ORIGINAL" not in image.ImageType
        assert image.SOPClassUID == uid.MRImageStorage
        assert image.Modality == "MR"
        assert image.SeriesDescription == "SYNTHETIC T2w from T1w of t1_mprage_sag"
        assert image.BurnedInAnnotation == "NO"
        assert "not for diagnosis" in image.ImageComments


def test_it_says_how_it_was_made(exported: tuple[dicom.Series, list[pydicom.Dataset], Path]) -> None:
    for image in exported[1]:
        for text in ("SYNTHETIC", "T1w", f"MRSynth {__version__}", "mod?le", "a1" * 32, "not for diagnosis"):
            assert text in image.DerivationDescription
        equipment = image.ContributingEquipmentSequence[0]
        assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
        assert image.Manufacturer == equipment.Manufacturer == "MRSynth"
        assert list(image.SoftwareVersions) == list(equipment.SoftwareVersions)
        assert list(image.SoftwareVersions) == [f"MRSynth {__version__}", "a1" * 32, "model mod?le"]


def test_it_belongs_to_the_study_and_is_a_series_of_its_own(
    exported: tuple[dicom.Series, list[pydicom.Dataset], Path],
) -> None:
    series, images, _ = exported
    sources = [pydicom.dcmread(path) for path in series.files]
    for image, original in zip(images, sources, strict=True):
        for keyword in examination():
            assert image[keyword].value == original[keyword].value, keyword
    assert len({image.SeriesInstanceUID for image in images}) == 1
    assert len({image.SOPInstanceUID for image in images}) == len(images)
    old = {original[name].value for original in sources for name in ("SeriesInstanceUID", "SOPInstanceUID")}
    assert not old & {image[name].value for image in images for name in ("SeriesInstanceUID", "SOPInstanceUID")}
    assert all(image.file_meta.MediaStorageSOPInstanceUID == image.SOPInstanceUID for image in images)
    assert {image.SeriesNumber for image in images} == {4001}


def test_each_image_refers_to_the_one_in_its_place(exported: tuple[dicom.Series, list[pydicom.Dataset], Path]) -> None:
    series, images, _ = exported
    for image, path in zip(images, series.files, strict=True):
        original = pydicom.dcmread(path)
        reference = image.SourceImageSequence[0]
        assert reference.ReferencedSOPInstanceUID == original.SOPInstanceUID
        assert reference.ReferencedSOPClassUID == original.SOPClassUID
        assert reference.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        listed = image.ReferencedSeriesSequence[0]
        assert listed.SeriesInstanceUID == original.SeriesInstanceUID
        assert listed.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == original.SOPInstanceUID
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "InstanceNumber"):
            assert image[keyword].value == original[keyword].value, keyword


def test_nothing_untrue_or_private_is_copied(exported: tuple[dicom.Series, list[pydicom.Dataset], Path]) -> None:
    for image in exported[1]:
        assert image.EchoTime is None
        assert image.RepetitionTime is None
        for keyword in set(SECRETS) - {"EchoTime", "RepetitionTime", "ImageComments"}:
            assert keyword not in image
        assert not any(element.tag.is_private for element in image)
    content = b"".join(path.read_bytes() for path in exported[2].rglob("*.dcm"))
    for secret in telling([*SECRETS.values(), "private words", "Phantom Works"]):
        assert secret.encode() not in content, secret


def test_it_shows_from_zero_to_the_scale(exported: tuple[dicom.Series, list[pydicom.Dataset], Path]) -> None:
    for image in exported[1]:
        assert (image.WindowCenter, image.WindowWidth) == (500, 1000)
        assert (image.BitsAllocated, image.PixelRepresentation) == (16, 1)


@pytest.mark.parametrize(
    ("charset", "name"),
    [("ISO_IR 100", "Müller^Jörg"), ("ISO_IR 192", "Łęcki^Ян"), (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎")],
)
@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian])
def test_names_of_any_script_are_kept(charset: Any, name: str, syntax: str, tmp_path: Path) -> None:
    series = source(tmp_path / "source", SpecificCharacterSet=charset, PatientName=name, syntax=syntax)
    dicom.write_series(synthetic(series), series, tmp_path / "out", MADE)
    assert {str(image.PatientName) for image in written(tmp_path / "out")} == {name}


def test_a_source_without_the_usual_attributes_will_do(tmp_path: Path) -> None:
    def bare(data: pydicom.Dataset, k: int) -> None:
        for keyword in ("PatientName", "PatientID", "StudyDate", "FrameOfReferenceUID", "SliceThickness",
                        "SeriesNumber", "AccessionNumber", "SeriesDescription"):  # fmt: skip
            delattr(data, keyword)
        data.InstanceNumber = 1

    series = source(tmp_path / "source", change=bare)
    dicom.write_series(synthetic(series), series, tmp_path / "out", MADE)
    images = written(tmp_path / "out")
    assert [image.InstanceNumber for image in images] == [1, 2, 3, 4, 5, 6, 7]
    assert len({image.FrameOfReferenceUID for image in images}) == 1
    assert all(image.PatientName == "" for image in images)
    valid(tmp_path / "out")


@pytest.mark.parametrize(
    "tags",
    [{"SeriesDescription": "two\\values"}, {"SeriesDescription": "t1 " * 21}, {"SpecificCharacterSet": "ISO_IR 999"}],
)
def test_odd_text_in_the_source_gives_valid_images(tags: dict[str, str], tmp_path: Path) -> None:
    series = source(tmp_path / "source", **tags)
    dicom.write_series(synthetic(series), series, tmp_path / "out", MADE)
    for image in written(tmp_path / "out"):
        assert image.SeriesDescription.startswith("SYNTHETIC T2w from T1w of ")
        assert image.PatientName == "Muster^Maria"


def test_a_lossy_source_stays_lossy(tmp_path: Path) -> None:
    lossy = {"LossyImageCompression": "01", "LossyImageCompressionRatio": "12.5",
             "LossyImageCompressionMethod": "ISO_10918_1"}  # fmt: skip
    series = source(tmp_path / "source", **lossy)
    dicom.write_series(synthetic(series), series, tmp_path / "out", MADE)
    for image in written(tmp_path / "out"):
        assert {keyword: str(image[keyword].value) for keyword in lossy} == lossy


def test_what_the_source_says_of_no_loss_and_no_side_is_not_copied(tmp_path: Path) -> None:
    tags = {"LossyImageCompression": "00", "Laterality": "L", "BodyPartExamined": "HEAD"}
    series = source(tmp_path / "source", **tags)
    dicom.write_series(synthetic(series), series, tmp_path / "out", MADE)
    for image in written(tmp_path / "out"):
        assert image.BodyPartExamined == "HEAD"
        assert "LossyImageCompression" not in image
        assert "Laterality" not in image
    valid(tmp_path / "out")


@pytest.mark.parametrize("enhanced", [False, True])
def test_slices_are_as_thick_and_as_far_apart_as_those_of_the_source(enhanced: bool, tmp_path: Path) -> None:
    def thin(data: pydicom.Dataset, k: int) -> None:
        home = data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0] if enhanced else data
        home.SliceThickness = "2.25"

    if enhanced:
        write_enhanced(tmp_path / "source" / "IM", voxels(), affine_of(), change=thin, **T1)
    else:
        source(tmp_path / "source", change=thin)
    series = dicom.find_series(tmp_path / "source")[0]
    dicom.write_series(synthetic(series), series, tmp_path / "out", MADE)
    for image in written(tmp_path / "out"):
        assert float(image.SliceThickness) == 2.25
        assert float(image.SpacingBetweenSlices) == pytest.approx(SPACING[2], abs=1e-6)


def test_numbers_in_use_are_avoided(tmp_path: Path) -> None:
    series = source(tmp_path / "source")
    difference = (synthetic(series), "cycle difference", 300.0)
    dicom.write_series(synthetic(series), series, tmp_path / "out", MADE, maps=[difference], taken={4001, 4003})
    assert [series.number for series in dicom.find_series(tmp_path / "out")] == [4002, 4004]


# --- place and value ----------------------------------------------------------------------------------------


def valid(folder: Path) -> None:
    """Every file is a valid DICOM object, says dciodvfy."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian package dicom3tools)")
    for path in folder.rglob("*.dcm"):
        said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False).stderr
        assert "Error" not in said, said
        assert "MRImage" in said


@pytest.mark.parametrize("orientation", AXES)
@pytest.mark.parametrize("enhanced", [False, True])
def test_every_image_is_valid(orientation: str, enhanced: bool, tmp_path: Path) -> None:
    if enhanced:
        write_enhanced(tmp_path / "source" / "IM", voxels(), affine_of(orientation), **T1)
    else:
        source(tmp_path / "source", orientation)
    series = dicom.find_series(tmp_path / "source")[0]
    dicom.write_series(
        synthetic(series), series, tmp_path / "out", MADE, maps=[(synthetic(series), "cycle difference", 300.0)]
    )
    assert len(list((tmp_path / "out" / "cycle-difference").iterdir())) == SHAPE[0]
    valid(tmp_path / "out")


def by_pydicom(files: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Voxels, and RAS position of each voxel, shape (k, j, i, 3), by the formula of the standard."""
    values, places = [], []
    for path in files:
        image = pydicom.dcmread(path)
        row, column = np.array(image.ImageOrientationPatient, float).reshape(2, 3)
        between_rows, between_columns = map(float, image.PixelSpacing)
        j, i = np.meshgrid(np.arange(image.Rows), np.arange(image.Columns), indexing="ij")
        lps = (np.array(image.ImagePositionPatient, float) + (i * between_columns)[..., None] * row
               + (j * between_rows)[..., None] * column)  # fmt: skip
        values.append(image.pixel_array)
        places.append(lps * (-1, -1, 1))
    return np.array(values), np.array(places)


def by_simpleitk(files: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Slice by slice: SimpleITK has no sheared volumes."""
    values, places = [], []
    for path in files:
        image = sitk.ReadImage(str(path))
        lps = np.eye(4)
        lps[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
        lps[:3, 3] = image.GetOrigin()
        values.append(sitk.GetArrayFromImage(image)[0])
        places.append(places_of(LPS @ lps, (1, *values[-1].shape))[0])
    return np.array(values), np.array(places)


def by_slicer(files: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """As one volume, by the storage node of 3D Slicer."""
    slicer = pytest.importorskip("slicer")
    import vtk

    scene = slicer.vtkMRMLScene()
    storage, node = slicer.vtkMRMLVolumeArchetypeStorageNode(), slicer.vtkMRMLScalarVolumeNode()
    scene.AddNode(storage)
    scene.AddNode(node)
    storage.SetFileName(str(files[0]))
    storage.ResetFileNameList()
    for path in files:
        storage.AddFileName(str(path))
    storage.SetSingleFile(0)
    assert storage.ReadData(node)
    array = slicer.util.arrayFromVolume(node)
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return array, places_of(slicer.util.arrayFromVTKMatrix(matrix), array.shape)


def places_of(ijk_to_ras: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    k, j, i = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    return np.stack([i, j, k, np.ones_like(i)], axis=-1) @ ijk_to_ras[:3].T


READERS = {"pydicom": by_pydicom, "SimpleITK": by_simpleitk, "3D Slicer": by_slicer}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("orientation", AXES)
def test_other_software_finds_the_same_voxels_in_the_same_place(reader: str, orientation: str, tmp_path: Path) -> None:
    series = source(tmp_path / "source", orientation)
    dicom.write_series(synthetic(series), series, tmp_path / "out", MADE)
    values, places = READERS[reader](sorted((tmp_path / "out" / "synthetic").iterdir()))
    assert np.array_equal(values, voxels())
    np.testing.assert_allclose(places, places_of(affine_of(orientation), SHAPE), atol=1e-4)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_the_encoding_of_the_source_does_not_matter(syntax: str, tmp_path: Path) -> None:
    series = source(tmp_path / "source", syntax=SYNTAXES[syntax])
    dicom.write_series(dicom.load(series), series, tmp_path / "out", MADE)
    back = read_volume(tmp_path / "out")
    assert np.array_equal(back.voxels, voxels(900))
    assert np.array_equal(back.ijk_to_ras, series.ijk_to_ras)
    valid(tmp_path / "out")


def test_frames_of_an_enhanced_source_become_files_that_refer_to_them(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "source" / "IM", voxels(900), affine_of("tilted"), **T1)
    series = dicom.find_series(tmp_path / "source")[0]
    dicom.write_series(dicom.load(series), series, tmp_path / "out", MADE)
    original, values = pydicom.dcmread(path), pydicom.dcmread(path).pixel_array
    for image in written(tmp_path / "out"):
        reference = image.SourceImageSequence[0]
        assert reference.ReferencedSOPInstanceUID == original.SOPInstanceUID
        assert np.array_equal(image.pixel_array, values[reference.ReferencedFrameNumber - 1])
    np.testing.assert_allclose(read_volume(tmp_path / "out").ijk_to_ras, affine_of("tilted"), atol=1e-9)


def turned(volume: Volume, order: tuple[int, int, int], flips: tuple[int, ...]) -> Volume:
    """The same image with its array axes in another order and some of them run backwards."""
    array = volume.voxels.T.transpose(order)
    affine = volume.ijk_to_ras[:, [*order, 3]].copy()
    for axis in flips:
        array = np.flip(array, axis)
        affine[:, 3] += affine[:, axis] * (array.shape[axis] - 1)
        affine[:, axis] *= -1
    return Volume(np.ascontiguousarray(array.T), affine, name="turned")


@pytest.mark.parametrize(
    ("order", "flips"), [((0, 1, 2), (2,)), ((0, 1, 2), (0, 1)), ((2, 0, 1), ()), ((1, 2, 0), (0, 2))]
)
def test_axes_may_run_another_way(order: tuple[int, int, int], flips: tuple[int, ...], tmp_path: Path) -> None:
    series = source(tmp_path / "source")
    dicom.write_series(turned(synthetic(series), order, flips), series, tmp_path / "out", MADE)
    back = read_volume(tmp_path / "out")
    assert np.array_equal(back.voxels, voxels())
    assert np.array_equal(back.ijk_to_ras, series.ijk_to_ras)


@pytest.mark.parametrize("change", ["moved", "turned a little", "cropped", "finer"])
def test_a_volume_elsewhere_is_refused(change: str, tmp_path: Path) -> None:
    series = source(tmp_path / "source")
    volume = synthetic(series)
    affine = volume.ijk_to_ras.copy()
    if change == "moved":
        affine[:3, 3] += affine[:3, 0] * 0.4
    elif change == "turned a little":
        affine[:3, :3] = rotated(affine[:3, :3], (0.2, 0, 0))
    elif change == "finer":
        affine[:3, :3] /= 2
    array = volume.voxels[1:] if change == "cropped" else volume.voxels
    with pytest.raises(OutputError) as caught:
        dicom.write_series(Volume(array, affine), series, tmp_path / "out", MADE)
    assert caught.value.code == "dicom-grid"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("values", [voxels().astype(np.float32), voxels().astype(np.int32) * 100])
def test_only_what_fits_into_the_pixels_is_written(values: np.ndarray, tmp_path: Path) -> None:
    series = source(tmp_path / "source")
    with pytest.raises(ValueError, match="voxels"):
        dicom.write_series(synthetic(series, values), series, tmp_path / "out", MADE)


# --- from a run, and from the files of a loaded volume ------------------------------------------------------


def test_a_run_becomes_a_series(tiny_checkpoint: Path, tmp_path: Path) -> None:
    head = small_head(axes=axes_of("LPS"))
    write_series(tmp_path / "source", head.voxels, head.ijk_to_ras, **T1)
    volume, _ = dicom.read_source(tmp_path / "source")
    result = Synthesizer(tiny_checkpoint, "cpu").synthesize(volume, "t2", cycle=True)
    folders = dicom.write_result(result, tmp_path / "out")
    assert [path.name for path in folders] == ["synthetic", "cycle-difference"]
    for folder, made in zip(folders, (result.volume, result.cycle), strict=True):
        assert made is not None
        assert np.array_equal(read_volume(folder).voxels, made.voxels)
    descriptions = [series.description for series in dicom.find_series(tmp_path / "out")]
    assert descriptions == ["SYNTHETIC T2w from T1w of t1_mprage_sag",
                            "SYNTHETIC T2w from T1w, cycle difference of t1_mprage_sag"]  # fmt: skip
    assert result.checkpoint_sha256 in written(tmp_path / "out")[0].DerivationDescription


def test_a_result_of_another_format_has_no_series(tiny_checkpoint: Path, tmp_path: Path) -> None:
    result = Synthesizer(tiny_checkpoint, "cpu").synthesize(small_head(), "t2")
    with pytest.raises(OutputError) as caught:
        dicom.write_result(result, tmp_path / "out")
    assert caught.value.code == "dicom-grid"


def test_a_volume_is_exported_with_the_files_that_it_was_loaded_from(tmp_path: Path) -> None:
    series = source(tmp_path / "source", "sagittal")
    volume = turned(synthetic(series), (0, 1, 2), (2,))
    dicom.export_series(volume, [str(path) for path in reversed(series.files)], tmp_path / "out", MADE)
    assert np.array_equal(read_volume(tmp_path / "out").voxels, voxels())


def test_the_part_of_a_series_that_the_volume_lies_on_is_found(tmp_path: Path) -> None:
    uids = {"SeriesInstanceUID": uid.generate_uid(None), "StudyInstanceUID": uid.generate_uid(None)}
    for name in ("axial", "sagittal"):
        source(tmp_path / "source", name, name=lambda k, n=name: f"{n}{k}", **uids)
    sagittal = dicom.find_series(tmp_path / "source")[1]
    files = [path for series in dicom.find_series(tmp_path / "source") for path in series.files]
    dicom.export_series(synthetic(sagittal), files, tmp_path / "out", MADE)
    np.testing.assert_allclose(read_volume(tmp_path / "out").ijk_to_ras, affine_of("sagittal"), atol=1e-9)


@pytest.mark.parametrize("gone", ["all", "one", "other"])
def test_source_files_that_are_gone_are_told(gone: str, tmp_path: Path) -> None:
    series = source(tmp_path / "source")
    files = list(series.files)
    if gone == "all":
        shutil.rmtree(tmp_path / "source")
    elif gone == "one":
        files[2].unlink()
    else:
        files = [tmp_path / "source" / "text"]
        files[0].write_text("not DICOM")
    with pytest.raises(InputError):
        dicom.export_series(synthetic(series), files, tmp_path / "out", MADE)
    assert not (tmp_path / "out").exists()


# --- all or nothing -----------------------------------------------------------------------------------------


def test_what_is_there_is_never_overwritten(tmp_path: Path) -> None:
    series = source(tmp_path / "source")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("precious")
    for folder in (tmp_path / "out", tmp_path / "source", tmp_path / "out" / "precious"):
        with pytest.raises(OutputError) as caught:
            dicom.write_series(synthetic(series), series, folder, MADE)
        assert caught.value.code == "output-exists"
    with pytest.raises(OutputError) as caught:
        dicom.write_series(synthetic(series), series, tmp_path / "no" / "out", MADE)
    assert caught.value.code == "output-folder-missing"
    (tmp_path / "empty").mkdir()
    dicom.write_series(synthetic(series), series, tmp_path / "empty", MADE)
    assert len(written(tmp_path / "empty")) == SHAPE[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "out", "source"]


@pytest.fixture
def failing_save(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[BaseException]]:
    """The fourth image cannot be written; the error is what the list holds."""
    from MRSynthLib.engine import dicom_files

    real, errors, calls = dicom_files.save, [OSError(5, "Input/output error")], []

    def save(image: pydicom.Dataset, path: Path) -> None:
        calls.append(path)
        if len(calls) == 4:
            raise errors[0]
        real(image, path)

    monkeypatch.setattr(dicom_files, "save", save)
    yield errors
    assert len(calls) == 4


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt(), MemoryError()])
def test_a_failure_in_the_middle_leaves_nothing(
    error: BaseException, failing_save: list[BaseException], tmp_path: Path
) -> None:
    series = source(tmp_path / "source")
    failing_save[0] = error
    with pytest.raises(OutputError if isinstance(error, OSError) else type(error)):
        dicom.write_series(synthetic(series), series, tmp_path / "out", MADE)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_full_disk_leaves_nothing(full_disk: Path, tmp_path: Path) -> None:
    series = source(tmp_path / "source")
    before = sorted(full_disk.iterdir())
    with pytest.raises(OutputError) as caught:
        dicom.write_series(synthetic(series), series, full_disk / "out", MADE)
    assert caught.value.code == "output-full"
    assert sorted(full_disk.iterdir()) == before


# --- without identity ---------------------------------------------------------------------------------------


def test_anonymous_images_name_nobody(tmp_path: Path) -> None:
    pytest.importorskip("dicomanonymizer")
    patient = {**examination("PID-778"), "SeriesDescription": "t1 Mrs Muster", "PatientAge": "054Y",
               "DeidentificationMethod": "Dora, Ward 7", "PositionReferenceIndicator": "nose of Muster",
               "OtherPatientIDsSequence": [pydicom.Dataset()]}  # fmt: skip
    patient["OtherPatientIDsSequence"][0].PatientID = "OTHER-1"
    series = source(tmp_path / "source", **patient)
    shown = (synthetic(series), "cycle difference", 300.0)
    dicom.write_series(synthetic(series), series, tmp_path / "out", MADE, maps=[shown], anonymous=True)
    content = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*.dcm"))
    secrets = telling([str(value) for value in patient.values() if isinstance(value, str)])
    secrets += [series.uid, series.frames[0].uid, "Muster", "Ward 7", "OTHER-1", "054Y", *map(str, tmp_path.parts[2:])]
    for secret in secrets:
        assert secret.encode() not in content, secret
    images = written(tmp_path / "out")
    for image in images:
        assert image.PatientIdentityRemoved == "YES"
        assert image.DeidentificationMethodCodeSequence[0].CodeValue == "113100"
        assert image.SeriesDescription.startswith("SYNTHETIC T2w from T1w")
        assert "not for diagnosis" in image.DerivationDescription
    for keyword in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert len({image[keyword].value for image in images}) == 1, "one patient, one study, one space"
    assert len({image.SOPInstanceUID for image in images}) == 2 * SHAPE[0]
    assert images[0].SourceImageSequence[0].ReferencedSOPInstanceUID == (
        images[0].ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID
    )
    assert np.array_equal(read_volume(tmp_path / "out" / "synthetic").voxels, voxels())
    valid(tmp_path / "out")


def test_two_patients_stay_two(tmp_path: Path) -> None:
    pytest.importorskip("dicomanonymizer")
    for name in ("one", "two"):
        series = source(tmp_path / name, PatientID=name)
        dicom.write_series(synthetic(series), series, tmp_path / f"out {name}", MADE, anonymous=True)
    ids = [{image.PatientID for image in written(tmp_path / f"out {name}")} for name in ("one", "two")]
    assert len(ids[0]) == len(ids[1]) == 1
    assert ids[0] != ids[1]


def test_under_one_key_a_patient_stays_one_in_any_process(tmp_path: Path, child_environment: dict[str, str]) -> None:
    pytest.importorskip("dicomanonymizer")
    visits = [examination("PID-778") for _ in range(3)]
    for number, (visit, key) in enumerate(zip(visits, (b"a", b"a", b"b"), strict=True)):
        source(tmp_path / f"visit {number}", **visit, SeriesInstanceUID=visits[0]["StudyInstanceUID"] + ".1")
        program = (
            "from MRSynthLib.engine import dicom\n"
            f"volume, _ = dicom.read_source({str(tmp_path / f'visit {number}')!r}, '4')\n"
            f"dicom.write_series(volume, volume.header, {str(tmp_path / f'out {number}')!r},"
            f" dicom.Derivation('t1', 't2', 'tiny', '0' * 64), anonymous=True, key={key * 32!r})\n"
        )
        subprocess.run([sys.executable, "-c", program], env=child_environment, check=True)
    first, second, other = [written(tmp_path / f"out {number}")[0] for number in range(3)]
    assert (first.PatientID, first.PatientName) == (second.PatientID, second.PatientName)
    assert first.StudyInstanceUID != second.StudyInstanceUID, "two visits stay two"
    uids = [image.ReferencedSeriesSequence[0].SeriesInstanceUID for image in (first, second, other)]
    assert uids[0] == uids[1] != uids[2]
    assert first.PatientID != other.PatientID


def test_without_the_package_nothing_is_written_with_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "dicomanonymizer.simpledicomanonymizer", None)
    series = source(tmp_path / "source")
    with pytest.raises(InstallError) as caught:
        dicom.write_series(synthetic(series), series, tmp_path / "out", MADE, anonymous=True)
    assert caught.value.code == "dicom-package"
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("value", [1 / 3, -123.456789012345678, 1e-7 / 3, 0.0, -0.98480775301220802, 1234567890.123456])
def test_decimals_are_as_exact_as_sixteen_characters_allow(value: float) -> None:
    text = dicom_derive.decimal(value)
    assert len(text) <= 16
    assert float(text) == pytest.approx(value, rel=1e-9)
