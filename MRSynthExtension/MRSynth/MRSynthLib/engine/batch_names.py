"""What names of files and folders tell: T1, T2 or neither, and which of them belong to one examination."""

from __future__ import annotations

import re

# A word is what stands between separators, or between a letter and a digit where a capital begins a new one.
_WORD = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z])(?=[A-Z])")
_T1 = {
    "t1",
    "t1w",
    "t1n",
    "t1wi",
    "t1weighted",
    "mprage",
    "mpr",
    "mp2rage",
    "spgr",
    "fspgr",
    "bravo",
    "tfe",
    "ir-fspgr",
}
_T2 = {"t2", "t2w", "t2wi", "t2weighted"}
_OTHER = {
    *("flair", "t2f", "t1c", "t1ce", "t1gd", "t1post", "t1wce", "t1wc", "t1contrast", "gd", "gado", "gadolinium"),
    *("ce", "contrast", "postcontrast", "post", "kontrast", "pd", "pdw", "dwi", "dti", "adc", "fa", "md", "bold"),
    *(
        "fmri",
        "func",
        "asl",
        "swi",
        "t2star",
        "t2starw",
        "t2s",
        "tof",
        "mra",
        "angio",
        "phase",
        "magnitude",
        "fieldmap",
    ),
    *("perf", "dsc", "dce", "ktrans", "mip", "loc", "localizer", "localiser", "scout", "survey", "ct", "pet", "epi"),
    *("seg", "segmentation", "label", "labels", "mask", "brainmask", "lesion", "lesions", "roi", "aseg", "aparc"),
    *("t1map", "t2map", "inv1", "inv2", "uni", "defacemask", "warp", "deformation", "synthetic"),
}
# Words that tell how a volume was acquired or prepared, but not whose it is.
_INCIDENTAL = {
    *(
        "tse",
        "fse",
        "frfse",
        "space",
        "cube",
        "vista",
        "se",
        "ge",
        "gre",
        "flash",
        "vibe",
        "ir",
        "mr",
        "mri",
        "iso",
        "3d",
    ),
    *("2d", "tra", "ax", "axial", "cor", "coronal", "sag", "sagittal", "brain", "head", "anat", "image", "images"),
    *(
        "nifti",
        "nii",
        "scan",
        "scans",
        "series",
        "weighted",
        "1mm",
        "defaced",
        "n4",
        "bet",
        "stripped",
        "skullstripped",
    ),
}


def words(name: str) -> list[str]:
    """The words of a name, in lower case."""
    return [word for word in _joined(_WORD.split(name)) if word]


def _joined(parts: list[str]) -> list[str]:
    """Parts in lower case, with "T1 weighted", "T2 star" and "T1 map" as one word."""
    found: list[str] = []
    for part in (part.lower() for part in parts if part):
        if found and found[-1] in ("t1", "t2") and part in ("weighted", "star", "map"):
            found[-1] += part
        else:
            found.append(part)
    return found


def contrast_of(parts: tuple[str, ...]) -> tuple[str | None, bool]:
    """What a volume is by its path.

    Parameters
    ----------
    parts : tuple of str
        Names of folders, outermost first, and of the file without its ending.

    Returns
    -------
    contrast : {'t1', 't2'} or None
        The innermost name that tells counts.
    other : bool
        Whether the names say that it is something else, or a T1 with contrast agent.
    """
    for name in reversed(parts):
        found = set(words(name))
        if found & _OTHER:
            return None, True
        t1, t2 = bool(found & _T1), bool(found & _T2)
        if t1 != t2:
            return ("t1" if t1 else "t2"), False
    return None, False


def without_contrast(name: str, *, incidental: bool = False) -> str:
    """A name without the words that tell the contrast (and, if wanted, how it was acquired).

    It may be empty. A name without such words comes back as it is, so that two people never become one.
    """
    kept = _DROPPED[incidental].sub("", name)
    return kept.strip(" ._-") if kept != name else name


_DROPPED = {
    incidental: re.compile(rf"(?:^|[\W_]+)(?:{'|'.join(sorted(words))})(?=$|[\W_])", re.IGNORECASE)
    for incidental, words in ((False, _T1 | _T2), (True, _T1 | _T2 | _INCIDENTAL))
}
