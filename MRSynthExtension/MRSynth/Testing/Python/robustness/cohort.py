"""The corpus as a cohort: all cases in one batch run, of which the sound ones have to be done."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from MRSynthLib.engine.errors import ERRORS

from . import samples
from .case import Case, ImpossibleError
from .doors import PATIENCE, Answer, Child, Watch
from .inputs import Tally
from .judge import MEMORY, not_whole, snapshot
from .mutate import randomness

PARTIAL = 9  # exit code of a batch run of which some examinations failed
SOUND = "sound"  # the examination that has to be done between the broken ones


def suitable(case: Case) -> bool:
    """Whether a batch run may be asked this.

    Cases about where a result goes are for the other doors; hidden files are passed over; and DICOM series under odd
    names are all the same series, which an export does not have twice.
    """
    return not case.name.startswith(("place/", "name/dicom/")) and not case.name.endswith(
        ("a dot in front", "two dots")
    )


def drive(cases: Iterable[Case], model: Path, seed: int, tell: Callable[[str], object] = lambda line: None) -> Tally:
    """All suitable cases in one run of `mrsynth batch`, in this order: each is a line of a CSV list, or a folder.

    Names that no list can hold are given as a folder of studies, in a second run.
    """
    tally = Tally()
    chosen = [case for case in cases if suitable(case)]
    with tempfile.TemporaryDirectory(prefix="robustness-") as folder:
        for layout in ("csv", "folder"):
            part = [case for case in chosen if case.name.startswith("name/") == (layout == "folder")]
            if part:
                _run(part, layout, Path(folder, layout), model, seed, tally, tell)
    return tally


def _run(cases: list[Case], layout: str, root: Path, model: Path, seed: int, tally: Tally, tell: Any) -> None:
    made = _make(cases, root / "in", layout, seed, tally)
    before = snapshot(root / "in")
    given = root / "in" / "list.csv" if layout == "csv" else root / "in"
    command = ["-m", "MRSynthLib.engine.cli", "batch", str(given), "-o", str(root / "out"), "--layout", layout]
    options = ["--to", "t2", "--model", str(model), "--device", "cpu", "--workers", "0", "--progress-json"]
    child = Child([*command, *options])
    child.forget()
    events: dict[str, dict[str, Any]] = {}
    slowest, watch, wrong = 0.0, Watch(child.process.pid), ""
    try:
        for line in child.lines(60 + PATIENCE * len(cases)):
            event = json.loads(line)
            if "error" in event and "event" not in event:
                wrong = f"the run was refused: {event['error']['message']}"
                break
            if event["event"] in ("result", "failure"):
                slowest, watch = max(slowest, watch.seconds()), Watch(child.process.pid)
                events[event["subject"].partition("/")[0]] = event
            tally.memory = max(tally.memory, child.memory())
            if event["event"] == "done":
                break
        if not wrong and child.process.wait(60) not in (0, PARTIAL):
            wrong = f"exit code {child.process.returncode}"
    except (TimeoutError, EOFError) as error:
        wrong = f"no orderly end of the run: {type(error).__name__}"
    said = child.said()
    child.end()
    wrong = wrong or ("a traceback of the run" if "Traceback" in said else "")
    wrong = wrong or (f"{tally.memory / 1e9:.2f} GB" if tally.memory > MEMORY else "")
    wrong = wrong or ("the sound examination was not done" if events.get(SOUND, {}).get("event") != "result" else "")
    wrong = wrong or ("the inputs were changed" if snapshot(root / "in") != before else "")
    wrong = wrong or (f"a part of a file: {left}" if (left := _partial(root / "out")) else "")
    tally.seconds = max(tally.seconds, slowest)
    if wrong:
        tally.failures.append(f"the run by {layout}: {wrong}")
        tell(tally.failures[-1])
        tell("    " + said[-3000:].replace("\n", "\n    "))
    for subject, case in made.items():
        event = events.get(subject)
        code = "no answer" if event is None else event["error"]["code"] if event["event"] == "failure" else ""
        bad = [] if code in ERRORS or not code else [f"its answer is '{code}'"]
        tally.add(case, Answer(0, code, "", "", 0.0, 0, ()), bad)
        if bad:
            tell(tally.failures[-1])


def _make(cases: list[Case], root: Path, layout: str, seed: int, tally: Tally) -> dict[str, Case]:
    """The files of all cases, and the list; by the name that the batch run will know them by."""
    made: dict[str, Case] = {}
    lines = ["subject,t1"]
    middle = len(cases) // 2
    for number, case in enumerate(cases):
        subject = f"case{number:05d}"
        folder = root / subject if layout == "csv" else root / subject / "T1"
        folder.mkdir(parents=True)
        try:
            asked = case.make(folder, randomness(seed, case.name))
        except ImpossibleError:
            tally.impossible += 1
            shutil.rmtree(folder)
            continue
        made[subject] = case
        lines.append(f"{subject},{subject}/{asked.input}")
        if number == middle:
            (root / SOUND / "T1").mkdir(parents=True)
            (root / SOUND / "T1" / "a.nii.gz").write_bytes(samples.nifti_gz())
            lines.append(f"{SOUND},{SOUND}/T1/a.nii.gz")
    if layout == "csv":
        (root / "list.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return made


def _partial(folder: Path) -> str:
    """A file of the output that is not whole, or that was left aside."""
    for path in sorted(folder.rglob("*")):
        if path.name.startswith(".mrsynth-") or (
            path.suffix in (".gz", ".json") and path.is_file() and not_whole(path)
        ):
            return str(path)
    return ""
