"""The sample data: loaded by themselves, and through 3D Slicer's Sample Data module, without a network."""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
import types
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer")

from conftest import REPOSITORY  # noqa: E402
from mrml_scenes import in_process  # noqa: E402
from mrml_scenes import scene as scene  # noqa: E402

from MRSynthLib.desktop import mrml, recognition, runner, samples  # noqa: E402
from MRSynthLib.desktop.runner import RunResult  # noqa: E402
from MRSynthLib.engine import intensity, scores  # noqa: E402
from MRSynthLib.engine.errors import InputError  # noqa: E402
from MRSynthLib.engine.files import read_volume  # noqa: E402
from MRSynthLib.engine.provenance import facts  # noqa: E402
from MRSynthLib.engine.synthesis import Synthesizer  # noqa: E402
from MRSynthLib.engine.volume import Volume  # noqa: E402

TUTORIAL = REPOSITORY / "docs" / "tutorial.md"

# --- loading ------------------------------------------------------------------------------


@pytest.mark.parametrize("contrast", ["t1", "t2"])
def test_loads_as_it_lies_in_the_file(scene: Any, contrast: str) -> None:
    node = samples.load(contrast)
    volume = read_volume(samples.path(contrast))
    assert scene.GetNodeByID(node.GetID()) is node
    assert node.GetName() == f"MRSynthPhantom_{contrast.upper()}"
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(node), volume.voxels)
    np.testing.assert_allclose(mrml.ijk_to_ras(node), volume.ijk_to_ras, atol=1e-5)
    assert node.GetDisplayNode() is not None


def test_both_contrasts_share_their_geometry(scene: Any) -> None:
    logic = slicer.vtkSlicerVolumesLogic()
    assert logic.CompareVolumeGeometry(samples.load("t1"), samples.load("t2")) == ""


def test_saving_the_scene_cannot_overwrite_the_extension(scene: Any) -> None:
    assert samples.load("t1").GetStorageNode() is None


def test_loaded_twice_they_can_be_told_apart(scene: Any) -> None:
    assert samples.load("t1").GetName() != samples.load("t1").GetName()


@pytest.mark.parametrize("contrast", ["t1", "t2"])
def test_contrast_is_recognised(scene: Any, contrast: str) -> None:
    seen = recognition.recognise(samples.load(contrast))
    assert (seen.contrast, seen.skull_stripped) == (contrast, True)
    assert seen.spacing == pytest.approx((1.5, 1.5, 1.5))


@pytest.mark.parametrize("damage", ["missing", "cut off"])
def test_a_damaged_extension_is_named(scene: Any, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "SampleData").mkdir()
    if damage == "cut off":
        (tmp_path / "SampleData" / "MRSynthPhantom_T1.nrrd").write_bytes(samples.path("t1").read_bytes()[:5000])
    monkeypatch.setattr(samples, "RESOURCES", tmp_path)
    with pytest.raises(InputError) as raised:
        samples.load("t1")
    assert raised.value.code == {"missing": "input-not-found", "cut off": "input-corrupt"}[damage]
    assert "Install MRSynth again" in raised.value.remedy
    assert scene.GetNumberOfNodes() == 0


# --- registration -------------------------------------------------------------------------


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What is registered with a module SampleData whose function takes what that of 3D Slicer 5.10 takes."""
    found: list[dict[str, Any]] = []

    class SampleDataLogic:
        @staticmethod
        def registerCustomSampleDataSource(  # noqa: N802
            category: str = "Custom",
            sampleName: str | None = None,
            uris: Any = None,
            fileNames: Any = None,
            nodeNames: Any = None,
            customDownloader: Any = None,
            thumbnailFileName: str | None = None,
            loadFileTypes: Any = None,
            loadFiles: Any = None,
            loadFileProperties: Any = None,
            checksums: Any = None,
        ) -> None:
            source = dict(locals())
            if source not in found:
                found.append(source)

    module = types.ModuleType("SampleData")
    module.SampleDataLogic = SampleDataLogic  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "SampleData", module)
    return found


def fetched(source: dict[str, Any], folder: Path) -> Path:
    """Fetch a source as 3D Slicer does: by its address, and compared with its checksum."""
    path = folder / source["fileNames"]
    urllib.request.urlretrieve(source["uris"], path)
    algorithm, _, digest = source["checksums"].partition(":")
    assert hashlib.new(algorithm, path.read_bytes()).hexdigest() == digest
    return path


def test_sample_data_module_gets_both_without_a_network(registered: list[dict[str, Any]], tmp_path: Path) -> None:
    samples.register()
    assert [source["sampleName"] for source in registered] == ["MRSynthPhantom_T1", "MRSynthPhantom_T2"]
    for source, contrast in zip(registered, ("t1", "t2"), strict=True):
        assert source["category"] == "MRSynth"
        assert source["uris"].startswith("file://")
        assert source["nodeNames"] == source["sampleName"]
        assert fetched(source, tmp_path).read_bytes() == samples.path(contrast).read_bytes()
        assert Path(source["thumbnailFileName"]).is_file()


def test_registered_twice_they_are_there_once(registered: list[dict[str, Any]]) -> None:
    samples.register()
    samples.register()
    assert len(registered) == 2


def test_any_folder_will_do(registered: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resources = tmp_path / "Größe 50 % #2" / "Resources"
    shutil.copytree(samples.RESOURCES / "SampleData", resources / "SampleData")
    monkeypatch.setattr(samples, "RESOURCES", resources)
    samples.register()
    assert fetched(registered[0], tmp_path).read_bytes() == samples.path("t1").read_bytes()


def test_missing_files_are_not_offered(
    registered: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "RESOURCES", tmp_path)
    samples.register()
    assert registered == []


# --- what the shipped checkpoint makes of them ----------------------------------------------


def test_the_shipped_checkpoint_makes_a_t1_of_the_t2() -> None:
    """The other direction is scored for the tutorial, whose numbers are compared with it."""
    volume, acquired = read_volume(samples.path("t2")), read_volume(samples.path("t1"))
    made = Synthesizer(device="cpu").synthesize(volume).volume.voxels / intensity.SCALE
    brain = acquired.voxels > 0
    reference = intensity.normalize(acquired.voxels, intensity.brain_scale(acquired.voxels, brain))
    scored = scores.within(reference, np.clip(made, 0, 1), brain, scores.ssim_map(reference, made, acquired))
    assert scored["psnr"] > 17
    assert scored["ssim"] > 0.6


def test_the_tutorials_example_runs(scene: Any, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synthesizer = Synthesizer(tiny_checkpoint, device="cpu")

    def run(volume: Volume, *, target: str | None, **rest: Any) -> RunResult:
        result = synthesizer.synthesize(volume, target)
        return RunResult(result.volume.voxels, facts(result), None)

    monkeypatch.setattr(runner, "WorkerRun", in_process(run))
    (example,) = re.findall(r"^```python\n(.*?)^```", TUTORIAL.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(example, TUTORIAL.name, "exec"), names)
    assert names["synthetic"].GetName() == "MRSynthPhantom_T1 [synthetic T2]"
