"""Names of files and folders: which contrast, and who belongs together."""

from __future__ import annotations

from pathlib import Path

import pytest

from MRSynthLib.engine import batch_names
from MRSynthLib.engine.batch_folder import find


@pytest.mark.parametrize(
    ("path", "contrast"),
    [
        ("anna/t1.nii.gz", "t1"),
        ("BraTS20_Training_001/BraTS20_Training_001_t2.nii.gz", "t2"),
        ("BraTS-GLI-00000-000/BraTS-GLI-00000-000-t1n.nii.gz", "t1"),
        ("BraTS-GLI-00000-000/BraTS-GLI-00000-000-t2w.nii.gz", "t2"),
        ("IXI-T1/IXI002-Guys-0828-T1.nii.gz", "t1"),
        ("p/T1/mprage_sag.nrrd", "t1"),
        ("p/T2/scan.mha", "t2"),
        ("p/T2/t1_brain.nii", "t1"),  # the innermost name counts
        ("p/3D_MPRAGE.nii", "t1"),
        ("p/T1 weighted.nii", "t1"),
        ("p/scan1.nii", None),
        ("p/t1_t2_ratio.nii", None),
        ("cat1/best2.nii", None),
    ],
)
def test_a_name_tells_the_contrast(path: str, contrast: str | None) -> None:
    parts = Path(path).with_name(Path(path).name.partition(".")[0]).parts
    assert batch_names.contrast_of(parts) == (contrast, False)


@pytest.mark.parametrize(
    "name",
    ["BraTS20_Training_001_t1ce", "x-t1c", "x-t2f", "flair", "x_seg", "t1_post", "T1_GD", "t2_star", "T1map", "lesion",
     "T1 map", "t1_mask", "ep2d_dwi", "brain_PD", "T2star", "synthetic_t2"],
)  # fmt: skip
def test_a_name_tells_what_is_no_plain_t1_or_t2(name: str) -> None:
    assert batch_names.contrast_of(("anna", name)) == (None, True)


def grouped(root: Path, *paths: str) -> dict[str, list[str]]:
    """The examinations that are found where these files are: names by examination."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"")
    found = find(root, root / "out")
    return {one.subject: sorted(scan.path.relative_to(root).as_posix() for scan in one.scans) for one in found}


def test_a_folder_is_an_examination(tmp_path: Path) -> None:
    assert grouped(tmp_path, "anna/t1.nii.gz", "anna/t2.nii.gz", "anna/flair.nii", "berta/T2w.nrrd", "berta/x.txt") == {
        "anna": ["anna/t1.nii.gz", "anna/t2.nii.gz"],
        "berta": ["berta/T2w.nrrd"],
    }


def test_a_folder_per_contrast_within_a_persons_folder(tmp_path: Path) -> None:
    assert grouped(tmp_path, "a/T1/x.nii", "a/T2/y.nii", "b/T1/x.nii") == {
        "a": ["a/T1/x.nii", "a/T2/y.nii"],
        "b": ["b/T1/x.nii"],
    }


def test_a_folder_per_contrast_with_all_people(tmp_path: Path) -> None:
    names = ["IXI-T1/IXI1-G-T1.nii", "IXI-T1/IXI2-G-T1.nii", "IXI-T2/IXI1-G-T2.nii", "IXI-T2/IXI3-G-T2.nii"]
    assert grouped(tmp_path, *names) == {
        "IXI/IXI1-G": ["IXI-T1/IXI1-G-T1.nii", "IXI-T2/IXI1-G-T2.nii"],
        "IXI/IXI2-G": ["IXI-T1/IXI2-G-T1.nii"],
        "IXI/IXI3-G": ["IXI-T2/IXI3-G-T2.nii"],
    }


def test_all_in_one_folder(tmp_path: Path) -> None:
    """Two people with one scan each must not become one who lacks nothing."""
    assert grouped(tmp_path, "anna_T1.nii.gz", "berta_T2.nii.gz", "cora_t1.nii", "cora_t2_tse.nii") == {
        "anna": ["anna_T1.nii.gz"],
        "berta": ["berta_T2.nii.gz"],
        "cora": ["cora_t1.nii", "cora_t2_tse.nii"],
    }


def test_nothing_but_contrasts_as_names(tmp_path: Path) -> None:
    assert list(grouped(tmp_path, "t1.nii.gz", "t2.nii.gz").values()) == [["t1.nii.gz", "t2.nii.gz"]]


def test_two_visits_below_one_person(tmp_path: Path) -> None:
    assert list(grouped(tmp_path, "anna/2020/t1.nii", "anna/2021/t1.nii")) == ["anna/2020", "anna/2021"]
