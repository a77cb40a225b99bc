"""`export --gate`: what a checkpoint must not do, in numbers; one that does it is not exported.

The thresholds are for faults that no reader would forgive, not for how good a checkpoint is: a source handed through,
a blur, tiles, flicker, a side brighter than the other, light where nothing is, erased or invented lesions.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mrsynth_training.errors import TrainingError
from MRSynthLib.engine.checkpoint import DIRECTIONS

UNSEEN = ("test", "validation", "unseen")  # roles of subjects that may judge


@dataclass(frozen=True)
class Limit:
    """What is allowed of a measure.

    Attributes
    ----------
    measure : str
        Of the protocol `artefacts`, by its mean over unseen subjects, without its sign; or of the lesion bench's
        phantoms.
    at_least, at_most : float
        In each direction.
    meaning : str
        What it is when it fails.
    """

    measure: str
    meaning: str
    at_least: float = -math.inf
    at_most: float = math.inf

    @property
    def allowed(self) -> str:
        """The limit in words."""
        return f"at least {self.at_least:g}" if math.isfinite(self.at_least) else f"at most {self.at_most:g}"

    def excess(self, seen: float) -> float:
        """How far a value is outside the limit, above 0, or inside it; what is not finite is infinitely far outside."""
        return max(self.at_least - seen, seen - self.at_most) if math.isfinite(seen) else math.inf


ARTEFACTS = (
    Limit("gain_over_source", "hands the source through", at_least=1.0),
    Limit("sharpness", "blurs", at_least=0.5),
    Limit("tiling", "shows the tiles of its layers", at_most=0.01),
    Limit("flicker_axial", "flickers from slice to slice", at_most=0.08),
    Limit("drift_axial", "changes its brightness from slice to slice", at_most=0.12),
    # Bias fields that source and reference do not share make up to 0.08 in phantoms.
    Limit("asymmetry", "makes one side brighter than the other", at_most=0.1),
    Limit("leakage", "makes light where nothing is", at_most=0.02),
    Limit("bias", "is too bright or too dark as a whole", at_most=0.35),
)
LESIONS = (
    Limit("response", "erases lesions", at_least=0.1),
    Limit("invented", "makes lesions where none are", at_most=0.25),
)


@dataclass(frozen=True)
class Finding:
    """One measure in one direction: what was seen (None: not measured) and what is allowed."""

    measure: str
    direction: str
    seen: float | None
    allowed: str
    passed: bool
    meaning: str

    def __str__(self) -> str:
        seen = "not measured" if self.seen is None else f"{self.seen:.3g}"
        return f"{self.measure} {self.direction}: {seen}, allowed {self.allowed} ({self.meaning})"


def judged(documents: Sequence[dict[str, Any]]) -> list[Finding]:
    """Hold what `evaluate` and `lesions` wrote to the limits, each by itself; what none of them tells is not passed.

    Parameters
    ----------
    documents : sequence of dict
        As they were written.

    Returns
    -------
    list of Finding
        Of a measure that several documents tell, the worst that was seen.
    """
    seen: dict[tuple[str, str], list[float]] = {}
    for document in documents:
        found = _of_lesions(document) if document.get("kind") == "lesions" else _of_scores(document)
        for key, value in found.items():
            seen.setdefault(key, []).append(value)
    return [
        _finding(limit, direction, seen.get((limit.measure, direction), []))
        for limit in (*ARTEFACTS, *LESIONS)
        for direction in DIRECTIONS
        # Air is not to be seen in every volume; without it there is nothing to leak into.
        if limit.measure != "leakage" or (limit.measure, direction) in seen
    ]


def _finding(limit: Limit, direction: str, values: Sequence[float]) -> Finding:
    worst = max(values, key=limit.excess, default=None)
    passed = worst is not None and limit.excess(worst) <= 0
    return Finding(limit.measure, direction, worst, limit.allowed, passed, limit.meaning)


def _of_scores(document: dict[str, Any]) -> dict[tuple[str, str], float]:
    gathered: dict[tuple[str, str], list[float]] = {}
    for entry in document["subjects"]:
        if entry["role"] in UNSEEN:
            for name, value in entry["scores"].get("artefacts", {}).items():
                gathered.setdefault((name, entry["direction"]), []).append(abs(value) if name == "bias" else value)
    return {key: statistics.fmean(values) for key, values in gathered.items()}


def _of_lesions(document: dict[str, Any]) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], float] = {}
    for direction in DIRECTIONS:
        rows = [row for row in document["lesions"] if (row["origin"], row["direction"]) == ("phantom", direction)]
        if rows:
            found["response", direction] = float(statistics.median(row["response"] for row in rows))
            found["invented", direction] = statistics.fmean(row["invented"] for row in rows)
    return found


def check(paths: Sequence[Path], weights_sha256: str) -> dict[str, Any]:
    """Refuse weights that fail.

    Parameters
    ----------
    paths : sequence of Path
        What `evaluate` wrote, with the protocol `artefacts`, and what `lesions` wrote, both of these very weights.
    weights_sha256 : str

    Returns
    -------
    dict
        For the card: "gate" (every finding) and "lesions" (the bench's summary).

    Raises
    ------
    TrainingError
        If a file cannot be read or is of other weights, or a measure fails; all that fail are named.
    """
    documents = [read(path, weights_sha256) for path in paths]
    findings = judged(documents)
    failed = [str(finding) for finding in findings if not finding.passed]
    if failed:
        raise TrainingError(
            f"the checkpoint does not pass the gate: {'; '.join(failed)}",
            "every measure within its limit (see docs/faithfulness.md)",
            "Train on, or measure what is missing: `mrsynth-train evaluate`, `mrsynth-train lesions`",
        )
    benches = [document for document in documents if document.get("kind") == "lesions"]
    summaries = {origin: found for bench in benches for origin, found in bench["summary"].items()}
    return {"gate": [asdict(finding) for finding in findings], "lesions": summaries}


def read(path: Path, weights_sha256: str) -> dict[str, Any]:
    """One file of scores, of these weights.

    Raises
    ------
    TrainingError
        If it is not from `evaluate` or `lesions`, or is of other weights.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        seen = document["checkpoint"]["weights_sha256"]
        judged([document])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainingError(
            f"{path} cannot be read ({error!r})",
            "what `mrsynth-train evaluate -o` or `mrsynth-train lesions -o` wrote",
            "Measure again",
        ) from error
    if seen != weights_sha256:
        raise TrainingError(f"{path} is of weights {seen[:12]}", f"{weights_sha256[:12]}, the run's", "Measure these")
    assert isinstance(document, dict)
    return document
