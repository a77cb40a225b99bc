"""Fixtures that every test shares: a phantom head in two contrasts, a tiny real checkpoint, real subjects.

Nothing here needs a GPU, a network or Slicer. Volumes are (k, j, i) arrays on a 4.25 mm RAS grid: head and
brain have their natural size, and few enough voxels for quick tests.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from MRSynthLib.engine.volume import Volume

REPOSITORY = Path(__file__).resolve().parents[4]
SHAPE = (40, 48, 40)  # k, j, i
SPACING = 4.25  # mm

# Tissue: (normalised T1 intensity, normalised T2 intensity), as they look in a spin-echo examination.
TISSUES = {
    "scalp": (820.0, 380.0),
    "skull": (90.0, 60.0),
    "csf": (160.0, 1000.0),
    "grey": (560.0, 380.0),
    "white": (740.0, 280.0),
}


def phantom_labels() -> dict[str, np.ndarray]:
    """Return one boolean (k, j, i) mask per tissue of an ellipsoidal head, without overlap."""
    k, j, i = (
        (np.arange(size, dtype=np.float64) - (size - 1) / 2) * SPACING for size in SHAPE
    )  # mm from the centre of the grid
    z, y, x = np.meshgrid(k, j, i, indexing="ij")

    def radius(left_right: float, front_back: float, up_down: float) -> np.ndarray:
        return np.sqrt((x / left_right) ** 2 + (y / front_back) ** 2 + (z / up_down) ** 2)

    head = radius(80, 97, 81) <= 1
    inside_scalp = radius(75, 92, 76) <= 1
    inside_skull = radius(66, 83, 67) <= 1
    # Folds: the outer border of the brain and that of white matter wave with the direction.
    angle = np.arctan2(y, x)
    folds = 1 + 0.04 * np.sin(9 * angle) * np.cos(5 * z / 67)
    brain = radius(61, 78, 62) <= folds
    white = radius(48, 63, 49) <= 1 + 3 * (folds - 1)
    # Two ventricles, of different size: the phantom must not look the same mirrored.
    ventricles = (((x - 12) / 7) ** 2 + (y / 26) ** 2 + ((z - 4) / 12) ** 2 <= 1) | (
        ((x + 12) / 10) ** 2 + (y / 30) ** 2 + ((z - 4) / 14) ** 2 <= 1
    )
    return {
        "scalp": head & ~inside_scalp,
        "skull": inside_scalp & ~inside_skull,
        "csf": inside_skull & (~brain | (white & ventricles)),
        "grey": inside_skull & brain & ~white,
        "white": inside_skull & brain & white & ~ventricles,
    }


def phantom(contrast: str, *, skull: bool = True) -> Volume:
    """Return the phantom head in ``contrast`` ("t1" or "t2"); air is exactly 0, noise never changes.

    Without ``skull`` only cerebrospinal fluid and brain remain, as after skull stripping.
    """
    from MRSynthLib.engine.volume import Volume

    column = {"t1": 0, "t2": 1}[contrast]
    voxels = np.zeros(SHAPE, dtype=np.float64)
    for tissue, mask in phantom_labels().items():
        if skull or tissue not in ("scalp", "skull"):
            voxels[mask] = TISSUES[tissue][column]
    noise = np.random.default_rng(20_200_717).normal(0.0, 12.0, SHAPE)
    voxels = np.where(voxels > 0, np.maximum(voxels + noise, 1.0), 0.0)
    affine = np.diag([SPACING, SPACING, SPACING, 1.0])
    affine[:3, 3] = [-(size - 1) / 2 * SPACING for size in reversed(SHAPE)]
    return Volume(voxels=np.rint(voxels).astype(np.int16), ijk_to_ras=affine, name=f"phantom {contrast.upper()}")


@pytest.fixture(scope="session", autouse=True)
def user_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's folder of checkpoints: an empty one, also for child processes, and never the real one."""
    folder = tmp_path_factory.mktemp("user models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MRSYNTH_MODELS", str(folder))
        yield folder


@pytest.fixture(scope="session")
def phantom_t1() -> Volume:
    """Whole-head phantom, T1 contrast, int16, (40, 48, 40) at 4.25 mm."""
    return phantom("t1")


@pytest.fixture(scope="session")
def phantom_t2() -> Volume:
    """Whole-head phantom, T2 contrast, the same anatomy and grid as ``phantom_t1``."""
    return phantom("t2")


@pytest.fixture(scope="session")
def phantom_mask() -> np.ndarray:
    """Boolean (k, j, i) mask of the phantom's brain and cerebrospinal fluid."""
    labels = phantom_labels()
    return np.asarray(labels["csf"] | labels["grey"] | labels["white"])


def tiny_card() -> dict[str, object]:
    """Return a complete checkpoint card for an untrained network; ``save`` adds what it measures itself."""
    return {
        "format_version": 1,
        "name": "tiny-untrained",
        "created": "2026-01-01T00:00:00+00:00",
        "generator": {
            "name": "DenseUNet",
            "arguments": {
                "growth": 4,
                "blocks": [1, 1, 1, 1],
                "norm": "batch",
                "output": "relu_clip",
                "in_channels": 1,
            },
        },
        "frame": "native",
        "intensity": {"rule": "brain-percentile", "percentile": 99.5, "output_scale": 1000},
        "contrasts": ["t1", "t2"],
        "training_data": [
            {"subject": "phantom", "source": "computed", "licence": "Apache-2.0", "role": "train"},
        ],
        "seed": 7,
        "config_sha256": "0" * 64,
        "training": {"steps": 0},
        "metrics": {},
        "reliability": None,
        "known_failures": ["never trained: for software tests only"],
        "intended_use": "Software tests; the output means nothing.",
        "licence": "Apache-2.0",
    }


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of a valid checkpoint of a very small untrained DenseUNet; treat it as read-only."""
    import torch

    from MRSynthLib.engine import checkpoint, generators

    torch.set_num_threads(1)
    torch.manual_seed(7)
    card = tiny_card()
    generator = card["generator"]
    assert isinstance(generator, dict)
    module = generators.build(generator["name"], generator["arguments"])
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    checkpoint.save(module.eval(), card, path)
    return path


@pytest.fixture(scope="session")
def slow_checkpoint() -> Path:
    """Path of the shipped checkpoint: on the tall phantom it works for seconds, and a test can stop it meanwhile."""
    from MRSynthLib.engine import model_folders

    return model_folders.SHIPPED / f"{model_folders.DEFAULT}{model_folders.SUFFIX}"


@pytest.fixture(scope="session")
def child_environment() -> dict[str, str]:
    """Environment for child processes: they find MRSynthLib, installed or not, and use one thread."""
    search = [str(REPOSITORY / "MRSynthExtension" / "MRSynth"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, search)), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def tall_phantom() -> Volume:
    """The T1 phantom with six times the slices, for tests that stop a run while it is under way."""
    from MRSynthLib.engine.volume import Volume

    volume = phantom("t1")
    finer = np.diag([1.0, 1.0, 1 / 6, 1.0])
    return Volume(np.repeat(volume.voxels, 6, axis=0), volume.ijk_to_ras @ finer, name="tall phantom")


def _mounted(folder: Path, options: str) -> Iterator[Path]:
    """A real file system of its own in `folder`, where this user may mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    try:
        yield folder
    finally:
        # Lazily: a process of the test may still hold the folder for a moment.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Folder on a disk of 256 kB."""
    yield from _mounted(tmp_path / "small disk", "size=256k")


@pytest.fixture
def full_disk(small_disk: Path) -> Path:
    """Folder on a disk with 4 kB left."""
    fill(small_disk, leave=4096)
    return small_disk


def fill(folder: Path, leave: int) -> None:
    """Leave only so many bytes on the disk of `folder`."""
    free = shutil.disk_usage(folder).free
    (folder / "filling").write_bytes(b"x" * (free - leave))


@pytest.fixture
def read_only_folder(tmp_path: Path) -> Iterator[Path]:
    """Folder that nobody may write to, not even root."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        yield from _mounted(tmp_path / "read-only", "ro")
        return
    folder = tmp_path / "read-only"
    folder.mkdir(mode=0o555)
    yield folder
    folder.chmod(0o755)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real subjects, which the repository does not carry; without it the test is skipped."""
    folder = Path(os.environ.get("MRSYNTH_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real subjects at {folder} (set MRSYNTH_SHARED_DATA)")
    return folder
