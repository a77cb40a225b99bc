"""A small picture of source and result for the report: three planes through the middle of the head."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from .writing import write_aside

if TYPE_CHECKING:
    from .synthesis_result import SynthesisResult
    from .volume import Volume

FOLDER = "report_pictures"
SIDE = 112  # pixels of a plane
FIELD = 240.0  # mm that a plane shows

Pixels = NDArray[np.uint8]


def of(source: Volume, result: SynthesisResult, path: Path) -> Path:
    """Write a PNG: source, synthetic and, if there is one, reliability below each other; columns are planes.

    Axial, coronal and sagittal, in radiological orientation (the patient's left is on the right).

    Raises
    ------
    OutputError
        As `writing.write_aside`.
    """
    centre = _centre(result.volume)
    rows = [_grey(_planes(source, centre)), _grey(_planes(result.volume, centre))]
    if result.reliability is not None:
        rows.append(_heat(_planes(result.reliability, centre)))
    with write_aside(path) as aside:
        aside.write_bytes(_png(np.concatenate(rows)))
    return path


def _png(pixels: Pixels) -> bytes:
    """Pixels of shape (rows, columns, 3) as PNG.

    By way of the folder for temporary files: SimpleITK ends the process over a path that is no Unicode text.
    """
    with tempfile.TemporaryDirectory(prefix="mrsynth-") as folder:
        path = Path(folder, "picture.png")
        try:
            sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), str(path), useCompression=True)
        except RuntimeError as error:
            raise OSError(str(error)) from error
        return path.read_bytes()


def _centre(volume: Volume) -> NDArray[np.float64]:
    """Middle of what is not background, in RAS mm; of the grid where all is background."""
    marked = volume.voxels[::4, ::4, ::4] > 0
    if not marked.any():
        marked = np.ones_like(marked)
    kji = [4 * np.flatnonzero(marked.any(axis=tuple(n for n in range(3) if n != axis))).mean() for axis in range(3)]
    return (volume.ijk_to_ras @ np.array([*kji[::-1], 1.0]))[:3]


def _planes(volume: Volume, centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """Axial, coronal and sagittal plane side by side, shape (SIDE, 3 * SIDE); 0 outside the volume."""
    down = np.linspace(FIELD / 2, -FIELD / 2, SIDE)  # from superior to inferior, or from anterior to posterior
    planes = []
    # The patient's right (R > 0 in RAS) is on the left of the picture, and so is anterior in the sagittal plane.
    for across, along in ((0, 1), (0, 2), (1, 2)):
        points = np.tile(centre, (SIDE, SIDE, 1))
        points[..., across] += down[None, :]
        points[..., along] += down[:, None]
        planes.append(_sampled(volume, points))
    return np.concatenate(planes, axis=1)


def _sampled(volume: Volume, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Nearest voxels at RAS points, shape (rows, columns, 3)."""
    to_ijk = np.linalg.inv(volume.ijk_to_ras)
    index = np.rint(points @ to_ijk[:3, :3].T + to_ijk[:3, 3]).astype(int)[..., ::-1]
    inside = ((index >= 0) & (index < np.array(volume.shape))).all(axis=-1)
    index[~inside] = 0
    return np.where(inside, volume.voxels[index[..., 0], index[..., 1], index[..., 2]], 0).astype(np.float64)


def _unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    above = values[np.isfinite(values) & (values > 0)]
    top = float(np.percentile(above, 99)) if above.size else 1.0
    return np.clip(np.nan_to_num(values) / top, 0, 1)


def _grey(values: NDArray[np.float64]) -> Pixels:
    return np.repeat((_unit(values)[..., None] * 255).astype(np.uint8), 3, axis=-1)


def _heat(values: NDArray[Any]) -> Pixels:
    """Expected error from black over red and yellow to white; white is 400 of the 1000 of brain."""
    unit = np.clip(values / 400.0, 0, 1)[..., None]
    return (np.clip(3 * unit - np.array([0.0, 1.0, 2.0]), 0, 1) * 255).astype(np.uint8)
