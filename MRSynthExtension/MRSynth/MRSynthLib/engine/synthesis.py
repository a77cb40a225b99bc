"""A volume in, the same volume in the other contrast out: the one way that every door of MRSynth leads to."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import checkpoint as checkpoints
from . import devices, intensity, likeness, memory, reliability_level, reliability_summary
from . import reliability as reliabilities
from .errors import DeviceError
from .preparation import CONTRASTS, SURE, Prepared, Window, in_plane, other, prepare
from .standard_space import PASSES
from .synthesis_result import Progress, SynthesisResult
from .volume import Volume

if TYPE_CHECKING:
    from torch import nn

__all__ = ["CONTRASTS", "SURE", "Progress", "SynthesisResult", "Synthesizer", "other"]

STAGES = {"prepare": 0.0, "synthesize": 0.08, "restore": 0.94}  # fraction of the run at which each begins


@dataclass(frozen=True)
class _Wanted:
    """What a run is asked for, as `Synthesizer.steps` takes it."""

    target: str | None
    source: str
    mask: Volume | None
    cycle: bool
    planes: str
    like: Volume | None
    reliability: bool
    force: bool


@dataclass
class _Run:
    """What one run keeps while it is under way."""

    warnings: list[str] = field(default_factory=list)
    stage_seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Count the time as this stage's."""
        since = time.perf_counter()
        yield
        self.stage_seconds[stage] = self.stage_seconds.get(stage, 0.0) + time.perf_counter() - since


@dataclass(frozen=True)
class _Job:
    """A run's input, ready for the generator."""

    volume: Volume
    views: list[Prepared]  # axial first
    calibration: reliabilities.Direction | None
    tissue: likeness.Tissue | None  # of the reference


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
        planes: str = "axial",
        like: Volume | None = None,
        reliability: bool = False,
        force: bool = False,
    ) -> SynthesisResult:
        """Run to the end; see `steps`."""
        options: dict[str, Any] = {"cycle": cycle, "planes": planes, "like": like, "reliability": reliability}
        for progress in self.steps(volume, target, source=source, mask=mask, force=force, **options):
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
        planes: str = "axial",
        like: Volume | None = None,
        reliability: bool = False,
        force: bool = False,
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
        planes : {'axial', 'three'}
            'three': the mean of axial, coronal and sagittal passes, for three times the work.
        like : Volume, optional
            A volume of the wanted contrast, from the same scanner or patient, on any grid: the result gets its
            brightness by one monotone curve, see `likeness`.
        reliability : bool
            Also give the expected absolute error and the 90 % interval, see `reliability`.
        force : bool
            Go on where the screening refuses the volume; what it found is among the warnings.

        Yields
        ------
        Progress
            The last one carries the result.

        Raises
        ------
        InputError
            See `checks.checked`; mask-empty, mask-off-grid, input-screened, input-contrast-unknown; input-planes;
            reference-unusable, reference-contrast.
        ModelError
            model-direction; model-reliability: the checkpoint is not calibrated.
        DeviceError
            device-out-of-memory.
        """
        if planes not in PASSES:
            raise ValueError(f"planes is {planes!r}; expected one of {tuple(PASSES)}")
        yield Progress(0.0, "prepare")
        with memory.kept():
            wanted = _Wanted(target, source, mask, cycle, planes, like, reliability, force)
            yield from self._steps(volume, wanted, _Run())

    def _steps(self, volume: Volume, wanted: _Wanted, run: _Run) -> Iterator[Progress]:
        with run.timed("prepare"):
            job = self._job(volume, wanted, run)
        start = STAGES["synthesize"]
        yield from (Progress(start, "prepare", message=warning) for warning in run.warnings)

        span = (STAGES["restore"] - start) / (len(job.views) + wanted.cycle)
        with run.timed("synthesize"):
            passes = []
            for view in job.views:
                passes.append(np.zeros_like(view.slices))
                yield from self._passes(view, view.slices, passes[-1], "synthesize", start, span, run)
                start += span
            unit, synthetic = _combined(job.views, passes)
        back = None
        if wanted.cycle:
            with run.timed("cycle"):
                axial = job.views[0]
                back = np.zeros_like(synthetic)
                yield from self._passes(axial, _kept(axial, synthetic), back, "cycle", start, span, run)

        yield Progress(STAGES["restore"], "restore", 0.0)
        with run.timed("restore"):
            made = _made(job, unit, back)
        if job.calibration is not None:
            with run.timed("reliability"):
                cycle = yield from self._cycle_error(job, synthetic, back, run)
                *maps, doubt = job.calibration.maps(job.views[0], synthetic, cycle)
                expected, half = (volume.replaced(voxels) for voxels in maps)
                trust = reliability_summary.trust(expected, job.views[0].brain)
                made |= {"reliability": expected, "interval": half, "trust": trust}
            if doubt:
                run.warnings.append(doubt)
                yield Progress(STAGES["restore"], "restore", message=doubt)
        yield Progress(1.0, "restore", 0.0, result=self._result(job, wanted, run, made))

    def _cycle_error(
        self, job: _Job, synthetic: NDArray[np.float32], back: NDArray[np.float32] | None, run: _Run
    ) -> Generator[Progress, None, float | None]:
        """Mean |x - G(G(x))| in the brain of a few slices, where the calibration looks at it.

        `back` is G(G(x)) where it was made of all slices; else these few go back now.
        """
        if job.calibration is None or job.calibration.level is None:
            return None
        axial = job.views[0]
        chosen = reliability_level.chosen(axial.sliced_brain)
        if back is None:
            back, start = np.zeros_like(synthetic), STAGES["restore"]
            kept = _kept(axial, synthetic)
            yield from self._passes(axial, kept, back, "cycle", start, 1 - start, run, only=chosen)
        return reliability_level.cycle_error(axial.slices[chosen], back[chosen], axial.sliced_brain[chosen])

    def _job(self, volume: Volume, wanted: _Wanted, run: _Run) -> _Job:
        """Look at the volume, refuse what cannot be, and lay it out for the generator."""
        card = self.checkpoint.card
        frame = card["frame"]
        prepared = prepare(
            volume, frame, source=wanted.source, target=wanted.target, mask=wanted.mask, force=wanted.force
        )
        source, target = prepared.contrast.name, other(prepared.contrast.name)
        self.checkpoint.check_direction(source, target, wanted.cycle)
        views = [prepared, *(in_plane(prepared, frame, plane) for plane in PASSES[wanted.planes][1:])]
        run.warnings += prepared.warnings
        calibration = None
        if wanted.reliability:
            calibration = reliabilities.of_card(card, source, self.checkpoint.name)
            run.warnings += reliabilities.doubts(wanted.planes, wanted.like is not None)
        tissue = None if wanted.like is None else likeness.tissue_of(wanted.like, target)
        return _Job(volume, views, calibration, tissue)

    def _result(self, job: _Job, wanted: _Wanted, run: _Run, made: Mapping[str, Any]) -> SynthesisResult:
        contrast = job.views[0].contrast
        return SynthesisResult(
            source_contrast=contrast.name,
            target_contrast=other(contrast.name),
            contrast_reason=contrast.reason,
            device=self.device,
            seconds=time.perf_counter() - run.started,
            stage_seconds=run.stage_seconds,
            warnings=tuple(run.warnings),
            checkpoint_name=self.checkpoint.name,
            checkpoint_sha256=self.checkpoint.sha256,
            planes=wanted.planes,
            screening=job.views[0].screening,
            **made,
        )

    def _passes(
        self,
        prepared: Prepared,
        slices: NDArray[np.float32],
        out: NDArray[np.float32],
        stage: str,
        start: float,
        span: float,
        run: _Run,
        only: NDArray[np.intp] | None = None,
    ) -> Iterator[Progress]:
        """One pass of the generator over all slices that are neither empty nor unneeded, written into `out`.

        Where `only` is given, over those of them.
        """
        todo = np.flatnonzero(slices.any(axis=(1, 2)) & prepared.rows.any(axis=1))
        if only is not None:
            todo = np.intersect1d(todo, only)
        pixels = slices.shape[1] * slices.shape[2]
        batch = memory.Batch(self.device.device, pixels)
        begin, done = time.perf_counter(), 0
        while done < len(todo):
            chunk = todo[done : done + batch.size]
            try:
                out[chunk] = self.forward(slices, chunk, prepared.window(chunk))
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

    def forward(
        self, slices: NDArray[np.float32], chunk: NDArray[np.intp], window: Window | None = None
    ) -> NDArray[np.float32]:
        """Generator output for some slices: the step that every run is made of.

        Parameters
        ----------
        slices : ndarray, shape (slices, rows, columns)
            All of a volume, laid out for the generator.
        chunk : ndarray of int, shape (n,)
            Which of them.
        window : Window, optional
            Rows and columns outside of which pixels may be wrong.

        Returns
        -------
        ndarray, shape (n, rows, columns)
        """
        import torch

        torch.set_num_threads(self.device.threads)
        index = self.looked_at(chunk, len(slices))
        # In float32, cuDNN would round to the ten bits of TF32.
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            batch = torch.from_numpy(slices[index]).to(self.device.device)
            result: NDArray[np.float32] = self._generator(batch, window)[:, 0].cpu().numpy()
        return result

    def looked_at(self, chunk: NDArray[np.intp], count: int) -> NDArray[np.intp]:
        """The slices, of so many, that the generator looks at to make each of some.

        Returns
        -------
        ndarray, shape (n, channels)
            A 2.5-D generator looks at those above and below, too; at the ends, at the last one again.
        """
        channels = self.checkpoint.card["generator"]["arguments"].get("in_channels", 1)
        index: NDArray[np.intp] = np.clip(chunk[:, None] + np.arange(channels) - channels // 2, 0, count - 1)
        return index

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


def _kept(axial: Prepared, synthetic: NDArray[np.float32]) -> NDArray[np.float32]:
    """What goes back: what the user gets, without the background that the result does not have either."""
    return synthetic * axial.sliced_inside


def _combined(
    views: list[Prepared], made: list[NDArray[np.float32]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The mean of the passes on the volume's grid, and as axial slices."""
    if len(views) == 1:
        return views[0].restored(made[0]), made[0]
    unit = sum(view.restored(slices) for view, slices in zip(views, made, strict=True))
    unit = np.asarray(unit, dtype=np.float32) / np.float32(len(views))
    return unit, views[0].space.to_model(unit)


def _made(job: _Job, unit: NDArray[np.float32], back: NDArray[np.float32] | None) -> dict[str, Any]:
    """What comes of the passes there (`unit`, on the volume's grid) and back (axial slices): volume, cycle, curve."""
    axial, curve, cycle = job.views[0], None, None
    if job.tissue is not None:
        curve = likeness.fit(unit, axial.brain, job.volume, axial.whole_brain, job.tissue)
        unit = curve(unit)
    if back is not None:
        cycle = job.volume.replaced(intensity.to_output(np.abs(axial.source - axial.restored(back))))
    return {"volume": job.volume.replaced(intensity.to_output(unit)), "cycle": cycle, "curve": curve}
