"""The loop: exact resume, every objective runs, and mistakes are named."""

from __future__ import annotations

import pytest
import torch
from lightning_fabric.plugins.precision.amp import MixedPrecision

from mrsynth_training import config, hardware
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


UNPAIRED = {"pairing": "unpaired", "losses": {"cycle": {"weight": 10.0}, "adversarial": {"weight": 1.0}}}


@pytest.mark.parametrize(
    "changes",
    [{"sampling": "groups"}, {"sampling": "epochs"}, {"sampling": "epochs", **UNPAIRED}],
    ids=["groups", "epochs", "unpaired epochs"],
)
def test_interrupted_and_resumed_is_bit_for_bit_uninterrupted(tiny, random_store, tmp_path, changes):
    content = {**tiny, **changes}
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
    content = {**tiny, **UNPAIRED, "augmentation": "none", "gan": gan}
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


def test_the_average_is_the_exponential_one_and_short_at_first(tiny, random_store, tmp_path):
    run = start({**tiny, "ema_decay": 0.15}, random_store, tmp_path)
    (average,) = run.framework._averages
    expected = {name: value.clone() for name, value in average.state_dict().items()}
    for decay in (1 / 10, 0.15, 0.15):  # 1/10, 2/11, 3/12 at first, and no more than what was asked for
        run.optimise(run.batches.draw())
        run.step += 1
        for name, value in run.framework.generator.state_dict().items():
            earlier = expected[name.removeprefix("module.")]
            mixed = decay * earlier + (1 - decay) * value if value.is_floating_point() else value
            expected[name.removeprefix("module.")] = mixed.clone()
    for name, value in average.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-7, msg=name)


def test_every_optimiser_gets_the_scheduled_learning_rate(tiny, random_store, tmp_path):
    run = start({**tiny, **UNPAIRED, "warmup_steps": 10}, random_store, tmp_path)
    run.optimise(run.batches.draw())
    optimisers = [*run.framework.generator_optimisers, *run.framework.discriminator_optimisers]
    assert len(optimisers) == 3
    assert {group["lr"] for optimiser in optimisers for group in optimiser.param_groups} == {2e-4 / 10}


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


def test_the_loss_scale_of_16_mixed_is_resumed(tiny, random_store, tmp_path, monkeypatch):
    """As on a GPU, but for the device: the scale doubles every two steps."""
    launch = hardware.TrainingFabric.launch

    def launched(fabric):
        launch(fabric)
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
        fabric._precision = fabric._strategy.precision = MixedPrecision("16-mixed", "cpu", scaler)

    monkeypatch.setattr(hardware.TrainingFabric, "launch", launched)
    content = {**tiny, "steps": 5, "losses": {"paired_l1": {"weight": 1.0}}}
    assert start(content, random_store, tmp_path / "whole").train()
    start(content, random_store, tmp_path / "parts").train(max_minutes=0)
    state = read_checkpoint(tmp_path / "parts")
    assert (state["precision"]["scale"], state["precision"]["_growth_tracker"]) == (8.0, 1)
    assert start(content, random_store, tmp_path / "parts").train()
    whole, parts = (read_checkpoint(tmp_path / name) for name in ("whole", "parts"))
    assert whole["precision"]["scale"] == 32.0
    assert whole.pop("seconds") and parts.pop("seconds")
    same(whole, parts)


def test_a_run_saved_with_one_sampler_is_gone_on_with(tiny, random_store, tmp_path):
    content = {**tiny, **UNPAIRED, "sampling": "epochs"}
    start(content, random_store, tmp_path).train(max_minutes=0)
    state = read_checkpoint(tmp_path)
    del state["sampler_t2"], state["precision"]
    torch.save(state, tmp_path / "last.ckpt")
    resumed = start(content, random_store, tmp_path)
    assert torch.equal(resumed.batches.sampler.left, state["sampler"]["left"])
    assert resumed.train()
