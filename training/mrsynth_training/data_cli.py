"""The commands that look at data and prepare them: `mrsynth-train find` and `prepare`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from mrsynth_training.errors import TrainingError

DATA_HELP = (
    "top folder of the volumes: BraTS 2018 to 2023, BIDS, or one sub-folder per study with t1.nii.gz and t2.nii.gz"
)


def add(commands: Any) -> None:
    """Add both commands to `mrsynth-train`'s parser."""
    find = commands.add_parser("find", help="what a folder of volumes holds, and what is missing or broken in it")
    find.add_argument("data", type=Path, help=DATA_HELP)
    find.add_argument("--read", action="store_true", help="read every volume and label, not only names and headers")
    find.add_argument("--json", type=Path, metavar="FILE", help="write the report as JSON too")
    find.set_defaults(command=_find)

    prepare = commands.add_parser("prepare", help="volumes to a slice store; run it again to go on after a stop")
    prepare.add_argument("data", type=Path, help=DATA_HELP)
    prepare.add_argument("-o", "--store", type=Path, required=True, help="folder of the slice store to write")
    prepare.add_argument("--frame", choices=("native", "paper"), default="native")
    prepare.add_argument(
        "--planes", choices=("axial", "three"), default="axial", help="three: coronal and sagittal slices, too (native)"
    )
    prepare.add_argument("--validation", nargs="*", default=[], metavar="PATIENT", help="patients kept out of training")
    prepare.add_argument(
        "--split",
        help="instead: 'paper' (163 patients for training, 53 for testing), TRAIN+TEST[+VALIDATION], or a split file",
    )
    prepare.add_argument("--seed", type=int, default=1, help="of a split that is drawn (1)")
    prepare.add_argument("--jobs", type=int, default=1, help="studies prepared at once, about 1 GB each")
    prepare.add_argument(
        "--broken", choices=("stop", "skip"), default="stop", help="what an incomplete or damaged study does (stop)"
    )
    prepare.add_argument("--dry-run", action="store_true", help="only report what is there and would be done")
    prepare.set_defaults(command=_prepare)


def _find(options: argparse.Namespace) -> int:
    from mrsynth_training import inspection
    from mrsynth_training.cohort import find
    from MRSynthLib.engine.writing import write_aside

    found = inspection.inspect(find(options.data), read=options.read)
    print(inspection.text(found))
    if options.json:
        with write_aside(options.json) as aside:
            aside.write_text(json.dumps(inspection.as_dict(found), indent=1) + "\n", encoding="utf-8")
    return 0 if found.usable and not found.problems else TrainingError.exit_code


def _prepare(options: argparse.Namespace) -> int:
    from mrsynth_training.preparation import prepare

    prepare(
        options.data,
        options.store,
        options.frame,
        planes=options.planes,
        validation=options.validation,
        split=options.split,
        seed=options.seed,
        jobs=options.jobs,
        broken=options.broken,
        dry_run=options.dry_run,
        report=lambda line: print(line, flush=True),
    )
    if not options.dry_run:
        print(f"slice store written to {options.store}")
    return 0
