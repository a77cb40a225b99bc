"""What a reference gives, from residuals: a brain too dark is made right, and atrophy does not spoil it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mrsynth_training import site_contrast
from mrsynth_training.calibration_data import Residuals, write
from mrsynth_training.cli import main
from MRSynthLib.engine.reliability_features import NAMES

SIZE = 6000


def residuals(subject: str, seed: int, *, fluid: float, gain: float = 1.0) -> Residuals:
    """A T2 in which a share `fluid` is fluid, and what was made of it: tissue `gain` times as bright."""
    rng = np.random.default_rng(seed)
    is_fluid = rng.random(SIZE) < fluid
    true = np.where(is_fluid, 0.95, rng.choice([0.28, 0.38], SIZE)) + rng.normal(0, 0.01, SIZE)
    made = np.where(is_fluid, true, gain * true)
    features = np.zeros((SIZE, len(NAMES)), np.float32)
    features[:, NAMES.index("synthetic")] = made
    empty = np.zeros(SIZE, np.float32)
    return Residuals(
        about={"subject": subject, "contrast": "t1"},
        features=features,
        error=np.abs(made - true).astype(np.float32),
        reference=true.astype(np.float32),
        reference_texture=empty,
        tissue=np.zeros(SIZE, np.int64),
        place=np.zeros((SIZE, 3), np.float32),
        drawn=np.ones(SIZE, bool),
        lesion=np.zeros(SIZE, bool),
        candidates={},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(residuals("dark", 1, fluid=0.05, gain=0.7), tmp_path)
    write(residuals("right", 2, fluid=0.05), tmp_path)
    write(residuals("atrophic", 3, fluid=0.55), tmp_path)
    return tmp_path


def row(rows: list[dict], subject: str, reference: str) -> dict:
    return next(r for r in rows if (r["subject"], r["reference"]) == (subject, reference))


def test_a_dark_result_is_made_right_by_a_reference_of_the_same_scanner(folder: Path) -> None:
    rows = site_contrast.compare(folder, {"dark": "right"})
    assert {(r["subject"], r["reference"]) for r in rows} == {
        ("dark", "dark"),
        ("dark", "right"),
        ("right", "right"),
        ("atrophic", "atrophic"),
    }
    found = row(rows, "dark", "right")
    assert found["direction"] == "t1_to_t2"
    assert found["gains"]["median without fluid"] > 5
    assert abs(row(rows, "right", "right")["gains"]["median without fluid"]) < 1  # 100 dB at most


def test_a_reference_with_much_fluid_does_the_least_harm_by_its_tissue(folder: Path) -> None:
    gains = row(site_contrast.compare(folder, {"dark": "atrophic"}), "dark", "atrophic")["gains"]
    assert gains["median without fluid"] > 5
    assert gains["median without fluid"] > max(gains["quartiles"], gains["five percentiles"], gains["gain"]) + 1


def test_the_table_of_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiments", "--residuals", str(folder), "--like", "dark=right"]) == 0
    said = capsys.readouterr().out
    assert "| dark | t1_to_t2 | right |" in said and "| **mean of 1** | | another |" in said
    out = folder / "out.json"
    chosen = ["experiments", "--residuals", str(folder), "--subjects", "dark", "--like", "dark=right", "-o", str(out)]
    assert main(chosen) == 0
    assert "| right |" not in capsys.readouterr().out.replace("| t1_to_t2 | right |", "")
    rows = json.loads(out.read_text())["rows"]
    assert [(row["subject"], row["reference"]) for row in rows] == [("dark", "dark"), ("dark", "right")]
    for wrong in (["--subjects", "nobody"], ["--like", "nobody=dark"], ["--like", "dark=nobody"]):
        assert main(["experiments", "--residuals", str(folder), *wrong]) == 3
        assert "no residuals of nobody" in capsys.readouterr().err
    assert main([*chosen[:-1], str(folder / "none" / "out.json")]) == 5
    assert main(["experiments", "--residuals", str(folder / "none")]) == 3
    with pytest.raises(SystemExit):
        main(["experiments", "--residuals", str(folder), "--models", "mrsynth-native"])
    with pytest.raises(SystemExit):
        main(["experiments", "--like", "dark"])
    with pytest.raises(SystemExit):
        main(["experiments"])
