"""`mrsynth-train`: from folders of volumes to a trained generator."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mrsynth_training.errors import TrainingError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code (0, 2 for usage, 3 for what the user can put right)."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.command(options)
    except TrainingError as error:
        print(f"mrsynth-train: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 7
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mrsynth-train", description="Train MRSynth's self-inverse generator.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    prepare = commands.add_parser("prepare", help="volumes to a slice store")
    prepare.add_argument("data", type=Path, help="folder with one sub-folder per study (plain or BraTS file names)")
    prepare.add_argument("-o", "--store", type=Path, required=True, help="folder of the slice store to write")
    prepare.add_argument("--frame", choices=("native", "paper"), default="native")
    prepare.add_argument("--validation", nargs="*", default=[], metavar="PATIENT", help="patients kept out of training")
    prepare.add_argument("--jobs", type=int, default=1, help="studies prepared at once")
    prepare.set_defaults(command=_prepare)

    train = commands.add_parser("train", help="train, or continue a run exactly where it stopped")
    train.add_argument("config", type=Path, help="the experiment's YAML file")
    train.add_argument("--store", type=Path, required=True, help="slice store from `prepare`")
    train.add_argument("-o", "--run", type=Path, required=True, help="folder of the run; continued if it exists")
    train.add_argument("--init-from", type=Path, help="run whose generator a new run starts from")
    train.add_argument("--max-minutes", type=float, help="save and stop after this time")
    train.add_argument("--accelerator", default="auto", help="cpu, cuda, mps or auto")
    train.add_argument("--devices", default="1", help="how many devices")
    train.add_argument("--threads", type=int, help="CPU threads of torch")
    train.set_defaults(command=_train)
    return parser


def _prepare(options: argparse.Namespace) -> int:
    from mrsynth_training.preparation import prepare

    prepare(options.data, options.store, options.frame, validation=options.validation, jobs=options.jobs)
    print(f"slice store written to {options.store}")
    return 0


def _train(options: argparse.Namespace) -> int:
    import torch

    from mrsynth_training.config import load
    from mrsynth_training.loop import Run
    from mrsynth_training.slices import open_store

    config = load(options.config)
    if options.threads:
        torch.set_num_threads(options.threads)
    run = Run(
        config,
        open_store(options.store),
        options.run,
        init_from=options.init_from,
        accelerator=options.accelerator,
        devices=options.devices,
    )
    complete = run.train(options.max_minutes)
    state = "complete" if complete else f"stopped at step {run.step} of {run.total}; run again to continue"
    print(f"{options.run}: {state} (configuration {config.sha256()[:12]})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
