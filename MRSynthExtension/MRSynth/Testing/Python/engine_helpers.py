"""What the engine's tests share: grids of every kind, blobs on them, and a small head for quick runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from MRSynthLib.engine.volume import Volume


def grid(shape: tuple[int, int, int], spacing: tuple[float, float, float], axes: np.ndarray) -> np.ndarray:
    """Affine of a grid of shape (k, j, i), spacing (i, j, k) mm and unit axes as columns, centred on the origin."""
    affine = np.eye(4)
    affine[:3, :3] = axes * np.array(spacing)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return affine


def orthogonal_axes() -> Iterator[tuple[str, np.ndarray]]:
    """The 48 ways in which voxel axes can run along the patient's, with names such as "RAS" and "PIL"."""
    names = ("LR", "PA", "IS")  # per patient axis: the negative and the positive end
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            axes = np.zeros((3, 3))
            for column, (row, sign) in enumerate(zip(order, signs, strict=True)):
                axes[row, column] = sign
            yield "".join(names[row][sign > 0] for row, sign in zip(order, signs, strict=True)), axes


def axes_of(name: str) -> np.ndarray:
    """Unit axes by name, e.g. "PSR"."""
    return dict(orthogonal_axes())[name]


def rotated(axes: np.ndarray, degrees: tuple[float, float, float]) -> np.ndarray:
    """`axes` turned about R, then A, then S."""
    for n, angle in enumerate(np.radians(degrees)):
        turn = np.eye(3)
        p, q = [m for m in range(3) if m != n]
        turn[[p, p, q, q], [p, q, p, q]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        axes = turn @ axes
    return axes


def sheared(axes: np.ndarray, degrees: float) -> np.ndarray:
    """`axes` with the third leaning towards the second, as with a tilted gantry."""
    lean = np.radians(degrees)
    leaning = axes.copy()
    leaning[:, 2] = np.cos(lean) * axes[:, 2] + np.sin(lean) * axes[:, 1]
    return leaning


def blob(shape: tuple[int, int, int], centre: tuple[float, ...], width: tuple[float, ...]) -> np.ndarray:
    """Gaussian of height 1 at index `centre`, `width` samples wide (standard deviation) along each axis."""
    index = np.meshgrid(*(np.arange(size) for size in shape), indexing="ij")
    squares = [((n - c) / w) ** 2 for n, c, w in zip(index, centre, width, strict=True)]
    return np.exp(-0.5 * np.sum(squares, axis=0)).astype(np.float32)


def centroid(array: np.ndarray) -> np.ndarray:
    """Centre of mass, in indices."""
    index = np.meshgrid(*(np.arange(size) for size in array.shape), indexing="ij")
    return np.array([float((n * array).sum(dtype=np.float64) / array.sum(dtype=np.float64)) for n in index])


def small_head(contrast: str = "t1", axes: np.ndarray | None = None) -> Volume:
    """Skull-stripped ball of white matter, grey matter and ventricle at 1 mm: quick to run, nothing is resampled."""
    shape = (12, 30, 26)
    centre = tuple((size - 1) / 2 for size in shape)
    index = np.meshgrid(*(np.arange(size) for size in shape), indexing="ij")
    radius = np.sqrt(sum(((n - c) / (0.42 * size)) ** 2 for n, c, size in zip(index, centre, shape, strict=True)))
    white, grey, csf = {"t1": (700, 500, 150), "t2": (300, 400, 1000)}[contrast]
    voxels = np.select([radius < 0.25, radius < 0.7, radius < 1], [csf, white, grey], 0).astype(np.float64)
    voxels += np.where(voxels > 0, np.random.default_rng(3).normal(0, 15, shape), 0)
    affine = grid(shape, (1.0, 1.0, 1.0), axes_of("RAS") if axes is None else axes)
    return Volume(np.rint(voxels).astype(np.int16), affine, name="small head")


def moved(volume: Volume, mm: tuple[float, float, float]) -> Volume:
    """The same voxels, elsewhere in space."""
    affine = volume.ijk_to_ras.copy()
    affine[:3, 3] += mm
    return replace(volume, ijk_to_ras=affine)


def save_untrained(path: Path, card: dict[str, Any], **arguments: Any) -> Path:
    """A checkpoint of an untrained DenseUNet with `arguments` (small by default), under the other fields of `card`."""
    import torch

    from MRSynthLib.engine import checkpoint, generators

    torch.manual_seed(7)
    arguments = {"growth": 2, "blocks": [1, 1, 1, 1], **arguments}
    module = generators.build("DenseUNet", arguments).eval()
    checkpoint.save(module, {**card, "generator": {"name": "DenseUNet", "arguments": arguments}}, path)
    return path
