"""The voxels of a scan, be it a file or a DICOM series."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .batch_cohort import Scan
from .errors import InputError
from .files import read_volume

if TYPE_CHECKING:
    from .dicom import Series
    from .volume import Volume


def read(scan: Scan) -> Volume:
    """The volume of a scan.

    Raises
    ------
    InputError
        As `files.read_volume` and `dicom.load`.
    """
    if not scan.files:
        return read_volume(scan.path)
    from .dicom import load

    return load(_series(scan))


def spacing(scan: Scan) -> tuple[float, ...]:
    """Distance between voxel centres along (i, j, k), in mm.

    Raises
    ------
    InputError
        As `read`.
    """
    if scan.files:
        return _series(scan).spacing or read(scan).spacing
    return read(scan).spacing


def _series(scan: Scan) -> Series:
    from .dicom_find import series_of_files

    uid, _, part = scan.series.rpartition("#")
    for series in series_of_files(scan.files, f"'{scan.path}'"):
        if (series.uid, str(series.part)) == (uid, part):
            return series
    raise InputError("dicom-series-unknown", f"'{scan.path}' no longer holds the series {uid}.", "an unchanged input.")
