"""From a run's result to a node beside its source: name, grid, provenance, window, place in the hierarchy.

A run has three steps: `capture` reads the scene, a runner computes in a child process, `show` writes the
scene. Nothing but the result is written: not the source, not its display, not its place in the subject
hierarchy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
from numpy.typing import NDArray

from MRSynthLib import __version__
from MRSynthLib.engine.errors import InputError, OutputError
from MRSynthLib.engine.intensity import SCALE
from MRSynthLib.engine.provenance import DISCLAIMER
from MRSynthLib.engine.volume import Volume

from . import score_nodes, trust
from .exchange import RunResult
from .marks import MARK, outdate
from .mrml import ijk_to_ras, mask_from_node, node_from_volume, volume_from_node
from .nodes import geometry_mismatch, place_beside, remove, set_window
from .tags import tagged
from .words import _

SOURCE_ROLE = "MRSynthSource"
DIRECTION = "MRSynth.Direction"  # attribute that results have ("T1 to T2"), and what tells about them has not
# Up to this cycle difference |x - G(G(x))|, in output units, is shown as a ramp.
CYCLE_WINDOW = 200


@dataclass(frozen=True)
class Job:
    """What a run needs of the scene, taken when it starts.

    The source is held by its node ID, so that what the user selects, renames or deletes meanwhile cannot turn
    the result into one of another volume.
    """

    scene: slicer.vtkMRMLScene
    source_id: str
    volume: Volume
    mask: Volume | None
    like: Volume | None = None


def is_result(node: slicer.vtkMRMLNode | None) -> bool:
    """Whether a node holds a synthetic volume, and not a map of one."""
    return node is not None and bool(node.GetAttribute("MRSynth.Synthetic") and node.GetAttribute(DIRECTION))


def capture(
    input_node: slicer.vtkMRMLScalarVolumeNode,
    mask_node: slicer.vtkMRMLNode | None = None,
    output_nodes: tuple[slicer.vtkMRMLScalarVolumeNode | None, ...] = (),
    like_node: slicer.vtkMRMLScalarVolumeNode | None = None,
) -> Job:
    """Read a run's input from the scene and check where the result is to go.

    Parameters
    ----------
    output_nodes : tuple of vtkMRMLScalarVolumeNode or None
        What takes the synthetic volume, then what takes the cycle difference.

    Raises
    ------
    InputError
        If a node is of the wrong kind, has no voxels or is in no scene.
    OutputError
        If an output node is the source, mask or reference, or the other output node or a map of it, or no plain scalar
        volume, or holds a volume of the user's or a map.
    """
    volume = tagged(volume_from_node(input_node), input_node)
    if input_node.GetScene() is None:
        raise InputError("input-not-found", f"The node '{volume.name}' is in no scene.", "a node of a scene.")
    for index, node in enumerate(output_nodes):
        if node is not None:
            others = [*output_nodes[:index], *output_nodes[index + 1 :]]
            _check_output(node, (input_node, mask_node, like_node), others, takes_result=index == 0)
    mask = mask_from_node(mask_node, input_node) if mask_node is not None else None
    like = tagged(volume_from_node(like_node), like_node) if like_node is not None else None
    return Job(scene=input_node.GetScene(), source_id=input_node.GetID(), volume=volume, mask=mask, like=like)


def _check_output(
    node: slicer.vtkMRMLScalarVolumeNode,
    inputs: Sequence[slicer.vtkMRMLNode | None],
    others: Sequence[slicer.vtkMRMLScalarVolumeNode | None],
    takes_result: bool,
) -> None:
    def refusal(code: str, seen: str, expected: str) -> OutputError:
        expected += ", or none (a new one is made)."
        return OutputError(code, f"The output node '{node.GetName()}' {seen}.", expected, "Choose another output node.")

    if node in inputs:
        raise refusal("output-is-input", "is also the source, the mask or the reference", "a node of its own")
    if node in (*others, *map(trust.map_of, others), *map(trust.interval_of, others)):
        raise refusal("output-is-input", "is also the other output node, or a map of it", "a node of its own")
    if node.GetClassName() != "vtkMRMLScalarVolumeNode" or node.GetScene() is None:
        raise refusal("output-format", "is no scalar volume of the scene", "a vtkMRMLScalarVolumeNode of the scene")
    image = node.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0:
        return
    if not node.GetAttribute("MRSynth.Synthetic"):
        raise refusal("output-exists", "holds a volume that MRSynth did not make", "an empty node, a former result")
    # Maps made by a run have a description and no direction; cycle differences are not marked.
    told = node.GetAttribute("MRSynth.Description") is not None and not node.GetAttribute(DIRECTION)
    if node.GetAttribute(f"MRSynth.{MARK}") or (takes_result and told):
        raise refusal("output-exists", "holds a map, not a synthetic volume", "an empty node, a former result")


def show(
    job: Job,
    voxels: NDArray[Any],
    info: Mapping[str, Any],
    output_node: slicer.vtkMRMLScalarVolumeNode | None = None,
) -> slicer.vtkMRMLScalarVolumeNode:
    """Put a synthetic volume into the scene, beside its source.

    Parameters
    ----------
    voxels : ndarray, shape (k, j, i)
        On the source's grid, output units (1000 = 99.5th percentile of brain).
    info : mapping
        The worker's account of the run.
    output_node : vtkMRMLScalarVolumeNode, optional
        Takes the result and keeps its name; a new node is made without.

    Returns
    -------
    vtkMRMLScalarVolumeNode
        Complete, or not there at all: a new node whose making fails is removed again.
    """
    target = str(info["target_contrast"]).upper()
    direction = f"{str(info['source_contrast']).upper()} to {target}"
    attributes = {
        "Description": info["description"],
        "Model": info["checkpoint_name"],
        "ModelSHA256": info["checkpoint_sha256"],
        "Direction": direction,
        "SourceContrastReason": info["contrast_reason"],
        "Device": info["device"],
        "Precision": info["precision"],
        "DeviceReason": info["device_reason"],
        "Seconds": f"{info['seconds']:.1f}",
        "Warnings": " ".join(info["warnings"]),
    }
    node = _show(job, voxels, f"synthetic {target}", SCALE, attributes, output_node)
    score_nodes.outdate_scores(node)
    return node


def show_run(
    job: Job,
    run: RunResult,
    output_node: slicer.vtkMRMLScalarVolumeNode | None = None,
    cycle_node: slicer.vtkMRMLScalarVolumeNode | None = None,
) -> slicer.vtkMRMLScalarVolumeNode:
    """Put all of a run's results into the scene, and return the synthetic volume's node.

    Where no node is given a new one is made; if a part fails, no new one stays.
    """
    former = trust.map_of(output_node), trust.interval_of(output_node)
    node = show(job, run.voxels, run.info, output_node)
    made = [] if output_node is not None else [node]
    try:
        if run.cycle is not None:
            show_cycle_difference(job, run.cycle, run.info, cycle_node)
        maps: list[slicer.vtkMRMLScalarVolumeNode | None] = [None, None]
        if run.reliability is not None and run.interval is not None:
            for index, (voxels, what) in enumerate(
                ((run.reliability, "expected error"), (run.interval, "90 % interval"))
            ):
                maps[index] = _show_map(job, voxels, run.info, f"{what} of {node.GetName()}", former[index])
                if former[index] is None:
                    made.append(maps[index])
        trust.remember(node, run.info.get("trust"), *maps)
        for each in former:
            if each is not None and each not in maps:
                outdate(each)
    except Exception:
        for each in made:
            remove(each)
        raise
    return node


def _show_map(
    job: Job,
    voxels: NDArray[Any],
    info: Mapping[str, Any],
    what: str,
    output_node: slicer.vtkMRMLScalarVolumeNode | None,
) -> slicer.vtkMRMLScalarVolumeNode:
    """Put a map of errors, in its colours, into a node."""
    node = _show_measure(job, voxels, info, what, trust.WINDOW, output_node)
    try:
        trust.paint(node)
    except Exception:
        if output_node is None:
            remove(node)
        raise
    return node


def show_cycle_difference(
    job: Job,
    difference: NDArray[Any],
    info: Mapping[str, Any],
    output_node: slicer.vtkMRMLScalarVolumeNode | None = None,
) -> None:
    """Put the cycle difference |x - G(G(x))|, in output units, into a node, beside the source."""
    _show_measure(job, difference, info, "cycle difference", CYCLE_WINDOW, output_node)


def _show_measure(
    job: Job,
    voxels: NDArray[Any],
    info: Mapping[str, Any],
    what: str,
    window: float,
    output_node: slicer.vtkMRMLScalarVolumeNode | None,
) -> slicer.vtkMRMLScalarVolumeNode:
    """Put what a run tells about its result, in output units, into a node, beside the source."""
    attributes = {
        "Description": f"{what}, {info['description']}",
        "Model": info["checkpoint_name"],
        "ModelSHA256": info["checkpoint_sha256"],
    }
    return _show(job, voxels, what, window, attributes, output_node)


def source_removed(job: Job) -> InputError:
    """Return the error of a run whose source is in the scene no more."""
    return InputError(
        "input-not-found",
        _("The volume '{name}' was removed while its synthesis ran.").format(name=job.volume.name),
        "a source that stays in the scene.",
        _("Load the volume again."),
    )


def _show(
    job: Job,
    voxels: NDArray[Any],
    what: str,
    window: float,
    attributes: Mapping[str, str],
    output_node: slicer.vtkMRMLScalarVolumeNode | None,
) -> slicer.vtkMRMLScalarVolumeNode:
    source = job.scene.GetNodeByID(job.source_id)
    if source is None:
        raise source_removed(job)
    image = source.GetImageData()
    shape = image.GetDimensions()[::-1] if image is not None else None
    if shape != job.volume.shape or not np.array_equal(ijk_to_ras(source), job.volume.ijk_to_ras):
        raise InputError(
            "input-affine",
            f"The geometry of '{source.GetName()}' was changed while its synthesis ran.",
            "a source that stays as it was.",
            "Run again.",
        )
    computed = node_from_volume(job.volume.replaced(voxels))
    name = f"{source.GetName()} [{what}]"
    node = output_node or job.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", job.scene.GenerateUniqueName(name))
    try:
        with slicer.util.NodeModify(node):
            node.CopyOrientation(source)
            node.SetAndObserveImageData(computed.GetImageData())
            node.SetAndObserveTransformNodeID(source.GetTransformNodeID())
            # A node that held an acquired series must not go on claiming its DICOM instances.
            node.RemoveAttribute("DICOM.instanceUIDs")
            _forget(node)
            node.SetDescription(f"{attributes['Description']}. {DISCLAIMER}")
            node.SetAttribute("MRSynth.Synthetic", "1")
            node.SetAttribute("MRSynth.Version", __version__)
            node.SetAttribute("MRSynth.SourceID", job.source_id)
            node.SetAttribute("MRSynth.SourceName", source.GetName())
            for key, value in attributes.items():
                node.SetAttribute(f"MRSynth.{key}", value)
            node.SetNodeReferenceID(SOURCE_ROLE, job.source_id)
        mismatch = geometry_mismatch(source, node)
        if mismatch:
            raise RuntimeError(f"The result is not on the grid of '{source.GetName()}': {mismatch}")
        set_window(node, 0, window)
        node.GetDisplayNode().SetDefaultColorMap()  # grey, where the node held a map
        place_beside(source, node, what)
    except Exception:
        if output_node is None:
            remove(node)
        raise
    return node


def _forget(node: slicer.vtkMRMLScalarVolumeNode) -> None:
    """Take from a node what MRSynth said of the volume that it held before."""
    for name in node.GetAttributeNames():
        if name.startswith("MRSynth."):
            node.RemoveAttribute(name)
    trust.remember(node, None, None, None)
