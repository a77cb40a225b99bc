"""BIDS datasets: the T1w and T2w of each session in, a derivatives dataset out."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import __version__
from .batch_cohort import Examination, Scan, relative, unlistable
from .batch_folder import is_synthetic, stem_of
from .files import NIFTI
from .writing import ending, write_aside

BIDS_VERSION = "1.10.0"
RAW = "raw"  # name of the input dataset in BIDS URIs
_LABEL = re.compile(r"(sub|ses)-[A-Za-z0-9]+")
_CONTRASTS = {"T1w": "t1", "T2w": "t2"}


def find(path: Path, output: Path) -> list[Examination]:
    """The sessions of a BIDS dataset, each with its T1w and T2w; derivatives of the dataset are passed over.

    Scans with contrast agent (``ce-``), parts of complex images other than the magnitude, and what was computed are
    left out.
    """
    return [examination for subject in _labelled(path, "sub") for examination in _of_subject(subject)]


def _of_subject(subject: Path) -> list[Examination]:
    """The sessions of a subject that hold scans; one with a problem where a folder cannot be listed."""
    found = []
    try:
        for session in (subject, *_labelled(subject, "ses")):
            name = "" if session == subject else session.name
            scans = tuple(_scans(session / "anat")) if (session / "anat").is_dir() else ()
            if scans:
                place = "/".join(filter(None, (subject.name, name, "anat")))
                found.append(Examination(subject.name, name, place, scans, "bids"))
    except OSError as error:
        problem = unlistable(Path(error.filename or subject), error)
        return [Examination(subject.name, "", f"{subject.name}/anat", (), "bids", problem=problem)]
    return found


def _labelled(folder: Path, entity: str) -> list[Path]:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if _LABEL.fullmatch(entry.name) and entry.name.startswith(entity)]
    return [folder / name for name in sorted(names) if (folder / name).is_dir()]


def _scans(folder: Path) -> Iterator[Scan]:
    for file in sorted(folder.iterdir()):
        stem, _, suffix = stem_of(file).rpartition("_")
        if ending(file) not in NIFTI or suffix not in _CONTRASTS or not file.is_file():
            continue
        entities = dict(part.split("-", 1) for part in stem.split("_") if "-" in part)
        if "ce" in entities or entities.get("part", "mag") != "mag" or is_synthetic(file):
            continue
        yield Scan(file, _CONTRASTS[suffix], stem, reason=f"BIDS suffix {suffix}")


def describe(output: Path, source: Path) -> None:
    """Write `dataset_description.json` and `.bidsignore` of a derivatives dataset, unless they are there.

    Parameters
    ----------
    output : Path
        The derivatives dataset.
    source : Path
        The dataset that it is made from.

    Raises
    ------
    OutputError
        As `writing.write_aside`.
    """
    link = relative(source, output)
    document: dict[str, Any] = {
        "Name": "Synthetic T1w and T2w volumes by MRSynth",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "MRSynth", "Version": __version__, "Description": "mrsynth batch"}],
        "SourceDatasets": [{"URL": link}],
        "DatasetLinks": {RAW: link},
    }
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    for path, content in (
        (output / "dataset_description.json", text),
        (output / ".bidsignore", "report.*\nreport_pictures/\n"),
    ):
        if not path.exists():
            with write_aside(path) as aside:
                aside.write_text(content, encoding="utf-8", errors="backslashreplace")  # a path may be no Unicode text


def uri(scan: Path, root: Path) -> str:
    """The BIDS URI of a file of the input dataset."""
    return f"bids:{RAW}:{scan.relative_to(root).as_posix()}"
