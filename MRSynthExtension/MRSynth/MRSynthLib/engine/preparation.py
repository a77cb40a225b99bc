"""A source volume looked at and laid out for the generator: scale, background, direction and slices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from . import intensity, screening, standard_space
from .checks import checked
from .errors import InputError
from .volume import Volume

Window = tuple[tuple[int, int], tuple[int, int]]
CONTRASTS = ("t1", "t2")
STEP = 8  # pixels by which windows grow, so that there are few different ones, each of which needs its own code
THICK = 1.5  # times the finest spacing (at least 1 mm): up to here, slices across the acquired ones can be cut
SURE = 0.6  # below this confidence the direction has to be said


@dataclass(frozen=True)
class Prepared:
    """What a run starts from.

    Attributes
    ----------
    volume : Volume
        The source, with finite voxels.
    space : StandardSpace
        Between the volume's grid and the slices.
    inside : ndarray of bool, shape (k, j, i)
        Where the result may be other than 0.
    brain : ndarray of bool, shape (k, j, i)
        Brain, or of a whole head without a mask an estimate of its depth.
    whole_brain : bool
        Whether `brain` is all of the brain, not that estimate.
    source : ndarray, shape (k, j, i)
        The volume in [0, 1], 0 outside.
    slices : ndarray, shape (slices, rows, columns)
        The same for the generator.
    rows, columns : ndarray of bool, shapes (slices, rows) and (slices, columns)
        What the result inside is made from, of the slices that come from the generator.
    contrast : Contrast
        What the source is.
    screening : Screening
    warnings : tuple of str
    """

    volume: Volume
    space: standard_space.StandardSpace
    inside: NDArray[np.bool_]
    brain: NDArray[np.bool_]
    whole_brain: bool
    source: NDArray[np.float32]
    slices: NDArray[np.float32]
    rows: NDArray[np.bool_]
    columns: NDArray[np.bool_]
    contrast: screening.Contrast
    screening: screening.Screening
    warnings: tuple[str, ...]

    @cached_property
    def sliced_inside(self) -> NDArray[np.bool_]:
        """`inside` in the slices, shape (slices, rows, columns)."""
        return self.space.to_model(self.inside.astype(np.float32)) > 0.5

    @cached_property
    def sliced_brain(self) -> NDArray[np.bool_]:
        """`brain` in the slices, shape (slices, rows, columns)."""
        return self.space.to_model(self.brain.astype(np.float32)) > 0.5

    def window(self, chunk: NDArray[np.intp]) -> Window:
        """Rows and columns that are needed of some slices, as first and one past the last."""
        found = []
        for needed in (self.rows, self.columns):
            marked = np.flatnonzero(needed[chunk].any(axis=0))
            last = -(-(int(marked[-1]) + 1) // STEP) * STEP
            found.append((int(marked[0]) // STEP * STEP, min(last, needed.shape[1])))
        return found[0], found[1]

    def restored(self, slices: NDArray[np.float32]) -> NDArray[np.float32]:
        """Slices on the volume's grid, shape (k, j, i), 0 outside."""
        voxels = self.space.to_input(slices)
        voxels *= self.inside
        return voxels


def in_plane(prepared: Prepared, frame: str, plane: str) -> Prepared:
    """The same run, cut into coronal or sagittal slices.

    Raises
    ------
    InputError
        input-planes: the volume's voxels are too far from cubes.
    """
    if not sliceable(prepared.volume):
        seen = " x ".join(f"{mm:.3g}" for mm in prepared.volume.spacing)
        raise InputError(
            "input-planes", f"The voxels are {seen} mm.", f"slices at most {THICK:g} times as thick as pixels are wide."
        )
    space = standard_space.plan(prepared.volume, prepared.inside, frame, plane)
    slices = space.to_model(prepared.source)
    np.clip(slices, 0, 1, out=slices)
    rows, columns = space.looked_at(prepared.inside)
    return replace(prepared, space=space, slices=slices, rows=rows, columns=columns)


def sliceable(volume: Volume) -> bool:
    """Whether coronal and sagittal slices are worth anything: the voxels are near enough to cubes."""
    return max(volume.spacing) <= THICK * max(min(volume.spacing), standard_space.NATIVE_SPACING)


def other(contrast: str) -> str:
    """T2 for T1 and T1 for T2."""
    return CONTRASTS[1 - CONTRASTS.index(contrast)]


def prepare(
    volume: Volume, frame: str, *, source: str, target: str | None, mask: Volume | None, force: bool = False
) -> Prepared:
    """Check a volume, find out what it is, and lay it out as slices.

    Parameters
    ----------
    volume : Volume
    frame : {'native', 'paper'}
        Of the checkpoint.
    source, target, mask, force
        As `Synthesizer.steps` takes them.

    Raises
    ------
    InputError
        See `checks.checked`; mask-empty, mask-off-grid, input-screened, input-contrast-unknown.
    """
    volume, warnings = checked(volume)
    seen = screening.look(volume)
    inside, brain = seen.foreground, seen.brain
    if mask is not None:
        inside = screening.brain_mask(mask, volume) & screening.without_background(volume.voxels)
        brain = inside & (volume.voxels > 0)
    if not brain.any():
        raise InputError("input-empty", "No voxel of brain is above 0.", "a brain MR volume.")
    screened = screening.screen(volume, seen, None if mask is None else brain)
    if not force:
        _check_screened(screened, told=source in CONTRASTS)
    guess = screened.source or screening.guess_contrast(volume, brain)
    contrast, doubts = _direction(guess, source, target)
    unit = intensity.normalize(volume.voxels, intensity.brain_scale(volume.voxels, brain))
    unit *= inside
    space = standard_space.plan(volume, inside, frame)
    slices = space.to_model(unit)
    np.clip(slices, 0, 1, out=slices)
    return Prepared(
        volume,
        space,
        inside,
        brain,
        seen.skull_stripped or mask is not None,
        unit,
        slices,
        *space.looked_at(inside),
        contrast,
        screened,
        (*warnings, *doubts, *screened.warnings),
    )


def _check_screened(screened: screening.Screening, told: bool) -> None:
    """Stop at what no synthesis should start from; a contrast that the user said is the user's.

    Raises
    ------
    InputError
        input-screened.
    """
    grave = [f.text for f in screened.findings if f.level == "refuse" and not (told and f.about == "contrast")]
    if grave:
        raise InputError("input-screened", " ".join(grave), "a T1 or T2 of a head or brain, laid as its header says.")


def _direction(
    guess: screening.Contrast, source: str, target: str | None
) -> tuple[screening.Contrast, tuple[str, ...]]:
    """What the source is: as said, else as wanted the other way round, else as it looks. And what speaks against it."""
    for said in (source, target):
        if said not in (*CONTRASTS, "auto", None):
            raise ValueError(f"contrast is {said!r}; expected one of {CONTRASTS}")
    if source in CONTRASTS and target == source:
        raise ValueError(f"source and target are both {source!r}; expected one of each")
    if source == "auto" and target is None:
        if guess.confidence < SURE:
            raise InputError(
                "input-contrast-unknown", f"It may be T1 or T2: {guess.reason}.", "a clear contrast, or to be told."
            )
        return guess, ()
    told = screening.Contrast(source if source in CONTRASTS else other(str(target)), 1.0, "as told")
    if guess.name == told.name or guess.confidence < SURE:
        return told, ()
    return told, (f"Taken as {told.name.upper()} as told, but it looks like {guess.name.upper()}: {guess.reason}.",)
