"""A batch in the background: `mrsynth batch` as a child process that ends with 3D Slicer, or when it is cancelled."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .polled import PolledModule

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


class BatchRun(PolledModule[BatchResult]):
    """One batch; see `PolledRun`. Examinations that failed are counted in its result.

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

    expected = "a batch."
    after_cancel = "Start the same batch again to go on; what is done is kept."

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
        super().__init__("MRSynthLib.engine.cli", arguments, python)
        self._on_event = on_event
        self._done: Event | None = None
        self._said = ""

    def _hear(self, line: str) -> None:
        try:
            event = json.loads(line)
            kind = event["event"]
        except (ValueError, TypeError, KeyError):
            self._said = line  # the last words of a batch that cannot begin are its error
            return
        if kind == "done":
            self._done = event
        elif self._on_event is not None:
            self._on_event(event)

    def _conclude(self, code: int) -> None:
        done = self._done
        if done is None or "error" in done:
            said = self._said if done is None else json.dumps({"error": done["error"]})
            self._error = self._failure(code, said)
        else:
            report = done.get("report")
            self._result = BatchResult(dict(done["counts"]), Path(report) if report else None)
