"""``make bench``: the generators against each other, and the whole job by stage."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from MRSynthLib.engine import DeviceError, Volume, devices, write_volume

from . import networks

SHAPE = (155, 240, 240)  # (k, j, i), 1 mm: a BraTS volume


def brain() -> Volume:
    """The MNI152 T1 that nilearn bundles, on a BraTS-sized grid."""
    from nilearn.datasets import load_mni152_template

    template = np.asarray(load_mni152_template(resolution=1).dataobj, dtype=np.float32).T
    template = np.rint(template / template.max() * 1000).astype(np.int16)
    filled = [np.flatnonzero(template.any(axis=tuple(n for n in range(3) if n != axis))) for axis in range(3)]
    template = template[tuple(slice(f[0], f[-1] + 1) for f in filled)][-SHAPE[0] :]
    voxels = np.zeros(SHAPE, dtype=np.int16)
    corner = [(n - m) // 2 for n, m in zip(SHAPE, template.shape, strict=True)]
    voxels[tuple(slice(c, c + m) for c, m in zip(corner, template.shape, strict=True))] = template
    return Volume(voxels, np.eye(4), name="MNI152 on a BraTS grid")


def whole_job(precision: str, threads: int, repeats: int) -> dict[str, Any]:
    """Run the job `repeats` times, each in a fresh process; the run of median duration, and the spread."""
    with tempfile.TemporaryDirectory() as folder:
        source = write_volume(brain(), Path(folder) / "t1.nii.gz")
        runs = []
        for repeat in range(repeats):
            target = Path(folder) / f"t2_{repeat}.nii.gz"
            command = [sys.executable, "-m", "benchmarks.whole_job", str(source), str(target), precision, str(threads)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            runs.append(json.loads(done.stdout.splitlines()[-1]))
    runs.sort(key=lambda run: run["seconds"])
    middle: dict[str, Any] = runs[len(runs) // 2]
    return {**middle, "lowest": runs[0]["seconds"], "highest": runs[-1]["seconds"]}


def _show_networks(precision: str, found: dict[str, Any]) -> None:
    print(f"\nGenerators, {precision}, {networks.SIZE}x{networks.SIZE}, batches of {networks.BATCH}:")
    for name, speed in found["slices_per_second"].items():
        line = f"  {name:<10}{speed:8.1f} slices/s"
        if name in found["ratio"]:
            low, middle, high = found["ratio"][name]
            line += f"   DenseUNet is {middle:.2f} x as fast ({low:.2f} to {high:.2f})"
        print(line)


def _show_job(precision: str, found: dict[str, Any]) -> None:
    print(f"\nWhole job, {precision}, {' x '.join(map(str, SHAPE[::-1]))} at 1 mm, .nii.gz in and out:")
    print(
        f"  {found['seconds']:.1f} s ({found['lowest']:.1f} to {found['highest']:.1f}) after {found['start_up']:.1f} s "
        f"of start-up; peak memory {found['peak_bytes'] / 1e9:.2f} GB"
    )
    for stage, seconds in found["stages"].items():
        print(f"  {stage:<11}{seconds:7.2f} s {100 * seconds / found['seconds']:5.1f} %")


def main() -> None:
    """Print all figures, and write them as JSON where asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (2)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of the whole job (3)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    report: dict[str, Any] = {"threads": arguments.threads}
    for precision in ("fp32", "bf16"):
        try:
            devices.choose("cpu", precision)
        except DeviceError as error:
            print(f"\n{precision} is left out: {error.seen}")
            continue
        found = networks.measure(precision, arguments.threads)
        job = whole_job(precision, arguments.threads, arguments.repeats)
        _show_networks(precision, found)
        _show_job(precision, job)
        report[precision] = {"networks": found, "whole_job": job}
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
