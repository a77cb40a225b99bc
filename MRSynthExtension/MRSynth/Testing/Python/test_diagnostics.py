"""The text for a bug report: everything that helps, nothing about patients, whatever is broken."""

from __future__ import annotations

import shutil
import sys
import types
from pathlib import Path

import pytest

from MRSynthLib import __version__
from MRSynthLib.desktop import diagnostics, packages
from MRSynthLib.engine import library, model_folders
from MRSynthLib.engine.errors import Cancelled, DeviceError, InputError, InstallError, ModelError, OutputError
from MRSynthLib.engine.probe import Probe, ProbedDevice
from MRSynthLib.engine.writing import sha256_of

PROBE = Probe(
    software_version=__version__,
    torch_version="2.9.0+cu128",
    cuda_version="12.8",
    driver="570.86.10",
    model="mrsynth-native",
    frame="native",
    automatic="cuda:0",
    devices=(
        ProbedDevice("cuda:0", "NVIDIA RTX 4000", "bf16", "bf16 for speed", 0.01234),
        ProbedDevice("cpu", "Some CPU", "fp32", "CPU, as asked", 2.5),
        ProbedDevice("cuda:1", "Old GPU", "", "does not work: no kernel image", None),
    ),
    start_seconds=2.345,
)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(model_folders.USER_MODELS, str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def slicer_app(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """What 3D Slicer tells of itself."""
    app = types.SimpleNamespace(
        applicationVersion="5.10.0-2025-11-01", revision="34045", releaseType="Stable", os="win", arch="amd64"
    )
    monkeypatch.setitem(sys.modules, "slicer", types.SimpleNamespace(app=app))
    return app


def test_versions_of_everything_that_takes_part(slicer_app: types.SimpleNamespace) -> None:
    text = diagnostics.report()
    assert text.startswith(f"MRSynth {__version__} diagnostics\n")
    for word in ("5.10.0-2025-11-01", "34045", "win", "amd64", "Stable", ".".join(map(str, sys.version_info[:3]))):
        assert word in text
    for name in ("numpy", "SimpleITK", "torch", "safetensors"):
        assert f"  {name}: {packages.find(name).version}\n" in text
    assert "PyTorch extension: not there" in text


def test_devices_with_reasons_and_the_driver() -> None:
    text = diagnostics.report(PROBE)
    for word in ("2.9.0+cu128", "CUDA 12.8", "570.86.10", "0.0123 s/megapixel, automatic", "2.3 s"):
        assert word in text
    assert "cuda:1: Old GPU, cannot be used (does not work: no kernel image)" in text
    assert "not looked at" in diagnostics.report()


def test_models_with_hash_and_whether_they_are_whole(models: Path, tiny_checkpoint: Path) -> None:
    added = library.add(tiny_checkpoint)
    data = bytearray(tiny_checkpoint.read_bytes())
    data[-1] ^= 1
    (models / "spoilt.safetensors").write_bytes(data)
    text = diagnostics.report()
    assert f"tiny-untrained.safetensors (added): SHA-256 {sha256_of(added)}, verified" in text
    assert f"{model_folders.DEFAULT}.safetensors (shipped): SHA-256 {sha256_of(model_folders.find())}, verified" in text
    assert "broken [model-hash]" in text


def test_without_safetensors_models_are_not_called_verified(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnostics, "_importable", lambda name: False)
    assert "not verified without safetensors" in diagnostics.report()


def test_a_proxy_is_told_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert "proxy: no\n" in diagnostics.report()
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@proxy.hospital.example:8080")
    text = diagnostics.report()
    assert "proxy: yes, for https" in text
    for word in ("secret", "me:", "hospital"):
        assert word not in text


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (None, "  none\n"),
        (Cancelled(), "[cancelled]"),
        (InstallError("install-proxy", "No proxy 407.", "a proxy."), "[install-proxy] No proxy 407."),
        (ModelError("model-hash", "'mine' is spoilt.", "whole."), "[model-hash] 'mine' is spoilt."),
        (DeviceError("worker-died", "It ended by SIGKILL.", "a result."), "[worker-died] It ended by SIGKILL."),
        (ValueError("anything"), "  ValueError\n"),
    ],
)
def test_the_last_error_with_its_code(error: BaseException | None, shown: str) -> None:
    text = diagnostics.report(last_error=error)
    assert shown in text.rpartition("Last error:\n")[2]
    assert "anything" not in text


@pytest.mark.parametrize(
    "error",
    [
        InputError("input-not-3d", "MÜLLER^HANS T1 has 4 dimensions.", "three."),
        InputError("input-not-found", "There is no '/archive/Müller/t1.nii'.", "a path."),
        OutputError("output-full", "'/archive/Müller/t2.nii' could not be written.", "a disk."),
        DeviceError("worker-died", "It ended. Its last words: KeyError: '/archive/Müller'", "a result."),
        ValueError("/archive/Müller"),
    ],
)
def test_no_patient_is_named(error: BaseException) -> None:
    text = diagnostics.report(last_error=error)
    assert "ller" not in text.lower().replace("controller", "")
    assert "archive" not in text
    assert getattr(error, "code", "ValueError") in text


def test_the_users_name_is_not_told(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", classmethod(lambda cls: models.parent))
    text = diagnostics.report(last_error=InstallError("install-failed", f"Cannot write {models}.", "it."))
    assert str(models) not in text
    assert "Cannot write ~" in text


def test_it_works_where_nothing_else_does(
    models: Path, slicer_app: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A section that fails is a question mark, and the others are there."""

    def broken(*arguments: object, **more: object) -> None:
        raise OSError("broken")

    del slicer_app.revision
    monkeypatch.setattr(packages, "find", broken)
    monkeypatch.setattr(model_folders, "installed", broken)
    monkeypatch.setattr(shutil, "disk_usage", broken)
    monkeypatch.setattr(diagnostics.urllib.request, "getproxies", broken)
    text = diagnostics.report(PROBE, Cancelled())
    assert "5.10.0-2025-11-01, revision ?" in text
    assert text.count("? (OSError)") == 4
    assert "NVIDIA RTX 4000" in text
    assert "[cancelled]" in text
