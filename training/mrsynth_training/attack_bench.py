"""The table and the picture of `mrsynth-train attack`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrsynth_training import attacks, markdown, metrics
from mrsynth_training.errors import TrainingError
from mrsynth_training.pairs import Pair, load_pair
from mrsynth_training.phantom import subject
from mrsynth_training.phantom_anatomy import brats_grid
from mrsynth_training.preparation import find_cases
from mrsynth_training.unseen import unseen
from MRSynthLib.engine import intensity, standard_space
from MRSynthLib.engine.checkpoint import DIRECTIONS
from MRSynthLib.engine.errors import MRSynthError
from MRSynthLib.engine.scores import psnr_of
from MRSynthLib.engine.synthesis import CONTRASTS, Synthesizer, other
from MRSynthLib.engine.writing import write_aside

Row = dict[str, Any]
Panel = tuple[str, NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


def phantom_pair(seed: int, contrast: str, spacing: float = 1.0) -> Pair:
    """A computed patient with a tumour, as a pair."""
    phantom = subject(seed, grid=brats_grid(spacing))
    source, target = (phantom.t1, phantom.t2) if contrast == "t1" else (phantom.t2, phantom.t1)
    brain = source.voxels > 0
    measured = target.voxels.astype(np.float32)
    return Pair(
        subject=f"phantom {seed}",
        contrast=contrast,
        source=source,
        reference=intensity.normalize(measured, intensity.brain_scale(measured, brain)),
        measured=measured,
        brain=brain,
        scored=np.ones(source.shape, bool),
        lesion=phantom.labels.voxels > 0,
        regions={},
        skull_stripped=True,
        registered=False,
    )


def bench(
    synthesizer: Synthesizer,
    *,
    phantoms: int = 1,
    seed: int = 1,
    spacing: float = 1.0,
    data: Path | None = None,
    subjects: Sequence[str] = (),
    report: Callable[[str], None] = print,
) -> tuple[dict[str, Any], list[Panel]]:
    """Attack every phantom and real subject, in both directions.

    Parameters
    ----------
    synthesizer : Synthesizer
    phantoms, seed, spacing
        How many computed patients, the first one's seed, and their voxels in mm.
    data : Path, optional
        Real subjects, as `prepare` takes them; those that the card names as trained on are left out.
    subjects : sequence of str
        Only these of them.
    report : callable
        Gets one line per attack.

    Returns
    -------
    dict
        Ready for JSON: kind "attacks", checkpoint, rows (subject, direction, attack; psnr, loss and the screening's
        verdict, or by which code it was refused).
    list of (title, source, result, truth)
        Middle axial slices of the first phantom from T1, for the picture.

    Raises
    ------
    TrainingError
        If there is nothing to attack.
    """
    rows: list[Row] = []
    panels: list[Panel] = []
    for pair, is_phantom in _pairs(synthesizer, phantoms, seed, spacing, data, subjects):
        before = _run(synthesizer, attacks.clean(pair, np.random.default_rng(0)), pair)
        if isinstance(before, str):
            raise TrainingError(f"{pair.subject} was refused as it is: {before}", "a usable subject", "Leave it out")
        draw = is_phantom and not panels and pair.contrast == "t1"
        for name, attack in {"clean": attacks.clean, **attacks.ATTACKS}.items():
            attacked = attack(pair, np.random.default_rng(seed))
            after = before if name == "clean" else _run(synthesizer, attacked, pair)
            row = {"subject": pair.subject, "direction": pair.direction, "attack": name}
            if isinstance(after, str):
                rows.append(row | {"refused": after})
            else:
                rows.append(row | _loss(pair, attacked, before[0], after))
            report(" ".join(f"{key} {value}" for key, value in rows[-1].items()))
            if draw and not isinstance(after, str):
                panels.append(_panel(name, pair, attacked, after[0]))
    if not rows:
        raise TrainingError("there is nothing to attack", "phantoms, or subjects that were not trained on", "Give some")
    card = synthesizer.checkpoint.card
    about = {"name": synthesizer.checkpoint.name, "weights_sha256": card["weights_sha256"]}
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"kind": "attacks", "created": created, "checkpoint": about, "rows": rows}, panels


def _pairs(
    synthesizer: Synthesizer, phantoms: int, seed: int, spacing: float, data: Path | None, subjects: Sequence[str]
) -> Iterator[tuple[Pair, bool]]:
    for number in range(seed, seed + phantoms):
        yield from ((phantom_pair(number, contrast, spacing), True) for contrast in CONTRASTS)
    for case in unseen(synthesizer.checkpoint.card, find_cases(data), subjects) if data is not None else ():
        yield from ((load_pair(case, contrast), False) for contrast in CONTRASTS)


def _run(synthesizer: Synthesizer, attacked: attacks.Attacked, pair: Pair) -> tuple[NDArray[np.float32], str] | str:
    """The result in [0, 1] and what the screening says of the source; or the code by which the run was refused.

    The screening's refusal is overridden: what it saves the user from is what is to be measured.
    """
    try:
        result = synthesizer.synthesize(attacked.source, other(pair.contrast), source=pair.contrast, force=True)
    except MRSynthError as error:
        return error.code
    verdict = "" if result.screening is None else result.screening.verdict
    return intensity.normalize(result.volume.voxels, intensity.SCALE), verdict


def _loss(
    pair: Pair, attacked: attacks.Attacked, before: NDArray[np.float32], after: tuple[NDArray[np.float32], str]
) -> Row:
    truth, moved, scored = attacked.move(pair.reference), attacked.move(before), attacked.scored
    kept, now = (psnr_of(float(np.mean((made[scored] - truth[scored]) ** 2))) for made in (moved, after[0]))
    return {"psnr": round(now, 2), "loss": round(kept - now, 2), "screening": after[1]}


def _panel(name: str, pair: Pair, attacked: attacks.Attacked, made: NDArray[np.float32]) -> Panel:
    source = intensity.normalize(attacked.source.voxels, intensity.brain_scale(attacked.source.voxels, attacked.scored))
    space = standard_space.plan(attacked.source, attacked.scored, "native")
    index = int(np.nonzero(space.canonical(attacked.scored))[0].mean())
    source, made, truth = (space.canonical(array)[index] for array in (source, made, attacked.move(pair.reference)))
    return name, source, made, truth


def table(results: dict[str, Any]) -> str:
    """Markdown: per attack the mean loss and what the runs said, in both directions; the worst first."""
    names = list(dict.fromkeys(row["attack"] for row in results["rows"]))
    rows = []
    ordered = sorted(names, key=lambda name: (name != "clean", -_mean(results, name, None, "loss")))
    for name in ordered:
        cells = [_cell(_mean(results, name, direction, what)) for direction in DIRECTIONS for what in ("psnr", "loss")]
        rows.append([name, *cells, _said(results, name)])
    heads = ("attack", "T1→T2: PSNR", "loss", "T2→T1: PSNR", "loss", "the screening says")
    return "\n".join(markdown.table(heads, rows))


def _mean(results: dict[str, Any], name: str, direction: str | None, what: str) -> float:
    found = [
        row[what]
        for row in results["rows"]
        if row["attack"] == name and direction in (None, row["direction"]) and what in row
    ]
    return metrics.summary(found)["mean"] if found else float("nan")


def _cell(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.1f}"


def _said(results: dict[str, Any], name: str) -> str:
    """What the screening says, and how often where that differs."""
    told = Counter(row.get("screening") or row.get("refused", "") for row in results["rows"] if row["attack"] == name)
    return next(iter(told)) if len(told) == 1 else ", ".join(f"{word} ({count})" for word, count in told.items())


def picture(panels: Sequence[Panel], path: Path) -> Path:
    """A PNG of the phantom: one column per attack, with source, result and truth.

    Raises
    ------
    TrainingError
        If there is nothing to draw.
    """
    if not panels:
        raise TrainingError("there is no phantom to draw", "at least one", "Give --phantoms 1")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.5 * len(panels), 4.8), dpi=110, facecolor="black")
    for column, (name, *images) in enumerate(panels):
        for row, image in enumerate(images):
            axes = figure.add_subplot(3, len(panels), row * len(panels) + column + 1)
            axes.imshow(image, cmap="gray", vmin=0, vmax=1)
            axes.set_xticks([])
            axes.set_yticks([])
            if row == 0:
                axes.set_title(name.replace(" ", "\n", 1), color="white", fontsize=7)
            if column == 0:
                axes.set_ylabel(("source", "result", "truth")[row], color="white", fontsize=8)
    figure.tight_layout(pad=0.3)
    with write_aside(path) as aside:
        figure.savefig(aside, format="png", facecolor="black")
    return path
