"""How a volume was acquired, by the DICOM files that it was loaded from."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import slicer

from MRSynthLib.engine.acquisition_tags import DICOM_TAGS
from MRSynthLib.engine.volume import Volume


def acquisition_tags(node: slicer.vtkMRMLNode) -> dict[str, str]:
    """Return what the DICOM database knows of a node's first instance.

    Parameters
    ----------
    node : vtkMRMLNode
        Loaded from DICOM or not.

    Returns
    -------
    dict
        Values by DICOM keyword ("EchoTime" in ms, ...), without those that are not there. Empty for a node that was
        not loaded from DICOM, without a database (slicer-core), and where the file is gone. Never raises for these.
    """
    instances = (node.GetAttribute("DICOM.instanceUIDs") or "").split()
    database = getattr(slicer, "dicomDatabase", None)
    if not instances or database is None:
        return {}
    try:
        file = database.fileForInstance(instances[0])
        if not file or not Path(file).is_file():
            return {}
        # The database writes tags as "0018,0081".
        values = {keyword: database.fileValue(file, tag.replace("|", ",")) for tag, keyword in DICOM_TAGS.items()}
    except Exception:  # a database that is closed, locked or of another version must not stop a run
        logging.debug("MRSynth: the DICOM database cannot be read", exc_info=True)
        return {}
    return {keyword: value.strip() for keyword, value in values.items() if value and value.strip()}


def tagged(volume: Volume, node: slicer.vtkMRMLNode) -> Volume:
    """Return a volume that was read from `node`, with the node's acquisition tags."""
    return replace(volume, metadata={**volume.metadata, **acquisition_tags(node)})
