"""`mrsynth batch`: what it adds to a volume, what a second worker brings, and whether large cohorts stay linear.

python -m benchmarks.batch        # part of `make bench`
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from MRSynthLib.engine import Synthesizer, batch, batch_job, batch_report, batch_workers, read_volume, write_volume
from MRSynthLib.engine.batch_plan import Job, Plan, Settings
from MRSynthLib.engine.batch_records import Records, stamp

from .whole_job import brain

COHORT = 10_000
PARTS = ("overhead", "throughput", "cohorts")
SIZES = (1_250, 2_500, 5_000, COHORT)


def measured(
    threads: int,
    volumes: int = 4,
    repeats: int = 2,
    cohort: int = COHORT,
    parts: tuple[str, ...] = PARTS,
    model: str | None = None,
) -> dict[str, Any]:
    """All figures of batch runs.

    Parameters
    ----------
    threads : int
        CPU threads that all workers of a run share.
    volumes : int
        In the cohort whose throughput is measured.
    repeats : int
        Of the comparison of a job with the same work without batch.
    cohort : int
        Examinations in the largest simulated cohort.
    parts : tuple of str
        Of `PARTS`, those that are wanted.
    model : str, optional
        Checkpoint whose jobs are compared with the same work without batch.
    """
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        people = _people(folder / "in", volumes)
        if "overhead" in parts:
            found["overhead"] = _overhead(people, folder, threads, repeats, model)
        if "throughput" in parts:
            found["throughput"] = _throughput(people, folder, threads)
        if "cohorts" in parts:
            sizes = [size for size in SIZES if size < cohort] + [cohort]
            found["cohorts"] = {size: _cohort(folder / str(size), size) for size in sizes}
    return found


def _people(folder: Path, count: int) -> Path:
    """A folder of `count` people, all with the T1 of a BraTS-sized brain."""
    (folder / "p0").mkdir(parents=True)
    source = write_volume(brain(), folder / "p0" / "t1.nii.gz")
    for number in range(1, count):
        (folder / f"p{number}").mkdir()
        shutil.copyfile(source, folder / f"p{number}" / "t1.nii.gz")
    return folder


def _overhead(people: Path, folder: Path, threads: int, repeats: int, model: str | None) -> dict[str, float]:
    """CPU seconds of a job, and of reading, synthesizing and writing alone; in turns, in one warm process."""
    settings = batch.settings_for(folder / "overhead", model, device="cpu", overwrite=True)
    Records(settings.output).prepare()
    job = next(iter(batch.plan([people], settings)[0].jobs.values()))
    synthesizer = batch_job._networks.get(settings.model, "cpu", "auto")
    synthesizer.device = dataclasses.replace(synthesizer.device, threads=threads)
    plain, whole = [], []
    for _ in range(repeats + 1):
        plain.append(_cpu_seconds(lambda: _plain(synthesizer, job.source.path, folder / "plain.nii.gz")))
        whole.append(_cpu_seconds(lambda: _made(job)))
    return {"plain": min(plain[1:]), "job": min(whole[1:])}  # the first ones warm up


def _made(job: Job) -> None:
    outcome = batch_job.carry_out(job)
    assert outcome["status"] == "made", outcome


def _plain(synthesizer: Synthesizer, source: Path, target: Path) -> None:
    result = synthesizer.synthesize(read_volume(source), "t2", source="t1")
    write_volume(result.volume, target, overwrite=True)


def _cpu_seconds(call: Callable[[], object]) -> float:
    begin = time.process_time()
    call()
    return time.process_time() - begin


def _throughput(people: Path, folder: Path, threads: int) -> dict[str, dict[str, float]]:
    """Whole runs of the command by number of workers: seconds from start to end, and CPU seconds."""
    found = {}
    for workers in (0, 1, 2):
        share = max(1, threads // max(1, workers))
        command = [sys.executable, "-m", "MRSynthLib.engine.cli", "batch", str(people), "--device", "cpu", "--quiet"]
        command += ["-o", str(folder / f"workers{workers}"), "--workers", str(workers)]
        found[str(workers)] = {"threads": share, **_timed(command, {"OMP_NUM_THREADS": str(threads)})}
    single = [sys.executable, "-m", "MRSynthLib.engine.cli", "synthesize", "--device", "cpu", "--quiet"]
    sources = sorted(people.rglob("*.nii.gz"))
    runs = [
        _timed([*single, str(source), "-o", str(folder / f"single{n}.nii.gz")], {"OMP_NUM_THREADS": str(threads)})
        for n, source in enumerate(sources)
    ]
    found["single"] = {"threads": threads, **{key: sum(run[key] for run in runs) for key in runs[0]}}
    for one in found.values():
        one["volumes"] = len(sources)
    return found


def _timed(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Seconds from start to end, and CPU seconds of the process and all that it waited for."""
    import os
    import resource

    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **environment})
    after, end = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    return {"seconds": end - begin, "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def _cohort(folder: Path, size: int) -> dict[str, float]:
    """CPU seconds for a simulated cohort: its plan, the plan of the resumed run, the report, and handing out its jobs.

    The volumes are of a few voxels. Their results are not computed: files and records are laid down as jobs leave them.
    """
    for number in range(size):
        (folder / "in" / f"p{number:05d}").mkdir(parents=True)
        (folder / "in" / f"p{number:05d}" / "t1.nii").write_bytes(b"0" * 1000)
    settings = batch.settings_for(folder / "out", device="cpu", format=".nii")
    begin = time.process_time()
    fresh, _ = batch.plan([folder / "in"], settings)
    planned = time.process_time()
    assert len(fresh.jobs) == size, "all are missing"
    _lay_down(fresh, settings)
    resumed_from = time.process_time()
    resumed, _ = batch.plan([folder / "in"], settings)
    resumed_at = time.process_time()
    assert not resumed.jobs, "all are there"
    batch_report.write(resumed, settings, 0.0, "none")
    reported = time.process_time()
    seconds = {"plan": planned - begin, "resume": resumed_at - resumed_from, "report": reported - resumed_at}
    shutil.rmtree(folder)
    if batch_workers.has_dask():
        seconds["hand out"] = _handed_out(fresh)
    return seconds


def _lay_down(plan: Plan, settings: Settings) -> None:
    """Results of all jobs, as small as can be."""
    records = Records(settings.output)
    records.prepare()
    for job in plan.jobs.values():
        outputs = []
        for role, path in (("image", job.target_path("synthetic", "t2")), ("sidecar", _sidecar(job))):
            place = settings.output / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(b"0" * 1000)
            outputs.append({"role": role, "path": path, "sha256": "0" * 64, "stamp": stamp([place])})
        facts = {"source_contrast": "t1", "target_contrast": "t2", "seconds": 1.0, "device": "cpu", "warnings": []}
        source = {"path": str(job.source.path), "sha256": "0" * 64, "stamp": stamp([job.source.path])}
        about = {"state": "done", "wanted": job.wanted, "source": source, "mask": {}, "outputs": outputs}
        records.write(job.name, {**about, "facts": facts, "picture": f"report_pictures/{job.name}.png"})


def _sidecar(job: Job) -> str:
    return job.target_path("synthetic", "t2", ".json")


def _handed_out(plan: Plan) -> float:
    """CPU seconds of command and scheduler to have two workers do nothing with each job, and to hear of it."""
    with batch_workers.Local("cpu", 2) as workers:
        warm = list(workers.run(nothing, [(-1, None)], lambda *_: None))
        begin = time.process_time()
        count = sum(1 for _ in workers.run(nothing, plan.jobs.items(), lambda *_: None))
        seconds = time.process_time() - begin
    assert (len(warm), count) == (1, len(plan.jobs)), "each job once"
    return seconds


def nothing(job: Job, tell: object = None) -> dict[str, str]:
    """Stand in for `batch_job.carry_out`."""
    return {"status": "made"}


def text(found: dict[str, Any]) -> str:
    """The figures as lines to read."""
    lines = ["Batch runs of a BraTS-sized T1, precision auto:"]
    if "overhead" in found:
        plain, job = found["overhead"]["plain"], found["overhead"]["job"]
        alone = f"reading, synthesizing and writing alone {plain:.2f}: {job / plain - 1:+.1%}"
        lines.append(f"  a job takes {job:.2f} CPU seconds; {alone}")
    for name, run in found.get("throughput", {}).items():
        who = {"single": "a command per volume", "0": "batch in one process"}.get(name, f"batch, {name} workers")
        each = run["seconds"] / run["volumes"]
        lines.append(
            f"  {who:<22} {each:6.2f} s per volume from start to end ({run['volumes']} volumes, "
            f"{run['threads']} threads each), {run['cpu'] / run['volumes']:.2f} CPU seconds"
        )
    return "\n".join([*lines, *(_cohort_text(found["cohorts"]) if "cohorts" in found else [])])


def _cohort_text(cohorts: dict[Any, dict[str, float]]) -> list[str]:
    lines = ["Simulated cohorts, CPU milliseconds per examination:"]
    for size, seconds in cohorts.items():
        each = ", ".join(f"{what} {1000 * value / int(size):.2f}" for what, value in seconds.items())
        lines.append(f"  {int(size):>6} examinations: {each}")
    least, most = min(cohorts, key=int), max(cohorts, key=int)
    growth = [cohorts[most][what] / int(most) / (cohorts[least][what] / int(least)) for what in cohorts[most]]
    return [*lines, f"  per examination, the largest takes {max(growth):.2f} times the smallest at most"]


def main() -> None:
    """Print the figures, and write them as JSON if told to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batch", description=__doc__)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (2)")
    parser.add_argument("--volumes", type=int, default=4, help="volumes of the measured cohort (4)")
    parser.add_argument("--cohort", type=int, default=COHORT, help="examinations of the largest simulated one (10000)")
    parser.add_argument("--only", choices=PARTS, help="measure only this (default: all)")
    parser.add_argument("--model", help="checkpoint for the overhead of a job (default: the shipped one)")
    parser.add_argument("--output", type=Path, help="also write the figures as JSON")
    arguments = parser.parse_args()
    parts = (arguments.only,) if arguments.only else PARTS
    found = measured(arguments.threads, arguments.volumes, cohort=arguments.cohort, parts=parts, model=arguments.model)
    print(text(found))
    if arguments.output:
        arguments.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
