"""From frames to a grid: which belong together, in which order, and where their voxels lie in the patient.

The affine is that of the standard (PS3.3 C.7.6.2.1.1) with the steps between the slices as they are: a tilted stack
stays sheared, and nothing is resampled. A stack with a gap, a doubled slice or unequal steps is refused, and the place
named.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from .dicom_frames import TELLING, Frame
from .errors import InputError

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
UNEQUAL_STEPS = 0.02  # of the usual step between slices; rounding in headers stays below
SAME_PLACE = 0.01  # mm
SAME_PLANE = 1e-3  # of a pixel: how far the steps along rows and columns may differ from slice to slice
RIGHT_ANGLE = 1e-2  # how far rows and columns may be from one
WHOLE = "Export the whole series again from its archive; if slices were not acquired, it cannot be used."


def parts(frames: Sequence[Frame]) -> list[tuple[str, list[Frame]]]:
    """Split the frames of a series into stacks that hold each place once, where a tag tells them apart.

    Parameters
    ----------
    frames : sequence of Frame
        Of one series.

    Returns
    -------
    list of (str, list of Frame)
        What tells the part from the others ("EchoTime 90"; "" for a series that is one stack), and its frames.
        Places that no tag tells apart stay doubled.
    """
    stacks = _planes(frames)
    if len(stacks) > 1:
        labels = [f"{_plane_name(stack[0])} stack {n}" for n, stack in enumerate(stacks, 1)]
        return _named(zip(labels, stacks, strict=True))
    most = _most_at_one_place(frames)
    for name in TELLING if most > 1 else ():
        groups: dict[str, list[Frame]] = {}
        for frame in frames:
            groups.setdefault(frame.tags.get(name, "none"), []).append(frame)
        # A tag with more values than frames at one place counts slices, not stacks.
        if 1 < len(groups) <= most:
            told = sorted(groups.items(), key=lambda item: _natural(item[0]))
            return _named((f"{name} {value}", group) for value, group in told)
    return [("", list(frames))]


def _named(groups: Iterable[tuple[str, list[Frame]]]) -> list[tuple[str, list[Frame]]]:
    """The groups, each split further where it has to be."""
    return [
        (", ".join(filter(None, (label, inner))), stack) for label, group in groups for inner, stack in parts(group)
    ]


def _planes(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Frames by size, spacing and direction."""
    groups: list[list[Frame]] = []
    for frame in frames:
        group = next((group for group in groups if _same_plane(group[0], frame)), None)
        if group is None:
            groups.append([frame])
        else:
            group.append(frame)
    return groups


def _same_plane(one: Frame, other: Frame) -> bool:
    if (one.rows, one.columns) != (other.rows, other.columns):
        return False
    axes, others = (np.array([frame.along_row, frame.along_column]) for frame in (one, other))
    if not np.isfinite(axes).all() or not np.isfinite(others).all():
        return bool(np.isfinite(axes).all() == np.isfinite(others).all())
    return bool(np.abs(axes - others).max() <= SAME_PLANE * np.linalg.norm(axes, axis=1).min())


def _plane_name(frame: Frame) -> str:
    normal = np.nan_to_num(np.abs(frame.normal))
    return ("sagittal", "coronal", "axial")[int(np.argmax(normal))]


def _natural(value: str) -> tuple[float, str]:
    try:
        return float(value), value
    except ValueError:
        return float("inf"), value


def _most_at_one_place(frames: Sequence[Frame]) -> int:
    positions = np.array([frame.position for frame in frames])
    if len(frames) < 2 or not np.isfinite(positions).all():
        return 1
    return int(np.unique(np.round(positions / SAME_PLACE / 2), axis=0, return_counts=True)[1].max())


def stack(frames: Sequence[Frame], name: str) -> tuple[list[Frame], NDArray[np.float64]]:
    """Order frames along their normal and give the affine of the volume that they make up.

    Parameters
    ----------
    frames : sequence of Frame
        Of one part: one size, spacing and direction.
    name : str
        For messages.

    Returns
    -------
    frames : list of Frame
        Slice 0 first.
    ijk_to_ras : ndarray, shape (4, 4)

    Raises
    ------
    InputError
        input-affine, dicom-slices.
    """
    first = frames[0]
    _check_plane(first, name)
    if not np.isfinite([frame.position for frame in frames]).all():
        raise InputError("input-affine", f"{name} does not tell where its slices lie.", "ImagePositionPatient in each.")
    ordered = sorted(frames, key=lambda frame: float(frame.position @ first.normal))
    if len(ordered) < 2:
        raise InputError("input-not-3d", f"{name} has one slice.", "one volume with three dimensions.")
    positions = np.array([frame.position for frame in ordered])
    _check_steps(ordered, positions, positions @ first.normal, name)
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1] = first.along_row, first.along_column
    lps[:3, 2] = (positions[-1] - positions[0]) / (len(ordered) - 1)
    lps[:3, 3] = positions[0]
    _check_line(positions, lps[:3, 2], name)
    return ordered, LPS_TO_RAS @ lps


def _check_plane(frame: Frame, name: str) -> None:
    """Refuse a plane without directions."""
    spacing = [float(np.linalg.norm(axis)) for axis in (frame.along_row, frame.along_column)]
    if not np.isfinite(spacing).all() or not all(spacing):
        expected = "ImageOrientationPatient and PixelSpacing in each."
        raise InputError("input-affine", f"{name} does not tell how its slices lie.", expected)
    if abs(frame.along_row @ frame.along_column) > RIGHT_ANGLE * spacing[0] * spacing[1]:
        raise InputError("input-affine", f"{name} has rows and columns at no right angle.", "a right angle.")


def _check_steps(
    ordered: Sequence[Frame], positions: NDArray[np.float64], along: NDArray[np.float64], name: str
) -> None:
    """A missing or doubled slice would be stretched over without a word: refuse it, and say where it is."""
    steps = np.diff(along)
    usual = float(np.median(steps[steps >= SAME_PLACE])) if (steps >= SAME_PLACE).any() else 0.0
    odd = np.flatnonzero(np.abs(steps - usual) > UNEQUAL_STEPS * usual) if usual else np.arange(1)
    if not odd.size:
        return
    index = int(odd[0])
    step, place = float(steps[index]), f"slices {index + 1} and {index + 2} of {len(ordered)}"
    files = f"'{ordered[index].path.name}' and '{ordered[index + 1].path.name}'"
    if step < SAME_PLACE:
        seen = f"In {name}, {place} lie at the same place ({files})."
        raise InputError("dicom-slices", seen, "each slice once.", "Remove the doubled slice, or choose one part.")
    multiple = step / usual
    gap = f": {round(multiple) - 1} missing" if round(multiple) > 1 and abs(multiple - round(multiple)) < 0.1 else ""
    at = "at {:.1f}, {:.1f}, {:.1f} mm (RAS)".format(*(LPS_TO_RAS[:3, :3] @ positions[index]))
    seen = f"In {name}, {place} are {step:g} mm apart, most {usual:g} mm{gap} ({files}, {at})."
    raise InputError("dicom-slices", seen, "slices at equal steps, without gaps.", WHOLE)


def _check_line(positions: NDArray[np.float64], step: NDArray[np.float64], name: str) -> None:
    """Slices may lie along a leaning line (a tilted gantry), but on one line and at equal steps."""
    off = positions - (positions[0] + np.arange(len(positions))[:, None] * step)
    distance = np.linalg.norm(off, axis=1)
    worst = int(np.argmax(distance))
    if distance[worst] > 2 * UNEQUAL_STEPS * float(np.linalg.norm(step)):
        seen = f"In {name}, slice {worst + 1} of {len(positions)} lies {distance[worst]:.2g} mm beside the others."
        raise InputError("dicom-slices", seen, "slices on a straight line.", WHOLE)
