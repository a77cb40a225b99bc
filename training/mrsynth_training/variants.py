"""Other ways to run a checkpoint as it is: what is done to the source before, or to the result after.

Each takes a `Run` and gives the result, int16 on the source's grid, 1000 is 1.0. None sees the subject's own target
contrast, except `oracle`, which says how much a perfect reference could give.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from mrsynth_training.errors import TrainingError
from mrsynth_training.pairs import Pair
from mrsynth_training.preparation import Case
from MRSynthLib.engine import intensity, likeness, screening, standard_space
from MRSynthLib.engine.files import read_volume
from MRSynthLib.engine.synthesis import Synthesizer, other
from MRSynthLib.engine.volume import Volume

DECILES = tuple(range(10, 100, 10))
SHRINK = 4  # of N4, per axis
BINS = 200  # of a histogram whose peak is looked for
SMOOTH = 4  # bins


@dataclass(frozen=True, eq=False)
class Run:
    """A subject in one direction, and what was made of it as the engine does it.

    Attributes
    ----------
    synthesizer : Synthesizer
    pair : Pair
    plain : ndarray of int16, shape (k, j, i)
    cases : dict of Case
        All subjects of the folder.
    trained : tuple of str
        Those that the checkpoint was trained on.
    like : dict of str
        Subject to that which is its reference.
    """

    synthesizer: Synthesizer
    pair: Pair
    plain: NDArray[np.int16]
    cases: Mapping[str, Case]
    trained: tuple[str, ...]
    like: Mapping[str, str]

    def again(self, source: Volume, *, planes: str = "axial") -> NDArray[np.int16]:
        """What is made of another source on any grid."""
        target = other(self.pair.contrast)
        made = self.synthesizer.synthesize(source, target, source=self.pair.contrast, planes=planes, force=True)
        return made.volume.voxels


def flips(run: Run) -> NDArray[np.int16]:
    """Mean of the head as it is and mirrored."""
    space = standard_space.plan(run.pair.source, run.pair.brain, "native")
    axis = space.order[2]
    mirrored = run.again(run.pair.source.replaced(np.flip(run.pair.source.voxels, axis).copy()))
    return np.rint((run.plain + np.flip(mirrored, axis).astype(np.float32)) / 2).astype(np.int16)


def three_planes(run: Run) -> NDArray[np.int16]:
    """Mean of axial, coronal and sagittal passes."""
    return run.again(run.pair.source, planes="three")


def n4(run: Run) -> NDArray[np.int16]:
    """The source's bias field taken out before (N4ITK, Tustison et al., IEEE Trans Med Imaging 2010;29:1310-1320)."""
    source = run.pair.source
    image = sitk.GetImageFromArray(np.maximum(source.voxels, 0).astype(np.float32))
    image.SetSpacing(source.spacing)
    mask = sitk.GetImageFromArray((source.voxels > 0).astype(np.uint8))
    mask.SetSpacing(source.spacing)
    factors = [max(1, min(SHRINK, size // 8)) for size in image.GetSize()]
    correct = sitk.N4BiasFieldCorrectionImageFilter()
    correct.SetMaximumNumberOfIterations([30, 20, 10])
    correct.Execute(sitk.Shrink(image, factors), sitk.Shrink(mask, factors))
    field = sitk.GetArrayFromImage(correct.GetLogBiasFieldAsImage(image))
    return run.again(source.replaced((source.voxels / np.exp(field)).astype(np.float32)))


def white_matter_peak(run: Run) -> NDArray[np.int16]:
    """The source's most frequent brightness moved to where it is in the training subjects."""
    return _through(run, _peak)


def nyul(run: Run) -> NDArray[np.int16]:
    """The source's deciles moved to where they are in the training subjects (Nyul and Udupa 1999)."""
    return _through(run, lambda values: tuple(float(v) for v in np.percentile(values, DECILES)))


def like(run: Run) -> NDArray[np.int16] | None:
    """The result as bright as the target contrast of another subject of the same scanner or patient (`--like`)."""
    reference = run.like.get(run.pair.subject)
    if reference is None:
        return None
    if reference not in run.cases:
        raise TrainingError(f"no subject named {reference}", ", ".join(run.cases), "Correct the names")
    return _liked(run, run.cases[reference])


def oracle(run: Run) -> NDArray[np.int16]:
    """`like` with the subject's own acquired target for the reference: what a perfect reference would give."""
    return _liked(run, run.cases[run.pair.subject])


VARIANTS: dict[str, Callable[[Run], NDArray[np.int16] | None]] = {
    "like": like,
    "oracle": oracle,
    "flips": flips,
    "three-planes": three_planes,
    "white-matter-peak": white_matter_peak,
    "nyul": nyul,
    "n4": n4,
}


def _liked(run: Run, case: Case) -> NDArray[np.int16]:
    target = other(run.pair.contrast)
    tissue = _tissue(case.t1 if target == "t1" else case.t2, target)
    unit = intensity.normalize(run.plain, intensity.SCALE)
    seen = screening.look(run.pair.source)
    curve = likeness.fit(unit, seen.brain, run.pair.source, seen.skull_stripped, tissue)
    return intensity.to_output(curve(unit))


@functools.lru_cache(maxsize=64)
def _tissue(path: object, contrast: str) -> likeness.Tissue:
    return likeness.tissue_of(read_volume(str(path)), contrast)


def _through(run: Run, landmarks: Callable[[NDArray[np.float32]], tuple[float, ...]]) -> NDArray[np.int16]:
    """The result of the source after the curve that takes its landmarks to the training subjects' mean ones."""
    contrast = run.pair.contrast
    files = [getattr(run.cases[name], contrast) for name in run.trained if name in run.cases]
    if not files:
        raise TrainingError("no training subject is in the data", "some of the checkpoint's own", "Give its data")
    wanted = np.mean([landmarks(_values(file)) for file in files], axis=0)
    seen = screening.look(run.pair.source)
    unit = intensity.normalize(run.pair.source.voxels, intensity.brain_scale(run.pair.source.voxels, seen.brain))
    curve = likeness.between(landmarks(unit[seen.brain & (unit > 0)]), tuple(float(v) for v in wanted))
    return run.again(run.pair.source.replaced(curve(unit) * intensity.SCALE))


@functools.lru_cache(maxsize=64)
def _values(path: object) -> NDArray[np.float32]:
    volume = read_volume(str(path))
    seen = screening.look(volume)
    unit = intensity.normalize(volume.voxels, intensity.brain_scale(volume.voxels, seen.brain))
    return unit[seen.brain & (unit > 0)][::7]  # a seventh of the voxels tells as much


def _peak(values: NDArray[np.float32]) -> tuple[float, ...]:
    count, _ = np.histogram(values, BINS, (0, 1))
    window = np.hanning(2 * SMOOTH + 3)
    smooth = np.convolve(count, window / window.sum(), mode="same")
    inner = slice(BINS // 10, -BINS // 20)  # neither what is cut off at the top nor the darkest
    return ((float(np.argmax(smooth[inner])) + BINS // 10 + 0.5) / BINS,)
