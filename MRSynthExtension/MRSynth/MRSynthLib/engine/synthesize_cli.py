"""The command `mrsynth synthesize`: one volume in; image, sidecar and maps out."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from . import dicom_cli
from .errors import InputError, OutputError
from .provenance import MAPS, description, facts, sidecar
from .sidecar_tags import sidecar_path
from .terminal import ProgressBar

if TYPE_CHECKING:
    from .dicom import Series
    from .synthesis_result import SynthesisResult
    from .volume import Volume


def add_command(commands: Any, epilog: str) -> None:
    """Add `synthesize` to the subcommands."""
    synthesize = commands.add_parser("synthesize", help="make a synthetic volume", epilog=epilog)
    synthesize.set_defaults(run=_synthesize, wrong_usage=wrong_usage)
    add = synthesize.add_argument
    add("input", type=Path, metavar="IN", help=".nii, .nii.gz, .nrrd, .mha or a DICOM folder")
    add("-o", "--output", type=Path, metavar="OUT", required=True, help=".nii, .nii.gz, .nrrd or .mha; see --dicom")
    add("--from", dest="source", choices=("t1", "t2", "auto"), default="auto", help="contrast of IN")
    add("--to", dest="target", choices=("t1", "t2"), help="contrast of OUT (default: the other one)")
    add("--mask", type=Path, help="brain mask, on any grid of the same patient space")
    add("--like", type=Path, metavar="REFERENCE", help="make it as bright as this volume of the wanted contrast")
    add("--model", help="path or installed name of a checkpoint (default: the shipped one)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add("--precision", default="auto", help="auto, fp32, bf16 or fp16")
    add("--cycle", type=Path, metavar="FILE", help="also write |x - G(G(x))|, the cycle difference")
    add("--planes", choices=("axial", "three"), default="axial", help="three: the mean of passes in three planes")
    add("--reliability", type=Path, metavar="FILE", help="also write the expected error of each voxel")
    add("--interval", type=Path, metavar="FILE", help="also write half the width of the 90 %% interval")
    add("--force", action="store_true", help="go on where the screening refuses IN; also overwrite, as --overwrite")
    add("--overwrite", action="store_true", help="overwrite existing files (never the input)")
    dicom_cli.add_options(synthesize)
    add("--json", action="store_true", help="print one JSON object instead of text")
    add("--quiet", action="store_true", help="print errors only")


def wrong_usage(arguments: argparse.Namespace) -> str:
    """What is wrong with options that do not go together, or ""."""
    if arguments.target is not None and arguments.source == arguments.target:
        return f"--from and --to are both {arguments.target}; give one, or one of each"
    return dicom_cli.wrong_usage(arguments)


def _synthesize(arguments: argparse.Namespace, out: TextIO) -> int:
    from .files import read_volume

    targets = _targets(arguments)
    with ProgressBar(sys.stderr, sys.stderr.isatty() and not (arguments.quiet or arguments.json)) as bar:
        bar.draw(0.0, "read", None)
        found: list[Series] = []
        reason = ""
        if dicom_cli.wanted(arguments):
            volume, found, reason = dicom_cli.read(arguments)
        else:
            volume = read_volume(arguments.input)
        result = _run(volume, arguments, bar)
        bar.draw(1.0, "write", None)
        if arguments.dicom:
            written = dicom_cli.write(result, arguments, found)
        else:
            written = _write(result, arguments, targets, volume)
    if arguments.json:
        out.write(json.dumps(written) + "\n")
    elif out.isatty() and not arguments.quiet:
        taken = f"{reason}\n" if reason else ""
        out.write(f"{taken}{facts(result)['description']}\n{result.device.reason}\n{result.contrast_reason}\n")
        if result.trust is not None:
            out.write(f"{result.trust['summary']}\n")
        out.write(f"{arguments.output} in {result.seconds:.1f} s\n")
    return 0


def _targets(arguments: argparse.Namespace) -> list[Path]:
    """The files that the run will write, in the order image, sidecar, maps; none where it makes a folder.

    Raises
    ------
    OutputError
        What could not or must not be written, before anything is computed.
    """
    if arguments.dicom:
        from .dicom_write import check_new

        check_new(arguments.output)
        return []
    targets = [arguments.output, sidecar_path(arguments.output)]
    targets += [path for _, path in _maps(arguments)]
    _check_targets(targets, arguments)
    return targets


def _maps(arguments: argparse.Namespace) -> list[tuple[str, Path]]:
    """The maps that files are wanted of, with these."""
    return [(name, path) for name in MAPS if (path := getattr(arguments, name)) is not None]


def _run(volume: Volume, arguments: argparse.Namespace, bar: ProgressBar) -> SynthesisResult:
    from .synthesis import Synthesizer

    mask = None if arguments.mask is None else _read_other(arguments.mask, "mask-unreadable")
    like = None if arguments.like is None else _read_other(arguments.like, "reference-unusable")
    synthesizer = Synthesizer(arguments.model, arguments.device, arguments.precision)
    cycle = arguments.cycle is not None or arguments.cycle_series
    reliability = any((arguments.reliability, arguments.interval, arguments.reliability_series))
    for progress in synthesizer.steps(
        volume,
        source=arguments.source,
        target=arguments.target,
        mask=mask,
        cycle=cycle,
        planes=arguments.planes,
        like=like,
        force=arguments.force,
        reliability=reliability,
    ):
        if progress.message and not arguments.quiet:
            bar.clear()
            print(f"mrsynth: warning: {progress.message}", file=sys.stderr)
        bar.draw(progress.fraction, progress.stage, progress.seconds_left)
        if progress.result is not None:
            return progress.result
    raise AssertionError("the last step carries the result")


def _read_other(path: Path, code: str) -> Volume:
    """Read a volume that is not the input; what is wrong with it has a code of its own."""
    from .files import read_volume

    try:
        return read_volume(path)
    except InputError as error:
        raise InputError(code, error.seen, error.expected, error.remedy) from error


def _check_targets(targets: Sequence[Path], arguments: argparse.Namespace) -> None:
    """Refuse, before anything is computed, what could not or must not be written.

    Raises
    ------
    OutputError
        output-format, output-is-input, output-folder-missing, output-not-writable, output-exists.
    """
    from .files import WRITTEN
    from .writing import ending

    for path in (arguments.output, *(path for _, path in _maps(arguments))):
        if ending(path) not in WRITTEN:
            raise OutputError("output-format", f"'{path.name}' cannot be written.", f"one of {', '.join(WRITTEN)}.")
    try:
        sources = _sources(arguments)
    except OSError as error:  # a name that no file can have
        raise InputError("input-not-found", f"{error}.", "the paths of existing files.") from error
    try:
        for number, path in enumerate(targets):
            if path.resolve() in [other.resolve() for other in targets[:number]]:
                seen = f"'{path}' is named twice."
                raise OutputError("output-exists", seen, "a name for each output.", "Choose another name.")
            _check_target(path, sources, arguments.force or arguments.overwrite)
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: links in a circle; ValueError: a NUL
        raise OutputError("output-not-writable", f"{error}.", "a name that a file can have.") from error


def _sources(arguments: argparse.Namespace) -> list[Path]:
    """Return every file that the run reads, or that belongs to one that it reads."""
    sources = [path for path in (arguments.input, arguments.mask, arguments.like) if path is not None]
    # The input's own sidecar has the name that ours would get if only the ending differs.
    sources += [sidecar_path(path) for path in sources if path.name]
    sources += [path for folder in sources if folder.is_dir() for path in folder.rglob("*")]
    if arguments.model is not None:
        sources.append(Path(arguments.model))
    return [path for path in sources if path.exists()]


def _check_target(path: Path, sources: Sequence[Path], overwrite: bool) -> None:
    folder = path.parent
    if not folder.is_dir():
        raise OutputError("output-folder-missing", f"There is no folder '{folder}'.", "an existing folder.")
    if path.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        place = f"'{path}' is a folder." if path.is_dir() else f"'{folder}' may not be written to."
        raise OutputError("output-not-writable", place, "a file in a folder to write to.")
    if path.exists() and any(path.samefile(source) for source in sources):
        raise OutputError("output-is-input", f"'{path}' belongs to the input.", "an output of its own.")
    if os.path.lexists(path) and not overwrite:  # also a link to nowhere
        raise OutputError("output-exists", f"'{path}' is there already.", "a new name, or --overwrite.")


def _write(
    result: SynthesisResult, arguments: argparse.Namespace, targets: Sequence[Path], volume: Volume
) -> dict[str, Any]:
    """Write image, sidecar and the maps that are wanted, and return what to say about it in JSON."""
    from .writing import sha256_of

    files = getattr(volume.header, "files", None)  # of the one series, where a folder holds several
    try:
        document = sidecar(
            result,
            output=arguments.output,
            source=arguments.input,
            source_sha256=sha256_of(arguments.input, files),
            mask=arguments.mask,
            mask_sha256=None if arguments.mask is None else sha256_of(arguments.mask),
            like=arguments.like,
            like_sha256=None if arguments.like is None else sha256_of(arguments.like),
            metadata=volume.metadata,
        )
    except OSError as error:
        seen = f"'{error.filename}' went away during the run."
        raise InputError("input-not-found", seen, "an input that stays until the end.") from error
    maps = _maps(arguments)
    _check_targets(targets, arguments)  # again: the run took a while
    _write_all(result, document, targets, [name for name, _ in maps], arguments.force or arguments.overwrite)
    written = dict.fromkeys(MAPS) | {name: str(path) for name, path in maps}
    return {"output": str(targets[0]), "sidecar": str(targets[1]), **written, **facts(result)}


def _write_all(
    result: SynthesisResult,
    document: dict[str, Any],
    targets: Sequence[Path],
    maps: Sequence[str],
    overwrite: bool,
) -> None:
    """Write image, sidecar and the maps named: all of them or none."""
    from .files import write_volume
    from .writing import write_together

    with write_together(targets, overwrite=overwrite) as (image, text, *others):
        write_volume(result.volume, image, description=description(result), overwrite=True)
        for name, path in zip(maps, others, strict=True):
            about = f"{MAPS[name]}, {description(result)}"
            write_volume(getattr(result, name), path, description=about, overwrite=True)
        # A file name that is no Unicode text becomes a JSON escape, and Python's own name of it when it is read.
        written = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        text.write_text(written, encoding="utf-8", errors="backslashreplace")
