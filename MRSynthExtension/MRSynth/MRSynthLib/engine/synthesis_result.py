"""What a synthesis tells: how far it is, and at the end what was made and how it came about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .devices import DeviceChoice
from .likeness import Curve
from .screening import Screening
from .volume import Volume


@dataclass(frozen=True)
class SynthesisResult:
    """A synthetic volume and how it came about.

    Attributes
    ----------
    volume : Volume
        int16 on the input's grid; 1000 is the 99.5th percentile of brain, 0 is background.
    source_contrast, target_contrast : {'t1', 't2'}
    contrast_reason : str
        Why the source was taken for what it was.
    device : DeviceChoice
        What the run ended on, with the reason.
    seconds : float
    stage_seconds : dict
        Seconds by stage.
    warnings : tuple of str
    checkpoint_name, checkpoint_sha256 : str
    cycle : Volume or None
        |x - G(G(x))|, int16 in the same units and on the same grid, where asked for.
    planes : {'axial', 'three'}
        In which the generator went through the volume.
    curve : Curve or None
        By which `volume` was given the brightness of a reference, where asked for. `cycle` is of before that.
    reliability, interval : Volume or None
        Expected absolute error, and half the width of the 90 % interval, int16 in the same units and on the same grid,
        where asked for.
    trust : dict or None
        What the map says in short, see `reliability_summary.trust`.
    screening : Screening or None
        What was found of the source before the run.
    """

    volume: Volume
    source_contrast: str
    target_contrast: str
    contrast_reason: str
    device: DeviceChoice
    seconds: float
    stage_seconds: dict[str, float]
    warnings: tuple[str, ...]
    checkpoint_name: str
    checkpoint_sha256: str
    cycle: Volume | None = None
    planes: str = "axial"
    curve: Curve | None = None
    reliability: Volume | None = None
    interval: Volume | None = None
    trust: dict[str, Any] | None = None
    screening: Screening | None = None


@dataclass(frozen=True)
class Progress:
    """A step of a run: fraction done (0 to 1), stage, seconds left, a warning or "", and at the end the result."""

    fraction: float
    stage: str
    seconds_left: float | None = None
    message: str = ""
    result: SynthesisResult | None = None
