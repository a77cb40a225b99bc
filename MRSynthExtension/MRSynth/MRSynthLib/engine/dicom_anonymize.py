"""De-identification by the basic application level confidentiality profile (PS3.15 annex E), by dicom-anonymizer.

The package knows the profile's table. What MRSynth itself wrote into the image about how it was made names nobody and
is kept, cleaned of the source's words (the profile's "clean descriptors" option); references get the new UIDs.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import uuid

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
KEY = secrets.token_bytes(32)  # of this process
METHOD = ("Basic profile of DICOM PS3.15, clean descriptors option", f"MRSynth {__version__}, dicom-anonymizer")


def anonymize(image: Dataset, key: bytes | None = None) -> Dataset:
    """Take out of a derived image what identifies the patient, the study and the place; changes it and returns it.

    UIDs are replaced by new ones, the same for the same under one key; so is the name of the patient, so that two
    patients stay two, and one stays one. Faces are not removed from the voxels.

    Parameters
    ----------
    image : Dataset
    key : bytes, optional
        Random, and kept nowhere: who has it can tell whether an image is of a certain patient. By default that of this
        process.

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
    new = _Pseudonyms(KEY if key is None else key)
    patient = new.uid(f"{image.get('PatientID', '')}\\{image.get('PatientName', '')}")[-12:]
    rules = library.initialize_actions(PROFILE).items()
    # The package's own UIDs are random, and differ from process to process.
    rules = {tag: new.replace if rule is library.replace_UID else rule for tag, rule in rules}
    library.anonymize_dataset(image, base_rules_gen=lambda: rules)
    for element in [element for element in image if element.VR in ("DA", "TM", "DT")]:
        # The package writes the year 1 where the profile wants nothing.
        if element.keyword in EMPTIED:
            element.value = ""
        else:
            del image[element.tag]
    image.update(ours)
    for sequence in (image.SourceImageSequence, image.ReferencedSeriesSequence):
        _renew(sequence[0], new)
    del image.ContributingEquipmentSequence[0].ContributionDateTime
    image.PatientID, image.PatientName = patient, f"Anonymous^{patient}"
    image.PositionReferenceIndicator = ""  # free text, which the profile does not know
    image.PatientIdentityRemoved = "YES"
    image.DeidentificationMethod = list(METHOD)
    image.DeidentificationMethodCodeSequence = [
        coded("113100", "Basic Application Confidentiality Profile"),
        coded("113105", "Clean Descriptors Option"),
    ]
    image.LongitudinalTemporalInformationModified = "REMOVED"
    return image


class _Pseudonyms:
    """Names that tell nothing without the key, and are the same for the same with it."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def uid(self, old: str) -> str:
        """A new UID for an old one, of the kind that is made from a UUID (PS3.5 B.2)."""
        digest = hmac.new(self._key, str(old).encode("utf-8", "backslashreplace"), hashlib.sha256).digest()
        return f"2.25.{uuid.UUID(bytes=digest[:16], version=4).int}"

    def replace(self, dataset: Dataset, tag: tuple[int, int]) -> None:
        """Give the element new UIDs; a rule of the package."""
        element = dataset.get(tag)
        if element is not None and element.VM:
            values = [self.uid(old) for old in (element.value if element.VM > 1 else [element.value])]
            element.value = values if element.VM > 1 else values[0]


def _renew(item: Dataset, new: _Pseudonyms) -> None:
    """Replace the UIDs of instances and series in a reference, not those of the standard."""
    for element in item:
        if element.VR == "SQ":
            for inner in element.value:
                _renew(inner, new)
        elif element.keyword in ("ReferencedSOPInstanceUID", "SeriesInstanceUID"):
            element.value = new.uid(element.value)
