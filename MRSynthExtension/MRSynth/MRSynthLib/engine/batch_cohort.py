"""What there is to work on: examinations and their scans; and how files below a folder are found."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import InputError
from .files import ITK, NIFTI

IMAGES = (*NIFTI, *ITK)


@dataclass(frozen=True)
class Scan:
    """One acquired volume of an examination.

    Attributes
    ----------
    path : Path
        An image file, or the folder that holds all files of a DICOM series.
    contrast : {'t1', 't2'} or None
        None where neither name nor tags tell.
    stem : str
        How the files that are made from it begin.
    files : tuple of Path
        Of a DICOM series, in the order of the slices; else empty.
    series : str
        SeriesInstanceUID of a DICOM series, and its part, as in "1.2.3#2".
    reason : str
        Why it is taken for this contrast.
    """

    path: Path
    contrast: str | None
    stem: str
    files: tuple[Path, ...] = ()
    series: str = ""
    reason: str = "name"


@dataclass(frozen=True)
class Examination:
    """The volumes of one person from one visit.

    Attributes
    ----------
    subject, session : str
        For people and for the report.
    folder : str
        Where its results go, relative to the output folder, with "/" between the parts.
    scans : tuple of Scan
    layout : {'folder', 'bids', 'csv', 'dicom'}
    mask : Path or None
        Brain mask.
    problem : InputError or None
        Why it cannot be worked on.
    taken : tuple of int
        Numbers of its DICOM series.
    notes : tuple of str
        What the user should know of it.
    """

    subject: str
    session: str
    folder: str
    scans: tuple[Scan, ...]
    layout: str
    mask: Path | None = None
    problem: InputError | None = None
    taken: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Subject and session, for messages."""
        return f"{self.subject} {self.session}".strip()


def files_below(folder: Path, output: Path, unreadable: list[Path] | None = None) -> Iterator[Path]:
    """The regular files of a folder, sorted, but those of the output folder and hidden ones.

    Links to folders are followed, each folder once, so that a loop of links comes to an end.

    Parameters
    ----------
    folder, output : Path
    unreadable : list of Path, optional
        Gets the folders below that cannot be listed.

    Raises
    ------
    InputError
        input-not-found: the folder cannot be listed.
    """
    skipped = _identity(output) if output.is_dir() else None
    seen: set[tuple[int, int]] = set()

    def note(error: OSError) -> None:
        if Path(error.filename) == folder:
            raise unlistable(folder, error)
        if unreadable is not None:
            unreadable.append(Path(error.filename))

    for parent, folders, names in os.walk(folder, onerror=note, followlinks=True):
        kept = []
        for name in sorted(folders):
            identity = _identity(Path(parent, name))
            if not name.startswith(".") and identity not in (None, skipped) and identity not in seen:
                seen.add(identity)
                kept.append(name)
        folders[:] = kept
        for name in sorted(names):
            path = Path(parent, name)
            if not name.startswith(".") and _is_regular(path):
                yield path


def unlistable(folder: Path, error: OSError) -> InputError:
    """The error for a folder that cannot be listed."""
    return InputError("input-not-found", f"'{folder}' cannot be read ({error.strerror}).", "a readable folder.")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:  # a link to nowhere, or to itself
        return False


def relative(path: Path, folder: Path) -> str:
    """A path as seen from a folder, with "/" between the parts; absolute where there is no way, as between drives."""
    try:
        return Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix()
    except ValueError:
        return path.absolute().as_posix()


def unique_folders(found: Iterable[Examination]) -> dict[str, list[Examination]]:
    """Examinations by the folder that their results go to, see `place`."""
    places: dict[str, list[Examination]] = {}
    for examination in found:
        places.setdefault(place(examination), []).append(examination)
    return places


def place(examination: Examination) -> str:
    """The folder of its results, in a form that is the same for names that are one on macOS and Windows."""
    return unicodedata.normalize("NFC", examination.folder).casefold()
