"""The demo: every kind of input, what it writes, and a picture whose sides and proportions are right."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer")
pytest.importorskip("matplotlib")

from mrml_scenes import in_process  # noqa: E402

from MRSynthLib.desktop import demo, figure, runner  # noqa: E402
from MRSynthLib.engine.files import read_volume, write_volume  # noqa: E402
from MRSynthLib.engine.volume import Volume  # noqa: E402


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def write_dicom_series(volume: Volume, folder: Path) -> Path:
    """Write a volume as one MR series with the least that a reader needs."""
    import SimpleITK as sitk

    folder.mkdir()
    spacing = volume.spacing
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.ijk_to_ras
    directions = (lps[:3, :3] / spacing).T[:2].ravel()
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k, plane in enumerate(volume.voxels):
        image = sitk.GetImageFromArray(plane)
        image.SetSpacing(spacing[:2])
        tags = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.4",
            "0008|0018": f"1.2.826.0.1.3680043.2.1125.1.{k + 1}",
            "0008|0060": "MR",
            "0020|000d": "1.2.826.0.1.3680043.2.1125.2",
            "0020|000e": "1.2.826.0.1.3680043.2.1125.3",
            "0020|0013": str(k + 1),
            "0020|0032": "\\".join(f"{x:g}" for x in (lps @ (0, 0, k, 1))[:3]),
            "0020|0037": "\\".join(f"{x:g}" for x in directions),
            "0018|0050": f"{spacing[2]:g}",
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{k:03d}.dcm"))
        writer.Execute(image)
    return folder


# --- what it writes -----------------------------------------------------------------------


def test_demo_writes_result_scene_and_picture_and_leaves_the_input(
    tmp_path: Path, phantom_t1: Volume, tiny_checkpoint: Path
) -> None:
    source = write_volume(phantom_t1, tmp_path / "patient.nii.gz")
    before = digests(tmp_path)
    output = tmp_path / "new folder" / "demo"

    outcome = demo.run(source, output, str(tiny_checkpoint), "cpu")

    assert {key: path.name for key, path in outcome.files.items()} == {
        "NRRD": "patient_synthetic-T2.nrrd",
        "NIfTI": "patient_synthetic-T2.nii.gz",
        "scene": "patient_synthetic-T2.mrb",
        "picture": "patient_synthetic-T2.png",
    }
    assert sorted(output.iterdir()) == sorted(outcome.files.values())
    nifti, nrrd = read_volume(outcome.files["NIfTI"]), read_volume(outcome.files["NRRD"])
    np.testing.assert_array_equal(nifti.ijk_to_ras, read_volume(source).ijk_to_ras)
    np.testing.assert_allclose(nrrd.ijk_to_ras, nifti.ijk_to_ras, atol=1e-9)
    np.testing.assert_array_equal(nrrd.voxels, nifti.voxels)
    assert np.any(nifti.voxels)
    assert b"SYNTHETIC T2w" in nifti.header["descrip"].tobytes()
    assert b"MRSynth.Synthetic:=1" in outcome.files["NRRD"].read_bytes()[:4000]
    assert outcome.files["picture"].read_bytes().startswith(b"\x89PNG")
    assert outcome.facts["Recognised"].startswith("T1")
    assert hashlib.sha256(tiny_checkpoint.read_bytes()).hexdigest() in outcome.facts["Checkpoint"]
    assert outcome.facts["Device"].startswith(("cpu, fp32", "cpu, bf16"))
    assert before.items() <= digests(tmp_path).items()


@pytest.fixture
def without_child(monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Path) -> None:
    """Compute in this process, which spares each test the start of another one."""
    from MRSynthLib.engine.provenance import facts
    from MRSynthLib.engine.synthesis import Synthesizer

    synthesizer = Synthesizer(tiny_checkpoint, device="cpu")

    def run(volume: Volume, *, target: str | None, mask: Any, cycle: bool, **rest: Any) -> runner.RunResult:
        result = synthesizer.synthesize(volume, target, mask=mask, cycle=cycle)
        assert result.cycle is not None
        return runner.RunResult(result.volume.voxels, facts(result), result.cycle.voxels)

    monkeypatch.setattr(runner, "WorkerRun", in_process(run))


@pytest.mark.usefixtures("without_child")
@pytest.mark.parametrize("kind", [".nii", ".nrrd", ".mha", "DICOM"])
def test_every_kind_of_input_works(tmp_path: Path, phantom_t1: Volume, kind: str) -> None:
    if kind == "DICOM":
        path = write_dicom_series(phantom_t1, tmp_path / "series")
    else:
        path = write_volume(phantom_t1, tmp_path / f"head{kind}")
    before = digests(tmp_path)
    outcome = demo.run(path, tmp_path / "out")
    made, source = read_volume(outcome.files["NIfTI"]), read_volume(path)
    assert made.shape == source.shape
    np.testing.assert_allclose(made.ijk_to_ras, source.ijk_to_ras, atol=1e-4)
    assert before.items() <= digests(tmp_path).items()


@pytest.mark.usefixtures("without_child")
def test_a_t2_becomes_a_t1(tmp_path: Path, phantom_t2: Volume) -> None:
    outcome = demo.run(write_volume(phantom_t2, tmp_path / "t2.nii.gz"), tmp_path)
    assert outcome.facts["Recognised"].startswith("T2")
    assert outcome.files["NIfTI"].name == "t2_synthetic-T1.nii.gz"


@pytest.mark.usefixtures("without_child")
def test_a_relative_output_folder_works(tmp_path: Path, phantom_t1: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    write_volume(phantom_t1, tmp_path / "head.nii.gz")
    monkeypatch.chdir(tmp_path)
    outcome = demo.run(Path("head.nii.gz"), Path("out"))
    assert all(path.parent == tmp_path / "out" and path.exists() for path in outcome.files.values())


@pytest.mark.usefixtures("without_child")
def test_a_second_run_replaces_what_the_first_one_wrote(tmp_path: Path, phantom_t1: Volume) -> None:
    path = write_volume(phantom_t1, tmp_path / "head.nii.gz")
    first = demo.run(path, tmp_path / "out")
    second = demo.run(path, tmp_path / "out")
    assert first.files == second.files
    assert sorted((tmp_path / "out").iterdir()) == sorted(second.files.values())


def test_template_is_a_t1_in_a_file_of_ours(tmp_path: Path) -> None:
    pytest.importorskip("nilearn")
    path = demo._template(tmp_path)
    template = read_volume(path)
    assert template.shape == (189, 233, 197)
    assert template.spacing == (1.0, 1.0, 1.0)
    written = path.stat().st_mtime_ns
    assert demo._template(tmp_path) == path
    assert path.stat().st_mtime_ns == written


def test_bad_input_is_told_in_one_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = demo.main(["--input", str(tmp_path / "absent.nii.gz"), "--output", str(tmp_path / "out")])
    told = capsys.readouterr()
    assert code == 3
    assert "absent.nii.gz" in told.err and "input-not-found" in told.err
    assert "Traceback" not in told.err
    assert not (tmp_path / "out").exists()


# --- the picture --------------------------------------------------------------------------


def placed(affine: np.ndarray) -> np.ndarray:
    """Put the middle of a 40 x 50 x 60 (i, j, k) grid at the origin of patient space."""
    affine = affine.copy()
    affine[:3, 3] = -(affine[:3, :3] @ np.array([19.5, 24.5, 29.5]))
    return affine


AFFINES = {
    "RAS": placed(np.diag([2.0, 2.0, 2.0, 1.0])),
    "LPS": placed(np.diag([-2.0, -2.0, 2.0, 1.0])),
    "left-handed": placed(np.diag([2.0, 2.0, -2.0, 1.0])),
    "sagittal": placed(np.diag([2.0, 2.0, 2.0, 1.0])[:, [1, 2, 0, 3]]),
    "anisotropic": placed(np.diag([3.0, 1.0, 2.0, 1.0])),
}
BOX = np.array([[-30.0, -30.0, -30.0], [30.0, 30.0, 30.0]])


def computed(affine: np.ndarray, brightness: Any) -> Volume:
    """A volume whose voxels are a function of their position (R, A, S) in mm."""
    k, j, i = np.indices((60, 50, 40))
    r, a, s = np.einsum("ab,b...->a...", affine, np.stack([i, j, k, np.ones_like(i)]))[:3]
    return Volume(np.asarray(brightness(r, a, s), dtype=np.float32), affine)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_right_is_left_front_is_up_or_left_and_head_is_up(affine: np.ndarray) -> None:
    position = np.zeros(3)
    corner = computed(affine, lambda r, a, s: 10 + (r > 8) * 1 + (a > 8) * 2 + (s > 8) * 4)
    pictures = {view.name: figure.sample(corner, view, position, BOX) for view in figure.VIEWS}
    # top left, top right, bottom left, bottom right
    expected = {"axial": (13, 12, 11, 10), "coronal": (15, 14, 11, 10), "sagittal": (16, 14, 12, 10)}
    for name, picture in pictures.items():
        assert picture.shape == (120, 120)
        assert tuple(picture[[20, 20, 100, 100], [20, 100, 20, 100]]) == expected[name]


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_a_ball_is_round_in_every_view(affine: np.ndarray) -> None:
    ball = computed(affine, lambda r, a, s: np.clip(21 - np.sqrt(r**2 + a**2 + s**2), 0, 1))
    for view in figure.VIEWS:
        picture = figure.sample(ball, view, np.zeros(3), BOX) > 0.5
        width, height = picture.any(axis=0).sum() * figure.STEP, picture.any(axis=1).sum() * figure.STEP
        assert width == pytest.approx(41, abs=2)
        assert height == pytest.approx(41, abs=2)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_box_surrounds_the_head_in_patient_space(affine: np.ndarray) -> None:
    head = computed(affine, lambda r, a, s: (abs(r) < 15) & (abs(a - 4) < 18) & (abs(s + 6) < 20))
    np.testing.assert_allclose(figure.head_box(head), [[-15, -14, -26], [15, 22, 14]], atol=3)


def test_views_cross_at_the_ventricles_even_where_the_neck_is_long() -> None:
    box = np.array([[-70.0, -90.0, -200.0], [70.0, 80.0, 80.0]])
    assert figure.centre(box)[2] == 80 - figure.VERTEX_TO_VENTRICLES
    assert figure.centre(box)[1] == -5


def test_picture_of_a_volume_without_anything_is_still_drawn(tmp_path: Path) -> None:
    empty = Volume(np.zeros((6, 7, 8), np.int16), np.eye(4))
    path = tmp_path / "empty.png"
    figure.draw([figure.Panel(empty, "nothing", 1000)], path, "title", ["note"])
    assert path.read_bytes().startswith(b"\x89PNG")
