"""One derived image: the data set of a synthetic slice, made from the header of the slice that it was computed from.

Patient, study and place come from the source, by a list; what the scanner did there is not copied, because the
synthetic image was not acquired that way. Nothing here touches files.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage, generate_uid

from .. import __version__
from .dicom_files import text
from .dicom_frames import FrameHeader
from .intensity import SCALE
from .provenance import DISCLAIMER, weighting

if TYPE_CHECKING:
    from .synthesis_result import SynthesisResult

SOFTWARE = "MRSynth"
SYNTHETIC = "SYNTHETIC"
LONG_STRING, SHORT_TEXT = 64, 1024  # characters of the value representations LO and ST

# What identifies patient and study, and where the images lie: copied as it is.
IDENTITY = (
    "SpecificCharacterSet",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "PatientBirthDate",
    "PatientBirthTime",
    "PatientSex",
    "OtherPatientIDsSequence",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "IssuerOfAccessionNumberSequence",
    "ReferringPhysicianName",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
)
PLACE = ("FrameOfReferenceUID", "PositionReferenceIndicator", "PatientPosition", "BodyPartExamined")
PLANE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SliceLocation")
LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
# Must be there, though they may be empty (type 2).
EMPTY_AT_LEAST = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PositionReferenceIndicator",
    "PatientPosition",
    "SliceThickness",
)
# Of the acquisition; required, but what was computed has none. RM: "research mode", for what is no known sequence.
NOT_ACQUIRED = {
    "ScanningSequence": "RM",
    "SequenceVariant": "NONE",
    "ScanOptions": "",
    "MRAcquisitionType": "",
    "RepetitionTime": None,
    "EchoTime": None,
    "EchoTrainLength": None,
}


@dataclass(frozen=True)
class Derivation:
    """What was computed from what, by which model.

    Parameters
    ----------
    source_contrast, target_contrast : {'t1', 't2'}
    model, model_sha256 : str
        Name and SHA-256 of the checkpoint.
    """

    source_contrast: str
    target_contrast: str
    model: str
    model_sha256: str

    @classmethod
    def of(cls, result: SynthesisResult) -> Derivation:
        """The derivation of a run."""
        return cls(result.source_contrast, result.target_contrast, result.checkpoint_name, result.checkpoint_sha256)

    @property
    def title(self) -> str:
        """Begins every series description: "SYNTHETIC T2w from T1w"."""
        return f"{SYNTHETIC} {weighting(self.target_contrast)} from {weighting(self.source_contrast)}"


@dataclass(frozen=True)
class DerivedSeries:
    """What all images of a derived series share.

    Attributes
    ----------
    derivation : Derivation
    title : str
        Series description; begins with SYNTHETIC.
    what : str
        What the voxels are, for the derivation description.
    window : float
        Shown are values from 0 to this.
    number : int
    source_uid : str
        SeriesInstanceUID of the source.
    frame_of_reference : str
        For a source that has none.
    made : datetime
    uid : str
        SeriesInstanceUID; new.
    """

    derivation: Derivation
    title: str
    what: str
    window: float
    number: int
    source_uid: str
    frame_of_reference: str
    made: datetime
    uid: str


def derived_image(
    series: DerivedSeries, source: FrameHeader, voxels: NDArray[np.int16], instance: int, step: float
) -> Dataset:
    """Return one image of a derived series.

    Parameters
    ----------
    series : DerivedSeries
    source : FrameHeader
        Of the slice that lies in the same place.
    voxels : ndarray of int16, shape (rows, columns)
    instance : int
        InstanceNumber.
    step : float
        Distance to the next slice along the normal, mm.
    """
    data = Dataset()
    for keyword in (*IDENTITY, *PLACE, *PLANE):
        _copy(source, keyword, data)
    if text(source.dataset, "LossyImageCompression") == "01":  # what was lost stays lost
        for keyword in LOSSY:
            _copy(source, keyword, data)
    for keyword in EMPTY_AT_LEAST:
        if keyword not in data:
            setattr(data, keyword, None)
    if not text(data, "FrameOfReferenceUID"):
        data.FrameOfReferenceUID = series.frame_of_reference
    if not text(data, "BodyPartExamined"):
        data.BodyPartExamined = "BRAIN"
    data.SpacingBetweenSlices = decimal(step)
    data.SOPClassUID, data.SOPInstanceUID = MRImageStorage, generate_uid(None)
    data.Modality, data.InstanceNumber = "MR", instance
    for keyword, value in NOT_ACQUIRED.items():
        setattr(data, keyword, value)
    _describe(data, series)
    _refer(data, series, source)
    _show(data, voxels, series.window)
    return data


def _copy(source: FrameHeader, keyword: str, data: Dataset) -> None:
    home, inner = source.home(keyword)
    if inner not in home:
        return
    try:
        element = home[inner]
        if element.VM:
            value = [copied(item) for item in element.value] if element.VR == "SQ" else _value(element)
            data[keyword] = DataElement(keyword, element.VR, value)
    except Exception:  # bytes that are not of their type: as if absent
        data.pop(keyword, None)


def copied(item: Dataset) -> Dataset:
    """The item of a sequence without private elements, freed from the encoding of its file."""
    copy = Dataset()
    for element in item:
        if not element.tag.is_private:
            value = [copied(inner) for inner in element.value] if element.VR == "SQ" else _value(element)
            copy[element.tag] = DataElement(element.tag, element.VR, value)
    return copy


def _value(element: DataElement) -> Any:
    """The value; decimals as they are written in the file, or shortened where that is longer than allowed."""
    if element.VR != "DS":
        return element.value
    values = element.value if element.VM > 1 else [element.value]
    written = [str(value) if len(str(value)) <= 16 else decimal(float(value)) for value in values]
    return written if element.VM > 1 else written[0]


def decimal(value: float) -> str:
    """A number in the 16 characters that DICOM has for a decimal, as exactly as these allow."""
    return next(text for digits in range(17, 0, -1) if len(text := f"{value:.{digits}g}") <= 16)


def _describe(data: Dataset, series: DerivedSeries) -> None:
    """What the series is, who made it, and what it must not be used for."""
    derivation, date, time = series.derivation, f"{series.made:%Y%m%d}", f"{series.made:%H%M%S}"
    model = derivation.model.encode("ascii", "replace").decode()
    data.SeriesInstanceUID, data.SeriesNumber = series.uid, series.number
    data.SeriesDescription = series.title[:LONG_STRING]
    data.ImageType = ["DERIVED", "SECONDARY", "OTHER", SYNTHETIC]
    data.BurnedInAnnotation = "NO"
    data.SeriesDate = data.ContentDate = data.InstanceCreationDate = date
    data.SeriesTime = data.ContentTime = data.InstanceCreationTime = time
    data.Manufacturer = data.ManufacturerModelName = SOFTWARE
    software = [f"{SOFTWARE} {__version__}", derivation.model_sha256, f"model {model}"[:LONG_STRING]]
    data.SoftwareVersions = software
    made = (
        f"{series.title}: {series.what} computed from the {weighting(derivation.source_contrast)} by {SOFTWARE} "
        f"{__version__}, model {model}, SHA-256 {derivation.model_sha256}. {DISCLAIMER}"
    )
    data.DerivationDescription = made[:SHORT_TEXT]
    data.ImageComments = DISCLAIMER
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = [coded("109102", "Processing Equipment")]
    equipment.Manufacturer = equipment.ManufacturerModelName = SOFTWARE
    equipment.SoftwareVersions = software
    equipment.ContributionDateTime = date + time
    equipment.ContributionDescription = made[:SHORT_TEXT]
    data.ContributingEquipmentSequence = [equipment]


def _refer(data: Dataset, series: DerivedSeries, source: FrameHeader) -> None:
    """Point to the image in the same place of the source."""
    image = Dataset()
    image.ReferencedSOPClassUID = source.text("SOPClassUID")
    image.ReferencedSOPInstanceUID = source.text("SOPInstanceUID")
    if source.groups:
        image.ReferencedFrameNumber = source.index + 1
    reference = copied(image)
    image.SpatialLocationsPreserved = "YES"
    image.PurposeOfReferenceCodeSequence = [coded("121322", "Source image for image processing operation")]
    data.SourceImageSequence = [image]
    referenced = Dataset()
    referenced.SeriesInstanceUID = series.source_uid
    referenced.ReferencedInstanceSequence = [reference]
    data.ReferencedSeriesSequence = [referenced]


def coded(value: str, meaning: str) -> Dataset:
    """A concept of the standard's own vocabulary (PS3.16 annex D), as the item of a code sequence."""
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
    return code


def _show(data: Dataset, voxels: NDArray[np.int16], window: float) -> None:
    data.Rows, data.Columns = voxels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 1
    data.WindowCenter, data.WindowWidth = decimal(window / 2), decimal(window)
    data.WindowCenterWidthExplanation = f"0 to {window:g}; {SCALE} is bright brain"
    data.add_new("PixelData", "OW", np.ascontiguousarray(voxels, "<i2").tobytes())
