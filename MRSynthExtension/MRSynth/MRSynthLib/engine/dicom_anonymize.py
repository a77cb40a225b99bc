"""De-identification by the basic application level confidentiality profile (PS3.15 annex E), by dicom-anonymizer.

The package knows the profile's table. What MRSynth itself wrote into the image about how it was made names nobody and
is kept, cleaned of the source's words (the profile's "clean descriptors" option); references get the new UIDs.
"""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset

from .. import __version__
from .dicom_derive import coded, copied
from .dicom_files import optional

PROFILE = "dicomfields_2026c"  # the edition of the standard that the table is from
# Written by MRSynth, without any word of the source.
OURS = (
    "SeriesDescription",
    "DerivationDescription",
    "ImageComments",
    "SoftwareVersions",
    "ContributingEquipmentSequence",
    "SourceImageSequence",
    "ReferencedSeriesSequence",
)
EMPTIED = ("StudyDate", "StudyTime", "PatientBirthDate")  # must be there; other dates and times go altogether
METHOD = ("Basic profile of DICOM PS3.15, clean descriptors option", f"MRSynth {__version__}, dicom-anonymizer")


def anonymize(image: Dataset) -> Dataset:
    """Take out of a derived image what identifies the patient, the study and the place; changes it and returns it.

    UIDs are replaced by new ones, the same for the same within this process. The patient gets a random name, so that
    two patients stay two. Faces are not removed from the voxels.

    Raises
    ------
    InstallError
        dicom-package.
    """
    library = optional("dicomanonymizer.simpledicomanonymizer", "dicom-anonymizer", "to anonymize")
    ours = Dataset()
    for keyword in OURS:
        ours[keyword] = image[keyword]
    ours = copied(ours)  # the package empties what is in sequences
    before = image.get("DeidentificationMethod") or []
    patient = f"{image.get('PatientID', '')}\\{image.get('PatientName', '')}"
    library.anonymize_dataset(image, base_rules_gen=lambda: library.initialize_actions(PROFILE))
    for element in [element for element in image if element.VR in ("DA", "TM", "DT")]:
        # The package writes the year 1 where the profile wants nothing.
        if element.keyword in EMPTIED:
            element.value = ""
        else:
            del image[element.tag]
    image.update(ours)
    for sequence in (image.SourceImageSequence, image.ReferencedSeriesSequence):
        _renew(sequence[0], library)
    del image.ContributingEquipmentSequence[0].ContributionDateTime
    image.PatientID = library.get_UID(patient)[-12:]
    image.PatientName = f"Anonymous^{image.PatientID}"
    image.PatientIdentityRemoved = "YES"
    image.DeidentificationMethod = [*([before] if isinstance(before, str) else before), *METHOD]
    image.DeidentificationMethodCodeSequence = [
        coded("113100", "Basic Application Confidentiality Profile"),
        coded("113105", "Clean Descriptors Option"),
    ]
    image.LongitudinalTemporalInformationModified = "REMOVED"
    return image


def _renew(item: Dataset, library: Any) -> None:
    """Replace the UIDs of instances and series in a reference, not those of the standard."""
    for element in item:
        if element.VR == "SQ":
            for inner in element.value:
                _renew(inner, library)
        elif element.keyword in ("ReferencedSOPInstanceUID", "SeriesInstanceUID"):
            element.value = library.get_UID(element.value)
