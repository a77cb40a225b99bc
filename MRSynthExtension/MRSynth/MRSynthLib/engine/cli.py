"""The command `mrsynth`: what its subcommands have in common; each of them has a file of its own."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

from .. import __version__
from . import batch_cli, dicom_cli, models_cli, screen_cli, synthesize_cli
from .process import as_known, error_document, exit_code, own_stdout, stop_on_signals

USAGE = 2
EXIT_CODES = """exit codes: 0 done, 1 unexpected error, 2 wrong usage, 3 input or mask, 4 model, 5 output,
6 device, 7 cancelled, 8 installation. Nothing is written unless the code is 0."""


class _UsageError(Exception):
    """The command line could not be understood."""

    def __init__(self, seen: str, expected: str = "options that go together.") -> None:
        super().__init__(f"{seen}\n{expected}" if expected.startswith("usage:") else seen)
        self.seen = seen
        self.expected = expected


class _Parser(argparse.ArgumentParser):
    """A parser that leaves it to `main` how a usage error is reported, and knows options by their full names only."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise _UsageError(message, self.format_usage().strip())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        with stop_on_signals():
            if argv[:1] == ["demo"]:  # has a parser of its own
                return _demo(argv[1:])
            arguments = _parser().parse_args(argv)
            if wrong := getattr(arguments, "wrong_usage", lambda _: "")(arguments):
                raise _UsageError(wrong)
            with own_stdout() as out:
                return int(arguments.run(arguments, out))
    except (Exception, KeyboardInterrupt) as error:
        return _report(error, as_json=not {"--json", "--progress-json"}.isdisjoint(argv))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="mrsynth",
        description="Make the missing T1- or T2-weighted brain MR volume. For research; not for diagnosis.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"mrsynth {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    dicom_cli.add_commands(commands, EXIT_CODES)
    synthesize_cli.add_command(commands, EXIT_CODES)
    batch_cli.add_command(commands, EXIT_CODES)
    screen_cli.add_command(commands, EXIT_CODES)
    models_cli.add_commands(commands)
    commands.add_parser("demo", help="one brain through the whole job")
    return parser


def _report(error: BaseException, as_json: bool) -> int:
    """Tell an error to people on stderr, and to machines on stdout if they listen."""
    if isinstance(error, _UsageError):
        code, document = USAGE, _usage_document(error)
    else:
        code, document = exit_code(error), error_document(error)
        if as_known(error) is None:
            traceback.print_exception(error)
    with contextlib.suppress(OSError):
        print(f"mrsynth: {document['message']} [{document['code']}]", file=sys.stderr)
        if as_json:
            print(json.dumps({"error": document}), flush=True)
    return code


def _usage_document(error: _UsageError) -> dict[str, str]:
    """A usage error as it stands in JSON, with the keys of any other error."""
    return {
        "code": "usage",
        "family": "usage",
        "message": str(error),
        "seen": error.seen,
        "expected": error.expected,
        "remedy": "See `mrsynth COMMAND --help`.",
    }


def _demo(argv: Sequence[str]) -> int:
    try:
        from ..desktop.demo import main as demo
    except ModuleNotFoundError as error:
        print(f"mrsynth: the demo needs {error.name}: pip install 'mrsynth[demo]'", file=sys.stderr)
        return 1
    return int(demo(argv) or 0)


if __name__ == "__main__":
    sys.exit(main())
