"""The files of a slice store, and how they are written.

A store is a folder with

- `data.npy`: float16 (N, 2, H, W), T1 and T2 in [0, 1], padded with 0 to the largest slice;
- `mask.npy`: uint8 (N, H, W), `BRAIN` in the brain, `LESION` where a tumour or a lesion is marked, else 0;
- `table.csv`: one row per slice (see `COLUMNS`);
- `meta.json`: frame, format version, checksums of the three, one record per subject (source, licence, scales, role,
  files, ...), the split, and the studies that were left out;
- `split.json`: who is in training, validation and test.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from MRSynthLib.engine.writing import sha256_of, write_aside, write_error

FORMAT_VERSION = 1
COLUMNS = ("subject", "patient", "group", "role", "slice", "height", "width", "top", "bottom", "left", "right", "brain")
ARRAYS = ("data.npy", "mask.npy", "table.csv")
META = "meta.json"
BRAIN, LESION = 1, 2


@dataclass(frozen=True)
class SubjectSlices:
    """What a preparation hands over of one subject.

    `images`: (n, 2, h, w) in [0, 1]; `mask`: (n, h, w), 0, `BRAIN` or `LESION`; `slices`: the n slice numbers in the
    volume; `record`: the subject's entry in `meta.json`: subject, patient, group and, to be written, role at least.
    """

    images: np.ndarray
    mask: np.ndarray
    slices: np.ndarray
    record: dict[str, Any]


def write_store(folder: str | Path, frame: str, subjects: Sequence[SubjectSlices], **meta: Any) -> Path:
    """Write a store of all given subjects; slices are padded with 0 at the bottom and right to the largest extent.

    The arrays are written aside and renamed, `meta.json` last: a store that was not finished is none.

    Parameters
    ----------
    folder : path
    frame : {"native", "paper"}
    subjects : sequence of SubjectSlices
        Their arrays may be memory-mapped: one subject is in memory at a time.
    meta
        Further entries of `meta.json`.

    Raises
    ------
    OutputError
        If the folder cannot be written to, or the disk is full.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / META).unlink(missing_ok=True)
    except OSError as error:
        raise write_error(folder / META, error) from error
    count = sum(len(s.images) for s in subjects)
    height = max(s.images.shape[2] for s in subjects)
    width = max(s.images.shape[3] for s in subjects)
    with write_aside(folder / "data.npy") as aside:
        write_array(aside, np.dtype(np.float16), (count, 2, height, width), [s.images for s in subjects])
    with write_aside(folder / "mask.npy") as aside:
        write_array(aside, np.dtype(np.uint8), (count, height, width), [s.mask for s in subjects])
    with write_aside(folder / "table.csv") as aside, aside.open("w", newline="", encoding="utf-8") as handle:
        table = csv.DictWriter(handle, COLUMNS)
        table.writeheader()
        for subject in subjects:
            for image, mask, number in zip(subject.images, subject.mask, subject.slices, strict=True):
                table.writerow(_row(subject.record, image, mask, int(number)))
    content = {
        "format_version": FORMAT_VERSION,
        "frame": frame,
        "sha256": {name: sha256_of(folder / name) for name in ARRAYS},
        "subjects": [s.record for s in subjects],
        **meta,
    }
    with write_aside(folder / META) as aside:
        aside.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return folder


def write_array(path: Path, kind: np.dtype, shape: tuple[int, ...], arrays: list[np.ndarray]) -> None:
    """One array file of all the subjects', by plain writes: a full disk is an error then, not a crash."""
    with path.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for array in arrays:
            padded = np.zeros((len(array), *shape[1:]), kind)
            padded[tuple(slice(n) for n in array.shape)] = array
            file.write(padded.tobytes())


def _row(record: dict[str, Any], image: np.ndarray, mask: np.ndarray, number: int) -> dict[str, Any]:
    """Table row of one slice; pixels below 5 % of the brain's 99.5th percentile count as background for the box."""
    seen = image.max(axis=0) > 0.05
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    height, width = mask.shape
    return {
        **{k: record[k] for k in ("subject", "patient", "group", "role")},
        "slice": number,
        "height": height,
        "width": width,
        "top": int(rows[0]) if rows.size else 0,
        "bottom": int(rows[-1]) + 1 if rows.size else height,
        "left": int(columns[0]) if columns.size else 0,
        "right": int(columns[-1]) + 1 if columns.size else width,
        "brain": int(np.count_nonzero(mask)),
    }
