"""The command `mrsynth screen`: what a volume is, and whether a synthesis should start from it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from .volume import Volume

REFUSED = 3


def add_command(commands: Any, epilog: str) -> None:
    """Add `screen` to the subcommands."""
    parser = commands.add_parser("screen", help="tell what a volume is, and whether it can be used", epilog=epilog)
    parser.set_defaults(run=_screen)
    parser.add_argument("input", type=Path, metavar="IN", help=".nii, .nii.gz, .nrrd, .mha or a DICOM folder")
    parser.add_argument("--series", metavar="SERIES", help="of a DICOM folder: number or UID")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def _screen(arguments: argparse.Namespace, out: TextIO) -> int:
    """Print the verdict; the exit code is 3 where it is 'refuse'."""
    from .checks import checked
    from .screening import NAMES, screen

    volume, warnings = checked(_read(arguments))
    seen = screen(volume)
    if arguments.json:
        out.write(json.dumps({"input": str(arguments.input), **seen.document(), "warnings": warnings}) + "\n")
    else:
        skull = "skull-stripped" if seen.skull_stripped else "with skull"
        out.write(f"{seen.verdict}: {NAMES[seen.contrast]} ({100 * seen.confidence:.0f} % sure), {skull}\n")
        out.writelines(f"  {reason}\n" for reason in (*seen.reasons, *warnings))
    return REFUSED if seen.verdict == "refuse" else 0


def _read(arguments: argparse.Namespace) -> Volume:
    from .files import read_volume

    if arguments.series is None:
        return read_volume(arguments.input)
    from . import dicom

    return dicom.read_source(arguments.input, arguments.series)[0]
