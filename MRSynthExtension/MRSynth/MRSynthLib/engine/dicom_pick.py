"""Which series synthesis starts from: the one that is named, else the one that the rules leave."""

from __future__ import annotations

from collections.abc import Sequence

from . import screening
from .dicom_find import Series
from .dicom_pixels import load
from .errors import InputError
from .preparation import SURE, other

NAME_IT = "Name one with --series (see `mrsynth dicom list`)."


def pick(
    found: Sequence[Series], name: str | None = None, *, source: str = "auto", target: str | None = None
) -> tuple[Series, str]:
    """Pick the series to start from.

    Parameters
    ----------
    found : sequence of Series
        As `find_series` gives them; at least one.
    name : str, optional
        SeriesInstanceUID, SeriesNumber, or number and part ("4.2"). What is named is taken, whatever it is.
    source, target : str
        Contrast that the source has ('t1', 't2' or 'auto'), and that is wanted.

    Returns
    -------
    series : Series
    reason : str
        Why this one, for the user.

    Raises
    ------
    InputError
        dicom-series-unknown, dicom-several, dicom-unsuitable; what is wrong with the one named.
    """
    if name is not None:
        return _named(found, name), "as told"
    suitable = [series for series in found if not series.objection]
    if not suitable:
        raise _nothing(found)
    places = {(series.patient, series.study_uid) for series in suitable}
    if len(places) > 1:
        seen = f"The folder holds suitable series of {len(places)} examinations."
        raise InputError(
            "dicom-several", seen, "one examination, or the name of a series.", f"Give its folder. {NAME_IT}"
        )
    wanted = source if source != "auto" else other(target) if target else None
    fitting = _of_contrast(suitable, wanted)
    if not fitting:
        seen = f"No suitable series is {wanted.upper() if wanted else 'clearly T1 or T2'}. {_list(found)}"
        raise InputError("dicom-unsuitable", seen, "one.", NAME_IT)
    if len({contrast for _, contrast in fitting}) > 1:
        seen = f"Both T1 and T2 are there: nothing is missing. {_list([series for series, _ in fitting])}"
        raise InputError("dicom-several", seen, "the one to start from.", f"Say --from or --to. {NAME_IT}")
    best = min((series for series, _ in fitting), key=_rank)
    return best, f"{best.name}, " + (
        f"the finest of {len(fitting)} that fit" if len(fitting) > 1 else "the one that fits"
    )


def _named(found: Sequence[Series], name: str) -> Series:
    number = name.strip()
    fitting = [series for series in found if number in (series.uid, series.key)]
    if not fitting:  # all parts of a series by its number
        fitting = [series for series in found if number == str(series.number)]
    if not fitting:
        raise InputError("dicom-series-unknown", f"There is no series '{name}'. {_list(found)}", "one of these.")
    if len(fitting) > 1:
        seen = f"'{name}' names {len(fitting)} stacks: {'; '.join(f'{s.name}, {s.uid}' for s in fitting[:8])}."
        raise InputError("dicom-several", seen, "the name of one.", "Give number and part, as in 4.2, or the UID.")
    if fitting[0].problem is not None:
        raise fitting[0].problem
    return fitting[0]


def _of_contrast(suitable: Sequence[Series], wanted: str | None) -> list[tuple[Series, str | None]]:
    """Series and contrast: those whose tags say it; where none does, those whose image does."""
    told: list[tuple[Series, str | None]] = [
        (series, series.kind.contrast)
        for series in suitable
        if series.kind.contrast and wanted in (None, series.kind.contrast)
    ]
    untold = [series for series in suitable if series.kind.contrast is None]
    if told or not untold:
        return told
    if len(suitable) == 1 and wanted is None:
        return [(untold[0], None)]  # synthesis itself looks, and asks where it is not sure
    looked = [(series, _looks_like(series)) for series in untold]
    return [(series, contrast) for series, contrast in looked if contrast and wanted in (None, contrast)]


def _looks_like(series: Series) -> str | None:
    """T1 or T2 by the image itself; None where that is not clear."""
    try:
        seen = screening.screen(load(series))
    except InputError:
        return None
    return seen.contrast if seen.verdict != "refuse" and seen.confidence >= SURE else None


def _rank(series: Series) -> tuple[float, int, int]:
    """Finest voxels first (by the longest edge), then most slices, then the earliest number."""
    edge = max(series.spacing or (float("inf"),))
    return round(edge, 1), -len(series.frames), series.number or 0


def _nothing(found: Sequence[Series]) -> InputError:
    problems = [series.problem for series in found if series.problem is not None]
    if len(found) == 1 and problems:
        return problems[0]
    return InputError(
        "dicom-unsuitable", _list(found), "a T1 or T2 of the head, as acquired, without contrast agent.", NAME_IT
    )


def _list(found: Sequence[Series]) -> str:
    shown = [f"{series.name}: {series.objection or series.kind.name}" for series in found[:12]]
    more = f"; and {len(found) - 12} more" if len(found) > 12 else ""
    return f"Found {'; '.join(shown)}{more}."
