"""A volume as other scanners and other hands would have left it: what screening has to cope with.

Variants keep what the volume is: its contrast, and which way up it lies; all but `bright_for_dark`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from mrsynth_training.phantom_anatomy import Grid, smooth_field
from MRSynthLib.engine.itk import ItkGeometry
from MRSynthLib.engine.screening import look
from MRSynthLib.engine.volume import Volume

Rng = np.random.Generator
Variant = Callable[[Volume, Rng], Volume]


def to_image(volume: Volume) -> sitk.Image:
    """The volume as ITK has it, float32."""
    geometry = ItkGeometry.of(volume.ijk_to_ras)
    image = sitk.GetImageFromArray(np.asarray(volume.voxels, np.float32))
    image.SetSpacing(geometry.spacing)
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction)
    return image


def resampled(
    volume: Volume, spacing: tuple[float, float, float], turn: tuple[float, float, float] = (0, 0, 0)
) -> Volume:
    """The volume averaged and sampled at another spacing (i, j, k; mm) on its own axes, the head turned (degrees)."""
    image = to_image(volume)
    old = image.GetSpacing()
    sigma = [max(0.01, 0.4 * (new - now)) for new, now in zip(spacing, old, strict=True)]
    smooth = sitk.SmoothingRecursiveGaussian(image, sigma) if max(sigma) > 0.01 else image
    size = [max(5, int(round(n * now / new))) for n, now, new in zip(image.GetSize(), old, spacing, strict=True)]
    centre = image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()])
    transform = sitk.Euler3DTransform(centre, *(float(np.radians(angle)) for angle in turn))
    direction = np.array(image.GetDirection()).reshape(3, 3)
    origin = np.array(centre) - direction @ ((np.array(size) - 1) / 2 * np.array(spacing))
    new = sitk.Resample(smooth, size, transform, sitk.sitkLinear, origin.tolist(), spacing, image.GetDirection(), 0.0)
    affine = ItkGeometry(new.GetSpacing(), new.GetOrigin(), new.GetDirection()).ijk_to_ras
    return Volume(_present(sitk.GetArrayFromImage(new), volume), affine, name=volume.name)


def _present(voxels: NDArray[np.float32], volume: Volume) -> NDArray[np.float32]:
    """Smoothing must leave what was exactly 0 around a stripped brain exactly 0."""
    top = float(np.percentile(voxels, 99.5))
    return np.where(voxels < 0.02 * top, 0, voxels) if (volume.voxels == 0).mean() > 0.2 else voxels


def biased(volume: Volume, rng: Rng, strength: float | None = None) -> Volume:
    """A smooth multiplicative field whose logarithm reaches ±`strength`, as of a surface coil."""
    field = smooth_field(Grid(volume.shape, volume.ijk_to_ras), 90.0, rng)
    size = rng.uniform(0.1, 0.4) if strength is None else strength
    return volume.replaced(volume.voxels * np.exp(size * field / np.abs(field).max()).astype(np.float32))


def powered(volume: Volume, rng: Rng) -> Volume:
    """Another contrast of the same weighting: a power of the intensity, and another gain."""
    top = float(np.percentile(volume.voxels[volume.voxels > 0], 99.5))
    unit = np.maximum(volume.voxels, 0) / top
    return volume.replaced((rng.uniform(100, 4000) * unit ** rng.uniform(0.8, 1.25)).astype(np.float32))


def noisy(volume: Volume, rng: Rng, share: float | None = None) -> Volume:
    """Rician noise whose deviation is a share of the 99.5th percentile; what is exactly 0 stays so."""
    top = float(np.percentile(volume.voxels[volume.voxels > 0], 99.5))
    sigma = top * (rng.uniform(0.01, 0.06) if share is None else share)
    real, imaginary = (sigma * rng.standard_normal(volume.shape, dtype=np.float32) for _ in range(2))
    return volume.replaced(np.where(volume.voxels != 0, np.hypot(volume.voxels + real, imaginary), 0))


def turned(volume: Volume, rng: Rng) -> Volume:
    """The head turned by up to 15 degrees about each axis, as patients lie."""
    angles = rng.uniform(-15, 15, 3)
    return resampled(volume, volume.spacing, (float(angles[0]), float(angles[1]), float(angles[2])))


def thick(volume: Volume, rng: Rng) -> Volume:
    """Slices of 3 to 6 mm along one axis."""
    spacing = list(volume.spacing)
    spacing[int(rng.integers(3))] = float(rng.uniform(3, 6))
    return resampled(volume, (spacing[0], spacing[1], spacing[2]))


def cropped(volume: Volume, rng: Rng) -> Volume:
    """Up to a fifth of one side of the head cut off by the field of view."""
    axis, side = int(rng.integers(3)), int(rng.integers(2))
    inside = np.flatnonzero((volume.voxels > 0).any(axis=tuple(n for n in range(3) if n != axis)))
    cut = int(round(rng.uniform(0.05, 0.2) * (inside[-1] - inside[0])))
    first, last = (inside[0] + cut, volume.shape[axis]) if side else (0, inside[-1] + 1 - cut)
    affine = volume.ijk_to_ras.copy()
    affine[:3, 3] += affine[:3, 2 - axis] * first
    part: list[slice] = [slice(None)] * 3
    part[axis] = slice(int(first), int(last))
    return Volume(np.ascontiguousarray(volume.voxels[tuple(part)]), affine, name=volume.name)


def mixed(volume: Volume, rng: Rng) -> Volume:
    """Several of the above, at random, as real volumes differ."""
    for change in (turned, cropped, thick, powered, biased, noisy):
        if rng.random() < 0.4:
            volume = change(volume, rng)
    return volume


def bright_for_dark(volume: Volume) -> Volume:
    """Turned over between 0 and the 99.5th percentile of brain, as nothing real is; 0 stays."""
    top = float(np.percentile(volume.voxels[look(volume).brain], 99.5))
    turned_over = np.maximum(top - np.minimum(volume.voxels, top), 1)
    return volume.replaced(np.where(volume.voxels > 0, turned_over, 0).astype(np.float32))


VARIANTS: dict[str, Variant] = {
    "bias": biased,
    "gamma": powered,
    "noise": noisy,
    "turned": turned,
    "thick": thick,
    "cropped": cropped,
    "mixed": mixed,
}
