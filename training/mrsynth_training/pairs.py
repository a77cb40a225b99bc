"""Real pairs to score against: source, reference on the source's grid, and the masks that the protocol names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrsynth_training.errors import TrainingError
from mrsynth_training.preparation import Case
from mrsynth_training.registration import brain_in_head, register_rigid
from MRSynthLib.engine import intensity, screening
from MRSynthLib.engine.files import read_volume
from MRSynthLib.engine.volume import Volume

Mask = NDArray[np.bool_]

LABELS = {1: "core", 2: "oedema", 3: "enhancing", 4: "enhancing"}  # BraTS; 4 until 2021, 3 since


@dataclass(frozen=True, eq=False)
class Pair:
    """One direction of one subject, all arrays (k, j, i) on the grid of `source`.

    Attributes
    ----------
    subject : str
    contrast : {"t1", "t2"}
        Of the source.
    source : Volume
        As acquired, in scanner units.
    reference : ndarray, float32
        The other contrast in [0, 1]: over the 99.5th percentile of its brain voxels.
    measured : ndarray, float32
        The same in scanner units, not clipped.
    brain : ndarray of bool
        Skull-stripped: above 0 in both contrasts. Whole head: the subject's own mask, or the registered template's.
        Only where both contrasts were measured.
    scored : ndarray of bool
        What counts in full-frame scores: where the reference was measured and, of a whole head, in the brain.
    lesion : ndarray of bool or None
        All disease that is segmented: lesions and every part of a tumour.
    regions : dict of ndarray of bool
        Of a tumour segmented as in BraTS: "core" (necrosis), "oedema", "enhancing"; only those that are there.
    skull_stripped, registered : bool
        `registered`: the reference was acquired on another grid, and was brought onto the source's by registration.
    """

    subject: str
    contrast: str
    source: Volume
    reference: NDArray[np.float32]
    measured: NDArray[np.float32]
    brain: Mask
    scored: Mask
    lesion: Mask | None
    regions: dict[str, Mask]
    skull_stripped: bool
    registered: bool

    @property
    def direction(self) -> str:
        """As it is written in the results: "t1_to_t2" or "t2_to_t1"."""
        return f"{self.contrast}_to_{'t2' if self.contrast == 't1' else 't1'}"

    def unit_source(self) -> NDArray[np.float32]:
        """The source in [0, 1] by the same rule as the reference."""
        return intensity.normalize(self.source.voxels, intensity.brain_scale(self.source.voxels, self.brain))


def load_pair(case: Case, contrast: str) -> Pair:
    """Read a subject for synthesis from one contrast to the other.

    Parameters
    ----------
    case : Case
    contrast : {"t1", "t2"}
        Of the source.

    Raises
    ------
    MRSynthError
        If a file cannot be read.
    TrainingError
        If registration fails, or the two contrasts have no brain in common.
    """
    volumes = {"t1": read_volume(case.t1), "t2": read_volume(case.t2)}
    source, other = volumes.pop(contrast), next(iter(volumes.values()))
    same_grid = source.shape == other.shape and np.allclose(source.ijk_to_ras, other.ijk_to_ras, atol=1e-3)
    if same_grid:
        moved, covered = np.asarray(other.voxels, np.float32), np.ones(source.shape, dtype=bool)
    else:
        moved, covered = register_rigid(source, other)
    t1 = source if contrast == "t1" else source.replaced(moved)
    look = screening.look(t1)
    if look.skull_stripped:
        brain = tissue = look.foreground & (source.voxels > 0) & (moved > 0) & covered
    else:
        brain, tissue = brain_in_head(t1, read_volume(case.brain) if case.brain else None, covered)
    if not brain.any():
        raise TrainingError(
            f"{case.subject}: T1 and T2 have no brain in common", "two contrasts of one brain", "Check the files"
        )
    lesion, regions = _disease(case, source, brain)
    return Pair(
        subject=case.subject,
        contrast=contrast,
        source=source,
        reference=intensity.normalize(moved, intensity.brain_scale(moved, tissue)),
        measured=np.asarray(moved, np.float32),
        brain=brain,
        scored=covered if look.skull_stripped else brain,
        lesion=lesion,
        regions=regions,
        skull_stripped=look.skull_stripped,
        registered=not same_grid,
    )


def _disease(case: Case, grid: Volume, brain: Mask) -> tuple[Mask | None, dict[str, Mask]]:
    """All disease that is segmented, and the parts of a tumour, inside the brain on a grid."""
    found = [screening.mask_on_grid(read_volume(case.lesion), grid) & brain] if case.lesion else []
    regions: dict[str, Mask] = {}
    if case.segmentation:
        labels = read_volume(case.segmentation)
        unknown = sorted({float(label) for label in np.unique(labels.voxels)} - {0.0, *LABELS})
        if unknown:
            raise TrainingError(
                f"{case.segmentation.name} has the labels {', '.join(f'{label:g}' for label in unknown)}",
                "0 and BraTS' 1, 2, 3 and 4",
                "Check the segmentation, or take it out of the folder",
            )
        for label, name in LABELS.items():
            part = screening.mask_on_grid(labels.replaced(labels.voxels == label), grid) & brain
            if part.any():
                regions[name] = regions.get(name, False) | part
    found += regions.values()
    return (np.logical_or.reduce(found) if found else None), regions
