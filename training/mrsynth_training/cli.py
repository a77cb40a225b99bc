"""`mrsynth-train`: from folders of volumes to a trained generator."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mrsynth_training import calibration_cli, data_cli, faithfulness_cli, scoring_cli, study_cli
from mrsynth_training import options as shared
from mrsynth_training.errors import TrainingError
from MRSynthLib.engine.errors import MRSynthError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code (0, 2 for usage, 3 to 7 for what the user can put right)."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.command(options)
    except (TrainingError, MRSynthError) as error:
        print(f"mrsynth-train: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 7
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mrsynth-train", description="Train MRSynth's self-inverse generator.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    data_cli.add(commands)
    _add_train(commands)
    scoring_cli.add(commands)
    study_cli.add(commands)
    _add_export(commands)
    calibration_cli.add(commands)
    faithfulness_cli.add(commands)
    _add_screening(commands)
    _add_phantom(commands)
    return parser


def _add_train(commands: Any) -> None:
    train = commands.add_parser("train", help="train, or continue a run exactly where it stopped")
    train.add_argument("config", type=Path, help="the experiment's YAML file")
    train.add_argument("--store", type=Path, required=True, help="slice store from `prepare`")
    train.add_argument("-o", "--run", type=Path, required=True, help="folder of the run; continued if it exists")
    train.add_argument("--init-from", type=Path, help="run whose generator a new run starts from")
    train.add_argument("--max-minutes", type=float, help="save and stop after this time")
    train.add_argument("--accelerator", default="auto", help="cpu, cuda, mps or auto")
    train.add_argument("--devices", default="1", help="how many devices (under torchrun: its number of processes)")
    train.add_argument(
        "--compile",
        choices=("off", "default", "cuda-graphs"),
        default="off",
        help="torch.compile, checked against the uncompiled modules before the first step (off)",
    )
    train.add_argument("--threads", type=int, help="CPU threads of torch")
    train.set_defaults(command=_train)


def _add_export(commands: Any) -> None:
    export = commands.add_parser("export", help="a run's averaged generator as a checkpoint with its card")
    export.add_argument("run", type=Path, help="folder of the run")
    export.add_argument("-o", "--output", type=Path, required=True, help="checkpoint to write (.safetensors)")
    export.add_argument("--name", required=True, help="the checkpoint's name")
    export.add_argument(
        "--average-with",
        type=Path,
        nargs="+",
        default=[],
        metavar="RUN",
        help="mean with runs from the same start",
    )
    export.add_argument("--metrics", type=Path, help="JSON file from `evaluate` of the same weights")
    export.add_argument(
        "--cross-validation",
        type=Path,
        nargs="+",
        default=(),
        metavar="FILE",
        help="JSON from `evaluate` of other weights, each trained without the studies scored",
    )
    export.add_argument(
        "--gate", nargs="+", type=Path, default=[], metavar="FILE", help="JSON from `evaluate` and `lesions`: refuse"
    )
    export.add_argument("--frame", choices=("native", "paper"), help="must be the run's; a guard against mix-ups")
    export.add_argument(
        "--direction", choices=("t1_to_t2", "t2_to_t1"), help="which generator of a cyclegan or pix2pix run"
    )
    export.add_argument("--licence", help="of the weights; by default what the training data allow")
    export.add_argument(
        "--known-failure", action="append", default=[], metavar="TEXT", help="added to the usual ones; repeatable"
    )
    export.set_defaults(command=_export)


def _add_screening(commands: Any) -> None:
    screening = commands.add_parser("screening", help="how right the screening is, leaving one patient out")
    screening.add_argument("data", type=Path, help="folder with one sub-folder per study (t1, t2, flair, t1c .nii.gz)")
    shared.output(screening)
    screening.add_argument("--fit", type=Path, metavar="FILE", help="also write the numbers fitted to all volumes")
    screening.add_argument("--phantoms", type=int, default=4, metavar="N", help="computed patients")
    screening.add_argument("--others", type=int, default=10, metavar="N", help="things of each kind that are no brain")
    screening.set_defaults(command=_screening)


def _add_phantom(commands: Any) -> None:
    phantom = commands.add_parser("phantom", help="computed patients in BraTS' layout, or the module's sample data")
    wanted = phantom.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--subjects", type=int, metavar="N", help="write N patients with tumours")
    wanted.add_argument(
        "--sample", type=Path, metavar="FOLDER", help="write the module's sample data, and nothing else"
    )
    phantom.add_argument("-o", "--out", type=Path, help="folder of the patients; those that are there are kept")
    phantom.add_argument("--seed", type=int, default=0, help="of everything random")
    phantom.add_argument("--spacing", type=float, default=1.0, metavar="MM", help="of the voxels")
    phantom.add_argument("--lesions", action="store_true", help="white-matter lesions too")
    phantom.add_argument("--jobs", type=int, default=1, help="patients computed at once, about 1 GB each")
    phantom.set_defaults(command=_phantom, parser=phantom)


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
        compiled=options.compile,
    )
    complete = run.train(options.max_minutes)
    state = "complete" if complete else f"stopped at step {run.step} of {run.total}; run again to continue"
    run.fabric.print(f"{options.run}: {state} (configuration {config.sha256()[:12]})")
    return 7 if run.interrupted else 0


def _export(options: argparse.Namespace) -> int:
    from mrsynth_training.export import export

    checkpoint, warnings = export(
        options.run,
        options.output,
        name=options.name,
        average_with=options.average_with,
        metrics=options.metrics,
        cross_validation=options.cross_validation,
        gate=options.gate,
        frame=options.frame,
        direction=options.direction,
        licence=options.licence,
        known_failures=options.known_failure,
    )
    for warning in warnings:
        print(f"mrsynth-train: warning: {warning}", file=sys.stderr)
    size = checkpoint.path.stat().st_size / 1e6
    print(f"{checkpoint.path}: {checkpoint.name}, {size:.1f} MB, SHA-256 {checkpoint.sha256}")
    return 0


def _screening(options: argparse.Namespace) -> int:
    import json

    from mrsynth_training import screening_study
    from MRSynthLib.engine.writing import write_aside

    shared.check_outputs(options.output, options.fit)
    results, model = screening_study.study(
        options.data,
        phantoms=options.phantoms,
        others=options.others,
        report=shared.to_stderr,
    )
    print(screening_study.table(results["summary"]), flush=True)
    for path, document in ((options.output, results), (options.fit, model.document())):
        if path is not None:
            with write_aside(path) as aside:
                aside.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


def _phantom(options: argparse.Namespace) -> int:
    from mrsynth_training import phantom_files

    if options.sample:
        print(*phantom_files.write_sample(options.sample), sep="\n")
        return 0
    if options.out is None:
        options.parser.error("--subjects needs --out")
    phantom_files.write_cohort(
        options.out,
        options.subjects,
        options.seed,
        spacing=options.spacing,
        lesions=options.lesions,
        jobs=options.jobs,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
