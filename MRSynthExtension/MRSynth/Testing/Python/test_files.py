"""Volumes in and out of files: geometry bit for bit, voxels as they are, and no half-written file, ever."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from engine_helpers import axes_of, grid, moved, rotated, sheared

from MRSynthLib.engine.errors import OutputError
from MRSynthLib.engine.files import read_volume, write_volume
from MRSynthLib.engine.itk import ItkGeometry
from MRSynthLib.engine.volume import Volume
from MRSynthLib.engine.writing import sha256_of, write_aside

SHAPE = (7, 9, 11)  # k, j, i
SPACING = (0.9, 1.1, 4.0)
OBLIQUE = rotated(axes_of("LPS"), (11, -7, 23))
AXES: dict[str, np.ndarray] = {
    "axial": axes_of("LPS"),
    "sagittal": axes_of("PIR"),
    "oblique": OBLIQUE,
    "left-handed": OBLIQUE * [1, 1, -1],
    "sheared": sheared(OBLIQUE, 15),
}


def grey(dtype: type = np.int16, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return (np.arange(np.prod(shape)).reshape(shape) % 241).astype(dtype)


def on(axes: np.ndarray) -> Volume:
    return Volume(grey(), grid(SHAPE, SPACING, axes), name="scan")


def result_on(volume: Volume) -> Volume:
    """What the engine makes of it: other voxels, of another type, on the same grid."""
    return volume.replaced(np.full(volume.shape, 500, dtype=np.int16))


# --- NIfTI ----------------------------------------------------------------------------------------------


def nifti(
    path: Path, *, qform: np.ndarray | None, sform: np.ndarray | None, codes: tuple[int, int], **fields: Any
) -> Path:
    """Write (7, 9, 11) voxels with these geometry fields."""
    image = nibabel.Nifti1Image(grey().T, None)
    if sform is not None:
        image.header.set_sform(sform, codes[1])
    if qform is not None:
        image.header.set_qform(qform, codes[0])
    for name, value in fields.items():
        image.header[name] = value
    nibabel.save(nibabel.Nifti1Image(grey().T, None, image.header), path)
    return path


Q = grid(SHAPE, SPACING, OBLIQUE)
S = grid(SHAPE, SPACING, rotated(OBLIQUE, (1, 2, 3)))
GEOMETRIES: dict[str, dict[str, Any]] = {
    "qform and sform differ": {"qform": Q, "sform": S, "codes": (1, 2)},
    "sform only": {"qform": None, "sform": S, "codes": (0, 4)},
    "sheared sform": {"qform": Q, "sform": grid(SHAPE, SPACING, sheared(OBLIQUE, 14)), "codes": (1, 1)},
    "qform only": {"qform": Q, "sform": None, "codes": (1, 0)},
    "left-handed qform": {"qform": grid(SHAPE, SPACING, OBLIQUE * [1, 1, -1]), "sform": None, "codes": (3, 0)},
    "neither": {"qform": None, "sform": None, "codes": (0, 0)},
    "units, time step": {"qform": Q, "sform": S, "codes": (1, 1), "xyzt_units": 10, "toffset": 1.5},
    "units unknown": {"qform": Q, "sform": S, "codes": (1, 1), "xyzt_units": 0},
}
GEOMETRY_FIELDS = (
    "pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "toffset",
    "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z", "dim",
)  # fmt: skip


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_every_geometry_field_of_nifti_is_written_back_bit_for_bit(name: str, ending: str, tmp_path: Path) -> None:
    source = nifti(tmp_path / f"in{ending}", **GEOMETRIES[name])
    volume = read_volume(source)
    written = write_volume(result_on(volume), tmp_path / f"out{ending}")
    before, after = nibabel.load(source), nibabel.load(written)
    for field in GEOMETRY_FIELDS:
        assert before.header[field].tobytes() == after.header[field].tobytes(), field
    assert np.array_equal(before.affine, after.affine)
    assert np.array_equal(read_volume(written).ijk_to_ras, volume.ijk_to_ras)
    assert after.get_data_dtype() == np.int16


@pytest.mark.parametrize("ending", [".nii", ".nrrd"])
def test_a_volume_that_was_moved_is_written_where_it_is(ending: str, tmp_path: Path) -> None:
    volume = read_volume(write_volume(on(OBLIQUE), tmp_path / f"in{ending}"))
    elsewhere = moved(volume, (50, 0, -7))
    assert elsewhere.header is not None
    written = read_volume(write_volume(elsewhere, tmp_path / f"out{ending}"))
    np.testing.assert_allclose(written.ijk_to_ras, elsewhere.ijk_to_ras, atol=1e-4)


def test_nothing_but_the_geometry_of_the_source_is_written_again(tmp_path: Path) -> None:
    fields = {"intent_code": 1002, "intent_name": b"Labels", "db_name": b"Doe", "aux_file": b"Doe^John"}
    image = nibabel.load(nifti(tmp_path / "in.nii", qform=Q, sform=S, codes=(1, 1), **fields))
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"PatientName=Doe^John"))
    nibabel.save(image, tmp_path / "named.nii")
    written = write_volume(result_on(read_volume(tmp_path / "named.nii")), tmp_path / "out.nii")
    assert b"Doe" in (tmp_path / "named.nii").read_bytes()
    assert b"Doe" not in written.read_bytes()
    assert int(nibabel.load(written).header["intent_code"]) == 0


@pytest.mark.parametrize("ending", [".nii", ".nrrd", ".mha"])
@pytest.mark.parametrize("dtype", [np.bool_, np.float16, np.longdouble, ">i2", ">f4"])
def test_voxels_of_rare_types_are_written_as_the_same_numbers(dtype: Any, ending: str, tmp_path: Path) -> None:
    voxels = grey(np.int16).astype(dtype)
    written = write_volume(Volume(voxels, np.eye(4)), tmp_path / f"out{ending}")
    assert np.array_equal(read_volume(written).voxels, voxels)


@pytest.mark.parametrize("name", [f"{'n' * 300}.nii", "a\0b.nii"])
def test_a_name_that_no_file_can_have_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught:
        write_volume(on(OBLIQUE), tmp_path / name)
    assert caught.value.code == "output-not-writable"


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_an_image_that_says_it_is_synthetic_is(ending: str, tmp_path: Path) -> None:
    about = "SYNTHETIC T2w from T1w, MRSynth 0.1.0 native"
    path = write_volume(on(OBLIQUE), tmp_path / f"out{ending}", description=about)
    assert read_volume(path).metadata == {"SyntheticData": "YES"}
    cycle = write_volume(on(OBLIQUE), tmp_path / f"map{ending}", description=f"cycle difference, {about}")
    assert read_volume(cycle).metadata == {"SyntheticData": "YES"}
    path.with_name("out.json").write_text(json.dumps({"EchoTime": 0.09}))
    assert read_volume(path).metadata == {"SyntheticData": "YES", "EchoTime": "90"}
    assert read_volume(write_volume(on(OBLIQUE), tmp_path / f"plain{ending}")).metadata == {}


def test_sform_goes_before_qform(tmp_path: Path) -> None:
    volume = read_volume(nifti(tmp_path / "in.nii", **GEOMETRIES["qform and sform differ"]))
    np.testing.assert_allclose(volume.ijk_to_ras, S, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.uint8, np.int32, np.float32, np.float64])
def test_voxels_of_every_type_are_read_as_they_are(dtype: type, tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(grey(dtype).T, np.eye(4)), tmp_path / "in.nii.gz")
    volume = read_volume(tmp_path / "in.nii.gz")
    assert volume.voxels.dtype == dtype
    assert np.array_equal(volume.voxels, grey(dtype))
    assert volume.name == "in"


def test_slopes_of_nifti_are_applied_and_not_handed_on(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(grey().T, np.eye(4))
    image.header.set_slope_inter(0.5, -10)
    image.to_filename(tmp_path / "in.nii")
    raw = bytearray((tmp_path / "in.nii").read_bytes())
    raw[112:120] = np.array([0.5, -10], dtype="<f4").tobytes()  # scl_slope, scl_inter
    raw[352:] = grey().tobytes()  # k slowest: the order of the file
    (tmp_path / "in.nii").write_bytes(raw)
    volume = read_volume(tmp_path / "in.nii")
    np.testing.assert_allclose(volume.voxels, grey() * 0.5 - 10)
    written = write_volume(result_on(volume), tmp_path / "out.nii")
    assert np.unique(read_volume(written).voxels).tolist() == [500]


def test_big_endian_files_become_ordinary_volumes(tmp_path: Path) -> None:
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    nibabel.save(nibabel.Nifti1Image(grey().T, Q, header), tmp_path / "in.nii")
    volume = read_volume(tmp_path / "in.nii")
    for ending in (".nii", ".nrrd", ".mha"):
        again = read_volume(write_volume(volume, tmp_path / f"out{ending}"))
        assert np.array_equal(again.voxels, grey())


def test_nifti_2_keeps_its_place(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti2Image(grey().T, S), tmp_path / "in.nii")
    volume = read_volume(tmp_path / "in.nii")
    np.testing.assert_allclose(volume.ijk_to_ras, S, atol=1e-12)
    again = read_volume(write_volume(result_on(volume), tmp_path / "out.nii"))
    np.testing.assert_allclose(again.ijk_to_ras, S, atol=1e-5)


def test_one_volume_of_a_4_d_file_is_a_volume(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(grey().T[..., None], np.eye(4)), tmp_path / "in.nii")
    assert np.array_equal(read_volume(tmp_path / "in.nii").voxels, grey())


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_one_volume_of_a_4_d_itk_file_is_a_volume(ending: str, tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(grey()[None], isVector=False)
    image.SetSpacing((0.9, 1.1, 4.0, 2.0))
    image.SetOrigin((3.0, 4.0, 5.0, 0.0))
    sitk.WriteImage(image, str(tmp_path / f"in{ending}"))
    volume = read_volume(tmp_path / f"in{ending}")
    assert np.array_equal(volume.voxels, grey())
    expected = np.diag([-0.9, -1.1, 4, 1])
    expected[:3, 3] = (-3, -4, 5)
    np.testing.assert_allclose(volume.ijk_to_ras, expected)


def test_description_of_nifti_holds_79_bytes_of_ascii(tmp_path: Path) -> None:
    path = write_volume(on(OBLIQUE), tmp_path / "out.nii", description="synthetic T2 – " + "x" * 100)
    text = bytes(nibabel.load(path).header["descrip"]).decode("ascii")
    assert text.startswith("synthetic T2 ? xxx")
    assert len(text.rstrip("\0")) == 79


# --- NRRD and MetaImage -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
@pytest.mark.parametrize("name", AXES)
def test_itk_files_keep_their_geometry(name: str, ending: str, tmp_path: Path) -> None:
    volume = on(AXES[name])
    read = read_volume(write_volume(volume, tmp_path / f"in{ending}"))
    np.testing.assert_allclose(read.ijk_to_ras, volume.ijk_to_ras, rtol=0, atol=1e-12)
    assert np.array_equal(read.voxels, volume.voxels)
    again = read_volume(write_volume(result_on(read), tmp_path / f"out{ending}"))
    np.testing.assert_allclose(again.ijk_to_ras, read.ijk_to_ras, rtol=0, atol=1e-12)


def nrrd_text(path: Path, space: str, directions: np.ndarray, origin: np.ndarray) -> Path:
    """A NRRD written by hand, so that what is read does not rest on what is written."""
    columns = " ".join("(" + ",".join(repr(float(x)) for x in column) + ")" for column in directions.T)
    place = ",".join(repr(float(x)) for x in origin)
    sizes = " ".join(str(size) for size in SHAPE[::-1])
    head = f"NRRD0005\ntype: short\ndimension: 3\nspace: {space}\nsizes: {sizes}\nspace directions: {columns}\n"
    head += f"kinds: domain domain domain\nendian: little\nencoding: raw\nspace origin: ({place})\n\n"
    path.write_bytes(head.encode() + grey().tobytes())
    return path


@pytest.mark.parametrize("name", AXES)
@pytest.mark.parametrize(
    ("space", "signs"), [("left-posterior-superior", (-1, -1, 1)), ("right-anterior-superior", (1, 1, 1))]
)
def test_space_directions_of_nrrd_are_taken_as_written(
    name: str, space: str, signs: tuple[int, int, int], tmp_path: Path
) -> None:
    affine = grid(SHAPE, SPACING, AXES[name])
    turn = np.diag(signs)
    path = nrrd_text(tmp_path / "in.nrrd", space, turn @ affine[:3, :3], turn @ affine[:3, 3])
    volume = read_volume(path)
    np.testing.assert_allclose(volume.ijk_to_ras, affine, rtol=0, atol=1e-12)
    assert np.array_equal(volume.voxels, grey())


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.uint8, np.float32, np.float64])
def test_itk_voxels_of_every_type(dtype: type, ending: str, tmp_path: Path) -> None:
    read = read_volume(write_volume(on(OBLIQUE).replaced(grey(dtype)), tmp_path / f"in{ending}"))
    assert read.voxels.dtype == dtype
    assert np.array_equal(read.voxels, grey(dtype))


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_description_of_itk_files(ending: str, tmp_path: Path) -> None:
    path = write_volume(on(OBLIQUE), tmp_path / f"out{ending}", description="synthetic T2")
    assert b"synthetic T2" in path.read_bytes()


@pytest.mark.parametrize("name", AXES)
@pytest.mark.parametrize(("first", "then"), [(".nii.gz", ".nrrd"), (".mha", ".nii"), (".nrrd", ".mha")])
def test_another_format_has_the_same_place(name: str, first: str, then: str, tmp_path: Path) -> None:
    read = read_volume(write_volume(on(AXES[name]), tmp_path / f"a{first}"))
    again = read_volume(write_volume(read, tmp_path / f"b{then}"))
    np.testing.assert_allclose(again.ijk_to_ras, on(AXES[name]).ijk_to_ras, atol=2e-5)  # NIfTI holds float32
    assert np.array_equal(again.voxels, read.voxels)


def test_geometry_of_itk_and_back() -> None:
    affine = grid(SHAPE, SPACING, AXES["sheared"])
    np.testing.assert_allclose(ItkGeometry.of(affine).ijk_to_ras, affine, rtol=0, atol=1e-12)


# --- writing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_existing_files_are_not_replaced_unasked(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"out{ending}"
    path.write_text("precious")
    with pytest.raises(OutputError) as caught:
        write_volume(on(OBLIQUE), path)
    assert caught.value.code == "output-exists"
    assert path.read_text() == "precious"
    write_volume(on(OBLIQUE), path, overwrite=True)
    assert np.array_equal(read_volume(path).voxels, grey())


@pytest.mark.parametrize(
    ("name", "code"), [("out.png", "output-format"), ("out", "output-format"), ("no/out.nii", "output-folder-missing")]
)
def test_what_cannot_be_written_is_refused(name: str, code: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught:
        write_volume(on(OBLIQUE), tmp_path / name)
    assert caught.value.code == code
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, MemoryError])
def test_a_failure_while_writing_leaves_what_was_there(failure: type[BaseException], tmp_path: Path) -> None:
    (tmp_path / "out.nii").write_text("precious")
    with pytest.raises(failure), write_aside(tmp_path / "out.nii") as aside:
        assert aside.parent == tmp_path
        aside.write_text("half")
        raise failure
    assert [path.name for path in tmp_path.iterdir()] == ["out.nii"]
    assert (tmp_path / "out.nii").read_text() == "precious"


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_a_full_disk_leaves_nothing_behind(ending: str, full_disk: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 30_000, (32, 32, 32)).astype(np.int16)
    with pytest.raises(OutputError) as caught:
        write_volume(Volume(noise, np.eye(4)), full_disk / f"out{ending}")
    assert caught.value.code == "output-full"
    assert [path.name for path in full_disk.iterdir()] == ["filling"]


def test_files_written_aside_have_the_usual_rights(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    written = write_volume(on(OBLIQUE), tmp_path / "out.nii")
    assert written.stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_the_hash_of_a_folder_tells_names_and_contents(tmp_path: Path) -> None:
    def folder(name: str, **files: str) -> str:
        (tmp_path / name).mkdir()
        for file, content in files.items():
            (tmp_path / name / file).write_text(content)
        return sha256_of(tmp_path / name)

    one = folder("one", a="1", b="2")
    assert one == folder("same", b="2", a="1")
    assert len({one, folder("content", a="1", b="3"), folder("names", a="1", c="2")}) == 3


# --- the volume -------------------------------------------------------------------------------------------


def test_geometry_of_a_volume_cannot_be_changed() -> None:
    affine = np.eye(4)
    volume = Volume(grey(), affine)
    affine[0, 3] = 5
    assert volume.ijk_to_ras[0, 3] == 0
    with pytest.raises(ValueError, match="read-only"):
        volume.ijk_to_ras[0, 3] = 5


def test_spacing_and_shape_of_a_sheared_grid() -> None:
    volume = on(AXES["sheared"])
    assert volume.shape == SHAPE
    assert volume.spacing == pytest.approx(SPACING)


def test_voxels_of_another_shape_do_not_fit() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        on(OBLIQUE).replaced(np.zeros((2, 2, 2)))


def test_itk_reads_the_same_place_as_we_do(tmp_path: Path) -> None:
    """An independent reader of our NIfTI: SimpleITK, in LPS."""
    volume = on(AXES["oblique"])
    image = sitk.ReadImage(str(write_volume(volume, tmp_path / "out.nii")))
    corner = image.TransformContinuousIndexToPhysicalPoint([2.0, 3.0, 4.0])
    expected = np.diag([-1, -1, 1, 1]) @ volume.ijk_to_ras @ [2, 3, 4, 1]
    np.testing.assert_allclose(corner, expected[:3], atol=1e-4)
