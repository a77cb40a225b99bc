"""What a synthetic volume says about itself, in its header and beside it."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from MRSynthLib import __version__
from MRSynthLib.engine.devices import DeviceChoice
from MRSynthLib.engine.files import write_volume
from MRSynthLib.engine.provenance import description, facts, sidecar
from MRSynthLib.engine.sidecar_tags import sidecar_path
from MRSynthLib.engine.synthesis import SynthesisResult
from MRSynthLib.engine.volume import Volume


def result(volume: Volume, name: str = "mrsynth-native") -> SynthesisResult:
    return SynthesisResult(
        volume=volume,
        source_contrast="t1",
        target_contrast="t2",
        contrast_reason="median brain is 0.70 of its 99.5th percentile",
        device=DeviceChoice("cpu", "fp32", "CPU, as asked", 2),
        seconds=1.23456,
        stage_seconds={"prepare": 0.2, "synthesize": 1.0},
        warnings=("something to know",),
        checkpoint_name=name,
        checkpoint_sha256="0123456789abcdef" * 4,
        cycle=None,
    )


def test_the_description_says_synthetic_first_and_names_model_and_hash(phantom_t1: Volume) -> None:
    text = description(result(phantom_t1))
    assert text == f"SYNTHETIC T2w from T1w, MRSynth {__version__} mrsynth-native 0123456789ab"


@pytest.mark.parametrize("name", ["", "m" * 300, "modèle-réversible-" * 9, "模型" * 50])
def test_the_description_fits_into_a_nifti_header_whatever_the_model_is_called(phantom_t1: Volume, name: str) -> None:
    text = description(result(phantom_t1, name))
    assert len(text.encode("ascii")) <= 79
    assert text.startswith("SYNTHETIC T2w from T1w")
    assert text.endswith("0123456789ab")


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd"])
def test_the_description_is_in_the_written_file(phantom_t1: Volume, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"out{ending}"
    text = description(result(phantom_t1))
    write_volume(phantom_t1, path, description=text)
    if ending == ".nrrd":
        # NRRD keeps it as a comment of the header or as a key of its own
        assert text in path.read_bytes()[:4096].decode("latin-1")
        assert sitk.ReadImage(str(path)).GetSize() == phantom_t1.shape[::-1]
    else:
        assert bytes(nibabel.load(path).header["descrip"]).rstrip(b"\0").decode() == text


def test_the_sidecar_names_source_model_direction_units_and_warnings(phantom_t1: Volume, tmp_path: Path) -> None:
    document = sidecar(
        result(phantom_t1),
        output=tmp_path / "derivatives" / "sub-01_T2w.nii.gz",
        source=tmp_path / "sub-01" / "sub-01_T1w.nii.gz",
        source_sha256="ab" * 32,
        mask=tmp_path / "masks" / "brain.nrrd",
        mask_sha256="cd" * 32,
        metadata={"EchoTime": "4.6"},
    )
    assert document["synthetic"] is True
    assert document["Sources"] == ["../sub-01/sub-01_T1w.nii.gz"]
    assert document["SourceSHA256"] == "ab" * 32
    assert document["GeneratedBy"] == [{"Name": "MRSynth", "Version": __version__}]
    assert document["Model"] == {"Name": "mrsynth-native", "SHA256": "0123456789abcdef" * 4}
    assert (document["SourceContrast"], document["TargetContrast"]) == ("T1w", "T2w")
    assert document["ContrastReason"] == "median brain is 0.70 of its 99.5th percentile"
    assert document["Units"] == "arbitrary"
    assert "1000 is the 99.5th percentile of brain in T2w" in document["IntensityScale"]["Meaning"]
    assert document["BrainMask"] == {"Source": "../masks/brain.nrrd", "SHA256": "cd" * 32}
    assert document["SourceMetadata"] == {"EchoTime": "4.6"}
    assert document["Warnings"] == ["something to know"]
    assert "not for diagnosis" in document["Description"]
    assert str(tmp_path) not in json.dumps(document)


def test_what_was_not_given_is_not_in_the_sidecar(phantom_t1: Volume, tmp_path: Path) -> None:
    document = sidecar(result(phantom_t1), output=tmp_path / "b.nii", source=tmp_path / "a.nii", source_sha256="")
    assert "BrainMask" not in document
    assert "SourceMetadata" not in document


def test_the_facts_of_a_run_are_plain_json(phantom_t1: Volume) -> None:
    known = facts(result(phantom_t1))
    assert json.loads(json.dumps(known, allow_nan=False)) == known
    assert known["synthetic"] is True
    assert known["checkpoint_sha256"].startswith("0123456789ab")
    assert not any(isinstance(value, np.ndarray) for value in known.values())


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("a_T2w.nii.gz", "a_T2w.json"),
        ("a_T2w.NII.GZ", "a_T2w.json"),
        ("a.b.nii", "a.b.json"),
        ("a.nrrd", "a.json"),
        ("a.mha", "a.json"),
    ],
)
def test_the_sidecar_has_the_name_of_the_image(image: str, expected: str) -> None:
    assert sidecar_path(Path("folder") / image) == Path("folder") / expected
