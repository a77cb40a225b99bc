"""Screening's learned numbers: fitted, written, read, and judged on patients that they have not seen."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mrsynth_training import phantom
from mrsynth_training.phantom_anatomy import bent, brats_grid, sampled
from mrsynth_training.screening_fit import Sample, fitted, sample
from mrsynth_training.screening_others import OTHERS, ct_head
from mrsynth_training.screening_study import AS_ACQUIRED, OVER, _refused_way, summary
from mrsynth_training.screening_variants import VARIANTS, bright_for_dark
from MRSynthLib.engine import screening, screening_model, screening_pose
from MRSynthLib.engine.screening_contrast import classified
from MRSynthLib.engine.screening_copy import copied
from MRSynthLib.engine.volume import Volume

CONTRASTS = ("t1", "t2", "flair")


@pytest.fixture(scope="module")
def patients() -> list[phantom.Phantom]:
    return [phantom.subject((11, seed), grid=brats_grid(3.0), tumour=False) for seed in range(4)]


@pytest.fixture(scope="module")
def samples(patients: list[phantom.Phantom]) -> list[Sample]:
    """Of all but the last patient."""
    return [_sample(str(n), name, getattr(p, name)) for n, p in enumerate(patients[:-1]) for name in CONTRASTS]


@pytest.fixture(scope="module")
def model(samples: list[Sample]) -> screening_model.Model:
    """As it is read from its file."""
    return screening_model.from_document(json.loads(json.dumps(fitted(samples).document())))


def _sample(group: str, contrast: str, volume: Volume) -> Sample:
    return sample(group, contrast, copied(volume, screening.look(volume)))


def test_another_patient_is_known_by_the_fitted_numbers(
    model: screening_model.Model, patients: list[phantom.Phantom]
) -> None:
    for name in CONTRASTS:
        volume = getattr(patients[-1], name)
        known = _sample("new", name, volume)
        assert known.brain is not None
        assert classified(known.brain, known.skull_stripped, model).name == name
        found = screening_pose.position(copied(volume, screening.look(volume)), model)
        assert found.way == screening_pose.WAYS[screening_pose.AS_SAID]
        assert found.margin < 0


def test_every_wrong_header_of_another_patient_is_refused(
    model: screening_model.Model, patients: list[phantom.Phantom]
) -> None:
    each = _sample("new", "t2", patients[-1].t2)
    outline, grey = (np.asarray(array, np.float32) for array in (each.outline, each.grey))
    score, _, upright = screening_pose.scores(outline, grey, True, model)
    refused = [_refused_way(score, upright, way) for way in range(len(score))]
    assert refused.count(False) == 1
    assert not refused[screening_pose.AS_SAID]


def test_groups_weigh_the_same_whatever_they_have(samples: list[Sample]) -> None:
    once, often = fitted(samples), fitted(samples + samples[:3] * 5)
    assert np.abs(once.outline["brain"] - often.outline["brain"]).max() < 1e-5
    np.testing.assert_allclose(once.upright @ often.upright / (once.upright @ once.upright), 1, atol=0.02)


def test_variants_stay_what_they_are(patients: list[phantom.Phantom]) -> None:
    for name, change in VARIANTS.items():
        seen = screening.screen(change(patients[0].t2, np.random.default_rng(8)))
        assert (seen.contrast, seen.verdict != "refuse") == ("t2", True), name


def test_a_t1_turned_over_is_refused_and_a_t2_is_not_noticed(patients: list[phantom.Phantom]) -> None:
    seen = screening.screen(bright_for_dark(patients[0].t1))
    assert seen.verdict == "refuse"
    assert "bright for dark" in seen.reasons[1]
    assert "bright for dark" not in " ".join(screening.screen(bright_for_dark(patients[0].t2)).reasons)


@pytest.mark.parametrize("kind", [kind for kind in OTHERS if kind != "thing"])
def test_other_things_are_refused(kind: str) -> None:
    assert screening.screen(OTHERS[kind](np.random.default_rng(1234))).verdict == "refuse"


def test_a_test_object_of_a_heads_outline_is_refused_by_its_inside(patients: list[phantom.Phantom]) -> None:
    brain = patients[0].t2.voxels > 0
    voxels = np.where(brain, 500.0, 0.0)
    voxels[brain & (np.indices(brain.shape)[2] % 16 < 4)] = 100  # plates in a fluid
    noisy = np.maximum(voxels + np.random.default_rng(5).normal(0, 40, brain.shape), 1)
    seen = screening.screen(patients[0].t2.replaced(np.where(brain, noisy, 0)))
    assert (seen.contrast, seen.verdict) == ("other", "refuse")


@pytest.mark.parametrize("kind", ["hounsfield", "offset", "window", "bone"])
def test_ct_is_refused(kind: str) -> None:
    rng = np.random.default_rng(77)
    grid = brats_grid(4.0)
    assert screening.screen(ct_head(sampled(grid, bent(grid, rng), 1.6, 0.7), rng, kind)).verdict == "refuse"


def test_the_summary_counts_what_is_right() -> None:
    def judged(study: str, contrast: str, seen: str, **more: object) -> dict[str, object]:
        usual = {"variant": AS_ACQUIRED, "confidence": 0.95, "no_brain": False, "wrong_way": False, "turned_over": ""}
        return {"study": study, "contrast": contrast, "seen": seen, "wrong_ways_refused": 1.0, **usual, **more}

    found = summary(
        [
            judged("A", "t1", "t1"),
            judged("A", "t2", "flair"),
            judged("B", "flair", "flair", variant="noise"),
            judged("A", "t1", "t2", variant=OVER, turned_over="refuse"),
            judged("B", "t1", "t2", variant=OVER, turned_over="warn"),
            judged("phantom 0", "t1", "t1"),
        ],
        [judged("limb", "other", "t1", no_brain=True), judged("limb", "other", "t1"), judged("noise", "other", "t1")],
    )
    assert (found["as acquired"]["volumes"], found["variants"]["volumes"], found["phantoms"]["volumes"]) == (2, 1, 1)
    assert (found["as acquired"]["contrast"], found["as acquired"]["t1_or_t2_refused"]) == (0.5, 0.5)
    assert found["as acquired"]["t1c"] is None
    over = found["turned over, bright for dark"]
    assert (over["t1 refused"], over["t1 noticed"], over["t2 refused"]) == (0.5, 1.0, None)
    assert found["no brain MR refused"]["limb"] == 0.5
    assert found["no brain MR refused"]["all"] == pytest.approx(1 / 3)
