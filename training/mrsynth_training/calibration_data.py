"""Residuals: how far off a checkpoint is on a volume that it has not seen, with what its error may be told from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrsynth_training import unseen
from mrsynth_training.errors import TrainingError
from mrsynth_training.pairs import Pair
from mrsynth_training.preparation import Case
from MRSynthLib.engine import reliability, reliability_level
from MRSynthLib.engine.preparation import Prepared, in_plane, prepare
from MRSynthLib.engine.reliability_features import NAMES, box_sum, features
from MRSynthLib.engine.synthesis import Synthesizer
from MRSynthLib.engine.writing import write_aside

SLICES = 24  # of a volume, evenly spaced: neighbouring slices tell the same
BACK = SLICES // reliability_level.SLICES  # one of so many of them goes back, as in a run
VOXELS, LESION_VOXELS = 12000, 4000  # drawn at random from these
BATCH = 4
SMOOTHED = 2  # pixels; what an extra pass gives is noisy, and its mean around a pixel tells more
SHIFT = (5, 3)  # pixels by which rows and columns are shifted for one of the candidates
NOISE = 0.02
ORACLE = "true error, 5x5 mean"  # which nobody has: what a map of that smoothness can reach at most
COLUMNS = ("features", "error", "reference", "reference_texture", "tissue", "place", "drawn", "lesion")
Array = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Residuals:
    """A sample of one volume's voxels, in one direction.

    Attributes
    ----------
    about : dict
        subject, patient, contrast (of the source), model, weights_sha256, role, frame, slices, cycle (error of the
        whole volume, see `reliability_level`); with the candidates also what the guard against hidden information has
        measured.
    features : ndarray, shape (n, len(NAMES))
    error : ndarray, shape (n,)
        Absolute, of 1.
    reference, reference_texture : ndarray, shape (n,)
        The truth, and its texture by the same measure as the features'.
    tissue : ndarray of int, shape (n,)
        Index into `reliability.TISSUES`.
    place : ndarray, shape (n, 3)
        In the brain's bounding box, 0 to 1 along superior, posterior, left.
    drawn : ndarray of bool, shape (n,)
        Drawn at random from the brain; the others were added from the lesion.
    lesion : ndarray of bool, shape (n,)
    candidates : mapping of ndarray, shape (n,)
        Maps to compare with: the source's gradient and the smoothed true error always, those that need further passes
        where asked for.
    """

    about: dict[str, Any]
    features: Array
    error: Array
    reference: Array
    reference_texture: Array
    tissue: NDArray[np.int64]
    place: Array
    drawn: Mask
    lesion: Mask
    candidates: Mapping[str, Array]


def residuals(
    synthesizer: Synthesizer, case: Case, pair: Pair, *, candidates: bool = False, planes: bool = False
) -> Residuals:
    """Run a checkpoint over some slices of a volume and draw voxels of them.

    Parameters
    ----------
    synthesizer : Synthesizer
        In fp32.
    case, pair : Case, Pair
        `pair` is of `case`.
    candidates : bool
        Also the way back, a flip and a shift: four more passes.
    planes : bool
        Also coronal and sagittal passes, over the whole volume; left out where its slices are too thick.

    Raises
    ------
    TrainingError
        If the patient was trained on.
    """
    card = synthesizer.checkpoint.card
    role = unseen.role(card, case)
    if role == "train":
        raise TrainingError(
            f"{synthesizer.checkpoint.name} was trained on {case.subject}",
            "a checkpoint that has not seen the subject",
            "Its error there says nothing: give another checkpoint, or other subjects",
        )
    prepared = prepare(pair.source, card["frame"], source=pair.contrast, target=None, mask=None, force=True)
    brain = prepared.space.to_model(pair.brain.astype(np.float32)) > 0.5
    filled = np.flatnonzero(brain.any(axis=(1, 2)))
    used = filled[np.unique(np.linspace(0, len(filled) - 1, min(SLICES, len(filled))).round().astype(int))]
    inside = prepared.sliced_inside
    synthetic = np.zeros_like(prepared.slices)
    synthetic[used] = _pass(synthesizer, prepared.slices, used)
    synthetic *= inside
    slices = reliability.slices_of(prepared, synthetic).part(used)
    tissue = reliability.tissue(prepared, slices, reliability.tissue_bounds(prepared, synthetic))
    reference = prepared.space.to_model(pair.reference)[used]
    true = features(replace(slices, synthetic=reference))[:, NAMES.index("synthetic_texture")]
    lesion = np.zeros_like(slices.inside)
    if pair.lesion is not None:
        lesion = prepared.space.to_model(pair.lesion.astype(np.float32))[used] > 0.5
    scored = brain[used][slices.inside]
    index, drawn = _draw(scored, lesion[slices.inside] & scored, seed=len(case.subject))
    about = {
        "subject": case.subject,
        "patient": case.patient,
        "contrast": pair.contrast,
        "model": synthesizer.checkpoint.name,
        "weights_sha256": card["weights_sha256"],
        "role": role,
        "frame": card["frame"],
        "slices": len(used),
        "cycle": _cycle_error(synthesizer, prepared, synthetic, used[::BACK]),
    }
    error = np.abs(synthetic[used] - reference)
    maps = {
        "gradient of source": _gradient(slices.source, slices.pixel),
        ORACLE: _smooth(error, slices.inside & brain[used], SMOOTHED),
    }
    if candidates:
        found, guard = _further_passes(synthesizer, prepared, synthetic, inside, used, brain[used])
        maps |= found
        about |= guard
    if planes:
        maps |= _across(synthesizer, prepared, synthetic, inside, used)
    return Residuals(
        about,
        features(slices)[index],
        error[slices.inside][index].astype(np.float32),
        reference[slices.inside][index],
        true[index],
        tissue[index],
        _place(brain, used)[slices.inside][index],
        drawn,
        lesion[slices.inside][index],
        {name: image[slices.inside][index].astype(np.float32) for name, image in maps.items()},
    )


def _pass(synthesizer: Synthesizer, slices: Array, used: NDArray[np.intp]) -> Array:
    """One pass of the generator over some slices."""
    batches = [used[first : first + BATCH] for first in range(0, len(used), BATCH)]
    return np.concatenate([synthesizer.forward(slices, batch) for batch in batches])


def _cycle_error(synthesizer: Synthesizer, prepared: Prepared, synthetic: Array, back: NDArray[np.intp]) -> float:
    """As a run measures it, of slices that were made; a 2.5-D generator is given those beside them, too."""
    lacking = np.setdiff1d(synthesizer.looked_at(back, len(synthetic)), np.flatnonzero(synthetic.any(axis=(1, 2))))
    if lacking.size:
        synthetic = synthetic.copy()
        synthetic[lacking] = _pass(synthesizer, prepared.slices, lacking) * prepared.sliced_inside[lacking]
    returned = _pass(synthesizer, synthetic, back)
    error = reliability_level.cycle_error(prepared.slices[back], returned, prepared.sliced_brain[back])
    if error is None:
        raise TrainingError("no brain in the slices that were drawn", "a brain MR volume", "Leave the subject out")
    return error


def _draw(scored: Mask, lesion: Mask, seed: int) -> tuple[NDArray[np.intp], Mask]:
    """Voxels of the brain, then further ones of the lesion; and which are of the first kind."""
    rng = np.random.default_rng(seed)
    index = rng.permutation(np.flatnonzero(scored))[:VOXELS]
    more = rng.permutation(np.setdiff1d(np.flatnonzero(lesion), index))[:LESION_VOXELS]
    return np.concatenate([index, more]), np.arange(len(index) + len(more)) < len(index)


def _gradient(images: Array, pixel: tuple[float, float]) -> Array:
    rows, columns = np.gradient(images, *pixel, axis=(1, 2))
    return np.hypot(rows, columns)


def _place(brain: Mask, used: NDArray[np.intp]) -> Array:
    """Where each pixel of the used slices lies in the brain's bounding box, shape (..., 3)."""
    parts = []
    for axis in range(3):
        filled = np.flatnonzero(brain.any(axis=tuple({0, 1, 2} - {axis})))
        relative = (np.arange(brain.shape[axis]) - filled[0]) / max(1, filled[-1] - filled[0])
        shape = [1, 1, 1]
        shape[axis] = -1
        parts.append(np.broadcast_to(relative.reshape(shape), brain.shape)[used])
    return np.stack(parts, axis=-1).astype(np.float32)


def _further_passes(
    synthesizer: Synthesizer, prepared: Prepared, synthetic: Array, inside: Mask, used: NDArray[np.intp], brain: Mask
) -> tuple[dict[str, Array], dict[str, float]]:
    """Candidates that cost passes, smoothed, and the guard of Chu et al. 2017 in dB."""
    source, made, mask = prepared.slices, synthetic[used], inside[used]
    rng = np.random.default_rng(0)
    noise = rng.normal(0, NOISE, synthetic.shape).astype(np.float32)
    back = _pass(synthesizer, synthetic, used)
    noisy = _pass(synthesizer, np.clip(synthetic + noise, 0, 1) * inside, used)
    low = _pass(synthesizer, np.where(inside, _smooth(synthetic, inside, 1), 0).astype(np.float32), used)
    flipped = _pass(synthesizer, np.ascontiguousarray(source[:, :, ::-1]), used)[:, :, ::-1]
    shifted = np.roll(_pass(synthesizer, np.roll(source, SHIFT, (1, 2)), used), tuple(-n for n in SHIFT), (1, 2))
    differences = {
        "cycle error": np.abs(back - source[used]),
        "cycle error, noisy": np.abs(noisy - source[used]),
        "cycle error, low-pass": np.abs(low - source[used]),
        "flip": np.abs(flipped - made),
        "shift": np.abs(shifted - made),
    }
    maps = {name: _smooth(difference, mask, SMOOTHED) for name, difference in differences.items()}
    maps["cycle error, raw"] = differences["cycle error"]
    guard = {
        f"{name} psnr": round(float(-10 * np.log10(np.mean(np.square(differences[name][brain & mask])))), 2)
        for name in ("cycle error", "cycle error, noisy", "cycle error, low-pass")
    }
    return maps, guard


def _across(
    synthesizer: Synthesizer, prepared: Prepared, synthetic: Array, inside: Mask, used: NDArray[np.intp]
) -> dict[str, Array]:
    """Standard deviation between axial, coronal and sagittal passes."""
    frame = str(synthesizer.checkpoint.card["frame"])
    views = [in_plane(prepared, frame, plane) for plane in ("coronal", "sagittal")]
    made = [synthetic]
    for view in views:
        through = np.flatnonzero(view.slices.any(axis=(1, 2)))
        cut = np.zeros_like(view.slices)
        cut[through] = _pass(synthesizer, view.slices, through)
        made.append(prepared.space.to_model(view.restored(cut)))
    spread = np.std([image[used] for image in made], axis=0)
    return {"planes": _smooth(spread, inside[used], SMOOTHED)}


def _smooth(images: Array, inside: Mask, reach: int) -> Array:
    count = np.maximum(box_sum(inside, (reach, reach)), 1)
    return (box_sum(np.where(inside, images, 0), (reach, reach)) / count).astype(np.float32)


def write(table: Residuals, folder: Path) -> Path:
    """Write a table as one .npz file named after subject and contrast."""
    path = folder / f"{table.about['subject']}_{table.about['contrast']}.npz"
    arrays = {name: getattr(table, name) for name in COLUMNS}
    arrays |= {f"candidate {name}": values for name, values in table.candidates.items()}
    with write_aside(path) as aside, aside.open("wb") as file:
        np.savez_compressed(file, about=json.dumps(table.about | {"names": NAMES}), **arrays)
    return path


def read(folder: Path) -> list[Residuals]:
    """All tables of a folder, by name.

    Raises
    ------
    TrainingError
        If there is none, or one was made by another version.
    """
    tables = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(str(arrays.pop("about")))
        if tuple(about.pop("names")) != NAMES:
            raise TrainingError(f"{path} was made by another version", "residuals of this one", "Make them again")
        found = {name.removeprefix("candidate "): arrays.pop(name) for name in list(arrays) if "candidate" in name}
        tables.append(Residuals(about, candidates=found, **arrays))
    if not tables:
        raise TrainingError(f"{folder} has no residuals", "what `calibrate --models` writes", "Make them first")
    return tables
