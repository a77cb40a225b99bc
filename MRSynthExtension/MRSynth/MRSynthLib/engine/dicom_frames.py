"""Frames: the single images of DICOM files, one in a classic file, many in an enhanced one, told in the same words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from .dicom_files import DamagedError, number, numbers, text, whole

ACQUISITION = (
    "EchoTime",
    "RepetitionTime",
    "InversionTime",
    "SeriesDescription",
    "ImageType",
    "Modality",
    "ProtocolName",
    "SequenceName",
    "ScanningSequence",
    "ContrastBolusAgent",
    "BodyPartExamined",
)
AGENTS = "ContrastBolusAgentSequence"  # all that enhanced files have; classic ones may
# What may tell frames apart that lie at the same place, in the order in which it is tried.
TELLING = (
    "ImageType",
    "EchoTime",
    "EchoNumbers",
    "InversionTime",
    "TemporalPositionIdentifier",
    "DiffusionBValue",
    "AcquisitionNumber",
    "StackID",
)
GEOMETRY = ("Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "InstanceNumber")
PIXELS = ("SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit",
          "PixelRepresentation", "RescaleSlope", "RescaleIntercept", "NumberOfFrames")  # fmt: skip
SERIES = ("SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "PatientName", "PatientID", "StudyInstanceUID",
          "StudyDate", "StudyDescription", "SeriesInstanceUID", "SeriesNumber")  # fmt: skip
ENHANCED = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
SYNTHETIC_DATA = 0x0008001C  # SyntheticData; pydicom 2.4 does not know the keyword
MOST_FRAMES = 20_000  # of a file: 300 volumes of 60 slices; a small file can describe any number, and each takes time
UNIT = 1e-2  # how far from 1 the length of direction cosines may be
READ: frozenset[str | int] = frozenset(
    (*ACQUISITION, AGENTS, *TELLING, *GEOMETRY, *PIXELS, *SERIES, *ENHANCED, SYNTHETIC_DATA)
)


@dataclass(frozen=True, eq=False)
class Frame:
    """One image plane in its file.

    Attributes
    ----------
    path : Path
    index : int
        Number of the frame in its file, from 0.
    position : ndarray, shape (3,)
        Centre of the first pixel, LPS mm; NaN where the header does not tell.
    along_row, along_column : ndarray, shape (3,)
        Steps from pixel to pixel along a row (i) and along a column (j), LPS mm.
    rows, columns : int
    slope, intercept : float
        Value = slope x stored + intercept.
    instance : int
        InstanceNumber (frame number in an enhanced file); 0 where absent.
    uid : str
        SOPInstanceUID of the file.
    tags : mapping
        Acquisition tags, and what tells frames at the same place apart.
    """

    path: Path
    index: int
    position: NDArray[np.float64]
    along_row: NDArray[np.float64]
    along_column: NDArray[np.float64]
    rows: int
    columns: int
    slope: float = 1.0
    intercept: float = 0.0
    instance: int = 0
    uid: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector across the plane; NaN where there is none."""
        normal = np.cross(self.along_row, self.along_column)
        length = float(np.linalg.norm(normal))
        return normal / length if length > 0 else np.full(3, np.nan)


def frames_of(dataset: Dataset, path: Path) -> list[Frame]:
    """Return the frames of an image file.

    Raises
    ------
    DamagedError
        Size, or the description of the frames, is missing.
    """
    rows, columns = whole(dataset, "Rows"), whole(dataset, "Columns")
    if not rows or not columns:
        raise DamagedError("the header does not tell the size of the image")
    count = whole(dataset, "NumberOfFrames") or 1
    looks = frame_headers(dataset)
    if len(looks) > MOST_FRAMES:
        raise DamagedError(f"it describes {len(looks):,} frames, where at most {MOST_FRAMES:,} are read")
    if looks[0].groups and len(looks) != count:
        raise DamagedError(f"{count} frames are described by {len(looks)} groups")
    frames = [_frame(look, path, rows, columns) for look in looks]
    if not np.isfinite([(frame.slope, frame.intercept) for frame in frames]).all():
        raise DamagedError("slope or intercept is no number")
    return frames


def frame_headers(dataset: Dataset) -> list[FrameHeader]:
    """Return what a header tells of each frame.

    A multi-frame file without functional groups has no place for its frames: one stands for them.
    """
    groups = dataset.get("PerFrameFunctionalGroupsSequence")
    if not groups:
        return [FrameHeader(dataset)]
    shared = dataset.get("SharedFunctionalGroupsSequence") or [Dataset()]
    return [FrameHeader(dataset, group, shared[0], index=index) for index, group in enumerate(groups)]


# Where an enhanced file keeps, by functional group, what a classic one has at the top: (group, keyword there).
_PLACES = {
    "ImagePositionPatient": ("PlanePositionSequence", "ImagePositionPatient"),
    "ImageOrientationPatient": ("PlaneOrientationSequence", "ImageOrientationPatient"),
    "PixelSpacing": ("PixelMeasuresSequence", "PixelSpacing"),
    "SliceThickness": ("PixelMeasuresSequence", "SliceThickness"),
    "RescaleSlope": ("PixelValueTransformationSequence", "RescaleSlope"),
    "RescaleIntercept": ("PixelValueTransformationSequence", "RescaleIntercept"),
    "EchoTime": ("MREchoSequence", "EffectiveEchoTime"),
    "RepetitionTime": ("MRTimingAndRelatedParametersSequence", "RepetitionTime"),
    "InversionTime": ("MRModifierSequence", "InversionTimes"),
    "ImageType": ("MRImageFrameTypeSequence", "FrameType"),
    "DiffusionBValue": ("MRDiffusionSequence", "DiffusionBValue"),
    "TemporalPositionIdentifier": ("FrameContentSequence", "TemporalPositionIndex"),
    "AcquisitionNumber": ("FrameContentSequence", "FrameAcquisitionNumber"),
    "StackID": ("FrameContentSequence", "StackID"),
}


class FrameHeader:
    """Looks an attribute up for one frame: in the frame's groups, the shared ones, the file.

    Parameters
    ----------
    dataset : Dataset
        The header of the file.
    *groups : Dataset
        The functional groups of the frame, its own before the shared ones; none in a classic file.
    index : int
        Number of the frame in its file, from 0.
    """

    def __init__(self, dataset: Dataset, *groups: Dataset, index: int = 0) -> None:
        self.dataset = dataset
        self.groups = groups
        self.index = index

    def home(self, keyword: str) -> tuple[Dataset, str]:
        """Return where the attribute stands, and under which keyword there."""
        sequence, inner = _PLACES.get(keyword, ("", keyword))
        for group in self.groups if sequence else ():
            items: Any = group.get(sequence)
            if items and inner in items[0]:
                return items[0], inner
        return self.dataset, keyword

    def number(self, keyword: str, default: float) -> float:
        """Return its number."""
        found = number(*self.home(keyword))
        return default if found is None else found

    def numbers(self, keyword: str, count: int) -> NDArray[np.float64]:
        """Return its numbers, NaN where they are missing."""
        return np.array(numbers(*self.home(keyword), count) or [np.nan] * count)

    def text(self, keyword: str) -> str:
        """Return it as text."""
        return text(*self.home(keyword))


def _frame(look: FrameHeader, path: Path, rows: int, columns: int) -> Frame:
    orientation = look.numbers("ImageOrientationPatient", 6)
    if not all(abs(np.linalg.norm(axis) - 1) < UNIT for axis in (orientation[:3], orientation[3:])):
        orientation[:] = np.nan  # no directions
    between_rows, between_columns = look.numbers("PixelSpacing", 2)
    tags = {keyword: value for keyword in (*ACQUISITION, *TELLING) if (value := look.text(keyword))}
    if not look.number("InversionTime", 0.0):
        tags.pop("InversionTime", None)  # some scanners write 0 where nothing was inverted
    if agents := _agents(look.dataset):
        tags["ContrastBolusAgent"] = agents
    if getattr(look.dataset.get(SYNTHETIC_DATA), "value", None) == "YES":
        tags["SyntheticData"] = "YES"
    return Frame(
        path=path,
        index=look.index,
        position=look.numbers("ImagePositionPatient", 3),
        along_row=orientation[:3] * between_columns,
        along_column=orientation[3:] * between_rows,
        rows=rows,
        columns=columns,
        slope=look.number("RescaleSlope", 1.0),
        intercept=look.number("RescaleIntercept", 0.0),
        instance=look.index + 1 if look.groups else whole(look.dataset, "InstanceNumber") or 0,
        uid=look.text("SOPInstanceUID"),
        tags=tags,
    )


def _agents(dataset: Dataset) -> str:
    """The coded contrast agents by name; "" where there are none."""
    try:
        items = dataset.get(AGENTS) or []
        return ", ".join(text(item, "CodeMeaning") or text(item, "CodeValue") or "not named" for item in items)
    except Exception:  # bytes that are no sequence
        return "not readable"
