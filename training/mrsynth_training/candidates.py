"""What can be scored: whatever makes the other contrast of a source. Checkpoints are here, baselines in `baselines`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mrsynth_training import unseen
from mrsynth_training.cohort import Case
from mrsynth_training.pairs import Pair
from MRSynthLib.engine import checkpoint, model_folders
from MRSynthLib.engine.synthesis import Synthesizer, other


class Candidate(Protocol):
    """Something to score; small and picklable, so that several processes can have it."""

    @property
    def name(self) -> str:
        """Unique among those that are compared."""

    def about(self) -> dict[str, Any]:
        """What the results say of it: its name, and what tells it from others of that name."""

    def role(self, case: Case) -> str:
        """What a study is to it: "train", "validation", "test" or "unseen"; see `unseen.role`."""

    def synthesize(self, pair: Pair) -> tuple[NDArray[np.int16], dict[str, Any]]:
        """The target contrast on the source's grid, 1000 is 1.0; and notes for the results."""


@dataclass(frozen=True)
class Network:
    """A checkpoint, run by the very engine that users run, in fp32.

    Attributes
    ----------
    name : str
    model : str
        Path or installed name.
    device : str
        As `Synthesizer` takes it.
    """

    name: str
    model: str
    device: str = "auto"

    def about(self) -> dict[str, Any]:
        """Name, hashes, frame and device."""
        engine = _engine(self.model, self.device)
        card = engine.checkpoint.card
        return {
            "name": self.name,
            "sha256": engine.checkpoint.sha256,
            "weights_sha256": card["weights_sha256"],
            "frame": card["frame"],
            "seed": card["seed"],
            "device": engine.device.device,
            "precision": engine.device.precision,
        }

    def role(self, case: Case) -> str:
        """By the card."""
        return unseen.role(_engine(self.model, self.device).checkpoint.card, case)

    def training_studies(self) -> set[str]:
        """By the card."""
        return unseen.training_studies(_engine(self.model, self.device).checkpoint.card)

    def synthesize(self, pair: Pair) -> tuple[NDArray[np.int16], dict[str, Any]]:
        """See `Candidate`; the notes are seconds and warnings."""
        # What the screening would refuse is scored too; what it found is among the warnings.
        result = _engine(self.model, self.device).synthesize(
            pair.source, other(pair.contrast), source=pair.contrast, force=True
        )
        return result.volume.voxels, {"seconds": round(result.seconds, 2), "warnings": list(result.warnings)}


@lru_cache(maxsize=32)
def _engine(model: str, device: str) -> Synthesizer:
    return Synthesizer(model, device=device, precision="fp32")


def network(model: str, device: str = "auto", name: str | None = None) -> Network:
    """A checkpoint by path or installed name, called as its card calls it unless another name is given.

    Raises
    ------
    ModelError
        If it cannot be used.
    """
    path = model_folders.find(model)
    return Network(name or str(checkpoint.read_card(path)["name"]), str(path), device)
