"""The parts of the command `mrsynth` that know DICOM: `dicom list`, `send`, and the options of `synthesize`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from .provenance import MAPS, facts
from .terminal import ProgressBar

if TYPE_CHECKING:
    from .dicom import Series
    from .dicom_send import Node
    from .synthesis_result import SynthesisResult
    from .volume import Volume

ANONYMOUS = "faces are not removed from the voxels"


def add_options(synthesize: argparse.ArgumentParser) -> None:
    """Add what `synthesize` takes for DICOM."""
    add = synthesize.add_argument
    add("--series", metavar="NAME", help="DICOM series to start from: number, number.part or UID (see dicom list)")
    add("--dicom", action="store_true", help="write a DICOM series; OUT is a new folder")
    add("--cycle-series", action="store_true", help="with --dicom: also write the cycle difference, as a series")
    add("--reliability-series", action="store_true", help="with --dicom: also write the expected error, as a series")
    add("--anonymize", action="store_true", help=f"with --dicom: basic profile of the standard; {ANONYMOUS}")


def add_commands(commands: Any, epilog: str) -> None:
    """Add `dicom list` and `send` to the commands of `mrsynth`."""
    group = commands.add_parser("dicom", help="look at DICOM folders").add_subparsers(required=True, metavar="COMMAND")
    listing = group.add_parser("list", help="list the series of a folder, and which can be started from", epilog=epilog)
    listing.set_defaults(run=_list)
    listing.add_argument("folder", type=Path, metavar="DIR", help="a folder or an archive's export")
    listing.add_argument("--json", action="store_true", help="print JSON")

    send = commands.add_parser("send", help="send a DICOM folder to a node of the network", epilog=epilog)
    send.set_defaults(run=_send)
    send.add_argument("folder", type=Path, metavar="DIR", help="as `synthesize --dicom` writes it")
    send.add_argument("address", type=_address, metavar="HOST:PORT", help="of the node")
    send.add_argument(
        "--aet", default="MRSYNTH", type=_title, help="our application entity title (default: %(default)s)"
    )
    send.add_argument("--aec", default="ANY-SCP", type=_title, help="the node's title (default: %(default)s)")
    send.add_argument("--timeout", default=30.0, type=_seconds, help="seconds to wait for an answer (default: 30)")
    send.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    send.add_argument("--quiet", action="store_true", help="print errors only")


def wrong_usage(arguments: argparse.Namespace) -> str:
    """Say what does not go together in the options of `synthesize`; "" where all does."""
    if not arguments.dicom and (arguments.anonymize or arguments.cycle_series or arguments.reliability_series):
        return "--anonymize, --cycle-series and --reliability-series need --dicom"
    if arguments.dicom and any(getattr(arguments, name) is not None for name in MAPS):
        named = ", ".join(f"--{name}" for name in MAPS)
        return f"{named} write files, and do not go with --dicom (see --cycle-series, --reliability-series)"
    if arguments.dicom and arguments.overwrite:
        return "--overwrite replaces a file, and does not go with --dicom"
    if (arguments.dicom or arguments.series is not None) and _is(arguments.input.is_file):
        return "--dicom and --series need a folder with DICOM images as IN"
    return ""


def wanted(arguments: argparse.Namespace) -> bool:
    """Whether the input of `synthesize` is DICOM: a folder, or said to be DICOM."""
    return arguments.dicom or arguments.series is not None or _is(arguments.input.is_dir)


def _is(question: Callable[[], bool]) -> bool:
    """No name is too long to ask."""
    try:
        return question()
    except OSError:
        return False


def read(arguments: argparse.Namespace) -> tuple[Volume, list[Series], str]:
    """Read the series of a folder that synthesis starts from.

    Returns
    -------
    volume : Volume
    found : list of Series
        All series of the folder.
    reason : str
        Why this one.

    Raises
    ------
    InputError
        See `dicom.read_source`.
    """
    from .dicom import find_series, load, pick

    found = find_series(arguments.input)
    chosen, reason = pick(found, arguments.series, source=arguments.source, target=arguments.target)
    return load(chosen), found, reason


def write(result: SynthesisResult, arguments: argparse.Namespace, found: list[Series]) -> dict[str, Any]:
    """Write the result as `synthesize --dicom` wants it, and return what to say about that in JSON."""
    from .dicom import Series, write_result

    source = result.volume.header
    assert isinstance(source, Series), "read from DICOM"
    taken = {series.number for series in found if series.number is not None}
    folders = write_result(result, arguments.output, anonymous=arguments.anonymize, taken=taken)
    return {
        "output": str(arguments.output),
        "series": [str(folder) for folder in folders],
        "source": {"uid": source.uid, "number": source.number, "description": source.description},
        **facts(result),
    }


def _list(arguments: argparse.Namespace, out: TextIO) -> int:
    from .dicom import find_series

    found = find_series(arguments.folder)
    if arguments.json:
        out.write(json.dumps({"series": [_entry(series) for series in found]}) + "\n")
        return 0
    examination = None
    for series in found:
        if (series.patient, series.study_uid) != examination:
            examination = (series.patient, series.study_uid)
            out.write(f"patient {series.patient or 'without ID'}, study {series.study or series.study_uid}\n")
        spacing = " x ".join(f"{mm:.3g}" for mm in series.spacing) + " mm" if series.spacing else "-"
        name = " ".join(filter(None, (series.description, series.part_name and f"({series.part_name})")))
        out.write(
            f"  {series.key:>6}  {series.kind.name:<16.16}  {len(series.frames):>5} slices  {spacing:<22}  "
            f"{name:<32}  {'not picked: ' + series.objection if series.objection else 'suitable'}\n"
        )
    return 0


def _entry(series: Series) -> dict[str, Any]:
    """A series as it stands in JSON."""
    return {
        "name": series.key,
        "uid": series.uid,
        "number": series.number,
        "part": series.part_name,
        "patient": series.patient,
        "study": series.study,
        "study_uid": series.study_uid,
        "description": series.description,
        "what": series.kind.name,
        "contrast": series.kind.contrast,
        "slices": len(series.frames),
        "files": len(series.files),
        "spacing": series.spacing,
        "tags": dict(series.frames[0].tags),
        "suitable": not series.objection,
        "reason": series.objection,
        "error": series.problem.code if series.problem else None,
    }


def _send(arguments: argparse.Namespace, out: TextIO) -> int:
    from .dicom_send import Node, send

    host, port = arguments.address
    node: Node = Node(host, port, arguments.aec, arguments.aet)
    with ProgressBar(sys.stderr, sys.stderr.isatty() and not (arguments.quiet or arguments.json)) as bar:
        count = send(
            arguments.folder,
            node,
            timeout=arguments.timeout,
            on_sent=lambda done, all_: bar.draw(done / all_, "send", None),
        )
    if arguments.json:
        out.write(json.dumps({"sent": count, "host": host, "port": port, "aec": arguments.aec}) + "\n")
    elif not arguments.quiet:
        out.write(f"{count} images sent to {node}\n")
    return 0


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"'{text}' is not HOST:PORT")
    return host.strip("[]"), int(port)


def _title(text: str) -> str:
    if not 0 < len(text.strip()) <= 16 or not text.isascii() or not text.isprintable() or "\\" in text:
        raise argparse.ArgumentTypeError(f"'{text}' is no application entity title (1 to 16 plain characters)")
    return text.strip()


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of seconds from 0 to 3600")
    return seconds
