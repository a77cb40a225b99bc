"""The loop: exact resume, every objective runs, and mistakes are named."""

from __future__ import annotations

import pytest
import torch

from mrsynth_training import config
from mrsynth_training.errors import TrainingError
from mrsynth_training.loop import Run, read_checkpoint


def start(content, store, folder, **options):
    return Run(config.from_dict(content), store, folder, accelerator="cpu", **options)


def same(a, b, path="state"):
    """Bit for bit the same, whatever is nested in it."""
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            same(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for n, (x, y) in enumerate(zip(a, b, strict=True)):
            same(x, y, f"{path}.{n}")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    else:
        assert a == b, path


@pytest.mark.parametrize("sampling", ["groups", "epochs"])
def test_interrupted_and_resumed_is_bit_for_bit_uninterrupted(tiny, random_store, tmp_path, sampling):
    content = {**tiny, "sampling": sampling}
    assert start(content, random_store, tmp_path / "whole").train()
    complete, starts = False, 0
    while not complete:
        complete = start(content, random_store, tmp_path / "parts").train(max_minutes=0)  # one step each time
        starts += 1
    assert starts == content["steps"]
    whole, parts = (read_checkpoint(tmp_path / name) for name in ("whole", "parts"))
    assert whole.pop("seconds") > 0 and parts.pop("seconds") > 0
    same(whole, parts)


@pytest.mark.parametrize("gan", ["log", "lsgan"])
def test_papers_unpaired_objective_trains_generator_and_discriminators(tiny, random_store, tmp_path, gan):
    content = {
        **tiny,
        "pairing": "unpaired",
        "augmentation": "none",
        "gan": gan,
        "losses": {"cycle": {"weight": 10.0}, "adversarial": {"weight": 1.0}},
    }
    run = start(content, random_store, tmp_path)
    before = [[p.detach().clone() for p in m.parameters()] for m in run.framework.trained]
    terms = run.optimise(run.batches.draw())
    assert set(terms) == {"cycle", "adversarial", "discriminators"}
    assert all(torch.isfinite(term) for term in terms.values())
    for module, old in zip(run.framework.trained, before, strict=True):
        assert any(not torch.equal(p, q) for p, q in zip(module.parameters(), old, strict=True))


def test_terms_cost_nothing_before_their_first_step(tiny, random_store, tmp_path):
    run = start(tiny, random_store, tmp_path)
    seen = []
    for _ in range(3):
        seen.append(set(run.optimise(run.batches.draw())))
        run.step += 1
    assert seen[0] == {"paired_l1", "ssim"}
    assert seen[1] == {"paired_l1", "ssim", "adversarial", "discriminators"}
    assert seen[2] == seen[1] | {"cycle"}


def test_training_lowers_the_paired_loss(tiny, random_store, tmp_path):
    content = {**tiny, "steps": 30, "learning_rate": 5e-3, "losses": {"paired_l1": {"weight": 1.0}}, "seed": 2}
    run = start(content, random_store, tmp_path)
    seen = []
    for _ in range(30):
        seen.append(float(run.optimise(run.batches.draw())["paired_l1"]))
        run.step += 1
    assert sum(seen[-5:]) < sum(seen[:5])


def test_a_new_run_may_start_from_anothers_average(tiny, random_store, tmp_path):
    start(tiny, random_store, tmp_path / "first").save()
    first = read_checkpoint(tmp_path / "first")["average"]
    second = start({**tiny, "seed": 9}, random_store, tmp_path / "second", init_from=tmp_path / "first")
    assert second.started_from == f"{tiny['name']}, 0 steps"  # for the card
    same(first, second.framework.averages["t1_to_t2"].state_dict())
    same(first, {k.removeprefix("module."): v for k, v in second.framework.generator.state_dict().items()})


def test_another_configuration_another_frame_and_no_loss_are_refused(tiny, random_store, tmp_path):
    start(tiny, random_store, tmp_path).save()
    with pytest.raises(TrainingError, match="another configuration"):
        start({**tiny, "seed": 2}, random_store, tmp_path)
    with pytest.raises(TrainingError, match="frame is native"):
        start({**tiny, "frame": "paper"}, random_store, tmp_path / "new")
    silent = start({**tiny, "losses": {"cycle": {"weight": 1.0, "from_step": 5}}}, random_store, tmp_path / "silent")
    with pytest.raises(TrainingError, match="no loss term"):
        silent.optimise(silent.batches.draw())


def test_a_loss_that_is_not_finite_stops_the_run_and_spares_the_checkpoint(tiny, random_store, tmp_path):
    run = start(tiny, random_store, tmp_path)
    run.save()
    with torch.no_grad():
        next(run.framework.generator.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingError, match="not finite in step 0"):
        run.train()
    assert all(torch.isfinite(t).all() for t in read_checkpoint(tmp_path)["generator"].values())


def test_a_checkpoint_that_is_none_is_refused(tmp_path):
    (tmp_path / "last.ckpt").write_bytes(b"nothing of the kind")
    with pytest.raises(TrainingError, match="cannot be read"):
        read_checkpoint(tmp_path)
