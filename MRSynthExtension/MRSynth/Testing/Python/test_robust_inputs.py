"""Broken inputs through every door: a short run of what `make soak` does in full. See docs/reliability.md."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from robustness import cohort, doors
from robustness.case import Asked, Case
from robustness.command import SEED, sampled
from robustness.corpus import corpus
from robustness.doors import Answer
from robustness.inputs import drive, one
from robustness.judge import MEMORY, problems, snapshot
from robustness.mutate import randomness

POSIX = pytest.mark.skipif(os.name == "nt", reason="pipes that can be waited for, and limits, of POSIX")
# What once ended in a traceback, a crash, a hang or the wrong file
FOUND = (
    "name/nii.gz/no Unicode",
    "name/nrrd/no Unicode",
    "name/mha/no Unicode",
    "name/dicom/no Unicode",
    "name/nii.gz/a tilde",
    "name/folder/a tilde",
    "place/odd/input is empty text",
    "place/odd/input is a pipe",
    "place/odd/input is a pipe named .nrrd",
    "place/odd/input is a pipe named .mha",
    "place/odd/input is /dev/zero named .nii.gz",
    "place/odd/output is a loop of two links",
    "place/odd/output with a NUL",
    "place/odd/output is a link to nowhere",
    "nrrd/lie/data in a pipe",
    "nrrd/lie/encoding text",
    "mha/lie/data in a pipe",
    "mha/lie/NDims a billion",
    "mha/lie/NDims 100",
    "mha/lie/NDims negative",
    "mha-zlib/bomb/1 GB",
    "gz/bomb/4 GB that the header claims",
    "gz/bomb/2 GB in an extension",
    "dicom-enhanced/lie/frames 100000, all described",
    "dicom-enhanced/flips/bytes 0",
)


def short() -> list[Case]:
    """Two cases of each kind, and those that once found something."""
    kinds: dict[str, list[Case]] = {}
    for case in corpus():
        kinds.setdefault(case.kind, []).append(case)
    chosen = {case.name for cases in kinds.values() for case in sampled(cases, SEED, 2)} | set(FOUND)
    return [case for case in corpus() if case.name in chosen]


@pytest.fixture
def door(tiny_checkpoint: Path) -> Iterator[Callable[[str], Any]]:
    """Opens a door by the name of its class, and closes it."""
    opened: list[Any] = []

    def make(name: str) -> Any:
        opened.append(getattr(doors, name)(tiny_checkpoint))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def test_the_corpus_is_large_and_of_many_kinds() -> None:
    assert len(corpus()) >= 300
    assert set(FOUND) <= {case.name for case in corpus()}


def test_a_case_is_the_same_in_every_run_and_another_with_another_seed(tmp_path: Path) -> None:
    case = next(case for case in corpus() if case.name == "dicom-explicit/flips/anywhere 0")
    for name, seed in (("1", SEED), ("2", SEED), ("3", SEED + 1)):
        (tmp_path / name).mkdir()
        case.make(tmp_path / name, randomness(seed, case.name))
    one, two, other = (list(snapshot(tmp_path / name).values()) for name in "123")
    assert one == two != other


@POSIX
@pytest.mark.parametrize("name", ["ResidentCli", "Worker"])
def test_broken_inputs_end_as_documented(name: str, door: Callable[[str], Any]) -> None:
    tally = drive(short(), door(name), SEED)
    assert tally.failures == []
    assert tally.count + tally.impossible == len(short())


@POSIX
@pytest.mark.parametrize("name", ["FreshCli", "FreshWorker"])
def test_broken_inputs_end_as_documented_in_a_process_of_their_own(name: str, door: Callable[[str], Any]) -> None:
    chosen = sampled([case for case in corpus() if "NUL" not in case.name], SEED, 3)
    assert drive(chosen, door(name), SEED).failures == []


@POSIX
def test_a_batch_run_gets_over_all_of_them(tiny_checkpoint: Path) -> None:
    told: list[str] = []
    tally = cohort.drive(short(), tiny_checkpoint, SEED, told.append)
    assert tally.failures == [], told
    assert tally.outcomes["done"] > 0
    assert tally.outcomes["input-corrupt"] > 0


# --- the judge ----------------------------------------------------------------------------------------------

REFUSED = Answer(3, "input-corrupt", "", "", 1.0, 1 << 20, ())


class Misbehaving:
    """A door behind which something goes wrong."""

    name = "misbehaving"

    def __init__(self, answer: Answer, do: Callable[[Path], object]) -> None:
        self.answer, self.do = answer, do

    def ask(self, asked: Asked, folder: Path) -> Answer:
        self.do(folder)
        return self.answer


def make(folder: Path, rng: random.Random) -> Asked:
    (folder / "in.nii").write_bytes(b"broken")
    return Asked("in.nii")


@pytest.mark.parametrize(
    ("answer", "do", "wrong"),
    [
        (REFUSED, lambda folder: None, ""),
        (replace(REFUSED, err="Traceback (most recent call last)"), lambda folder: None, "traceback"),
        (replace(REFUSED, code=None), lambda folder: None, "no orderly end"),
        (replace(REFUSED, code=1, error="unexpected"), lambda folder: None, "undocumented"),
        (replace(REFUSED, code=5), lambda folder: None, "exit code 5"),
        (replace(REFUSED, code=6, error="device-out-of-memory"), lambda folder: None, "memory"),
        (replace(REFUSED, seconds=21.0), lambda folder: None, "21.0 s"),
        (replace(REFUSED, memory=MEMORY + 1), lambda folder: None, "GB"),
        (REFUSED, lambda folder: (folder / ".mrsynth-1").write_text(""), "left behind"),
        (REFUSED, lambda folder: (folder / "in.nii").write_text(""), "changed"),
        (REFUSED, lambda folder: (folder / "in.nii").unlink(), "gone"),
        (replace(REFUSED, code=0, error="", wrote=(Path("no.nii"),)), lambda folder: None, "cannot be read"),
        (replace(REFUSED, code=0), lambda folder: None, "a success that says"),
    ],
)
def test_the_judge_sees(answer: Answer, do: Callable[[Path], object], wrong: str, tmp_path: Path) -> None:
    _, found = one(Case("a/b/c", make), Misbehaving(answer, do), SEED, tmp_path)
    assert bool(found) == bool(wrong)
    assert wrong in "; ".join(found)


def test_the_judge_wants_a_sound_volume_to_succeed(tmp_path: Path) -> None:
    assert problems(Asked("in.nii", good=True), REFUSED, {}, {})[0].startswith("refused as 'input-corrupt'")
