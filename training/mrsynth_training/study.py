"""`mrsynth-train study`: trains generators with several seeds, scores them and the baselines, and writes the report.

Everything is kept in the study's folder, step by step, so that a study that was stopped goes on where it was:

- `study.json`: what the study is; another study is refused in the same folder
- `store/`: prepared slices, with the split
- `experiments/`, `runs/`: one YAML and one run per generator and seed
- `checkpoints/`: exported generators, their scores in their cards
- `scores/`: each subject's scores by each candidate; `baselines.json`
- `report.md`, `figures/`, `tables/`: rewritten every time
"""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from mrsynth_training import baselines, evaluation, provenance
from mrsynth_training.candidates import Candidate, Network
from mrsynth_training.cohort import find
from mrsynth_training.config import Config
from mrsynth_training.errors import TrainingError
from mrsynth_training.export import export
from mrsynth_training.inspection import inspect
from mrsynth_training.loop import read_checkpoint
from mrsynth_training.preparation import Case, find_cases, prepare
from mrsynth_training.protocols import PROTOCOLS
from mrsynth_training.signals import handling
from mrsynth_training.slices import open_store
from mrsynth_training.splits import PAPER, WATCHED
from mrsynth_training.study_plan import Study, Trained, engine_device
from MRSynthLib.engine.writing import write_aside


@dataclass(frozen=True)
class Outcome:
    """All that the report is made of.

    Attributes
    ----------
    study : Study
    trained : tuple of Trained
    baselines : tuple of Baseline
    cases : tuple of Case
        Of the test subjects.
    results : dict
        By the name of the trained generator or baseline, as `evaluation.evaluate` gives.
    split : dict
        The store's.
    """

    study: Study
    trained: tuple[Trained, ...]
    baselines: tuple[baselines.Baseline, ...]
    cases: tuple[Case, ...]
    results: dict[str, dict[str, Any]]
    split: dict[str, Any]


def run(study: Study, report: Callable[[str], None] = print) -> Outcome:
    """Run a study to its end, or go on with it; returns what the report is made of.

    Raises
    ------
    TrainingError
        If the folder holds another study, a run fails, or no subject could be scored.
    KeyboardInterrupt
        If a training was interrupted; its state is saved.
    """
    _claim(study)
    store = study.out / "store"
    prepare(
        study.data,
        store,
        study.experiments[0].frame,
        split=study.split if study.split != "auto" else _auto_split(study.data),
        jobs=study.jobs,
        broken=study.broken,
        report=report,
    )
    meta = open_store(store).meta
    for experiment, _, seed in _plan(study):
        _write_experiment(study, experiment, seed)
    trained = [_trained(study, e, label, seed, report) for e, label, seed in _plan(study)]
    roles = {entry["subject"]: entry["role"] for entry in meta["subjects"]}
    simple = _baselines(study, [name for name, role in roles.items() if role == "train"], report)
    tested = sorted(name for name, role in roles.items() if role == "test")
    results = _scored(study, trained, simple, tested, report)
    for item in trained:
        _export(item, study.out / "scores" / f"{item.checkpoint.stem}.json")
    cases = tuple(case for case in find_cases(study.data) if case.subject in tested)
    return Outcome(study, tuple(trained), tuple(simple), cases, results, meta["split"])


def _claim(study: Study) -> None:
    """Note what the study is; refuse a folder that holds another one."""
    settings: dict[str, Any] = {
        "data": str(study.data.resolve()),
        "experiments": {e.name: e.sha256() for e in study.experiments},
        "seeds": list(study.seeds),
        "split": study.split,
    }
    study.out.mkdir(parents=True, exist_ok=True)
    note = study.out / "study.json"
    if note.exists():
        known = json.loads(note.read_text(encoding="utf-8"))
        # More seeds or experiments may be added to a study; what is there must stay what it was.
        other = [key for key in ("data", "split") if known[key] != settings[key]]
        other += [name for name, digest in known["experiments"].items() if settings["experiments"].get(name) != digest]
        if other:
            raise TrainingError(
                f"{study.out} holds a study with other settings ({', '.join(other)})",
                "the same data, split and experiments",
                "Choose another folder",
            )
    with write_aside(note) as aside:
        aside.write_text(json.dumps({**settings, "commit": provenance.commit()}, indent=1), encoding="utf-8")


def _auto_split(data: Path) -> str:
    """The paper's split, or its shares of fewer usable patients; one in twenty of these to watch the training by."""
    patients = len({case.patient for case in inspect(find(data)).usable})
    if patients >= sum(PAPER):
        return "paper"
    test = max(1, round(patients * PAPER[1] / sum(PAPER)))
    watched = min(WATCHED, round(patients / 20))
    return f"{patients - test - watched}+{test}+{watched}"


def _plan(study: Study) -> list[tuple[Config, str, int]]:
    """Every experiment with the first seed, then with the next: what is there after a stop can be compared."""
    both = zip(study.experiments, study.labels(), strict=True)
    pairs = list(both)
    return [(replace(e, seed=seed), label, seed) for seed in study.seeds for e, label in pairs]


def _trained(study: Study, experiment: Config, label: str, seed: int, report: Callable[[str], None]) -> Trained:
    """Train one generator in a process of its own, unless its run is complete, and export it."""
    name = f"{experiment.name}-seed{seed}"
    folder = study.out / "runs" / name
    item = Trained(label, seed, experiment, folder, study.out / "checkpoints" / f"{name}.safetensors")
    complete = _complete(folder)
    if not complete:
        report(f"training {item.name}")
        _train(study, experiment, folder)
        if not _complete(folder):
            raise TrainingError(f"{folder} is not complete", "a run to the end", "Run the study again to go on")
    if not (complete and item.checkpoint.exists()):
        _export(item, None)
    return item


def _complete(folder: Path) -> bool:
    if not (folder / "last.ckpt").exists():
        return False
    state = read_checkpoint(folder)
    return bool(state["step"] >= state["total"])


def _experiment_file(study: Study, experiment: Config, seed: int) -> Path:
    return study.out / "experiments" / f"{experiment.name}-seed{seed}.yaml"


def _write_experiment(study: Study, experiment: Config, seed: int) -> None:
    file = _experiment_file(study, experiment, seed)
    file.parent.mkdir(parents=True, exist_ok=True)
    plain = json.loads(json.dumps(experiment.as_dict()))  # tuples to lists
    with write_aside(file) as aside:
        aside.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")


def _train(study: Study, experiment: Config, folder: Path) -> None:
    """`mrsynth-train train` as a child process: its memory is given back, and it may start further processes."""
    file = _experiment_file(study, experiment, experiment.seed)
    command = [sys.executable, "-m", "mrsynth_training.cli", "train", str(file), "--store", str(study.out / "store")]
    command += ["-o", str(folder), "--accelerator", study.accelerator, "--devices", study.devices]
    command += ["--threads", str(study.threads)] if study.threads else []
    code = waited_for(command)
    if code == 7:
        raise KeyboardInterrupt
    if code:
        raise TrainingError(f"training {folder.name} ended with exit code {code}", "0", "See its message above")


def waited_for(command: Sequence[str]) -> int:
    """Run a child to its end and give its exit code.

    Ctrl-C, which both get, and SIGTERM, which is passed on, leave it the time to save its state.

    Raises
    ------
    KeyboardInterrupt
        After either of them, when the child has ended.
    """
    child: subprocess.Popen[bytes] | None = None
    ended = False

    def pass_on(number: int, frame: FrameType | None) -> None:
        nonlocal ended
        ended = True
        if child is not None:
            child.terminate()

    with handling(pass_on, signal.SIGTERM):
        child = subprocess.Popen(command)
        if ended:  # before there was a child to pass it on to
            child.terminate()
        try:
            code = child.wait()
        except KeyboardInterrupt:  # `subprocess.run` would kill the child a quarter of a second later
            child.wait()
            raise
    if ended:
        raise KeyboardInterrupt
    return code


def _export(item: Trained, scores: Path | None) -> None:
    item.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    export(item.run, item.checkpoint, name=item.checkpoint.stem, metrics=scores)


def _baselines(study: Study, subjects: list[str], report: Callable[[str], None]) -> list[baselines.Baseline]:
    file = study.out / "scores" / "baselines.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists() or set(baselines.read(file).subjects) != set(subjects):
        report(f"fitting the baselines to {len(subjects)} subjects")
        cases = [case for case in find_cases(study.data) if case.subject in subjects]
        baselines.write(baselines.fit(cases, study.jobs), file)
    return baselines.every(baselines.read(file))


def _scored(
    study: Study,
    trained: Sequence[Trained],
    simple: Sequence[baselines.Baseline],
    subjects: Sequence[str],
    report: Callable[[str], None],
) -> dict[str, dict[str, Any]]:
    device = engine_device(study.accelerator)
    networks = [Network(item.name, str(item.checkpoint), device) for item in trained]
    candidates: list[Candidate] = [*simple, *networks]
    folder = study.out / "scores"
    results = evaluation.evaluate(
        candidates,
        study.data,
        subjects=subjects,
        protocols=PROTOCOLS,
        jobs=study.jobs,
        cache=folder / "subjects",
        report=report,
    )
    if not any(found["subjects"] for found in results):
        raise TrainingError("no subject could be scored", "at least one", f"See {folder}")
    for item, found in zip(trained, results[len(simple) :], strict=True):
        evaluation.write(found, folder / f"{item.checkpoint.stem}.json")
    return {candidate.name: found for candidate, found in zip(candidates, results, strict=True)}


def digest(outcome: Outcome) -> str:
    """Twelve digits that tell this outcome's weights and subjects from others."""
    weights = [outcome.results[item.name]["checkpoint"]["weights_sha256"] for item in outcome.trained]
    text = json.dumps([weights, [case.subject for case in outcome.cases]])
    return hashlib.sha256(text.encode()).hexdigest()[:12]
