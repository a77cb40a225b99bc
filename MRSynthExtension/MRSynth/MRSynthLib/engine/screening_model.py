"""The learned numbers of screening, from `Resources/Models/screening.json`; `mrsynth-train screening --fit` makes them.

They are means of small copies of heads and brains, one direction in the space of their outlines, and the weights of a
regression on a dozen brightness features: nothing from which a person could be recognised.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

PATH = Path(__file__).resolve().parents[2] / "Resources" / "Models" / "screening.json"
KINDS = {True: "brain", False: "head"}
CLASSES = ("t1", "t2", "flair")  # what the image alone tells; 't1' is with and without contrast agent
LEVELS = 127


@dataclass(frozen=True, eq=False)
class Model:
    """What screening has learnt.

    Attributes
    ----------
    outline : dict
        Mean outline by 'brain' or 'head', (N,), of unit length; see `screening_pose`.
    grey : dict
        Mean grey by (kind, contrast), (N,), of unit length.
    upright : ndarray (N,)
        The direction in which outlines that are the right way up differ from those that are not.
    centre, width : ndarray (F,)
        Of the features of contrast, which are taken as (feature - centre) / width.
    weights : ndarray (F + 1, 3)
        Of the features and 1, by class, for a softmax.
    """

    outline: Mapping[str, Array]
    grey: Mapping[tuple[str, str], Array]
    upright: Array
    centre: Array
    width: Array
    weights: Array

    def document(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "outline": {kind: _packed(array) for kind, array in self.outline.items()},
            "grey": {" ".join(key): _packed(array) for key, array in self.grey.items()},
            "upright": _packed(self.upright),
            "contrast": {
                "classes": CLASSES,
                "centre": _rounded(self.centre),
                "width": _rounded(self.width),
                "weights": _rounded(self.weights),
            },
        }


def from_document(document: Mapping[str, Any]) -> Model:
    """The model of a JSON document."""
    contrast = document["contrast"]
    grey = {tuple(key.split(" ")): _unpacked(text) for key, text in document["grey"].items()}
    return Model(
        outline={kind: _unpacked(text) for kind, text in document["outline"].items()},
        grey={(kind, name): array for (kind, name), array in grey.items()},
        upright=_unpacked(document["upright"]),
        centre=np.array(contrast["centre"], np.float32),
        width=np.array(contrast["width"], np.float32),
        weights=np.array(contrast["weights"], np.float32),
    )


@functools.lru_cache(maxsize=1)
def shipped() -> Model:
    """The model that is a part of MRSynth."""
    return from_document(json.loads(PATH.read_text(encoding="utf-8")))


def _packed(array: Array) -> dict[str, Any]:
    """An array as bytes of -127 to 127 in base64, and what they are to be multiplied by."""
    step = float(np.abs(array).max()) / LEVELS or 1.0
    levels = np.rint(array / step).astype(np.int8)
    return {"step": float(f"{step:.6g}"), "levels": base64.b64encode(levels.tobytes()).decode()}


def _unpacked(packed: Mapping[str, Any]) -> Array:
    levels = np.frombuffer(base64.b64decode(packed["levels"]), np.int8)
    return np.asarray(levels * np.float32(packed["step"]), np.float32)


def _rounded(array: Array) -> Any:
    return np.vectorize(lambda number: float(f"{number:.5g}"))(array).tolist()
