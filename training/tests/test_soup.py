"""The mean of several runs' generators, as `export --average-with` writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mrsynth_training import config, soup
from mrsynth_training.cli import main
from mrsynth_training.errors import TrainingError
from mrsynth_training.export import export
from mrsynth_training.loop import Run, read_checkpoint
from mrsynth_training.slices import SliceStore, SubjectSlices, open_store, write_store


def trained(content: dict[str, Any], store: SliceStore, folder: Path, **options: Any) -> Path:
    Run(config.from_dict(content), store, folder, accelerator="cpu", **options).train()
    return folder


@pytest.fixture
def runs(tiny: dict[str, Any], random_store: SliceStore, tmp_path: Path) -> list[Path]:
    """A run, and two of other seeds that started from it."""
    first = trained(tiny, random_store, tmp_path / "first")
    return [
        first,
        *(
            trained({**tiny, "seed": seed, "steps": 3}, random_store, tmp_path / f"seed{seed}", init_from=first)
            for seed in (7, 8)
        ),
    ]


def test_the_checkpoint_is_the_mean_of_those_of_the_runs_and_its_card_names_all(
    runs: list[Path], tmp_path: Path
) -> None:
    first, *others = runs
    path = tmp_path / "mean.safetensors"
    options = ["--name", "mean", "--average-with", *map(str, others)]
    assert main(["export", str(first), "-o", str(path), *options]) == 0
    alone = [export(run, tmp_path / f"{run.name}.safetensors", name="it")[0] for run in runs]
    mean, parts = load_file(path), [load_file(saved.path) for saved in alone]
    for key, value in mean.items():
        if value.is_floating_point():
            expected = torch.stack([part[key].double() for part in parts]).mean(dim=0)
            torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-7)
    assert any(not torch.equal(mean[key], parts[0][key]) for key in mean)
    card = export(first, path, name="mean", average_with=others)[0].card
    assert [each["seed"] for each in card["training"]["mean_with"]] == [7, 8]
    assert {each["started_from"] for each in card["training"]["mean_with"]} == {"tiny, 6 steps"}
    assert "mean_with" not in alone[0].card["training"]


def test_runs_of_another_origin_generator_or_data_are_refused(
    tiny: dict[str, Any], random_store: SliceStore, runs: list[Path], tmp_path: Path
) -> None:
    stranger = trained({**tiny, "seed": 99, "steps": 1}, random_store, tmp_path / "stranger")
    wider = {"name": "DenseUNet", "arguments": {"growth": 6, "blocks": [1, 1, 1, 1]}}
    wide = trained({**tiny, "generator": wider, "steps": 1}, random_store, tmp_path / "wide")
    part = [
        SubjectSlices(random_store.data[:6], random_store.mask[:6], torch.arange(6).numpy(), record)
        for record in random_store.meta["subjects"][:1]
    ]
    fewer = open_store(write_store(tmp_path / "fewer", "native", part))
    other_data = trained({**tiny, "steps": 1}, fewer, tmp_path / "other", init_from=runs[0])
    for run, told in ((stranger, "another origin"), (wide, "another generator"), (other_data, "training studies")):
        with pytest.raises(TrainingError, match=told):
            export(runs[0], tmp_path / "no.safetensors", name="no", average_with=[runs[1], run])
    assert not (tmp_path / "no.safetensors").exists()


def test_the_mean_of_a_run_with_itself_is_that_run(runs: list[Path]) -> None:
    state = read_checkpoint(runs[0])
    once, twice = soup.mean_averages([state]), soup.mean_averages([state, state])
    for directions, weights in once.items():
        for key, value in weights.items():
            torch.testing.assert_close(twice[directions][key], value, rtol=1e-6, atol=0)
