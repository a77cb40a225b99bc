"""Who is trained on, who is tested on: by patient, seeded, in a file that travels with store, run and checkpoint."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mrsynth_training.cohort import Case
from mrsynth_training.errors import TrainingError
from MRSynthLib.engine.writing import write_aside

FILE = "split.json"
FORMAT = 1
ROLES = ("train", "validation", "test")
PAPER = (163, 53)  # patients of Fu et al.: 13,203 / 81 and 4,293 / 81
WATCHED = 10  # further patients, where there are any, to watch a training by: not those of the test
Patients = dict[str, list[str]]


@dataclass(frozen=True)
class Split:
    """Patients and their studies by role; studies of one patient are always together.

    `rule`: how it was drawn, in words; `unused`: patients that are in no role.
    """

    rule: str
    seed: int | None
    train: Patients
    validation: Patients = field(default_factory=dict)
    test: Patients = field(default_factory=dict)
    unused: Patients = field(default_factory=dict)

    def role(self, subject: str) -> str | None:
        """Role of a study; None if it is unused or unknown."""
        for role in ROLES:
            if any(subject in studies for studies in getattr(self, role).values()):
                return role
        return None

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with its own checksum."""
        content = {"format": FORMAT, **asdict(self)}
        return {**content, "sha256": _digest(content)}


def draw(cases: Sequence[Case], rule: str, seed: int) -> Split:
    """Draw patients for training and test.

    Patients are put in the order of the SHA-256 of "seed:patient": the same seed gives the same split in every version
    of every library, and a patient more does not reorder the others.  Of a patient with
    several visits, the first is taken, so that every patient counts once.

    Parameters
    ----------
    cases : sequence of Case
    rule : str
        "paper" (163 patients for training, 53 for testing; up to 10 of the others to watch the training by), or
        "TRAIN+TEST" or "TRAIN+TEST+VALIDATION", in patients.
    seed : int

    Raises
    ------
    TrainingError
        If the rule is none of these, or there are too few patients.
    """
    patients: Patients = {}
    for case in sorted(cases, key=lambda c: c.subject):
        patients.setdefault(case.patient, []).append(case.subject)
    order = sorted(patients, key=lambda p: hashlib.sha256(f"{seed}:{p}".encode()).hexdigest())
    counts = _counts(rule, len(order))
    if sum(counts) > len(order) or min(counts[:2]) < 1:
        raise TrainingError(
            f"{len(order)} patients for a split of {rule}",
            f"at least {sum(counts)}, and one on each side",
            "Give more data, or --split TRAIN+TEST with smaller numbers",
        )
    parts, start = [], 0
    for count in counts:
        parts.append({p: patients[p][:1] for p in sorted(order[start : start + count])})
        start += count
    train, test, validation = parts
    unused = {p: patients[p] for p in sorted(order[start:])}
    unused |= {p: s[1:] for p, s in sorted(patients.items()) if p not in unused and len(s) > 1}
    words = f"{counts[0]} patients for training, {counts[1]} for testing, {counts[2]} for validation; first visits"
    return Split(words, seed, train, validation, test, unused)


def _counts(rule: str, patients: int) -> tuple[int, int, int]:
    if rule == "paper":
        return (*PAPER, max(0, min(WATCHED, patients - sum(PAPER))))
    found = re.fullmatch(r"(\d+)\+(\d+)(?:\+(\d+))?", rule)
    if not found:
        raise TrainingError(f"a split '{rule}'", "paper, TRAIN+TEST, TRAIN+TEST+VALIDATION, or a file", "Correct it")
    return int(found[1]), int(found[2]), int(found[3] or 0)


def listed(cases: Sequence[Case], validation: Sequence[str]) -> Split:
    """All studies of the named patients for validation, all others for training.

    Raises
    ------
    TrainingError
        If there is no such patient.
    """
    patients: Patients = {}
    for case in cases:
        patients.setdefault(case.patient, []).append(case.subject)
    unknown = sorted(set(validation) - set(patients))
    if unknown:
        raise TrainingError(f"no patient named {', '.join(unknown)}", ", ".join(sorted(patients)), "Correct the names")
    kept = {p: patients[p] for p in sorted(patients) if p in validation}
    return Split("validation by name", None, {p: patients[p] for p in sorted(patients) if p not in kept}, kept)


def load(path: Path) -> Split:
    """Read a split file.

    Raises
    ------
    TrainingError
        If it cannot be read, or was altered.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path} cannot be read ({error})", "a split file", "Check the path") from error
    return from_dict(content, str(path))


def from_dict(content: Any, where: str) -> Split:
    """A split from its dictionary; `where` is for the message of an error."""
    try:
        known = dict(content)
        stated, version = known.pop("sha256", None), known.pop("format")
        split = Split(**known)
        if version != FORMAT or not all(isinstance(s, list) for r in ROLES for s in getattr(split, r).values()):
            raise ValueError(f"format {version}")
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise TrainingError(
            f"{where} is no split file ({error})", "what `mrsynth-train prepare` writes", "Check the path"
        ) from error
    if stated is not None and stated != _digest({"format": FORMAT, **asdict(split)}):
        raise TrainingError(
            f"{where} was altered after it was drawn",
            f"the checksum {stated[:12]}...",
            "Remove its sha256 if you meant it",
        )
    check(split)
    return split


def write(split: Split, path: Path) -> Path:
    """Write a split file, aside first and then renamed."""
    with write_aside(path) as aside:
        aside.write_text(json.dumps(split.as_dict(), indent=1) + "\n", encoding="utf-8")
    return path


def check(split: Split, cases: Sequence[Case] | None = None) -> None:
    """Refuse a split with a patient or a study on two sides or, where the cases are given, one that is not there.

    Raises
    ------
    TrainingError
    """
    patient_of = {case.subject: case.patient for case in cases or ()}
    sides: dict[str, str] = {}
    for role in ROLES:
        for patient, subjects in getattr(split, role).items():
            names = {f"patient {patient}", *(f"study {s}" for s in subjects)}
            names |= {f"patient {patient_of[s]}" for s in subjects if s in patient_of}
            for name in sorted(names):
                if sides.setdefault(name, role) != role:
                    raise _leak(name, sides[name], role)
    absent = [s for role in ROLES for studies in getattr(split, role).values() for s in studies if s not in patient_of]
    if cases is not None and absent:
        raise TrainingError(
            f"{len(absent)} studies of the split are not usable here ({', '.join(absent[:5])})",
            "every study of the split, complete",
            "Check the folder by `mrsynth-train find`, or draw another split",
        )


def check_contents(contents: Mapping[str, tuple[str, str]]) -> None:
    """Refuse the same image under two names on two sides.

    Parameters
    ----------
    contents : dict
        {study: (role, checksum of the T1's voxels)}.
    """
    owner: dict[str, str] = {}
    for subject, (role, digest) in sorted(contents.items()):
        first = owner.setdefault(digest, subject)
        if contents[first][0] != role:
            raise _leak(f"the same T1 as {first} and {subject}", contents[first][0], role)


def _leak(what: str, first: str, second: str) -> TrainingError:
    return TrainingError(
        f"the split leaks: {what} is in {first} and in {second}",
        "every patient on one side only",
        "Draw the split by patient (--split), or correct the file",
    )


def _digest(content: Mapping[str, Any]) -> str:
    body = {k: v for k, v in content.items() if k != "sha256"}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
