"""Two phantom patients on disk, one of them seen twice, and a store of random slices: all tiny, one thread."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mrsynth_training import config as configs
from mrsynth_training.slices import SliceStore, SubjectSlices, open_store, write_store
from MRSynthLib.engine.files import write_volume
from MRSynthLib.engine.volume import Volume

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SPACING = (4.0, 4.0, 6.0)  # mm along i, j, k
SHAPE = (22, 44, 36)  # k, j, i


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


def brain_phantom(seed: int) -> tuple[Volume, Volume, np.ndarray]:
    """T1 and T2 of a skull-stripped phantom brain on one grid, and a lesion mask; every seed another brain."""
    rng = np.random.default_rng(seed)
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(SHAPE, SPACING[::-1], strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    size = 1 + rng.uniform(-0.05, 0.05)
    folds = 1 + 0.05 * np.sin(7 * np.arctan2(y, x) + seed) * np.cos(z / 12)
    radius = np.sqrt((x / 60) ** 2 + (y / 76) ** 2 + (z / 58) ** 2) / size
    brain, white = radius < 1, radius < 0.75 * folds
    ventricle = ((np.abs(x) - 11) / 8) ** 2 + (y / 28) ** 2 + (z / 13) ** 2 < 1
    lesion = (x - 30) ** 2 + (y - 10) ** 2 + (z - 6) ** 2 < 10**2
    t1 = np.select([ventricle, lesion, white, brain], [150, 400, 740, 560], 0)
    t2 = np.select([ventricle, lesion, white, brain], [1000, 800, 280, 380], 0)
    t1, t2 = (np.where(brain, np.maximum(v + rng.normal(0, 12, SHAPE), 1), 0) for v in (t1, t2))
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = [axis[0] for axis in axes[::-1]]
    return (*(Volume(np.rint(v).astype(np.int16), affine) for v in (t1, t2)), lesion)


@pytest.fixture(scope="session")
def brain() -> Callable[[int], tuple[Volume, Volume, np.ndarray]]:
    """`brain_phantom`, for tests that want brains of their own."""
    return brain_phantom


@pytest.fixture(scope="session")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of studies A_1 and A_2 (one patient), B (BraTS names) and C (T2 on a grid of its own, lesion mask)."""
    folder = tmp_path_factory.mktemp("studies")
    for seed, name in enumerate(("A_1", "A_2", "B")):
        (folder / name).mkdir()
        names = ("B_t1", "B_t2") if name == "B" else ("t1", "t2")
        for volume, file in zip(brain_phantom(seed), names, strict=False):
            write_volume(volume, folder / name / f"{file}.nii.gz")
    t1, t2, lesion = brain_phantom(3)
    cut = t2.ijk_to_ras.copy()
    cut[:3, 3] += np.array(SPACING) * (1, 2, 0)
    (folder / "C").mkdir()
    write_volume(t1, folder / "C" / "t1.nii.gz")
    write_volume(Volume(t2.voxels[:, 2:, 1:], cut), folder / "C" / "t2.nii.gz")
    write_volume(t1.replaced(lesion.astype(np.uint8)), folder / "C" / "lesion.nii.gz")
    return folder


@pytest.fixture(scope="session")
def random_store(tmp_path_factory: pytest.TempPathFactory) -> SliceStore:
    """Store of three subjects with random slices of different sizes; the last one is for validation."""
    rng = np.random.default_rng(5)
    subjects = []
    for name, role, size in (("one", "train", 48), ("two", "train", 40), ("three", "validation", 48)):
        images = rng.random((6, 2, size, 44), dtype=np.float32)
        images[..., :4] = 0
        mask = (images.min(axis=1) > 0).astype(np.uint8)
        record = {"subject": name, "patient": name, "group": name, "role": role, "source": "computed", "licence": "CC0"}
        subjects.append(SubjectSlices(images, mask, np.arange(10, 16), record))
    return open_store(write_store(tmp_path_factory.mktemp("store"), "native", subjects))


@pytest.fixture
def tiny() -> dict[str, object]:
    """Experiment of six steps with every loss term on at some time."""
    return {
        "name": "tiny",
        "generator": {"name": "DenseUNet", "arguments": {"growth": 4, "blocks": [1, 1, 1, 1]}},
        "crop": 32,
        "batch_size": 2,
        "steps": 6,
        "losses": {
            "paired_l1": {"weight": 1.0},
            "ssim": {"weight": 0.1},
            "cycle": {"weight": 0.1, "from_step": 2},
            "adversarial": {"weight": 0.1, "from_step": 1},
        },
        "discriminator_filters": 2,
        "pool_size": 3,
        "checkpoint_every": 100,
        "validate_every": 100,
        "validation_slices": 2,
    }


@pytest.fixture
def tiny_config(tiny: dict[str, object]) -> configs.Config:
    return configs.from_dict(tiny)


PROCESS = """
import atexit, json, os, sys, torch
from pathlib import Path
from mrsynth_training import config
from mrsynth_training.loop import Run
from mrsynth_training.slices import open_store
torch.set_num_threads(1)
folder, store = Path(sys.argv[1]), open_store(sys.argv[2])

@atexit.register
def tell_workers():
    # gloo's threads that are left; this runs last, as what is registered later runs before it
    names = [(task / "comm").read_text() for task in Path("/proc/self/task").glob("*")]
    (folder / f"workers{os.environ['RANK']}.json").write_text(json.dumps([n for n in names if "gloo_run" in n]))

"""


@pytest.fixture
def two_processes(tmp_path: Path) -> Callable[..., None]:
    """Run `main()`, whose text is given, in two processes that share batches: (text, store's folder, arguments)."""

    def run(text: str, store: Path, *arguments: object) -> None:
        script = tmp_path / "two.py"
        script.write_text(f"{PROCESS}{text}\nmain()\n")
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script]
        ended = subprocess.run(
            [*map(str, [*launch, tmp_path, store, *arguments])], capture_output=True, text=True, timeout=300
        )
        assert ended.returncode == 0, ended.stderr[-3000:]
        for rank in range(2):
            assert json.loads((tmp_path / f"workers{rank}.json").read_text()) == []

    return run
