"""A study's scores as the report needs them: by method and subject, the seeds averaged or apart."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mrsynth_training.compare import Scores, per_subject
from mrsynth_training.study import Outcome
from MRSynthLib.engine.checkpoint import DIRECTIONS
from MRSynthLib.engine.writing import write_aside


class StudyScores:
    """Looks scores up in an outcome.

    Attributes
    ----------
    methods : list of str
        Baselines first, then the experiments as they were given.
    networks : list of str
        The experiments alone.
    """

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.networks = outcome.study.labels()
        self.methods = [baseline.name for baseline in outcome.baselines] + self.networks

    def seeds(self, method: str) -> dict[int, dict[str, Any]]:
        """Results by seed; a baseline, which has none, is seed 0."""
        found = {item.seed: self.outcome.results[item.name] for item in self.outcome.trained if item.label == method}
        return found or {0: self.outcome.results[method]}

    def by_subject(self, method: str, direction: str, protocol: str, score: str) -> dict[str, float]:
        """Mean over the seeds, by subject; subjects that some seed lacks are left out."""
        each = [per_subject(results, direction, protocol, score) for results in self.seeds(method).values()]
        common = set.intersection(*(set(values) for values in each))
        return {subject: float(np.mean([values[subject] for values in each])) for subject in sorted(common)}

    def by_seed(self, method: str, direction: str, protocol: str, score: str) -> list[float]:
        """Mean over the subjects, by seed."""
        each = [per_subject(results, direction, protocol, score) for results in self.seeds(method).values()]
        return [float(np.mean(list(values.values()))) for values in each if values]

    def table(self, protocol: str, score: str) -> dict[str, Scores]:
        """By direction, method and subject, for `compare.tested`."""
        return {
            direction: {method: self.by_subject(method, direction, protocol, score) for method in self.methods}
            for direction in DIRECTIONS
        }

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every single score."""
        for method in self.methods:
            for seed, results in self.seeds(method).items():
                for entry in results["subjects"]:
                    for protocol, scores in entry["scores"].items():
                        for name, value in scores.items():
                            yield {
                                "method": method,
                                "seed": seed or "",
                                "subject": entry["subject"],
                                "direction": entry["direction"],
                                "protocol": protocol,
                                "score": name,
                                "value": f"{value:.6g}",
                            }

    def write_csv(self, path: Path) -> Path:
        """Every single score as CSV, for whoever wants to analyse it otherwise."""
        rows = list(self.rows())
        with write_aside(path) as aside, aside.open("w", newline="", encoding="utf-8") as handle:
            table = csv.DictWriter(handle, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
        return path
