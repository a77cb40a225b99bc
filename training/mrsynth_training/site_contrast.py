"""What a reference gives (`--like`), by several rules, from the residuals of a cross-validation: in seconds.

`mrsynth-train calibrate --models ...` writes a sample of brain voxels of every subject, made by a checkpoint that has
not seen it. The same sample of another subject is its reference. PSNR in the brain follows from the sample alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrsynth_training import calibration_data
from mrsynth_training.calibration_data import Residuals
from mrsynth_training.errors import TrainingError
from MRSynthLib.engine import likeness
from MRSynthLib.engine.reliability_features import NAMES
from MRSynthLib.engine.scores import psnr_of
from MRSynthLib.engine.synthesis import other

Values = NDArray[np.float32]
Rule = Callable[[Values, Values, str], Callable[[Values], Values]]
Row = dict[str, Any]


def _without_fluid(made: Values, wanted: Values, target: str) -> Callable[[Values], Values]:
    return likeness.between((likeness.landmark(made, target),), (likeness.landmark(wanted, target),))


def _at(*percentiles: float) -> Rule:
    def rule(made: Values, wanted: Values, target: str) -> Callable[[Values], Values]:
        before, after = (tuple(float(v) for v in np.percentile(values, percentiles)) for values in (made, wanted))
        return likeness.between(before, after)

    return rule


def _gain(made: Values, wanted: Values, target: str) -> Callable[[Values], Values]:
    factor = np.float32(np.median(wanted) / np.median(made))
    return lambda values: np.clip(values * factor, 0, 1)


RULES: dict[str, Rule] = {
    "median without fluid": _without_fluid,
    "median": _at(50),
    "gain": _gain,
    "quartiles": _at(25, 50, 75),
    "five percentiles": _at(5, 25, 50, 75, 95),
}


def compare(folder: Path, like: Mapping[str, str], subjects: Sequence[str] = ()) -> list[Row]:
    """Every subject with its own target as the reference, and with that of the one that `like` names.

    Parameters
    ----------
    folder : Path
        Of residuals.
    like : mapping of str
        Subject to reference.
    subjects : sequence of str
        Only these; by default all.

    Returns
    -------
    list of dict
        subject, direction, reference, psnr (of the plain run, dB), gains {rule: dB}.

    Raises
    ------
    TrainingError
        If there are no residuals, or none of a subject or reference that was named.
    """
    tables = {(table.about["subject"], table.about["contrast"]): table for table in calibration_data.read(folder)}
    known = sorted({subject for subject, _ in tables})
    unknown = sorted({*subjects, *like, *like.values()} - {*known})
    if unknown:
        raise TrainingError(f"no residuals of {', '.join(unknown)}", ", ".join(known), "Correct the names")
    return [
        _row(table, tables[reference, contrast])
        for (subject, contrast), table in tables.items()
        if not subjects or subject in subjects
        for reference in (subject, like.get(subject, ""))
        if (reference, contrast) in tables
    ]


def _row(table: Residuals, reference: Residuals) -> Row:
    target = other(table.about["contrast"])
    made = table.features[table.drawn, NAMES.index("synthetic")]
    true, wanted = table.reference[table.drawn], reference.reference[reference.drawn]
    plain = _psnr(made, true)
    tissue = made[made > 0], wanted[wanted > 0]
    return {
        "subject": table.about["subject"],
        "direction": f"{table.about['contrast']}_to_{target}",
        "reference": reference.about["subject"],
        "psnr": plain,
        "gains": {name: _psnr(rule(*tissue, target)(made), true) - plain for name, rule in RULES.items()},
    }


def _psnr(made: Values, true: Values) -> float:
    return psnr_of(float(np.mean((made.astype(np.float64) - true) ** 2)))


def table(rows: Sequence[Row]) -> str:
    """Markdown: PSNR in the brain without a reference, and what each rule adds."""
    lines = [f"| subject | direction | reference | without | {' | '.join(RULES)} |", "|" + "---|" * (4 + len(RULES))]
    for own in (True, False):
        here = [row for row in rows if (row["subject"] == row["reference"]) is own]
        for row in here:
            name = "its own target" if own else row["reference"]
            lines.append(f"| {row['subject']} | {row['direction']} | {name} | {row['psnr']:.2f} | {_gains([row])} |")
        if here:
            mean = np.mean([row["psnr"] for row in here])
            lines.append(
                f"| **mean of {len(here)}** | | {'its own' if own else 'another'} | {mean:.2f} | {_gains(here)} |"
            )
    return "\n".join(lines)


def _gains(rows: Sequence[Row]) -> str:
    return " | ".join(f"{np.mean([row['gains'][name] for row in rows]):+.2f}" for name in RULES)
