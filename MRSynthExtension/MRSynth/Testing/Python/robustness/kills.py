"""SIGKILL at random moments of a batch run, resumed each time; the end has to be that of an undisturbed run."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from engine_helpers import small_head

from MRSynthLib.engine.files import write_volume

from .doors import environment
from .mutate import randomness

SUBJECTS = 6
LONGEST = 600.0  # seconds for one attempt
TIMES = ("Created", "Seconds", "StageSeconds")  # what differs from run to run


@dataclass
class Killed:
    """What came of it.

    Attributes
    ----------
    kills : int
        SIGKILLs that met a run at work.
    runs : int
        Runs that were compared in the end.
    interrupted_at : list of int
        Number of images that were there at each kill.
    failures : list of str
    """

    kills: int = 0
    runs: int = 0
    interrupted_at: list[int] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def torture(
    model: Path, count: int, seed: int, workers: int, tell: Callable[[str], object] = lambda line: None
) -> Killed:
    """Kill runs until `count` kills have met one at work.

    Parameters
    ----------
    model : Path
        Checkpoint.
    count, seed : int
    workers : int
        Dask workers of a run; 0: without Dask.
    tell : callable
        Called with a line for each kill and failure.
    """
    result = Killed()
    rng = randomness(seed, f"kills {workers}")
    with tempfile.TemporaryDirectory(prefix="robustness-") as name:
        folder = Path(name)
        _cohort(folder / "in")
        before = contents(folder / "in")
        rhythm = _undisturbed(folder, model, workers)
        whole = contents(folder / "whole")
        while result.kills < count and not result.failures:
            _disturbed(folder, model, workers, count, rhythm, rng, result, tell)
            if contents(folder / "out") != whole:
                result.failures.append(f"run {result.runs} differs: {_difference(contents(folder / 'out'), whole)}")
            if contents(folder / "in") != before:
                result.failures.append(f"run {result.runs} changed its input")
            shutil.rmtree(folder / "out")
            result.runs += 1
    for failure in result.failures:
        tell(failure)
    return result


def _undisturbed(folder: Path, model: Path, workers: int) -> tuple[float, float]:
    """Run once to the end; the seconds up to its first image, and from there to the next on average.

    Raises
    ------
    RuntimeError
        It does not come to a good end.
    """
    begin = time.monotonic()
    process = _start(folder, "whole", model, workers)
    _wait(process, folder / "whole", 1)
    first = time.monotonic() - begin
    code = process.wait(LONGEST)
    there = _count(folder / "whole")
    if code != 0 or there != SUBJECTS:
        raise RuntimeError(f"the undisturbed run ended with {code} and {there} images")
    return first, (time.monotonic() - begin - first) / SUBJECTS


def _disturbed(
    folder: Path,
    model: Path,
    workers: int,
    count: int,
    rhythm: tuple[float, float],
    rng: random.Random,
    result: Killed,
    tell: Any,
) -> None:
    """One run that is killed now and then, each time resumed, up to its end.

    Half of the kills come at any time of the start, the other half at any time of the work.
    """
    for _ in range(100):
        done = _count(folder / "out")
        starting = rng.random() < 0.5
        images_first = 0 if starting else rng.randint(min(done + 1, SUBJECTS), SUBJECTS)
        delay = rng.uniform(0, rhythm[0] if starting else rhythm[1])
        process = _start(folder, "out", model, workers)
        try:
            if result.kills >= count:
                code = process.wait(LONGEST)
            else:
                _wait(process, folder / "out", images_first)
                code = process.wait(delay)
        except subprocess.TimeoutExpired:
            there = _count(folder / "out")
            everybody = rng.random() < 0.7  # else its children have to find out by themselves
            _kill(process, everybody)
            result.kills += 1
            result.interrupted_at.append(there)
            where = f"{delay:.2f} s after the {'start' if starting else f'image {images_first}'}"
            tell(f"kill {result.kills}: {where}, {there} images there, {'all' if everybody else 'the parent alone'}")
            continue
        if code != 0:
            result.failures.append(f"a resumed run ended with {code}")
        return
    result.failures.append("it did not come to its end in 100 attempts")


def _wait(process: subprocess.Popen[bytes], output: Path, count: int) -> None:
    """Until there are so many images, or the process has ended."""
    while process.poll() is None and _count(output) < count:
        time.sleep(0.005)


def _count(output: Path) -> int:
    return len(images(output)) if output.is_dir() else 0


def _kill(process: subprocess.Popen[bytes], everybody: bool) -> None:
    if everybody:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
    if not everybody:
        _wait_for(process.pid)


def _start(folder: Path, output: str, model: Path, workers: int) -> subprocess.Popen[bytes]:
    options = ["--model", str(model), "--device", "cpu", "--workers", str(workers), "--to", "t2", "--json"]
    return subprocess.Popen(
        [sys.executable, "-m", "MRSynthLib.engine.cli", "batch", "in", "-o", output, *options],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _wait_for(group: int) -> None:
    """Until nobody of a process group is left; after a minute they are killed."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _cohort(folder: Path) -> None:
    """Examinations with a T1 each, no two of them alike."""
    head = small_head()
    rng = np.random.default_rng(5)
    for number in range(SUBJECTS):
        (folder / f"p{number}").mkdir(parents=True)
        noise = rng.integers(0, 40, head.shape).astype(head.voxels.dtype)
        voxels = np.where(head.voxels > 0, head.voxels + noise, 0).astype(head.voxels.dtype)
        write_volume(head.replaced(voxels), folder / f"p{number}" / "t1.nii.gz")


def images(folder: Path) -> list[Path]:
    """The images of an output folder, without what a run keeps for itself; also while it writes."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in names if name.endswith(".nii.gz") and not name.startswith(".")]
    return sorted(found)


def _parts(path: Path, folder: Path) -> tuple[str, ...]:
    return path.relative_to(folder).parts


def contents(folder: Path) -> dict[str, str]:
    """What a user finds: a digest of every file, images by header and voxels, sidecars by field, without times.

    The report and the run's own records tell when and how often was computed; they have to be there, no more.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        parts = _parts(path, folder)
        if not path.is_file() or any(part[0] == "." for part in parts[:-1]):
            continue
        if path.name.endswith(".nii.gz"):
            image = nibabel.load(path)
            data = np.asarray(image.dataobj).tobytes() + image.header.binaryblock
        elif path.suffix == ".json" and len(parts) > 1:
            document = json.loads(path.read_text(encoding="utf-8"))
            found |= {f"{'/'.join(parts)}: {key}": repr(value) for key, value in document.items() if key not in TIMES}
            continue
        elif len(parts) == 1:
            data = b""
        else:
            data = path.read_bytes()
        found["/".join(parts)] = hashlib.sha256(data).hexdigest()
    return found


def _difference(one: dict[str, str], other: dict[str, str]) -> str:
    missing, more = sorted(other.keys() - one.keys()), sorted(one.keys() - other.keys())
    return f"missing {missing[:3]}, more {more[:3]}, other {[k for k in one if one[k] != other.get(k)][:5]}"
