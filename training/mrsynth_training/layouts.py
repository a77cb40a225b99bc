"""File names of the layouts that T1 and T2 come in: BraTS 2017 to 2023, BIDS, and plain folders."""

from __future__ import annotations

import re
from dataclasses import dataclass

ENDINGS = (".nii.gz", ".nii")
# What the word at the end of a file's name means. "": known, but not needed.
ROLES = {
    "t1": "t1",
    "t1n": "t1",  # BraTS 2023: native
    "t2": "t2",
    "t2w": "t2",
    "seg": "segmentation",
    "segm": "segmentation",  # BraTS20_Training_355 has a W39_1998.09.19_Segm.nii
    "lesion": "lesion",
    "brain": "brain",
    "t1ce": "",
    "t1c": "",
    "flair": "",
    "t2f": "",
}
NAME = re.compile(rf"(?:(?P<stem>.+)[_-])?(?P<what>{'|'.join(ROLES)})", re.IGNORECASE)
BIDS = re.compile(
    r"(?P<subject>sub-[A-Za-z0-9]+)(?:_(?P<session>ses-[A-Za-z0-9]+))?(?P<entities>(?:_[a-z]+-[A-Za-z0-9]+)*)"
    r"_(?P<what>T1w|T2w)"
)
OF_BRATS = (
    (re.compile(r"Brats(1[789])_", re.IGNORECASE), "BraTS 20{}"),
    (re.compile(r"BraTS(20)_"), "BraTS 20{}"),
    (re.compile(r"BraTS2021_"), "BraTS 2021"),
    (re.compile(r"BraTS-[A-Z]+-\d{5}-\d{3}"), "BraTS 2023"),
)
VISIT_OF_2018 = re.compile(r"(Brats1[789]_.+)_\d+", re.IGNORECASE)
VISIT_OF_2023 = re.compile(r"(BraTS-[A-Z]+-\d{5})-\d{3}")
SITE_OF_2018 = re.compile(r"Brats1[789]_([A-Za-z0-9]+)_", re.IGNORECASE)


@dataclass(frozen=True)
class Name:
    """What a file's name says.

    `stem`: of which study, "" where the name does not say; `role`: "t1", "t2", "segmentation", "lesion", "brain" or ""
    (another contrast); `what`: the word it was known by; `session` and `bids`: only of BIDS files.
    """

    stem: str
    role: str
    what: str
    session: str = ""
    bids: bool = False


def parse(file: str) -> Name | None:
    """Read the name of a NIfTI file; None where it is of no layout, or is a T1 with contrast agent in BIDS."""
    ending = next((e for e in ENDINGS if file.lower().endswith(e)), None)
    if ending is None:
        return None
    name = file[: -len(ending)]
    if found := BIDS.fullmatch(name):
        if "_ce-" in found["entities"] or "_part-phase" in found["entities"]:
            return None
        study = "_".join(filter(None, (found["subject"], found["session"])))
        return Name(study, found["what"][:2].lower(), found["what"], found["session"] or "", True)
    if found := NAME.fullmatch(name):
        what = found["what"].lower()
        return Name(found["stem"] or "", ROLES[what], what)
    return None


def layout(subject: str, *, bids: bool, stem: str) -> str:
    """Name of the layout, for the report."""
    if bids:
        return "BIDS"
    for pattern, title in OF_BRATS:
        if found := pattern.match(subject):
            return title.format(*found.groups())
    return "names as in BraTS" if stem else "plain folders"


def patient(subject: str, others: set[str]) -> str:
    """Of whom a study is: visits of one person must stay on one side of a split.

    BraTS 2017 to 2019 and 2023 number the visits at the end of the name, and BIDS names sessions.  Elsewhere "X_1" and
    "X_2" are of "X" where both exist.

    Parameters
    ----------
    subject : str
    others : set of str
        All studies' names.
    """
    for pattern in (VISIT_OF_2018, VISIT_OF_2023):
        if found := pattern.fullmatch(subject):
            return found[1]
    if subject.startswith("sub-"):
        return subject.partition("_ses-")[0]
    stem, _, visit = subject.rpartition("_")
    if not (visit.isdigit() and len(visit) < 3):
        return subject
    siblings = [n for n in others if n.rpartition("_")[0] == stem and n.rpartition("_")[2].isdigit()]
    return stem if len(siblings) > 1 else subject


def site(subject: str) -> str:
    """Where BraTS 2017 to 2019 say a study was acquired ("CBICA", "TCIA01", ...); "" elsewhere."""
    found = SITE_OF_2018.match(subject)
    return found[1] if found else ""
