"""What is no brain MR, computed: CT of a head, trunks, limbs, test objects, noise and pictures.

No images of such things are at hand, so that screening can only be tried on these. They are crude on purpose: what is
refused here by its size, its outline or its lack of tissue would be refused in better images for the same reason.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrsynth_training.phantom_anatomy import Anatomy
from MRSynthLib.engine.volume import Volume

Rng = np.random.Generator
Array = NDArray[np.float32]
Points = tuple[Array, Array, Array]

STEP = 3.0  # mm
SKULL, SCALP = 7.0, 6.0  # mm thick
HOUNSFIELD = {"csf": 8.0, "grey": 37.0, "white": 28.0}
AIR, BONE, SKIN = -1000.0, (600.0, 1100.0), (-60.0, 40.0)


def ct_head(anatomy: Anatomy, rng: Rng, kind: str) -> Volume:
    """CT of a phantom's head.

    Parameters
    ----------
    anatomy : Anatomy
        Its brain gets a skull and a scalp.
    kind : {'hounsfield', 'offset', 'window', 'bone'}
        In HU; in HU + 1024 as scanners store it; in the brain window of 80 HU; in a bone window.
    """
    shape = anatomy.grid.shape
    spacing = anatomy.grid.spacing[::-1]
    brain = np.zeros(shape, np.float32)
    brain[anatomy.brain] = sum(
        (share * np.float32(HOUNSFIELD.get(name, 30.0)) for name, share in anatomy.fractions.items()), np.float32(0)
    )
    away = ndimage.distance_transform_edt(~ndimage.binary_closing(anatomy.brain, iterations=3), sampling=spacing)
    inner = (away <= 2) & ~anatomy.brain
    voxels = np.select(
        [anatomy.brain, inner, away <= 2 + SKULL, away <= 2 + SKULL + SCALP],
        [brain, 8.0, rng.uniform(*BONE), rng.uniform(*SKIN)],
        AIR,
    )
    voxels = ndimage.gaussian_filter(voxels, 0.6) + rng.normal(0, rng.uniform(3, 12), shape)
    if kind == "offset":
        voxels = np.maximum(voxels + 1024, 0)
    if kind == "window":
        voxels = np.clip(voxels, 0, 80) * (255 / 80)
    if kind == "bone":
        voxels = np.clip(voxels + 200, 0, 1500)
    return Volume(np.rint(voxels).astype(np.int16), anatomy.grid.ijk_to_ras, name=f"CT, {kind}")


def trunk(rng: Rng) -> Volume:
    """A chest or belly: lungs or organs, a spine, cut by the field of view above and below."""
    width, depth = rng.uniform(150, 200), rng.uniform(100, 140)  # semi-axes, mm
    x, y, z = _points((rng.uniform(90, 200), 2 * depth + 40, 2 * width + 40))
    voxels = np.where(_inside(x, y, 0 * z, (0, 0, 0), (width, depth, 1)), rng.uniform(700, 1000), 0)
    voxels[_inside(x, y, 0 * z, (0, 0, 0), (width - 18, depth - 18, 1))] = rng.uniform(250, 500)
    for _ in range(int(rng.integers(6, 14))):
        centre = rng.uniform(-0.6, 0.6, 3) * (width, depth, 90)
        voxels[_inside(x, y, z, tuple(centre), tuple(rng.uniform(15, 55, 3)))] = rng.uniform(60, 900)
    voxels[_inside(x, y, 0 * z, (0, -0.6 * depth, 0), (18, 20, 1))] = rng.uniform(400, 800)
    return _seen(voxels, rng, "trunk")


def limb(rng: Rng) -> Volume:
    """One or two thighs, knees or calves: cylinders of muscle in fat, with bone, cut above and below."""
    radius = rng.uniform(40, 90)
    apart = radius * rng.uniform(1.02, 1.3)
    centres = [(0.0, 0.0)] if rng.random() < 0.5 else [(-apart, 0.0), (apart, 0.0)]
    x, y, z = _points((rng.uniform(120, 260), 2 * radius + 30, 2 * (radius + abs(centres[0][0])) + 30))
    voxels = np.zeros(x.shape)
    fat, muscle, marrow = rng.uniform(700, 1000), rng.uniform(150, 500), rng.uniform(500, 1000)
    for cx, cy in centres:
        wave = 1 + rng.uniform(0, 0.15) * np.sin(z / rng.uniform(30, 80))
        for share, value in ((1.0, fat), (rng.uniform(0.8, 0.92), muscle), (0.28, 40), (0.22, marrow)):
            voxels[_inside(x, y, 0 * z, (cx, cy, 0), (radius * share, radius * share, 1), wave)] = value
    return _seen(voxels, rng, "limb")


def test_object(rng: Rng) -> Volume:
    """A ball, a bottle or a box of one fluid, with or without rods, as scanners are tested with."""
    size = rng.uniform(50, 110, 3) if rng.random() < 0.5 else np.full(3, rng.uniform(55, 105))
    x, y, z = _points(tuple(2 * size[::-1] + 40))
    power = float(rng.choice([2, 4, 12]))
    voxels = np.where(sum(np.abs(a / s) ** power for a, s in zip((x, y, z), size, strict=True)) < 1, 800.0, 0.0)
    for _ in range(int(rng.integers(0, 6))):
        cx, cy = rng.uniform(-0.5, 0.5, 2) * size[:2]
        voxels[_inside(x, y, 0 * z, (cx, cy, 0), (rng.uniform(4, 14),) * 2 + (1,)) & (voxels > 0)] = rng.uniform(0, 300)
    field = 1 + rng.uniform(-0.25, 0.25) * (x**2 + y**2 + z**2) / float((size**2).sum())
    return _seen(voxels * field, rng, "test object")


def noise(rng: Rng) -> Volume:
    """Numbers without an object: uniform, normal, Rician, or a few bright voxels."""
    shape = tuple(int(n) for n in rng.integers(30, 90, 3))
    kind = int(rng.integers(4))
    voxels = [
        rng.uniform(0, 1000, shape),
        rng.normal(500, 100, shape),
        np.hypot(*rng.normal(0, 100, (2, *shape))),
        1000.0 * (rng.random(shape) < 0.03) * rng.random(shape),
    ][kind]
    return Volume(np.rint(voxels).astype(np.int16), _affine(shape), name="noise")


def picture(rng: Rng) -> Volume:
    """A photograph on every slice, or a landscape of clouds: 1/f texture and edges, and no air around."""
    shape = (int(rng.integers(20, 60)), 80, 90)
    flat = rng.random() < 0.5
    field = ndimage.gaussian_filter(rng.standard_normal(shape[1:] if flat else shape), rng.uniform(2, 8), mode="wrap")
    field = np.broadcast_to(field, shape) / field.std()
    for _ in range(int(rng.integers(0, 8))):
        low = rng.integers(0, 60, 2)
        high = low + rng.integers(8, 40, 2)
        field = field.copy()
        field[:, low[0] : high[0], low[1] : high[1]] += rng.normal(0, 2)
    voxels = np.clip(128 + 50 * field + rng.normal(0, 4, shape), 0, 255)
    return Volume(np.rint(voxels).astype(np.uint8), _affine(shape), name="picture")


def thing(rng: Rng) -> Volume:
    """A fruit, a stone or a heap of them: lumps of any size with lumps inside."""
    x, y, z = _points((180, 180, 180))
    voxels = np.zeros(x.shape)
    for _ in range(int(rng.integers(1, 6))):
        centre, size = rng.uniform(-50, 50, 3), rng.uniform(12, 45, 3)
        voxels[_inside(x, y, z, tuple(centre), tuple(size))] = rng.uniform(300, 1000)
        voxels[_inside(x, y, z, tuple(centre), tuple(size * rng.uniform(0.3, 0.8)))] = rng.uniform(100, 1000)
    return _seen(voxels, rng, "thing")


OTHERS: dict[str, Callable[[Rng], Volume]] = {
    "trunk": trunk,
    "limb": limb,
    "test object": test_object,
    "noise": noise,
    "picture": picture,
    "thing": thing,
}


def _points(extent: tuple[float, ...]) -> Points:
    """Coordinates (x, y, z), each (k, j, i), in mm from the middle of a box of `extent` (z, y, x)."""
    axes = [(np.arange(int(n / STEP)) - int(n / STEP) / 2 + 0.5) * STEP for n in extent]
    z, y, x = np.meshgrid(*(axis.astype(np.float32) for axis in axes), indexing="ij")
    return x, y, z


def _inside(
    x: Array, y: Array, z: Array, centre: tuple[float, ...], size: tuple[float, ...], wave: Array | float = 1.0
) -> NDArray[np.bool_]:
    parts = zip((x, y, z), centre, size, strict=True)
    return np.asarray(sum(((a - c) / s) ** 2 for a, c, s in parts) < np.square(wave))


def _seen(voxels: NDArray[np.floating], rng: Rng, name: str) -> Volume:
    """As a scanner shows it: a little blurred, in noise."""
    blurred = ndimage.gaussian_filter(voxels, 0.5)
    sigma = rng.uniform(3, 25)
    noisy = np.hypot(blurred + rng.normal(0, sigma, voxels.shape), rng.normal(0, sigma, voxels.shape))
    return Volume(np.rint(noisy).astype(np.int16), _affine(voxels.shape), name=name)


def _affine(shape: tuple[int, ...]) -> NDArray[np.float64]:
    affine = np.diag([STEP, STEP, STEP, 1.0])
    affine[:3, 3] = [-(n - 1) / 2 * STEP for n in reversed(shape)]
    return affine
