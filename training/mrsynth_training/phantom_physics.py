"""From tissue to signal: relaxation times, the spin-echo equation, excess water, bias field and Rician noise.

Relaxation times T1 and T2 in ms, proton density (PD) relative to water, of two published sets per field strength:

=====  ======  ==================  =======================================================================
Field  Tissue  T1 / T2 / PD        Source
=====  ======  ==================  =======================================================================
1.5 T  CSF     2569 / 329 / 1.00   Kwan, Evans, Pike (BrainWeb), IEEE Trans Med Imaging 1999;18:1085-1097
1.5 T  grey    833 / 83 / 0.86     the same
1.5 T  white   500 / 70 / 0.77     the same
1.5 T  grey    1188 / - / -        Rooney et al., Magn Reson Med 2007;57:308-318
1.5 T  white   656 / - / -         the same
1.5 T  grey    - / 95 / -          Stanisz et al., Magn Reson Med 2005;54:507-512 (bovine, in vitro)
1.5 T  white   - / 72 / -          the same
3.0 T  grey    1331 / - / -        Wansapura et al., J Magn Reson Imaging 1999;9:531-538
3.0 T  white   832 / - / -         the same
3.0 T  grey    1820 / 99 / -       Stanisz et al. 2005
3.0 T  white   1084 / 69 / -       the same
=====  ======  ==================  =======================================================================

A subject has one field strength and lies anywhere between its two sets of T1. Densities are those of BrainWeb
throughout, and so is CSF, whose T1 hardly depends on the field (Rooney et al.).

Diseased tissue is white matter with a share of free water that exchanges fast with it, so that the rates 1/T1 and 1/T2
mix. With a share of 0.3 to 0.7 this gives, at 3 T, a T1 of 1.1 to 1.8 s, as measured in and around gliomas by MR
fingerprinting (Badve et al., AJNR 2017;38:492-499; de Blank et al., Pediatr Neurosurg 2019;54:310-318). The shares of
`WATER` are chosen so; they are no measurements.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


class Tissue(NamedTuple):
    """T1 and T2 in ms, proton density relative to water."""

    t1: float
    t2: float
    pd: float


CSF = Tissue(2569, 329, 1.0)
PUBLISHED: dict[float, tuple[dict[str, Tissue], dict[str, Tissue]]] = {
    1.5: (
        {"csf": CSF, "grey": Tissue(833, 83, 0.86), "white": Tissue(500, 70, 0.77)},
        {"csf": CSF, "grey": Tissue(1188, 95, 0.86), "white": Tissue(656, 72, 0.77)},
    ),
    3.0: (
        {"csf": CSF, "grey": Tissue(1331, 99, 0.86), "white": Tissue(832, 69, 0.77)},
        {"csf": CSF, "grey": Tissue(1820, 99, 0.86), "white": Tissue(1084, 69, 0.77)},
    ),
}

# Share of free water: lowest and highest of a subject.
WATER = {
    "oedema": (0.35, 0.60),
    "enhancing": (0.30, 0.50),
    "necrosis": (0.75, 0.95),
    "lesion": (0.35, 0.70),
}

# Gadolinium in the enhancing tumour: r1 of gadopentetate in plasma at 37 °C, 4.1 /s/mM at 1.5 T and 3.7 at 3 T
# (Rohrer et al., Invest Radiol 2005;40:715-724), times a concentration of a few tenths of a mM.
RELAXIVITY = {1.5: 4.1, 3.0: 3.7}
CONCENTRATION = (0.15, 0.40)  # mM

NOISE = (0.01, 0.04)  # standard deviation of each channel, as a share of the 99.5th percentile of brain
BIAS = (0.05, 0.25)  # largest logarithm of the field
GAIN = (300.0, 1500.0)  # scanner units of the 99.5th percentile of brain


@dataclass(frozen=True)
class Scan:
    """A spin-echo or, with an inversion time, inversion-recovery acquisition.

    Attributes
    ----------
    tr, te : float
        Repetition and echo time, ms.
    ti : float
        Inversion time, ms; 0 without an inversion.
    """

    tr: float
    te: float
    ti: float = 0.0

    def signal(self, tissue: Tissue) -> float:
        """Magnitude of a tissue's signal, 1 for fully relaxed water.

        PD (1 - exp(-TR/T1)) exp(-TE/T2); after an inversion PD |1 - 2 exp(-TI/T1) + exp(-TR/T1)| exp(-TE/T2).
        """
        recovered = 1 - np.exp(-self.tr / tissue.t1)
        if self.ti:
            recovered = abs(1 - 2 * np.exp(-self.ti / tissue.t1) + np.exp(-self.tr / tissue.t1))
        return float(tissue.pd * recovered * np.exp(-self.te / tissue.t2))


def scans(rng: np.random.Generator) -> dict[str, Scan]:
    """Draw the four acquisitions of a study, as clinical protocols have them; FLAIR nulls CSF."""
    t1 = Scan(tr=rng.uniform(400, 650), te=rng.uniform(8, 18))
    t2 = Scan(tr=rng.uniform(3500, 6500), te=rng.uniform(80, 115))
    tr = rng.uniform(8000, 10000)
    nulling = CSF.t1 * (np.log(2) - np.log1p(np.exp(-tr / CSF.t1)))
    return {"t1": t1, "t1ce": t1, "t2": t2, "flair": Scan(tr=tr, te=rng.uniform(90, 130), ti=float(nulling))}


def tissues(rng: np.random.Generator) -> tuple[float, dict[str, Tissue]]:
    """Draw a field strength, in T, and the relaxation times of a subject's healthy and diseased tissue in it."""
    field = float(rng.choice(list(PUBLISHED)))
    share = rng.uniform()
    first, second = PUBLISHED[field]
    found = {name: _between(first[name], second[name], share) for name in first}
    for name, (low, high) in WATER.items():
        found[name] = with_water(found["white"], rng.uniform(low, high))
    return field, found


def _between(first: Tissue, second: Tissue, share: float) -> Tissue:
    return Tissue(*((1 - share) * a + share * b for a, b in zip(first, second, strict=True)))


def with_water(tissue: Tissue, share: float) -> Tissue:
    """Tissue in fast exchange with a share (0 to 1) of free water: the relaxation rates mix, and so do densities."""
    rates = [(1 - share) / a + share / b for a, b in zip(tissue[:2], CSF[:2], strict=True)]
    return Tissue(1 / rates[0], 1 / rates[1], (1 - share) * tissue.pd + share * CSF.pd)


def with_gadolinium(tissue: Tissue, field: float, concentration: float) -> Tissue:
    """Tissue with so many mM of gadopentetate, whose effect on T2 is left out as small at these echo times."""
    return tissue._replace(t1=1 / (1 / tissue.t1 + RELAXIVITY[field] * concentration / 1000))


def image(fractions: Mapping[str, Array], known: Mapping[str, Tissue], scan: Scan) -> Array:
    """Signal of voxels that hold several tissues: the sum of what each contributes.

    Parameters
    ----------
    fractions : mapping of str to ndarray (N,)
        Share of every tissue in N voxels.
    known : mapping of str to Tissue
    scan : Scan
    """
    total = np.zeros_like(next(iter(fractions.values())))
    for name, share in fractions.items():
        total += np.float32(scan.signal(known[name])) * share
    return total


def scanned(signal: Array, field: Array, rng: np.random.Generator) -> NDArray[np.int16]:
    """What the scanner writes of N brain voxels: bias field, Rician noise, and a gain of its own.

    Parameters
    ----------
    signal : ndarray (N,)
    field : ndarray (N,)
        Smooth, of any scale; its strength is drawn.

    Returns
    -------
    ndarray of int16 (N,)
        At least 1, because 0 is what skull stripping leaves outside.
    """
    strength = rng.uniform(*BIAS) / max(float(np.abs(field).max()), 1e-6)
    biased = signal * np.exp(np.float32(strength) * field)
    scale = float(np.percentile(biased, 99.5))
    sigma = np.float32(rng.uniform(*NOISE) * scale)
    gain = rng.uniform(*GAIN) / scale
    real, imaginary = (sigma * rng.standard_normal(len(signal), dtype=np.float32) for _ in range(2))
    magnitude = np.sqrt((biased + real) ** 2 + imaginary**2)
    return np.maximum(np.rint(gain * magnitude), 1).astype(np.int16)
