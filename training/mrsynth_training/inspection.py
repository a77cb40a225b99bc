"""`mrsynth-train find`: what is there, what is missing and what is broken, before anything is computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from mrsynth_training import sources
from mrsynth_training.cohort import Case, Cohort, Problem
from mrsynth_training.errors import TrainingError
from MRSynthLib.engine.checks import check_geometry, check_size
from MRSynthLib.engine.errors import MRSynthError

SHOWN = 20  # problems of a kind that are printed; the JSON has all
SAME_GRID = 1e-3  # mm


@dataclass(frozen=True)
class Inspection:
    """What was found; `usable` are the cases that a preparation can work on, as far as was looked.

    `cut` is the largest number of voxels of a usable T1, `grids` counts (shape i x j x k, spacing mm), and `registered`
    names the studies whose T2 lies on another grid than their T1.
    """

    cohort: Cohort
    usable: list[Case]
    problems: list[Problem]
    grids: Counter[str]
    registered: list[str]
    voxels: int
    read: bool


def inspect(cohort: Cohort, *, read: bool = False) -> Inspection:
    """Look at the files of every study.

    Parameters
    ----------
    cohort : Cohort
    read : bool
        Read all volumes and labels, and compare with listed checksums; else headers and file ends only, which finds
        what is empty, cut off, of the wrong kind or without a place in space.
    """
    listed = sources.listed_checksums(cohort.data)
    problems, usable, registered, voxels = list(cohort.problems), [], [], 0
    grids: Counter[str] = Counter()
    for case in cohort.cases:
        try:
            shapes = {role: _grid(path) for role, path in case.files().items()}
            if read:
                for role, path in case.files().items():
                    sources.read(path, role, listed)
        except (TrainingError, MRSynthError) as error:
            problems.append(Problem(case.subject, "broken", str(error)))
            continue
        usable.append(case)
        (shape, affine), (other_shape, other_affine) = shapes["t1"], shapes["t2"]
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        grids[f"{'x'.join(map(str, shape))} at {'x'.join(f'{s:.3g}' for s in spacing)} mm"] += 1
        voxels = max(voxels, int(np.prod(shape)))
        if shape != other_shape or not np.allclose(affine, other_affine, atol=SAME_GRID):
            registered.append(case.subject)
    return Inspection(cohort, usable, problems, grids, registered, voxels, read)


def _grid(path: Path) -> tuple[tuple[int, ...], np.ndarray]:
    """Shape and affine of a file, whose end is there."""
    sources.check_present(path)
    try:
        image = nibabel.load(path)
        shape = tuple(int(n) for n in image.shape)
        needed = int(image.dataobj.offset) + int(np.prod(shape)) * image.get_data_dtype().itemsize
    except Exception as error:  # nibabel raises many kinds for a damaged header
        raise TrainingError(f"'{path}' is damaged ({error})", "a NIfTI file", "Copy or download it again") from error
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    check_size(shape, f"'{path}'")
    check_geometry(np.asarray(image.affine, np.float64), f"'{path}'")
    sources.check_complete(path, needed)
    return shape, image.affine


def as_dict(inspection: Inspection) -> dict[str, Any]:
    """The report for JSON."""
    cases = inspection.usable
    return {
        "data": str(inspection.cohort.data),
        "studies": len(cases),
        "patients": len({case.patient for case in cases}),
        "layouts": dict(Counter(case.layout for case in cases)),
        "grades": dict(Counter(case.grade for case in cases if case.grade)),
        "with_segmentation": sum(1 for case in cases if case.segmentation),
        "with_brain_mask": sum(1 for case in cases if case.brain),
        "grids": dict(inspection.grids),
        "to_be_registered": inspection.registered,
        "problems": [vars(problem) for problem in inspection.problems],
        "notes": inspection.cohort.notes,
        "volumes_read": inspection.read,
    }


def text(inspection: Inspection) -> str:
    """The report to read."""
    found = as_dict(inspection)
    lines = [
        f"{found['data']}: complete studies {found['studies']}, patients {found['patients']}",
        *(f"  {name}: {count}" for name, count in found["layouts"].items()),
    ]
    if found["grades"]:
        lines.append("  grades: " + ", ".join(f"{name} {count}" for name, count in found["grades"].items()))
    lines.append(f"  with tumour labels: {found['with_segmentation']}; with a brain mask: {found['with_brain_mask']}")
    lines += [f"  grid {grid}: {count}" for grid, count in inspection.grids.most_common(5)]
    if inspection.registered:
        lines.append(f"  T2 on another grid than T1, will be registered: {_some(inspection.registered)}")
    for kind in ("missing", "broken", "duplicate"):
        of_kind = [p for p in inspection.problems if p.kind == kind]
        lines.append(f"{kind}: {len(of_kind)}")
        lines += [f"  {p.subject}: {p.text}" for p in of_kind[:SHOWN]]
        if len(of_kind) > SHOWN:
            lines.append(f"  and {len(of_kind) - SHOWN} more")
    lines += [f"note: {note}" for note in found["notes"][:SHOWN]]
    if not inspection.read:
        lines.append("Names, headers and file ends were looked at; --read reads every volume.")
    return "\n".join(lines)


def _some(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
