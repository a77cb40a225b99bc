"""`mrsynth-train experiments`: variants of a run against the plain one, on subjects that the checkpoint never saw.

With the checkpoints of a cross-validation, every subject is scored by the one that was not trained on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrsynth_training import metrics
from mrsynth_training.artefacts import PLANES
from mrsynth_training.errors import TrainingError
from mrsynth_training.pairs import Pair, load_pair
from mrsynth_training.preparation import find_cases
from mrsynth_training.unseen import training_studies, unseen
from mrsynth_training.variants import VARIANTS, Run
from MRSynthLib.engine import intensity
from MRSynthLib.engine.errors import MRSynthError
from MRSynthLib.engine.synthesis import CONTRASTS, Synthesizer, other

COLUMNS = ("paper psnr", "paper ssim", "brain psnr", "brain ssim", *(f"drift {plane}" for plane in PLANES))
Row = dict[str, Any]


def compare(
    models: Sequence[str],
    data: Path,
    variants: Sequence[str],
    *,
    subjects: Sequence[str] = (),
    like: Mapping[str, str] | None = None,
    device: str = "auto",
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Score the plain run and variants of it.

    Parameters
    ----------
    models : sequence of str
        Checkpoints, each of which is asked about the patients only that its card does not name as trained on.
    data : Path
        Folder with one sub-folder per subject, as `prepare` takes it.
    variants : sequence of str
        Of `VARIANTS`.
    subjects : sequence of str
        Only these.
    like : mapping of str, optional
        Subject to that which is its reference; subjects without one are left out of that variant.
    device : str
    report : callable
        Gets one line per subject, direction and variant.

    Returns
    -------
    dict
        Ready for JSON: kind "experiments", rows (subject, direction, model, variant, seconds, scores or failure).

    Raises
    ------
    TrainingError
        If there is no subject that a checkpoint was not trained on.
    """
    rows: list[Row] = []
    cases = {case.subject: case for case in find_cases(data)}
    for model in models:
        synthesizer = Synthesizer(model, device, "fp32")
        card = synthesizer.checkpoint.card
        for case in unseen(card, cases.values(), subjects):
            for contrast in CONTRASTS:
                pair = load_pair(case, contrast)
                begin = time.perf_counter()
                plain = synthesizer.synthesize(pair.source, other(contrast), source=contrast, force=True).volume.voxels
                run = Run(synthesizer, pair, plain, cases, tuple(sorted(training_studies(card))), like or {})
                about = {"subject": case.subject, "direction": pair.direction, "model": synthesizer.checkpoint.name}
                made: list[Row] = [_scored("plain", pair, plain, time.perf_counter() - begin)]
                made += [row for row in (_variant(name, run) for name in variants) if row is not None]
                rows += [about | row for row in made]
                for row in made:
                    report(f"{case.subject} {pair.direction} {_line(row)}")
    if not rows:
        raise TrainingError("no subject is left", "some that the checkpoints were not trained on", "Give other models")
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"kind": "experiments", "protocol_version": metrics.PROTOCOL_VERSION, "created": created, "rows": rows}


def _variant(name: str, run: Run) -> Row | None:
    begin = time.perf_counter()
    try:
        made = VARIANTS[name](run)
    except (TrainingError, MRSynthError) as error:  # not for this volume; the others still are
        return {"variant": name, "failure": str(error)}
    return None if made is None else _scored(name, run.pair, made, time.perf_counter() - begin)


def _scored(name: str, pair: Pair, voxels: NDArray[np.int16], seconds: float) -> Row:
    made = intensity.normalize(voxels, intensity.SCALE)
    true, grid = pair.reference, pair.source
    full_true, full_made = (np.where(pair.scored, array, 0) for array in (true, made))
    paper = metrics.paper(full_true, full_made, pair.brain, grid)
    brain = metrics.within(true, made, pair.brain, metrics.ssim_map(full_true, full_made, grid))
    scores = {f"{k} {s}": v[s] for k, v in (("paper", paper), ("brain", brain)) for s in ("psnr", "ssim")}
    for plane, title in enumerate(PLANES):
        scores[f"drift {title}"] = metrics.drift(true, made, pair.brain, grid, plane).get("p95", float("nan"))
    return {"variant": name, "seconds": round(seconds, 1), "scores": {k: round(v, 4) for k, v in scores.items()}}


def _line(row: Row) -> str:
    if "failure" in row:
        return f"{row['variant']}: not possible: {row['failure']}"
    return f"{row['variant']}: " + ", ".join(f"{name} {value:.3f}" for name, value in row["scores"].items())


def table(results: dict[str, Any]) -> str:
    """Markdown: per direction, the plain run, and what each variant changes on average on the same subjects.

    "better" is how many of them gain PSNR in the brain.
    """
    rows = [row for row in results["rows"] if "scores" in row]
    plain = {(row["subject"], row["direction"]): row["scores"] for row in rows if row["variant"] == "plain"}
    lines = [f"| direction | variant | subjects | better | {' | '.join(COLUMNS)} |"]
    lines.append("|" + "---|" * (4 + len(COLUMNS)))
    for direction in sorted({row["direction"] for row in rows}):
        for variant in dict.fromkeys(row["variant"] for row in rows):
            here = [row for row in rows if (row["direction"], row["variant"]) == (direction, variant)]
            if here:
                lines.append(f"| {direction} | {variant} | {_cells(here, plain, variant != 'plain')} |")
    failures = [row for row in results["rows"] if "failure" in row]
    return "\n".join([*lines, *(f"{row['subject']} {row['direction']} {_line(row)}" for row in failures)])


def _cells(rows: Sequence[Row], plain: Mapping[tuple[str, str], dict[str, float]], difference: bool) -> str:
    before = [plain[row["subject"], row["direction"]] for row in rows]
    cells = []
    for column in COLUMNS:
        values = np.array([row["scores"][column] for row in rows])
        if difference:
            values = values - np.array([scores[column] for scores in before])
        form = ".2f" if column.endswith("psnr") else ".3f"
        cells.append(format(float(np.nanmean(values)), f"+{form}" if difference else form))
    better = sum(row["scores"]["brain psnr"] > b["brain psnr"] for row, b in zip(rows, before, strict=True))
    return " | ".join([str(len(rows)), str(better) if difference else "", *cells])
