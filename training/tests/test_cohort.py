"""What is found below a folder, in every layout, and what is said of what is missing or broken."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from mrsynth_training import inspection, splits, unseen
from mrsynth_training.cli import main
from mrsynth_training.cohort import Case, find, find_cases
from mrsynth_training.errors import TrainingError
from MRSynthLib.engine.files import write_volume
from MRSynthLib.engine.volume import Volume


def small(seed: int = 0, shift: float = 0.0) -> Volume:
    """A volume of noise, good enough to have a header and an end."""
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    affine[0, 3] = shift
    rng = np.random.default_rng(seed)
    return Volume(rng.integers(1, 2000, (9, 12, 10)).astype(np.int16), affine)


def put(folder: Path, *files: str, shift: float = 0.0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, file in enumerate(files):
        write_volume(small(number, shift if number else 0.0), folder / file)


BRATS = ("t1", "t1ce", "t2", "flair")


def found(folder: Path) -> list[tuple[str, str, str, str, str]]:
    return [(c.subject, c.patient, c.layout, c.t1.name, c.t2.name) for c in find_cases(folder)]


def test_brats_2018_with_grades_sites_and_labels(tmp_path):
    top = tmp_path / "MICCAI_BraTS_2018_Data_Training"
    for grade, name in (("HGG", "Brats18_TCIA01_147_1"), ("LGG", "Brats18_2013_8_1"), ("LGG", "Brats18_2013_8_2")):
        put(top / grade / name, *(f"{name}_{c}.nii.gz" for c in BRATS))
    put(top / "HGG" / "Brats18_TCIA01_147_1", "Brats18_TCIA01_147_1_seg.nii.gz")
    first, again, other = find_cases(tmp_path)
    assert (first.subject, first.patient) == ("Brats18_2013_8_1", "Brats18_2013_8")
    assert again.patient == first.patient != other.patient  # two visits of one patient
    assert (other.layout, other.grade, other.group) == ("BraTS 2018", "HGG", "TCIA01")
    assert (first.grade, first.group) == ("LGG", "2013")
    assert other.t1.name == "Brats18_TCIA01_147_1_t1.nii.gz"  # and not t1ce
    assert other.segmentation is not None and first.segmentation is None


def test_brats_2020_unpacked_with_its_odd_label_file_and_grades(tmp_path):
    top = tmp_path / "BraTS2020_TrainingData" / "MICCAI_BraTS2020_TrainingData"
    put(top / "BraTS20_Training_001", *(f"BraTS20_Training_001_{c}.nii" for c in BRATS))
    put(top / "BraTS20_Training_355", *(f"BraTS20_Training_355_{c}.nii" for c in BRATS), "W39_1998.09.19_Segm.nii")
    (top / "name_mapping.csv").write_text(
        "Grade,BraTS_2018_subject_ID,BraTS_2020_subject_ID\nLGG,,BraTS20_Training_355\n"
    )
    first, odd = find_cases(tmp_path / "BraTS2020_TrainingData")
    assert found(tmp_path)[0] == (
        *("BraTS20_Training_001", "BraTS20_Training_001", "BraTS 2020"),
        *("BraTS20_Training_001_t1.nii", "BraTS20_Training_001_t2.nii"),
    )
    assert first.grade == "" and odd.grade == "LGG"
    assert odd.segmentation and odd.segmentation.name == "W39_1998.09.19_Segm.nii"


def test_brats_2021_and_2023_side_by_side(tmp_path):
    put(tmp_path / "2021" / "BraTS2021_00002", *(f"BraTS2021_00002_{c}.nii.gz" for c in (*BRATS, "seg")))
    for visit in ("000", "001"):
        name = f"BraTS-GLI-00005-{visit}"
        put(tmp_path / "2023" / name, *(f"{name}-{c}.nii.gz" for c in ("t1c", "t1n", "t2f", "t2w", "seg")))
    assert found(tmp_path) == [
        (
            f"BraTS-GLI-00005-{v}",
            "BraTS-GLI-00005",
            "BraTS 2023",
            f"BraTS-GLI-00005-{v}-t1n.nii.gz",
            f"BraTS-GLI-00005-{v}-t2w.nii.gz",
        )
        for v in ("000", "001")
    ] + [("BraTS2021_00002", "BraTS2021_00002", "BraTS 2021", "BraTS2021_00002_t1.nii.gz", "BraTS2021_00002_t2.nii.gz")]


def test_bids_with_sessions_contrast_agent_and_derivatives(tmp_path):
    put(
        tmp_path / "sub-01" / "anat",
        "sub-01_T1w.nii.gz",
        "sub-01_ce-gadolinium_T1w.nii.gz",
        "sub-01_T2w.nii.gz",
        shift=1.0,
    )
    put(
        tmp_path / "sub-02" / "ses-a" / "anat",
        "sub-02_ses-a_run-1_T1w.nii.gz",
        "sub-02_ses-a_run-2_T1w.nii.gz",
        "sub-02_ses-a_T2w.nii.gz",
    )
    put(tmp_path / "sub-02" / "ses-b" / "anat", "sub-02_ses-b_T1w.nii.gz")
    put(tmp_path / "derivatives" / "x" / "sub-01" / "anat", "sub-01_T1w.nii.gz", "sub-01_T2w.nii.gz")
    cohort = find(tmp_path)
    assert found(tmp_path) == [
        ("sub-01", "sub-01", "BIDS", "sub-01_T1w.nii.gz", "sub-01_T2w.nii.gz"),
        ("sub-02_ses-a", "sub-02", "BIDS", "sub-02_ses-a_run-1_T1w.nii.gz", "sub-02_ses-a_T2w.nii.gz"),
    ]
    assert [(p.subject, p.kind) for p in cohort.problems] == [("sub-02_ses-b", "missing")]
    assert "run-2" in cohort.notes[0]
    assert inspection.inspect(cohort).registered == ["sub-01"]


def test_several_studies_in_one_folder_and_the_folder_of_one_study(tmp_path):
    put(tmp_path / "flat", "a_t1.nii.gz", "a_t2.nii.gz", "b_t1.nii.gz", "b_t2.nii.gz")
    put(tmp_path / "one", "t1.nii.gz", "t2.nii.gz", "brain.nii.gz", "lesion.nii.gz")
    assert [c.subject for c in find_cases(tmp_path / "flat")] == ["a", "b"]
    (case,) = find_cases(tmp_path / "one")
    assert case.subject == "one" and case.brain and case.lesion
    for place in ("x", "y"):
        put(tmp_path / "sites" / place / "001", "t1.nii.gz", "t2.nii.gz")
    assert [c.subject for c in find_cases(tmp_path / "sites")] == ["001", "y-001"]


@pytest.mark.parametrize(
    ("file", "told"),
    [
        (None, "it is empty"),
        ("a.zip", "Unpack the archives first"),
        ("i.dcm", "dcm2niix"),
        ("notes.txt", "Check the path"),
    ],
)
def test_a_wrong_folder_is_told_with_what_it_holds(tmp_path, file, told):
    if file:
        (tmp_path / file).write_bytes(b"x")
    with pytest.raises(TrainingError, match=told):
        find(tmp_path)
    with pytest.raises(TrainingError, match="there is no folder"):
        find(tmp_path / "none")


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Six studies: whole, without T2, cut off, no image, empty, there twice; and a link to nothing."""
    for name in ("whole", "half", "cut", "none", "empty", "twice"):
        put(tmp_path / f"BraTS2021_{name}", *(f"BraTS2021_{name}_{c}.nii.gz" for c in ("t1", "t2", "flair")))
    put(tmp_path / "copy" / "BraTS2021_twice", "BraTS2021_twice_t1.nii.gz", "BraTS2021_twice_t2.nii.gz")

    def file(name: str) -> Path:
        return tmp_path / f"BraTS2021_{name}" / f"BraTS2021_{name}_t2.nii.gz"

    file("half").unlink()
    file("cut").write_bytes(file("cut").read_bytes()[:-200])
    file("none").write_bytes(gzip.compress(b"nothing of the kind" * 40))
    file("empty").write_bytes(b"")
    put(tmp_path / "BraTS2021_link", "BraTS2021_link_t1.nii.gz")
    file("link").symlink_to(tmp_path / "not_fetched")
    return tmp_path


def test_the_report_names_what_is_missing_and_broken(damaged, capsys):
    assert main(["find", str(damaged), "--json", str(damaged / "report.json")]) == 3
    said = capsys.readouterr().out
    report = json.loads((damaged / "report.json").read_text())
    assert report["studies"] == 2
    kinds = {(p["subject"].removeprefix("BraTS2021_"), p["kind"]) for p in report["problems"]}
    assert kinds == {
        *(("half", "missing"), ("twice", "duplicate")),
        *((name, "broken") for name in ("cut", "none", "empty", "link")),
    }
    assert "no T2" in said and "cut off" in said and "link to nothing" in said
    assert all(p["text"] in said for p in report["problems"])


def test_a_damaged_middle_and_unknown_labels_are_found_by_reading(tmp_path, capsys):
    put(tmp_path / "a", "a_t1.nii", "a_t2.nii.gz", "a_seg.nii.gz")  # noise for labels
    put(tmp_path / "b", "b_t1.nii.gz", "b_t2.nii.gz")
    path = tmp_path / "b" / "b_t2.nii.gz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 40] = bytes(40)
    path.write_bytes(content)
    put(tmp_path / "c", "c_t1.nii.gz", "c_t2.nii.gz")
    assert main(["find", str(tmp_path)]) == 0
    assert main(["find", str(tmp_path), "--read"]) == 3
    said = capsys.readouterr().out
    assert "complete studies 1," in said and "has the labels" in said and "b_t2" in said


def test_listed_checksums_are_compared(tmp_path):
    put(tmp_path / "a", "t1.nii.gz", "t2.nii.gz")
    sums = {n: hashlib.md5((tmp_path / "a" / n).read_bytes()).hexdigest() for n in ("t1.nii.gz", "t2.nii.gz")}
    lines = "".join(f"{digest}  a/{name}\n" for name, digest in sums.items())
    (tmp_path / "MD5SUMS").write_text(lines)
    assert inspection.inspect(find(tmp_path), read=True).problems == []
    (tmp_path / "MD5SUMS").write_text(lines.replace(sums["t2.nii.gz"], "0" * 32))
    (problem,) = inspection.inspect(find(tmp_path), read=True).problems
    assert "md5 checksum" in problem.text and "t2.nii.gz" in problem.text


def test_a_file_of_several_compressed_members_is_not_taken_for_cut_off(tmp_path):
    put(tmp_path / "a", "t1.nii.gz", "t2.nii.gz")
    path = tmp_path / "a" / "t1.nii.gz"
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[:700]) + gzip.compress(content[700:]) + gzip.compress(b""))
    assert inspection.inspect(find(tmp_path)).problems == []


def cases(*names: str, patient=lambda name: name) -> list[Case]:
    return [Case(name, patient(name), name, Path(name), Path(name), None) for name in names]


def test_the_papers_split_has_163_and_53_patients_and_the_rest_watches():
    cohort = cases(*(f"P{n:03d}" for n in range(285)))
    split = splits.draw(cohort, "paper", 1)
    assert [len(part) for part in (split.train, split.test, split.validation, split.unused)] == [163, 53, 10, 59]
    assert len(set().union(split.train, split.test, split.validation, split.unused)) == 285
    assert splits.draw(cohort[::-1], "paper", 1) == split  # whatever order they are found in
    assert splits.draw(cohort, "paper", 2).test != split.test
    with pytest.raises(TrainingError, match="215 patients"):
        splits.draw(cohort[:215], "paper", 1)
    # The same in every version of every library.
    assert sorted(splits.draw(cohort[:6], "4+2", 1).test) == ["P000", "P001"]


def test_visits_of_a_patient_stay_together_and_count_once():
    cohort = cases(*(f"{p}-{v}" for p in "ABCD" for v in (0, 1)), patient=lambda name: name[0])
    split = splits.draw(cohort, "2+1+1", 3)
    taken = [s for role in splits.ROLES for studies in getattr(split, role).values() for s in studies]
    assert sorted(taken) == ["A-0", "B-0", "C-0", "D-0"]
    assert split.role("A-1") is None and split.unused["A"] == ["A-1"]


BRATS_VISITS = tuple(f"BraTS-GLI-{p:05d}-{v:03d}" for p in range(8) for v in (0, 1))
PLAIN_VISITS = tuple(f"{p}_{v}" for p in "ABCDEFGH" for v in (1, 2))
ODD_VISITS = tuple(f"{p}-{v}" for p in "ABCDEFGH" for v in ("first", "later"))  # whose names do not tell the patient


@pytest.mark.parametrize(
    ("names", "patient", "told_by"),
    [
        (BRATS_VISITS, lambda name: name[:15], "names"),
        (PLAIN_VISITS, lambda name: name[0], "names"),
        (ODD_VISITS, lambda name: name[0], "split"),
        (ODD_VISITS, lambda name: name[0], "patient"),
    ],
)
def test_another_visit_of_a_training_patient_is_not_unseen(names, patient, told_by):
    cohort = cases(*names, patient=patient)
    split = splits.draw(cohort, "5+2+1", 1)  # first visits
    data = []
    for case in cohort:
        if split.role(case.subject):
            of_patient = {"patient": case.patient} if told_by == "patient" else {}
            data.append({"subject": case.subject, "role": split.role(case.subject), **of_patient})
    card = {"training_data": data, "split": split.as_dict() if told_by == "split" else None}
    roles = {case.subject: unseen.role(card, case) for case in cohort}
    expected = {}
    for case in cohort:
        of_patient = next(role for role in splits.ROLES if case.patient in getattr(split, role))
        later = "unseen" if of_patient == "test" else of_patient
        expected[case.subject] = split.role(case.subject) or later
    assert roles == expected
    assert {role: list(roles.values()).count(role) for role in roles.values()} == {
        "train": 10, "validation": 2, "test": 2, "unseen": 2
    }  # fmt: skip
    assert [case.subject for case in unseen.unseen(card, cohort)] == [s for s, role in roles.items() if role != "train"]
    assert len(unseen.training_studies(card)) == 5


def test_a_visit_alone_in_its_folder_is_of_the_patient_in_the_card():
    card = {"training_data": [{"subject": "A_1", "role": "train"}, {"subject": "B_1", "role": "test"}]}
    (alone,) = cases("A_2")  # its folder does not tell that 2 is a visit
    assert unseen.role(card, alone) == "train"
    assert [unseen.role(card, case) for case in cases("B_1", "C", "A_10_1")] == ["test", "unseen", "unseen"]


def test_a_split_that_leaks_is_refused_in_all_its_forms(tmp_path):
    cohort = cases("A-0", "A-1", "B", "C", patient=lambda name: name[0])
    good = splits.draw(cohort, "1+1+1", 1)
    assert splits.load(splits.write(good, tmp_path / "split.json")) == good
    with pytest.raises(TrainingError, match="patient A is in train and in test"):
        splits.check(splits.Split("", 1, {"A": ["A-0"]}, test={"X": ["A-1"]}), cohort)  # under another name
    with pytest.raises(TrainingError, match="patient B is in train and in validation"):
        splits.check(splits.Split("", 1, {"B": ["B"]}, {"Q": ["B"]}), cohort)
    with pytest.raises(TrainingError, match="same T1 as A-0 and C"):
        splits.check_contents({"A-0": ("train", "x"), "C": ("test", "x"), "B": ("train", "y")})
    with pytest.raises(TrainingError, match="not usable here"):
        splits.check(good, cohort[:1])
    content = json.loads((tmp_path / "split.json").read_text())
    content["test"], content["train"] = content["train"], content["test"]
    (tmp_path / "altered.json").write_text(json.dumps(content))
    with pytest.raises(TrainingError, match="altered"):
        splits.load(tmp_path / "altered.json")
