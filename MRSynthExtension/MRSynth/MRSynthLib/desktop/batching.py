"""A batch in the background: `mrsynth batch` as a child process that ends with 3D Slicer, or when it is cancelled."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from MRSynthLib.engine.errors import Cancelled, MRSynthError

from .polled import PolledChild

Event = Mapping[str, Any]


@dataclass(frozen=True)
class BatchResult:
    """What came of a batch.

    Attributes
    ----------
    counts : mapping of str to int
        Examinations by what became of them: made, kept, complete, skipped, failed, open.
    report : Path or None
        The page to look at.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    report: Path | None = None


class BatchRun:
    """One batch: `start` it, `poll` it now and then until that is True, take its `result`.

    A cancelled batch keeps what is done; the same batch started again goes on from there.

    Parameters
    ----------
    folder, output : Path
        Examinations (folder of studies, BIDS dataset, CSV list or DICOM export), and where results and report go.
    model : str, optional
        Name or path of a checkpoint.
    device : str
    options : sequence of str
        Further options of `mrsynth batch`.
    on_event : callable, optional
        Called by `poll`, in its thread, with each event of the batch ("planning", "plan", "progress", "result",
        "failure"; see docs/batch.md).
    python : str, optional
        The interpreter; by default PythonSlicer inside 3D Slicer, else the running one.
    """

    def __init__(
        self,
        folder: Path,
        output: Path,
        *,
        model: str | None = None,
        device: str = "auto",
        options: tuple[str, ...] = (),
        on_event: Callable[[Event], object] | None = None,
        python: str | None = None,
    ) -> None:
        # One process: it keeps the network, and needs no package beyond those of a single run.
        arguments = ["batch", str(folder), "-o", str(output), "--progress-json", "--workers", "0", "--device", device]
        arguments += ["--end-with", str(os.getpid()), *options]
        if model is not None:
            arguments += ["--model", model]
        self._child = PolledChild("MRSynthLib.engine.cli", arguments, self._hear, python)
        self._on_event = on_event
        self._done: Event | None = None
        self._said = ""
        self._result: BatchResult | None = None
        self._error: MRSynthError | None = None

    @property
    def ended(self) -> bool:
        """Whether it is over, in whatever way."""
        return self._result is not None or self._error is not None

    def start(self) -> None:
        """Start the child.

        Raises
        ------
        DeviceError
            worker-died: the interpreter cannot be started.
        """
        self._child.start()

    def poll(self, timeout: float = 0.0) -> bool:
        """Tell events; return whether the batch is over.

        Parameters
        ----------
        timeout : float
            Wait up to this many seconds for the next one.
        """
        if not self.ended:
            code = self._child.poll(timeout)
            if code is not None and not self.ended:  # an event may have led to a cancel
                self._conclude(code)
        return self.ended

    def cancel(self) -> None:
        """End the batch and its processes; does nothing when it is over."""
        if not self.ended:
            self._error = Cancelled()
            self._child.end()

    def result(self) -> BatchResult:
        """Return what came of it; examinations that failed are counted there.

        Raises
        ------
        MRSynthError
            What stood against the batch as a whole, or ended it before its time.
        """
        if self._error is not None:
            raise self._error
        if self._result is None:
            raise RuntimeError("the batch is not over")
        return self._result

    def _hear(self, line: str) -> None:
        try:
            event = json.loads(line)
            kind = event["event"]
        except (ValueError, TypeError, KeyError):
            self._said = line  # the last words of a batch that cannot begin are its error
            return
        if kind == "done":
            self._done = event
        elif self._on_event is not None and not self.ended:
            self._on_event(event)

    def _conclude(self, code: int) -> None:
        done = self._done
        if done is None or "error" in done:
            said = self._said if done is None else json.dumps({"error": done["error"]})
            self._error = self._child.error(code, said, "a batch.")
        else:
            report = done.get("report")
            self._result = BatchResult(dict(done["counts"]), Path(report) if report else None)
