"""One study to slices: both contrasts on one grid, scaled, in the model's frame, cut in one plane or in three."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mrsynth_training import sources
from mrsynth_training.cohort import Case
from mrsynth_training.errors import TrainingError
from mrsynth_training.registration import brain_in_head, register_rigid
from mrsynth_training.store_files import BRAIN, LESION, SubjectSlices
from MRSynthLib.engine import intensity, screening, standard_space
from MRSynthLib.engine.preparation import sliceable
from MRSynthLib.engine.volume import Volume

NEXT_PLANE = 10_000  # added to the slice numbers of each further plane, so that they are no neighbours
PAPER_SLICES = 81
LEAST_FOREGROUND = 0.01  # share of a slice that must not be background for it to be worth training on
LEAST_BRIGHT = 0.02  # share of the brain that must be above 0 in a contrast
SAME_GRID = 1e-3  # mm


def prepare_case(
    case: Case, frame: str, listed: sources.Listed | None = None, *, planes: str = "axial"
) -> SubjectSlices:
    """Read a study, every file once, and cut it into slices.

    Parameters
    ----------
    case : Case
    frame : {"native", "paper"}
    listed : dict, optional
        Checksums that came with the data; see `sources.listed_checksums`.
    planes : {"axial", "three"}
        three: axial, coronal and sagittal slices where the voxels are near enough to cubes.

    Returns
    -------
    SubjectSlices
        Without a role: that is the split's. The slice numbers of further planes are `NEXT_PLANE` apart.

    Raises
    ------
    TrainingError
        If registration fails, T1 and T2 share no brain, labels are unknown, or a file is not the one it should be.
    MRSynthError
        If a volume cannot be read, or holds no image.
    """
    volumes: dict[str, Volume] = {}
    files: dict[str, dict[str, Any]] = {}
    for role, path in case.files().items():
        volumes[role], files[role] = sources.read(path, role, listed or {})
    t1, t2 = volumes["t1"], volumes["t2"]
    same_grid = t1.shape == t2.shape and np.allclose(t1.ijk_to_ras, t2.ijk_to_ras, atol=SAME_GRID)
    t2_voxels, covered = (t2.voxels, np.ones(t1.shape, dtype=bool)) if same_grid else register_rigid(t1, t2)
    look = screening.look(t1)
    stripped, head = look.skull_stripped, look.foreground
    if stripped:
        support = head & covered  # background is exactly 0 in both contrasts
        brain = tissue = ((t1.voxels > 0) | (t2_voxels > 0)) & covered
    else:
        support = covered
        brain, tissue = brain_in_head(t1, volumes.get("brain"), covered)
    _check_brain(case, tissue, t1.voxels, t2_voxels)
    scales = [intensity.brain_scale(v, tissue) for v in (t1.voxels, t2_voxels)]
    study = _Study(
        (t1.voxels, t2_voxels), (scales[0], scales[1]), support, head & covered, brain, _disease(volumes, t1)
    )
    views = standard_space.PASSES[planes if sliceable(t1) else "axial"]
    enclosed = brain if frame == "paper" else head
    cuts = [study.cut(standard_space.plan(t1, enclosed, frame, plane), frame) for plane in views]
    record = {
        "subject": case.subject,
        "patient": case.patient,
        "group": case.group,
        "source": case.source,
        "licence": case.licence,
        "layout": case.layout,
        "grade": case.grade,
        "skull_stripped": bool(stripped),
        "registered": not same_grid,
        "t1_scale": scales[0],
        "t2_scale": scales[1],
        "planes": list(views),
        "files": files,
    }
    images, masks, numbers = zip(*cuts, strict=True)
    numbers = [of_plane + NEXT_PLANE * n for n, of_plane in enumerate(numbers)]
    return SubjectSlices(_joined(images), _joined(masks), np.concatenate(numbers), record)


@dataclass(frozen=True)
class _Study:
    """Both contrasts and the masks of a study, all of one shape (k, j, i)."""

    voxels: tuple[np.ndarray, np.ndarray]
    scales: tuple[float, float]
    support: np.ndarray  # where both contrasts say something
    head: np.ndarray  # where both were measured
    brain: np.ndarray
    disease: np.ndarray

    def cut(self, space: standard_space.StandardSpace, frame: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Images (n, 2, h, w), masks (n, h, w) and numbers (n,) of the slices that are worth keeping."""
        outside = space.to_model(self.support.astype(np.float32)) < 0.5
        images = np.stack(
            [
                np.where(outside, 0, intensity.normalize(space.to_model(np.asarray(v, np.float32)), scale))
                for v, scale in zip(self.voxels, self.scales, strict=True)
            ],
            axis=1,
        )
        mask = (space.to_model(self.brain.astype(np.float32)) > 0.5).astype(np.uint8) * BRAIN
        mask[space.to_model(self.disease.astype(np.float32)) > 0.5] = LESION
        kept = _worthwhile(images, space.to_model(self.head.astype(np.float32)) > 0.5, outside, mask > 0, frame)
        return images[kept], mask[kept], kept


def _joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """The slices of all planes behind each other, padded with 0 at the bottom and right to the largest extent."""
    height, width = (max(array.shape[axis] for array in arrays) for axis in (-2, -1))
    joined = np.zeros((sum(map(len, arrays)), *arrays[0].shape[1:-2], height, width), arrays[0].dtype)
    first = 0
    for array in arrays:
        joined[first : first + len(array), ..., : array.shape[-2], : array.shape[-1]] = array
        first += len(array)
    return joined


def _check_brain(case: Case, tissue: np.ndarray, t1: np.ndarray, t2: np.ndarray) -> None:
    """Refuse a pair whose contrasts do not lie over one another, and one whose brain is of one value."""
    for name, voxels in (("T1", t1), ("T2", t2)):
        inside = voxels[tissue]
        if not inside.size or np.count_nonzero(inside > 0) < LEAST_BRIGHT * inside.size:
            raise TrainingError(
                f"{case.subject}: the {name} has no signal where the brain is",
                "two contrasts of one brain",
                "Check the files",
            )
        if inside.min() == inside.max():
            raise TrainingError(
                f"{case.subject}: all brain voxels of the {name} are {inside.flat[0]:g}",
                "an image, not a mask",
                "Check the files",
            )


def _disease(volumes: dict[str, Volume], grid: Volume) -> np.ndarray:
    """Where tumour labels or lesions are, on the grid of the T1."""
    found = np.zeros(grid.shape, dtype=bool)
    for role in ("segmentation", "lesion"):
        if role in volumes:
            found |= screening.mask_on_grid(volumes[role], grid)
    return found


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
