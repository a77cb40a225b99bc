"""`mrsynth-train prepare`: folders of T1 and T2 volumes become one slice store."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mrsynth_training.errors import TrainingError
from mrsynth_training.registration import brain_of_head, core_of_brain, register_rigid
from mrsynth_training.slices import SubjectSlices, write_store
from MRSynthLib.engine import intensity, screening, standard_space
from MRSynthLib.engine.files import read_volume

PAPER_SLICES = 81
LEAST_FOREGROUND = 0.01  # share of a slice that must not be background for it to be worth training on
BRATS_NAMES = (("_t1", "_t2"), ("-t1n", "-t2w"), ("-t1", "-t2"), ("t1", "t2"))
SOURCE_GROUPS = (("Lesjak", "lesjak"), ("Ljubljana", "ljubljana"), ("C-STAR", "cstar"), ("same, patient", "ljubljana"))


@dataclass(frozen=True)
class Case:
    """One study on disk: files of both contrasts and what is known of them."""

    subject: str
    patient: str
    group: str
    t1: Path
    t2: Path
    brain: Path | None
    source: str = ""
    licence: str = ""


def find_cases(data: Path) -> list[Case]:
    """All studies below a folder: one sub-folder each, with t1 and t2 files named as in BraTS or plainly.

    `cases.json` in the folder, if there, tells sources and licences.  A study "X_1" or "X_2" is of patient "X" where
    both exist, so that no patient is in training and validation at once.  The scanner group follows the source.

    Raises
    ------
    TrainingError
        If there is no study.
    """
    listed: dict[str, dict[str, Any]] = {}
    if (data / "cases.json").exists():
        listed = json.loads((data / "cases.json").read_text(encoding="utf-8"))["cases"]
    folders = {p.name: p for p in sorted(data.iterdir()) if p.is_dir()} if data.is_dir() else {}
    cases = []
    for name, folder in folders.items():
        pair = _pair(folder)
        if pair is None:
            continue
        stem, _, visit = name.rpartition("_")
        siblings = [n for n in folders if n.rpartition("_")[0] == stem and n.rpartition("_")[2].isdigit()]
        patient = stem if visit.isdigit() and len(siblings) > 1 and len(visit) < 3 else name
        source = listed.get(name, {}).get("source", "")
        group = next((g for word, g in SOURCE_GROUPS if word in source), patient)
        brain = folder / "brain.nii.gz"
        cases.append(
            Case(
                name,
                patient,
                group,
                *pair,
                brain if brain.exists() else None,
                source,
                listed.get(name, {}).get("licence", ""),
            )
        )
    if not cases:
        raise TrainingError(
            f"{data} has no folder with a T1 and a T2", "CASE/t1.nii.gz and t2.nii.gz, or BraTS names", "Check the path"
        )
    return cases


def _pair(folder: Path) -> tuple[Path, Path] | None:
    for first, second in BRATS_NAMES:
        for path in sorted(folder.glob(f"*{first}.nii*")):
            other = path.with_name(second.join(path.name.rsplit(first, 1)))
            if other.exists():
                return path, other
    return None


def prepare(
    data: Path,
    store: Path,
    frame: str,
    *,
    validation: Sequence[str] = (),
    jobs: int = 1,
    report: Callable[[str], None] = print,
) -> Path:
    """Prepare every study below `data` into a slice store.

    Parameters
    ----------
    data : Path
    store : Path
        Folder to write.
    frame : {"native", "paper"}
    validation : sequence of str
        Patients kept out of training.
    jobs : int
        Studies prepared at once.
    report : callable
        Gets one line per study.

    Raises
    ------
    TrainingError
        If a validation patient does not exist, or a study cannot be prepared.
    """
    cases = find_cases(data)
    unknown = sorted(set(validation) - {case.patient for case in cases})
    if unknown:
        raise TrainingError(
            f"no patient named {', '.join(unknown)}", ", ".join(sorted({c.patient for c in cases})), "Correct the names"
        )
    work = partial(prepare_case, frame=frame, validation=tuple(validation))
    subjects = []
    if jobs > 1:
        with ProcessPoolExecutor(jobs) as pool:
            for subject in pool.map(work, cases):
                report(_line(subject))
                subjects.append(subject)
    else:
        for case in cases:
            subjects.append(work(case))
            report(_line(subjects[-1]))
    return write_store(store, frame, subjects)


def _line(subject: SubjectSlices) -> str:
    r, shape = subject.record, subject.images.shape
    head = "skull-stripped" if r["skull_stripped"] else "whole head"
    return f"{r['subject']}: {shape[0]} slices of {shape[2]}x{shape[3]}, {head}, {r['role']}, group {r['group']}"


def prepare_case(case: Case, frame: str, validation: Sequence[str]) -> SubjectSlices:
    """Both contrasts of a study on one grid, scaled, in the model's frame, as slices."""
    t1, t2 = read_volume(case.t1), read_volume(case.t2)
    same_grid = t1.shape == t2.shape and np.allclose(t1.ijk_to_ras, t2.ijk_to_ras, atol=1e-3)
    covered = np.ones(t1.shape, dtype=bool)
    if same_grid:
        t2_voxels = t2.voxels
    else:
        t2_voxels, covered = register_rigid(t1, t2)
    look = screening.look(t1)
    stripped, head = look.skull_stripped, look.foreground
    if stripped:
        support = head & covered  # background is exactly 0 in both contrasts
        brain = (t1.voxels > 0) | (t2_voxels > 0)
    else:
        support = covered
        brain = read_volume(case.brain).voxels > 0 if case.brain else brain_of_head(t1)
    brain = brain & covered
    tissue = brain if stripped else core_of_brain(brain, t1)
    scales = [intensity.brain_scale(v, tissue) for v in (t1.voxels, t2_voxels)]
    space = standard_space.plan(t1, brain if frame == "paper" else head, frame)
    outside = space.to_model(support.astype(np.float32)) < 0.5
    images = np.stack(
        [
            np.where(outside, 0, intensity.normalize(space.to_model(np.asarray(v, np.float32)), scale))
            for v, scale in zip((t1.voxels, t2_voxels), scales, strict=True)
        ],
        axis=1,
    )
    mask = space.to_model(brain.astype(np.float32)) > 0.5
    slices = _worthwhile(images, space.to_model((head & covered).astype(np.float32)) > 0.5, outside, mask, frame)
    record = {
        "subject": case.subject,
        "patient": case.patient,
        "group": case.group,
        "role": "validation" if case.patient in validation else "train",
        "source": case.source,
        "licence": case.licence,
        "skull_stripped": bool(stripped),
        "registered": not same_grid,
        "t1_scale": scales[0],
        "t2_scale": scales[1],
    }
    return SubjectSlices(images[slices], mask[slices].astype(np.uint8), slices, record)


def _worthwhile(images: np.ndarray, head: np.ndarray, outside: np.ndarray, brain: np.ndarray, frame: str) -> np.ndarray:
    """Numbers of the slices to keep.

    All with some head, measured in both contrasts; in the paper's frame its 81 slices centred on the brain (PROTOCOL).
    """
    filled = head.mean(axis=(1, 2)) > LEAST_FOREGROUND
    seen = np.all((images > 0).any(axis=(2, 3)), axis=1)
    keep = filled & seen
    if frame == "paper":
        found = np.flatnonzero(brain.any(axis=(1, 2)))
        first = max(0, (found[0] + found[-1] + 1) // 2 - PAPER_SLICES // 2)
        within = np.zeros_like(keep)
        within[first : first + PAPER_SLICES] = True
        keep &= within & brain.any(axis=(1, 2))
    # A slice that one contrast's field of view cut off says nothing of the other.
    head_lost = 1 - (head & ~outside).sum(axis=(1, 2)) / np.maximum(1, head.sum(axis=(1, 2)))
    return np.flatnonzero(keep & (head_lost < 0.1))
