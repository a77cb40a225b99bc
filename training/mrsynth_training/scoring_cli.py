"""The commands that score checkpoints on whole volumes: `mrsynth-train evaluate` and `compare`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mrsynth_training import options as shared
from mrsynth_training.errors import TrainingError
from MRSynthLib.engine.writing import write_aside, write_error


def add(commands: Any) -> None:
    """Add both commands to `mrsynth-train`'s parser."""
    evaluate = commands.add_parser("evaluate", help="score a checkpoint on whole volumes")
    shared.model(evaluate)
    shared.scoring(evaluate)
    shared.output(evaluate)
    evaluate.set_defaults(command=_evaluate)

    compare = commands.add_parser("compare", help="checkpoints and simple baselines, with paired statistics")
    compare.add_argument(
        "--models", nargs="+", required=True, metavar="[NAME=]MODEL", help="the first is tested against the others"
    )
    shared.scoring(compare)
    compare.add_argument(
        "--no-baselines",
        dest="baselines",
        action="store_false",
        help="without identity, histogram matching, regression",
    )
    compare.add_argument("-o", "--output", type=Path, required=True, help="folder for compare.json and compare.md")
    compare.set_defaults(command=_compare)


def _evaluate(options: argparse.Namespace) -> int:
    from mrsynth_training import candidates, evaluation

    shared.check_outputs(options.output)
    results = evaluation.evaluate(
        [candidates.network(options.model, options.device)],
        options.data,
        subjects=options.subjects,
        protocols=options.protocols,
        jobs=options.jobs,
        report=shared.to_stderr,
    )[0]
    print(evaluation.table(results), flush=True)
    if options.output:
        evaluation.write(results, options.output)
    return TrainingError.exit_code if results["failures"] else 0


def _compare(options: argparse.Namespace) -> int:
    from mrsynth_training import candidates, compare, evaluation

    written = [options.output / name for name in ("compare.json", "compare.md")]
    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(options.output, error) from error
    shared.check_outputs(*written)
    named = [model.rpartition("=") for model in options.models]
    comparison = compare.compare(
        [candidates.network(model, options.device, name or None) for name, _, model in named],
        options.data,
        with_baselines=options.baselines,
        subjects=options.subjects,
        protocols=options.protocols,
        jobs=options.jobs,
        report=shared.to_stderr,
    )
    text = compare.markdown(comparison)
    print(text, flush=True)
    evaluation.write(comparison, written[0])
    with write_aside(written[1]) as aside:
        aside.write_text(text, encoding="utf-8")
    failed = any(results["failures"] for results in comparison["results"].values())
    return TrainingError.exit_code if failed else 0
