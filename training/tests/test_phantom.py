"""Computed patients: physics against hand-made numbers, anatomy that stays sound, cohorts that repeat."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from mrsynth_training import phantom_anatomy as anatomy
from mrsynth_training import phantom_files as files
from mrsynth_training import phantom_physics as physics
from mrsynth_training.cli import main
from mrsynth_training.errors import TrainingError
from mrsynth_training.phantom import CONTRASTS, subject
from mrsynth_training.preparation import find_cases
from mrsynth_training.slices import open_store
from MRSynthLib.engine import intensity, scores
from MRSynthLib.engine.errors import OutputError
from MRSynthLib.engine.files import read_volume
from MRSynthLib.engine.synthesis import Synthesizer

COARSE = anatomy.brats_grid(4.0)
FINE = anatomy.brats_grid(2.0)
REPOSITORY = Path(__file__).resolve().parents[2]
SHIPPED = REPOSITORY / "MRSynthExtension" / "MRSynth" / "Resources" / "SampleData"


@pytest.fixture(scope="module")
def ill():
    return subject(3, grid=FINE)


# --- physics ------------------------------------------------------------------------------


def test_spin_echo_equation():
    tissue = physics.Tissue(t1=1000, t2=100, pd=0.8)
    seen = physics.Scan(tr=500, te=20).signal(tissue)
    assert seen == pytest.approx(0.8 * (1 - 0.60653066) * 0.81873075, rel=1e-6)
    assert physics.Scan(tr=1e9, te=0).signal(tissue) == pytest.approx(0.8)


def test_flair_nulls_fluid_and_nothing_else():
    for seed in range(5):
        rng = np.random.default_rng(seed)
        flair = physics.scans(rng)["flair"]
        assert flair.signal(physics.CSF) < 1e-6
        for name, tissue in physics.tissues(rng)[1].items():
            assert name == "csf" or flair.signal(tissue) > 0.02, name


def test_water_mixes_from_tissue_to_fluid():
    white = physics.PUBLISHED[3.0][1]["white"]
    assert physics.with_water(white, 0) == pytest.approx(white)
    assert physics.with_water(white, 1) == pytest.approx(physics.CSF)
    half = physics.with_water(white, 0.5)
    assert half.t1 == pytest.approx(2 / (1 / 1084 + 1 / 2569))


def test_subjects_lie_between_the_published_values():
    fields = set()
    for seed in range(20):
        field, found = physics.tissues(np.random.default_rng(seed))
        fields.add(field)
        for name in ("csf", "grey", "white"):
            ends = [published[name] for published in physics.PUBLISHED[field]]
            for value, low, high in zip(found[name], *ends, strict=True):
                assert min(low, high) <= value <= max(low, high) or value == pytest.approx(low)
        assert found["white"].t1 < found["lesion"].t1 < found["csf"].t1
    assert fields == {1.5, 3.0}


def test_gadolinium_shortens_t1():
    plain = physics.Tissue(1000, 100, 0.8)
    assert physics.with_gadolinium(plain, 1.5, 0.5).t1 == pytest.approx(1 / (1 / 1000 + 4.1 * 0.5 / 1000))


def test_noise_is_rician():
    signal = np.zeros(200_000, np.float32)
    signal[:4000] = 1
    seen = physics.scanned(signal, np.zeros_like(signal), np.random.default_rng(1))[4000:].astype(float)
    # Without a signal the magnitude has Rayleigh's distribution.
    assert seen.mean() / seen.std() == pytest.approx(math.sqrt(math.pi / (4 - math.pi)), rel=0.02)


def test_bias_field_is_a_factor():
    signal = np.full(50_000, 0.4, np.float32)
    field = np.linspace(-1, 1, signal.size, dtype=np.float32)
    seen = physics.scanned(signal, field, np.random.default_rng(2)).astype(float)
    first, middle, last = seen[:3000].mean(), seen[23_500:26_500].mean(), seen[-3000:].mean()
    assert last > 1.05 * middle > 1.05 * first
    assert first * last == pytest.approx(middle**2, rel=0.03)


# --- anatomy ------------------------------------------------------------------------------


def test_smooth_field_is_the_same_on_a_coarse_and_a_fine_grid():
    coarse, fine = (anatomy.smooth_field(grid, 30.0, np.random.default_rng(5)) for grid in (COARSE, FINE))
    means = fine[: 2 * (fine.shape[0] // 2)].reshape(-1, 2, coarse.shape[1], 2, coarse.shape[2], 2).mean(axis=(1, 3, 5))
    assert np.abs(means - coarse[: len(means)]).max() < 0.1
    many = [anatomy.smooth_field(COARSE, 15.0, np.random.default_rng(seed)).std() for seed in range(5)]
    assert np.mean(many) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("seed", range(6))
def test_bending_never_folds(seed):
    places = anatomy.bent(COARSE, np.random.default_rng(seed))
    jacobian = np.stack([np.stack(np.gradient(axis, 4.0), axis=-1) for axis in places], axis=-2)
    signs = np.linalg.det(jacobian[..., ::-1]) * np.linalg.det(COARSE.ijk_to_ras[:3, :3])
    assert signs.min() > 0


def test_a_seed_is_one_patient():
    one, again, other = subject(1, grid=COARSE), subject(1, grid=COARSE), subject(2, grid=COARSE)
    for name in (*CONTRASTS, "labels", "lesions", "tissue"):
        assert np.array_equal(getattr(one, name).voxels, getattr(again, name).voxels), name
    assert one.drawn == again.drawn != other.drawn
    assert np.count_nonzero((one.t1.voxels > 0) != (other.t1.voxels > 0)) > 500


def test_a_patient_is_the_same_at_another_spacing():
    coarse, fine = (subject(4, grid=grid, tumour=False) for grid in (COARSE, FINE))
    litres = [np.count_nonzero(p.t1.voxels) * s**3 / 1e6 for p, s in ((coarse, 4), (fine, 2))]
    assert litres[0] == pytest.approx(litres[1], rel=0.02)
    assert 0.9 < litres[1] < 1.9
    assert coarse.drawn == fine.drawn


def test_volumes_are_stripped_int16(ill):
    brain = ill.t1.voxels > 0
    for name in CONTRASTS:
        volume = getattr(ill, name)
        assert volume.voxels.dtype == np.int16
        assert np.array_equal(volume.voxels > 0, brain), name
    assert ndimage.label(brain)[1] == 1
    assert not ill.labels.voxels[~brain].any() and not ill.tissue.voxels[~brain].any()


def test_contrasts_are_those_of_the_textbook():
    healthy = subject(6, grid=FINE, tumour=False)
    csf, grey, white = (healthy.tissue.voxels == label for label in (1, 2, 3))

    def medians(volume):
        return [np.median(volume.voxels[where]) for where in (csf, grey, white)]

    t1, t2, flair = medians(healthy.t1), medians(healthy.t2), medians(healthy.flair)
    assert t1[0] < t1[1] < t1[2]
    assert t2[0] > t2[1] > t2[2]
    assert flair[0] < min(flair[1:])


def test_tumour_is_labelled_as_in_brats_and_looks_like_one(ill):
    labels = ill.labels.voxels
    assert set(np.unique(labels)) == {0, 1, 2, 4}
    # Necrosis lies within the enhancing rim: hardly any of it touches anything else.
    around = ndimage.binary_dilation(labels == 1) & (labels != 1)
    assert np.mean(labels[around] == 4) > 0.95
    white = ill.tissue.voxels == 3

    def over_white_matter(volume, where):
        return np.median(volume.voxels[where]) / np.median(volume.voxels[white])

    assert over_white_matter(ill.t1ce, labels == 4) > 1.3 * over_white_matter(ill.t1, labels == 4)
    assert over_white_matter(ill.t1, labels == 1) < 0.9
    assert over_white_matter(ill.t2, labels == 2) > 1.3
    assert over_white_matter(ill.flair, labels == 2) > 1.2
    assert not ill.tissue.voxels[labels == 1].any()


def test_lesions_change_nothing_but_where_they_are():
    ill, healthy = (subject(8, grid=FINE, tumour=False, lesions=lesions) for lesions in (True, False))
    lesions = ill.lesions.voxels > 0
    assert 20 < np.count_nonzero(lesions) < 2000
    assert (healthy.tissue.voxels[lesions] == 3).all()
    far = ~ndimage.binary_dilation(lesions, iterations=3)
    assert np.array_equal(ill.tissue.voxels[far], healthy.tissue.voxels[far])
    white = ill.tissue.voxels == 3
    assert np.median(ill.t2.voxels[lesions]) > 1.2 * np.median(ill.t2.voxels[white])
    assert np.median(ill.t1.voxels[lesions]) < np.median(ill.t1.voxels[white])
    assert not healthy.lesions.voxels.any()


# --- files --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    options = ["--subjects", "2", "--out", str(folder), "--seed", "9", "--spacing", "4", "--lesions"]
    assert main(["phantom", *options]) == 0
    return folder


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_cohort_has_the_layout_of_brats_2018(cohort):
    names = set(contents(cohort))
    for name in ("Phantom_0001", "Phantom_0002"):
        for kind in ("t1", "t1ce", "t2", "flair", "seg"):
            assert f"HGG/{name}/{name}_{kind}.nii.gz" in names
    assert not any(".mrsynth-" in name for name in names)
    t1 = read_volume(cohort / "HGG" / "Phantom_0001" / "Phantom_0001_t1.nii.gz")
    assert (t1.shape, t1.spacing) == ((39, 60, 60), (4.0, 4.0, 4.0))
    assert anatomy.brats_grid().shape == (155, 240, 240)


def test_cohort_is_prepared_like_any_other(cohort, tmp_path):
    assert [case.patient for case in find_cases(cohort / "HGG")] == ["Phantom_0001", "Phantom_0002"]
    assert main(["prepare", str(cohort / "HGG"), "-o", str(tmp_path), "--validation", "Phantom_0002"]) == 0
    subjects = open_store(tmp_path).meta["subjects"]
    assert all(s["skull_stripped"] and not s["registered"] and "phantom" in s["source"] for s in subjects)


def test_subjects_do_not_depend_on_each_other_or_on_the_number_of_jobs(cohort, tmp_path):
    files.write_cohort(tmp_path, 3, 9, spacing=4.0, lesions=True, jobs=2, report=lambda _: None)
    here, there = contents(cohort), contents(tmp_path)
    assert len(there) > len(here)
    assert all(there[name] == content for name, content in here.items() if "Phantom_" in name)


def test_an_interrupted_cohort_goes_on(cohort, tmp_path, monkeypatch):
    shutil.copytree(cohort, tmp_path / "cohort")
    before = contents(cohort)
    shutil.rmtree(tmp_path / "cohort" / "HGG" / "Phantom_0001")
    asked = []
    real = files.subject
    monkeypatch.setattr(files, "subject", lambda seed, **rest: asked.append(seed) or real(seed, **rest))
    files.write_cohort(tmp_path / "cohort", 2, 9, spacing=4.0, lesions=True, report=lambda _: None)
    assert asked == [(9, 1)]
    assert contents(tmp_path / "cohort") == before


def test_a_failed_write_leaves_no_half_a_subject(tmp_path, monkeypatch):
    real, written = files.write_volume, []

    def full(volume, path, **rest):
        if len(written) == 2:
            raise OutputError("output-full", "The disk is full.", "space.")
        written.append(path)
        return real(volume, path, **rest)

    monkeypatch.setattr(files, "write_volume", full)
    with pytest.raises(OutputError):
        files.write_cohort(tmp_path, 1, spacing=8.0, report=lambda _: None)
    assert written and sorted(path.name for path in tmp_path.rglob("*")) == ["HGG", "phantom.json"]


def test_a_cohort_of_other_settings_is_not_mixed_in(cohort):
    before = contents(cohort)
    with pytest.raises(TrainingError, match="made with"):
        files.write_cohort(cohort, 2, 10, spacing=4.0, lesions=True)
    assert contents(cohort) == before


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "HGG" / "patient").mkdir(parents=True)
    with pytest.raises(TrainingError, match="not empty"):
        files.write_cohort(tmp_path, 1, spacing=8.0)
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(TrainingError, match="cannot be used"):
        files.write_cohort(tmp_path / "file", 1, spacing=8.0)


@pytest.mark.parametrize(
    "options",
    [["--subjects", "0"], ["--subjects", "1", "--spacing", "0.1"], ["--subjects", "1", "--seed", "-1"],
     ["--subjects", "1", "--jobs", "0"]],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(options, tmp_path, capsys):
    assert main(["phantom", *options, "--out", str(tmp_path / "new")]) == TrainingError.exit_code
    assert "Expected" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("options", [[], ["--subjects", "1"], ["--subjects", "1", "--sample", "x", "--out", "y"]])
def test_usage(options):
    with pytest.raises(SystemExit) as stopped:
        main(["phantom", *options])
    assert stopped.value.code == 2


# --- sample data --------------------------------------------------------------------------


def test_shipped_sample_data_are_what_the_command_writes(tmp_path):
    assert main(["phantom", "--sample", str(tmp_path)]) == 0
    made = sorted(tmp_path.iterdir())
    assert [path.name for path in made] == ["MRSynthPhantom_T1.nrrd", "MRSynthPhantom_T2.nrrd"]
    for path in made:
        new, shipped = read_volume(path), read_volume(SHIPPED / path.name)
        assert np.array_equal(new.ijk_to_ras, shipped.ijk_to_ras)
        # Another processor may round a voxel here and there to the other side.
        difference = np.abs(new.voxels.astype(int) - shipped.voxels)
        assert np.mean(difference > 0) < 1e-3 and np.mean(difference > 2) < 1e-5


def test_sample_data_are_small_and_tilted():
    paths = list(SHIPPED.glob("*.nrrd"))
    assert sum(path.stat().st_size for path in paths) <= 2_000_000
    for path in paths:
        volume = read_volume(path)
        axes = volume.ijk_to_ras[:3, :3] / volume.spacing
        assert 2 < np.degrees(np.arccos(np.abs(axes).max(axis=0))).max() < 20
        outside = np.concatenate([np.take(volume.voxels, [0, -1], axis=n).ravel() for n in range(3)])
        assert not outside.any()


def test_numbers_of_the_tutorial_are_those_of_the_shipped_checkpoint():
    told = " ".join((REPOSITORY / "docs" / "tutorial.md").read_text(encoding="utf-8").split())

    def number(pattern):
        found = re.search(pattern, told)
        assert found is not None, pattern
        return float(found[1])

    source, acquired = (read_volume(SHIPPED / f"MRSynthPhantom_{name}.nrrd") for name in ("T1", "T2"))
    brain = acquired.voxels > 0
    true, t1 = (intensity.normalize(v.voxels, intensity.brain_scale(v.voxels, brain)) for v in (acquired, source))
    made = np.clip(Synthesizer(device="cpu").synthesize(source).volume.voxels / intensity.SCALE, 0, 1)
    assert not made[~brain].any()

    def psnr(image):
        return scores.psnr_of(float(np.mean((image - true)[brain] ** 2)))

    scored = scores.within(true, made, brain, scores.ssim_map(true, made, acquired))
    assert number(r"PSNR \| ([\d.]+) dB") == pytest.approx(scored["psnr"], abs=0.1)
    assert number(r"SSIM \| ([\d.]+) \|") == pytest.approx(scored["ssim"], abs=0.01)
    assert number(r"MAE \| (\d+) of 1000") == pytest.approx(1000 * scored["mae"], abs=1)
    assert number(r"single grey value .*? scores ([\d.]+) dB") == pytest.approx(psnr(np.median(true[brain])), abs=0.1)
    assert number(r"taken for a T2, ([\d.]+) dB") == pytest.approx(psnr(t1), abs=0.1)

    phantom = files.sample()
    lesions, white = phantom.lesions.voxels > 0, phantom.tissue.voxels == 3
    assert number(r"are ([\d.]+) % of it") == pytest.approx(100 * lesions.sum() / brain.sum(), abs=0.01)
    contrasts = [1000 * float(np.median(image[lesions]) - np.median(image[white])) for image in (true, made)]
    assert number(r"white matter by (\d+) units") == pytest.approx(contrasts[0], abs=2)
    assert number(r"in the synthetic T2, by (\d+)\.") == pytest.approx(contrasts[1], abs=5)
    gain = psnr(np.where(lesions, true, made)) - psnr(made)
    assert number(r"to ([\d.]+) dB\.") - number(r"rise from ([\d.]+)") == pytest.approx(gain, abs=0.006)
