"""Options that several commands of `mrsynth-train` have, and where these tell how far they are."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path

from mrsynth_training.protocols import PROTOCOLS
from MRSynthLib.engine.errors import OutputError
from MRSynthLib.engine.writing import write_aside


def model(parser: argparse.ArgumentParser) -> None:
    """Add ``--model``, the one checkpoint that a command is about."""
    parser.add_argument("--model", required=True, help="checkpoint: a path or an installed name")


def studies(parser: argparse.ArgumentParser, *, required: bool, note: str = "") -> None:
    """Add ``--data`` and ``--subjects``: prepared volumes, and which of them.

    Parameters
    ----------
    required : bool
        Whether the command can do nothing without them.
    note : str
        What else there is to know of the folder.
    """
    parser.add_argument("--data", type=Path, required=required, help="folder with one sub-folder per study" + note)
    parser.add_argument("--subjects", nargs="+", default=[], metavar="SUBJECT", help="only these studies")


def device(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps; always in fp32")


def output(parser: argparse.ArgumentParser) -> None:
    """Add ``--output`` for a JSON file."""
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")


def scoring(parser: argparse.ArgumentParser) -> None:
    """Add what says how whole volumes are scored."""
    studies(parser, required=True)
    parser.add_argument("--protocols", nargs="+", choices=PROTOCOLS, default=PROTOCOLS, help="only these scores")
    device(parser)
    parser.add_argument("--jobs", type=int, default=1, help="studies scored at once")


def trials(parser: argparse.ArgumentParser, phantoms: int) -> None:
    """Add what says on whom a checkpoint is tried: computed patients, and studies that it was not trained on."""
    model(parser)
    parser.add_argument("--phantoms", type=int, default=phantoms, metavar="N", help="computed patients (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the first of them")
    parser.add_argument("--spacing", type=float, default=1.0, metavar="MM", help="of their voxels")
    studies(parser, required=False, note="; those trained on are left out")
    device(parser)
    output(parser)


class _Tried(Exception):
    """A file could be written."""


def check_outputs(*paths: Path | None) -> None:
    """Refuse files that could not be written, before there is anything to lose.

    Raises
    ------
    OutputError
    """
    for path in filter(None, paths):
        if path.is_dir():
            raise OutputError("output-not-writable", f"'{path}' is a folder.", "a file to write.")
        with contextlib.suppress(_Tried), write_aside(path):
            raise _Tried


def to_stderr(line: str) -> None:
    """Tell how far a command is; stdout is for what it finds."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
