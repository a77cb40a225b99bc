"""The command `mrsynth batch`."""

from __future__ import annotations

import argparse
import json
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from .files import WRITTEN
from .process import end_with
from .terminal import ProgressBar

if TYPE_CHECKING:
    from .batch import Finished, Plan
    from .batch_plan import Settings
    from .batch_workers import Workers

PARTIAL = 9
LAYOUTS = ("auto", "folder", "bids", "csv", "dicom")


def add_command(commands: Any, epilog: str) -> None:
    """Add `batch` to the commands of `mrsynth`."""
    more = "But a batch keeps what it has done, whatever the code; 9: some examinations failed, all others are done. "
    more += "Run the same command again to go on."
    batch = commands.add_parser("batch", help="make what is missing in a whole cohort", epilog=f"{epilog} {more}")
    batch.set_defaults(run=_batch, wrong_usage=wrong_usage)
    add = batch.add_argument
    add("inputs", type=Path, nargs="+", metavar="IN", help="folder of studies, BIDS dataset, CSV list or DICOM export")
    add("-o", "--output", type=Path, metavar="OUT", required=True, help="folder for results and report")
    add("--layout", choices=LAYOUTS, default="auto", help="what the inputs are (default: found out)")
    add("--to", choices=("t1", "t2"), help="make only this contrast where it is missing (default: both)")
    add("--model", help="path or installed name of a checkpoint (default: the shipped one)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add("--precision", default="auto", help="auto, fp32, bf16 or fp16")
    add("--format", choices=WRITTEN, default=".nii.gz", help="of the images (default: %(default)s)")
    add("--cycle", action="store_true", help="also write |x - G(G(x))|, the cycle difference")
    add("--planes", choices=("axial", "three"), default="axial", help="three: mean of three passes, thrice the work")
    add("--reliability", action="store_true", help="also write the expected error of each voxel, and its interval")
    add("--like", type=Path, metavar="REFERENCE", help="with --to: make all as bright as this volume of that contrast")
    add("--force", action="store_true", help="go on where the screening of an input refuses")
    add("--dicom", action="store_true", help="where the source is a DICOM series, write one")
    add("--anonymize", action="store_true", help="with --dicom: basic profile of the standard; not of the voxels")
    add("--overwrite", action="store_true", help="make again what earlier runs made; acquired volumes always stay")
    add("--workers", type=int, metavar="N", help="worker processes (default: by memory, cores, GPUs); 0: without Dask")
    add("--scheduler", metavar="ADDRESS", help="of a running Dask scheduler, tcp://host:port")
    add("--dry-run", action="store_true", help="only say what would be done; writes nothing")
    add("--json", action="store_true", help="print one JSON object instead of text")
    add("--progress-json", action="store_true", help="print a JSON object per line: what happens, as it happens")
    add("--end-with", type=int, metavar="PID", help="stop when this process ends")
    add("--quiet", action="store_true", help="print errors only")


def wrong_usage(arguments: argparse.Namespace) -> str:
    """Say what does not go together; "" where all does."""
    if arguments.scheduler is not None and arguments.workers is not None:
        return "--workers are those of this machine and --scheduler has its own: give one of them"
    if arguments.workers is not None and not 0 <= arguments.workers <= 256:
        return "--workers is a number from 0 to 256"
    if arguments.like is not None and arguments.to is None:
        return "--like needs --to, the contrast of the reference"
    if arguments.anonymize and not arguments.dicom:
        return "--anonymize needs --dicom"
    if arguments.json and arguments.progress_json:
        return "--json and --progress-json exclude each other"
    return ""


def _batch(arguments: argparse.Namespace, out: TextIO) -> int:
    from . import batch

    if arguments.end_with is not None:
        end_with(arguments.end_with)
    asked = {"planes": arguments.planes, "reliability": arguments.reliability, "force": arguments.force}
    settings = batch.settings_for(
        arguments.output,
        arguments.model,
        device=arguments.device,
        precision=arguments.precision,
        format=arguments.format,
        cycle=arguments.cycle,
        extra={name: value for name, value in asked.items() if value not in (False, "axial")},
        like=arguments.like,
        dicom=arguments.dicom,
        anonymous=arguments.anonymize,
        overwrite=arguments.overwrite,
    )
    wanted = (arguments.to,) if arguments.to else ("t1", "t2")
    machine = arguments.json or arguments.progress_json
    with ProgressBar(sys.stderr, sys.stderr.isatty() and not (arguments.quiet or machine)) as bar:
        told = _Told(bar, out if arguments.progress_json else None, arguments.quiet or machine)
        if arguments.dry_run:
            made, _ = batch.plan(arguments.inputs, settings, layout=arguments.layout, wanted=wanted, told=told)
            return _tell_plan(made, arguments, out)
        finished = batch.run(
            arguments.inputs, settings, _workers(arguments), layout=arguments.layout, wanted=wanted, told=told
        )
    return _conclude(finished, settings, arguments, out)


def _workers(arguments: argparse.Namespace) -> Workers:
    """Those that were asked for; this process where Dask is not installed and nobody asked."""
    from . import batch_workers

    if arguments.scheduler is not None:
        return batch_workers.Remote(arguments.scheduler)
    if arguments.workers == 0 or (arguments.workers is None and not batch_workers.has_dask()):
        return batch_workers.Inline()
    return batch_workers.Local(arguments.device, arguments.workers)


class _Told:
    """Shows events to people as a bar, and to programs as lines of JSON."""

    def __init__(self, bar: ProgressBar, lines: TextIO | None, quiet: bool) -> None:
        self._bar = bar
        self._lines = lines
        self._quiet = quiet
        self._lock = threading.Lock()  # workers tell their progress in a thread of their own

    def __call__(self, event: dict[str, Any]) -> None:
        with self._lock:
            self._show(event)

    def _show(self, event: dict[str, Any]) -> None:
        if self._lines is not None:
            self._lines.write(json.dumps(event) + "\n")
            self._lines.flush()
        kind = event["event"]
        if kind == "planning":
            self._bar.draw(event["done"] / event["total"], "plan", None)
        elif kind == "progress":
            label = f"{event['done']} of {event['total']}"
            self._bar.draw(event["fraction"], label, event["seconds_left"])
        elif kind == "notice" and not self._quiet:
            self._bar.clear()
            print(f"mrsynth: {event['message']}", file=sys.stderr)
        elif kind == "failure" and not self._quiet:
            self._bar.clear()
            print(f"mrsynth: {_name(event)}: {event['error']['message']} [{event['error']['code']}]", file=sys.stderr)


def _name(event: dict[str, Any]) -> str:
    return " ".join(filter(None, (event["subject"], event["session"])))


def _tell_plan(made: Plan, arguments: argparse.Namespace, out: TextIO) -> int:
    from .batch_report import entry

    counts = made.counts()
    if arguments.json or arguments.progress_json:
        document = {"jobs": len(made.jobs), "counts": counts, "examinations": [entry(row) for row in made.rows]}
        out.write(json.dumps({"event": "plan", **document} if arguments.progress_json else document) + "\n")
        return 0
    for number, row in enumerate(made.rows):
        what = f"would make {row.target.upper()}w from {row.source}" if number in made.jobs else row.status
        about = row.error.get("message") or row.note
        _say(out, f"{row.subject} {row.session}: {what}{f' ({about})' if about else ''}".replace(" :", ":"))
    _say(out, f"{len(made.jobs)} to make, {', '.join(f'{n} {status}' for status, n in counts.items() if n)}")
    return 0


def _say(out: TextIO, line: str) -> None:
    """Write a line; a file name in it may be no Unicode text."""
    out.write(line.encode("utf-8", "backslashreplace").decode() + "\n")


def _conclude(finished: Finished, settings: Settings, arguments: argparse.Namespace, out: TextIO) -> int:
    """Say how it went, and return the exit code."""
    counts = finished.plan.counts()
    report = str(finished.report) if finished.report else None
    code = finished.stopped.exit_code if finished.stopped else PARTIAL if counts["failed"] else 0
    document = {"exit_code": code, "counts": counts, "report": report, "seconds": round(finished.seconds, 3)}
    if finished.stopped:
        from .process import error_document

        document["error"] = error_document(finished.stopped)
        print(f"mrsynth: {finished.stopped} [{finished.stopped.code}]", file=sys.stderr)
    if arguments.progress_json:
        out.write(json.dumps({"event": "done", **document}) + "\n")
    elif arguments.json:
        out.write(json.dumps(document) + "\n")
    elif not arguments.quiet:
        _say(out, f"{', '.join(f'{n} {status}' for status, n in counts.items() if n)}; {report or settings.output}")
    return code
