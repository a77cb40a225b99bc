"""The slice store: all prepared slices of all subjects in one memory-mapped array, and how batches are drawn from it.

A store is a folder with

- `data.npy`: float16 (N, 2, H, W), T1 and T2 in [0, 1], padded with 0 to the largest slice;
- `mask.npy`: uint8 (N, H, W), 1 in the brain;
- `table.csv`: one row per slice (see `COLUMNS`);
- `meta.json`: frame, format version and one record per subject (source, licence, scales, role, ...).
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrsynth_training.errors import TrainingError

FORMAT_VERSION = 1
COLUMNS = ("subject", "patient", "group", "role", "slice", "height", "width", "top", "bottom", "left", "right", "brain")


@dataclass(frozen=True)
class SliceStore:
    """A prepared store, open for reading.

    Attributes
    ----------
    data : ndarray, float16 (N, 2, H, W)
        T1 and T2 slices (memory-mapped).
    mask : ndarray, uint8 (N, H, W)
        1 in the brain (memory-mapped).
    rows : list of dict
        One per slice.  `height`, `width`: its extent before padding, in pixels; `top`..`right`: half-open bounding box
        of what is not background; `brain`: brain pixels; `slice`: index within the subject's model-frame volume.
    meta : dict
        Content of `meta.json`.
    """

    data: np.ndarray
    mask: np.ndarray
    rows: list[dict[str, Any]]
    meta: dict[str, Any]

    def __len__(self) -> int:
        return len(self.rows)

    def indices(self, role: str) -> np.ndarray:
        """Indices of the slices with the role "train" or "validation"."""
        return np.array([i for i, row in enumerate(self.rows) if row["role"] == role], dtype=np.int64)

    def images(self, indices: np.ndarray | Tensor) -> Tensor:
        """Slices as a float32 tensor (n, 2, H, W)."""
        return torch.from_numpy(self.data[np.asarray(indices)].astype(np.float32))

    def boxes(self, indices: np.ndarray | Tensor) -> Tensor:
        """Bounding boxes (n, 4) of what is not background: top, bottom, left, right in pixels."""
        chosen = (self.rows[int(i)] for i in indices)
        return torch.tensor([[row[k] for k in ("top", "bottom", "left", "right")] for row in chosen])


def open_store(folder: str | Path) -> SliceStore:
    """Open a store for reading.

    Raises
    ------
    TrainingError
        If the folder is no store, a file is missing, or its version is not this one's.
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
    return SliceStore(data, mask, rows, meta)


def _typed(row: dict[str, str]) -> dict[str, Any]:
    return {k: v if k in ("subject", "patient", "group", "role") else int(v) for k, v in row.items()}


@dataclass(frozen=True)
class SubjectSlices:
    """What `prepare` hands over of one subject.

    `images`: float32 (n, 2, h, w) in [0, 1]; `mask`: (n, h, w), brain; `slices`: the n slice numbers in the volume;
    `record`: the subject's entry in `meta.json`, with at least subject, patient, group and role.
    """

    images: np.ndarray
    mask: np.ndarray
    slices: np.ndarray
    record: dict[str, Any]


def write_store(folder: str | Path, frame: str, subjects: list[SubjectSlices]) -> Path:
    """Write a store of all given subjects; slices are padded with 0 at the bottom and right to the largest extent."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    count = sum(len(s.images) for s in subjects)
    height = max(s.images.shape[2] for s in subjects)
    width = max(s.images.shape[3] for s in subjects)
    data = np.lib.format.open_memmap(folder / "data.npy", "w+", np.float16, (count, 2, height, width))
    mask = np.lib.format.open_memmap(folder / "mask.npy", "w+", np.uint8, (count, height, width))
    with (folder / "table.csv").open("w", newline="", encoding="utf-8") as handle:
        table = csv.DictWriter(handle, COLUMNS)
        table.writeheader()
        place = 0
        for subject in subjects:
            h, w = subject.images.shape[2:]
            for image, brain, number in zip(subject.images, subject.mask, subject.slices, strict=True):
                data[place, :, :h, :w] = image
                mask[place, :h, :w] = brain
                table.writerow(_row(subject.record, image, brain, int(number)))
                place += 1
    data.flush()
    mask.flush()
    meta = {"format_version": FORMAT_VERSION, "frame": frame, "subjects": [s.record for s in subjects]}
    (folder / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")
    return folder


def _row(record: dict[str, Any], image: np.ndarray, brain: np.ndarray, number: int) -> dict[str, Any]:
    """Table row of one slice; pixels below 5 % of the brain's 99.5th percentile count as background for the box."""
    seen = image.max(axis=0) > 0.05
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    height, width = brain.shape
    return {
        **{k: record[k] for k in ("subject", "patient", "group", "role")},
        "slice": number,
        "height": height,
        "width": width,
        "top": int(rows[0]) if rows.size else 0,
        "bottom": int(rows[-1]) + 1 if rows.size else height,
        "left": int(columns[0]) if columns.size else 0,
        "right": int(columns[-1]) + 1 if columns.size else width,
        "brain": int(np.count_nonzero(brain)),
    }


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
