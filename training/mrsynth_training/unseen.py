"""The studies that a checkpoint was not trained on, as far as its card tells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mrsynth_training.preparation import Case


def trained_on(card: Mapping[str, Any]) -> set[str]:
    """The subjects that the generator has learnt from."""
    return {entry["subject"] for entry in card["training_data"] if entry["role"] == "train"}


def unseen(card: Mapping[str, Any], cases: Iterable[Case], subjects: Sequence[str] = ()) -> list[Case]:
    """The other ones of these studies; with `subjects`, only those of them."""
    trained = trained_on(card)
    return [case for case in cases if case.subject not in trained and (not subjects or case.subject in subjects)]
