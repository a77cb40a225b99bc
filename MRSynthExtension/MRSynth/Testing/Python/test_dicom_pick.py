"""Which series of an examination synthesis starts from, and why not from the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import phantom
from dicom_series import T1, T2, examination, write_enhanced, write_series
from engine_helpers import axes_of, grid
from pydicom import Dataset, uid

from MRSynthLib.engine.dicom import find_series, load, pick, read_folder, read_source
from MRSynthLib.engine.dicom_rules import kind_of
from MRSynthLib.engine.errors import InputError
from MRSynthLib.engine.screening import screen

SHAPE = (7, 9, 8)
MR = {"Modality": "MR", "ImageType": "ORIGINAL\\PRIMARY\\M\\ND"}


# --- what a series is ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "contrast"),
    [
        ({"EchoTime": "3", "RepetitionTime": "2300", "InversionTime": "900"}, "t1"),
        ({"EchoTime": "12", "RepetitionTime": "550", "ScanningSequence": "SE"}, "t1"),
        ({"EchoTime": "4.2", "RepetitionTime": "9", "ScanningSequence": "GR"}, "t1"),
        ({"EchoTime": "95", "RepetitionTime": "5000"}, "t2"),
        ({"EchoTime": "403", "RepetitionTime": "3200", "SeriesDescription": "t2_space_sag_p2_iso"}, "t2"),
        ({"SeriesDescription": "T1_MPRAGE_1mm"}, "t1"),
        ({"SeriesDescription": "Ax T2 FSE"}, "t2"),
        ({"ProtocolName": "AX_T2_TSE"}, "t2"),
        ({"SeriesDescription": "3D BRAVO"}, "t1"),
        ({"SeriesDescription": "t1 pre contrast", "EchoTime": "10", "RepetitionTime": "500"}, "t1"),
        *(
            ({"SeriesDescription": text}, "t1")
            for text in (
                "T1 contrast pre",
                "AX T1 no gad",
                "T1 W/O KM",
                "t1 tra ohne KM",
                "T1 non-contrast",
                "T1w_preGd",
                "T1 SE without iv contrast NO FS",
                "T1 AX NO FS",
                "T1 posterior",
                "T1_nativ",
                "T1 W/O FAT SAT",
            )
        ),
        (
            {"SeriesDescription": "SAG T1 FLAIR", "EchoTime": "24", "RepetitionTime": "2500", "InversionTime": "780"},
            "t1",
        ),
        ({"SeriesDescription": "brain", "BodyPartExamined": "HEAD", "ContrastBolusAgent": "NONE"}, None),
    ],
)
def test_what_can_be_started_from(tags: dict[str, str], contrast: str | None) -> None:
    kind = kind_of({**MR, **tags})
    assert (kind.contrast, kind.objection) == (contrast, "")


@pytest.mark.parametrize(
    ("tags", "objection"),
    [
        ({"Modality": "CT"}, "CT, not MR"),
        ({"Modality": ""}, "not MR"),
        ({"ImageType": "ORIGINAL\\PRIMARY\\LOCALIZER"}, "localiser"),
        ({"SeriesDescription": "3-plane loc"}, "localiser"),
        ({"SeriesDescription": "AAHead_Scout"}, "localiser"),
        ({"ImageType": "DERIVED\\SECONDARY\\MIP\\ND", "SeriesDescription": "t1 thick"}, "projection"),
        ({"ImageType": "DERIVED\\PRIMARY\\PROJECTION IMAGE\\ND"}, "projection"),
        ({"ImageType": "DERIVED\\SECONDARY\\MPR\\CSA MPR", "SeriesDescription": "t1_mpr_tra"}, "reformatted"),
        ({"ImageType": "DERIVED\\SECONDARY", **T1}, "derived"),
        ({"ImageType": "ORIGINAL\\SECONDARY\\OTHER", **T1}, "derived"),
        ({"ImageType": "ORIGINAL\\PRIMARY\\P\\ND"}, "phase"),
        ({"ImageType": "DERIVED\\PRIMARY\\DIFFUSION\\ADC\\ND"}, "diffusion"),
        ({"SeriesDescription": "ep2d_diff_3scan_trace"}, "diffusion"),
        ({"SeriesDescription": "SWI_Images"}, "susceptibility"),
        ({"SeriesDescription": "Ax T2* GRE"}, "susceptibility"),
        ({"ScanningSequence": "GR", "EchoTime": "20", "RepetitionTime": "600"}, "susceptibility"),
        ({"SeriesDescription": "TOF_3D_multi-slab"}, "angiography"),
        ({"ScanningSequence": "EP", "EchoTime": "30", "RepetitionTime": "2000"}, "echo-planar"),
        ({"EchoTime": "85", "RepetitionTime": "9000", "InversionTime": "2500"}, "FLAIR"),
        ({"SeriesDescription": "t2_tirm_tra_dark-fluid"}, "FLAIR"),
        ({"EchoTime": "15", "RepetitionTime": "3000", "SeriesDescription": "pd_tse"}, "PD"),
        ({**T1, "ContrastBolusAgent": "Gadovist"}, "contrast agent (Gadovist)"),
        ({**T1, "SeriesDescription": "t1_mprage_sag_post"}, "contrast agent"),
        ({**T1, "SeriesDescription": "T1 +C"}, "contrast agent"),
        ({**T1, "SeriesDescription": "t1_tse_tra_KM"}, "contrast agent"),
        *(
            ({**T1, "SeriesDescription": text}, "contrast agent")
            for text in (
                "AX T1 POST NO FS",
                "SAG T1 POST W/O FAT SAT",
                "T1 AX POST GAD NO FS",
                "T1 SE without FS +C",
                "T1 FS+C",
                "COR T1 POST GD NON FAT SAT",
                "t1 tra ohne FS KM",
                "AX T1 PRE AND POST",
                "T1w_postGd",
                "mprageGD",
                "T1 GAD",
                "T1 CONTRAST NO FS",
                "T1 W/WO CONTRAST",
                "T1 with and without contrast",
                "t1 mit Kontrastmittel",
                "T1 pre postcontrast",
                "T1wce",
            )
        ),
        ({"SeriesDescription": "T2wFlair"}, "FLAIR"),
        ({**T1, "BodyPartExamined": "KNEE"}, "KNEE"),
        ({**T2, "SeriesDescription": "SYNTHETIC T2w from T1w"}, "synthetic"),
        ({**T2, "SyntheticData": "YES"}, "synthetic"),
    ],
)
def test_what_is_left_alone(tags: dict[str, str], objection: str) -> None:
    assert objection in kind_of({**MR, **tags}).objection


def test_words_and_timing_that_disagree_leave_it_to_the_image() -> None:
    kind = kind_of({**MR, "SeriesDescription": "t1_se", "EchoTime": "95", "RepetitionTime": "5000"})
    assert (kind.contrast, kind.objection) == (None, "")


@pytest.mark.parametrize("enhanced", [False, True])
@pytest.mark.parametrize(("meaning", "named"), [("Gadolinium", "Gadolinium"), (None, "not named")])
def test_a_coded_contrast_agent_counts(enhanced: bool, meaning: str | None, named: str, tmp_path: Path) -> None:
    """All that enhanced files have; a classic one may say "NONE" in the plain tag beside."""

    def with_agent(data: Dataset, k: int) -> None:
        data.ContrastBolusAgentSequence = [Dataset()]
        if meaning:
            data.ContrastBolusAgentSequence[0].CodeMeaning = meaning

    volume, tags = phantom("t1"), {**T1, "ContrastBolusAgent": "NONE"}
    if enhanced:
        write_enhanced(tmp_path / "IM", volume.voxels, volume.ijk_to_ras, change=with_agent, **T1)
    else:
        write_series(tmp_path, volume.voxels, volume.ijk_to_ras, change=with_agent, **tags)
    series = find_series(tmp_path)[0]
    assert series.objection == f"after a contrast agent ({named})"
    seen = screen(load(series))
    assert (seen.contrast, seen.verdict) == ("t1c", "warn")


def test_a_sequence_without_agents_is_none(tmp_path: Path) -> None:
    add(tmp_path, 4, **T1, ContrastBolusAgentSequence=[])
    assert find_series(tmp_path)[0].objection == ""


# --- which one is picked ------------------------------------------------------------------------------------


def add(folder: Path, number: int, *, shape: tuple[int, int, int] = SHAPE, voxel: float = 1.0, **tags: Any) -> None:
    """A series of an examination, in a folder of its own."""
    voxels = np.random.default_rng(number).integers(0, 900, shape).astype(np.int16)
    write_series(folder / f"S{number}", voxels, grid(shape, (voxel,) * 3, axes_of("LPS")), SeriesNumber=number, **tags)


@pytest.fixture
def study(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A folder with what usually lies in an examination besides T1 and T2, and what its series share."""
    shared = examination()
    add(tmp_path, 1, **shared, SeriesDescription="localizer", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    add(tmp_path, 2, **shared, SeriesDescription="t2_tirm_tra_dark-fluid")
    add(tmp_path, 3, **{**shared, **T1, "SeriesDescription": "t1_mprage_post"})
    add(tmp_path, 4, **{**shared, **T1}, ImageType=["DERIVED", "SECONDARY", "MPR"])
    return tmp_path, shared


def picked(folder: Path, name: str | None = None, **wish: str) -> str:
    return pick(find_series(folder), name, **wish)[0].key


def not_picked(folder: Path, code: str, name: str | None = None, **wish: str) -> str:
    with pytest.raises(InputError) as caught:
        pick(find_series(folder), name, **wish)
    assert caught.value.code == code
    return str(caught.value)


def test_the_only_suitable_series_is_picked(study: tuple[Path, dict[str, Any]]) -> None:
    folder, shared = study
    add(folder, 7, **{**shared, **T1})
    assert picked(folder) == "7"
    assert picked(folder, source="t1") == "7"
    assert picked(folder, target="t2") == "7"
    assert "T2" in not_picked(folder, "dicom-unsuitable", target="t1")


def test_the_finest_of_several_is_picked(study: tuple[Path, dict[str, Any]]) -> None:
    folder, shared = study
    add(folder, 7, **{**shared, **T1}, voxel=1.5)
    add(folder, 8, **{**shared, **T1}, voxel=1.0)
    add(folder, 9, **{**shared, **T1}, voxel=1.0, shape=(9, 9, 8))
    chosen, reason = pick(find_series(folder))
    assert chosen.key == "9"
    assert "finest of 3" in reason


def test_with_both_contrasts_it_has_to_be_said(study: tuple[Path, dict[str, Any]]) -> None:
    folder, shared = study
    add(folder, 7, **{**shared, **T1})
    add(folder, 8, **{**shared, **T2})
    assert "nothing is missing" in not_picked(folder, "dicom-several")
    assert picked(folder, target="t2") == "7"
    assert picked(folder, target="t1") == "8"
    assert picked(folder, source="t2") == "8"


def test_nothing_suitable_is_told_with_the_reason_of_each(study: tuple[Path, dict[str, Any]]) -> None:
    message = not_picked(study[0], "dicom-unsuitable")
    for words in ("localiser", "FLAIR", "contrast agent", "reformatted", "--series"):
        assert words in message


@pytest.mark.parametrize("number", ["1", "3"])
def test_what_is_named_is_taken_whatever_it_is(study: tuple[Path, dict[str, Any]], number: str) -> None:
    assert picked(study[0], number) == number
    uid_ = next(series.uid for series in find_series(study[0]) if series.key == number)
    assert picked(study[0], uid_) == number
    assert read_source(study[0], number)[0].shape == SHAPE


def test_a_name_that_fits_none_or_several_is_refused(study: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = study
    assert "'t1_mprage_post'" in not_picked(folder, "dicom-series-unknown", "77")
    add(folder / "other", 3, **T1)
    message = not_picked(folder, "dicom-several", "3")
    uids = [series.uid for series in find_series(folder) if series.number == 3]
    assert len(uids) == 2
    assert all(name in message for name in uids)


def test_a_named_series_with_a_gap_is_refused_for_the_gap(study: tuple[Path, dict[str, Any]]) -> None:
    folder, shared = study
    add(folder, 7, **{**shared, **T1})
    next((folder / "S7").glob("IM07919")).unlink()
    assert "1 missing" in not_picked(folder, "dicom-slices", "7")
    assert "1 missing" in not_picked(folder, "dicom-unsuitable")


def test_a_part_of_a_series_is_named_by_number_and_part(study: tuple[Path, dict[str, Any]]) -> None:
    folder, shared = study
    one = {**shared, **T2, "SeriesInstanceUID": uid.generate_uid(None)}
    add(folder / "a", 7, **{**one, "EchoTime": "15", "RepetitionTime": "3000"})
    add(folder / "b", 7, **{**one, "EchoTime": "90", "RepetitionTime": "3000"})
    assert picked(folder, "7.1") == "7.1"
    assert picked(folder) == "7.2", "proton density is left alone"
    assert "EchoTime 15" in not_picked(folder, "dicom-several", "7")


def test_two_examinations_are_not_mixed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        add(tmp_path / name, 7, **{**examination(name), **T1})
    not_picked(tmp_path, "dicom-several")
    assert picked(tmp_path / "one") == "7"


def test_where_tags_do_not_tell_the_image_does(tmp_path: Path) -> None:
    shared = examination()
    for number, contrast in enumerate(("t1", "t2"), 1):
        volume = phantom(contrast)
        write_series(tmp_path / contrast, volume.voxels, volume.ijk_to_ras, SeriesNumber=number, **shared)
    assert find_series(tmp_path)[0].kind.contrast is None
    assert picked(tmp_path, target="t2") == "1"
    assert picked(tmp_path, target="t1") == "2"
    not_picked(tmp_path, "dicom-several")


def test_a_folder_with_one_series_is_read_whatever_it_is(tmp_path: Path) -> None:
    add(tmp_path, 1, SeriesDescription="localizer")
    assert read_folder(tmp_path).shape == SHAPE
    with pytest.raises(InputError):
        read_source(tmp_path)
