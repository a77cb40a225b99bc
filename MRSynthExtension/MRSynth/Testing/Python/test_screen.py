"""Screening before a run: what is refused, what is warned of, and what must never be refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import phantom, phantom_labels
from engine_helpers import grid, orthogonal_axes

from MRSynthLib.engine import screening, sidecar_tags
from MRSynthLib.engine.cli import main
from MRSynthLib.engine.errors import InputError
from MRSynthLib.engine.files import read_volume, write_volume
from MRSynthLib.engine.preparation import prepare
from MRSynthLib.engine.screening import screen
from MRSynthLib.engine.screening_copy import copied
from MRSynthLib.engine.screening_field import flattened
from MRSynthLib.engine.screening_object import variety
from MRSynthLib.engine.volume import Volume

SAMPLES = Path(__file__).resolve().parents[2] / "Resources" / "SampleData"


@pytest.fixture(scope="module")
def samples() -> dict[str, Volume]:
    """The computed brain that the module carries, by contrast."""
    return {name: read_volume(SAMPLES / f"MRSynthPhantom_{name.upper()}.nrrd") for name in ("t1", "t2")}


def made(voxels: np.ndarray, spacing: float = 3.0) -> Volume:
    return Volume(voxels, np.diag([spacing, spacing, spacing, 1.0]))


def points(*size: int) -> tuple[np.ndarray, ...]:
    """Distances (k, j, i) from the middle, in voxels."""
    return tuple(np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in size), indexing="ij"))


def as_header_says(volume: Volume, turn: np.ndarray) -> Volume:
    """The same voxels with a header that is wrong by `turn` of patient space."""
    affine = np.eye(4)
    affine[:3, :3] = turn
    return replace(volume, ijk_to_ras=affine @ volume.ijk_to_ras)


# --- what must not be refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("contrast", ["t1", "t2"])
def test_heads_and_brains_are_taken(contrast: str, samples: dict[str, Volume]) -> None:
    for volume in (phantom(contrast), phantom(contrast, skull=False), samples[contrast]):
        seen = screen(volume)
        assert (seen.contrast, seen.verdict) == (contrast, "ok")
        assert seen.source is not None
        assert seen.source.confidence > 0.6
        assert len(seen.reasons) == 1


@pytest.mark.parametrize("name", ["LPS", "PIR", "SAL", "IRA", "AIL"])
def test_how_the_voxels_lie_does_not_matter_if_the_header_says_it(name: str, samples: dict[str, Volume]) -> None:
    volume = samples["t2"]
    axes = dict(orthogonal_axes())[name]
    sources = [int(np.argmax(np.abs(axes[:, n]))) for n in range(3)]
    # The sample's own axes are nearly L, P, S.
    signs = [int(axes[row, n] * (-1, -1, 1)[row]) for n, row in enumerate(sources)]
    turned = volume.voxels.T.transpose(sources)[tuple(slice(None, None, sign) for sign in signs)]
    voxels = np.ascontiguousarray(turned.T)
    seen = screen(Volume(voxels, grid(voxels.shape, (1.5, 1.5, 1.5), axes)))
    assert (seen.contrast, seen.verdict) == ("t2", "ok")


def test_a_mirror_image_cannot_be_told(samples: dict[str, Volume]) -> None:
    assert screen(as_header_says(samples["t1"], np.diag([-1.0, 1, 1]))).verdict == "ok"


def test_real_subjects_are_taken_and_refused_upside_down(shared_data: Path) -> None:
    wrong = []
    for folder in sorted(path for path in shared_data.iterdir() if path.is_dir()):
        for contrast in ("t1", "t2"):
            volume = read_volume(folder / f"{contrast}.nii.gz")
            seen = screen(volume)
            if seen.contrast != contrast or seen.verdict == "refuse":
                wrong.append((folder.name, contrast, seen))
            if screen(as_header_says(volume, np.diag([1.0, 1, -1]))).verdict != "refuse":
                wrong.append((folder.name, contrast, "upside down"))
    assert not wrong


# --- the wrong way up ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        (np.diag([1.0, 1, -1]), "upside down"),
        (np.diag([1.0, -1, 1]), "back to front"),
        (np.diag([1.0, -1, -1]), "upside down and back to front"),
        (np.array([[1.0, 0, 0], [0, 0, 1], [0, 1, 0]]), "on another axis"),
        (np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]]), "on another axis"),
    ],
)
@pytest.mark.parametrize("contrast", ["t1", "t2"])
def test_the_wrong_way_up_is_refused(turn: np.ndarray, words: str, contrast: str, samples: dict[str, Volume]) -> None:
    seen = screen(as_header_says(samples[contrast], turn))
    assert seen.verdict == "refuse"
    assert f"It lies {words}," in seen.warnings[0]


# --- what is no brain MR ------------------------------------------------------------------------------------


def ct() -> Volume:
    hounsfield = {"scalp": 20, "skull": 900, "csf": 8, "grey": 37, "white": 28}
    voxels = np.full(phantom("t1").shape, -1000.0)
    for tissue, mask in phantom_labels().items():
        voxels[mask] = hounsfield[tissue]
    return phantom("t1").replaced(np.rint(voxels + np.random.default_rng(1).normal(0, 6, voxels.shape)))


def ct_window() -> Volume:
    return phantom("t1").replaced(np.clip(ct().voxels, 0, 80))


def ct_as_stored() -> Volume:
    return phantom("t1").replaced(np.maximum(ct().voxels + 1024, 0))


def noise() -> Volume:
    return made(np.random.default_rng(2).integers(1, 900, (50, 60, 55)))


def picture() -> Volume:
    _, y, x = points(40, 80, 80)
    return made(np.rint(400 + 200 * np.sin(x / 9) * np.cos(y / 7) + 100 * (x > 10)))


def belly() -> Volume:
    z, y, x = points(40, 90, 130)
    inside = (x / 58) ** 2 + (y / 40) ** 2 < 1
    return made(np.where(inside, 500 + 200 * np.sin(x / 5) * np.sin(y / 6 + z / 9), 0).astype(np.int16))


def thigh() -> Volume:
    z, y, x = points(60, 60, 60)
    radius = np.hypot(x, y)
    return made(np.select([radius < 6, radius < 22, radius < 25], [60 + z % 5, 300 + z % 7, 900 + z % 9], 0))


def bottle() -> Volume:
    z, y, x = points(60, 70, 60)
    inside = np.sqrt((x / 25) ** 2 + (y / 30) ** 2 + (z / 25) ** 2) < 1
    return made(np.where(inside, 800 + np.random.default_rng(3).normal(0, 8, x.shape), 0))


@pytest.mark.parametrize(
    ("volume", "words"),
    [
        (ct, "Hounsfield"),
        (ct_window, "bone"),
        (ct_as_stored, "even inside"),
        (noise, "noise"),
        (picture, "field of view is full"),
        (belly, "larger than a head"),
        (thigh, "limb"),
        (bottle, "even inside"),
    ],
)
def test_what_is_no_brain_mr_is_refused(volume: Callable[[], Volume], words: str) -> None:
    seen = screen(volume())
    assert (seen.contrast, seen.verdict) == ("other", "refuse")
    assert words in seen.reasons[0]


def test_a_t1_turned_over_is_refused_although_the_user_says_t1(samples: dict[str, Volume]) -> None:
    voxels = samples["t1"].voxels.astype(np.float32)
    top = np.percentile(voxels[voxels > 0], 99.5)
    over = samples["t1"].replaced(np.where(voxels > 0, np.maximum(top - voxels, 1), 0))
    with pytest.raises(InputError) as caught:
        prepare(over, "native", source="t1", target=None, mask=None)
    assert caught.value.code == "input-screened"
    assert "bright for dark" in str(caught.value)


@pytest.mark.parametrize("order", [1, 2])
def test_a_field_is_measured_and_taken_out(order: int, samples: dict[str, Volume]) -> None:
    volume = samples["t2"]
    copy = copied(volume, screening.look(volume))
    depth, inside = copy.depth(), copy.share > 0.5
    even = replace(copy, signal=np.where(copy.share > 0, np.float32(1.5), np.float32(0)))
    assert flattened(even, depth, order)[1] == pytest.approx(1, abs=1e-4)
    x = np.broadcast_to(np.linspace(-1, 1, copy.signal.shape[0], dtype=np.float32)[:, None, None], copy.signal.shape)
    flat, strength = flattened(replace(even, signal=even.signal * np.exp(0.4 * x)), depth, order)
    np.testing.assert_allclose(flat.signal[inside], np.median(flat.signal[inside]), rtol=1e-3)
    low, high = np.percentile(x[depth > 6], (5, 95))
    assert strength == pytest.approx(np.exp(0.4 * (high - low)), rel=0.02)


def test_a_thing_that_changes_at_few_edges_is_no_brain(samples: dict[str, Volume]) -> None:
    volume = samples["t2"]
    plates = np.where(np.indices(volume.shape)[2] % 32 < 8, 100.0, 500.0)
    noisy = np.maximum(plates + np.random.default_rng(5).normal(0, 40, volume.shape), 1)
    seen = screen(volume.replaced(np.where(volume.voxels > 0, noisy, 0)))
    assert (seen.contrast, seen.verdict) == ("other", "refuse")
    assert "few edges" in seen.reasons[0]
    for known in samples.values():
        assert variety(copied(known, screening.look(known))) > 0.1


# --- tags ---------------------------------------------------------------------------------------------------

FLAIR = {"EchoTime": "120", "RepetitionTime": "9000", "InversionTime": "2500"}


@pytest.mark.parametrize(
    ("tags", "contrast", "verdict", "words"),
    [
        (FLAIR, "flair", "refuse", "FLAIR, not T1 or T2"),
        ({"EchoTime": "15", "RepetitionTime": "3000"}, "pd", "refuse", "PD, not T1 or T2"),
        ({"SeriesDescription": "ep2d_diff ADC"}, "other", "refuse", "diffusion"),
        ({"SeriesDescription": "T1 MPRAGE", "ContrastBolusAgent": "Gadovist"}, "t1c", "warn", "contrast agent"),
        ({"EchoTime": "95", "RepetitionTime": "5000"}, "t2", "ok", "EchoTime 95 ms"),
        ({"Modality": "CT"}, "other", "refuse", "modality is CT"),
        ({"BodyPartExamined": "KNEE"}, "t1", "warn", "KNEE"),
        (
            {"ImageType": "DERIVED\\SECONDARY\\MPR", "EchoTime": "3", "RepetitionTime": "9"},
            "other",
            "refuse",
            "DERIVED",
        ),
        ({"SyntheticData": "YES"}, "t1", "warn", "synthetic itself"),
    ],
)
def test_tags_count(tags: dict[str, str], contrast: str, verdict: str, words: str, samples: dict[str, Volume]) -> None:
    seen = screen(replace(samples["t1"], metadata=tags))
    assert (seen.contrast, seen.verdict) == (contrast, verdict)
    assert words in " ".join(seen.reasons)


def test_our_own_volumes_are_known_by_their_header_and_sidecar(tmp_path: Path, samples: dict[str, Volume]) -> None:
    path = tmp_path / "made.nii"
    write_volume(samples["t1"], path, description="SYNTHETIC T1w from T2w, MRSynth")
    assert "synthetic itself" in " ".join(screen(read_volume(path)).reasons)
    write_volume(samples["t1"], path, overwrite=True)
    assert screen(read_volume(path)).verdict == "ok"
    (tmp_path / "made.json").write_text(json.dumps({"synthetic": True}))
    assert "synthetic itself" in " ".join(screen(read_volume(path)).reasons)


def test_times_of_a_bids_sidecar_become_milliseconds(tmp_path: Path) -> None:
    tags = {"EchoTime": 0.095, "RepetitionTime": 5, "ImageType": ["ORIGINAL", "PRIMARY"], "InversionTime": True}
    (tmp_path / "a.json").write_text(json.dumps({**tags, "PatientName": "nobody"}))
    found = sidecar_tags.tags_beside(tmp_path / "a.nii.gz")
    assert found == {"EchoTime": "95", "RepetitionTime": "5000", "ImageType": "ORIGINAL\\PRIMARY"}


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '"T1"', "\ufeff{}", "[" * 100_000])
def test_a_sidecar_that_cannot_be_read_is_no_sidecar(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    assert sidecar_tags.tags_beside(tmp_path / "a.nii") == {}


# --- quality ------------------------------------------------------------------------------------------------


def warnings_of(volume: Volume) -> str:
    seen = screen(volume)
    assert seen.verdict == "warn"
    return " ".join(seen.warnings)


def test_a_brain_that_is_cut_off_is_told_with_its_side(samples: dict[str, Volume]) -> None:
    volume = samples["t2"]
    top = np.flatnonzero(volume.voxels.any(axis=(1, 2)))[-1]
    assert "cut off at the top" in warnings_of(replace(volume, voxels=volume.voxels[: top - 15]))


def test_empty_slices_are_told(samples: dict[str, Volume]) -> None:
    voxels = samples["t1"].voxels.copy()
    voxels[40:43] = 0
    assert "3 of the slices" in warnings_of(samples["t1"].replaced(voxels))


def test_a_strong_field_is_told(samples: dict[str, Volume]) -> None:
    x = np.linspace(-1, 1, samples["t2"].shape[1])[:, None]
    assert "bias field is strong" in warnings_of(samples["t2"].replaced(samples["t2"].voxels * np.exp(0.9 * x)))


def test_noise_is_told(samples: dict[str, Volume]) -> None:
    volume = samples["t1"]
    sigma = 0.3 * np.median(volume.voxels[volume.voxels > 0])
    noisy = np.maximum(volume.voxels + np.random.default_rng(4).normal(0, sigma, volume.shape), 1)
    assert "noisy" in warnings_of(volume.replaced(np.where(volume.voxels > 0, noisy, 0)))


def test_ghosts_are_told() -> None:
    head = np.pad(phantom("t2").voxels.astype(float), ((0, 0), (24, 24), (0, 0)))
    air = np.random.default_rng(5).rayleigh(4, head.shape)
    ghosts = 0.07 * (np.roll(head, 30, axis=1) + np.roll(head, -30, axis=1))
    affine = phantom("t2").ijk_to_ras
    assert screen(Volume(head + air, affine)).verdict == "ok"
    assert "ghosts" in warnings_of(Volume(head + air + ghosts, affine))


# --- in a run -----------------------------------------------------------------------------------------------


def test_a_run_stops_at_a_refusal_and_goes_on_when_forced(samples: dict[str, Volume]) -> None:
    upside_down = as_header_says(samples["t1"], np.diag([1.0, 1, -1]))
    with pytest.raises(InputError) as caught:
        prepare(upside_down, "native", source="t1", target=None, mask=None)
    assert caught.value.code == "input-screened"
    assert "upside down" in str(caught.value)
    forced = prepare(upside_down, "native", source="t1", target=None, mask=None, force=True)
    assert any("upside down" in warning for warning in forced.warnings)


def test_a_contrast_that_the_user_says_is_the_users(samples: dict[str, Volume]) -> None:
    flair = replace(samples["t1"], metadata=FLAIR)
    with pytest.raises(InputError) as caught:
        prepare(flair, "native", source="auto", target="t2", mask=None)
    assert caught.value.code == "input-screened"
    told = prepare(flair, "native", source="t1", target=None, mask=None)
    assert told.contrast.name == "t1"
    assert any("FLAIR" in warning for warning in told.warnings)


def test_the_command_tells_and_its_exit_code_says_whether_it_can_be_used(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], samples: dict[str, Volume]
) -> None:
    write_volume(samples["t2"], tmp_path / "good.nii")
    write_volume(ct(), tmp_path / "ct.nii")
    assert main(["screen", str(tmp_path / "good.nii"), "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert {key: told[key] for key in ("contrast", "verdict", "skull_stripped")} == {
        "contrast": "t2",
        "verdict": "ok",
        "skull_stripped": True,
    }
    assert 0.5 < told["confidence"] <= 1
    assert told["reasons"]
    assert main(["screen", str(tmp_path / "ct.nii")]) == 3
    assert capfd.readouterr().out.startswith("refuse: ")


def test_synthesize_refuses_unless_forced(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], tiny_checkpoint: Path
) -> None:
    write_volume(ct(), tmp_path / "ct.nii")
    usual = ["synthesize", str(tmp_path / "ct.nii"), "-o", str(tmp_path / "out.nii"), "--from", "t1"]
    usual += ["--model", str(tiny_checkpoint), "--device", "cpu", "--json"]
    assert main([*usual, "--overwrite"]) == 3
    assert json.loads(capfd.readouterr().out)["error"]["code"] == "input-screened"
    assert not (tmp_path / "out.nii").exists()
    assert main([*usual, "--force"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["screening"]["verdict"] == "refuse"
    assert any("Hounsfield" in warning for warning in told["warnings"])
    assert json.loads((tmp_path / "out.json").read_text())["Screening"] == told["screening"]


def test_what_was_found_is_a_part_of_the_result(samples: dict[str, Volume]) -> None:
    seen = screen(samples["t1"])
    assert seen.document()["reasons"] == list(seen.reasons)
    assert set(seen.document()) == {"contrast", "verdict", "reasons", "confidence", "skull_stripped"}
    assert seen.contrast in screening.NAMES
