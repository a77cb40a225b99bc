"""An open slice store (see `store_files`), and how batches are drawn from it."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrsynth_training.errors import TrainingError
from mrsynth_training.store_files import FORMAT_VERSION, SubjectSlices, write_store
from MRSynthLib.engine.writing import sha256_of

__all__ = ["SAMPLERS", "EpochSampler", "GroupSampler", "SliceStore", "SubjectSlices", "open_store", "write_store"]


@dataclass(frozen=True)
class SliceStore:
    """A prepared store, open for reading.

    Attributes
    ----------
    data : ndarray, float16 (N, 2, H, W)
        T1 and T2 slices (memory-mapped).
    mask : ndarray, uint8 (N, H, W)
        1 in the brain, 2 where a tumour or a lesion is marked (memory-mapped).
    rows : list of dict
        One per slice.  `height`, `width`: its extent before padding, in pixels; `top`..`right`: half-open bounding box
        of what is not background; `brain`: brain pixels; `slice`: index within the subject's model-frame volume.
    meta : dict
        Content of `meta.json`.
    resident : Tensor or None
        The slices on a GPU; see `on`.
    """

    data: np.ndarray
    mask: np.ndarray
    rows: list[dict[str, Any]]
    meta: dict[str, Any]
    resident: Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def indices(self, role: str) -> np.ndarray:
        """Indices of the slices with the role "train", "validation" or "test"."""
        return np.array([i for i, row in enumerate(self.rows) if row["role"] == role], dtype=np.int64)

    def images(self, indices: np.ndarray | Tensor) -> Tensor:
        """Slices as a float32 tensor (n, 2, H, W), on the device that the store is on."""
        if self.resident is not None:
            return self.resident[torch.as_tensor(indices).to(self.resident.device)].float()
        return torch.from_numpy(self.data[np.asarray(indices)].astype(np.float32))

    def masks(self, indices: np.ndarray | Tensor) -> Tensor:
        """Masks as a uint8 tensor (n, H, W), on the device that the store is on."""
        masks = torch.from_numpy(self.mask[np.asarray(indices)])
        return masks if self.resident is None else masks.to(self.resident.device)

    def on(self, device: torch.device, free: int) -> SliceStore:
        """The same store with its slices in a device's memory, if they take no more than half of what is free there."""
        if 2 * self.data.nbytes > free:
            return self
        return replace(self, resident=torch.from_numpy(np.array(self.data)).to(device))

    def boxes(self, indices: np.ndarray | Tensor) -> Tensor:
        """Bounding boxes (n, 4) of what is not background: top, bottom, left, right in pixels."""
        chosen = (self.rows[int(i)] for i in indices)
        return torch.tensor([[row[k] for k in ("top", "bottom", "left", "right")] for row in chosen])


def open_store(folder: str | Path) -> SliceStore:
    """Open a store for reading.

    Raises
    ------
    TrainingError
        If the folder is no store, a file is missing or cut off, its version is not this one's, or a patient is on two
        sides.
    """
    folder = Path(folder)
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        data = np.load(folder / "data.npy", mmap_mode="r")
        mask = np.load(folder / "mask.npy", mmap_mode="r")
        with (folder / "table.csv").open(newline="", encoding="utf-8") as table:
            rows = [_typed(row) for row in csv.DictReader(table)]
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"{folder} is not a readable slice store ({error})",
            "a folder with data.npy, mask.npy, table.csv and meta.json",
            "Make one with `mrsynth-train prepare`",
        ) from error
    if meta.get("format_version") != FORMAT_VERSION:
        raise TrainingError(
            f"the store has format version {meta.get('format_version')}", f"{FORMAT_VERSION}", "Prepare it again"
        )
    if not len(data) == len(mask) == len(rows):
        raise TrainingError(
            f"{folder} has {len(data)} slices, {len(mask)} masks and {len(rows)} rows", "as many", "Prepare it again"
        )
    _check_sides(folder, meta["subjects"])
    return SliceStore(data, mask, rows, meta)


def verify(folder: str | Path) -> None:
    """Read all of a store's files, and compare them with the checksums that they were written with.

    Raises
    ------
    TrainingError
        If one differs.
    """
    expected = open_store(folder).meta.get("sha256", {})
    differing = [name for name, digest in expected.items() if sha256_of(Path(folder) / name) != digest]
    if differing:
        raise TrainingError(
            f"{', '.join(differing)} of {folder} is not what was written", "the files as prepared", "Prepare it again"
        )


def _check_sides(folder: Path, records: list[dict[str, Any]]) -> None:
    sides: dict[str, str] = {}
    for record in records:
        if sides.setdefault(record["patient"], record["role"]) != record["role"]:
            raise TrainingError(
                f"{folder} leaks: patient {record['patient']} is in {sides[record['patient']]} and in {record['role']}",
                "every patient on one side only",
                "Prepare it again",
            )


def _typed(row: dict[str, str]) -> dict[str, Any]:
    return {k: v if k in ("subject", "patient", "group", "role") else int(v) for k, v in row.items()}


class GroupSampler:
    """Draws slices with replacement: every scanner group is equally likely, then every slice of the group.

    A subject with 155 thin slices would otherwise drown one with 39 thick ones, and one scanner another.
    """

    def __init__(self, store: SliceStore, generator: torch.Generator) -> None:
        indices = store.indices("train")
        groups = np.array([store.rows[i]["group"] for i in indices])
        names, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
        self.indices = torch.from_numpy(indices)
        self.weights = torch.from_numpy(1.0 / (len(names) * counts[inverse]))
        self.generator = generator

    def draw(self, count: int) -> Tensor:
        """Indices into the store (count,)."""
        return self.indices[torch.multinomial(self.weights, count, replacement=True, generator=self.generator)]

    def state_dict(self) -> dict[str, Any]:
        """Nothing: all the state is in the generator."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""


class EpochSampler:
    """Draws slices without replacement, in a new random order every epoch."""

    def __init__(self, store: SliceStore, generator: torch.Generator) -> None:
        self.indices = torch.from_numpy(store.indices("train"))
        self.generator = generator
        self.left = self.indices[:0]

    def draw(self, count: int) -> Tensor:
        """Indices into the store (count,)."""
        while len(self.left) < count:
            order = torch.randperm(len(self.indices), generator=self.generator)
            self.left = torch.cat([self.left, self.indices[order]])
        drawn, self.left = self.left[:count], self.left[count:]
        return drawn

    def state_dict(self) -> dict[str, Any]:
        """What is left of the epoch."""
        return {"left": self.left.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.left = state["left"]


SAMPLERS: dict[str, type[GroupSampler] | type[EpochSampler]] = {"groups": GroupSampler, "epochs": EpochSampler}
