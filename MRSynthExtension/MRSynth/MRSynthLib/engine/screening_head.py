"""Where the head is, whether the skull is on, and where brain is.

A simple look that the intensity scale rests on. It works on a coarse copy (about 2.5 mm).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from .morphology import closed
from .volume import Volume

Mask = NDArray[np.bool_]

COARSE = 2.5  # mm
AIR = 0.08  # of the 98th percentile of what is above 0: below it is air or noise
UPPER = 90.0  # mm below the vertex in which skull and brain lie concentrically
SCALP = 18.0  # mm from the head's surface into the brain
TOP = 18.0  # mm below the vertex in which a slice is too small to tell skull from brain
BRAIN_HEIGHT = 85.0  # mm below the vertex; further down, fat and vessels of the skull base are as bright as brain
HEAD_DILATION = 5.0  # mm; what the coarse look may cut off at the skin

# Skull-stripped against whole head: two of three must say "head". Seen on 28 volumes of 9 studies: the dark rim
# (skull) is 0.00-0.17 of the shell when stripped and 0.21-0.84 on heads, volume 0.9-1.7 and 2.1-2.5 l,
# silhouette from above 130-195 and 218-231 cm2.
HEAD_DARK_RIM = 0.20
HEAD_VOLUME = 1.95e6  # mm3
HEAD_SILHOUETTE = 20500.0  # mm2


@dataclass(frozen=True)
class Look:
    """What a first look at a volume finds.

    Attributes
    ----------
    foreground : ndarray of bool, shape (k, j, i)
        Head or brain, without the background.
    brain : ndarray of bool, shape (k, j, i)
        Brain: the foreground of a skull-stripped volume, else a rough estimate (the depth of the head).
    skull_stripped : bool
    """

    foreground: Mask
    brain: Mask
    skull_stripped: bool


def _coarse(voxels: NDArray[Any], spacing: tuple[float, ...]) -> tuple[NDArray[np.float32], tuple[int, ...]]:
    steps = tuple(max(1, int(round(COARSE / s))) for s in spacing)
    return np.maximum(voxels[tuple(slice(None, None, step) for step in steps)], 0).astype(np.float32), steps


def _head(coarse: NDArray[np.float32], spacing: tuple[float, ...]) -> tuple[Mask, NDArray[np.float32]]:
    """Largest filled object, and the depth (mm) of each voxel inside it."""
    above = coarse[coarse > 0]
    threshold = AIR * float(np.percentile(above, 98)) if above.size else 0.0
    k, j, i = (max(1, int(round(8 / s))) for s in spacing)
    image = sitk.GetImageFromArray(closed(coarse > threshold, (k, j, i)).astype(np.uint8))
    image.SetSpacing(spacing[::-1])
    labels = sitk.RelabelComponent(sitk.ConnectedComponent(sitk.BinaryFillhole(image)))
    # Around the field of view lies nothing: a border of 0 keeps the depth right where the head is cut off.
    largest = sitk.ConstantPad(sitk.Cast(labels == 1, sitk.sitkUInt8), [1, 1, 1], [1, 1, 1], 0)
    depth = sitk.SignedMaurerDistanceMap(largest, insideIsPositive=True, squaredDistance=False, useImageSpacing=True)
    depths = sitk.GetArrayFromImage(depth)[1:-1, 1:-1, 1:-1]
    return depths > 0, depths


def _superior(ijk_to_ras: NDArray[np.float64]) -> tuple[int, bool]:
    """The array axis that runs most nearly to superior, and whether it runs downwards."""
    up = (ijk_to_ras[2, :3] / np.linalg.norm(ijk_to_ras[:3, :3], axis=0))[::-1]
    axis = int(np.argmax(np.abs(up)))
    return axis, bool(up[axis] < 0)


def _below_vertex(head: Mask, ijk_to_ras: NDArray[np.float64], spacing: tuple[float, ...]) -> NDArray[np.float32]:
    """Distance of each slice from the top of the head, in mm, broadcastable to the array."""
    axis, downwards = _superior(ijk_to_ras)
    slices = np.flatnonzero(head.any(axis=tuple(n for n in range(3) if n != axis)))
    index = np.arange(head.shape[axis])
    top = (slices[0] if downwards else slices[-1]) if slices.size else 0
    below = (index - top if downwards else top - index) * spacing[axis]
    shape = [1, 1, 1]
    shape[axis] = -1
    return below.reshape(shape).astype(np.float32)


def _is_head(
    coarse: NDArray[np.float32],
    head: Mask,
    depth: NDArray[np.float32],
    below: NDArray[np.float32],
    spacing: tuple[float, ...],
    superior: int,
) -> bool:
    upper = head & (below > TOP) & (below < UPPER)
    deep = coarse[upper & (depth > 20)]
    rim = coarse[upper & (depth >= 5) & (depth < 9)]
    dark_rim = float(np.mean(rim < 0.35 * np.median(deep))) if deep.size and rim.size else 0.0
    volume = float(head.sum() * np.prod(spacing))
    in_plane = float(np.prod([s for axis, s in enumerate(spacing) if axis != superior]))
    silhouette = float(head.any(axis=superior).sum() * in_plane)
    votes = (dark_rim > HEAD_DARK_RIM, volume > HEAD_VOLUME, silhouette > HEAD_SILHOUETTE)
    return sum(bool(vote) for vote in votes) >= 2


def _enlarge(mask: Mask, steps: tuple[int, ...], shape: tuple[int, ...]) -> Mask:
    for axis, step in enumerate(steps):
        mask = np.repeat(mask, step, axis=axis)
    return mask[: shape[0], : shape[1], : shape[2]]


def without_background(voxels: NDArray[Any]) -> Mask:
    """Everything but the exact zeros that reach the border of the volume; zeros inside the brain are kept."""
    zeros = np.pad(voxels == 0, 1, constant_values=True)
    # Not BinaryFillhole, which gives the same, but takes a minute where noise leaves single zeros all over the air.
    components = sitk.ConnectedComponent(sitk.GetImageFromArray(zeros.astype(np.uint8)))
    labels = sitk.GetArrayViewFromImage(components)
    return np.asarray(labels != labels[0, 0, 0])[1:-1, 1:-1, 1:-1]


def look(volume: Volume) -> Look:
    """Find head and brain.

    Parameters
    ----------
    volume : Volume
        Finite intensities.

    Returns
    -------
    Look
    """
    spacing = volume.spacing[::-1]
    coarse, steps = _coarse(volume.voxels, spacing)
    coarse_spacing = tuple(s * step for s, step in zip(spacing, steps, strict=True))
    head, depth = _head(coarse, coarse_spacing)
    below = _below_vertex(head, volume.ijk_to_ras, coarse_spacing)
    superior = _superior(volume.ijk_to_ras)[0]
    foreground = without_background(volume.voxels)
    if not _is_head(coarse, head, depth, below, coarse_spacing, superior):
        if foreground.mean() > 0.95:  # no background of exact zeros: noise around the brain
            foreground &= _enlarge(depth > -HEAD_DILATION, steps, volume.shape)
        return Look(foreground, foreground & (volume.voxels > 0), True)
    foreground &= _enlarge(depth > -HEAD_DILATION, steps, volume.shape)
    brain = head & (depth > SCALP) & (below < BRAIN_HEIGHT)
    if not brain.any():
        brain = head
    return Look(foreground, _enlarge(brain, steps, volume.shape) & (volume.voxels > 0), False)
