"""DICOM, the one door: series of a folder in, a derived series out.

>>> from MRSynthLib.engine import Synthesizer, dicom
>>> volume, reason = dicom.read_source("export", target="t2")
>>> result = Synthesizer().synthesize(volume, "t2")
>>> dicom.write_result(result, "synthetic")
"""

from __future__ import annotations

import os
from pathlib import Path

from .dicom_derive import Derivation
from .dicom_find import Series, find_series
from .dicom_pick import pick
from .dicom_pixels import load
from .dicom_write import export_series, write_result, write_series
from .volume import Volume

__all__ = [
    "Derivation",
    "Series",
    "export_series",
    "find_series",
    "load",
    "pick",
    "read_folder",
    "read_source",
    "write_result",
    "write_series",
]


def read_folder(folder: str | os.PathLike[str]) -> Volume:
    """Read the series of a folder: the only one, whatever it is, else the one that the rules of `pick` leave.

    Raises
    ------
    InputError
        See `find_series`, `pick` and `load`.
    """
    found = find_series(Path(folder))
    return load(found[0] if len(found) == 1 else pick(found)[0])


def read_source(
    folder: str | os.PathLike[str], series: str | None = None, *, source: str = "auto", target: str | None = None
) -> tuple[Volume, str]:
    """Read the series that synthesis starts from.

    Parameters
    ----------
    folder : path
        A series, an examination, or more.
    series, source, target
        See `pick`.

    Returns
    -------
    volume : Volume
        Its header is the `Series`.
    reason : str
        Why this series.

    Raises
    ------
    InputError
        See `read_folder`.
    """
    chosen, reason = pick(find_series(Path(folder)), series, source=source, target=target)
    return load(chosen), reason
