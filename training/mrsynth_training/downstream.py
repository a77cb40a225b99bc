"""A downstream task: tissue classes segmented on acquired and synthetic volumes by the same method.

The method is the plain one: a Gaussian mixture of three classes over the intensities of the brain (scikit-learn),
fitted to each volume by itself, without atlas or neighbourhood, so that nothing but the image decides. Classes are
named by the order of their means: in T1 CSF is darkest and white matter brightest, in T2 the other way round. Tumour
and lesions are left out. What counts is the agreement between acquired and synthetic, not the truth of either:
of a T2 alone, grey and white matter are told apart only roughly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture

from mrsynth_training.metrics import Scores
from mrsynth_training.pairs import Pair

TISSUES = ("csf", "grey", "white")  # labels 1, 2, 3
ORDER = {"t1": (1, 2, 3), "t2": (3, 2, 1)}  # labels of the classes from dark to bright
SAMPLE = 50_000  # voxels that the mixture is fitted to
LEAST_VARIANCE = 1e-4  # a class is no narrower than 0.01, or clipped voxels would become one
START = (0.1, 0.5, 0.9)  # quantiles at which the classes begin

Mask = NDArray[np.bool_]


def segment(image: NDArray[Any], brain: Mask, contrast: str) -> NDArray[np.uint8]:
    """Label 1 (CSF), 2 (grey matter) or 3 (white matter) for every voxel of the brain, 0 elsewhere.

    Parameters
    ----------
    image : ndarray, shape (k, j, i)
        In [0, 1].
    brain : ndarray of bool, shape (k, j, i)
    contrast : {"t1", "t2"}
        Of the image.
    """
    values = image[brain].astype(np.float64)[:, None]
    labels = np.zeros(image.shape, np.uint8)
    if len(np.unique(values[:: max(1, len(values) // SAMPLE)])) < len(TISSUES):
        labels[brain] = 2  # constant: nothing to tell
        return labels
    chosen = np.random.default_rng(0).permutation(len(values))[:SAMPLE]
    mixture = GaussianMixture(
        len(TISSUES), reg_covar=LEAST_VARIANCE, means_init=np.quantile(values, START)[:, None], random_state=0
    ).fit(values[chosen])
    rank = np.argsort(np.argsort(mixture.means_[:, 0]))
    labels[brain] = np.array(ORDER[contrast], np.uint8)[rank][mixture.predict(values)]
    return labels


def score(pair: Pair, made: NDArray[Any]) -> Scores:
    """Agreement of the tissue classes, and the tissues' intensities.

    Parameters
    ----------
    pair : Pair
    made : ndarray, shape (k, j, i)
        The synthetic volume in [0, 1].

    Returns
    -------
    dict
        dice (mean of the three) and, per tissue, `dice_T`; `volume_T_true` and `volume_T_made` in ml; `mean_T_true`
        and `mean_T_made`, intensities of the target contrast where the acquired T1 shows the tissue.
    """
    healthy = pair.brain if pair.lesion is None else pair.brain & ~pair.lesion
    target = "t2" if pair.contrast == "t1" else "t1"
    true_labels, made_labels = (segment(image, healthy, target) for image in (pair.reference, made))
    t1_labels = segment(pair.unit_source(), healthy, "t1") if pair.contrast == "t1" else true_labels
    millilitres = abs(float(np.linalg.det(pair.source.ijk_to_ras[:3, :3]))) / 1000
    scores: Scores = {}
    for label, name in enumerate(TISSUES, start=1):
        true, synthetic, place = (labels == label for labels in (true_labels, made_labels, t1_labels))
        scores[f"dice_{name}"] = dice(true, synthetic)
        scores[f"volume_{name}_true"] = float(true.sum() * millilitres)
        scores[f"volume_{name}_made"] = float(synthetic.sum() * millilitres)
        if place.any():
            scores[f"mean_{name}_true"] = float(pair.reference[place].mean())
            scores[f"mean_{name}_made"] = float(made[place].mean())
    scores["dice"] = float(np.mean([scores[f"dice_{name}"] for name in TISSUES]))
    return scores


def dice(first: Mask, second: Mask) -> float:
    """Dice's coefficient, 2 |A ∩ B| / (|A| + |B|); 1 where both are empty."""
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else 1.0
