"""What a series is, by its tags: T1, T2, or something that no synthesis should start from, and why not.

The rules are for picking without being asked. They err towards leaving a series alone: whoever names a series gets it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from .screening_contrast import contrast_of_tags

HEAD = {"", "BRAIN", "HEAD", "SKULL", "HEADNECK", "HEAD NECK", "NECK", "CEREBRUM", "WHOLEBODY"}
NO_AGENT = {"", "NO", "NONE", "N", "WITHOUT", "NATIVE", "0"}

# Words in ImageType, and what they say.
IMAGE_TYPES = {
    "LOCALIZER": "a localiser",
    "SCOUT": "a localiser",
    "MOSAIC": "a Siemens mosaic",
    "MIP": "a projection",
    "MINIP": "a projection",
    "MAX_IP": "a projection",
    "MIN_IP": "a projection",
    "PROJECTION IMAGE": "a projection",
    "MPR": "a reformatted series",
    "CPR": "a reformatted series",
    "RESAMPLED": "a reformatted series",
    "REFORMATTED": "a reformatted series",
    "SUBTRACTION": "a subtraction",
    "SUB": "a subtraction",
    "PHASE": "a phase image",
    "PHASE MAP": "a phase image",
    "P": "a phase image",
    "R": "a real-part image",
    "REAL": "a real-part image",
    "I": "an imaginary-part image",
    "IMAGINARY": "an imaginary-part image",
    "ADC": "a diffusion series",
    "DIFFUSION": "a diffusion series",
    "TRACEW": "a diffusion series",
    "FA": "a diffusion series",
    "PERFUSION": "a perfusion series",
    "SCREEN SAVE": "a screen shot",
    "T1 MAP": "a map",
    "T2 MAP": "a map",
    "B0 MAP": "a map",
    "SPECTROSCOPY": "spectroscopy",
}
# Words in the descriptions, tried in this order. A word is bounded by anything that is no letter.
DESCRIPTIONS = {
    r"loc|locali[sz]er|scout|survey|3 ?plane|aahead": "a localiser",
    r"mip|minip|projection": "a projection",
    r"sub|subtraction": "a subtraction",
    r"dwi|dti|diff|diffusion|adc|tracew?|hardi|noddi": "a diffusion series",
    r"swi|swan|suscept\w*|hemo|t2 ?(star|\*)|venobold|qsm|medic|merge": "a susceptibility series",
    r"tof|angio\w*|mra|mrv|pca|venography": "an angiography",
    r"perf|perfusion|asl|dsc|dce|cbf|cbv|mtt|pcasl|pasl": "a perfusion series",
    r"bold|fmri|epi": "a functional series",
    r"field ?map\w*|calib\w*|asset": "a calibration",
    r"spectro\w*|svs|csi|mrs": "spectroscopy",
    r"stir": "a STIR series",
}
AGENT = r"gd|gad\w*|ce|k\.?m|[ck]ontrast\w*|dotarem|multihance|prohance|omniscan|magnevist|clariscan|elucirem"
POST_CONTRAST = rf"{AGENT}|post|postcontrast|post ?k\.?m|c\+|t1w?ce?"
PLUS_AGENT = rf"\+ ?(?:c|{AGENT})"  # also right after a letter: "FS+C"
WITH_AND_WITHOUT = r"w(?:ith)? ?(?:/|&|\+|and)? ?w(?:ithout|/?o)|mit (?:und|/) ohne"
# "no" and "without" also say that fat is not suppressed: they count before an agent only.
BEFORE = r"pre|native?|vor"
WITHOUT_AGENT = rf"(?:{BEFORE}|non?|without|w/?o|ohne)[ -]*(?:iv |i\.v\. ?)?(?:{AGENT})"


@dataclass(frozen=True)
class Kind:
    """What a series is.

    Attributes
    ----------
    name : str
        For the list: "T1", "T2", "FLAIR", "a localiser", "MR", "CT", ...
    contrast : {'t1', 't2'} or None
        None where the tags do not tell.
    objection : str
        Why it is not picked without being asked for; "" where nothing speaks against it.
    """

    name: str
    contrast: str | None = None
    objection: str = ""


def kind_of(tags: Mapping[str, str]) -> Kind:
    """Tell what a series is.

    Parameters
    ----------
    tags : mapping
        Acquisition tags by DICOM keyword.
    """
    modality = tags.get("Modality", "") or "no modality"
    if modality != "MR":
        return Kind(modality, None, f"{modality}, not MR")
    text = _text(tags)
    if tags.get("SyntheticData") == "YES" or text.startswith("synthetic"):
        return Kind("synthetic", None, "synthetic, not acquired")
    found = _by_image_type(tags) or _by_description(text) or _by_sequence(tags)
    if found:
        return Kind(found.removeprefix("a ").removeprefix("an "), None, found)
    name, contrast = _contrast(tags, text)
    return Kind(name, contrast, _objection(tags, name, contrast, text))


def _text(tags: Mapping[str, str]) -> str:
    """The descriptions in lower case; once more with a space where a capital begins a word, if any does."""
    text = f"{tags.get('SeriesDescription', '')}; {tags.get('ProtocolName', '')}".replace("_", " ")
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    return (text if apart == text else f"{text}; {apart}").lower()


def _by_image_type(tags: Mapping[str, str]) -> str:
    values = [value.strip().upper() for value in tags.get("ImageType", "").split("\\")]
    return next((IMAGE_TYPES[value] for value in values[2:] if value in IMAGE_TYPES), "")


def _by_description(text: str) -> str:
    return next((what for words, what in DESCRIPTIONS.items() if _has(words, text)), "")


def _by_sequence(tags: Mapping[str, str]) -> str:
    sequence = tags.get("ScanningSequence", "").upper().split("\\")
    if "EP" in sequence:
        return "an echo-planar series"
    if sequence == ["GR"] and _number(tags, "EchoTime") > 12:
        return "a susceptibility series"
    return ""


def _contrast(tags: Mapping[str, str], text: str) -> tuple[str, str | None]:
    """Name and contrast, by the timing and by the words, where these do not contradict each other."""
    echo, repetition, inversion = (_number(tags, name) for name in ("EchoTime", "RepetitionTime", "InversionTime"))
    said_t1, said_t2 = _has(r"t1\w*|mp2?rage|spgr|bravo|tfl|vibe|flash|fspgr", text), _has(r"t2\w*", text)
    if (_has(r"flair|dark ?fluid|tirm", text) and not said_t1) or (inversion > 1500 and echo > 60):
        return "FLAIR", None
    proton_timing = (
        0 < echo < 40 and repetition >= 2000 and not inversion and "GR" not in tags.get("ScanningSequence", "")
    )
    if not said_t1 and (proton_timing or (_has(r"pdw?|proton", text) and not said_t2)):
        return "PD", None
    timing = contrast_of_tags(tags)
    words = "t1" if said_t1 and not said_t2 else "t2" if said_t2 and not said_t1 else None
    if timing and words and timing.name != words:
        return "MR", None
    contrast = timing.name if timing else words
    return (contrast.upper() if contrast else "MR"), contrast


def _objection(tags: Mapping[str, str], name: str, contrast: str | None, text: str) -> str:
    if contrast is None and name != "MR":
        return f"{name}, neither T1 nor T2"
    agent = tags.get("ContrastBolusAgent", "").strip()
    if agent.upper() not in NO_AGENT:
        return f"after a contrast agent ({agent})"
    if _says_agent(text):
        return "after a contrast agent, going by its description"
    values = [value.strip().upper() for value in tags.get("ImageType", "").split("\\")]
    if values[0] == "DERIVED" or values[1:2] == ["SECONDARY"]:
        return "derived, not as acquired"
    part = tags.get("BodyPartExamined", "").strip().upper()
    return "" if part in HEAD else f"body part {part}, not a head"


def _says_agent(text: str) -> bool:
    """Whether a description is that of a series after a contrast agent."""
    if _has(WITH_AND_WITHOUT, text):
        return True
    text = re.sub(_word(WITHOUT_AGENT), "", text)
    if re.search(rf"{PLUS_AGENT}(?![a-z])", text):
        return True
    found = re.findall(_word(POST_CONTRAST), text)
    # "T1 contrast pre"; beside any other word, "pre" is one of two things that were done.
    return bool(found) and not (_has(BEFORE, text) and all(word.startswith(("contrast", "kontrast")) for word in found))


def _has(words: str, text: str) -> bool:
    return re.search(_word(words), text) is not None


def _word(words: str) -> str:
    return rf"(?<![a-z])(?:{words})(?![a-z])"


def _number(tags: Mapping[str, str], keyword: str) -> float:
    """The number of a tag, 0 where there is none."""
    try:
        return float(tags.get(keyword, "0"))
    except ValueError:
        return 0.0
