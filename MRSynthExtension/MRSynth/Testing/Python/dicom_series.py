"""A writer of DICOM series for the tests: classic or enhanced, in any orientation, transfer syntax and disorder.

It knows nothing of the engine's reader: positions, directions and pixels are written as the standard says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    RLELossless,
    generate_uid,
)

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
Change = Callable[[Dataset, int], Any]

T1 = {"SeriesDescription": "t1_mprage_sag", "EchoTime": "3", "RepetitionTime": "2300", "InversionTime": "900"}
T2 = {"SeriesDescription": "t2_tse_tra", "EchoTime": "95", "RepetitionTime": "5000"}


def decimal(value: float) -> str:
    """A number in the 16 characters of a decimal string."""
    return next(text for digits in range(16, 0, -1) if len(text := f"{value:.{digits}g}") <= 16)


def examination(patient: str = "TEST-1") -> dict[str, Any]:
    """What all series of one examination share."""
    return {
        "PatientName": "Muster^Maria",
        "PatientID": patient,
        "PatientBirthDate": "19700102",
        "PatientSex": "F",
        "StudyInstanceUID": generate_uid(None),
        "StudyDate": "20240301",
        "StudyTime": "101500",
        "StudyID": "17",
        "StudyDescription": "MR brain",
        "AccessionNumber": "A-4711",
        "ReferringPhysicianName": "Doctor^Dora",
        "FrameOfReferenceUID": generate_uid(None),
    }


def write_series(
    folder: Path,
    voxels: np.ndarray,
    ijk_to_ras: np.ndarray,
    *,
    syntax: str = ExplicitVRLittleEndian,
    scales: Sequence[tuple[float, float]] | None = None,
    change: Change | None = None,
    skip: Sequence[int] = (),
    name: Callable[[int], str] = lambda k: f"IM{(k * 7919) % 10007:05d}",
    **tags: Any,
) -> list[Path]:
    """Write one classic series.

    Parameters
    ----------
    folder : Path
        Made where it is not there.
    voxels : ndarray of integers, shape (k, j, i)
        Stored values.
    ijk_to_ras : ndarray, shape (4, 4)
        Sheared for a tilted stack.
    syntax : str
        Transfer syntax UID.
    scales : sequence of (slope, intercept), optional
        Of each slice.
    change : callable, optional
        Called with each data set and its slice number before it is written; "skip" as answer leaves the file out.
    skip : sequence of int
        Slices that are not written.
    name : callable
        File name by slice number; by default in no order, and without ending.
    tags
        By keyword, for all slices.

    Returns
    -------
    list of Path
        The files, by slice.
    """
    folder.mkdir(parents=True, exist_ok=True)
    series = {**examination(), "SeriesInstanceUID": generate_uid(None), "SeriesNumber": 4, **tags}
    files = []
    for k, plane in enumerate(voxels):
        data = _instance(series, k)
        _place(data, data, data, ijk_to_ras, k)
        data.SliceThickness = decimal(float(np.linalg.norm(ijk_to_ras[:3, 2])))
        if scales is not None:
            data.RescaleSlope, data.RescaleIntercept = map(decimal, scales[k])
        _pixels(data, plane)
        if k in skip or (change is not None and change(data, k) == "skip"):
            continue
        files.append(folder / name(k))
        save(data, files[-1], syntax)
    return files


def write_enhanced(path: Path, voxels: np.ndarray, ijk_to_ras: np.ndarray, *, change: Change | None = None,
                   scales: Sequence[tuple[float, float]] | None = None, syntax: str = ExplicitVRLittleEndian,
                   **tags: Any) -> Path:  # fmt: skip
    """Write one enhanced multi-frame file; the frames lie in no order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    series = {**examination(), "SeriesInstanceUID": generate_uid(None), "SeriesNumber": 4, **tags}
    timing = {key: float(series.pop(key)) for key in ("EchoTime", "RepetitionTime", "InversionTime") if key in series}
    data = _instance(series, 0)
    data.SOPClassUID = EnhancedMRImageStorage
    data.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    shared = Dataset()
    shared.MRTimingAndRelatedParametersSequence = [Dataset()]
    shared.MRTimingAndRelatedParametersSequence[0].RepetitionTime = timing.get("RepetitionTime", 2000.0)
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [Dataset()], [Dataset()]
    order = [(k * 3) % len(voxels) if len(voxels) % 3 else k for k in range(len(voxels))]
    frames = []
    for k in order:
        frame = Dataset()
        frame.PlanePositionSequence, frame.MREchoSequence = [Dataset()], [Dataset()]
        frame.MREchoSequence[0].EffectiveEchoTime = timing.get("EchoTime", 3.0)
        _place(
            shared.PlaneOrientationSequence[0],
            shared.PixelMeasuresSequence[0],
            frame.PlanePositionSequence[0],
            ijk_to_ras,
            k,
        )
        if scales is not None:
            frame.PixelValueTransformationSequence = [Dataset()]
            values = frame.PixelValueTransformationSequence[0]
            values.RescaleSlope, values.RescaleIntercept, values.RescaleType = *map(decimal, scales[k]), "US"
        frames.append(frame)
    data.SharedFunctionalGroupsSequence, data.PerFrameFunctionalGroupsSequence = [shared], frames
    data.NumberOfFrames = len(frames)
    _pixels(data, voxels[order])
    if change is not None:
        change(data, 0)
    save(data, path, syntax)
    return path


def _instance(series: dict[str, Any], k: int) -> Dataset:
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = MRImageStorage, generate_uid(None)
    data.Modality, data.InstanceNumber = "MR", k + 1
    data.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    data.Manufacturer, data.PatientPosition, data.PositionReferenceIndicator = "Phantom Works", "HFS", ""
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    for keyword, value in series.items():
        setattr(data, keyword, value)
    return data


def _place(orientation: Dataset, spacing: Dataset, position: Dataset, ijk_to_ras: np.ndarray, k: int) -> None:
    """Write where slice `k` lies; an enhanced file keeps the three in different places."""
    lps = LPS @ ijk_to_ras
    mm = np.linalg.norm(lps[:3, :2], axis=0)
    orientation.ImageOrientationPatient = [decimal(x) for n in (0, 1) for x in lps[:3, n] / mm[n]]
    spacing.PixelSpacing = [decimal(mm[1]), decimal(mm[0])]  # between rows first
    position.ImagePositionPatient = [decimal(x) for x in (lps @ [0, 0, k, 1])[:3]]


def _pixels(data: Dataset, stored: np.ndarray) -> None:
    data.Rows, data.Columns = stored.shape[-2:]
    data.BitsAllocated = data.BitsStored = 8 * stored.dtype.itemsize
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(stored.dtype.kind == "i")
    data.PixelData = stored.tobytes()


def save(data: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> None:
    """Write a data set in a transfer syntax: natively, by pydicom's RLE, or by GDCM."""
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        data.file_meta.TransferSyntaxUID = syntax
    elif syntax == ExplicitVRBigEndian:
        data.file_meta.TransferSyntaxUID = syntax
        data.PixelData = np.frombuffer(data.PixelData, f"u{data.BitsAllocated // 8}").byteswap().tobytes()
    elif syntax == RLELossless:
        data.compress(RLELossless)
    if "PixelData" in data:
        data["PixelData"].VR = "OW"
    data.save_as(path, enforce_file_format=True)
    if data.file_meta.TransferSyntaxUID != syntax:
        _transcode(path, syntax)


def _transcode(path: Path, syntax: str) -> None:
    """Compress a file, by GDCM; without it the test is skipped."""
    import pytest

    gdcm = pytest.importorskip("gdcm", reason="python-gdcm writes the compressed series of the tests")
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(syntax))))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    assert pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID == syntax
