"""The command that does everything: `mrsynth-train study`."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Add the command to `mrsynth-train`'s parser."""
    study = commands.add_parser("study", help="train, score and compare the paper's three generators; report.md")
    study.add_argument("--data", type=Path, required=True, help="top folder of the volumes, as for `prepare`")
    study.add_argument("-o", "--out", type=Path, required=True, help="folder of the study; gone on with if it exists")
    study.add_argument(
        "--preset",
        choices=("paper", "quick"),
        default="paper",
        help="paper: as published, for a GPU; quick: small and paired, for two CPU cores",
    )
    study.add_argument(
        "--experiments",
        nargs="+",
        type=Path,
        default=[],
        metavar="YAML",
        help="instead: these; the last against the others",
    )
    study.add_argument("--seeds", nargs="+", type=int, metavar="SEED", help="of the trainings (1 2 3; quick: 1)")
    study.add_argument(
        "--split",
        default="auto",
        help="paper (163 + 53 patients), TRAIN+TEST[+VALIDATION], or a split file (the paper's, or its shares)",
    )
    study.add_argument("--broken", choices=("stop", "skip"), default="stop", help="what an unusable study does (stop)")
    study.add_argument("--jobs", type=int, default=1, help="studies prepared and scored at once, about 2 GB each")
    study.add_argument("--accelerator", default="auto", help="cpu, cuda, mps or auto")
    study.add_argument("--devices", default="1", help="how many devices train one generator")
    study.add_argument("--threads", type=int, help="CPU threads of torch")
    study.set_defaults(command=_study)


def _study(options: argparse.Namespace) -> int:
    from mrsynth_training import report, study, study_plan
    from mrsynth_training.options import to_stderr
    from mrsynth_training.signals import handling

    plan = study_plan.Study(
        data=options.data,
        out=options.out,
        experiments=study_plan.experiments(options.preset, options.experiments),
        seeds=tuple(options.seeds or study_plan.SEEDS[options.preset]),
        split=options.split,
        accelerator=options.accelerator,
        devices=options.devices,
        threads=options.threads,
        jobs=options.jobs,
        broken=options.broken,
    )
    with handling(signal.default_int_handler, signal.SIGTERM):  # as Ctrl-C, while studies are prepared and scored
        outcome = study.run(plan, report=to_stderr)
        print(report.write(outcome, study_plan.engine_device(options.accelerator)))
    failed = any(results["failures"] for results in outcome.results.values())
    return 3 if failed else 0
