"""The probe measures what is there, says why something is not, and lets a run's time be told before it begins."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from engine_helpers import axes_of, grid

from MRSynthLib import __version__
from MRSynthLib.engine import devices, model_folders
from MRSynthLib.engine.devices import Gpu, Machine
from MRSynthLib.engine.probe import BRAIN, HEAD, SECONDS_PER_MEGAVOXEL, Probe, ProbedDevice, estimate_seconds, probe
from MRSynthLib.engine.standard_space import plan
from MRSynthLib.engine.volume import Volume

COMMAND = [sys.executable, "-m", "MRSynthLib.engine.probe"]
FOUND = Probe(
    software_version=__version__,
    torch_version="2.9.0",
    cuda_version="",
    driver="",
    model="mrsynth-native",
    frame="native",
    automatic="cpu",
    devices=(
        ProbedDevice("cpu", "CPU", "fp32", "why not", 2.0),
        ProbedDevice("cuda", "GPU", "", "there is none", None),
    ),
    start_seconds=3.0,
)


# --- measuring ------------------------------------------------------------------------------------------


def test_the_program_prints_one_document_and_nothing_else(
    tiny_checkpoint: Path, child_environment: dict[str, str]
) -> None:
    command = [*COMMAND, "--model", str(tiny_checkpoint)]
    done = subprocess.run(command, env=child_environment, capture_output=True, text=True, check=True)
    found = Probe.from_json(done.stdout)
    cpu = next(one for one in found.devices if one.device == "cpu")
    assert done.stdout.count("\n") == 1
    assert cpu.usable
    assert cpu.precision == devices.choose("cpu").precision
    assert cpu.seconds_per_megapixel is not None
    assert cpu.seconds_per_megapixel > 0
    assert "OMP_NUM_THREADS" in cpu.reason
    assert found.start_seconds > 0
    assert (found.model, found.frame) == ("tiny-untrained", "native")
    assert found.software_version == __version__


def test_an_error_is_a_document_too(tmp_path: Path, child_environment: dict[str, str]) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"text")
    command = [*COMMAND, "--model", str(tmp_path / "bad.safetensors")]
    done = subprocess.run(command, env=child_environment, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert json.loads(done.stdout)["error"]["code"] == "model-not-safetensors"


def test_a_missing_gpu_is_explained_and_the_automatic_choice_too(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine((), "this PyTorch is a build without GPU support", False, False, 1, "as asked")
    monkeypatch.setattr(devices, "probe", lambda: machine)
    found = probe(tiny_checkpoint)
    assert [(one.device, one.usable) for one in found.devices] == [("cpu", True), ("cuda", False)]
    assert found.automatic == "cpu"
    assert "CPU, because this PyTorch is a build without GPU support" in found.devices[0].reason
    assert found.devices[1].reason == machine.no_gpu


def test_a_gpu_that_fails_is_told_and_not_taken(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = Gpu(77, "GPU that is not there", 1 << 40, bf16=True)
    monkeypatch.setattr(devices, "probe", lambda: Machine((nowhere,), "", False, False, 1, "as asked"))
    found = probe(tiny_checkpoint)
    assert [(one.device, one.usable) for one in found.devices] == [("cuda:77", False), ("cpu", True)]
    assert found.devices[0].reason.startswith("does not work: ")
    assert found.automatic == "cpu"


def test_what_was_written_is_read() -> None:
    assert Probe.from_json(FOUND.to_json()) == FOUND
    assert [one.usable for one in FOUND.devices] == [True, False]


@pytest.mark.parametrize("text", ["", "hello", "{}", "[]", "null", '{"devices": [{}]}', '{"devices": 3}'])
def test_something_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Probe.from_json(text)


# --- estimating -----------------------------------------------------------------------------------------

SAGITTAL = axes_of("PSR")  # i to posterior, j upwards, k to the right

GRIDS = {
    "isotropic": ((256, 256, 192), (1.0, 1.0, 1.0), axes_of("RAS")),
    "thick axial slices": ((44, 384, 348), (0.6, 0.6, 5.5), axes_of("LPS")),
    "thin slices": ((480, 256, 192), (1.0, 1.0, 0.5), axes_of("RAS")),
    "sagittal": ((192, 256, 256), (1.0, 1.0, 1.0), SAGITTAL),
    "thick sagittal slices": ((36, 256, 256), (0.9, 0.9, 5.0), SAGITTAL),
}


def filled(shape: tuple[int, int, int], affine: np.ndarray, extents: tuple[float, float, float]) -> np.ndarray:
    """A box of these extents (up, front to back, left to right, in mm) in the middle of a grid."""
    inside = np.ones(shape, dtype=bool)
    for axis, size in enumerate(shape):
        along = affine[:3, 2 - axis]  # mm in RAS for a step
        extent = float(np.abs(along / np.linalg.norm(along)) @ np.array(extents)[::-1])
        from_middle = np.abs(np.arange(size) - (size - 1) / 2) * np.linalg.norm(along)
        inside &= (from_middle <= extent / 2).reshape([-1 if n == axis else 1 for n in range(3)])
    return inside


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("frame", ["native", "paper"])
@pytest.mark.parametrize("stripped", [False, True])
def test_the_estimate_counts_the_pixels_that_the_generator_will_see(name: str, frame: str, stripped: bool) -> None:
    shape, spacing, axes = GRIDS[name]
    affine = grid(shape, spacing, axes)
    volume = Volume(np.zeros(shape, dtype=np.int16), affine)
    space = plan(volume, filled(shape, affine, BRAIN if stripped else HEAD), frame)
    seen = np.prod([axis.size for axis in space.model_axes]) / 1e6
    seconds = estimate_seconds(
        replace(FOUND, frame=frame), "cpu", shape, spacing, ijk_to_ras=affine, skull_stripped=stripped
    )
    around = FOUND.start_seconds + SECONDS_PER_MEGAVOXEL * np.prod(shape) / 1e6
    assert (seconds - around) / 2.0 == pytest.approx(seen, rel=0.15)


def test_without_an_affine_slices_are_axial() -> None:
    shape, spacing, _ = GRIDS["thick axial slices"]
    plain = estimate_seconds(FOUND, "cpu", shape, spacing)
    assert plain == estimate_seconds(FOUND, "cpu", shape, spacing, grid(shape, spacing, axes_of("RAS")))
    assert plain < estimate_seconds(FOUND, "cpu", shape, spacing, grid(shape, spacing, SAGITTAL))


def test_a_small_volume_is_no_whole_head() -> None:
    assert estimate_seconds(FOUND, "cpu", (20, 64, 64), (1.0, 1.0, 1.0)) < 5
    assert estimate_seconds(FOUND, "cpu", (256, 256, 192), (1.0, 1.0, 1.0)) > 15


def test_auto_is_the_automatic_device_and_others_are_refused() -> None:
    quick = replace(
        FOUND, automatic="cuda:0", devices=(*FOUND.devices, ProbedDevice("cuda:0", "GPU", "bf16", "", 0.01))
    )
    shape, spacing, _ = GRIDS["isotropic"]
    assert estimate_seconds(quick, "auto", shape, spacing) == estimate_seconds(quick, "cuda:0", shape, spacing)
    assert estimate_seconds(quick, "cpu", shape, spacing) > 2 * estimate_seconds(quick, "auto", shape, spacing)
    for device in ("cuda", "mps"):
        with pytest.raises(KeyError):
            estimate_seconds(quick, device, shape, spacing)


def test_the_default_checkpoint_is_measured_with(monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Path) -> None:
    monkeypatch.setattr(model_folders, "find", lambda name=None: tiny_checkpoint if name is None else Path(name))
    assert probe().model == "tiny-untrained"
