"""How right the screening is: leave-one-patient-out on real volumes and their variants, and on what is no brain MR.

Each patient is judged by numbers that were fitted without any of that patient's volumes. What is no brain is computed
(`screening_others`), and so is PD, which no shared subject has.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mrsynth_training import phantom
from mrsynth_training.errors import TrainingError
from mrsynth_training.phantom_anatomy import bent, brats_grid, sampled
from mrsynth_training.screening_fit import Sample, fitted, sample
from mrsynth_training.screening_others import OTHERS, ct_head
from mrsynth_training.screening_variants import VARIANTS, bright_for_dark, resampled
from MRSynthLib.engine import screening, screening_object, screening_pose
from MRSynthLib.engine.checks import checked
from MRSynthLib.engine.files import read_volume
from MRSynthLib.engine.screening_contrast import Contrast, classified, turned_over
from MRSynthLib.engine.screening_copy import copied
from MRSynthLib.engine.screening_model import Model
from MRSynthLib.engine.volume import Volume

FILES = ("t1", "t2", "flair", "t1c")
FINEST = 2.0  # mm, of variants: what is looked at is coarser
PHANTOM = "phantom"
CT_KINDS = ("hounsfield", "offset", "window", "bone")
AS_ACQUIRED, OVER = "as acquired", "turned over"


@dataclass(frozen=True, eq=False)
class Item:
    """A volume to judge: what it is, and what was found that does not rest on the model."""

    name: str
    variant: str
    sample: Sample
    refused: tuple[str, ...]
    judged: bool


def study(
    data: Path, *, phantoms: int = 4, others: int = 10, report: Callable[[str], None] = print
) -> tuple[dict[str, Any], Model]:
    """Judge everything, and fit the model of all.

    Parameters
    ----------
    data : Path
        Folder with one sub-folder per study, with t1, t2, flair and t1c as .nii.gz, whichever are there.
        Studies X_1 and X_2 are of one patient.
    phantoms, others : int
        Computed patients, and computed other things of each kind.
    report : callable
        Gets a line now and then.

    Returns
    -------
    results : dict
        Ready for JSON.
    model : Model

    Raises
    ------
    TrainingError
        If the folder holds no two patients.
    """
    begin = time.perf_counter()
    items = [*_real(data, report), *_phantoms(phantoms, report)]
    groups = sorted({item.sample.group for item in items} - {PHANTOM})
    if len(groups) < 2:
        raise TrainingError(f"{data} holds volumes of {len(groups)} patients", "at least two", "Give another folder")
    judged = []
    for group in [*groups, PHANTOM]:
        model = fitted([item.sample for item in items if item.sample.group != group and item.variant != OVER])
        judged += [_judged(item, model) for item in items if item.sample.group == group]
        report(f"{group} judged after {time.perf_counter() - begin:.0f} s")
    model = fitted([item.sample for item in items if item.variant != OVER])
    strangers = [_judged(item, model) for item in _others(others)]
    return {"volumes": judged, "others": strangers, "summary": summary(judged, strangers)}, model


def _real(data: Path, report: Callable[[str], None]) -> Iterator[Item]:
    for folder in sorted(path for path in data.iterdir() if path.is_dir()):
        for contrast in FILES:
            file = folder / f"{contrast}.nii.gz"
            if file.exists():
                volume = read_volume(file)
                yield _item(folder.name, contrast, AS_ACQUIRED, volume)
                yield from _varied(folder.name, contrast, volume, list(VARIANTS))
                if contrast in ("t1", "t2"):
                    yield _item(folder.name, contrast, OVER, bright_for_dark(volume))
        report(f"{folder.name} read")


def _varied(name: str, contrast: str, volume: Volume, variants: Sequence[str]) -> Iterator[Item]:
    spacing = volume.spacing
    small = resampled(volume, (max(FINEST, spacing[0]), max(FINEST, spacing[1]), max(FINEST, spacing[2])))
    for variant in variants:
        rng = np.random.default_rng(zlib.crc32(f"{name} {contrast} {variant}".encode()))
        yield _item(name, contrast, variant, VARIANTS[variant](small, rng))


def _phantoms(count: int, report: Callable[[str], None]) -> Iterator[Item]:
    for seed in range(count):
        made = phantom.subject(seed, grid=brats_grid(FINEST), tumour=bool(seed % 2), lesions=not seed % 2)
        for contrast, volume in (("t1", made.t1), ("t2", made.t2), ("flair", made.flair)):
            yield _item(f"{PHANTOM} {seed}", contrast, AS_ACQUIRED, volume)
            yield from _varied(f"{PHANTOM} {seed}", contrast, volume, ["mixed"])
    report(f"{count} phantoms computed")


def _others(count: int) -> Iterator[Item]:
    for seed in range(count):
        for kind, make in OTHERS.items():
            yield _item(kind, "other", str(seed), make(np.random.default_rng((seed, zlib.crc32(kind.encode())))))
        rng = np.random.default_rng(seed)
        grid = brats_grid(3.0)
        anatomy = sampled(grid, bent(grid, rng), 1.6, 0.7)
        for kind in CT_KINDS:
            yield _item(f"CT, {kind}", "other", str(seed), ct_head(anatomy, rng, kind))


def _item(name: str, contrast: str, variant: str, volume: Volume) -> Item:
    group = PHANTOM if name.startswith(PHANTOM) else name.split("_")[0]
    volume, _ = checked(volume)
    copy = copied(volume, screening.look(volume))
    depth = copy.depth()
    judged = screening_object.judged(copy)
    found = screening_object.findings(volume, copy, match=1.0)
    found += screening_object.tissue(copy, depth) if judged else []
    refused = tuple(finding.text for finding in found if finding.level == "refuse")
    return Item(name, variant, sample(group, contrast, copy), refused, judged)


def _judged(item: Item, model: Model) -> dict[str, Any]:
    """What screening says of a volume, and of the same volume laid in the 23 other ways."""
    each = item.sample
    outline, grey = (np.asarray(array, np.float32) for array in (each.outline, each.grey))
    score, match, upright = screening_pose.scores(outline, grey, each.skull_stripped, model)
    unlike = item.judged and float(match.max()) < screening_object.LEAST_MATCH
    seen = Contrast("other", 0.0, "too little brain")
    over: list[str] = []
    if each.brain is not None:
        seen = classified(each.brain, each.skull_stripped, model)
        over = [finding.level for finding in turned_over(each.brain)]
    turned = [item.judged and _refused_way(score, upright, way) for way in range(len(score))]
    way = turned.pop(screening_pose.AS_SAID)
    return {
        "study": item.name,
        "contrast": each.contrast,
        "variant": item.variant,
        "seen": seen.name,
        "confidence": round(seen.confidence, 3),
        "no_brain": bool(item.refused or unlike),
        "reasons": list(item.refused),
        "match": round(float(match.max()), 3),
        "wrong_way": bool(way),
        "turned_over": over[0] if over else "",
        "wrong_ways_refused": round(float(np.mean(turned)), 4),
    }


def _refused_way(score: np.ndarray, upright: np.ndarray, way: int) -> bool:
    """Whether it would be refused if its header said this way."""
    others = np.where(np.arange(len(score)) == way, -np.inf, score)
    best = int(np.argmax(others))
    return bool(score[best] - score[way] >= screening_pose.MARGIN and upright[best] >= screening_pose.CREDIBLE)


def summary(judged: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Shares of what is right, from 0 to 1, and how many they are of."""
    real = [each for each in judged if not each["study"].startswith(PHANTOM)]
    over = [each for each in real if each["variant"] == OVER]
    real = [each for each in real if each["variant"] != OVER]
    parts = {
        "as acquired": [each for each in real if each["variant"] == AS_ACQUIRED],
        "variants": [each for each in real if each["variant"] != AS_ACQUIRED],
        "phantoms": [each for each in judged if each["study"].startswith(PHANTOM)],
    }
    found: dict[str, Any] = {}
    for name, part in parts.items():
        found[name] = {
            "volumes": len(part),
            "contrast": _share(each["seen"] == each["contrast"] for each in part),
            **{c: _share(e["seen"] == c for e in part if e["contrast"] == c) for c in FILES},
            "t1_or_t2_refused": _share(_refused(e) for e in part if e["contrast"] in ("t1", "t2")),
            "wrong_ways_refused": float(np.mean([each["wrong_ways_refused"] for each in part])) if part else None,
        }
    found["turned over, bright for dark"] = {"volumes": len(over), **_noticed(over, "t1"), **_noticed(over, "t2")}
    kinds = sorted({each["study"] for each in others})
    found["no brain MR refused"] = {
        "volumes": len(others),
        "all": _share(each["no_brain"] or each["wrong_way"] for each in others),
        **{kind: _share(e["no_brain"] or e["wrong_way"] for e in others if e["study"] == kind) for kind in kinds},
    }
    return found


def _noticed(over: Sequence[dict[str, Any]], contrast: str) -> dict[str, float | None]:
    """Of volumes turned over, how many are noticed for it, and how many refused for whatever reason."""
    part = [each for each in over if each["contrast"] == contrast]
    return {
        f"{contrast} noticed": _share(bool(each["turned_over"]) for each in part),
        f"{contrast} refused": _share(_refused(each) for each in part),
    }


def _refused(judged: dict[str, Any]) -> bool:
    other = judged["seen"] in ("flair", "pd", "other") and judged["confidence"] >= screening.SURE
    return bool(judged["no_brain"] or judged["wrong_way"] or other or judged["turned_over"] == "refuse")


def _share(right: Iterator[bool] | Any) -> float | None:
    values = list(right)
    return float(np.mean(values)) if values else None


def table(found: dict[str, Any]) -> str:
    """The summary in lines of text."""
    lines = []
    for name, part in found.items():
        lines.append(name)
        for key, value in part.items():
            shown = "-" if value is None else str(value) if isinstance(value, int) else f"{100 * value:.1f} %"
            lines.append(f"  {key:<20} {shown}")
    return "\n".join(lines)
