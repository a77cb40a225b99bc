"""Broken inputs, damaged checkpoints and killed runs: count what comes of them. See docs/reliability.md."""

from __future__ import annotations

import argparse
import fnmatch
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import cohort, doors, headers, kills
from .case import Case
from .corpus import corpus
from .inputs import Tally, drive
from .mutate import randomness

DOORS: dict[str, Callable[[Path], Any]] = {
    "cli": doors.ResidentCli,
    "worker": doors.Worker,
    "fresh-cli": doors.FreshCli,
    "fresh-worker": doors.FreshWorker,
}
SEED = 2026
SAMPLE = 60  # inputs that also go through processes of their own
PROGRAM = "python MRSynthExtension/MRSynth/Testing/Python/robustness"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 1 where anything went wrong."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__)
    parts = parser.add_subparsers(required=True, metavar="PART")
    inputs = parts.add_parser("inputs", help="broken inputs through command line, worker and batch")
    inputs.add_argument("--door", choices=[*DOORS, "batch"], action="append", help="may be repeated; default: all")
    inputs.add_argument("--case", metavar="PATTERN", default="*", help="names of cases, with * and ?")
    inputs.add_argument("--sample", type=int, metavar="N", help="so many of them, drawn by the seed")
    inputs.add_argument("--keep", type=Path, metavar="FOLDER", help="leave the files of each case here")
    inputs.add_argument("--list", action="store_true", help="only show the names")
    fuzz = parts.add_parser("headers", help="mutated safetensors headers")
    fuzz.add_argument("--count", type=int, default=5000)
    fuzz.add_argument("--number", type=int, help="only this mutant")
    fuzz.add_argument("--keep", type=Path, metavar="FILE", help="with --number: leave the mutant here")
    torture = parts.add_parser("kills", help="SIGKILL at random moments of a batch run, then resume")
    torture.add_argument("--count", type=int, default=50)
    torture.add_argument("--workers", type=int, default=0, help="Dask workers of the run; 0: without Dask")
    for part, run in ((inputs, _inputs), (fuzz, _headers), (torture, _kills)):
        part.add_argument("--seed", type=int, default=SEED, help="of everything random (default: %(default)s)")
        part.set_defaults(run=run)
    arguments = parser.parse_args(argv)
    return int(arguments.run(arguments))


def tiny_model(folder: Path) -> Path:
    """A checkpoint of a very small untrained network: what reads the input is the same, and the rest is quick."""
    from conftest import tiny_card
    from engine_helpers import save_untrained

    return save_untrained(folder / "tiny.safetensors", tiny_card())


def _say(line: str) -> None:
    print(line, flush=True)


def sampled(cases: Sequence[Case], seed: int, count: int) -> list[Case]:
    """So many of the cases, in their order."""
    chosen = set(randomness(seed, "sample").sample(range(len(cases)), min(count, len(cases))))
    return [case for number, case in enumerate(cases) if number in chosen]


def _inputs(arguments: argparse.Namespace) -> int:
    cases = [case for case in corpus() if case.name == arguments.case or fnmatch.fnmatchcase(case.name, arguments.case)]
    if arguments.sample is not None:
        cases = sampled(cases, arguments.seed, arguments.sample)
    if arguments.list or not cases:
        _say("\n".join(case.name for case in cases))
        return int(not cases)
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        model = tiny_model(Path(folder))
        for name in arguments.door or [*DOORS, "batch"]:
            chosen = cases if arguments.door or not name.startswith("fresh") else sampled(cases, arguments.seed, SAMPLE)
            begin = time.monotonic()
            tally = _through(name, chosen, model, arguments)
            _report(name, tally, arguments.seed, time.monotonic() - begin)
            failed += len(tally.failures)
    return int(failed > 0)


def _through(name: str, cases: Sequence[Case], model: Path, arguments: argparse.Namespace) -> Tally:
    if name == "batch":
        return cohort.drive(cases, model, arguments.seed, tell=_say)
    door = DOORS[name](model)
    keep = None if arguments.keep is None else arguments.keep / name
    try:
        return drive(cases, door, arguments.seed, keep=keep, tell=_say)
    finally:
        door.close()


def _report(name: str, tally: Tally, seed: int, seconds: float) -> None:
    _say(
        f"\n{name}, seed {seed}: {tally.count} inputs in {seconds:.0f} s, {len(tally.failures)} wrong, "
        f"{tally.impossible} not possible here\n"
        f"  slowest {tally.seconds:.1f} s {tally.slowest}, most memory {tally.memory / 1e9:.2f} GB {tally.largest}\n"
        "  inputs: " + ", ".join(f"{kind} {count}" for kind, count in sorted(tally.kinds.items())) + "\n"
        "  answers: " + ", ".join(f"{code} {count}" for code, count in tally.outcomes.most_common())
    )
    if tally.failures:
        _say(f"  again: {PROGRAM} inputs --seed {seed} --door {name} --case '{tally.failures[0].split(': ')[0]}'")


def _headers(arguments: argparse.Namespace) -> int:
    numbers = range(arguments.count)
    if arguments.number is not None:
        numbers = range(arguments.number, arguments.number + 1)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        whole = tiny_model(Path(folder)).read_bytes()
    if arguments.keep is not None:
        arguments.keep.write_bytes(headers.mutant(whole, arguments.seed, numbers.start)[1])
    result = headers.fuzz(whole, numbers, arguments.seed, _say)
    _say(
        f"\nheaders, seed {arguments.seed}: {result.count} mutants in {time.monotonic() - begin:.0f} s, "
        f"{len(result.failures)} wrong, most memory {result.memory / 1e9:.2f} GB\n"
        "  answers: " + ", ".join(f"{code} {count}" for code, count in result.answers.most_common())
    )
    if result.failures:
        _say(f"  again: {PROGRAM} headers --seed {arguments.seed} --number {result.failures[0].split()[0]}")
    return int(bool(result.failures))


def _kills(arguments: argparse.Namespace) -> int:
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        model = tiny_model(Path(folder))
        result = kills.torture(model, arguments.count, arguments.seed, arguments.workers, _say)
    _say(
        f"\nkills, seed {arguments.seed}, {arguments.workers} workers: {result.kills} kills of {result.runs} runs in "
        f"{time.monotonic() - begin:.0f} s, {len(result.failures)} wrong"
    )
    return int(bool(result.failures))


if __name__ == "__main__":
    sys.exit(main())
