"""The bias field of a small copy: how strong it is, and the copy without it, or without its tilt alone.

Brightness of outer, middle and innermost brain tells contrasts apart only where the coil does not brighten one of them.
A quadratic field is right for most coils, but takes a part of what is between cortex and white matter for its own; a
linear one leaves that as it is.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .screening_copy import Array, Copy

DEEP = {True: 6.0, False: 22.0}  # mm below the surface, skull-stripped or not: brain alone
BRAIN = (0.3, 3.0)  # signal; beyond lie air, vessels and fat
LEAST_CELLS = 500
ROUNDS, KEPT = 3, 1.5  # of leaving out what is off by more standard deviations: fluid and lesions are no part of it
BEYOND = 1.5  # of the brain's half extent; further out the quadratic form is not believed

Cells = tuple[NDArray[np.intp], ...]


def flattened(copy: Copy, depth: Array, order: int = 2) -> tuple[Copy, float]:
    """The copy divided by a smooth field through the logarithm of its brain, and how strong that is.

    Parameters
    ----------
    copy : Copy
    depth : ndarray
        Of the copy.
    order : {1, 2}
        Of the polynomial that the field's logarithm is.

    Returns
    -------
    Copy
        As it is where there is too little brain to tell.
    float
        Brightest over darkest part of the field in the brain, 5th to 95th percentile; 1 where there is none.
    """
    brain = (depth > DEEP[copy.skull_stripped]) & (copy.signal > BRAIN[0]) & (copy.signal < BRAIN[1])
    if brain.sum() < LEAST_CELLS:
        return copy, 1.0
    cells = np.nonzero(brain)
    middle = [float(n.mean()) for n in cells]
    extent = [float(np.abs(n - m).max()) or 1.0 for n, m in zip(cells, middle, strict=True)]
    terms, logs = _terms(cells, middle, extent, order), np.log(copy.signal[brain])
    factors, *_ = np.linalg.lstsq(terms, logs, rcond=None)
    for _ in range(ROUNDS):
        off = logs - terms @ factors
        kept = np.abs(off) <= KEPT * np.std(off)
        factors, *_ = np.linalg.lstsq(terms[kept], logs[kept], rcond=None)
    inside = terms @ factors
    low, high = np.percentile(inside, (5, 95))
    everywhere = np.nonzero(copy.share > 0)
    signal = copy.signal.copy()
    signal[everywhere] *= np.exp(np.median(inside) - _terms(everywhere, middle, extent, order) @ factors)
    return replace(copy, signal=signal), float(np.exp(high - low))


def _terms(cells: Cells, middle: list[float], extent: list[float], order: int) -> Array:
    """1, x, y, z and, of order 2, their products at cells, (N, 4 or 10)."""
    x, y, z = (
        np.clip((n - m) / e, -BEYOND, BEYOND).astype(np.float32) for n, m, e in zip(cells, middle, extent, strict=True)
    )
    second = (x * x, y * y, z * z, x * y, x * z, y * z) if order == 2 else ()
    return np.stack([np.ones_like(x), x, y, z, *second], axis=1)
