"""`mrsynth-train compare`: checkpoints and baselines on the same subjects, with paired statistics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mrsynth_training import baselines, evaluation, provenance, statistics
from mrsynth_training.candidates import Candidate, Network
from mrsynth_training.errors import TrainingError
from mrsynth_training.markdown import table
from mrsynth_training.metrics import PROTOCOL_VERSION
from mrsynth_training.preparation import find_cases
from mrsynth_training.protocols import PROTOCOLS
from MRSynthLib.engine.checkpoint import DIRECTIONS

Results = dict[str, Any]
Scores = dict[str, dict[str, float]]  # by candidate, by subject

TESTED = (  # protocol, score, is higher better, decimals
    ("paper", "psnr", True, 2),
    ("paper", "ssim", True, 3),
    ("brain", "psnr", True, 2),
    ("brain", "ssim", True, 3),
    ("brain", "mae", False, 4),
    ("lesion", "psnr", True, 2),
    ("lesion", "mae", False, 4),
    ("drift", "p95", False, 4),
    ("tissue", "dice", True, 3),
    ("peer:selfrdb", "psnr", True, 2),
    ("peer:selfrdb", "ssim", True, 3),
    ("peer:resvit", "psnr", True, 2),
    ("peer:syndiff", "psnr", True, 2),
)


def compare(
    networks: Sequence[Network],
    data: Path,
    *,
    with_baselines: bool = True,
    subjects: Sequence[str] = (),
    protocols: Sequence[str] = PROTOCOLS,
    jobs: int = 1,
    seed: int = 0,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Score checkpoints and baselines, and test the first checkpoint against each of the others.

    The baselines are fitted to those subjects of `data` that the first checkpoint was trained on. Only subjects whose
    patient no candidate was trained on are compared.

    Returns
    -------
    dict
        Ready for JSON: protocol_version, commit, seed, candidates (names, the first is tested against the others),
        subjects (those compared), table, differences (see `differences`), results (as `evaluation.evaluate` gives).

    Raises
    ------
    TrainingError
        If two checkpoints have one name, no subject is left to compare, or none to fit the baselines to.
    """
    names = [network.name for network in networks]
    if len(set(names)) < len(names):
        raise TrainingError(f"checkpoints named {', '.join(names)}", "different names", "Give names as NAME=PATH")
    candidates: list[Candidate] = list(networks)
    if with_baselines:
        studies = networks[0].training_studies()
        trained = [case for case in find_cases(data) if case.subject in studies]
        if not trained:
            raise TrainingError(
                f"{networks[0].name} was trained on none of the subjects in {data}",
                "its training subjects there, to fit the baselines to",
                "Give a folder that has them, or leave the baselines out (--no-baselines)",
            )
        report(f"fitting the baselines to {len(trained)} subjects")
        candidates += baselines.every(baselines.fit(trained, jobs))
    compared = _unseen(candidates, data, subjects)
    results = evaluation.evaluate(candidates, data, subjects=compared, protocols=protocols, jobs=jobs, report=report)
    by_name = dict(zip((candidate.name for candidate in candidates), results, strict=True))
    return {
        "protocol_version": PROTOCOL_VERSION,
        "commit": provenance.commit(),
        "seed": seed,
        "candidates": list(by_name),
        "subjects": compared,
        "differences": differences(by_name, names[0], seed),
        "results": by_name,
    }


def _unseen(candidates: Sequence[Candidate], data: Path, subjects: Sequence[str]) -> list[str]:
    cases = evaluation.chosen(find_cases(data), subjects)
    left = [case.subject for case in cases if all(candidate.role(case) != "train" for candidate in candidates)]
    if not left:
        raise TrainingError(
            "every subject was in some candidate's training data",
            "at least one that no candidate has seen",
            "Give other subjects or checkpoints",
        )
    return left


def per_subject(results: Results, direction: str, protocol: str, name: str) -> dict[str, float]:
    """One score by subject, of subjects that were not trained on."""
    return {
        entry["subject"]: entry["scores"][protocol][name]
        for entry in results["subjects"]
        if entry["direction"] == direction and entry["role"] != "train" and name in entry["scores"].get(protocol, {})
    }


def differences(results: dict[str, Results], first: str, seed: int = 0) -> list[dict[str, Any]]:
    """Test one candidate against each other one; see `tested`.

    Parameters
    ----------
    results : dict
        By candidate, as `evaluation.evaluate` gives.
    first : str
        The candidate that is tested against the others.
    seed : int
        Of the bootstrap.
    """
    found = []
    for protocol, name, _, _ in TESTED:
        scores = {
            direction: {c: per_subject(r, direction, protocol, name) for c, r in results.items()}
            for direction in DIRECTIONS
        }
        found += [{"protocol": protocol, "score": name, **row} for row in tested(scores, first, seed)]
    return found


def tested(scores: dict[str, Scores], first: str, seed: int = 0) -> list[dict[str, Any]]:
    """Paired differences in one score, first - other, over the subjects that both have.

    Parameters
    ----------
    scores : dict
        By direction, candidate and subject.
    first : str
    seed : int
        Of the bootstrap.

    Returns
    -------
    list of dict
        direction, first, other, the fields of `statistics.Difference`, and p_holm: p corrected over all rows, which
        are the other candidates in both directions.
    """
    rows = []
    for direction, by_candidate in scores.items():
        for other, values in by_candidate.items():
            common = sorted(by_candidate[first].keys() & values.keys())
            if other != first and common:
                ours, theirs = ([by_candidate[c][subject] for subject in common] for c in (first, other))
                difference = statistics.paired(ours, theirs, seed)
                rows.append({"direction": direction, "first": first, "other": other, **asdict(difference)})
    for row, p in zip(rows, statistics.holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = p
    return rows


def markdown(comparison: dict[str, Any]) -> str:
    """The comparison to read: a table of means, and one of differences, for each direction."""
    subjects = len(comparison["subjects"])
    plural = "s" * (subjects != 1)
    said = f"Protocol version {comparison['protocol_version']}, {comparison['commit']}, n = {subjects} subject{plural}"
    lines = [f"# {comparison['candidates'][0]} and others", "", f"{said}, none of them in any training set.", ""]
    for direction in DIRECTIONS:
        lines += [f"## {title(direction)}", "", *_means(comparison["results"], direction), ""]
        rows = [row for row in comparison["differences"] if row["direction"] == direction]
        lines += [*difference_table(rows), ""]
    lines += [note(subjects, comparison["seed"]), ""]
    return "\n".join(lines)


def title(direction: str) -> str:
    """Direction as it is written in texts: t1_to_t2 becomes T1→T2."""
    return direction.replace("_to_", "→").upper()


def _means(results: dict[str, Results], direction: str) -> list[str]:
    columns = [t for t in TESTED if any(per_subject(r, direction, t[0], t[1]) for r in results.values())]
    rows = []
    for candidate, found in results.items():
        cells = []
        for protocol, score, _, decimals in columns:
            values = list(per_subject(found, direction, protocol, score).values())
            cells.append(f"{sum(values) / len(values):.{decimals}f}" if values else "–")
        rows.append([candidate, *cells])
    return table(["", *(f"`{protocol}` {score}" for protocol, score, _, _ in columns)], rows)


def difference_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Rows of `differences` as a Markdown table."""
    decimals = {(protocol, score): places for protocol, score, _, places in TESTED}
    lines = []
    for row in rows:
        d = decimals[row["protocol"], row["score"]]
        lines.append(
            (
                f"`{row['protocol']}` {row['score']}",
                f"{row['first']} − {row['other']}",
                f"{row['subjects']}",
                f"{row['mean']:+.{d}f}",
                f"{row['low']:+.{d}f} to {row['high']:+.{d}f}",
                f"{row['median']:+.{d}f}",
                p_value(row["p"]),
                p_value(row["p_holm"]),
            )
        )
    return table(("score", "difference", "n", "mean", "95 % interval", "median", "p", "p, Holm"), lines)


def p_value(p: float) -> str:
    """Three decimals, or "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def note(subjects: int, seed: int) -> str:
    """What the tables' statistics are, and what so many subjects cannot show."""
    text = (
        "Differences are paired per subject: mean with its bootstrap 95 % interval "
        f"({statistics.RESAMPLES:,} resamples, seed {seed}), two-sided Wilcoxon signed-rank p, and p after Holm's "
        "correction over both directions and all compared candidates of one score."
    )
    if subjects < statistics.LEAST_FOR_SIGNIFICANCE:
        text += f" **With so few subjects ({subjects}) no difference can reach p < 0.05**, however large it is."
    return text
