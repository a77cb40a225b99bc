"""`mrsynth-train lesions`: whether a checkpoint keeps lesions and leaves healthy tissue alone, and down to which size.

Every trial is run twice, without and with its lesions. A lesion's contrast is the mean in it less the mean 2 to 6 mm
around it; its response is what the result's contrast changes by it, over what the true contrast does. So a lesion is

kept
    by a response of at least a half;
erased
    by one of less than a quarter, or the wrong way round;
invented
    where, without it, its place sticks out from the surroundings by half of its contrast more than in the truth;
still there
    where the subject's own lesion was painted over in the source, and the result shows half of its contrast all the
    same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrsynth_training import lesion_trials, markdown
from mrsynth_training.errors import TrainingError
from mrsynth_training.lesion_sites import MILLILITRES, Lesion
from mrsynth_training.lesion_trials import Trial
from mrsynth_training.pairs import load_pair
from mrsynth_training.preparation import Case, find_cases
from mrsynth_training.unseen import unseen
from MRSynthLib.engine import intensity
from MRSynthLib.engine.errors import MRSynthError
from MRSynthLib.engine.synthesis import CONTRASTS, Synthesizer, other
from MRSynthLib.engine.volume import Volume

KEPT, ERASED, INVENTED = 0.5, 0.25, 0.5  # of the true contrast
HALF = 0.5  # of a lesion's contrast: what counts to its volume
GOAL = 0.95  # of the lesions of a size, and of every larger one, kept
SEEN = 0.1  # contrast in the source, over the brightness around the lesion, from which a reader sees it there
LEAST_CONTRAST = 0.02  # what the truth itself hardly shows cannot be kept

Synthesis = Callable[[Volume, str], NDArray[np.int16]]
Row = dict[str, Any]


def bench(
    synthesizer: Synthesizer,
    *,
    phantoms: int = 4,
    seed: int = 1,
    spacing: float = 1.0,
    data: Path | None = None,
    subjects: Sequence[str] = (),
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Run the whole bench.

    Parameters
    ----------
    synthesizer : Synthesizer
    phantoms : int
        Computed patients, each with up to 18 lesions.
    seed : int
        Of the first one.
    spacing : float
        Of their voxels, mm.
    data : Path, optional
        Real subjects, as `prepare` takes them: lesions are put in, and their own are painted over.
    subjects : sequence of str
        Only these of them.
    report : callable
        Gets one line per trial.

    Returns
    -------
    dict
        Ready for JSON: kind "lesions", checkpoint, settings, lesions (one row each), summary {"phantom", "inserted",
        "own": {direction: {...}}}, see `summarize`; failures. Subjects that the card names as trained on are left out.

    Raises
    ------
    TrainingError
        If there is nothing to test with.
    """
    card = synthesizer.checkpoint.card

    def run(volume: Volume, contrast: str) -> NDArray[np.int16]:
        return synthesizer.synthesize(volume, other(contrast), source=contrast, force=True).volume.voxels

    rows: list[Row] = []
    failures: dict[str, str] = {}
    cases = unseen(card, find_cases(data), subjects) if data is not None else []
    for origin, trial in _trials(range(seed, seed + phantoms), spacing, cases, failures):
        found = [{"origin": origin, **row} for row in examined(trial, run, own=origin == "own")]
        rows += found
        report(f"{trial.name} {origin} {trial.direction}: {len(found)} lesions, {_share(found, 'kept')} kept")
    if not rows:
        raise TrainingError("no lesion could be tested", "phantoms, or subjects that were not trained on", "Give some")
    return {
        "kind": "lesions",
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "checkpoint": {
            "name": synthesizer.checkpoint.name,
            "sha256": synthesizer.checkpoint.sha256,
            "weights_sha256": card["weights_sha256"],
        },
        "settings": {"phantoms": phantoms, "seed": seed, "spacing": spacing},
        "summary": summarize(rows),
        "lesions": rows,
        "failures": failures,
    }


def _trials(
    seeds: Sequence[int], spacing: float, cases: Sequence[Case], failures: dict[str, str]
) -> Iterator[tuple[str, Trial]]:
    for seed in seeds:
        yield from (("phantom", trial) for trial in lesion_trials.phantoms(seed, spacing))
    for case in cases:
        for contrast in CONTRASTS:
            try:
                pair = load_pair(case, contrast)
            except (TrainingError, MRSynthError) as error:  # one bad subject must not lose the others
                failures[f"{case.subject} from {contrast}"] = str(error)
                continue
            yield "inserted", lesion_trials.inserted(pair)
            own = lesion_trials.removed(pair)
            if own is not None:
                yield "own", own


def examined(trial: Trial, run: Synthesis, *, own: bool = False) -> list[Row]:
    """Run a trial with and without its lesions; one row per lesion that the truth shows.

    Parameters
    ----------
    trial : Trial
    run : callable
        Takes a source and its contrast; gives the other contrast, int16, 1000 is 1.0.
    own : bool
        Whether the lesions are the subject's own, so that there is no truth without them.
    """
    healthy, ill = (
        intensity.normalize(run(source, trial.contrast), intensity.SCALE) for source in (trial.healthy, trial.ill)
    )
    rows = []
    for lesion in trial.lesions:
        truth = _contrast(trial.ill_truth, lesion)
        before = 0.0 if own else _contrast(trial.healthy_truth, lesion)
        wanted = truth - before
        if abs(wanted) < LEAST_CONTRAST:
            continue
        made, without = _contrast(ill, lesion), _contrast(healthy, lesion)
        row = {
            "trial": trial.name,
            "direction": trial.direction,
            "millilitres": round(lesion.millilitres, 3),
            "kind": lesion.kind,
            "source_contrast": round(_in_source(trial, lesion, own), 4),
            "true_contrast": round(wanted, 4),
            "response": round((made if own else made - without) / wanted, 4),
        }
        if own:
            rows.append(row | {"still_there": bool(without / wanted >= INVENTED)})
        else:
            sizes = [_size(a - b, lesion, wanted) for a, b in ((ill, healthy), (trial.ill_truth, trial.healthy_truth))]
            row["volume_error"] = round(sizes[0] / max(sizes[1], 1) - 1, 4)
            rows.append(row | {"invented": bool((without - before) / wanted >= INVENTED)})
    return rows


def _contrast(image: NDArray[np.float32], lesion: Lesion) -> float:
    part = image[lesion.box]
    return float(part[lesion.core].mean() - part[lesion.shell].mean()) if lesion.shell.any() else 0.0


def _in_source(trial: Trial, lesion: Lesion, own: bool) -> float:
    """Contrast that the lesion has (its own) or brings (one that was put in) in the source, over what is around it."""
    ill, healthy = (volume.voxels.astype(np.float32) for volume in (trial.ill, trial.healthy))
    around = float(ill[lesion.box][lesion.shell].mean()) if lesion.shell.any() else 0.0
    return (_contrast(ill, lesion) - (0.0 if own else _contrast(healthy, lesion))) / max(around, 1e-6)


def _size(change: NDArray[np.float32], lesion: Lesion, contrast: float) -> int:
    """Voxels around the lesion that change by half of its true contrast or more."""
    part = change[lesion.box] - np.float32(change[lesion.box][lesion.shell].mean())
    return int(np.count_nonzero((part / contrast >= HALF) & lesion.around))


def summarize(rows: Sequence[Row]) -> dict[str, Any]:
    """By origin and direction: "all", "sizes", "kinds" and "source" (shares and medians of these lesions).

    "source" parts them by whether the source shows them, with a tenth of the brightness around them. "smallest_kept" is
    the smallest size in ml that, like every larger one, is kept in 95 %; None where there is none.
    """
    result: dict[str, Any] = {}
    for row in rows:
        result.setdefault(row["origin"], {}).setdefault(row["direction"], []).append(row)
    for directions in result.values():
        for direction, found in directions.items():
            by_size = {size: [row for row in found if _class(row["millilitres"]) == size] for size in MILLILITRES}
            kinds = sorted({row["kind"] for row in found})
            shown = {True: "seen in the source", False: "hardly seen in the source"}
            by_source = {shown[s]: [row for row in found if (abs(row["source_contrast"]) >= SEEN) is s] for s in shown}
            directions[direction] = {
                "all": _figures(found),
                "sizes": {f"{size:g}": _figures(group) for size, group in by_size.items() if group},
                "kinds": {kind: _figures([row for row in found if row["kind"] == kind]) for kind in kinds},
                "source": {name: _figures(group) for name, group in by_source.items() if group},
                "smallest_kept": smallest_kept(found),
            }
    return result


def _class(millilitres: float) -> float:
    """The nearest of `MILLILITRES`, as a ratio."""
    return min(MILLILITRES, key=lambda size: abs(np.log(size / max(millilitres, 1e-3))))


def _figures(rows: Sequence[Row]) -> dict[str, float]:
    responses = np.array([row["response"] for row in rows])
    figures = {
        "lesions": len(rows),
        "kept": float(np.mean(responses >= KEPT)),
        "erased": float(np.mean(responses < ERASED)),
        "response": float(np.median(responses)),
    }
    for name in ("invented", "still_there"):
        told = [row[name] for row in rows if name in row]
        if told:
            figures[name] = float(np.mean(told))
    errors = [row["volume_error"] for row in rows if "volume_error" in row]
    if errors:
        figures["volume_error"] = float(np.median(errors))
    return {name: round(value, 4) for name, value in figures.items()}


def smallest_kept(rows: Sequence[Row]) -> float | None:
    """The smallest size class (ml) that is kept in 95 %, as are all larger ones."""
    smallest = None
    for size in reversed(MILLILITRES):
        group = [row["response"] >= KEPT for row in rows if _class(row["millilitres"]) == size]
        if not group:
            continue
        if np.mean(group) < GOAL:
            break
        smallest = size
    return smallest


def _share(rows: Sequence[Row], what: str) -> str:
    return f"{100 * _figures(rows)[what]:.0f} %" if rows else "none"


def table(results: dict[str, Any]) -> str:
    """The results as Markdown tables, one per origin and direction."""
    lines = []
    for origin, directions in results["summary"].items():
        for direction, found in directions.items():
            smallest = found["smallest_kept"]
            told = "no size" if smallest is None else f"{smallest:g} ml and more"
            lines += [f"{origin}, {direction}: kept in 95 %: {told}", "", *_markdown(found), ""]
    lines += [f"NOT TESTED {name}: {why}" for name, why in results["failures"].items()]
    return "\n".join(lines)


def _markdown(found: dict[str, Any]) -> list[str]:
    last = "still_there" if "still_there" in found["all"] else "invented"
    sizes = {f"{size} ml": figures for size, figures in found["sizes"].items()}
    groups = {**sizes, **found["kinds"], **found["source"], "all": found["all"]}
    rows = []
    for name, figures in groups.items():
        volume = f"{100 * figures['volume_error']:+.0f} %" if "volume_error" in figures else "-"
        shares = [f"{100 * figures[key]:.0f} %" for key in ("kept", "erased", "response")]
        rows.append([name, f"{figures['lesions']:.0f}", *shares, volume, f"{100 * figures.get(last, 0):.0f} %"])
    heads = ("lesion", "number", "kept", "erased", "contrast (median)", "volume error (median)", last.replace("_", " "))
    return markdown.table(heads, rows)
