"""`mrsynth-train evaluate`: a checkpoint's scores on whole volumes, through the very engine that users run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from mrsynth_training import metrics
from mrsynth_training.cli import PROTOCOLS
from mrsynth_training.errors import TrainingError
from mrsynth_training.pairs import Pair, load_pair
from mrsynth_training.preparation import Case, find_cases
from MRSynthLib.engine import intensity
from MRSynthLib.engine.errors import MRSynthError
from MRSynthLib.engine.files import write_aside
from MRSynthLib.engine.synthesis import CONTRASTS, Synthesizer, other

ROLES = ("validation", "unseen", "train")  # in the order of interest; "unseen": the card does not know the subject
DIRECTIONS = tuple(f"{contrast}_to_{other(contrast)}" for contrast in CONTRASTS)
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
}


def score(pair: Pair, synthetic: np.ndarray, protocols: Sequence[str] = PROTOCOLS) -> dict[str, metrics.Scores]:
    """All scores of one synthetic volume.

    Parameters
    ----------
    pair : Pair
    synthetic : ndarray, shape (k, j, i)
        As the engine returns it: 1000 is 1.0.
    protocols : sequence of str
        Of `PROTOCOLS`; `lesion` gives "lesion" and "lesion_rim" where the subject has a lesion.
    """
    made = np.clip(synthetic.astype(np.float32) / intensity.SCALE, 0, 1)
    true, grid = pair.reference, pair.source
    full_made, full_true = (np.where(pair.scored, array, 0) for array in (made, true))
    scores: dict[str, metrics.Scores] = {}
    if "paper" in protocols:
        scores["paper"] = metrics.paper(full_true, full_made, pair.brain, grid)
    with_lesion = "lesion" in protocols and pair.lesion is not None and bool(pair.lesion.any())
    if "brain" in protocols or with_lesion:
        similarity = metrics.ssim_map(full_true, full_made, grid)
        masks = {"brain": pair.brain} if "brain" in protocols else {}
        if with_lesion and pair.lesion is not None:
            masks["lesion"] = pair.lesion
            masks["lesion_rim"] = metrics.rim(pair.lesion, pair.brain, grid.spacing)
        for name, mask in masks.items():
            if mask.any():
                scores[name] = metrics.within(true, made, mask, similarity)
    if "drift" in protocols:
        scores["drift"] = metrics.drift(true, made, pair.brain, grid)
    if "shift" in protocols:
        # Not masked: an edge that both have from the same mask would hide an offset.
        scores["shift"] = metrics.shift(pair.unit_source(), made, pair.brain)
    return scores


def evaluate(
    synthesizer: Synthesizer,
    data: Path,
    *,
    subjects: Sequence[str] = (),
    protocols: Sequence[str] = PROTOCOLS,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Score a checkpoint in both directions.

    Parameters
    ----------
    synthesizer : Synthesizer
        In fp32.
    data : Path
        Folder with one sub-folder per subject, as `prepare` takes it.
    subjects : sequence of str
        Only these; by default all.
    protocols : sequence of str
    report : callable
        Gets one line per subject and direction.

    Returns
    -------
    dict
        Ready for JSON: protocol_version, checkpoint, summary {role: {direction: {protocol: {score: mean, median,
        q1, q3, subjects}}}}, subjects (one entry per subject and direction), failures {"subject from contrast": why}.
        Subjects that the checkpoint was trained on are never averaged with others.

    Raises
    ------
    TrainingError
        If there is no such subject.
    """
    roles = {entry["subject"]: entry["role"] for entry in synthesizer.checkpoint.card["training_data"]}
    entries: list[dict[str, Any]] = []
    failures: dict[str, str] = {}
    for case in _chosen(find_cases(data), subjects):
        for contrast in CONTRASTS:
            role = roles.get(case.subject, "unseen")
            try:
                entry = {"subject": case.subject, "role": role, **_scored(synthesizer, case, contrast, protocols)}
            except (TrainingError, MRSynthError) as error:  # one bad subject must not lose the others
                failures[f"{case.subject} from {contrast}"] = str(error)
                report(f"{case.subject} from {contrast}: not scored: {error}")
            else:
                entries.append(entry)
                report(_line(entry))
    return {
        "protocol_version": metrics.PROTOCOL_VERSION,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "checkpoint": {
            "name": synthesizer.checkpoint.name,
            "sha256": synthesizer.checkpoint.sha256,
            "weights_sha256": synthesizer.checkpoint.card["weights_sha256"],
            "frame": synthesizer.checkpoint.card["frame"],
        },
        "device": {"device": synthesizer.device.device, "precision": synthesizer.device.precision},
        "summary": summarize(entries),
        "subjects": entries,
        "failures": failures,
    }


def _chosen(cases: list[Case], subjects: Sequence[str]) -> list[Case]:
    unknown = sorted(set(subjects) - {case.subject for case in cases})
    if unknown:
        known = ", ".join(case.subject for case in cases)
        raise TrainingError(f"no subject named {', '.join(unknown)}", known, "Correct the names")
    return [case for case in cases if not subjects or case.subject in subjects]


def _scored(synthesizer: Synthesizer, case: Case, contrast: str, protocols: Sequence[str]) -> dict[str, Any]:
    pair = load_pair(case, contrast)
    result = synthesizer.synthesize(pair.source, other(contrast), source=contrast)
    return {
        "direction": pair.direction,
        "skull_stripped": pair.skull_stripped,
        "registered": pair.registered,
        "seconds": round(result.seconds, 2),
        "warnings": list(result.warnings),
        "scores": score(pair, result.volume.voxels, protocols),
    }


def summarize(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean, median and quartiles over subjects, by role, direction, protocol and score; validation first."""
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


def _line(entry: dict[str, Any]) -> str:
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


def write(results: dict[str, Any], path: Path) -> Path:
    """Write the results as JSON, aside first and then renamed."""
    with write_aside(path) as aside:
        aside.write_text(json.dumps(results, indent=1), encoding="utf-8")
    return path
