"""How good the images are: cut off, thick or empty slices, bias field, noise, ghosts of motion. Never a refusal."""

from __future__ import annotations

import numpy as np

from .screening_findings import Finding
from .screening_head import Look, Mask
from .volume import Volume

CUT = {True: 0.35, False: 0.5}  # skull-stripped or not: more of the largest section at an end, and brain is cut
SIDES = (("left", "right"), ("back", "front"), ("bottom", "top"))
THICK = 6.5  # mm
FIELD = 1.9  # brightest over darkest part of the fitted field; see `screening_field`
NOISE = 0.16  # standard deviation over the median of brain
GHOST = 0.06  # mean of the air beside the head above that in the corners, over the median of brain


def findings(volume: Volume, seen: Look, field: float) -> list[Finding]:
    """What the user should know about the quality of the images; `field` as `screening_field.flattened` gives it."""
    found = [
        *cut_off(volume, seen),
        *empty_slices(volume, seen.foreground),
        *ghosts(volume, seen),
    ]
    thickest = max(volume.spacing)
    if thickest > THICK:
        found.append(f"Slices are {thickest:.1f} mm thick: small things are lost between them.")
    if field > FIELD:
        found.append(f"The bias field is strong: one side of the brain is {field:.1f} times as bright as the other.")
    sigma = noise(volume, seen.brain)
    if sigma > NOISE:
        found.append(f"The image is noisy: {100 * sigma:.0f} % of the brain's brightness.")
    return [Finding("warn", text) for text in found]


def cut_off(volume: Volume, seen: Look) -> list[str]:
    """Where the head or brain ends as if cut; below a whole head, the neck always does."""
    axes = volume.ijk_to_ras[:3, :3] / np.linalg.norm(volume.ijk_to_ras[:3, :3], axis=0)
    found = []
    for axis in range(3):  # of the array
        areas = seen.foreground.sum(axis=tuple(n for n in range(3) if n != axis))
        there = np.flatnonzero(areas)
        direction = axes[:, 2 - axis]
        patient = int(np.argmax(np.abs(direction)))
        ends = (int(there[0]), int(there[-1])) if direction[patient] > 0 else (int(there[-1]), int(there[0]))
        for side, index in zip(SIDES[patient], ends, strict=True):
            if areas[index] > CUT[seen.skull_stripped] * areas.max() and not (
                side == "bottom" and not seen.skull_stripped
            ):
                found.append(side)
    what = "brain" if seen.skull_stripped else "head"
    return [f"The {what} is cut off at the {' and '.join(sorted(found))}."] if found else []


def empty_slices(volume: Volume, foreground: Mask) -> list[str]:
    """Slices of zeros between slices that are not."""
    lost = 0
    for axis in range(3):
        filled = (volume.voxels != 0).any(axis=tuple(n for n in range(3) if n != axis))
        there = np.flatnonzero(filled)
        lost = max(lost, int(there[-1] - there[0] + 1 - len(there)))
    return [f"{lost} of the slices within the head {'is' if lost == 1 else 'are'} empty."] if lost else []


def noise(volume: Volume, brain: Mask) -> float:
    """Standard deviation of noise over the median of brain.

    From second differences along the finest axis, by their median: edges are few. Immerkær, Comput Vis Image Underst
    1996;64:300-302, in one dimension.
    """
    axis = 2 - int(np.argmin(volume.spacing))
    thin = tuple(slice(None) if n == axis else slice(None, None, 2) for n in range(3))
    lines, inside = np.moveaxis(volume.voxels[thin], axis, 0), np.moveaxis(brain[thin], axis, 0)
    whole = inside[:-2] & inside[1:-1] & inside[2:]
    if whole.sum() < 100:
        return 0.0
    left, middle, right = (lines[n : len(lines) - 2 + n][whole].astype(np.float32) for n in range(3))
    level = float(np.median(middle))
    return float(np.median(np.abs(left - 2 * middle + right))) / (0.6745 * np.sqrt(6)) / max(level, 1e-6)


def ghosts(volume: Volume, seen: Look) -> list[str]:
    """Copies of the head in the air, as of motion or pulsation along the phase-encoding axis.

    Only where the air was left in the image. The air in the shadow of the head along one axis is compared with the
    corners, which are in no shadow.
    """
    voxels, head = volume.voxels[::2, ::2, ::2], seen.foreground[::2, ::2, ::2]
    air = ~head & (voxels != 0)
    if seen.skull_stripped or air.mean() < 0.05:
        return []
    shadows = [np.broadcast_to(head.any(axis=axis, keepdims=True), head.shape) for axis in range(3)]
    corners = air & ~shadows[0] & ~shadows[1] & ~shadows[2]
    if corners.sum() < 500:
        return []
    level = float(np.median(voxels[seen.brain[::2, ::2, ::2]])) if seen.brain.any() else 0.0
    for axis in range(3):
        beside = air & shadows[axis] & ~shadows[(axis + 1) % 3] & ~shadows[(axis + 2) % 3]
        if beside.sum() > 500 and level > 0:
            excess = (float(voxels[beside].mean()) - float(voxels[corners].mean())) / level
            if excess > GHOST:
                return [f"There are ghosts in the air beside the head ({100 * excess:.0f} % of brain), as of motion."]
    return []
