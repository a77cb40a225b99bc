"""The scores in a card: of the weights themselves, or of a cross-validation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mrsynth_training.errors import TrainingError
from mrsynth_training.export import read_cross_validation


def scores(path: Path, subject: str, psnr: float, role: str = "validation", version: int = 1) -> Path:
    """What `evaluate -o` writes, as far as it is read."""
    entries = [
        {"subject": subject, "role": role, "direction": direction, "scores": {"paper": {"psnr": psnr, "ssim": 0.8}}}
        for direction in ("t1_to_t2", "t2_to_t1")
    ]
    path.write_text(json.dumps({"protocol_version": version, "subjects": entries}), encoding="utf-8")
    return path


def test_means_are_over_the_studies_of_all_folds(tmp_path: Path) -> None:
    folds = [scores(tmp_path / "a.json", "A", 20.0), scores(tmp_path / "b.json", "B", 30.0, role="unseen")]
    metrics = read_cross_validation(folds)
    means = metrics["cross_validation"]
    assert metrics["protocol_version"] == 1
    assert means["t1_to_t2"]["paper"] == {"psnr": 25.0, "ssim": 0.8, "subjects": 2}
    assert set(means) == {"t1_to_t2", "t2_to_t1"}


def test_a_study_that_was_trained_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="trained on"):
        read_cross_validation([scores(tmp_path / "a.json", "A", 20.0, role="train")])


def test_a_study_counts_once(tmp_path: Path) -> None:
    folds = [scores(tmp_path / "a.json", "A", 20.0), scores(tmp_path / "b.json", "A", 30.0)]
    with pytest.raises(TrainingError, match="A scored twice"):
        read_cross_validation(folds)


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(TrainingError, match="cannot be read"):
        read_cross_validation([tmp_path / "other.json"])


def test_versions_of_the_protocol_are_not_mixed(tmp_path: Path) -> None:
    folds = [scores(tmp_path / "a.json", "A", 20.0), scores(tmp_path / "b.json", "B", 30.0, version=2)]
    with pytest.raises(TrainingError, match="protocol versions 1 and 2"):
        read_cross_validation(folds)
    assert read_cross_validation(folds[1:])["protocol_version"] == 2
