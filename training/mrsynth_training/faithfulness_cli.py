"""The commands of `mrsynth-train` that look for harm, `lesions` and `attack`, and for gain, `experiments`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mrsynth_training import options as shared
from mrsynth_training.errors import TrainingError

VARIANTS = ("like", "oracle", "flips", "three-planes", "white-matter-peak", "nyul", "n4")


def add(commands: Any) -> None:
    """Add them to the commands of `mrsynth-train`."""
    lesions = commands.add_parser("lesions", help="put lesions in and take them out: kept, erased, invented, by size")
    shared.trials(lesions, phantoms=4)
    lesions.set_defaults(command=_lesions)

    attack = commands.add_parser("attack", help="spoil the source in ten ways: what it costs, in a table and a picture")
    shared.trials(attack, phantoms=1)
    attack.add_argument("--picture", type=Path, metavar="FILE", help="PNG of the first phantom")
    attack.set_defaults(command=_attack)

    trial = commands.add_parser("experiments", help="other ways to run a checkpoint as it is, against the plain one")
    trial.add_argument("--models", nargs="+", default=[], help="each scores the subjects that it was not trained on")
    shared.studies(trial, required=False)
    trial.add_argument(
        "--residuals", type=Path, help="instead: of `calibrate --models`; what --like gives by several rules, at once"
    )
    trial.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS, help="only these")
    trial.add_argument(
        "--like", nargs="+", default=[], metavar="SUBJECT=REFERENCE", help="whose target contrast is the reference"
    )
    shared.device(trial)
    shared.output(trial)
    trial.set_defaults(command=_experiments, parser=trial)


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "phantoms": options.phantoms,
        "seed": options.seed,
        "spacing": options.spacing,
        "data": options.data,
        "subjects": options.subjects,
        "report": shared.to_stderr,
    }


def _lesions(options: argparse.Namespace) -> int:
    from mrsynth_training import evaluation, lesions
    from MRSynthLib.engine.synthesis import Synthesizer

    shared.check_outputs(options.output)
    results = lesions.bench(Synthesizer(options.model, options.device, "fp32"), **_settings(options))
    print(lesions.table(results), flush=True)
    if options.output:
        evaluation.write(results, options.output)
    return TrainingError.exit_code if results["failures"] else 0


def _attack(options: argparse.Namespace) -> int:
    from mrsynth_training import attack_bench, evaluation
    from MRSynthLib.engine.synthesis import Synthesizer

    if options.picture and options.phantoms < 1:
        raise TrainingError("--picture without a phantom", "--phantoms 1 or more", "Only computed heads are drawn")
    shared.check_outputs(options.output, options.picture)
    results, panels = attack_bench.bench(Synthesizer(options.model, options.device, "fp32"), **_settings(options))
    print(attack_bench.table(results), flush=True)
    if options.output:
        evaluation.write(results, options.output)
    if options.picture:
        attack_bench.picture(panels, options.picture)
    return 0


def _experiments(options: argparse.Namespace) -> int:
    from mrsynth_training import evaluation, experiments, site_contrast

    like = dict(pair.split("=", 1) for pair in options.like if "=" in pair)
    if len(like) < len(options.like):
        options.parser.error("--like takes SUBJECT=REFERENCE")
    if options.residuals and (options.models or options.data):
        options.parser.error("give --models and --data, or --residuals")
    shared.check_outputs(options.output)
    if options.residuals:
        rows = site_contrast.compare(options.residuals, like, options.subjects)
        print(site_contrast.table(rows), flush=True)
        if options.output:
            evaluation.write({"kind": "references", "rows": rows}, options.output)
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
        report=shared.to_stderr,
    )
    print(experiments.table(results), flush=True)
    if options.output:
        evaluation.write(results, options.output)
    return 0
