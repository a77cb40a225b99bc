"""What a command owes to whoever started it: a clean stdout, an orderly end on signals, errors as data."""

from __future__ import annotations

import _thread
import contextlib
import json
import os
import select
import shutil
import signal
import stat
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from .errors import ERRORS, FAMILIES, Cancelled, DeviceError, MRSynthError

UNEXPECTED = "unexpected"
RUN_FOLDER_PREFIX = "mrsynth-run-"  # of folders through which volumes go to a child process
_GRACE = 3.0  # seconds that a process gets to end in order when its parent is gone

# SIGHUP: the terminal was closed. SIGBREAK: how one Windows process asks another one to stop.
_STOPS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]


@contextlib.contextmanager
def own_stdout() -> Iterator[TextIO]:
    """Yield a stream to the real stdout; until the end everything else that prints goes to stderr.

    The redirection is one of file descriptors, so that messages of C++ libraries cannot mix with JSON either.
    """
    sys.stdout.flush()
    real = os.dup(1)
    os.dup2(2, 1)
    stream = open(real, "w", encoding="utf-8", newline="\n", closefd=False)  # noqa: SIM115 - a descriptor
    previous, sys.stdout = sys.stdout, sys.stderr
    try:
        yield stream
    finally:
        sys.stdout = previous
        with contextlib.suppress(OSError):  # the reader may be gone
            stream.flush()
        os.dup2(real, 1)
        os.close(real)


@contextlib.contextmanager
def stop_on_signals() -> Iterator[None]:
    """Turn the first stop signal into `KeyboardInterrupt`, so that every `finally` runs, and ignore the rest.

    Further signals are ignored because they would interrupt the cleaning up. Signals that the parent chose
    to ignore (nohup, background jobs) stay ignored. Outside the main thread Python has no signals: nothing is
    done there.
    """
    previous: dict[int, Any] = {}

    def stop(number: int, frame: object) -> None:
        for each in previous:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    try:
        with contextlib.suppress(ValueError):
            for each in _STOPS:
                if signal.getsignal(each) is not signal.SIG_IGN:
                    previous[each] = signal.signal(each, stop)
        yield
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)


def end_with(
    parent: int, hear: Callable[[bytes], object] | None = None, last: Callable[[], object] | None = None
) -> threading.Event:
    """Stop this process when its parent is gone, however it went: in order, as by a signal, and soon in any case.

    Parameters
    ----------
    parent : int
        Process id.
    hear : callable, optional
        As in `wait_for_end_of`.
    last : callable, optional
        Called where the process could not end in order in the time that it had.

    Returns
    -------
    threading.Event
        Set when the parent is gone.
    """
    gone = threading.Event()

    def wait() -> None:
        wait_for_end_of(parent, hear)
        gone.set()
        _thread.interrupt_main(signal.SIGTERM)
        time.sleep(_GRACE)
        if last is not None:
            last()
        os._exit(Cancelled.exit_code)

    threading.Thread(target=wait, name="end-with-parent", daemon=True).start()
    return gone


def remove_run_folder(folder: Path) -> None:
    """Remove the private folder of a run; any other folder is the caller's and stays."""
    if folder.name.startswith(RUN_FOLDER_PREFIX):
        shutil.rmtree(folder, ignore_errors=True)


def wait_for_end_of(process: int, hear: Callable[[bytes], object] | None = None) -> None:
    """Return when the process with this number has ended, or the one that holds the pipe to stdin.

    Parameters
    ----------
    process : int
    hear : callable, optional
        Called with what comes through stdin meanwhile, in pieces.
    """
    if sys.platform == "win32":
        _wait_on_windows(process, hear)
        return
    # The pipe tells at once. The number also tells where a launcher stands between, and holds the pipe open.
    # Descriptor 0 is read directly: a thread inside sys.stdin would block the interpreter's end.
    mode = os.fstat(0).st_mode
    piped = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
    while True:
        ready, _, _ = select.select([0] if piped else [], [], [], 0.5)
        if ready:
            heard = os.read(0, 4096)
            if not heard:
                return
            if hear is not None:
                hear(heard)
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return
        except PermissionError:
            continue


def _wait_on_windows(process: int, hear: Callable[[bytes], object] | None) -> None:
    """Look at stdin, where it matters, 20 times a second: a read that waits would block the loading of libraries."""
    if sys.platform != "win32":
        return
    import ctypes
    import msvcrt

    kernel = ctypes.windll.kernel32
    handle = kernel.OpenProcess(0x00100000, False, process)  # SYNCHRONIZE
    while handle and kernel.WaitForSingleObject(handle, 0xFFFFFFFF if hear is None else 50):
        waiting = ctypes.c_ulong()
        pipe = ctypes.c_void_p(msvcrt.get_osfhandle(0))
        if not kernel.PeekNamedPipe(pipe, None, 0, None, ctypes.byref(waiting), None):
            return
        if waiting.value and hear is not None:
            hear(os.read(0, waiting.value))


def as_known(error: BaseException) -> MRSynthError | None:
    """Return `error` as one of ours, or None for one that nobody foresaw."""
    if isinstance(error, MRSynthError):
        return error
    if isinstance(error, (KeyboardInterrupt, BrokenPipeError)):
        return Cancelled()
    if isinstance(error, MemoryError):
        return DeviceError("device-out-of-memory", "The memory of this machine is full.", "more free memory.")
    return None


def error_document(error: BaseException) -> dict[str, str]:
    """Return an error as it stands in JSON: code, family, message, seen, expected, remedy."""
    known = as_known(error)
    if known is None:
        text = "".join(traceback.format_exception_only(error)).strip()
        return {
            "code": UNEXPECTED,
            "family": UNEXPECTED,
            "message": f"Something went wrong that should not: {text}",
            "seen": text,
            "expected": "no error of this kind.",
            "remedy": "Report it as a bug, with the traceback.",
        }
    return {
        "code": known.code,
        "family": ERRORS[known.code].family,
        "message": str(known),
        "seen": known.seen,
        "expected": known.expected,
        "remedy": known.remedy,
    }


def error_from(document: Mapping[str, str]) -> MRSynthError:
    """Return the exception that `error_document` described; KeyError for an unforeseen one."""
    code = document["code"]
    kind = FAMILIES[ERRORS[code].family]
    if kind is Cancelled:
        return Cancelled(document["seen"], document["remedy"])
    return kind(code, document["seen"], document["expected"], document["remedy"])


def exit_code(error: BaseException) -> int:
    """Return the exit code of an error: that of its family, or 1."""
    known = as_known(error)
    return 1 if known is None else known.exit_code


def answer(document: Callable[[], Mapping[str, Any]]) -> int:
    """Print what `document` returns as a line of JSON, or ``{"error": {...}}``; return the exit code."""
    with own_stdout() as stream:
        try:
            with stop_on_signals():
                stream.write(json.dumps(document()) + "\n")
        except (Exception, KeyboardInterrupt) as error:
            with contextlib.suppress(OSError):  # nobody may be left to read it
                stream.write(json.dumps({"error": error_document(error)}) + "\n")
            return exit_code(error)
    return 0
