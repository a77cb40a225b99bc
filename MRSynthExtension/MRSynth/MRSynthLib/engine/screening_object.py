"""Is there a head or brain in the volume at all, and is it MR? Size, outline and tissue, each by a number of its own.

Every number that refuses lies far from all heads that were at hand and from crude computed ones: what is refused here
is not a bad image of a head, but an image of something else. docs/screening.md says how far.
"""

from __future__ import annotations

import numpy as np

from .screening_copy import CELL, Array, Copy, averaged
from .screening_findings import Finding
from .screening_head import Mask
from .volume import Volume

AIR_HU, TISSUE_HU = (-1100.0, -900.0), (-150.0, 150.0)
AIR_SHARE, TISSUE_SHARE = 0.10, 0.03  # of all voxels

RELATED = 0.15  # correlation of neighbours 3 mm apart; a head's is above 0.7, that of noise 0
FULL = 0.93  # of the field of view; a head leaves corners free
SECTION = 45_000.0  # mm2 of a slice; heads have up to 30,000, and ghosts of motion may widen them
TUBE_LENGTH, TUBE_ENDS = 110.0, 0.6  # mm; section of both ends over the largest
JUDGED_VOLUME, JUDGED_HEIGHT = 7e5, 90.0  # mm3, mm; the outlines of smaller brains and of slabs are not known
LEAST_MATCH = 0.75  # correlation of the outline; of all heads, turned and cut ones too, at least 0.80
EVEN = 1.12  # 90th over 10th percentile deep inside; of brain at least 1.2
BLOCK = 3  # cells; 9 mm
PLAIN = 0.045  # median step between neighbouring blocks over the range of all; of heads and brains at least 0.08
LEAST_BLOCKS = 100
DEEP = 22.0  # mm below the surface of the head; brain, not skull
BRIGHT_RIM = 2.0  # median 4 to 14 mm below the surface over that of the inside: bone in CT; skull is dark in MR


def findings(volume: Volume, copy: Copy, match: float) -> list[Finding]:
    """What says by value, size and outline that this is no brain MR.

    Parameters
    ----------
    volume : Volume
    copy : Copy
    match : float
        How well the outline fits that of a head or brain, in the best of all positions; see `screening_pose`.
    """
    if is_hounsfield(volume):
        return [Finding("refuse", "Its values are Hounsfield units: this is CT, not MR.")]
    if relation(volume) < RELATED:
        return [Finding("refuse", "Neighbouring voxels have nothing to do with each other: this is noise.")]
    inside = copy.share > 0.5
    if not inside.any():
        return [Finding("refuse", "There is no object in it.")]
    if fills_the_view(volume, inside):
        return [Finding("refuse", "The field of view is full: there is no head with air around it.")]
    section, first, last, height = _sections(inside)
    if section > SECTION:
        return [Finding("refuse", f"A slice of the object has {section / 100:.0f} cm²: it is larger than a head.")]
    if height > TUBE_LENGTH and min(first, last) > TUBE_ENDS:
        return [Finding("refuse", "The object is as wide above and below as in the middle: a limb or trunk, no head.")]
    if judged(copy) and match < LEAST_MATCH:
        return [Finding("refuse", f"The outline fits no head or brain, however it is turned ({match:.2f}).")]
    return []


def judged(copy: Copy) -> bool:
    """Whether the object is large enough, and enough of it is there, for its outline to say anything."""
    inside = copy.share > 0.5
    height = np.count_nonzero(inside.any(axis=(0, 1))) * CELL
    return bool(inside.sum() * CELL**3 >= JUDGED_VOLUME and height >= JUDGED_HEIGHT)


def is_hounsfield(volume: Volume) -> bool:
    """Whether there is air at -1000, and soft tissue around 0."""
    voxels = volume.voxels.ravel()[::7]
    air, tissue = (float(np.mean((voxels > low) & (voxels < high))) for low, high in (AIR_HU, TISSUE_HU))
    return air > AIR_SHARE and tissue > TISSUE_SHARE


def relation(volume: Volume) -> float:
    """Correlation of voxels about 3 mm apart along the finest axis."""
    axis = 2 - int(np.argmin(volume.spacing))
    step = max(1, round(CELL / min(volume.spacing)))
    thin = tuple(slice(None) if n == axis else slice(None, None, 3) for n in range(3))
    lines = np.moveaxis(volume.voxels[thin], axis, 0).astype(np.float32)
    first, second = lines[:-step], lines[step:]
    if first.size < 1000:
        return 1.0
    first, second = first - first.mean(), second - second.mean()
    scale = float(np.sqrt(np.square(first).sum() * np.square(second).sum()))
    return float((first * second).sum()) / scale if scale > 0 else 1.0


def fills_the_view(volume: Volume, inside: Mask) -> bool:
    """Whether the object is the whole image."""
    return bool(inside.sum() * CELL**3 > FULL * volume.voxels.size * np.prod(volume.spacing))


def _sections(inside: Mask) -> tuple[float, float, float, float]:
    """Of the axial slices of the object: the largest area (mm²), the first and last over it, and the height (mm)."""
    areas = inside.sum(axis=(0, 1)) * CELL**2
    there = np.flatnonzero(areas)
    largest = float(areas.max())
    # The last slice may be a sliver; the one before it tells whether the object goes on.
    ends = there[[min(1, len(there) - 1), max(-2, -len(there))]]
    first, last = (float(areas[n]) / largest for n in ends)
    return largest, first, last, len(there) * CELL


def tissue(copy: Copy, depth: Array) -> list[Finding]:
    """What says by its inside that this is no brain MR, of an object that is `judged`.

    Parameters
    ----------
    copy : Copy
    depth : ndarray
        Of the copy.
    """
    inside = copy.signal[depth > (8.0 if copy.skull_stripped else DEEP)]
    deep, rim = copy.signal[depth > DEEP], copy.signal[(depth > 4) & (depth < 14)]
    if min(inside.size, deep.size, rim.size) < 100:
        return []
    low, high = np.percentile(inside, (10, 90))
    if high < EVEN * max(low, 1e-6):
        seen = f"90th over 10th percentile {high / max(low, 1e-6):.2f}"
        return [Finding("refuse", f"It is even inside ({seen}): there is no tissue of a brain in it.")]
    if variety(copy) < PLAIN:
        return [Finding("refuse", "It changes at a few edges only: there is no tissue of a brain in it.")]
    # Also where the skull was not recognised: bone in CT is not dark.
    if np.median(rim) > BRIGHT_RIM * np.median(deep):
        return [Finding("refuse", "What surrounds the brain is far brighter than it, as bone is in CT.")]
    return []


def variety(copy: Copy) -> float:
    """How much the inside changes from place to place, over the range of its brightness; 1 where there is too little.

    The median over neighbouring blocks of 9 mm. A brain changes everywhere; a bottle, limb or test object only at few
    edges, which a median does not see. Noise hardly counts in blocks.
    """
    share, signal = (averaged(array, (BLOCK,) * 3) for array in (copy.share, copy.signal))
    whole = share > 0.999
    if np.count_nonzero(whole) < LEAST_BLOCKS:
        return 1.0
    steps = [np.abs(np.diff(signal, axis=n))[_both(whole, n)] for n in range(3)]
    low, high = np.percentile(signal[whole], (10, 90))
    return float(np.median(np.concatenate(steps)) / max(high - low, 1e-6))


def _both(whole: Mask, axis: int) -> Mask:
    """Where a block and the next one along an axis are whole."""
    first, second = (whole.take(range(n, whole.shape[axis] - 1 + n), axis) for n in (0, 1))
    return np.asarray(first & second)
