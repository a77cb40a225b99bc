"""`mrsynth-train export`: the averaged generator of a run as a checkpoint with a full card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from torch import Tensor

from mrsynth_training import gate as gates
from mrsynth_training import soup
from mrsynth_training.errors import TrainingError
from mrsynth_training.evaluation import summarize
from mrsynth_training.loop import read_checkpoint
from MRSynthLib.engine import checkpoint, generators, intensity
from MRSynthLib.engine.checkpoint import DIRECTIONS

FEW_SUBJECTS = 50
INTENDED_USE = (
    "Research on brain MR image synthesis: adult T1-weighted (without contrast agent) to T2-weighted and back. "
    "Not for diagnosis, treatment or any clinical decision: the output is a guess at what was not measured, and may "
    "hide or invent lesions."
)
KNOWN_FAILURES = (
    "Lesions may be hidden, altered or invented; tumour texture deviates most.",
    "FLAIR, proton-density and contrast-enhanced T1 input gives wrong output; the screening sees most, not all of it.",
    "Intensities above the 99.5th percentile of brain are clipped: peaks of cerebrospinal fluid in T2 are cut off.",
    "The wanted scanner's brightness and contrast are unknown to the model: it makes an average of its training data.",
    "Slices are made one by one, so fine structure may change from slice to slice.",
    "Not for infants, postoperative heads, implants or strong motion: none were in the training data.",
)
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError)
OPEN_LICENCES = ("cc by", "cc0", "mit", "apache", "public domain")


def export(
    run: Path,
    output: Path,
    *,
    name: str,
    average_with: Sequence[Path] = (),
    metrics: Path | None = None,
    cross_validation: Sequence[Path] = (),
    gate: Sequence[Path] = (),
    frame: str | None = None,
    direction: str | None = None,
    licence: str | None = None,
    known_failures: Sequence[str] = (),
) -> tuple[checkpoint.Checkpoint, list[str]]:
    """Write a run's averaged generator as a checkpoint.

    Parameters
    ----------
    run : Path
        The run's folder.
    output : Path
        Safetensors file to write.
    name : str
    average_with : sequence of Path
        Further runs from the same starting point: the checkpoint is the mean of all; see `soup`.
    metrics : Path, optional
        What `evaluate` wrote of these very weights: export, evaluate, export again with it.
    cross_validation : sequence of Path
        What `evaluate` wrote of other weights, each trained without the studies scored: the scores that can be had of a
        checkpoint that was trained on all.
    gate : sequence of Path
        What `evaluate` and `lesions` wrote of these very weights; what they find must be within the limits of `gate`.
    frame : {"native", "paper"}, optional
        Refused if it is not the run's.
    direction : {"t1_to_t2", "t2_to_t1"}, optional
        Which generator of a run with one for each; the checkpoint makes that direction only.
    licence : str, optional
        Of the weights; by default what the training data allow.
    known_failures : sequence of str
        Further ones.

    Returns
    -------
    Checkpoint
    list of str
        Warnings: a run that is not complete, no metrics.

    Raises
    ------
    TrainingError
        If a run cannot be read, those to be averaged have too little in common, the frame or the metrics are another's,
        it does not pass the gate, or a direction is missing, or given for a self-inverse generator.
    MRSynthError
        If the file cannot be written.
    """
    state, *others = states = [read_checkpoint(path) for path in (run, *average_with)]
    config = state["config"]
    if frame not in (None, config["frame"]):
        raise TrainingError(f"the run's frame is {config['frame']}", f"{frame}", "Give another run, or no --frame")
    unfinished = [(each["step"], each["total"]) for each in states if each["step"] < each["total"]]
    warnings = [f"a run is not complete: step {step} of {total}" for step, total in unfinished]
    generator = generators.build(config["generator"]["name"], config["generator"]["arguments"])
    directions, average = _averaged(states, direction)
    generator.load_state_dict(average)
    weights = checkpoint.weights_sha256({key: t.contiguous().numpy() for key, t in generator.state_dict().items()})
    if metrics is None and not cross_validation:
        warnings.append("the card has no metrics yet: evaluate the checkpoint, then export again with --metrics")
    card = _card(state, name, licence, known_failures)
    if others:
        card["training"]["mean_with"] = [_training(other) for other in others]
    if len(directions) == 1:
        card |= {"directions": list(directions), "contrasts": directions[0].split("_to_")}
    card["metrics"] = read_metrics(metrics, weights) if metrics else {}
    if cross_validation:
        card["metrics"] = _joined(card["metrics"], read_cross_validation(cross_validation))
    if gate:
        card["metrics"] |= gates.check(gate, weights)
    return checkpoint.save(generator, card, output), warnings


def _averaged(states: Sequence[dict[str, Any]], direction: str | None) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """The averaged generator to export, and the directions it is for."""
    averages = soup.mean_averages(states)
    if direction is None and len(averages) == 1:
        return next(iter(averages.items()))
    if direction is None or (direction,) not in averages:
        raise TrainingError(
            f"direction {direction} of the run {states[0]['config']['name']!r}",
            "none, as its one generator makes both" if len(averages) == 1 else f"one of {', '.join(DIRECTIONS)}",
            "Correct --direction",
        )
    return (direction,), averages[direction,]


def _card(state: dict[str, Any], name: str, licence: str | None, known_failures: Sequence[str]) -> checkpoint.Card:
    config, subjects = state["config"], state["store"]["subjects"]
    data = [{key: subject[key] for key in ("subject", "patient", "source", "licence", "role")} for subject in subjects]
    trained = [entry for entry in data if entry["role"] == "train"]
    few = (
        f"Trained on only {len(trained)} studies from {len({s['group'] for s in subjects if s['role'] == 'train'})} "
        "scanners or collections: expect worse on others.",
    )
    return {
        "name": name,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "generator": config["generator"],
        "frame": config["frame"],
        "intensity": {
            "rule": intensity.RULE,
            "percentile": intensity.PERCENTILE,
            "output_scale": intensity.SCALE,
        },
        "contrasts": ["t1", "t2"],
        "training_data": data,
        "split": state["store"].get("split"),  # who was trained, tested and watched on, and how that was drawn
        "seed": config["seed"],
        "config_sha256": state["config_sha256"],
        "training": _training(state),
        "reliability": None,
        "known_failures": [*(few if len(trained) < FEW_SUBJECTS else ()), *KNOWN_FAILURES, *known_failures],
        "intended_use": INTENDED_USE,
        "licence": licence or _licence(trained),
    }


def _training(state: dict[str, Any]) -> dict[str, Any]:
    config = state["config"]
    return {
        "config": config["name"],
        "seed": config["seed"],
        "started_from": state.get("started_from"),
        "steps": state["step"],
        "planned_steps": state["total"],
        "batch_size": config["batch_size"],
        "framework": config.get("framework", "self_inverse"),
        "pairing": config["pairing"],
        "augmentation": config["augmentation"],
        "inserted_lesions": config.get("inserted_lesions", 0.0),
        "losses": losses_on(config, state["step"]),
        "averaging": f"exponential moving average, decay {config['ema_decay']:g}",
        "precision": config["precision"],
        "device": state["device"],
        "seconds": round(state["seconds"]),
    }


def losses_on(config: dict[str, Any], steps: int) -> dict[str, Any]:
    """The loss terms that were really on: weight, and the first and the last step with it (counted from 1)."""
    return {
        name: {"weight": term["weight"], "from_step": term["from_step"] + 1, "to_step": steps}
        for name, term in config["losses"].items()
        if term["weight"] and term["from_step"] < steps
    }


def _licence(trained: list[dict[str, str]]) -> str:
    """What the training data's licences leave to the weights: the most restrictive one decides."""
    sources = sorted({f"{entry['source']} ({entry['licence'] or 'licence unknown'})" for entry in trained})
    is_open = all(any(word in entry["licence"].lower() for word in OPEN_LICENCES) for entry in trained)
    terms = "CC BY 4.0" if is_open else "Research use only, with attribution of the training data"
    return f"{terms}. Trained on: {'; '.join(sources)}."


def read_metrics(path: Path, weights_sha256: str) -> dict[str, Any]:
    """The summary that goes into the card, from what `evaluate` wrote.

    Raises
    ------
    TrainingError
        If the file is not from `evaluate`, or is of other weights.
    """
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        seen = results["checkpoint"]["weights_sha256"]
        card = {
            "protocol_version": results["protocol_version"],
            **{role: _means(directions) for role, directions in results["summary"].items()},
        }
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    if seen != weights_sha256:
        raise TrainingError(
            f"{path} is of weights {seen[:12]}", f"{weights_sha256[:12]}, the run's", "Evaluate this run's export"
        )
    return card


def read_cross_validation(paths: Sequence[Path]) -> dict[str, Any]:
    """Means over the studies that each of several checkpoints was scored on without having seen them.

    Returns
    -------
    dict
        For the card's metrics: protocol_version, cross_validation.

    Raises
    ------
    TrainingError
        If a file is not from `evaluate`, or a study was trained on, or scored twice; or the files are of different
        versions of the protocol.
    """
    folds = [_unseen(path) for path in paths]
    versions = {version for version, _ in folds}
    if len(versions) > 1:
        raise _mixed(versions)
    entries = [{**entry, "role": "validation"} for _, fold in folds for entry in fold]
    scored = [(entry["subject"], entry["direction"]) for entry in entries]
    twice = sorted({subject for subject, direction in scored if scored.count((subject, direction)) > 1})
    if twice:
        raise TrainingError(f"{', '.join(twice)} scored twice", "each study once", "Give one file per fold")
    return {"protocol_version": versions.pop(), "cross_validation": _means(summarize(entries)["validation"])}


def _joined(metrics: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    """Two parts of a card's metrics, which have one protocol version."""
    versions = {part["protocol_version"] for part in (metrics, others) if part}
    if len(versions) > 1:
        raise _mixed(versions)
    return metrics | others


def _mixed(versions: set[int]) -> TrainingError:
    return TrainingError(
        f"scores of protocol versions {' and '.join(map(str, sorted(versions)))}", "one version", "Evaluate all again"
    )


def _unseen(path: Path) -> tuple[int, list[dict[str, Any]]]:
    """Version of the protocol, and the studies that were scored."""
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        version, entries = int(results["protocol_version"]), results["subjects"]
        trained = sorted({entry["subject"] for entry in entries if entry["role"] == "train"})
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    if trained:
        raise TrainingError(
            f"{path} scores {', '.join(trained)}, which its checkpoint was trained on",
            "studies that it has not seen",
            "Evaluate those only (--subjects)",
        )
    return version, [entry for entry in entries if "scores" in entry]


def _unreadable(path: Path, error: Exception) -> TrainingError:
    return TrainingError(
        f"{path} cannot be read ({error!r})", "what `mrsynth-train evaluate -o` wrote", "Evaluate again"
    )


def _means(directions: dict[str, Any]) -> dict[str, Any]:
    """Per direction and protocol, each score's mean over subjects, and how many subjects these were."""
    return {
        direction: {
            protocol: {
                **{name: round(value["mean"], 4) for name, value in scores.items() if name not in ("slices", "voxels")},
                "subjects": int(max(value["subjects"] for value in scores.values())),
            }
            for protocol, scores in protocols.items()
            if scores and protocol != "shift"
        }
        | (
            {"shift": {"voxels": round(protocols["shift"]["voxels"]["mean"], 4)}}
            if protocols.get("shift", {}).get("voxels")
            else {}
        )
        for direction, protocols in directions.items()
    }
