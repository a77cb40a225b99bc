"""DICOM series in: the voxels, where they lie, and what is refused."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_series import LPS, T2, decimal, write_enhanced, write_series
from engine_helpers import axes_of, grid, rotated, sheared
from pydicom import uid

from MRSynthLib.engine import read_volume
from MRSynthLib.engine.dicom import find_series, load
from MRSynthLib.engine.errors import InputError
from MRSynthLib.engine.volume import Volume

SHAPE, SPACING = (7, 9, 8), (0.9, 1.1, 2.5)
AXES = {
    "axial": axes_of("LPS"),
    "sagittal": axes_of("PIR"),
    "coronal": axes_of("LIP"),
    "oblique": rotated(axes_of("LPS"), (20, -35, 50)),
    "tilted": sheared(axes_of("LPS"), 17),
    "oblique and tilted": sheared(rotated(axes_of("PIR"), (-8, 12, 4)), -9),
}
NATIVE = {
    "explicit": uid.ExplicitVRLittleEndian,
    "implicit": uid.ImplicitVRLittleEndian,
    "big": uid.ExplicitVRBigEndian,
}
COMPRESSED = {
    "RLE": uid.RLELossless,
    "JPEG": uid.JPEGLosslessSV1,
    "JPEG-LS": uid.JPEGLSLossless,
    "J2K": uid.JPEG2000Lossless,
}


def stored(dtype: Any = np.int16, low: int = -900, high: int = 3000) -> np.ndarray:
    return np.random.default_rng(5).integers(low, high, SHAPE).astype(dtype)


def affine_of(name: str = "oblique") -> np.ndarray:
    return grid(SHAPE, SPACING, AXES[name])


def refused(folder: Path, code: str) -> str:
    with pytest.raises(InputError) as caught:
        read_volume(folder)
    assert caught.value.code == code, str(caught.value)
    return str(caught.value)


# --- place and value ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", AXES)
def test_a_series_is_one_volume_in_its_place(orientation: str, tmp_path: Path) -> None:
    affine = affine_of(orientation)
    write_series(tmp_path / "series", stored(), affine)
    volume = read_volume(tmp_path / "series")
    np.testing.assert_allclose(volume.ijk_to_ras, affine, atol=1e-9)
    assert np.array_equal(volume.voxels, stored())
    assert volume.voxels.dtype == np.int16
    assert volume.name == "series"


@pytest.mark.parametrize("orientation", [name for name in AXES if "tilted" not in name])
def test_simpleitk_sees_the_same_volume_at_the_same_place(orientation: str, tmp_path: Path) -> None:
    write_series(tmp_path / "series", stored(), affine_of(orientation))
    volume = read_volume(tmp_path / "series")
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "series")))
    lps = np.eye(4)
    lps[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    lps[:3, 3] = image.GetOrigin()
    np.testing.assert_allclose(volume.ijk_to_ras, LPS @ lps, atol=1e-5)
    assert np.array_equal(volume.voxels, sitk.GetArrayFromImage(image))


@pytest.mark.parametrize("syntax", [*NATIVE, *COMPRESSED])
@pytest.mark.parametrize("dtype", [np.int16, np.uint16])
def test_every_transfer_syntax_gives_the_same_voxels(syntax: str, dtype: type, tmp_path: Path) -> None:
    voxels = stored(dtype, low=-900 if dtype is np.int16 else 0, high=32000)
    voxels = np.tile(voxels, (1, 8, 8))  # the wavelets of JPEG 2000 need some room
    write_series(tmp_path / "series", voxels, affine_of(), syntax={**NATIVE, **COMPRESSED}[syntax])
    assert np.array_equal(read_volume(tmp_path / "series").voxels, voxels)


@pytest.mark.parametrize("enhanced", [False, True])
def test_each_slice_has_its_own_slope(enhanced: bool, tmp_path: Path) -> None:
    scales = [(0.5 + k, -3.25 * k) for k in range(SHAPE[0])]
    if enhanced:
        write_enhanced(tmp_path / "series" / "IM1", stored(), affine_of(), scales=scales)
    else:
        write_series(tmp_path / "series", stored(), affine_of(), scales=scales)
    volume = read_volume(tmp_path / "series")
    slopes, intercepts = np.array(scales).T[:, :, None, None]
    np.testing.assert_allclose(volume.voxels, stored() * slopes + intercepts, rtol=1e-6)
    assert volume.voxels.dtype == np.float32


def test_whole_slopes_keep_integers_that_do_not_overflow(tmp_path: Path) -> None:
    write_series(tmp_path / "series", stored(np.uint16, 0, 60000), affine_of(), scales=[(3, -7)] * SHAPE[0])
    volume = read_volume(tmp_path / "series")
    assert np.array_equal(volume.voxels, stored(np.uint16, 0, 60000).astype(np.int64) * 3 - 7)
    assert volume.voxels.dtype == np.int32


def test_bits_above_the_stored_ones_are_no_part_of_the_value(tmp_path: Path) -> None:
    def twelve_bits(data: pydicom.Dataset, k: int) -> None:
        data.BitsStored, data.HighBit = 12, 11

    voxels = stored(np.int16, -2000, 2000)
    noisy = np.where(voxels < 0, voxels & 0x0FFF, voxels | 0x7000).astype(np.int16)  # an overlay in the high bits
    write_series(tmp_path / "series", noisy, affine_of(), change=twelve_bits)
    assert np.array_equal(read_volume(tmp_path / "series").voxels, voxels)


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.RLELossless])
def test_an_enhanced_file_is_one_volume_whatever_the_order_of_its_frames(syntax: str, tmp_path: Path) -> None:
    affine = affine_of("oblique and tilted")
    write_enhanced(tmp_path / "series" / "IM1", stored(), affine, syntax=syntax, **T2)
    volume = read_volume(tmp_path / "series")
    np.testing.assert_allclose(volume.ijk_to_ras, affine, atol=1e-9)
    assert np.array_equal(volume.voxels, stored())
    assert {"EchoTime": "95.0", "RepetitionTime": "5000.0"}.items() <= volume.metadata.items()


def test_acquisition_tags_are_carried(tmp_path: Path) -> None:
    tags = {"EchoTime": "95", "RepetitionTime": "5000", "SeriesDescription": "T2 axial"}
    write_series(tmp_path / "series", stored(), affine_of(), InversionTime="0", **tags)
    volume = read_volume(tmp_path / "series")
    assert {**tags, "Modality": "MR", "ImageType": "ORIGINAL\\PRIMARY\\M\\ND"}.items() <= volume.metadata.items()
    assert "InversionTime" not in volume.metadata, "0 means that nothing was inverted"
    assert not {"PatientName", "PatientID"} & set(volume.metadata)


# --- what else lies in folders ------------------------------------------------------------------------------


def test_only_images_are_read_whatever_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "series"
    files = write_series(folder, stored(), affine_of(), name=lambda k: "abcdefg"[k])
    for data_class, name in ((uid.MediaStorageDirectoryStorage, "DICOMDIR"), (uid.BasicTextSRStorage, "report.dcm")):
        other = pydicom.dcmread(files[0])
        for keyword in ("PixelData", "Rows", "Columns"):
            delattr(other, keyword)
        other.SOPClassUID = other.file_meta.MediaStorageSOPClassUID = data_class
        other.save_as(folder / name)
    (folder / "readme.dcm").write_text("not DICOM")
    (folder / "almost").write_bytes(b"\x08\x00\x05\x00" + bytes(range(256)) * 3)
    (folder / "empty.dcm").write_bytes(b"")
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "nowhere").symlink_to(folder / "gone")
    assert np.array_equal(read_volume(folder).voxels, stored())


def test_files_without_preamble_are_read(tmp_path: Path) -> None:
    for path in write_series(tmp_path / "series", stored(), affine_of(), syntax=uid.ImplicitVRLittleEndian):
        data = pydicom.dcmread(path)
        del data.file_meta
        data.preamble = None
        data.save_as(path, implicit_vr=True, little_endian=True, enforce_file_format=False)
        assert path.read_bytes()[:2] == b"\x08\x00"
    assert np.array_equal(read_volume(tmp_path / "series").voxels, stored())


def test_a_deflated_file_may_not_swell_beyond_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from MRSynthLib.engine import dicom_files

    for path in write_series(tmp_path / "series", stored() * 0, affine_of()):
        data = pydicom.dcmread(path)
        data.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
        data.save_as(path)
    assert read_volume(tmp_path / "series").shape == SHAPE
    monkeypatch.setattr(dicom_files, "INFLATED", 500)
    assert "inflates" in refused(tmp_path / "series", "input-corrupt")


# --- slices -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", ["axial", "oblique and tilted"])
@pytest.mark.parametrize("missing", [(3,), (2, 3)])
def test_missing_slices_are_named(missing: tuple[int, ...], orientation: str, tmp_path: Path) -> None:
    affine = grid((12, 9, 8), SPACING, AXES[orientation])
    write_series(tmp_path / "series", np.repeat(stored(), 2, axis=0)[:12], affine, skip=missing)
    message = refused(tmp_path / "series", "dicom-slices")
    assert f"slices {missing[0]} and {missing[0] + 1} of {12 - len(missing)}" in message
    assert f"{len(missing)} missing" in message


def test_a_missing_frame_of_an_enhanced_file_is_named(tmp_path: Path) -> None:
    affine = affine_of()
    write_enhanced(tmp_path / "series" / "IM1", stored(), affine)
    gap = np.concatenate([stored()[:3], stored()[4:]])

    def drop(data: pydicom.Dataset, _: int) -> None:
        groups = data.PerFrameFunctionalGroupsSequence
        place = [decimal(x) for x in (LPS @ affine @ [0, 0, 6, 1])[:3]]
        moved = next(g for g in groups if g.PlanePositionSequence[0].ImagePositionPatient[2] == float(
            decimal((LPS @ affine @ [0, 0, 3, 1])[2])))  # fmt: skip
        moved.PlanePositionSequence[0].ImagePositionPatient = place

    write_enhanced(tmp_path / "gap" / "IM1", gap, affine, change=drop)
    assert "1 missing" in refused(tmp_path / "gap", "dicom-slices")


def test_a_doubled_slice_is_named(tmp_path: Path) -> None:
    files = write_series(tmp_path / "series", stored(), affine_of())
    shutil.copy(files[3], tmp_path / "series" / "copy")
    message = refused(tmp_path / "series", "dicom-slices")
    assert "slices 4 and 5 of 8 lie at the same place" in message
    assert "'copy'" in message


@pytest.mark.parametrize("shift", [0.2, -0.2, 1.3])
def test_unequal_steps_are_refused(shift: float, tmp_path: Path) -> None:
    def moved(data: pydicom.Dataset, k: int) -> None:
        if k >= 5:
            x, y, z = map(float, data.ImagePositionPatient)
            data.ImagePositionPatient = [x, y, decimal(z + shift)]

    write_series(tmp_path / "series", stored(), affine_of("axial"), change=moved)
    assert f"{2.5 + shift:g} mm apart, most 2.5 mm" in refused(tmp_path / "series", "dicom-slices")


def test_a_slice_that_lies_beside_the_others_is_refused(tmp_path: Path) -> None:
    def moved(data: pydicom.Dataset, k: int) -> None:
        if k == 4:
            x, y, z = map(float, data.ImagePositionPatient)
            data.ImagePositionPatient = [x + 1, y, z]

    write_series(tmp_path / "series", stored(), affine_of("axial"), change=moved)
    assert "slice 5 of 7 lies 1 mm beside" in refused(tmp_path / "series", "dicom-slices")


def test_rounding_in_headers_is_no_gap(tmp_path: Path) -> None:
    def rounded(data: pydicom.Dataset, k: int) -> None:
        data.ImagePositionPatient = [f"{float(x):.2f}" for x in data.ImagePositionPatient]
        data.ImageOrientationPatient = [f"{float(x):.{5 + k % 2}f}" for x in data.ImageOrientationPatient]

    write_series(tmp_path / "series", stored(), affine_of("oblique and tilted"), change=rounded)
    np.testing.assert_allclose(read_volume(tmp_path / "series").ijk_to_ras, affine_of("oblique and tilted"), atol=0.01)


# --- several stacks in one series ---------------------------------------------------------------------------


def two_stacks(folder: Path, tag: str, values: tuple[Any, Any], **tags: Any) -> dict[str, Volume]:
    """One series that holds each place twice, told apart by `tag`; returns its parts as read, by their names."""
    uids = {"SeriesInstanceUID": uid.generate_uid(None), "StudyInstanceUID": uid.generate_uid(None)}
    for n, value in enumerate(values):
        voxels = stored() + n
        write_series(folder, voxels, affine_of(), name=lambda k, n=n: f"{n}-{k}", **{**tags, **uids, tag: value})
    found = find_series(folder)
    assert [series.key for series in found] == ["4.1", "4.2"]
    return {series.part_name: load(series) for series in found}


@pytest.mark.parametrize(
    ("tag", "values"),
    [
        ("EchoTime", ("15", "90")),
        ("AcquisitionNumber", ("1", "2")),
        ("TemporalPositionIdentifier", ("1", "2")),
        ("ImageType", (["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"])),
        ("DiffusionBValue", (0.0, 1000.0)),
    ],
)
def test_acquisitions_in_one_series_are_told_apart(tag: str, values: tuple[Any, Any], tmp_path: Path) -> None:
    volumes = two_stacks(tmp_path / "series", tag, values)
    for n, (name, volume) in enumerate(volumes.items()):
        assert name.startswith(tag)
        assert np.array_equal(volume.voxels, stored() + n)


def test_echoes_in_one_enhanced_file_are_told_apart(tmp_path: Path) -> None:
    def echoes(data: pydicom.Dataset, _: int) -> None:
        """Each frame twice, the second time one brighter."""
        groups = data.PerFrameFunctionalGroupsSequence
        again = [copy.deepcopy(group) for group in groups]
        for group in again:
            group.MREchoSequence[0].EffectiveEchoTime = 90.0
        data.PerFrameFunctionalGroupsSequence = [*groups, *again]
        first = np.frombuffer(data.PixelData, np.int16)
        data.NumberOfFrames, data.PixelData = 2 * SHAPE[0], np.concatenate([first, first + 1]).tobytes()

    write_enhanced(tmp_path / "series" / "IM", stored(), affine_of(), change=echoes, EchoTime="15")
    found = find_series(tmp_path / "series")
    assert [(series.key, series.part_name) for series in found] == [("4.1", "EchoTime 15.0"), ("4.2", "EchoTime 90.0")]
    for n, series in enumerate(found):
        assert np.array_equal(load(series).voxels, stored() + n)


def test_a_number_that_counts_slices_does_not_split_a_series(tmp_path: Path) -> None:
    def count(data: pydicom.Dataset, k: int) -> None:
        data.AcquisitionNumber = k

    write_series(tmp_path / "series", stored(), affine_of(), change=count)
    assert np.array_equal(read_volume(tmp_path / "series").voxels, stored())
    for path in list((tmp_path / "series").iterdir())[:1]:
        data = pydicom.dcmread(path)
        data.AcquisitionNumber, data.SOPInstanceUID = 99, uid.generate_uid(None)
        data.save_as(tmp_path / "series" / "again")
    assert "same place" in refused(tmp_path / "series", "dicom-slices")


def test_planes_of_different_directions_are_stacks_of_their_own(tmp_path: Path) -> None:
    uids = {"SeriesInstanceUID": uid.generate_uid(None), "StudyInstanceUID": uid.generate_uid(None)}
    for name in ("axial", "coronal"):
        write_series(tmp_path / "series", stored(), affine_of(name), name=lambda k, n=name: f"{n}{k}", **uids)
    found = find_series(tmp_path / "series")
    assert [series.part_name for series in found] == ["axial stack 1", "coronal stack 2"]
    for series, name in zip(found, ("axial", "coronal"), strict=True):
        np.testing.assert_allclose(load(series).ijk_to_ras, affine_of(name), atol=1e-9)


# --- what is refused ----------------------------------------------------------------------------------------


def without(*keywords: str) -> Any:
    def change(data: pydicom.Dataset, k: int) -> None:
        for keyword in keywords:
            if keyword in data:
                delattr(data, keyword)

    return change


def with_(**values: Any) -> Any:
    def change(data: pydicom.Dataset, k: int) -> None:
        for keyword, value in values.items():
            setattr(data, keyword, value)

    return change


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        (without("ImagePositionPatient"), "input-affine", "where its slices lie"),
        (without("ImageOrientationPatient"), "input-affine", "how its slices lie"),
        (without("PixelSpacing"), "input-affine", "how its slices lie"),
        (without("Rows"), "input-corrupt", "size"),
        (without("PixelData"), "input-corrupt", "could not be read"),
        (with_(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "input-affine", "right angle"),
        (with_(ImageOrientationPatient=[5, 0, 0, 0, 5, 0]), "input-affine", "how its slices lie"),
        (with_(PixelSpacing=[0, 0]), "input-affine", "how its slices lie"),
        (with_(PixelSpacing=[500, 500]), "input-spacing", "500"),
        (with_(PhotometricInterpretation="MONOCHROME1"), "input-color", "MONOCHROME1"),
        (with_(PhotometricInterpretation="RGB", SamplesPerPixel=3), "input-color", "RGB"),
        (with_(ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]), "dicom-mosaic", "side by side"),
        (with_(NumberOfFrames=3), "input-affine", "several frames"),
        (with_(RescaleSlope="inf", RescaleIntercept="0"), "input-corrupt", "slope"),
        (with_(Rows=60000, Columns=60000), "input-too-large", "60000"),
        (with_(HighBit=15, BitsStored=12), "input-corrupt", "high bit"),
        (with_(BitsAllocated=7), "input-corrupt", "could not be read"),
    ],
)
def test_what_cannot_be_a_volume_is_refused_by_name(change: Any, code: str, says: str, tmp_path: Path) -> None:
    write_series(tmp_path / "series", stored(), affine_of(), change=change)
    assert says in refused(tmp_path / "series", code)


def test_pixels_cut_short_are_refused(tmp_path: Path) -> None:
    files = write_series(tmp_path / "series", stored(), affine_of())
    files[2].write_bytes(files[2].read_bytes()[:-30])
    assert f"'{files[2].name}'" in refused(tmp_path / "series", "input-corrupt")


def test_a_damaged_header_beside_the_slices_is_refused(tmp_path: Path) -> None:
    """The last slice may be the one that is damaged: without this, the volume would just be shorter."""
    files = write_series(tmp_path / "series", stored(), affine_of())
    files[-1].write_bytes(files[-1].read_bytes()[:300])
    assert f"'{files[-1].name}'" in refused(tmp_path / "series", "input-corrupt")


def test_an_unknown_compression_is_named(tmp_path: Path) -> None:
    for path in write_series(tmp_path / "series", stored(), affine_of(), syntax=uid.RLELossless):
        data = pydicom.dcmread(path)
        data.file_meta.TransferSyntaxUID = uid.MPEG2MPML
        data.save_as(path)
    assert "MPEG2" in refused(tmp_path / "series", "dicom-compressed")


def test_a_decoder_that_is_not_installed_is_named(tmp_path: Path, child_environment: dict[str, str]) -> None:
    write_series(tmp_path / "series", np.tile(stored(), (1, 8, 8)), affine_of(), syntax=uid.JPEGLosslessSV1)
    program = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['gdcm', 'pylibjpeg']))\n"
        "from MRSynthLib.engine import read_volume, InputError\n"
        "try: read_volume(sys.argv[1])\n"
        "except InputError as error: print(error.code, error)"
    )
    said = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "series")],
        env=child_environment, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert said.startswith("dicom-compressed")
    assert "JPEG Lossless" in said
    assert "mrsynth[dicom]" in said


def test_any_cut_of_a_file_ends_in_an_error_of_ours(tmp_path: Path) -> None:
    files = write_series(tmp_path / "series", stored(), affine_of())
    whole = files[1].read_bytes()
    random = np.random.default_rng(11)
    outcomes = set()
    for n in range(60):
        data = bytearray(whole)
        if n % 2:
            data = data[: int(random.integers(1, len(whole)))]
        else:
            for at in random.integers(132, len(whole) - SHAPE[1] * SHAPE[2] * 2, 3):
                data[at] = int(random.integers(256))
        files[1].write_bytes(bytes(data))
        try:
            outcomes.add(read_volume(tmp_path / "series").shape)
        except InputError as error:
            outcomes.add(error.code)
    assert {SHAPE, "input-corrupt", "dicom-slices"} <= outcomes


# --- real anatomy -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.JPEGLSLossless])
def test_a_real_volume_comes_back_from_dicom(shared_data: Path, syntax: str, tmp_path: Path) -> None:
    real = read_volume(shared_data / "MS07" / "t1.nii.gz")
    voxels = np.clip(np.rint(real.voxels[:60]), 0, 32767).astype(np.uint16)
    write_series(tmp_path / "series", voxels, real.ijk_to_ras, syntax=syntax)
    back = read_volume(tmp_path / "series")
    # Slices run along the normal of rows and columns: a left-handed grid comes back turned over, in the same place.
    flipped = np.linalg.det(real.ijk_to_ras) < 0
    assert np.array_equal(back.voxels, voxels[::-1] if flipped else voxels)
    corner = real.ijk_to_ras @ [0, 0, len(voxels) - 1 if flipped else 0, 1]
    np.testing.assert_allclose(back.ijk_to_ras[:, 3], corner, atol=1e-4)
