"""A result as a DICOM series in its source's study; 3D Slicer's own export would call it acquired."""

from __future__ import annotations

import os
from pathlib import Path

import slicer

from MRSynthLib.engine.errors import OutputError
from MRSynthLib.engine.provenance import MAPS

from .mrml import volume_from_node
from .results import DIRECTION, SOURCE_ROLE, is_result
from .trust import WINDOW, map_of
from .words import _


def source_files(result: slicer.vtkMRMLScalarVolumeNode, most: int | None = None) -> list[str]:
    """Return the DICOM files that the source of a result was loaded from, by the DICOM database; [] where none are.

    Parameters
    ----------
    most : int, optional
        Ask only for so many of its instances.
    """
    source = result.GetNodeReference(SOURCE_ROLE)
    database = getattr(slicer, "dicomDatabase", None)
    if source is None or database is None:
        return []
    instances = (source.GetAttribute("DICOM.instanceUIDs") or "").split()[:most]
    return [file for file in (database.fileForInstance(instance) for instance in instances) if file]


def possible(result: slicer.vtkMRMLScalarVolumeNode | None) -> bool:
    """Whether a node is a result with a source from DICOM, by its first instance: the panel asks at every change."""
    return result is not None and is_result(result) and bool(source_files(result, most=1))


def export(result: slicer.vtkMRMLScalarVolumeNode, folder: str | os.PathLike[str], anonymous: bool = False) -> Path:
    """Write a result, and its expected error if there is one, as DERIVED series: an image for each slice of its source.

    Parameters
    ----------
    result : vtkMRMLScalarVolumeNode
        Made by MRSynth from a volume that was loaded from DICOM.
    folder : path
        Empty, or not there yet.
    anonymous : bool
        Take out what identifies the patient.

    Returns
    -------
    Path
        The folder of the synthetic volume's series; that of the map lies beside it.

    Raises
    ------
    InputError, OutputError
        dicom-no-source, and as `MRSynthLib.engine.dicom.export_series`; nothing has been written then.
    """
    if not is_result(result):
        seen = _("'{name}' is no synthetic volume.").format(name=result.GetName())
        raise OutputError("dicom-no-source", seen, _("a result of MRSynth."), _("Choose the synthetic volume."))
    files = source_files(result)
    direction = result.GetAttribute(DIRECTION).lower().split(" to ")
    if not files or len(direction) != 2:
        seen = _("The source of '{name}' was not loaded from DICOM.").format(name=result.GetName())
        raise OutputError("dicom-no-source", seen, _("a result whose source is in the DICOM database."))
    from MRSynthLib.engine import dicom

    model, sha256 = (result.GetAttribute(f"MRSynth.{name}") or "" for name in ("Model", "ModelSHA256"))
    derivation = dicom.Derivation(direction[0], direction[1], model, sha256)
    reliability = map_of(result)
    maps = [] if reliability is None else [(volume_from_node(reliability), MAPS["reliability"], float(WINDOW))]
    return dicom.export_series(volume_from_node(result), files, folder, derivation, maps=maps, anonymous=anonymous)[0]
