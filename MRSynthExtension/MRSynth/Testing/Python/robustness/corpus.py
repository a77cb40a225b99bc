"""All broken inputs, in one order."""

from __future__ import annotations

import functools

from . import dicom_cases, itk_cases, nifti_cases, place_cases
from .case import Case


@functools.cache
def corpus() -> tuple[Case, ...]:
    """Every case; their names are different."""
    found = tuple(case for source in (nifti_cases, itk_cases, dicom_cases, place_cases) for case in source.cases())
    assert len({case.name for case in found}) == len(found)
    return found
