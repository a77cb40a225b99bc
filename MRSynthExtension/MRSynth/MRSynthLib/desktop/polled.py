"""What runs in a child process and is looked at now and then: start, poll, cancel, result; and nothing stays behind."""

from __future__ import annotations

import json
import queue
import shutil
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

from MRSynthLib.engine.errors import Cancelled, DeviceError, MRSynthError
from MRSynthLib.engine.process import RUN_FOLDER_PREFIX, UNEXPECTED, error_from

from .child import MOST_LINES, Child, ending, environment, interpreter

_LAST_WORDS = 15  # lines of stderr that are kept for the message when the child dies
_WORD_LENGTH = 300  # characters of each

Result = TypeVar("Result")
Self = TypeVar("Self", bound="PolledRun[Any]")


@dataclass
class Traces:
    """What a run must not leave behind."""

    child: Child | None = None
    folder: Path | None = None

    def remove(self) -> None:
        """End the child and remove the folder, which holds a patient's images, also where the child cannot be ended."""
        try:
            if self.child is not None:
                self.child.end()
        finally:
            if self.folder is not None:
                shutil.rmtree(self.folder, ignore_errors=True)


class PolledRun(ABC, Generic[Result]):
    """One run: `start` it, `poll` it now and then until that is True, take its `result`.

    Whatever it tells, it tells in the thread that polls. The child ends with this process, with `cancel`, and when the
    run is forgotten. As a context manager it leaves nothing behind, whatever happens inside.

    Parameters
    ----------
    python : str, optional
        The interpreter; by default PythonSlicer inside 3D Slicer, else the running one.
    """

    expected = "a result."  # of the child; what an error says
    after_cancel = ""  # what to do then, where it is not true that nothing was written

    def __init__(self, python: str | None = None) -> None:
        self._python = python or interpreter()
        self._last_words: deque[str] = deque(maxlen=_LAST_WORDS)
        self._result: Result | None = None
        self._error: MRSynthError | None = None
        self._traces = Traces()
        self._clean: weakref.finalize[..., Any] | None = None  # set by the start

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    @property
    def ended(self) -> bool:
        """Whether the run is over, in whatever way."""
        return self._result is not None or self._error is not None

    @property
    def pid(self) -> int:
        """Process id of the child of a run that was started."""
        return self._running().pid

    def start(self) -> None:
        """Start the child, once.

        Raises
        ------
        OutputError
            output-full, output-not-writable: the temporary folder cannot take what the child needs.
        DeviceError
            worker-died: the interpreter cannot be started.
        """
        if self._clean is not None or self.ended:
            raise RuntimeError(f"a {type(self).__name__} is started once")
        # Also when the caller forgets the run, or the interpreter exits.
        self._clean = weakref.finalize(self, self._traces.remove)
        try:
            self._traces.child = self._begin()
        except BaseException:
            self._release()
            raise

    def poll(self, timeout: float = 0.0) -> bool:
        """Take what the child has said since; return whether the run is over.

        Parameters
        ----------
        timeout : float
            Wait up to this many seconds for the child's next words.
        """
        if not self.ended:
            self._look(self._running(), timeout)
        return self.ended

    def cancel(self) -> None:
        """End the child and everything it started, within a second; does nothing when the run is over."""
        if not self.ended:
            self._error = Cancelled(remedy=self.after_cancel)
            self._release()

    def result(self) -> Result:
        """Return the result of a run that is over.

        Raises
        ------
        MRSynthError
            What went wrong, as the child said it; `Cancelled`; or DeviceError "worker-died", where it ended without a
            word that can be understood.
        """
        if self._error is not None:
            raise self._error
        if self._result is None:
            raise RuntimeError("the run is not over")
        return self._result

    @abstractmethod
    def _begin(self) -> Child:
        """Start the child."""

    @abstractmethod
    def _look(self, child: Child, timeout: float) -> None:
        """Take what the child has said; set `_result` or `_error` and `_release` where the run is over."""

    def _running(self) -> Child:
        if self._traces.child is None:
            raise RuntimeError("the run was not started")
        return self._traces.child

    def _new_folder(self) -> Path:
        """A folder for this user only, which goes with the run."""
        self._traces.folder = folder = Path(tempfile.mkdtemp(prefix=RUN_FOLDER_PREFIX))
        return folder

    def _spawned(self, arguments: Sequence[str], surroundings: Mapping[str, str]) -> Child:
        """The interpreter as a child process."""
        try:
            return Child([self._python, *arguments], surroundings)
        except OSError as error:
            seen = f"'{self._python}' cannot be started: {error}."
            raise DeviceError("worker-died", seen, "a Python with the engine's packages.") from error

    def _lines(self, child: Child, timeout: float) -> Iterator[tuple[str, str]]:
        """What the child has said, for as long as the run is not over: (stream, line)."""
        for _ in range(MOST_LINES):  # not more, so that a child that floods cannot hold the caller
            if self.ended:  # a line has led to a cancel
                return
            try:
                yield child.lines.get(timeout=timeout) if timeout else child.lines.get_nowait()
            except queue.Empty:
                return
            timeout = 0.0

    def _note(self, line: str) -> None:
        """Keep what may tell why the child died."""
        self._last_words.append(line.strip()[:_WORD_LENGTH])

    def _died(self, seen: str) -> DeviceError:
        words = " | ".join(line for line in self._last_words if line)
        return DeviceError("worker-died", f"{seen} Its last words: {words}" if words else seen, self.expected)

    def _release(self) -> None:
        if self._clean is not None:
            self._clean()


class PolledModule(PolledRun[Result]):
    """A Python module of the engine as a child process, which is over when the process is.

    Parameters
    ----------
    module : str
        What ``python -m`` runs.
    arguments : sequence of str
    python : str, optional
        As in `PolledRun`.
    """

    def __init__(self, module: str, arguments: Sequence[str], python: str | None = None) -> None:
        super().__init__(python)
        self._arguments = ["-m", module, *arguments]

    def _begin(self) -> Child:
        return self._spawned(self._arguments, environment())

    def _look(self, child: Child, timeout: float) -> None:
        code = child.exit_code
        if code is not None:
            child.end()  # and with that, all lines are read
        for stream, line in self._lines(child, 0.0 if code is not None else timeout):
            if stream == "stdout":
                self._hear(line)
            else:
                self._note(line)
        if code is not None and not self.ended:
            self._conclude(code)
            self._release()

    @abstractmethod
    def _hear(self, line: str) -> None:
        """Take a line of the child's stdout."""

    @abstractmethod
    def _conclude(self, code: int) -> None:
        """Set `_result` or `_error`, from the exit code and from what was heard."""

    def _failure(self, code: int, said: str) -> MRSynthError:
        """What kept the child from its work.

        Parameters
        ----------
        code : int
            Its exit code.
        said : str
            What it may have said about it: JSON, an object with the key ``error``.
        """
        try:
            described = json.loads(said)["error"]
            if described["code"] != UNEXPECTED:
                return error_from(described)
            return self._died(described["message"])
        except (ValueError, KeyError, TypeError):
            return self._died(f"The background process {ending(code)}.")
