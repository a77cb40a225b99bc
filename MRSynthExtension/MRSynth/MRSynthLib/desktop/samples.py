"""The sample data: a computed brain in T1 and T2, part of the extension, so that trying it needs no network."""

from __future__ import annotations

import hashlib
from pathlib import Path

import slicer

from MRSynthLib.engine.errors import InputError

RESOURCES = Path(__file__).resolve().parents[2] / "Resources"
NAMES = {"t1": "MRSynthPhantom_T1", "t2": "MRSynthPhantom_T2"}
CATEGORY = "MRSynth"


def path(contrast: str) -> Path:
    """Return the file of a contrast, "t1" or "t2"."""
    return RESOURCES / "SampleData" / f"{NAMES[contrast]}.nrrd"


def register() -> None:
    """Offer both volumes in 3D Slicer's Sample Data module, which copies them from here as if it downloaded them.

    A volume whose file is missing is left out. Registering again changes nothing.
    """
    import SampleData  # 3D Slicer's, and not there before the application has started

    for contrast, name in NAMES.items():
        file = path(contrast)
        if not file.is_file():
            continue
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=name,
            uris=file.as_uri(),
            fileNames=file.name,
            nodeNames=name,
            # The copy of an older version in Slicer's cache is replaced, because its checksum is another.
            checksums=f"SHA256:{hashlib.sha256(file.read_bytes()).hexdigest()}",
            thumbnailFileName=str(RESOURCES / "Icons" / f"{name}.png"),
        )


def load(contrast: str) -> slicer.vtkMRMLScalarVolumeNode:
    """Load a volume of the sample data into the scene.

    Parameters
    ----------
    contrast : {"t1", "t2"}

    Returns
    -------
    vtkMRMLScalarVolumeNode
        With a display node, and without a storage node: it is not saved over the file of the extension.

    Raises
    ------
    InputError
        "input-not-found" or "input-corrupt" where the extension is damaged; the scene is then as it was.
    """
    file = path(contrast)
    if not file.is_file():
        raise InputError(
            "input-not-found", f"'{file}' is missing.", "the sample data of the extension.", "Install MRSynth again."
        )
    node = slicer.vtkMRMLScalarVolumeNode()
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(file))
    storage.SetSingleFile(True)
    if not storage.ReadData(node):
        raise InputError(
            "input-corrupt", f"'{file}' cannot be read.", "the sample data of the extension.", "Install MRSynth again."
        )
    node.SetName(slicer.mrmlScene.GenerateUniqueName(NAMES[contrast]))
    slicer.mrmlScene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    return node
