"""``make bench``: the networks against each other, the whole job, memory, scaling, training; about ten minutes."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from MRSynthLib.engine import DeviceError, checkpoint, devices, write_volume
from MRSynthLib.engine.probe import _processor

from . import batch, machine, networks, report, training, whole_job

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Print all figures; write them as JSON, and a picture of them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (2)")
    parser.add_argument("--repeats", type=int, default=7, help="interleaved repeats of each network (7)")
    parser.add_argument("--jobs", type=int, default=3, help="runs of the whole job (3)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for bench.json and bench.png")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found = measured(arguments.threads, arguments.repeats, arguments.jobs)
    print(report.text(found))
    print("\n" + training.text(found["training"]))
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "bench.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    report.picture(found, arguments.output / "bench.png")
    print(f"\n{arguments.output / 'bench.json'} and bench.png")


def measured(threads: int, repeats: int, jobs: int) -> dict[str, Any]:
    """Measure everything, in the precisions that this CPU has."""
    net = checkpoint.load().generator()
    found: dict[str, Any] = {
        "processor": _processor(),
        "threads": threads,
        "torch": torch.__version__,
        "needs": {"as defined": machine.needs(net, 128), "as run": machine.needs(machine.as_run(net), 128)},
        "precisions": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        source = write_volume(whole_job.brain(), Path(folder) / "t1.nii.gz")
        for precision in ("fp32", "bf16"):
            try:
                devices.choose("cpu", precision)
            except DeviceError as error:
                print(f"{precision} is left out: {error.seen}")
                continue
            found["precisions"][precision] = {
                "job": whole_job.measure(source, precision, threads, jobs),
                **_networks(precision, found["needs"], repeats),
            }
        large = write_volume(whole_job.enlarged(whole_job.brain(), whole_job.LARGE), Path(folder) / "large.nii.gz")
        found["large"] = whole_job.measure(large, "fp32", threads, 1)
    found["batch"] = batch.measured(threads)
    found["by_threads"] = networks.by_threads("fp32", 128, threads)
    found["by_size"] = networks.by_size("fp32", (96, 128, 192, 256, 384))
    found["training"] = training.measure(threads)
    found["by_slices"] = whole_job.by_slices("fp32", threads, (20, 40, 80, 155))
    return json.loads(json.dumps(found))  # keys as text, as in the file


def _networks(precision: str, needs: dict[str, Any], repeats: int) -> dict[str, Any]:
    peaks = machine.peaks(precision)
    sizes = {}
    for size in (128, 192):
        sizes[size] = networks.measure(precision, size, repeats)
        seconds = sizes[size]["seconds"][networks.OURS]
        sizes[size]["share_of_peak"] = {
            form: need["operations"] * (size / 128) ** 2 / seconds / peaks["operations"] for form, need in needs.items()
        }
    return {"peaks": peaks, "networks": sizes}


if __name__ == "__main__":
    main()
