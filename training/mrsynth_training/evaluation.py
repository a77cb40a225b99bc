"""`mrsynth-train evaluate`: scores on whole volumes, through the very engine that users run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timezone
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from mrsynth_training import metrics, provenance
from mrsynth_training.candidates import Candidate
from mrsynth_training.errors import TrainingError
from mrsynth_training.pairs import Pair, load_pair
from mrsynth_training.preparation import Case, find_cases
from mrsynth_training.protocols import PROTOCOLS
from mrsynth_training.scoring import score
from MRSynthLib.engine.checkpoint import DIRECTIONS
from MRSynthLib.engine.errors import MRSynthError
from MRSynthLib.engine.synthesis import CONTRASTS, other
from MRSynthLib.engine.writing import write_aside

Entry = dict[str, Any]

ROLES = ("test", "validation", "unseen", "train")  # of interest first; "unseen": the card does not know the patient
SHOWN = {
    "paper psnr": ("paper", "psnr", ".2f"),
    "paper ssim": ("paper", "ssim", ".3f"),
    "brain psnr": ("brain", "psnr", ".2f"),
    "brain ssim": ("brain", "ssim", ".3f"),
    "brain mae": ("brain", "mae", ".3f"),
    "lesion psnr": ("lesion", "psnr", ".2f"),
    "rim psnr": ("lesion_rim", "psnr", ".2f"),
    "drift": ("drift", "p95", ".3f"),
    "shift": ("shift", "voxels", ".2f"),
    "selfrdb psnr": ("peer:selfrdb", "psnr", ".2f"),
    "selfrdb ssim": ("peer:selfrdb", "ssim", ".3f"),
    "resvit psnr": ("peer:resvit", "psnr", ".2f"),
    "syndiff psnr": ("peer:syndiff", "psnr", ".2f"),
    "tissue dice": ("tissue", "dice", ".3f"),
}


def evaluate(
    candidates: Sequence[Candidate],
    data: Path,
    *,
    subjects: Sequence[str] = (),
    protocols: Sequence[str] = PROTOCOLS,
    jobs: int = 1,
    cache: Path | None = None,
    report: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Score candidates in both directions; each subject is read once for all of them.

    Parameters
    ----------
    candidates : sequence of Candidate
    data : Path
        Folder with one sub-folder per subject, as `prepare` takes it.
    subjects : sequence of str
        Only these; by default all.
    protocols : sequence of str
    jobs : int
        Subjects scored at once, each in a process of its own.
    cache : Path, optional
        Folder that keeps each subject's scores as soon as they are there; what is in it is not computed again.
    report : callable
        Gets one line per subject, direction and candidate.

    Returns
    -------
    list of dict
        One per candidate, ready for JSON: protocol_version, commit, checkpoint, summary {role: {direction: {protocol:
        {score: mean, median, q1, q3, subjects}}}}, subjects (one entry per subject and direction), failures {"subject
        from contrast": why}. Subjects whose patient a candidate was trained on are never averaged with others.

    Raises
    ------
    TrainingError
        If there is no such subject.
    """
    about = [candidate.about() for candidate in candidates]
    kept = [_folder(cache, description) for description in about]
    cases = chosen(find_cases(data), subjects)
    work = partial(_examined, candidates=tuple(candidates), protocols=tuple(protocols), kept=tuple(kept))
    entries: list[list[Entry]] = [[] for _ in candidates]
    for found in _each(work, cases, jobs):
        for index, entry in found:
            entries[index].append(entry)
            report(f"{candidates[index].name}: {_line(entry)}" if len(candidates) > 1 else _line(entry))
    return [_results(*both) for both in zip(about, entries, strict=True)]


def _each(work: Callable[[Case], list[tuple[int, Entry]]], cases: list[Case], jobs: int) -> Iterable[Any]:
    if jobs <= 1:
        yield from map(work, cases)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:  # a fork of torch's threads may hang
        yield from pool.map(work, cases)


def _results(about: dict[str, Any], entries: list[Entry]) -> dict[str, Any]:
    scored = [entry for entry in entries if "scores" in entry]
    return {
        "protocol_version": metrics.PROTOCOL_VERSION,
        "commit": provenance.commit(),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "checkpoint": about,
        "summary": summarize(scored),
        "subjects": scored,
        "failures": {
            f"{entry['subject']} from {entry['direction'][:2]}": entry["failure"]
            for entry in entries
            if "failure" in entry
        },
    }


def chosen(cases: list[Case], subjects: Sequence[str]) -> list[Case]:
    """The cases of these subjects, or all.

    Raises
    ------
    TrainingError
        If one of them is not there.
    """
    unknown = sorted(set(subjects) - {case.subject for case in cases})
    if unknown:
        known = ", ".join(case.subject for case in cases)
        raise TrainingError(f"no subject named {', '.join(unknown)}", known, "Correct the names")
    return [case for case in cases if not subjects or case.subject in subjects]


def _examined(
    case: Case, candidates: tuple[Candidate, ...], protocols: tuple[str, ...], kept: tuple[Path | None, ...]
) -> list[tuple[int, Entry]]:
    """Entries of one subject: (index of the candidate, entry)."""
    result: list[tuple[int, Entry]] = []
    for contrast in CONTRASTS:
        direction = f"{contrast}_to_{other(contrast)}"
        pair: Pair | None = None
        for index, candidate in enumerate(candidates):
            file = kept[index] / f"{case.subject}_{direction}.json" if kept[index] else None  # type: ignore[operator]
            entry = _read(file, protocols)
            role = candidate.role(case)
            if entry is not None:
                entry["role"] = role
            else:
                entry = {"subject": case.subject, "role": role, "direction": direction}
                try:
                    pair = pair or load_pair(case, contrast)
                    entry |= _scored(candidate, pair, protocols)
                except (TrainingError, MRSynthError) as error:  # one bad subject must not lose the others
                    if getattr(error, "code", "") == "model-direction":  # a checkpoint of the other direction alone
                        continue
                    entry["failure"] = str(error)
                else:
                    _keep(entry, file, protocols)
            result.append((index, entry))
    return result


def _scored(candidate: Candidate, pair: Pair, protocols: Sequence[str]) -> Entry:
    voxels, notes = candidate.synthesize(pair)
    return {
        "skull_stripped": pair.skull_stripped,
        "registered": pair.registered,
        **notes,
        "scores": score(pair, voxels, protocols),
    }


def _folder(cache: Path | None, about: dict[str, Any]) -> Path | None:
    """Where a candidate's scores are kept; other weights have another folder."""
    if cache is None:
        return None
    folder = cache / re.sub(r"[^\w.]+", "-", f"{about['name']} {about['weights_sha256'][:12]}").strip("-")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _read(file: Path | None, protocols: tuple[str, ...]) -> Entry | None:
    if file is None or not file.exists():
        return None
    content = json.loads(file.read_text(encoding="utf-8"))
    same = content["protocol_version"] == metrics.PROTOCOL_VERSION and content["protocols"] == list(protocols)
    return content["entry"] if same else None


def _keep(entry: Entry, file: Path | None, protocols: tuple[str, ...]) -> None:
    if file is not None:
        content = {"protocol_version": metrics.PROTOCOL_VERSION, "protocols": protocols, "entry": entry}
        with write_aside(file) as aside:
            aside.write_text(json.dumps(content), encoding="utf-8")


def summarize(entries: Sequence[Entry]) -> dict[str, Any]:
    """Mean, median and quartiles over subjects, by role, direction, protocol and score; those unseen first."""
    result: dict[str, Any] = {}
    for role in ROLES:
        for direction in DIRECTIONS:
            gathered: dict[str, dict[str, list[float]]] = {}
            for entry in entries:
                if (entry["role"], entry["direction"]) == (role, direction):
                    for protocol, scores in entry["scores"].items():
                        for name, value in scores.items():
                            gathered.setdefault(protocol, {}).setdefault(name, []).append(value)
            if gathered:
                result.setdefault(role, {})[direction] = {
                    protocol: {name: metrics.summary(values) for name, values in scores.items()}
                    for protocol, scores in gathered.items()
                }
    return result


def _line(entry: Entry) -> str:
    if "failure" in entry:
        return f"{entry['subject']} {entry['direction']}: not scored: {entry['failure']}"
    shown = (
        f"{title} {entry['scores'][protocol][name]:{form}}"
        for title, (protocol, name, form) in SHOWN.items()
        if name in entry["scores"].get(protocol, {})
    )
    return f"{entry['subject']} ({entry['role']}) {entry['direction']}: {', '.join(shown)}"


def table(results: dict[str, Any]) -> str:
    """The results to read: per role and direction the means, then each subject."""
    columns = [
        title
        for title, (protocol, name, _) in SHOWN.items()
        if any(name in entry["scores"].get(protocol, {}) for entry in results["subjects"])
    ]
    lines = [f"{'':28s}{'direction':10s}" + "".join(f"{title:>13s}" for title in columns)]
    for role in ROLES:
        for direction, scores in results["summary"].get(role, {}).items():
            means = {p: {name: value["mean"] for name, value in s.items()} for p, s in scores.items()}
            lines.append(_row(f"MEAN {role}", direction, means, columns))
    ordered = sorted(results["subjects"], key=lambda e: (ROLES.index(e["role"]), e["direction"], e["subject"]))
    lines += [_row(f"{e['subject']} ({e['role']})", e["direction"], e["scores"], columns) for e in ordered]
    lines += [f"NOT SCORED {name}: {why}" for name, why in results["failures"].items()]
    return "\n".join(lines)


def _row(title: str, direction: str, scores: dict[str, dict[str, float]], columns: list[str]) -> str:
    cells = []
    for column in columns:
        protocol, name, form = SHOWN[column]
        value = scores.get(protocol, {}).get(name)
        cells.append(f"{'-' if value is None else format(value, form):>13s}")
    return f"{title:28s}{direction:10s}{''.join(cells)}"


def write(results: Any, path: Path) -> Path:
    """Write results as JSON, aside first and then renamed."""
    with write_aside(path) as aside:
        aside.write_text(json.dumps(results, indent=1), encoding="utf-8")
    return path
