"""`mrsynth-train phantom`: a cohort of phantoms in BraTS 2018's layout, and the sample data of the 3D Slicer module."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mrsynth_training.errors import TrainingError
from mrsynth_training.phantom import CONTRASTS, Phantom, subject
from mrsynth_training.phantom_anatomy import Grid, brats_grid
from MRSynthLib.engine.files import write_volume
from MRSynthLib.engine.writing import write_aside

SPACING = (0.5, 8.0)  # mm, finest and coarsest that make sense
SETTINGS = "phantom.json"
SOURCE = "MRSynth phantom, computed from the MNI152 template"
LICENCE = "Apache-2.0; MNI152: free for any use, with its copyright notice"

SAMPLE_NAME = "MRSynthPhantom"
SAMPLE_SEED = 5
SAMPLE_SHAPE = (108, 128, 104)  # k, j, i
SAMPLE_SPACING = 1.5  # mm
SAMPLE_TILT = np.radians((9.0, 4.0))  # about the left-right and the up-down axis: no scan is laid quite straight


def write_cohort(
    folder: Path,
    count: int,
    seed: int = 0,
    *,
    spacing: float = 1.0,
    lesions: bool = False,
    jobs: int = 1,
    report: Callable[[str], None] = print,
) -> list[Path]:
    """Write `folder`/HGG/Phantom_0001/Phantom_0001_t1.nii.gz and so on; subjects that are there already are kept.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    count : int
        Number of subjects. Subject n is the same in every cohort of the same seed and settings.
    seed : int
    spacing : float
        Of the voxels, mm; 1 is that of BraTS.
    lesions : bool
        White-matter lesions too, in `lesion.nii.gz`.
    jobs : int
        Subjects computed at once; each needs about 1 GB at 1 mm.
    report : callable
        Gets one line per subject.

    Returns
    -------
    list of Path
        The subjects' folders.

    Raises
    ------
    TrainingError
        For settings that make no sense, a folder that cannot be written, or one that holds a cohort of other settings.
    OutputError
        If a volume cannot be written.
    """
    if count < 1 or seed < 0 or jobs < 1:
        raise TrainingError(
            f"{count} subjects, seed {seed}, {jobs} jobs", "at least 1 subject and job, seed 0 or more", "Correct it"
        )
    if not SPACING[0] <= spacing <= SPACING[1]:
        raise TrainingError(f"a spacing of {spacing:g} mm", f"{SPACING[0]} to {SPACING[1]} mm", "Give another spacing")
    group = _cohort_folder(folder, {"seed": seed, "spacing": spacing, "lesions": lesions})
    paths = [group / f"Phantom_{number:04d}" for number in range(1, count + 1)]
    missing = [path for path in paths if not path.exists()]
    work = partial(_write_subject, seed=seed, spacing=spacing, lesions=lesions)
    if jobs > 1:
        with ProcessPoolExecutor(jobs) as pool:
            for path in pool.map(work, missing):
                report(str(path))
    else:
        for path in missing:
            report(str(work(path)))
    _list_cases(group, seed)
    return paths


def _cohort_folder(folder: Path, settings: dict[str, Any]) -> Path:
    """The folder of the subjects; the settings beside it say what they are made by."""
    group, note = folder / "HGG", folder / SETTINGS
    try:
        group.mkdir(parents=True, exist_ok=True)
        known = json.loads(note.read_text(encoding="utf-8")) if note.exists() else None
    except (OSError, ValueError) as error:
        raise TrainingError(f"{folder} cannot be used ({error})", "a folder to write to", "Choose another") from error
    if known is None and any(group.iterdir()):
        raise TrainingError(f"{group} is not empty", "an empty or new folder", "Choose another folder")
    if known not in (None, settings):
        raise TrainingError(f"{folder} holds phantoms made with {known}", str(settings), "Choose another folder")
    with write_aside(note) as aside:
        aside.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return group


def _write_subject(path: Path, seed: int, spacing: float, lesions: bool) -> Path:
    """Compute subject `path`, whose name ends in its number, write it aside, and rename the whole folder."""
    number = int(path.name.rpartition("_")[2])
    phantom = subject((seed, number), grid=brats_grid(spacing), lesions=lesions)
    cohort = path.parents[1]  # not among the subjects, where `prepare` would take what a killed process left for one
    try:
        aside = Path(tempfile.mkdtemp(prefix=".mrsynth-", dir=cohort))
    except OSError as error:
        raise TrainingError(
            f"{cohort} cannot be written to ({error})", "a folder to write to", "Choose another"
        ) from error
    try:
        note = f"MRSynth phantom, seed {seed}, subject {number}; computed, no patient"
        for name in CONTRASTS:
            write_volume(getattr(phantom, name), aside / f"{path.name}_{name}.nii.gz", description=note)
        write_volume(phantom.labels, aside / f"{path.name}_seg.nii.gz", description=note)
        if lesions:
            write_volume(phantom.lesions, aside / "lesion.nii.gz", description=note)
        (aside / "drawn.json").write_text(json.dumps(phantom.drawn, indent=2) + "\n", encoding="utf-8")
        aside.chmod(0o755)
        aside.rename(path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return path


def _list_cases(group: Path, seed: int) -> None:
    """Tell `prepare` where the subjects come from."""
    names = sorted(path.name for path in group.glob("Phantom_*"))
    cases = {name: {"source": f"{SOURCE}, seed {seed}", "licence": LICENCE} for name in names}
    with write_aside(group / "cases.json") as aside:
        aside.write_text(json.dumps({"cases": cases}, indent=2) + "\n", encoding="utf-8")


def sample() -> Phantom:
    """The patient of the sample data: white-matter lesions, no tumour, on a tilted grid of 1.5 mm."""
    (a, b), (s, t) = np.cos(SAMPLE_TILT), np.sin(SAMPLE_TILT)
    axes = np.array([[1, 0, 0], [0, a, -s], [0, s, a]]) @ np.array([[b, -t, 0], [t, b, 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = axes @ np.diag([-1.0, -1.0, 1.0]) * SAMPLE_SPACING
    affine[:3, 3] = -affine[:3, :3] @ (np.array(SAMPLE_SHAPE[::-1]) - 1) / 2
    return subject(SAMPLE_SEED, grid=Grid(SAMPLE_SHAPE, affine), tumour=False, lesions=True)


def write_sample(folder: Path) -> list[Path]:
    """Write the sample data, `MRSynthPhantom_T1.nrrd` and `_T2.nrrd`, over what is there.

    Raises
    ------
    OutputError
        If `folder` is not there or cannot be written to.
    """
    phantom = sample()
    return [
        write_volume(
            volume,
            folder / f"{SAMPLE_NAME}_{contrast}.nrrd",
            description="MRSynth phantom; computed, no patient",
            overwrite=True,
        )
        for contrast, volume in (("T1", phantom.t1), ("T2", phantom.t2))
    ]
