"""What a study is to a checkpoint, as far as its card tells: trained on, watched, tested on, or unseen.

It goes by patient: another visit of somebody who was trained on is not unseen, whether the card names it or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mrsynth_training import layouts
from mrsynth_training.cohort import Case


def training_studies(card: Mapping[str, Any]) -> set[str]:
    """The very studies that the generator has learnt from; other visits of these patients are not among them."""
    return {entry["subject"] for entry in card["training_data"] if entry["role"] == "train"}


def role(card: Mapping[str, Any], case: Case) -> str:
    """Role of a study for a checkpoint.

    Parameters
    ----------
    card : mapping
        Its "training_data" count; what earlier cards lack of patients is told by their "split" or the studies' names.
    case : Case

    Returns
    -------
    str
        "train" or "validation" if any study of the patient has that role in the card, as these had a say in the
        weights; "test" if this study has it; else "unseen".
    """
    studies = {entry["subject"]: entry["role"] for entry in card["training_data"]}
    names = {case.subject, *studies}
    # A folder that has one visit alone does not tell the patient: the names of the others are in the card.
    own = {case.patient, layouts.patient(case.subject, names)}
    roles = {entry["role"] for entry in card["training_data"] if own & _patients(card, entry, names)}
    return next((told for told in ("train", "validation") if told in roles), studies.get(case.subject, "unseen"))


def _patients(card: Mapping[str, Any], entry: Mapping[str, Any], names: set[str]) -> set[str]:
    """Of whom a study of the card is, by all that tells it."""
    split = card.get("split") or {}
    listed = {patient for patient, studies in split.get(entry["role"], {}).items() if entry["subject"] in studies}
    return {layouts.patient(entry["subject"], names), *listed, *filter(None, [entry.get("patient")])}


def unseen(card: Mapping[str, Any], cases: Iterable[Case], subjects: Sequence[str] = ()) -> list[Case]:
    """The studies of patients that were not trained on; with `subjects`, only those of them."""
    return [case for case in cases if (not subjects or case.subject in subjects) and role(card, case) != "train"]
