"""A volume in, the same volume in the other contrast out: the one way that every door of MRSynth leads to."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from . import checkpoint as checkpoints
from . import devices, intensity, memory
from .devices import DeviceChoice
from .errors import DeviceError
from .preparation import CONTRASTS, SURE, Prepared, Window, other, prepare
from .volume import Volume

if TYPE_CHECKING:
    from torch import nn

__all__ = ["CONTRASTS", "SURE", "Progress", "SynthesisResult", "Synthesizer", "other"]

STAGES = {"prepare": 0.0, "synthesize": 0.08, "restore": 0.94}  # fraction of the run at which each begins


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


@dataclass(frozen=True)
class Progress:
    """A step of a run: fraction done (0 to 1), stage, seconds left, a warning or "", and at the end the result."""

    fraction: float
    stage: str
    seconds_left: float | None = None
    message: str = ""
    result: SynthesisResult | None = None


@dataclass
class _Run:
    """What one run keeps while it is under way."""

    warnings: list[str] = field(default_factory=list)
    stage_seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    def spent(self, stage: str, since: float) -> None:
        now = time.perf_counter()
        self.stage_seconds[stage] = self.stage_seconds.get(stage, 0.0) + now - since


class Synthesizer:
    """Runs one checkpoint on one device.

    Where a GPU runs out of memory with even one slice, this and all later runs go on on the CPU, with a warning.

    Parameters
    ----------
    checkpoint : Checkpoint, path or name, optional
        By default the shipped native-frame checkpoint.
    device : str
        'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'.
    precision : str
        'auto', 'fp32', 'bf16' or 'fp16'. On a CPU, fp32 gives the same bits in every run.

    Raises
    ------
    ModelError
        If the checkpoint cannot be used.
    DeviceError
        device-unavailable.
    """

    def __init__(
        self,
        checkpoint: checkpoints.Checkpoint | str | os.PathLike[str] | None = None,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        if not isinstance(checkpoint, checkpoints.Checkpoint):
            checkpoint = checkpoints.load(checkpoint)
        self.checkpoint = checkpoint
        self.device = devices.choose(device, precision)
        self._definition: nn.Module = checkpoint.generator()
        self._place()

    def _place(self) -> None:
        """Make the generator ready for the device."""
        from . import inference

        self._generator = inference.ready(self._definition, self.device.device, self.device.precision)

    def synthesize(
        self,
        volume: Volume,
        target: str | None = None,
        *,
        source: str = "auto",
        mask: Volume | None = None,
        cycle: bool = False,
    ) -> SynthesisResult:
        """Run to the end; see `steps`."""
        for progress in self.steps(volume, target, source=source, mask=mask, cycle=cycle):
            if progress.result is not None:
                return progress.result
        raise AssertionError("steps() ends with a result")

    def steps(
        self,
        volume: Volume,
        target: str | None = None,
        *,
        source: str = "auto",
        mask: Volume | None = None,
        cycle: bool = False,
    ) -> Iterator[Progress]:
        """Synthesize step by step; the run stops where the iteration does.

        Parameters
        ----------
        volume : Volume
            T1- or T2-weighted brain MR, with or without skull.
        target : {'t1', 't2'}, optional
            Wanted contrast; by default the one that the source is not.
        source : {'t1', 't2', 'auto'}
            Contrast of `volume`; 'auto' looks.
        mask : Volume, optional
            Brain mask on any grid; outside it the result is 0.
        cycle : bool
            Also give |x - G(G(x))|, which doubles the work.

        Yields
        ------
        Progress
            The last one carries the result.

        Raises
        ------
        InputError
            See `checks.checked`; mask-empty, mask-off-grid, input-contrast-unknown.
        DeviceError
            device-out-of-memory.
        """
        yield Progress(0.0, "prepare")
        with memory.kept():
            yield from self._steps(volume, target, source, mask, cycle, _Run())

    def _steps(
        self, volume: Volume, target: str | None, source: str, mask: Volume | None, cycle: bool, run: _Run
    ) -> Iterator[Progress]:
        begin = time.perf_counter()
        prepared = prepare(volume, self.checkpoint.card["frame"], source=source, target=target, mask=mask)
        run.warnings += prepared.warnings
        run.spent("prepare", begin)
        yield from (Progress(STAGES["synthesize"], "prepare", message=warning) for warning in run.warnings)

        start, span = STAGES["synthesize"], STAGES["restore"] - STAGES["synthesize"]
        if cycle:
            span /= 2
        begin = time.perf_counter()
        synthetic = np.zeros_like(prepared.slices)
        yield from self._passes(prepared, prepared.slices, synthetic, "synthesize", start, span, run)
        run.spent("synthesize", begin)
        if cycle:
            begin = time.perf_counter()
            # What goes back is what the user gets: without the background that the result does not have either.
            kept = synthetic * (prepared.space.to_model(prepared.inside.astype(np.float32)) > 0.5)
            back = np.zeros_like(synthetic)
            yield from self._passes(prepared, kept, back, "cycle", start + span, span, run)
            run.spent("cycle", begin)

        yield Progress(STAGES["restore"], "restore", 0.0)
        begin = time.perf_counter()
        voxels = intensity.to_output(prepared.restored(synthetic))
        difference = None
        if cycle:
            difference = volume.replaced(intensity.to_output(np.abs(prepared.source - prepared.restored(back))))
        run.spent("restore", begin)
        result = SynthesisResult(
            volume=volume.replaced(voxels),
            source_contrast=prepared.contrast.name,
            target_contrast=other(prepared.contrast.name),
            contrast_reason=prepared.contrast.reason,
            device=self.device,
            seconds=time.perf_counter() - run.started,
            stage_seconds=run.stage_seconds,
            warnings=tuple(run.warnings),
            checkpoint_name=self.checkpoint.name,
            checkpoint_sha256=self.checkpoint.sha256,
            cycle=difference,
        )
        yield Progress(1.0, "restore", 0.0, result=result)

    def _passes(
        self,
        prepared: Prepared,
        slices: NDArray[np.float32],
        out: NDArray[np.float32],
        stage: str,
        start: float,
        span: float,
        run: _Run,
    ) -> Iterator[Progress]:
        """One pass of the generator over all slices that are neither empty nor unneeded, written into `out`."""
        todo = np.flatnonzero(slices.any(axis=(1, 2)) & prepared.rows.any(axis=1))
        pixels = slices.shape[1] * slices.shape[2]
        batch = memory.Batch(self.device.device, pixels)
        begin, done = time.perf_counter(), 0
        while done < len(todo):
            chunk = todo[done : done + batch.size]
            try:
                out[chunk] = self._forward(slices, chunk, prepared.window(chunk))
            except (MemoryError, RuntimeError) as error:
                warning = self._after_out_of_memory(error, batch)
                batch = batch if batch.size else memory.Batch(self.device.device, pixels)
                run.warnings.append(warning)
                yield Progress(start + span * done / len(todo), stage, message=warning)
                continue
            batch.done()
            done += len(chunk)
            left = (time.perf_counter() - begin) / done * (len(todo) - done)
            yield Progress(start + span * done / len(todo), stage, left)

    def _forward(self, slices: NDArray[np.float32], chunk: NDArray[np.intp], window: Window) -> NDArray[np.float32]:
        """Generator output for the slices `chunk`, shape (n, rows, columns), right inside the window."""
        import torch

        torch.set_num_threads(self.device.threads)
        neighbours = self.checkpoint.card["generator"]["arguments"].get("in_channels", 1)
        offsets = np.arange(neighbours) - neighbours // 2
        index = np.clip(chunk[:, None] + offsets, 0, len(slices) - 1)
        # In float32, cuDNN would round to the ten bits of TF32.
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            batch = torch.from_numpy(slices[index]).to(self.device.device)
            result: NDArray[np.float32] = self._generator(batch, window)[:, 0].cpu().numpy()
        return result

    def _after_out_of_memory(self, error: Exception, batch: memory.Batch) -> str:
        """Halve the batch; after one slice (then it is 0), go to the CPU; there, give up."""
        if not memory.is_short(error):
            raise error
        batch.halve()
        if batch.size:
            return f"Out of memory on {self.device.device}: going on with {batch.size} slices at a time."
        if self.device.device == "cpu":
            raise DeviceError(
                "device-out-of-memory", "One slice does not fit into memory.", "some free memory."
            ) from error
        warning = f"Out of memory on {self.device.device}: going on on the CPU."
        fallback = devices.choose("cpu", "fp32")
        self.device = replace(fallback, reason=f"{warning} {fallback.reason}")
        self._place()
        return warning
