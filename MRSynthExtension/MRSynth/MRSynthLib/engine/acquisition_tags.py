"""The DICOM tags that tell how a series was acquired, by the names under which `Volume.metadata` holds them."""

from __future__ import annotations

DICOM_TAGS = {  # group and element, hexadecimal
    "0018|0081": "EchoTime",
    "0018|0080": "RepetitionTime",
    "0018|0082": "InversionTime",
    "0018|0020": "ScanningSequence",
    "0018|0024": "SequenceName",
    "0018|0010": "ContrastBolusAgent",
    "0018|0015": "BodyPartExamined",
    "0008|103e": "SeriesDescription",
    "0008|0008": "ImageType",
    "0008|0060": "Modality",
}
