"""A synthetic volume against the acquired one of the same contrast: a table of scores and a map of the difference.

Three steps: `capture` reads the scene, `ScoreRun` computes in a child process (or `score_pair.score` in this one), and
`show` writes the scene. The scores are those of the scoring protocol (`MRSynthLib.engine.scores`); neither volume is
changed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer

from MRSynthLib.engine import score_pair
from MRSynthLib.engine.checks import checked
from MRSynthLib.engine.errors import InputError
from MRSynthLib.engine.score_pair import Pair, PairScores
from MRSynthLib.engine.scores import Scores
from MRSynthLib.engine.screening import Mask
from MRSynthLib.engine.volume import Volume

from . import mrml, score_nodes
from .nodes import geometry_mismatch
from .results import SOURCE_ROLE, is_result
from .words import _


@dataclass(frozen=True)
class Job:
    """What a scoring needs of the scene, taken when it starts; nodes are held by ID.

    Attributes
    ----------
    scene : vtkMRMLScene
    synthetic_id, acquired_id : str
    pair : Pair
        The acquired volume on the synthetic one's grid.
    acquired : Volume
        As it is in the scene.
    resampled : bool
        Whether it had to be brought to that grid.
    mask : str
        Name of the mask, or "".
    """

    scene: slicer.vtkMRMLScene
    synthetic_id: str
    acquired_id: str
    pair: Pair
    acquired: Volume
    resampled: bool
    mask: str


@dataclass(frozen=True)
class Scored:
    """What `show` made.

    Attributes
    ----------
    table_node : vtkMRMLTableNode
    difference_node : vtkMRMLScalarVolumeNode
        Synthetic minus acquired, in output units (1000 is the 99.5th percentile of brain).
    scores : dict
        As in `PairScores`.
    """

    table_node: slicer.vtkMRMLTableNode
    difference_node: slicer.vtkMRMLScalarVolumeNode
    scores: dict[str, Scores]


def capture(
    synthetic: slicer.vtkMRMLScalarVolumeNode,
    acquired: slicer.vtkMRMLScalarVolumeNode,
    mask: slicer.vtkMRMLNode | None = None,
) -> Job:
    """Read from the scene what is to be scored.

    Parameters
    ----------
    synthetic : vtkMRMLScalarVolumeNode
        A result of MRSynth.
    acquired : vtkMRMLScalarVolumeNode
        The same contrast of the same head, on any grid, under any transform.
    mask : vtkMRMLLabelMapVolumeNode, vtkMRMLSegmentationNode or vtkMRMLScalarVolumeNode, optional
        Brain, on any grid. Without: what is above 0 in both contrasts of a skull-stripped pair; of a whole head, a
        rough estimate.

    Raises
    ------
    InputError
        score-not-synthetic, score-not-acquired, score-no-overlap, mask-..., input-...
    """
    _check(synthetic, acquired)
    made = mrml.volume_from_node(synthetic)
    original = mrml.volume_from_node(acquired)
    on_grid, covered = _on_grid(checked(original)[0], acquired, synthetic)
    pair = Pair(
        synthetic=made,
        acquired=on_grid,
        covered=covered,
        source=None if mask is not None else _source_of(synthetic),
        mask=None if mask is None else mrml.mask_from_node(mask, synthetic),
    )
    return Job(
        scene=synthetic.GetScene(),
        synthetic_id=synthetic.GetID(),
        acquired_id=acquired.GetID(),
        pair=pair,
        acquired=original,
        resampled=bool(geometry_mismatch(acquired, synthetic)),
        mask="" if mask is None else mask.GetName(),
    )


def show(job: Job, found: PairScores) -> Scored:
    """Put scores and difference into the scene: for the same two volumes always into the same nodes.

    Raises
    ------
    InputError
        score-changed; the scene is then as it was.
    """
    synthetic = _unchanged(job, job.synthetic_id, job.pair.synthetic)
    acquired = _unchanged(job, job.acquired_id, job.acquired)
    facts = {
        _("Synthetic volume"): synthetic.GetName(),
        _("Acquired volume"): acquired.GetName(),
        _("1000 of the acquired volume"): f"{found.scale:.6g}",
        _("Grid"): _("acquired volume resampled, linear") if job.resampled else _("the same"),
        _("Brain"): {
            "mask": _("the mask '{name}'").format(name=job.mask),
            "head": _("estimated from the head, roughly: give a brain mask for scores to compare"),
            "stripped": _("above 0 in both contrasts (skull-stripped)"),
        }[found.region],
    }
    return Scored(
        table_node=score_nodes.show_table(synthetic, acquired, found.scores, facts),
        difference_node=score_nodes.show_difference(synthetic, acquired, found.difference),
        scores=found.scores,
    )


def score(
    synthetic: slicer.vtkMRMLScalarVolumeNode,
    acquired: slicer.vtkMRMLScalarVolumeNode,
    mask: slicer.vtkMRMLNode | None = None,
) -> Scored:
    """Score at once, in this process, which waits for some seconds; parameters and errors as in `capture`."""
    job = capture(synthetic, acquired, mask)
    return show(job, score_pair.score(job.pair))


def _check(synthetic: slicer.vtkMRMLScalarVolumeNode, acquired: slicer.vtkMRMLScalarVolumeNode) -> None:
    if not is_result(synthetic):
        raise InputError(
            "score-not-synthetic",
            _("'{name}' was not synthesized by MRSynth.").format(name=synthetic.GetName()),
            "a synthetic volume.",
        )
    what = ""
    if acquired.GetAttribute("MRSynth.Synthetic"):
        what = _("'{name}' is synthetic.")
    elif acquired is synthetic.GetNodeReference(SOURCE_ROLE):
        what = _("'{name}' is the source.")
    if what:
        raise InputError(
            "score-not-acquired",
            what.format(name=acquired.GetName()),
            "the acquired volume of the contrast that was synthesized.",
        )


def _on_grid(
    volume: Volume, acquired: slicer.vtkMRMLScalarVolumeNode, synthetic: slicer.vtkMRMLScalarVolumeNode
) -> tuple[Volume, Mask]:
    """The acquired volume on the synthetic one's grid, and where it was measured."""
    if not geometry_mismatch(acquired, synthetic):
        return volume, np.ones(volume.shape, dtype=bool)
    moved = mrml.resliced(volume, acquired.GetParentTransformNode(), synthetic, linear=True, outside=np.nan)
    covered = np.isfinite(moved.voxels)
    if not covered.any():
        raise score_pair.no_overlap(volume.name)
    return moved.replaced(np.where(covered, moved.voxels, 0)), covered


def _source_of(synthetic: slicer.vtkMRMLScalarVolumeNode) -> Volume | None:
    """The source, unless it is no longer there or was moved away."""
    source = synthetic.GetNodeReference(SOURCE_ROLE)
    if source is None or geometry_mismatch(source, synthetic):
        return None
    return checked(mrml.volume_from_node(source))[0]


def _unchanged(job: Job, node_id: str, then: Volume) -> slicer.vtkMRMLScalarVolumeNode:
    """The node, which must still hold what was scored."""
    node = job.scene.GetNodeByID(node_id)
    if node is not None and node.GetClassName() == "vtkMRMLScalarVolumeNode":
        now = mrml.volume_from_node(node)
        same_place = now.shape == then.shape and np.array_equal(now.ijk_to_ras, then.ijk_to_ras)
        if same_place and np.array_equal(now.voxels, then.voxels, equal_nan=True):
            return node
    raise InputError(
        "score-changed",
        _("'{name}' was changed or removed while it was scored.").format(name=then.name),
        "volumes that stay as they are.",
    )
