"""The inputs of a batch: which kind each is, and the examinations in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from . import batch_bids, batch_csv, batch_dicom, batch_folder
from .batch_cohort import IMAGES, Examination, files_below
from .errors import InputError, OutputError
from .writing import ending

READERS = {"folder": batch_folder.find, "bids": batch_bids.find, "csv": batch_csv.find, "dicom": batch_dicom.find}


def find(inputs: Sequence[Path], output: Path, layout: str = "auto") -> list[Examination]:
    """All examinations of all inputs, in the order in which they are to be worked on.

    Parameters
    ----------
    inputs : sequence of Path
        Folders of studies, BIDS datasets, CSV lists, DICOM exports, or single image files.
    output : Path
        The output folder: what lies in it is no input.
    layout : str
        One of `READERS` for all inputs, or 'auto'.

    Raises
    ------
    InputError
        input-not-found, input-not-an-image, batch-list, batch-nothing.
    OutputError
        output-is-input.
    """
    found: list[Examination] = []
    for path in inputs:
        check_apart(path, output)
        kind = layout if layout != "auto" else layout_of(path, output)
        found += READERS[kind](path, output)
    if not found:
        seen = f"{', '.join(repr(str(path)) for path in inputs)} holds no volumes that are T1, T2 or unnamed."
        raise InputError("batch-nothing", seen, "a folder of studies, a BIDS dataset, a CSV list or a DICOM export.")
    return found


def check_apart(path: Path, output: Path) -> None:
    """Refuse an output folder that is an input, or that an input lies in.

    Raises
    ------
    InputError
        input-not-found.
    OutputError
        output-is-input.
    """
    try:
        if not path.exists():
            raise InputError("input-not-found", f"There is no '{path}'.", "the path of a folder or file.")
        here, there = path.resolve(), output.resolve()
    except OSError as error:
        raise InputError("input-not-found", f"{error}.", "the path of a folder or file.") from error
    if there == here or (path.is_dir() and there in here.parents):
        seen = f"'{output}' is the input or holds it."
        raise OutputError("output-is-input", seen, "an output folder beside the input, or a folder in it.")


def layout_of(path: Path, output: Path) -> str:
    """Which of `READERS` an input is."""
    if path.is_file():
        return "csv" if ending(path) in (".csv", ".tsv", ".txt") else "folder"
    if (path / "dataset_description.json").is_file() or _has_bids_subjects(path):
        return "bids"
    return "folder" if any(ending(file) in IMAGES for file in files_below(path, output)) else "dicom"


def _has_bids_subjects(path: Path) -> bool:
    return any(next(path.glob(pattern), None) is not None for pattern in ("sub-*/anat", "sub-*/ses-*/anat"))
