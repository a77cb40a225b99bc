"""A result survives being saved: .nrrd, .nii.gz and a scene bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("slicer")

import slicer
from mrml_scenes import (
    AFFINES,
    add_linear,
    add_volume,
    placed,
    rotation,
    synthesize,
)
from mrml_scenes import scene as scene

from MRSynthLib.desktop import mrml


# Slicer's own NIfTI storage cannot hold a shear.
@pytest.mark.parametrize(
    ("ending", "geometry"),
    [
        *((".nrrd", geometry) for geometry in AFFINES),
        *((".nii.gz", geometry) for geometry in AFFINES if geometry != "gantry tilt"),
    ],
)
def test_stored_result_is_read_back_at_the_same_place(scene: Any, tmp_path: Path, ending: str, geometry: str) -> None:
    result = synthesize(add_volume(scene, affine=AFFINES[geometry]))
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(tmp_path / f"result{ending}"))
    assert storage.WriteData(result)
    reading = slicer.vtkMRMLVolumeArchetypeStorageNode()
    reading.SetFileName(storage.GetFileName())
    again = slicer.vtkMRMLScalarVolumeNode()
    assert reading.ReadData(again)
    # NIfTI files reverse a left-handed array; what has to hold is that every value keeps its place.
    old, new = mrml.volume_from_node(result), mrml.volume_from_node(again)
    index_of_new = np.linalg.inv(new.ijk_to_ras) @ old.ijk_to_ras
    for k, j, i in np.ndindex(*old.shape):
        x, y, z = np.rint((index_of_new @ (i, j, k, 1))[:3]).astype(int)
        assert new.voxels[z, y, x] == old.voxels[k, j, i]
    np.testing.assert_allclose(index_of_new @ (3, 3, 3, 1), np.rint(index_of_new @ (3, 3, 3, 1)), atol=1e-3)


def test_scene_bundle_keeps_result_provenance_and_source(scene: Any, tmp_path: Path) -> None:
    source = add_volume(scene)
    parent = add_linear(scene, placed(rotation(30, 2)))
    source.SetAndObserveTransformNodeID(parent.GetID())
    result = synthesize(source)
    voxels = slicer.util.arrayFromVolume(result).copy()
    bundle = tmp_path / "scene.mrb"
    assert scene.WriteToMRB(str(bundle))

    loaded = slicer.vtkMRMLScene()
    cache, manager = slicer.vtkCacheManager(), slicer.vtkDataIOManager()
    cache.SetRemoteCacheDirectory(str(tmp_path))
    loaded.SetCacheManager(cache)
    manager.SetCacheManager(cache)
    loaded.SetDataIOManager(manager)
    assert loaded.ReadFromMRB(str(bundle))
    again = loaded.GetFirstNodeByName("MRHead [synthetic T2]")
    assert again.GetAttribute("MRSynth.Synthetic") == "1"
    assert again.GetAttribute("MRSynth.ModelSHA256") == "ab" * 32
    assert again.GetNodeReference("MRSynthSource").GetName() == "MRHead"
    assert again.GetParentTransformNode() is not None
    np.testing.assert_allclose(mrml.ijk_to_ras(again), mrml.ijk_to_ras(result), atol=1e-6)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(again), voxels)
    display = again.GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (0, 1000)
