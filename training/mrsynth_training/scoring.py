"""All scores of one synthetic volume: which protocols there are, and what each is computed from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mrsynth_training import artefacts, downstream, metrics, peers
from mrsynth_training.pairs import Pair
from mrsynth_training.protocols import PROTOCOLS
from MRSynthLib.engine import intensity


def score(pair: Pair, synthetic: np.ndarray, protocols: Sequence[str] = PROTOCOLS) -> dict[str, metrics.Scores]:
    """All scores of one synthetic volume.

    Parameters
    ----------
    pair : Pair
    synthetic : ndarray, shape (k, j, i)
        As the engine returns it: 1000 is 1.0.
    protocols : sequence of str
        Of `PROTOCOLS`; `lesion` gives "lesion" and "lesion_rim" where the subject has a lesion, and "tumour_core" and
        so on where it has a tumour.
    """
    made = np.clip(synthetic.astype(np.float32) / intensity.SCALE, 0, 1)
    true, grid = pair.reference, pair.source
    full_made, full_true = (np.where(pair.scored, array, 0) for array in (made, true))
    scores: dict[str, metrics.Scores] = {}
    if "paper" in protocols:
        scores["paper"] = metrics.paper(full_true, full_made, pair.brain, grid)
    masks = _masks(pair, protocols)
    if masks:
        similarity = metrics.ssim_map(full_true, full_made, grid)
        scores |= {name: metrics.within(true, made, mask, similarity) for name, mask in masks.items()}
    if "drift" in protocols:
        scores["drift"] = metrics.drift(true, made, pair.brain, grid)
    if "shift" in protocols:
        # Not masked: an edge that both have from the same mask would hide an offset.
        scores["shift"] = metrics.shift(pair.unit_source(), made, pair.brain)
    for rule in peers.RULES:
        if rule in protocols:
            t1 = pair.source.voxels if pair.contrast == "t1" else pair.measured
            scores[rule] = peers.score(rule, pair.measured, made, t1, pair.scored, grid)
    if "tissue" in protocols:
        scores["tissue"] = downstream.score(pair, made)
    if "artefacts" in protocols:
        scores["artefacts"] = artefacts.measures(pair, made)
    return scores


def _masks(pair: Pair, protocols: Sequence[str]) -> dict[str, np.ndarray]:
    """Where to score inside, by name; nothing that is empty."""
    masks = {"brain": pair.brain} if "brain" in protocols else {}
    if "lesion" in protocols and pair.lesion is not None:
        masks["lesion"] = pair.lesion
        masks["lesion_rim"] = metrics.rim(pair.lesion, pair.brain, pair.source.spacing)
        masks |= {f"tumour_{name}": mask for name, mask in pair.regions.items()}
    return {name: mask for name, mask in masks.items() if mask.any()}
