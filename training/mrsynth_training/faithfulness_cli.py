"""The commands of `mrsynth-train` that look for harm, `lesions` and `attack`, and for gain, `experiments`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from mrsynth_training.errors import TrainingError

VARIANTS = ("like", "oracle", "flips", "three-planes", "white-matter-peak", "nyul", "n4")


def add(commands: Any) -> None:
    """Add them to the commands of `mrsynth-train`."""
    lesions = commands.add_parser("lesions", help="put lesions in and take them out: kept, erased, invented, by size")
    _common(lesions, phantoms=4)
    lesions.set_defaults(command=_lesions)

    attack = commands.add_parser("attack", help="spoil the source in ten ways: what it costs, in a table and a picture")
    _common(attack, phantoms=1)
    attack.add_argument("--picture", type=Path, metavar="FILE", help="PNG of the first phantom")
    attack.set_defaults(command=_attack)

    trial = commands.add_parser("experiments", help="other ways to run a checkpoint as it is, against the plain one")
    trial.add_argument("--models", nargs="+", default=[], help="each scores the subjects that it was not trained on")
    trial.add_argument("--data", type=Path, help="folder with one sub-folder per study")
    trial.add_argument(
        "--residuals", type=Path, help="instead: of `calibrate --models`; what --like gives by several rules, at once"
    )
    trial.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS, help="only these")
    trial.add_argument(
        "--like", nargs="+", default=[], metavar="SUBJECT=REFERENCE", help="whose target contrast is the reference"
    )
    trial.add_argument("--subjects", nargs="+", default=[], metavar="SUBJECT", help="only these studies")
    trial.add_argument("-o", "--output", type=Path, help="JSON file to write")
    trial.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps; always in fp32")
    trial.set_defaults(command=_experiments, parser=trial)


def _common(parser: argparse.ArgumentParser, phantoms: int) -> None:
    parser.add_argument("--model", required=True, help="checkpoint: a path or an installed name")
    parser.add_argument("--phantoms", type=int, default=phantoms, metavar="N", help="computed patients (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the first of them")
    parser.add_argument("--spacing", type=float, default=1.0, metavar="MM", help="of their voxels")
    parser.add_argument("--data", type=Path, help="folder with one sub-folder per study; those trained on are left out")
    parser.add_argument("--subjects", nargs="+", default=[], metavar="SUBJECT", help="only these studies")
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps; always in fp32")


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "phantoms": options.phantoms,
        "seed": options.seed,
        "spacing": options.spacing,
        "data": options.data,
        "subjects": options.subjects,
        "report": lambda line: print(line, file=sys.stderr, flush=True),
    }


def _lesions(options: argparse.Namespace) -> int:
    from mrsynth_training import lesions
    from MRSynthLib.engine.synthesis import Synthesizer

    results = lesions.bench(Synthesizer(options.model, options.device, "fp32"), **_settings(options))
    if options.output:
        lesions.write(results, options.output)
    print(lesions.table(results))
    return TrainingError.exit_code if results["failures"] else 0


def _attack(options: argparse.Namespace) -> int:
    from mrsynth_training import attack_bench
    from MRSynthLib.engine.synthesis import Synthesizer

    if options.picture and options.phantoms < 1:
        raise TrainingError("--picture without a phantom", "--phantoms 1 or more", "Only computed heads are drawn")
    results, panels = attack_bench.bench(Synthesizer(options.model, options.device, "fp32"), **_settings(options))
    if options.output:
        attack_bench.write(results, options.output)
    if options.picture:
        attack_bench.picture(panels, options.picture)
    print(attack_bench.table(results))
    return 0


def _experiments(options: argparse.Namespace) -> int:
    from mrsynth_training import experiments, site_contrast

    like = dict(pair.split("=", 1) for pair in options.like if "=" in pair)
    if len(like) < len(options.like):
        options.parser.error("--like takes SUBJECT=REFERENCE")
    if options.residuals:
        print(site_contrast.table(site_contrast.compare(options.residuals, like)))
        return 0
    if not options.models or not options.data:
        options.parser.error("give --models and --data, or --residuals")
    results = experiments.compare(
        options.models,
        options.data,
        options.variants,
        subjects=options.subjects,
        like=like,
        device=options.device,
        report=lambda line: print(line, file=sys.stderr, flush=True),
    )
    if options.output:
        experiments.write(results, options.output)
    print(experiments.table(results))
    return 0
