"""Everything that can be wrong with what the user gives: one clear error each, and nothing written.

Each row of `CASES` makes real bad files beside a good ``t1.nii`` and a good ``model.safetensors``, and says
which code `mrsynth synthesize` answers with.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import pickle
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from conftest import phantom
from safetensors import safe_open
from safetensors.numpy import save_file

from MRSynthLib.engine import screening
from MRSynthLib.engine.checkpoint import METADATA_KEY, weights_sha256
from MRSynthLib.engine.cli import main
from MRSynthLib.engine.errors import ERRORS, FAMILIES
from MRSynthLib.engine.files import read_volume, write_volume
from MRSynthLib.engine.preparation import SURE
from MRSynthLib.engine.volume import Volume

Case = Callable[[Path], list[str]]
CASES: list[tuple[str, str, Case]] = []
USUAL = ["t1.nii", "-o", "out.nii.gz"]


def case(code: str) -> Callable[[Case], Case]:
    """Register a function that makes bad input in a folder and returns the arguments of `synthesize`."""

    def register(make: Case) -> Case:
        CASES.append((make.__name__, code, make))
        return make

    return register


def given(name: str) -> list[str]:
    return [name, "-o", "out.nii.gz"]


def good(folder: Path) -> Volume:
    return read_volume(folder / "t1.nii")


def nifti(folder: Path, voxels: np.ndarray, affine: np.ndarray | None = None) -> list[str]:
    """Write (i, j, k) voxels as bad.nii."""
    usual = np.diag([4.25, 4.25, 4.25, 1.0])
    nibabel.save(nibabel.Nifti1Image(voxels, usual if affine is None else affine), folder / "bad.nii")
    return given("bad.nii")


def header(folder: Path, *changes: tuple[int, str, tuple[float, ...]]) -> list[str]:
    """Write t1.nii as bad.nii, with other values of the NIfTI-1 header: offset, type, values."""
    data = bytearray((folder / "t1.nii").read_bytes())
    for offset, kind, values in changes:
        struct.pack_into(f"<{len(values)}{kind}", data, offset, *values)
    (folder / "bad.nii").write_bytes(data)
    return given("bad.nii")


# --- the input ----------------------------------------------------------------------------------------------


@case("input-not-found")
def input_missing(folder: Path) -> list[str]:
    return given("missing.nii.gz")


@case("input-not-an-image")
def input_of_another_kind(folder: Path) -> list[str]:
    (folder / "notes.txt").write_text("not an image")
    return given("notes.txt")


@case("input-not-an-image")
def input_folder_without_dicom(folder: Path) -> list[str]:
    (folder / "empty").mkdir()
    return given("empty")


@case("input-corrupt")
def text_called_nifti(folder: Path) -> list[str]:
    (folder / "bad.nii").write_text("not an image " * 100)
    return given("bad.nii")


@case("input-corrupt")
def text_called_nrrd(folder: Path) -> list[str]:
    (folder / "bad.nrrd").write_text("not an image " * 100)
    return given("bad.nrrd")


@case("input-corrupt")
def empty_file(folder: Path) -> list[str]:
    (folder / "bad.nii.gz").write_bytes(b"")
    return given("bad.nii.gz")


def truncated(folder: Path, ending: str) -> list[str]:
    path = folder / f"bad{ending}"
    write_volume(good(folder), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    return given(path.name)


@case("input-corrupt")
def truncated_nifti(folder: Path) -> list[str]:
    return truncated(folder, ".nii")


@case("input-corrupt")
def truncated_gzip(folder: Path) -> list[str]:
    return truncated(folder, ".nii.gz")


@case("input-corrupt")
def truncated_nrrd(folder: Path) -> list[str]:
    return truncated(folder, ".nrrd")


@case("input-corrupt")
def truncated_mha(folder: Path) -> list[str]:
    return truncated(folder, ".mha")


@case("input-corrupt")
def damaged_gzip(folder: Path) -> list[str]:
    data = bytearray(gzip.compress((folder / "t1.nii").read_bytes()))
    data[len(data) // 2 : len(data) // 2 + 64] = b"\xff" * 64
    (folder / "bad.nii.gz").write_bytes(data)
    return given("bad.nii.gz")


@case("input-not-3d")
def one_picture(folder: Path) -> list[str]:
    return nifti(folder, np.arange(1600, dtype=np.int16).reshape(40, 40))


@case("input-not-3d")
def one_slice(folder: Path) -> list[str]:
    return nifti(folder, np.arange(1600, dtype=np.int16).reshape(40, 40, 1))


@case("input-not-3d")
def time_series(folder: Path) -> list[str]:
    return nifti(folder, np.stack([good(folder).voxels.T] * 3, axis=-1))


@case("input-color")
def colour_nifti(folder: Path) -> list[str]:
    rgb = np.zeros((20, 20, 20), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    return nifti(folder, rgb)


@case("input-color")
def vectors_in_nrrd(folder: Path) -> list[str]:
    image = sitk.GetImageFromArray(np.ones((20, 20, 20, 3), dtype=np.float32), isVector=True)
    sitk.WriteImage(image, str(folder / "bad.nrrd"))
    return given("bad.nrrd")


@case("input-label-map")
def label_map(folder: Path) -> list[str]:
    voxels = good(folder).voxels.T
    return nifti(folder, (voxels > 0).astype(np.int16) + (voxels > 500))


@case("input-empty")
def only_zeros(folder: Path) -> list[str]:
    return nifti(folder, np.zeros((40, 48, 40), dtype=np.int16))


@case("input-empty")
def nothing_above_zero(folder: Path) -> list[str]:
    return nifti(folder, -good(folder).voxels.T)


@case("input-constant")
def constant(folder: Path) -> list[str]:
    return nifti(folder, np.full((40, 48, 40), 7, dtype=np.int16))


@case("input-not-finite")
def only_nan(folder: Path) -> list[str]:
    return nifti(folder, np.full((40, 48, 40), np.nan, dtype=np.float32))


@case("input-spacing")
def no_spacing_in_nifti(folder: Path) -> list[str]:
    qform_only, pixdim_k = (252, "h", (1, 0)), (88, "f", (0.0,))
    return header(folder, qform_only, pixdim_k)


@case("input-spacing")
def no_spacing_in_mha(folder: Path) -> list[str]:
    image = sitk.GetImageFromArray(good(folder).voxels)
    sitk.WriteImage(image, str(folder / "bad.mha"))
    data = (folder / "bad.mha").read_bytes()
    assert b"ElementSpacing = 1 1 1" in data
    (folder / "bad.mha").write_bytes(data.replace(b"ElementSpacing = 1 1 1", b"ElementSpacing = 1 1 0"))
    return given("bad.mha")


@case("input-spacing")
def absurd_spacing(folder: Path) -> list[str]:
    return nifti(folder, good(folder).voxels.T, np.diag([4.25, 4.25, 4250.0, 1.0]))


@case("input-spacing")
def centimetres_for_millimetres(folder: Path) -> list[str]:
    shape = (64, 64, 64)
    return nifti(folder, np.arange(np.prod(shape), dtype=np.int32).reshape(shape), np.diag([17.0, 17.0, 17.0, 1.0]))


@case("input-not-finite")
def beyond_float32(folder: Path) -> list[str]:
    return nifti(folder, good(folder).voxels.T * 1e36)


@case("input-affine")
def singular_affine(folder: Path) -> list[str]:
    affine = np.diag([4.25, 4.25, 4.25, 1.0])
    affine[:3, 2] = affine[:3, 1]
    # nibabel refuses to write this, so it is put into the file: sform_code, and the first column of rows
    image = nibabel.Nifti1Image(good(folder).voxels.T, None)
    image.header.set_sform(affine, code=1)
    nibabel.save(nibabel.Nifti1Image(good(folder).voxels.T, None, image.header), folder / "bad.nii")
    return given("bad.nii")


@case("input-affine")
def affine_of_nan(folder: Path) -> list[str]:
    return header(folder, (280, "f", (np.nan,) * 12))  # srow_x, srow_y, srow_z


@case("input-too-few-slices")
def four_slices(folder: Path) -> list[str]:
    return nifti(folder, good(folder).voxels.T[:, :, 18:22])


@case("input-too-large")
def gigantic(folder: Path) -> list[str]:
    return header(folder, (40, "h", (3, 30000, 30000, 30000)))  # dim


@case("input-too-large")
def gigantic_nrrd(folder: Path) -> list[str]:
    text = "NRRD0004\ntype: short\ndimension: 3\nsizes: 30000 30000 30000\nencoding: raw\nendian: little\n\n"
    (folder / "bad.nrrd").write_text(text)
    return given("bad.nrrd")


@case("input-too-large")
def swelling_gzip(folder: Path) -> list[str]:
    """A file of 2 MB that would take 2 GB."""
    header(folder, (40, "h", (3, 1000, 1000, 1000)))
    zeros = gzip.compress(bytes(1 << 24)) * 120
    (folder / "bad.nii.gz").write_bytes(gzip.compress((folder / "bad.nii").read_bytes()[:352]) + zeros)
    return given("bad.nii.gz")


@case("input-corrupt")
def more_voxels_than_bytes(folder: Path) -> list[str]:
    return header(folder, (40, "h", (3, 800, 800, 800)))


@case("input-corrupt")
def extension_that_goes_beyond_the_voxels(folder: Path) -> list[str]:
    return header(folder, (108, "f", (352 + 64,)), (348, "B", (1,)), (352, "i", (1 << 30, 6)))


@case("input-corrupt")
def dimensions_that_end_the_process(folder: Path) -> list[str]:
    """MetaIO writes over its own memory."""
    (folder / "bad.mha").write_text("ObjectType = Image\nNDims = 100\nElementDataFile = LOCAL\n")
    return given("bad.mha")


@case("input-not-an-image")
def voxels_in_several_files(folder: Path) -> list[str]:
    text = "ObjectType = Image\nNDims = 3\nDimSize = 9 9 9\nElementType = MET_SHORT\nElementDataFile = "
    (folder / "bad.mhd").write_text(text + "x%03d.raw 1 9 1\n")
    return given("bad.mhd")


@case("input-not-an-image")
def voxels_as_text(folder: Path) -> list[str]:
    text = "NRRD0004\ntype: short\ndimension: 3\nsizes: 9 9 9\nencoding: text\n\n"
    (folder / "bad.nrrd").write_text(text + "1 " * 729)
    return given("bad.nrrd")


@case("input-contrast-unknown")
def neither_t1_nor_t2(folder: Path) -> list[str]:
    t1, t2 = good(folder), phantom("t2")
    grain = 1 + 0.1 * np.random.default_rng(0).standard_normal(t1.shape)  # without, it would be too even for a brain
    for share in np.linspace(0.3, 0.6, 31):  # of T1 in a mixture that the screening cannot decide on
        mixed = t1.replaced(((share * t1.voxels + (1 - share) * t2.voxels) * grain).clip(0).astype(np.float32))
        source = screening.screen(mixed).source
        if source is not None and source.confidence < SURE:
            return nifti(folder, mixed.voxels.T, mixed.ijk_to_ras)
    raise AssertionError("every mixture is taken for T1 or T2")


# --- the mask -----------------------------------------------------------------------------------------------


@case("mask-empty")
def empty_mask(folder: Path) -> list[str]:
    volume = good(folder)
    write_volume(volume.replaced(np.zeros_like(volume.voxels)), folder / "mask.nii")
    return [*USUAL, "--mask", "mask.nii"]


@case("mask-off-grid")
def mask_of_another_place(folder: Path) -> list[str]:
    volume = good(folder)
    away = volume.ijk_to_ras.copy()
    away[0, 3] += 1000
    write_volume(Volume((volume.voxels > 0).astype(np.uint8), away), folder / "mask.nrrd")
    return [*USUAL, "--mask", "mask.nrrd"]


@case("mask-unreadable")
def mask_missing(folder: Path) -> list[str]:
    return [*USUAL, "--mask", "missing.nii"]


@case("mask-unreadable")
def mask_is_text(folder: Path) -> list[str]:
    (folder / "mask.nii").write_text("not a mask")
    return [*USUAL, "--mask", "mask.nii"]


# --- the model ----------------------------------------------------------------------------------------------


def model(folder: Path, tensors: Mapping[str, np.ndarray] | None = None, **change: Any) -> list[str]:
    """Write bad.safetensors: the good one with other tensors, or fields of the card; None drops a field."""
    with safe_open(folder / "model.safetensors", "np") as file:
        own = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        card = json.loads(file.metadata()[METADATA_KEY])
    if tensors is not None:
        own = dict(tensors)
        card["weights_sha256"] = weights_sha256(own)
    card |= change
    card = {name: value for name, value in card.items() if value is not None or name == "reliability"}
    save_file(own, folder / "bad.safetensors", {METADATA_KEY: json.dumps(card)})
    return [*USUAL, "--model", "bad.safetensors"]


@case("model-not-found")
def unknown_model(folder: Path) -> list[str]:
    return [*USUAL, "--model", "no-such-model"]


@case("model-not-found")
def model_is_a_folder(folder: Path) -> list[str]:
    (folder / "models").mkdir()
    return [*USUAL, "--model", "models"]


@case("model-hash")
def one_bit_of_the_weights(folder: Path) -> list[str]:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-3] ^= 1
    (folder / "bad.safetensors").write_bytes(data)
    return [*USUAL, "--model", "bad.safetensors"]


@case("model-hash")
def hash_of_other_weights(folder: Path) -> list[str]:
    return model(folder, weights_sha256="0" * 64)


@case("model-truncated")
def truncated_weights(folder: Path) -> list[str]:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "bad.safetensors").write_bytes(data[:-100])
    return [*USUAL, "--model", "bad.safetensors"]


@case("model-truncated")
def truncated_header(folder: Path) -> list[str]:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "bad.safetensors").write_bytes(data[:500])
    return [*USUAL, "--model", "bad.safetensors"]


class _Trap:
    """Unpickled, it would write a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (Path("executed"), "")


@case("model-not-safetensors")
def pickle_renamed(folder: Path) -> list[str]:
    (folder / "bad.safetensors").write_bytes(pickle.dumps({"weights": _Trap(), "padding": b"x" * 1000}))
    return [*USUAL, "--model", "bad.safetensors"]


@case("model-not-safetensors")
def torch_file_renamed(folder: Path) -> list[str]:
    import torch

    torch.save({"weights": _Trap()}, folder / "bad.safetensors")
    return [*USUAL, "--model", "bad.safetensors"]


@case("model-not-safetensors")
def text_as_model(folder: Path) -> list[str]:
    (folder / "bad.safetensors").write_text("weights")
    return [*USUAL, "--model", "bad.safetensors"]


@case("model-not-safetensors")
def header_of_garbage(folder: Path) -> list[str]:
    (folder / "bad.safetensors").write_bytes(struct.pack("<Q", 64) + b"\xff" * 200)
    return [*USUAL, "--model", "bad.safetensors"]


@case("model-card")
def no_card(folder: Path) -> list[str]:
    save_file({"weight": np.zeros(3, dtype=np.float32)}, folder / "bad.safetensors")
    return [*USUAL, "--model", "bad.safetensors"]


@case("model-card")
def card_without_licence(folder: Path) -> list[str]:
    return model(folder, licence=None)


@case("model-card")
def card_with_unknown_frame(folder: Path) -> list[str]:
    return model(folder, frame="panoramic")


@case("model-version")
def newer_format(folder: Path) -> list[str]:
    return model(folder, format_version=2)


@case("model-generator")
def unknown_generator(folder: Path) -> list[str]:
    return model(folder, generator={"name": "os.system", "arguments": {"command": "true"}})


@case("model-generator")
def unknown_argument(folder: Path) -> list[str]:
    return model(folder, generator={"name": "DenseUNet", "arguments": {"colour": "blue"}})


@case("model-shape")
def weights_of_another_size(folder: Path) -> list[str]:
    arguments = {"growth": 5, "blocks": [1, 1, 1, 1]}
    return model(folder, generator={"name": "DenseUNet", "arguments": arguments})


@case("model-shape")
def weights_of_something_else(folder: Path) -> list[str]:
    return model(folder, tensors={"weight": np.zeros(3, dtype=np.float32)})


# --- the output ---------------------------------------------------------------------------------------------


@case("output-format")
def output_of_another_kind(folder: Path) -> list[str]:
    return ["t1.nii", "-o", "out.png"]


@case("output-format")
def output_without_ending(folder: Path) -> list[str]:
    return ["t1.nii", "-o", "out"]


@case("output-format")
def cycle_of_another_kind(folder: Path) -> list[str]:
    return [*USUAL, "--cycle", "cycle.json"]


@case("output-folder-missing")
def output_in_no_folder(folder: Path) -> list[str]:
    return ["t1.nii", "-o", "missing/out.nii"]


@case("output-folder-missing")
def output_below_a_file(folder: Path) -> list[str]:
    return ["t1.nii", "-o", "t1.nii/out.nii"]


@case("output-folder-missing")
def cycle_in_no_folder(folder: Path) -> list[str]:
    return [*USUAL, "--cycle", "missing/cycle.nii"]


@case("output-not-writable")
def output_is_a_folder(folder: Path) -> list[str]:
    (folder / "out.nii").mkdir()
    return ["t1.nii", "-o", "out.nii", "--force"]


@case("output-not-writable")
def output_name_too_long(folder: Path) -> list[str]:
    return ["t1.nii", "-o", "x" * 300 + ".nii"]


@case("output-not-writable")
def sidecar_name_too_long(folder: Path) -> list[str]:
    return ["t1.nii", "-o", "x" * 251 + ".nii"]


@case("output-exists")
def output_exists(folder: Path) -> list[str]:
    (folder / "out.nii").write_text("precious")
    return ["t1.nii", "-o", "out.nii"]


@case("output-exists")
def sidecar_exists(folder: Path) -> list[str]:
    (folder / "out.json").write_text("precious")
    return ["t1.nii", "-o", "out.nii"]


@case("output-exists")
def cycle_exists(folder: Path) -> list[str]:
    (folder / "cycle.nii").write_text("precious")
    return [*USUAL, "--cycle", "cycle.nii"]


@case("output-exists")
def output_and_cycle_are_one(folder: Path) -> list[str]:
    return ["t1.nii", "-o", "out.nii", "--cycle", str(folder / "out.nii"), "--force"]


@case("output-is-input")
def output_is_input(folder: Path) -> list[str]:
    return ["t1.nii", "-o", "t1.nii", "--force"]


@case("output-is-input")
def output_is_input_by_another_path(folder: Path) -> list[str]:
    return ["t1.nii", "-o", str(folder / "." / "t1.nii"), "--force"]


@case("output-is-input")
def output_is_a_symbolic_link_to_the_input(folder: Path) -> list[str]:
    (folder / "link.nii").symlink_to("t1.nii")
    return ["t1.nii", "-o", "link.nii", "--force"]


@case("output-is-input")
def input_is_a_symbolic_link_to_the_output(folder: Path) -> list[str]:
    (folder / "link.nii").symlink_to("t1.nii")
    return ["link.nii", "-o", "t1.nii", "--force"]


@case("output-is-input")
def output_is_a_hard_link_to_the_input(folder: Path) -> list[str]:
    os.link(folder / "t1.nii", folder / "link.nii")
    return ["t1.nii", "-o", "link.nii", "--force"]


@case("output-is-input")
def cycle_is_input(folder: Path) -> list[str]:
    return [*USUAL, "--cycle", "t1.nii", "--force"]


@case("output-is-input")
def output_is_the_mask(folder: Path) -> list[str]:
    write_volume(good(folder), folder / "mask.nii")
    return ["t1.nii", "-o", "mask.nii", "--mask", "mask.nii", "--force"]


@case("output-is-input")
def sidecar_is_that_of_the_input(folder: Path) -> list[str]:
    (folder / "t1.json").write_text('{"EchoTime": 0.004}')
    return ["t1.nii", "-o", "t1.nrrd", "--force"]


# --- the device ---------------------------------------------------------------------------------------------


@case("device-unavailable")
def gpu_that_is_not_there(folder: Path) -> list[str]:
    return [*USUAL, "--device", "cuda:99"]


@case("device-unavailable")
def unknown_device(folder: Path) -> list[str]:
    return [*USUAL, "--device", "tpu"]


@case("device-unavailable")
def precision_that_a_cpu_has_not(folder: Path) -> list[str]:
    return [*USUAL, "--device", "cpu", "--precision", "fp16"]


@case("device-unavailable")
def unknown_precision(folder: Path) -> list[str]:
    return [*USUAL, "--precision", "fp8"]


# ------------------------------------------------------------------------------------------------------------


def snapshot(folder: Path) -> dict[str, str]:
    """Every name in the folder, with the SHA-256 of what it holds."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phantom_t1: Volume, tiny_checkpoint: Path) -> Path:
    """The current folder, with a good t1.nii and a good model.safetensors."""
    write_volume(phantom_t1, tmp_path / "t1.nii")
    (tmp_path / "model.safetensors").write_bytes(tiny_checkpoint.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def complete(arguments: list[str]) -> list[str]:
    return ["synthesize", *arguments, *([] if "--model" in arguments else ["--model", "model.safetensors"])]


@pytest.mark.parametrize(("code", "make"), [row[1:] for row in CASES], ids=[row[0] for row in CASES])
def test_each_has_its_code_and_writes_nothing(
    folder: Path, code: str, make: Case, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = complete(make(folder))
    before = snapshot(folder)
    exit_code = main([*arguments, "--json"])
    out, err = capfd.readouterr()
    error = json.loads(out)["error"]
    assert error["code"] == code, error
    assert error["family"] == ERRORS[code].family
    assert exit_code == FAMILIES[ERRORS[code].family].exit_code
    assert error["seen"]
    assert error["expected"]
    assert error["remedy"]
    assert err.endswith(f"mrsynth: {error['message']} [{code}]\n")  # libraries may complain before
    assert "Traceback" not in err
    assert snapshot(folder) == before


def test_a_read_only_folder(folder: Path, read_only_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = complete(["t1.nii", "-o", str(read_only_folder / "out.nii")])
    assert main([*arguments, "--json"]) == 5
    assert json.loads(capfd.readouterr().out)["error"]["code"] == "output-not-writable"
    assert list(read_only_folder.iterdir()) == []


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_a_full_disk(folder: Path, full_disk: Path, ending: str, capfd: pytest.CaptureFixture[str]) -> None:
    before = snapshot(full_disk)
    arguments = complete(["t1.nii", "-o", str(full_disk / f"out{ending}")])
    assert main([*arguments, "--json"]) == 5
    error = json.loads(capfd.readouterr().out)["error"]
    assert error["code"] == "output-full", error
    assert snapshot(full_disk) == before


@pytest.mark.parametrize(
    ("spoil", "warning"),
    [(np.nan, "not finite"), (np.inf, "not finite"), (-1000.0, "CT")],
    ids=["some NaN", "some infinite", "Hounsfield"],
)
def test_what_can_be_worked_on_is_with_a_warning(
    folder: Path, spoil: float, warning: str, capfd: pytest.CaptureFixture[str]
) -> None:
    voxels = good(folder).voxels.astype(np.float32)
    voxels[:2] = spoil
    write_volume(good(folder).replaced(voxels), folder / "odd.nii")
    assert main([*complete(["odd.nii", "-o", "out.nii"]), "--json"]) == 0
    warnings = json.loads(capfd.readouterr().out)["warnings"]
    assert any(warning in each for each in warnings), warnings


def test_no_error_of_the_list_is_forgotten() -> None:
    here = Path(__file__)
    others = "".join(path.read_text(encoding="utf-8") for path in here.parent.glob("test_*.py") if path != here)
    untested = set(ERRORS) - {code for _, code, _ in CASES}  # more than a bad file: tested where they belong
    assert [code for code in sorted(untested) if f'"{code}"' not in others] == []
