"""The whole job, file to file, in a process of its own, as a user waits for it: from its start to its end."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from MRSynthLib.engine import Volume

SHAPE = (155, 240, 240)  # (k, j, i), 1 mm: a BraTS volume
LARGE = (400, 512, 512)
STAGES = ("start", "read", "load", "prepare", "synthesize", "restore", "write", "end")


def brain() -> Volume:
    """The MNI152 T1 that nilearn bundles, on a BraTS-sized grid; every slice holds some brain."""
    from nilearn.datasets import load_mni152_template

    template = np.asarray(load_mni152_template(resolution=1).dataobj, dtype=np.float32).T
    template = np.rint(template / template.max() * 1000).astype(np.int16)
    filled = [np.flatnonzero(template.any(axis=tuple(n for n in range(3) if n != axis))) for axis in range(3)]
    template = template[tuple(slice(f[0], f[-1] + 1) for f in filled)][-SHAPE[0] :]
    voxels = np.zeros(SHAPE, dtype=np.int16)
    corner = [(n - m) // 2 for n, m in zip(SHAPE, template.shape, strict=True)]
    voxels[tuple(slice(c, c + m) for c, m in zip(corner, template.shape, strict=True))] = template
    return Volume(voxels, np.eye(4), name="MNI152 on a BraTS grid")


def enlarged(volume: Volume, shape: tuple[int, int, int]) -> Volume:
    """The same head on a finer grid."""
    index = [np.arange(new) * old // new for old, new in zip(volume.shape, shape, strict=True)]
    spacing = [old / new for old, new in zip(volume.shape, shape, strict=True)][::-1]
    return Volume(volume.voxels[np.ix_(*index)], np.diag([*spacing, 1.0]), name=volume.name)


def measure(source: Path, precision: str, threads: int, repeats: int) -> dict[str, Any]:
    """Run the job `repeats` times, and give the run of median duration.

    Returns
    -------
    dict
        ``seconds`` in all, ``lowest`` and ``highest``; ``stages``, seconds by stage; ``peak_bytes`` of memory.
    """
    runs = sorted((_once(source, precision, threads) for _ in range(repeats)), key=lambda run: run["seconds"])
    return {**runs[(repeats - 1) // 2], "lowest": runs[0]["seconds"], "highest": runs[-1]["seconds"]}


def _once(source: Path, precision: str, threads: int) -> dict[str, Any]:
    target = source.with_name(f"synthetic-{precision}.nii.gz")
    target.unlink(missing_ok=True)
    begin = time.monotonic()  # the same clock in all processes
    command = [sys.executable, "-m", "benchmarks.whole_job", str(begin), str(source), str(target), precision]
    done = subprocess.run([*command, str(threads)], capture_output=True, text=True, check=True)
    end = time.monotonic()
    run = json.loads(done.stdout.splitlines()[-1])
    run["stages"]["end"] = end - run.pop("written")
    return {"seconds": end - begin, **run}


def main(began: str, source: str, target: str, precision: str, threads: str) -> None:
    """Synthesize `source` into `target`; print seconds by stage and the peak memory in bytes as one line of JSON."""
    import dataclasses

    from MRSynthLib.engine import Synthesizer, read_volume, write_volume

    marks = [float(began), time.monotonic()]
    volume = read_volume(source)
    marks.append(time.monotonic())
    synthesizer = Synthesizer(device="cpu", precision=precision)
    synthesizer.device = dataclasses.replace(synthesizer.device, threads=int(threads))
    marks.append(time.monotonic())
    result = synthesizer.synthesize(volume)
    marks.append(time.monotonic())
    write_volume(result.volume, Path(target))
    marks.append(time.monotonic())
    start, read, load, _, write = np.diff(marks)
    stages = {"start": start, "read": read, "load": load, **result.stage_seconds, "write": write}
    print(json.dumps({"stages": stages, "peak_bytes": _peak(), "written": marks[-1]}))


def _peak() -> int:
    """Most memory that this process has held, in bytes; 0 on Windows."""
    with contextlib.suppress(OSError):  # what getrusage says on Linux counts the parent before exec, too
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])
    if sys.platform == "win32":
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def by_slices(precision: str, threads: int, counts: tuple[int, ...], repeats: int = 2) -> dict[int, float]:
    """Seconds from volume to volume by number of slices, in one warm process."""
    import dataclasses

    from MRSynthLib.engine import Synthesizer

    synthesizer = Synthesizer(device="cpu", precision=precision)
    synthesizer.device = dataclasses.replace(synthesizer.device, threads=threads)
    whole, found = brain(), {}
    for count in counts:
        first = (whole.shape[0] - count) // 2
        part = dataclasses.replace(whole, voxels=whole.voxels[first : first + count])
        found[count] = statistics.median(synthesizer.synthesize(part, source="t1").seconds for _ in range(repeats))
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
