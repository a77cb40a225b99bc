"""The command: which part, with which seed, and one case alone."""

from __future__ import annotations

import argparse
import fnmatch
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import doors
from .corpus import corpus
from .inputs import Tally, drive

DOORS: dict[str, Callable[[Path], Any]] = {
    "cli": doors.ResidentCli,
    "worker": doors.Worker,
    "fresh-cli": doors.FreshCli,
    "fresh-worker": doors.FreshWorker,
}
SEED = 2026
PROGRAM = "python MRSynthExtension/MRSynth/Testing/Python/robustness"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 1 where anything went wrong."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__)
    parts = parser.add_subparsers(required=True, metavar="PART")
    inputs = parts.add_parser("inputs", help="broken inputs through the command line and the worker")
    inputs.set_defaults(run=_inputs)
    inputs.add_argument("--door", choices=DOORS, action="append", help="may be given again; default: cli and worker")
    inputs.add_argument("--case", metavar="PATTERN", default="*", help="names of cases, with * and ?")
    inputs.add_argument("--sample", type=int, metavar="N", help="so many of them, drawn by the seed")
    inputs.add_argument("--keep", type=Path, metavar="FOLDER", help="leave the files of each case here")
    inputs.add_argument("--list", action="store_true", help="only show the names")
    for part in (inputs,):
        part.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args(argv)
    return int(arguments.run(arguments))


def tiny_model(folder: Path) -> Path:
    """A checkpoint of a very small untrained network: what reads the input is the same, and the rest is quick."""
    from conftest import tiny_card
    from engine_helpers import save_untrained

    return save_untrained(folder / "tiny.safetensors", tiny_card())


def _inputs(arguments: argparse.Namespace) -> int:
    from .mutate import randomness

    cases = [case for case in corpus() if fnmatch.fnmatchcase(case.name, arguments.case) or case.name == arguments.case]
    if arguments.sample is not None:
        cases = randomness(arguments.seed, "sample").sample(cases, min(arguments.sample, len(cases)))
    if arguments.list:
        print("\n".join(case.name for case in cases))
        return 0
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        model = tiny_model(Path(folder))
        for name in arguments.door or ["cli", "worker"]:
            door = DOORS[name](model)
            keep = None if arguments.keep is None else arguments.keep / name
            begin = time.monotonic()
            try:
                tally = drive(cases, door, arguments.seed, keep=keep, tell=lambda line: print(line, flush=True))
            finally:
                door.close()
            _report(name, tally, arguments.seed, time.monotonic() - begin)
            failed += len(tally.failures)
    return int(failed > 0)


def _report(name: str, tally: Tally, seed: int, seconds: float) -> None:
    print(f"\n{name}, seed {seed}: {tally.count} inputs in {seconds:.0f} s, {len(tally.failures)} wrong", end="")
    print(f", {tally.impossible} not possible here" if tally.impossible else "")
    print(
        f"  slowest {tally.seconds:.1f} s ({tally.slowest}), most memory {tally.memory / 1e9:.2f} GB ({tally.largest})"
    )
    print("  " + ", ".join(f"{kind} {count}" for kind, count in sorted(tally.kinds.items())))
    print("  answers: " + ", ".join(f"{code} {count}" for code, count in tally.outcomes.most_common()))
    if tally.failures:
        print(f"again: {PROGRAM} inputs --seed {seed} --door {name} --case '{tally.failures[0].split(':')[0]}'")
    sys.stdout.flush()
