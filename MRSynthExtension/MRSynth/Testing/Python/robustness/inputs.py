"""The corpus through the doors, with a count of what came of it."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .case import Case, ImpossibleError
from .doors import Answer, Door
from .judge import problems, snapshot
from .mutate import randomness
from .place_cases import restore


@dataclass
class Tally:
    """What came of many cases through one door.

    Attributes
    ----------
    outcomes : Counter
        Times that each error code (or "done") was the answer.
    kinds : Counter
        Cases by kind.
    failures : list of str
        Case and what was wrong with it.
    impossible : int
        Cases that this machine cannot have.
    seconds, memory : float, int
        The most that one case took.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    impossible: int = 0
    seconds: float = 0.0
    memory: int = 0
    slowest: str = ""
    largest: str = ""

    @property
    def count(self) -> int:
        return sum(self.kinds.values())

    def add(self, case: Case, answer: Answer, wrong: Sequence[str]) -> None:
        self.kinds[case.kind] += 1
        self.outcomes[answer.error or "done"] += 1
        if answer.seconds > self.seconds:
            self.seconds, self.slowest = answer.seconds, case.name
        if answer.memory > self.memory:
            self.memory, self.largest = answer.memory, case.name
        if wrong:
            self.failures.append(f"{case.name}: {'; '.join(wrong)}")


def drive(
    cases: Iterable[Case],
    door: Door,
    seed: int,
    *,
    keep: Path | None = None,
    tell: Callable[[str], object] = lambda line: None,
) -> Tally:
    """Send every case through a door.

    Parameters
    ----------
    cases : iterable of Case
    door : Door
    seed : int
        Of everything that is random in the cases.
    keep : Path, optional
        Folder in which the files of each case stay, by its number.
    tell : callable
        Called with a line for each case that went wrong, or that is slow.
    """
    tally = Tally()
    for number, case in enumerate(cases):
        folder = Path(tempfile.mkdtemp(prefix="robustness-")) if keep is None else keep / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            answer, wrong = one(case, door, seed, folder)
        except ImpossibleError as error:
            tally.impossible += 1
            tell(f"not possible here: {case.name}: {error}")
        else:
            tally.add(case, answer, wrong)
            if wrong:
                tell(f"{door.name}: {tally.failures[-1]}")
                if answer.err:
                    tell("    " + answer.err[-1500:].replace("\n", "\n    "))
        finally:
            restore(folder)
            if keep is None:
                shutil.rmtree(folder, ignore_errors=True)
    return tally


def one(case: Case, door: Door, seed: int, folder: Path) -> tuple[Answer, list[str]]:
    """One case through one door: what came of it, and what was wrong with that.

    Raises
    ------
    ImpossibleError
        This machine cannot have the case.
    """
    asked = case.make(folder, randomness(seed, case.name))
    before = snapshot(folder)
    timer = None
    if asked.vanish is not None:
        path, delay = asked.vanish
        timer = threading.Timer(delay, _remove, [folder / path])
        timer.start()
    answer = door.ask(asked, folder)
    if timer is not None:
        timer.join()
    return answer, problems(asked, answer, before, snapshot(folder))


def _remove(path: Path) -> None:
    """Take a file or folder away, also while somebody writes to it."""
    if path.is_file():
        path.unlink()
        return
    end = time.monotonic() + 10
    while path.exists() and time.monotonic() < end:
        shutil.rmtree(path, ignore_errors=True)
