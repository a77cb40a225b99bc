"""`mrsynth-train calibrate`: from residuals on unseen subjects to a calibration in a card, with its scores.

Residuals come from checkpoints that have not seen the subject: those of a cross-validation, or the checkpoint itself on
subjects kept out. The scores are cross-validated once more, by patient: regression and interval are fitted to all
other patients. What goes into the card is fitted to all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrsynth_training import calibration_data, calibration_fit
from mrsynth_training.calibration_data import Residuals
from mrsynth_training.calibration_scores import ause, coverage, spearman
from mrsynth_training.errors import TrainingError
from mrsynth_training.pairs import load_pair
from mrsynth_training.preparation import find_cases
from mrsynth_training.unseen import role
from MRSynthLib.engine import checkpoint, reliability
from MRSynthLib.engine.intensity import SCALE
from MRSynthLib.engine.reliability_features import NAMES
from MRSynthLib.engine.synthesis import CONTRASTS, Synthesizer, other
from MRSynthLib.engine.writing import write_aside

CELLS = (6, 8, 6)  # of the mean error map, along superior, posterior, left
MAP = "reliability map"
Report = Callable[[str], None]


def collect(
    models: Sequence[str],
    data: Path,
    folder: Path,
    *,
    subjects: Sequence[str] = (),
    candidates: bool = False,
    planes: bool = False,
    device: str = "auto",
    report: Report = print,
) -> None:
    """Write the residuals of every subject that one of the checkpoints has not been trained on; keep those there.

    Parameters
    ----------
    models : sequence of str
        Paths or installed names. The first that has not seen a patient is taken for the studies.
    data : Path
        Folder with one sub-folder per subject, as `prepare` takes it.
    folder : Path
        Of the tables.
    subjects : sequence of str
        Only these; by default all.
    candidates, planes : bool
        See `calibration_data.residuals`.

    Raises
    ------
    TrainingError
        If no checkpoint has not seen a subject that was named.
    """
    folder.mkdir(parents=True, exist_ok=True)
    synthesizers = [Synthesizer(model, device=device, precision="fp32") for model in models]
    for case in find_cases(data):
        if subjects and case.subject not in subjects:
            continue
        unseen = [one for one in synthesizers if role(one.checkpoint.card, case) != "train"]
        if not unseen:
            if subjects:
                seen = f"every checkpoint was trained on {case.subject}"
                raise TrainingError(seen, "one that was not", "Leave the subject out")
            continue
        for contrast in CONTRASTS:
            if (folder / f"{case.subject}_{contrast}.npz").exists():
                continue
            pair = load_pair(case, contrast)
            table = calibration_data.residuals(unseen[0], case, pair, candidates=candidates, planes=planes)
            calibration_data.write(table, folder)
            error = float(table.error[table.drawn].mean())
            report(f"{case.subject} from {contrast}: {table.about['model']}, mean error {error:.3f}")


class MeanMap:
    """The mean error of other subjects in the same place of the brain: what a map has to be better than."""

    def __init__(self, tables: Iterable[Residuals]) -> None:
        total, count = np.zeros(CELLS), np.zeros(CELLS)
        for table in tables:
            index = _cells(table)
            np.add.at(total, index, np.where(table.drawn, table.error, 0))
            np.add.at(count, index, table.drawn)
        self.mean = np.where(count > 0, total / np.maximum(count, 1), total.sum() / max(count.sum(), 1))

    def __call__(self, table: Residuals) -> NDArray[np.float64]:
        """The map at the voxels of a table."""
        return self.mean[_cells(table)]


def _cells(table: Residuals) -> tuple[NDArray[np.int64], ...]:
    size = np.array(CELLS)
    index = np.clip((table.place * size).astype(int), 0, size - 1)
    return index[:, 0], index[:, 1], index[:, 2]


def cross_validate(tables: Sequence[Residuals]) -> list[dict[str, Any]]:
    """Scores of the map for every volume, with regression and interval from all other patients.

    Returns
    -------
    list of dict
        subject, contrast, mean_error, maps {name: spearman, ause}, regional {spearman, ause} (of the map against the
        true error's mean over 5x5 pixels), coverage, width (whole interval, output units), by tissue {name: coverage},
        lesion {coverage, width, voxels} where there is one.

    Raises
    ------
    TrainingError
        If there are fewer than two patients.
    """
    if len({table.about["patient"] for table in tables}) < 2:
        raise TrainingError("the residuals are of one patient", "two or more", "Add residuals of other patients")
    rows = []
    for contrast in CONTRASTS:
        own = [table for table in tables if table.about["contrast"] == contrast]
        for patient in dict.fromkeys(table.about["patient"] for table in own):
            rest = [table for table in own if table.about["patient"] != patient]
            if not rest:
                continue
            direction, mean_map = calibration_fit.calibrate(rest), MeanMap(rest)
            rows += [_scored(direction, mean_map, table) for table in own if table.about["patient"] == patient]
    return rows


def _scored(direction: reliability.Direction, mean_map: MeanMap, table: Residuals) -> dict[str, Any]:
    drawn, error = table.drawn, table.error
    expected = direction.expected(table.features, table.about["cycle"])
    half = calibration_fit.half_width(direction, table)
    made = table.features[:, NAMES.index("synthetic")]
    maps: dict[str, NDArray[Any]] = {
        MAP: expected,
        "predicted intensity": made,
        "predicted darkness": 1 - made,
        "texture of source": table.features[:, NAMES.index("source_texture_wide")],
        "mean error map": mean_map(table),
        "fitted to itself": calibration_fit.fitted_to_itself(table),
        **table.candidates,
    }
    row: dict[str, Any] = {
        "subject": table.about["subject"],
        "contrast": table.about["contrast"],
        "mean_error": float(error[drawn].mean()),
        "mean_expected": float(expected[drawn].mean()),
        "maps": {name: _order(values[drawn], error[drawn]) for name, values in maps.items()},
        "regional": _order(expected[drawn], table.candidates[calibration_data.ORACLE][drawn]),
        "coverage": coverage(error[drawn], half[drawn]),
        "width": float(2 * SCALE * half[drawn].mean()),
        "tissue": {
            name: coverage(error[mask], half[mask])
            for number, name in enumerate(reliability.TISSUES)
            if (mask := drawn & (table.tissue == number)).any()
        },
    }
    if table.lesion.any():
        lesion = table.lesion
        row["lesion"] = {
            "coverage": coverage(error[lesion], half[lesion]),
            "width": float(2 * SCALE * half[lesion].mean()),
            "mean_error": float(error[lesion].mean()),
            "mean_expected": float(expected[lesion].mean()),
            "voxels": int(lesion.sum()),
        }
    return row


def _order(order_by: NDArray[Any], error: NDArray[Any]) -> dict[str, float]:
    return {"spearman": spearman(order_by, error), "ause": ause(order_by, error)}


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over volumes, by direction."""
    result = {}
    for contrast in CONTRASTS:
        own = [row for row in rows if row["contrast"] == contrast]
        if not own:
            continue
        names = [name for name in own[0]["maps"] if all(name in row["maps"] for row in own)]
        lesions = [row["lesion"] for row in own if "lesion" in row]
        result[f"{contrast}_to_{other(contrast)}"] = {
            "volumes": len(own),
            "maps": {
                name: {score: _mean(row["maps"][name][score] for row in own) for score in ("spearman", "ause")}
                for name in names
            },
            "regional": {score: _mean(row["regional"][score] for row in own) for score in ("spearman", "ause")},
            "coverage": _mean(row["coverage"] for row in own),
            "lowest_coverage": round(min(row["coverage"] for row in own), 4),
            "width": _mean(row["width"] for row in own),
            "lesion": {key: _mean(one[key] for one in lesions) for key in ("coverage", "width")} if lesions else None,
        }
    return result


def _mean(values: Iterable[float]) -> float:
    return round(float(np.mean(list(values))), 4)


def write_card(target: Path, tables: Sequence[Residuals], rows: Sequence[dict[str, Any]], output: Path) -> Path:
    """Write a checkpoint with a calibration fitted to all tables in its card; the weights stay as they are.

    Raises
    ------
    TrainingError
        If the residuals are of another frame, or of one direction only.
    MRSynthError
        If the checkpoint cannot be read or written.
    """
    model = checkpoint.load(target)
    frames = {table.about["frame"] for table in tables}
    if frames != {model.card["frame"]}:
        raise TrainingError(
            f"the residuals are of frame {', '.join(sorted(frames))}",
            f"{model.card['frame']}, that of {target.name}",
            "Make residuals with checkpoints of that frame",
        )
    directions = {}
    for contrast in CONTRASTS:
        own = [table for table in tables if table.about["contrast"] == contrast]
        if not own:
            raise TrainingError(f"no residuals from {contrast}", "both directions", "Make them")
        fitted = calibration_fit.calibrate(own)
        directions[contrast] = {
            "priors": {name: prior.to_card() for name, prior in fitted.priors.items()},
            "regression": fitted.regression.to_card(),
            "level": None if fitted.level is None else fitted.level.to_card(),
            "sharpness": [round(value, 4) for value in fitted.sharpness],
            "quantiles": {name: round(value, 4) for name, value in fitted.quantiles.items()},
        }
    weights = sorted({table.about["weights_sha256"] for table in tables})
    entry = {
        "version": reliability.VERSION,
        "level": calibration_fit.LEVEL,
        "features": list(reliability.FEATURES),
        "directions": directions,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "subjects": sorted({table.about["subject"] for table in tables}),
        "residuals_of_weights": weights,
        "own_residuals": weights == [model.card["weights_sha256"]],
        "scores": summary(rows),
    }
    written = checkpoint.save(model.generator(), {**model.card, "reliability": entry}, output)
    reliability.of_card(written.card, CONTRASTS[0], written.name)  # it can be read back
    return written.path


def write_report(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write all scores as JSON, aside first and then renamed."""
    with write_aside(path) as aside:
        aside.write_text(json.dumps({"summary": summary(rows), "volumes": list(rows)}, indent=1), encoding="utf-8")


def table_of(rows: Sequence[dict[str, Any]]) -> str:
    """The scores to read: a line per volume, then the means of every map."""
    lines = [
        f"{'':12s}{'from':5s}{'error':>7s}{'rho':>7s}{'AUSE':>7s}{'cover':>7s}{'width':>7s}   in lesions  by tissue"
    ]
    for row in rows:
        own, lesion = row["maps"][MAP], row.get("lesion")
        within = f"{lesion['coverage']:7.3f}{lesion['width']:6.0f}" if lesion else f"{'-':>13s}"
        tissue = " ".join(f"{value:.2f}" for value in row["tissue"].values())
        lines.append(
            f"{row['subject']:12s}{row['contrast']:5s}{row['mean_error']:7.3f}{own['spearman']:7.3f}{own['ause']:7.3f}"
            f"{row['coverage']:7.3f}{row['width']:7.0f}{within}  {tissue}"
        )
    for direction, means in summary(rows).items():
        lines.append(f"{direction}: coverage {means['coverage']:.3f}, width {means['width']:.0f}")
        regional = means["regional"]
        lines.append(
            f"  {'against 5x5 mean of error':26s} rho {regional['spearman']:6.3f}  AUSE {regional['ause']:6.3f}"
        )
        lines += [f"  {name:26s} rho {m['spearman']:6.3f}  AUSE {m['ause']:6.3f}" for name, m in means["maps"].items()]
    return "\n".join(lines)
