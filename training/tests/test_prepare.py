"""Preparation: parallel, resumable, each file read once, checked; and what it does with bad input."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mrsynth_training import parts, preparation, slices, sources, splits
from mrsynth_training.cli import main
from mrsynth_training.errors import TrainingError
from mrsynth_training.neighbours import neighbours
from mrsynth_training.phantom_files import write_cohort
from mrsynth_training.slices import open_store
from mrsynth_training.subject_slices import NEXT_PLANE, _worthwhile
from MRSynthLib.engine import preparation as engine
from MRSynthLib.engine.files import read_volume, write_volume
from MRSynthLib.engine.locks import LOCK, only_one
from MRSynthLib.engine.standard_space import PLANES
from MRSynthLib.engine.writing import sha256_of


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    """Four computed patients with tumours, in BraTS' layout, coarse."""
    folder = tmp_path_factory.mktemp("phantoms")
    write_cohort(folder, 4, seed=3, spacing=6.0, report=lambda line: None)
    return folder


@pytest.fixture
def copy(cohort, tmp_path) -> Path:
    return Path(shutil.copytree(cohort, tmp_path / "data"))


@pytest.fixture(scope="module")
def store(cohort, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "store"
    options = ["--frame", "paper", "--split", "2+1+1", "--seed", "5", "--jobs", "2"]
    assert main(["prepare", str(cohort), "-o", str(folder), *options]) == 0
    return folder


def prepare(data: Path, store: Path, **options) -> list[str]:
    said: list[str] = []
    settings = {"split": "2+1+1", "seed": 5, **options}
    preparation.prepare(data, store, "paper", report=said.append, **settings)
    return said


def arrays(store: Path) -> dict[str, str]:
    return open_store(store).meta["sha256"]


def volume_of(data: Path, number: int, contrast: str) -> Path:
    name = f"Phantom_{number:04d}"
    return data / "HGG" / name / f"{name}_{contrast}.nii.gz"


def spoilt_within(path: Path) -> None:
    """Damage that neither the header nor the end of the file shows."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 16] = bytes(16)
    path.write_bytes(content)


def test_store_has_both_contrasts_roles_and_disease(store, cohort):
    opened = open_store(store)
    split = splits.load(store / "split.json")
    assert opened.meta["split"] == split.as_dict()
    assert [len(part) for part in (split.train, split.test, split.validation)] == [2, 1, 1]
    for role in splits.ROLES:
        of_role = {opened.rows[i]["subject"] for i in opened.indices(role)}
        assert of_role == {s for studies in getattr(split, role).values() for s in studies}
    assert opened.data.dtype == np.float16 and opened.data.shape[1:] == (2, 128, 128)
    assert set(np.unique(opened.mask)) == {0, 1, 2}
    record = opened.meta["subjects"][0]
    assert record["files"]["t1"]["sha256"] == sha256_of(volume_of(cohort, 1, "t1"))
    assert not (store / ".parts").exists()


def test_two_jobs_make_the_same_store_as_one_and_read_every_file_once(store, cohort, tmp_path, monkeypatch):
    reads: Counter[Path] = Counter()

    def counted(path):
        reads[path] += 1
        return read_volume(path)

    monkeypatch.setattr(sources, "read_volume", counted)
    prepare(cohort, tmp_path / "store")
    assert arrays(tmp_path / "store") == arrays(store)
    assert set(reads.values()) == {1}
    assert len(reads) == 4 * 3  # T1, T2 and labels
    assert "holds these very slices already" in prepare(cohort, tmp_path / "store")[-1]
    assert len(reads) == 4 * 3 and set(reads.values()) == {1}


def test_killed_in_the_middle_and_run_again_is_the_uninterrupted_store(store, cohort, tmp_path, monkeypatch):
    target = tmp_path / "store"
    command = [sys.executable, "-m", "mrsynth_training.cli", "prepare", str(cohort), "-o", str(target)]
    child = subprocess.Popen([*command, "--frame", "paper", "--split", "2+1+1", "--seed", "5"])
    while not list(target.glob(".parts/*/part.json")):
        assert child.poll() is None
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    kept = {path.parent.name for path in target.glob(".parts/*/part.json") if path.parent.suffix != ".partial"}
    assert 1 <= len(kept) < 4
    with pytest.raises(TrainingError, match="not a readable slice store"):
        open_store(target)
    made = []
    original = preparation.prepare_case

    def noted(case, *rest, **options):
        made.append(case.subject)
        return original(case, *rest, **options)

    monkeypatch.setattr(preparation, "prepare_case", noted)
    prepare(cohort, target)
    assert arrays(target) == arrays(store)
    assert not kept & set(made)


def test_a_damaged_part_and_a_changed_file_are_made_again(copy, tmp_path):
    target = tmp_path / "store"
    spoilt_within(volume_of(copy, 4, "t2"))
    with pytest.raises(TrainingError, match="3 studies are kept"):
        prepare(copy, target)
    with (target / ".parts" / "Phantom_0001" / "images.npy").open("r+b") as file:
        file.seek(-10, os.SEEK_END)
        file.write(b"damaged")
    os.utime(volume_of(copy, 2, "t1"))
    with pytest.raises(TrainingError, match="Phantom_0004"):
        said = prepare(copy, target)
    said = prepare(copy, target, broken="skip")
    assert "3 studies are prepared already" in said


def test_a_corrupt_file_amid_many_stops_or_is_left_out_and_named(copy, tmp_path):
    spoilt_within(volume_of(copy, 2, "t2"))
    with pytest.raises(TrainingError, match=r"Phantom_0002.*_t2.nii.gz' is damaged"):
        prepare(copy, tmp_path / "stopped")
    assert not (tmp_path / "stopped" / "meta.json").exists()
    said = prepare(copy, tmp_path / "skipped", broken="skip", jobs=2)
    opened = open_store(tmp_path / "skipped")
    assert {r["subject"] for r in opened.meta["subjects"]} == {"Phantom_0001", "Phantom_0003", "Phantom_0004"}
    assert [entry["subject"] for entry in opened.meta["left_out"]] == ["Phantom_0002"]
    assert said[-1] == "left out: 1 (Phantom_0002)"
    assert "already" in prepare(copy, tmp_path / "skipped", broken="skip")[-1]


def test_a_missing_contrast_is_told_before_anything_is_computed(copy, tmp_path, monkeypatch):
    volume_of(copy, 3, "t1").unlink()
    monkeypatch.setattr(preparation, "prepare_case", None)
    with pytest.raises(TrainingError, match=r"Phantom_0003: no T1 .*nothing was computed"):
        prepare(copy, tmp_path / "store")
    said = prepare(copy, tmp_path / "store", broken="skip", dry_run=True, split="2+1")
    assert "3 studies to prepare" in said[-1]
    assert not (tmp_path / "store").exists()


def altered(path: Path, change) -> None:
    volume = read_volume(path)
    path.unlink()
    write_volume(change(volume), path)


@pytest.mark.parametrize(
    ("contrast", "change", "told"),
    [
        ("t2", lambda v: v.replaced(np.full(v.shape, 7, np.int16)), "All voxels of"),
        ("t2", lambda v: v.replaced(np.where(v.voxels > 0, 5, 0).astype(np.int16)), "different values"),
        ("seg", lambda v: v.replaced(np.where(v.voxels == 2, 9, v.voxels)), "has the labels 9"),
        (
            "t2",
            lambda v: v.replaced(np.roll(v.voxels, 9, axis=0) * (np.arange(v.shape[0]) > 99)[:, None, None]),
            "are 0",
        ),
    ],
    ids=["constant", "a mask", "unknown labels", "empty"],
)
def test_bad_volumes_are_named(copy, tmp_path, contrast, change, told):
    altered(volume_of(copy, 1, contrast), change)
    with pytest.raises(TrainingError, match=rf"(?s)Phantom_0001.*{told}"):
        prepare(copy, tmp_path / "store")


def test_a_t2_on_another_grid_is_registered_and_labels_follow(copy, tmp_path):
    def cut(volume):
        affine = volume.ijk_to_ras.copy()
        affine[:3, 3] += affine[:3, :3] @ (1, 2, 0)
        return type(volume)(np.ascontiguousarray(volume.voxels[:, 2:, 1:]), affine)

    altered(volume_of(copy, 1, "t2"), cut)
    altered(volume_of(copy, 1, "seg"), cut)
    said = prepare(copy, tmp_path / "store")
    assert any("will be registered: 1 (Phantom_0001)" in line for line in said)
    opened = open_store(tmp_path / "store")
    assert [r["registered"] for r in opened.meta["subjects"]] == [True, False, False, False]
    mine = [i for i, row in enumerate(opened.rows) if row["subject"] == "Phantom_0001"]
    assert (opened.mask[mine] == 2).any()


def test_a_store_of_other_data_or_another_split_is_not_written_over(store, copy, cohort):
    before = arrays(store)
    with pytest.raises(TrainingError, match="another split"):
        prepare(cohort, store, seed=6)
    shutil.rmtree(volume_of(copy, 4, "t1").parent)
    with pytest.raises(TrainingError, match="studies that differ: Phantom_0004"):
        prepare(copy, store, split="1+1+1")
    assert arrays(store) == before


def test_the_same_images_under_two_names_on_two_sides_are_refused(copy, tmp_path):
    for contrast in ("t1", "t2"):
        for number in range(2, 5):  # whoever is drawn: all four are one
            shutil.copy(volume_of(copy, 1, contrast), volume_of(copy, number, contrast))
    with pytest.raises(TrainingError, match="leaks: the same T1"):
        prepare(copy, tmp_path / "store")


def test_a_full_disk_is_told_and_leaves_no_store(cohort, tmp_path, monkeypatch):
    command = [sys.executable, "-m", "mrsynth_training.cli", "prepare", str(cohort), "-o", str(tmp_path / "store")]
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # noqa: E731
    ended = subprocess.run([*command, "--frame", "paper"], preexec_fn=limit, capture_output=True, text=True)
    assert ended.returncode == 5, ended.stderr
    assert "no space is left" in ended.stderr
    assert not (tmp_path / "store" / "meta.json").exists()
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10_000_000))
    with pytest.raises(TrainingError, match=r"0\.0 GB are free"):
        prepare(cohort, tmp_path / "store")


def test_a_store_that_leaks_or_was_altered_is_refused(store, tmp_path):
    altered_store = Path(shutil.copytree(store, tmp_path / "store"))
    with (altered_store / "data.npy").open("r+b") as file:
        file.seek(-2, os.SEEK_END)
        file.write(b"xx")
    slices.verify(store)
    with pytest.raises(TrainingError, match=r"data\.npy"):
        slices.verify(altered_store)
    meta = json.loads((altered_store / "meta.json").read_text())
    for record in meta["subjects"][:2]:
        record["patient"] = "P"
    meta["subjects"][0]["role"], meta["subjects"][1]["role"] = "train", "test"
    (altered_store / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(TrainingError, match="leaks: patient P"):
        open_store(altered_store)


def test_parts_of_another_frame_are_not_taken(cohort, tmp_path):
    (case, *_) = preparation.find_cases(cohort)
    made = parts.key(case, "paper")
    parts.save(tmp_path, made, preparation.prepare_case(case, "paper"))
    assert parts.load(tmp_path, case.subject, made) is not None
    assert parts.load(tmp_path, case.subject, parts.key(case, "native")) is None
    assert parts.load(tmp_path, case.subject, parts.key(case, "paper", "three")) is None


def test_three_planes_are_cut_as_the_engine_cuts_them(cohort):
    (case, *_) = preparation.find_cases(cohort)
    axial = preparation.prepare_case(case, "native")
    three = preparation.prepare_case(case, "native", planes="three")
    assert three.record["planes"] == list(PLANES)
    plane, number = np.divmod(three.slices, NEXT_PLANE)
    n, _, height, width = axial.images.shape
    assert np.array_equal(number[plane == 0], axial.slices)
    assert np.array_equal(three.images[:n, :, :height, :width], axial.images)
    as_run = engine.prepare(read_volume(str(case.t1)), "native", source="t1", target="t2", mask=None)
    for index, name in enumerate(PLANES[1:], start=1):
        expected = engine.in_plane(as_run, "native", name).slices
        height, width = expected.shape[1:]
        mine = three.images[plane == index, 0, :height, :width]
        beyond = three.images[plane == index].copy()
        beyond[:, :, :height, :width] = 0
        assert not beyond.any()
        assert np.corrcoef(mine.ravel(), expected[number[plane == index]].ravel())[0, 1] > 0.99
    volumes = [np.count_nonzero(three.mask[plane == index]) for index in range(3)]
    assert max(volumes) < 1.05 * min(volumes)  # pixels of brain, in slices equally far apart


def test_slices_of_two_planes_are_no_neighbours_and_thick_slices_stay_axial(copy, tmp_path):
    def thick(volume):
        affine = volume.ijk_to_ras.copy()
        affine[:3, 2] *= 3
        return type(volume)(np.ascontiguousarray(volume.voxels[::3]), affine)

    for contrast in ("t1", "t2", "seg"):
        altered(volume_of(copy, 1, contrast), thick)
    preparation.prepare(copy, tmp_path / "store", "native", planes="three", split="2+1+1", report=lambda line: None)
    opened = open_store(tmp_path / "store")
    planes = {record["subject"]: record["planes"] for record in opened.meta["subjects"]}
    assert planes == {f"Phantom_{n:04d}": ["axial"] if n == 1 else list(PLANES) for n in range(1, 5)}
    of_plane = np.array([row["slice"] // NEXT_PLANE for row in opened.rows])
    around = neighbours(opened.rows, 3)
    assert (of_plane[around] == of_plane[:, None]).all()
    assert (around[:, 0] != around[:, 2]).all()
    said: list[str] = []
    preparation.prepare(copy, tmp_path / "store", "native", planes="three", split="2+1+1", report=said.append)
    assert "holds these very slices already" in said[-1]
    with pytest.raises(TrainingError, match=r"another split|studies that differ"):
        preparation.prepare(copy, tmp_path / "store", "native", split="2+1+1", report=said.append)


def test_the_paper_s_frame_is_axial(cohort, tmp_path):
    with pytest.raises(TrainingError, match="as published"):
        prepare(cohort, tmp_path / "store", planes="three")


def test_a_second_preparation_of_the_store_is_refused(cohort, tmp_path):
    with only_one(tmp_path / "store" / LOCK), pytest.raises(TrainingError, match="another process prepares"):
        prepare(cohort, tmp_path / "store")


@pytest.mark.parametrize(("bottom", "top", "first"), [(10, 110, 20), (0, 150, 35), (30, 155, 52), (40, 100, 40)])
def test_the_81_slices_are_those_about_the_middle_of_the_brain(bottom, top, first):
    """Of brain in the slices bottom to top - 1 of 155; all of it, where that is fewer."""
    number = np.arange(155)[:, None, None]
    brain = np.broadcast_to((number >= bottom) & (number < top), (155, 4, 4))
    head, outside = np.ones((155, 4, 4), bool), np.zeros((155, 4, 4), bool)
    kept = _worthwhile(np.ones((155, 2, 4, 4)), head, outside, brain, "paper")
    assert kept.tolist() == list(range(first, min(first + 81, top)))
    outside[60, :1] = True  # a quarter of one slice's head is out of a field of view
    assert _worthwhile(np.ones((155, 2, 4, 4)), head, outside, brain, "paper").tolist() == [n for n in kept if n != 60]
    assert len(_worthwhile(np.ones((155, 2, 4, 4)), head, outside, brain, "native")) == 154
