"""`mrsynth-train prepare`: folders of T1 and T2 volumes become one slice store; in parallel, and resumable."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from mrsynth_training import inspection, parts, sources, splits
from mrsynth_training.cohort import Case, Problem, find, find_cases
from mrsynth_training.errors import TrainingError
from mrsynth_training.store_files import META, SubjectSlices, write_store
from mrsynth_training.subject_slices import PAPER_SLICES, prepare_case
from MRSynthLib.engine.errors import MRSynthError, OutputError
from MRSynthLib.engine.locks import LOCK, only_one
from MRSynthLib.engine.standard_space import PASSES

__all__ = ["Case", "find_cases", "prepare", "prepare_case"]

BYTES_PER_PIXEL = 5  # two of each contrast, one of the mask
PAPER_SIDE = 128
BAD_INPUT = (TrainingError, MRSynthError)


def prepare(
    data: Path,
    store: Path,
    frame: str,
    *,
    planes: str = "axial",
    validation: Sequence[str] = (),
    split: str | Path | None = None,
    seed: int = 1,
    jobs: int = 1,
    broken: str = "stop",
    dry_run: bool = False,
    report: Callable[[str], None] = print,
) -> Path:
    """Prepare the studies below `data` into a slice store; a preparation that was interrupted is gone on with.

    Parameters
    ----------
    data : Path
    store : Path
        Folder to write.
    frame : {"native", "paper"}
    planes : {"axial", "three"}
        three: coronal and sagittal slices, too, of studies whose voxels are near enough to cubes; native frame only.
    validation : sequence of str
        Patients kept out of training; all others are trained on. Not together with `split`.
    split : str or Path, optional
        "paper", "TRAIN+TEST[+VALIDATION]" in patients, or a split file; see `splits.draw`.
    seed : int
        Of a split that is drawn.
    jobs : int
        Studies prepared at once.
    broken : {"stop", "skip"}
        What a missing contrast or a broken file does.
    dry_run : bool
        Report what would be done, and do nothing.
    report : callable
        Gets one line per study.

    Raises
    ------
    TrainingError
        If a study is incomplete or broken (unless skipped), the split leaks or cannot be drawn, the store is there and
        was made of other data, or another process prepares it.
    OutputError
        If the store cannot be written.
    """
    if frame == "paper" and planes != "axial":
        raise TrainingError(
            f"planes is '{planes}' in the paper's frame", "'axial', as published", "Leave --planes out, or use native"
        )
    found = inspection.inspect(find(data))
    report(inspection.text(found))
    if found.problems and broken == "stop":
        raise _stopped(found.problems, "nothing was computed")
    if not found.usable:
        raise TrainingError(f"{data} has no usable study", "a whole T1 and T2 of each", "See the report above")
    chosen = _split(found.usable, validation, split, seed)
    cases = [case for case in found.usable if chosen.role(case.subject)]
    keys = {case.subject: parts.key(case, frame, planes) for case in cases}
    if _is_there(store, keys, chosen):
        report(f"{store} holds these very slices already")
        return store
    _check_space(store, len(cases), frame, found.voxels * len(PASSES[planes]))
    report(f"split: {chosen.rule}; {len(cases)} studies to prepare")
    if dry_run:
        return store
    with only_one(store / LOCK) as alone:
        if not alone:
            raise TrainingError(f"another process prepares {store}", "one at a time", "Wait, or end it")
        done = {name: part for name, made_of in keys.items() if (part := parts.load(store, name, made_of))}
        if done:
            report(f"{len(done)} studies are prepared already")
        failures = list(found.problems)
        work = partial(_prepare_part, store=store, frame=frame, planes=planes, listed=sources.listed_checksums(data))
        for case, error in _each(work, [case for case in cases if case.subject not in done], jobs):
            if error is None:
                done[case.subject] = _loaded(store, case, keys)
                report(_line(done[case.subject], chosen.role(case.subject)))
                continue
            failures.append(Problem(case.subject, "broken", str(error)))
            report(f"{case.subject}: {'left out' if broken == 'skip' else 'stopped'}: {error}")
            if broken == "stop":
                raise _stopped(failures[-1:], f"{len(done)} studies are kept; run again to go on") from error
        return _put_together(store, frame, chosen, done, keys, failures, report)


def _split(cases: list[Case], validation: Sequence[str], split: str | Path | None, seed: int) -> splits.Split:
    if split is not None and validation:
        raise TrainingError("both a split and validation patients", "one of the two", "Leave one out")
    if split is None:
        return splits.listed(cases, validation)
    chosen = splits.load(Path(split)) if Path(split).is_file() else splits.draw(cases, str(split), seed)
    splits.check(chosen, cases)
    return chosen


def _is_there(store: Path, keys: dict[str, Any], split: splits.Split) -> bool:
    """Whether the store is there, of the same files and split; refused where it is of others."""
    if not (store / META).exists():
        return False
    try:
        meta = json.loads((store / META).read_text(encoding="utf-8"))
        made_of, drawn = meta.get("made_of", {}), meta.get("split", {})
    except (OSError, ValueError, AttributeError):
        return False  # a damaged store is made again
    left_out = {problem["subject"] for problem in meta.get("left_out", [])}
    expected = {name: made for name, made in keys.items() if name not in left_out}
    if made_of == json.loads(json.dumps(expected)) and drawn == split.as_dict():
        return True
    changed = sorted(n for n in made_of.keys() | expected.keys() if made_of.get(n) != expected.get(n))
    what = f"studies that differ: {', '.join(changed[:5])}" if changed else "another split"
    raise TrainingError(f"{store} holds a store made of other data ({what})", "a new folder", "Choose another folder")


def _check_space(store: Path, studies: int, frame: str, voxels: int) -> None:
    """Refuse where parts and store will not fit; a native store is smaller than its volumes' voxels suggest."""
    pixels = PAPER_SLICES * PAPER_SIDE**2 if frame == "paper" else voxels
    needed = 2 * studies * pixels * BYTES_PER_PIXEL
    folder = next(p for p in (store, *store.absolute().parents) if p.exists())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise TrainingError(
            f"{studies} studies need up to {needed / 1e9:.1f} GB while they are prepared, half of it afterwards; "
            f"{free / 1e9:.1f} GB are free",
            "enough space",
            "Choose another disk",
        )


def _prepare_part(case: Case, *, store: Path, frame: str, planes: str, listed: sources.Listed) -> None:
    parts.save(store, parts.key(case, frame, planes), prepare_case(case, frame, listed, planes=planes))


def _each(work: Callable[[Case], None], cases: list[Case], jobs: int) -> Iterator[tuple[Case, Exception | None]]:
    """Do the work for every case; yields each with the error that it met, in the order in which they end."""
    if jobs <= 1:
        yield from ((case, _outcome(work, case)) for case in cases)
        return
    # Not forked: a copy of a process that has threads may wait for ever.
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _initialize) as pool:
        waiting: dict[Future[None], Case] = {pool.submit(work, case): case for case in cases}
        try:
            while waiting:
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    case, error = waiting.pop(future), future.exception()
                    if isinstance(error, BrokenProcessPool):
                        raise TrainingError(
                            f"a process ended while {case.subject} or one beside it was prepared",
                            "enough memory for all jobs",
                            "Run again with fewer --jobs; what is done is kept",
                        ) from error
                    if error is not None and (not isinstance(error, BAD_INPUT) or isinstance(error, OutputError)):
                        raise error
                    yield case, error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _outcome(work: Callable[[Case], None], case: Case) -> Exception | None:
    try:
        work(case)
    except OutputError:  # no fault of the study: a full disk is one for all
        raise
    except BAD_INPUT as error:
        return error
    return None


def _initialize() -> None:
    """One thread per process, and Ctrl-C is the parent's: it lets the studies at work be finished."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


def _loaded(store: Path, case: Case, keys: dict[str, Any]) -> SubjectSlices:
    part = parts.load(store, case.subject, keys[case.subject])
    if part is None:
        raise TrainingError(
            f"the files of {case.subject} changed while they were prepared, or its part of {store} is damaged",
            "files and a disk that keep what they hold",
            "Run again",
        )
    return part


def _put_together(
    store: Path,
    frame: str,
    split: splits.Split,
    done: dict[str, SubjectSlices],
    keys: dict[str, Any],
    failures: list[Problem],
    report: Callable[[str], None],
) -> Path:
    """Write the store of all parts, and remove them."""
    subjects = [
        replace(part, record={**part.record, "role": split.role(name)})
        for name, part in sorted(done.items())
        if len(part.images)
    ]
    failures += [
        Problem(n, "broken", "no slice with brain in both contrasts") for n, p in done.items() if not len(p.images)
    ]
    if not subjects:
        raise TrainingError("no study could be prepared", "at least one", "See the report above")
    splits.check_contents(
        {s.record["subject"]: (s.record["role"], s.record["files"]["t1"]["content"]) for s in subjects}
    )
    if frame == "paper" and (short := [s.record["subject"] for s in subjects if len(s.images) < PAPER_SLICES]):
        report(f"fewer than {PAPER_SLICES} slices: {len(short)} studies ({', '.join(short[:5])})")
    made_of = {s.record["subject"]: keys[s.record["subject"]] for s in subjects}
    left_out = [vars(problem) for problem in failures]
    write_store(store, frame, subjects, split=split.as_dict(), made_of=made_of, left_out=left_out)
    splits.write(split, store / splits.FILE)
    parts.remove(store)
    counts = {role: sum(len(s.images) for s in subjects if s.record["role"] == role) for role in splits.ROLES}
    report("slices: " + ", ".join(f"{role} {count}" for role, count in counts.items() if count))
    if failures:
        report(f"left out: {len(failures)} ({', '.join(sorted({p.subject for p in failures}))})")
    return store


def _line(subject: SubjectSlices, role: str | None) -> str:
    r, shape = subject.record, subject.images.shape
    head = "skull-stripped" if r["skull_stripped"] else "whole head"
    return f"{r['subject']}: {shape[0]} slices of {shape[2]}x{shape[3]}, {head}, {role}, group {r['group']}"


def _stopped(problems: Sequence[Problem], kept: str) -> TrainingError:
    shown = "; ".join(f"{p.subject}: {p.text}" for p in problems[:5])
    more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
    return TrainingError(
        f"{len(problems)} studies cannot be used ({shown}{more}); {kept}",
        "whole pairs",
        "Repair them, or leave them out by --broken skip",
    )
