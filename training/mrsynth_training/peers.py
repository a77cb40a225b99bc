"""Protocols `peer:...`: PSNR and SSIM as the public code of three other methods scores its images.

Only for a look at their tables. All three scale every slice of the reference and of the synthetic image by itself,
which forgives what `paper` and `brain` count: a wrong brightness, and flicker from slice to slice. Their images are
BraTS or IXI volumes without skull; a whole head is masked to the brain here.

`peer:selfrdb` (github.com/icon-lab/SelfRDB: `compute_metrics` in utils.py, data/create_brats_dataset.py)
    Axial slices 27 to 126 of BraTS' 155. The mask of a slice is where its T1, stretched from its minimum to its
    maximum, is above 0.1. Both images are masked, then divided by their own mean over the whole slice. PSNR and SSIM
    (skimage, 7×7) with the reference's maximum as data range; slices without a value are left out; mean per subject.
    SSIM is printed times 100 there.
`peer:resvit` (github.com/icon-lab/ResViT: the validation in train.py; test.py writes images and scores nothing)
    Full axial slice, reference and synthetic each divided by its own maximum; PSNR with data range 1 (what skimage
    takes for images that are not negative). There, empty slices stay in the mean with 0 dB; here they are left out.
`peer:syndiff` (github.com/icon-lab/SynDiff: test.py)
    The slice is padded with 0 to 256×256, each image divided by its own maximum, then cropped about the centre to
    256×152; PSNR with the maximum of the cropped synthetic image as peak; slices without a value are left out.

The last two publish no rule for SSIM and no list of slices: they get no SSIM, and the slices of the first. Where the
grid is not BraTS', the same share of the slices is taken, and millimetres stand for pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from mrsynth_training.metrics import HIGHEST_PSNR, Scores
from MRSynthLib.engine import standard_space
from MRSynthLib.engine.volume import Volume

SLICES = (27 / 155, 127 / 155)  # of SelfRDB, as shares of BraTS' slices
T1_THRESHOLD = 0.1
SYNDIFF_PAD, SYNDIFF_CROP = (256.0, 256.0), (256.0, 152.0)  # mm, rows to posterior, columns to the left

Image = NDArray[np.float64]
Slice = tuple[float | None, float | None]  # PSNR, SSIM; None: has no value


def selfrdb(reference: Image, synthetic: Image, t1: Image) -> Slice:
    """PSNR and SSIM of one slice by SelfRDB's rule; (None, None) where an image is empty within the mask."""
    mask = _stretched(t1) > T1_THRESHOLD
    true, made = (image * mask for image in (_stretched(reference), np.clip(synthetic, 0, 1)))
    if not (true.any() and made.any()):
        return None, None
    true, made = true / true.mean(), made / made.mean()
    return _psnr(true, made, float(true.max())), float(structural_similarity(true, made, data_range=true.max()))


def resvit(reference: Image, synthetic: Image, t1: Image) -> Slice:
    """PSNR of one slice by ResViT's rule; None where an image is empty."""
    if not (reference.max() > 0 and synthetic.max() > 0):
        return None, None
    return _psnr(reference / reference.max(), synthetic / synthetic.max(), 1.0), None


def syndiff(reference: Image, synthetic: Image, t1: Image, crop: tuple[int, int] | None = None) -> Slice:
    """PSNR of one slice by SynDiff's rule, `crop` (rows, columns) about its centre; None where an image is empty."""
    if not (reference.max() > 0 and synthetic.max() > 0):
        return None, None
    true, made = (centred(image / image.max(), crop or image.shape) for image in (reference, synthetic))
    return (_psnr(true, made, float(made.max())), None) if made.any() else (None, None)


RULES: dict[str, Callable[[Image, Image, Image], Slice]] = {
    "peer:selfrdb": selfrdb,
    "peer:resvit": resvit,
    "peer:syndiff": syndiff,
}


def score(
    rule: str,
    reference: NDArray[Any],
    synthetic: NDArray[Any],
    t1: NDArray[Any],
    scored: NDArray[np.bool_],
    grid: Volume,
) -> Scores:
    """Mean over the slices of one subject by one rule.

    Parameters
    ----------
    rule : str
        Of `RULES`.
    reference : ndarray, shape (k, j, i)
        As acquired, not clipped: these rules scale by maxima.
    synthetic : ndarray, shape (k, j, i)
        In [0, 1].
    t1 : ndarray, shape (k, j, i)
        The acquired T1, source or reference.
    scored : ndarray of bool, shape (k, j, i)
        What is not background; the rest is 0 in all three.
    grid : Volume

    Returns
    -------
    dict
        psnr (dB), ssim (for selfrdb, 0 to 1), slices (how many had a value); empty where none had.
    """
    space = standard_space.plan(grid, np.ones(grid.shape, dtype=bool), "native")
    rows, columns = (axis.spacing for axis in space.input_axes[1:])
    count = space.input_axes[0].size
    first, last = (round(share * count) for share in SLICES)
    stacks = [space.canonical(np.where(scored, array, 0))[first:last] for array in (reference, synthetic, t1)]
    values: list[Slice] = []
    for true, made, anatomy in zip(*stacks, strict=True):
        images = [np.maximum(image, 0).astype(np.float64) for image in (true, made, anatomy)]
        if rule == "peer:syndiff":
            padded = [centred(image, _pixels(SYNDIFF_PAD, rows, columns)) for image in images]
            values.append(syndiff(padded[0], padded[1], padded[2], _pixels(SYNDIFF_CROP, rows, columns)))
        else:
            values.append(RULES[rule](*images))
    result: Scores = {}
    for name, found in zip(("psnr", "ssim"), zip(*values, strict=True), strict=True):
        good = [value for value in found if value is not None]
        if good:
            result[name] = float(np.mean(good))
            result["slices"] = float(len(good))
    return result


def centred(image: Image, shape: tuple[int, ...]) -> Image:
    """Crop about the centre, or pad with 0, to (rows, columns)."""
    for axis, wanted in enumerate(shape):
        size = image.shape[axis]
        if size > wanted:
            image = image.take(range((size - wanted) // 2, (size - wanted) // 2 + wanted), axis)
        elif size < wanted:
            before = (wanted - size) // 2
            image = np.pad(image, [(before, wanted - size - before) if n == axis else (0, 0) for n in range(2)])
    return image


def _pixels(millimetres: tuple[float, float], rows: float, columns: float) -> tuple[int, int]:
    return round(millimetres[0] / rows), round(millimetres[1] / columns)


def _stretched(image: Image) -> Image:
    """From minimum to maximum becomes 0 to 1; a constant image becomes 0."""
    shifted = image - image.min()
    return shifted / shifted.max() if shifted.any() else shifted


def _psnr(true: Image, made: Image, data_range: float) -> float:
    if np.array_equal(true, made):
        return HIGHEST_PSNR
    return min(HIGHEST_PSNR, float(peak_signal_noise_ratio(true, made, data_range=data_range)))
