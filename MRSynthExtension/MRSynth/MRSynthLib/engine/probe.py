"""What this computer can do: its devices, the one that is taken, and how fast the generator runs on each.

    python -m MRSynthLib.engine.probe [--model NAME] [--end-with PID]

prints one JSON document, that of `Probe`, or ``{"error": {...}}`` with the exit code of its family. It is a program
of its own because it imports torch, which 3D Slicer's process should not have to.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from .errors import InstallError
from .process import answer, end_with
from .standard_space import FINEST_SLICES, MARGIN, MULTIPLE, NATIVE_SPACING, PAPER_SIZE, canonical_axes, plan
from .volume import Volume

if TYPE_CHECKING:
    from .checkpoint import Checkpoint
    from .devices import DeviceChoice, Machine

_STARTED = time.perf_counter()

ENOUGH = 1.2  # seconds of measuring on one device
CPU_SLICES, GPU_SLICES = 5, 48  # of 160x176 pixels: one batch
SECONDS_PER_MEGAVOXEL = 0.1  # everything around the generator, on the CPU

# Extents in mm (up, front to back, left to right) of what the generator's grid is laid around.
HEAD = (230.0, 215.0, 165.0)
BRAIN = (130.0, 160.0, 140.0)


@dataclass(frozen=True)
class ProbedDevice:
    """A device and its speed.

    Attributes
    ----------
    device : str
        As `devices.choose` takes it: "cpu", "cuda:N", "mps".
    name : str
        As people know it.
    precision : str
        What "auto" means on it; "" where it cannot be used.
    reason : str
        Why this precision, why it is the automatic choice if it is, or why it cannot be used.
    seconds_per_megapixel : float or None
        Of generator input, once warm; None where it cannot be used.
    """

    device: str
    name: str
    precision: str
    reason: str
    seconds_per_megapixel: float | None

    @property
    def usable(self) -> bool:
        """Whether runs can be made on it."""
        return self.seconds_per_megapixel is not None


@dataclass(frozen=True)
class Probe:
    """What was found.

    Attributes
    ----------
    software_version, torch_version : str
    cuda_version, driver : str
        Of the PyTorch build and of the NVIDIA driver; "" where there is none.
    model, frame : str
        The checkpoint that was measured with.
    automatic : str
        The device that "auto" takes; the CPU where that one turned out not to work.
    devices : tuple of ProbedDevice
        Every one that there is; and the GPU, with the reason, where there is none.
    start_seconds : float
        From the interpreter's start until the generator can run: a worker takes as long.
    """

    software_version: str
    torch_version: str
    cuda_version: str
    driver: str
    model: str
    frame: str
    automatic: str
    devices: tuple[ProbedDevice, ...]
    start_seconds: float

    def to_json(self) -> str:
        """One line that `from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Probe:
        """What `to_json` wrote.

        Raises
        ------
        ValueError
            If it is something else.
        """
        try:
            fields = json.loads(text)
            fields["devices"] = tuple(ProbedDevice(**one) for one in fields["devices"])
            return cls(**fields)
        except (TypeError, KeyError) as error:
            raise ValueError(f"not a probe: {error}") from error


def probe(model: str | os.PathLike[str] | None = None) -> Probe:
    """Look at this computer and measure; takes a few seconds, most of them for importing torch.

    Parameters
    ----------
    model : path or name, optional
        The checkpoint to measure with; by default the shipped one.

    Raises
    ------
    InstallError
        install-broken: torch or safetensors cannot be imported.
    ModelError
        See `checkpoint.load`.
    """
    try:
        import safetensors  # noqa: F401 - what is missing is told here, before it fails somewhere inside
        import torch
    except Exception as error:  # a broken torch raises whatever it likes
        text = " ".join(str(error).split()) or type(error).__name__
        raise InstallError("install-broken", f"PyTorch cannot be used: {text}.", "a whole PyTorch.") from error
    from . import devices
    from .checkpoint import load

    found = load(model)
    found.generator()
    started = time.perf_counter() - _STARTED
    machine = devices.probe()
    measured = {choice.device: _measured(found, choice, name) for choice, name in _choices(machine)}
    automatic = devices.choose(machine=machine).device
    return Probe(
        software_version=__version__,
        torch_version=str(torch.__version__),
        cuda_version=str(torch.version.cuda or torch.version.hip or ""),
        driver=_driver() if machine.gpus or torch.version.cuda else "",
        model=found.name,
        frame=str(found.card["frame"]),
        automatic=automatic if measured[automatic].usable else "cpu",
        devices=(*measured.values(), *_missing(machine)),
        start_seconds=round(started, 2),
    )


def estimate_seconds(
    probe: Probe,
    device: str,
    volume_shape_kji: Sequence[int],
    spacing_ijk: Sequence[float],
    ijk_to_ras: NDArray[np.float64] | None = None,
    *,
    skull_stripped: bool = False,
) -> float:
    """Seconds that a run on a volume will take, told before it is looked at.

    Start-up as measured; the generator's pixels, laid out as `standard_space.plan` does around a head (or brain) of
    usual size, times the measured speed; the rest in proportion to voxels.

    On one core, for three whole heads of 3 mm slices it was 1 to 4 % too long, for seven skull-stripped brains of 1 mm
    14 % too short to 26 % too long; where it is not told that there is only brain, up to 2.6 times too long. Compare
    ``mrsynth devices --json`` with ``start_seconds`` + ``seconds`` of ``mrsynth synthesize IN -o OUT --json``.

    Parameters
    ----------
    probe : Probe
    device : str
        One of the usable ones, or "auto".
    volume_shape_kji : sequence of 3 int
    spacing_ijk : sequence of 3 float
        In mm.
    ijk_to_ras : ndarray, shape (4, 4), optional
        Tells which axis runs upwards; without it k does.
    skull_stripped : bool
        Whether only brain is in the volume, which is less to compute.

    Raises
    ------
    KeyError
        If the device cannot be used.
    """
    wanted = probe.automatic if device == "auto" else device
    speed = {one.device: one.seconds_per_megapixel for one in probe.devices}[wanted]
    if speed is None:
        raise KeyError(f"{wanted} cannot be used")
    order = (0, 1, 2) if ijk_to_ras is None else canonical_axes(np.asarray(ijk_to_ras, dtype=np.float64))[0]
    spacings = [float(spacing_ijk[2 - axis]) for axis in order]
    extents = [
        min(usual, volume_shape_kji[axis] * spacing)
        for usual, axis, spacing in zip(BRAIN if skull_stripped else HEAD, order, spacings, strict=True)
    ]
    apart = NATIVE_SPACING if spacings[0] < FINEST_SLICES else spacings[0]
    if probe.frame == "native":
        rows, columns = (
            math.ceil((extent + 2 * MARGIN) / NATIVE_SPACING / MULTIPLE) * MULTIPLE for extent in extents[1:]
        )
    else:
        rows = columns = PAPER_SIZE
    megapixels = extents[0] / apart * rows * columns / 1e6
    megavoxels = math.prod(volume_shape_kji) / 1e6
    return probe.start_seconds + speed * megapixels + SECONDS_PER_MEGAVOXEL * megavoxels


def main(argv: Sequence[str] | None = None) -> int:
    """Print the probe, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m MRSynthLib.engine.probe", description=__doc__.split("\n")[0])
    parser.add_argument("--model", help="checkpoint to measure with (default: the shipped one)")
    parser.add_argument("--end-with", type=int, metavar="PID", help="stop when this process ends")
    arguments = parser.parse_args(argv)

    def probed() -> dict[str, Any]:
        if arguments.end_with is not None:
            end_with(arguments.end_with)
        return asdict(probe(arguments.model))

    return answer(probed)


def _choices(machine: Machine) -> list[tuple[DeviceChoice, str]]:
    """Every device that there is, in the precision that "auto" means on it, with its name."""
    from .devices import choose

    names = {f"cuda:{gpu.index}": gpu.name for gpu in machine.gpus}
    if machine.mps:
        names["mps"] = "Apple GPU"
    names["cpu"] = _processor()
    automatic = choose(machine=machine)
    choices = (automatic if device == automatic.device else choose(device, machine=machine) for device in names)
    return list(zip(choices, names.values(), strict=True))


def _missing(machine: Machine) -> tuple[ProbedDevice, ...]:
    """The GPU that is not there, with the reason."""
    if machine.gpus or machine.mps:
        return ()
    return (ProbedDevice("cuda", "GPU", "", machine.no_gpu, None),)


def _measured(found: Checkpoint, choice: DeviceChoice, name: str) -> ProbedDevice:
    try:
        seconds, reason = _seconds_per_megapixel(found, choice), choice.reason
    except Exception as error:  # drivers fail in many ways, and the other devices are still of interest
        text = (str(error).splitlines() or [type(error).__name__])[0]
        return ProbedDevice(choice.device, name, "", f"does not work: {text}", None)
    return ProbedDevice(choice.device, name, choice.precision, reason, round(seconds, 4))


def _seconds_per_megapixel(found: Checkpoint, choice: DeviceChoice) -> float:
    """Run the real engine on a few slices until it is warm, and take the quickest run."""
    from .synthesis import Synthesizer

    synthesizer = Synthesizer(found, choice.device, choice.precision)
    volume = _cylinder(CPU_SLICES if choice.device == "cpu" else GPU_SLICES)
    inside = volume.voxels > 0
    model_axes = plan(volume, inside, str(found.card["frame"])).model_axes
    megapixels = math.prod(axis.size for axis in model_axes) / 1e6
    mask = volume.replaced(inside.astype(np.uint8))
    runs: list[float] = []
    while len(runs) < 4 and sum(runs) < ENOUGH:
        result = synthesizer.synthesize(volume, "t2", source="t1", mask=mask)
        if result.device.device != choice.device:
            raise MemoryError("too little free memory")
        runs.append(result.stage_seconds["synthesize"])
    return min(runs) / megapixels


def _cylinder(slices: int) -> Volume:
    """Thick slices of something elliptic and grey, which become 160x176 pixels each."""
    rows, columns = np.ogrid[-79.5:80, -69.5:70]
    disc = (rows / 80) ** 2 + (columns / 70) ** 2 <= 1
    grey = np.random.default_rng(1).integers(300, 800, (slices, *disc.shape))
    return Volume(np.where(disc, grey, 0).astype(np.int16), np.diag([1.0, 1.0, 5.0, 1.0]), name="cylinder")


def _processor() -> str:
    """Return the CPU's name, as far as the system tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        return _answer("sysctl", "-n", "machdep.cpu.brand_string") or "CPU"
    return platform.processor() or "CPU"


def _driver() -> str:
    """Return the version of the NVIDIA driver, or ""."""
    return _answer("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").partition("\n")[0]


def _answer(program: str, *arguments: str) -> str:
    """Return what a program of the system says, or "" where there is none."""
    path = shutil.which(program)
    if path is None:
        return ""
    hidden: dict[str, Any] = {}
    if sys.platform == "win32":
        hidden = {"creationflags": subprocess.CREATE_NO_WINDOW}
    try:
        done = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=5, check=True, **hidden)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
