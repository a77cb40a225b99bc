"""The command `mrsynth-train calibrate`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mrsynth_training import options as shared
from mrsynth_training.errors import TrainingError


def add(commands: Any) -> None:
    """Add `calibrate` to the commands."""
    calibrate = commands.add_parser(
        "calibrate", help="the reliability map: residuals on unseen subjects, its scores, and a calibrated checkpoint"
    )
    add = calibrate.add_argument
    add("--residuals", type=Path, required=True, metavar="FOLDER", help="tables of residuals; those there are kept")
    add(
        "--models",
        nargs="+",
        default=[],
        metavar="MODEL",
        help="make residuals with these, each on what it has not seen",
    )
    shared.studies(calibrate, required=False, note=", with --models")
    add("--candidates", action="store_true", help="with --models: also maps that need more passes, to compare with")
    add("--planes", action="store_true", help="with --models: also the spread of passes in three planes")
    shared.device(calibrate)
    add("--into", type=Path, metavar="CHECKPOINT", help="write the calibration into the card of this checkpoint")
    add("-o", "--output", type=Path, help="with --into: write that to another file")
    add("--report", type=Path, metavar="FILE", help="JSON file with all scores to write")
    calibrate.set_defaults(command=_calibrate)


def _calibrate(options: argparse.Namespace) -> int:
    from mrsynth_training import calibration, calibration_data

    target = options.output or options.into
    shared.check_outputs(options.report, target if options.into else None)
    if options.models:
        if options.data is None:
            raise TrainingError("--models without --data", "the folder of the studies", "Give --data")
        calibration.collect(
            options.models,
            options.data,
            options.residuals,
            subjects=options.subjects,
            candidates=options.candidates,
            planes=options.planes,
            device=options.device,
            report=shared.to_stderr,
        )
    tables = calibration_data.read(options.residuals)
    rows = calibration.cross_validate(tables)
    print(calibration.table_of(rows))
    if options.report:
        calibration.write_report(rows, options.report)
    if options.into:
        print(f"{calibration.write_card(options.into, tables, rows, target)}: calibrated")
    return 0
