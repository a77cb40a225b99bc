"""A run as its user meets it: killed, stopped, exploding, on a full disk, on other data, on two processes, compiled."""

from __future__ import annotations

import dataclasses
import io
import json
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mrsynth_training import config, hardware, loop, progress
from mrsynth_training.batches import Batches
from mrsynth_training.errors import TrainingError
from mrsynth_training.guard import Guard
from mrsynth_training.loop import Run, read_checkpoint
from mrsynth_training.slices import SubjectSlices, open_store, write_store
from mrsynth_training.validation import Validator
from MRSynthLib.engine.errors import OutputError


@pytest.fixture(scope="module")
def store_folder(tmp_path_factory) -> Path:
    rng = np.random.default_rng(5)
    subjects = []
    for name, role in (("one", "train"), ("two", "train"), ("three", "validation")):
        images = rng.random((6, 2, 48, 44), dtype=np.float32)
        record = {"subject": name, "patient": name, "group": name, "role": role, "source": "computed", "licence": "CC0"}
        subjects.append(SubjectSlices(images, np.ones((6, 48, 44), np.uint8), np.arange(6), record))
    return write_store(tmp_path_factory.mktemp("store"), "native", subjects)


@pytest.fixture
def store(store_folder):
    return open_store(store_folder)


def start(content, store, folder, **options) -> Run:
    return Run(config.from_dict(content), store, folder, accelerator="cpu", **options)


def same_weights(a: dict, b: dict) -> bool:
    return all(torch.equal(a[part][k], b[part][k]) for part in ("generator", "average") for k in a[part])


def wait_for_step(folder: Path, step: int, child: subprocess.Popen) -> None:
    while True:
        assert child.poll() is None, "the child ended by itself"
        if (folder / "last.ckpt").exists() and read_checkpoint(folder)["step"] >= step:
            return
        time.sleep(0.02)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As the child with `--threads 1`: sums in another order are not the same bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_stopped_then_killed_then_resumed_is_bit_for_bit_uninterrupted(tiny, store_folder, tmp_path):
    content = {**tiny, "steps": 100, "checkpoint_every": 3, "validate_every": 40}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(content))
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "mrsynth_training.cli", "train", str(tmp_path / "tiny.yaml"), "--store"]
    command += [str(store_folder), "-o", str(folder), "--accelerator", "cpu", "--threads", "1"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    wait_for_step(folder, 3, child)
    child.send_signal(signal.SIGINT)
    said, _ = child.communicate(timeout=120)
    assert child.returncode == 7
    stopped = read_checkpoint(folder)["step"]
    assert f"stopped at step {stopped} of 100; run again to continue" in said
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    wait_for_step(folder, stopped + 3, child)
    child.send_signal(signal.SIGKILL)
    child.wait()
    killed = read_checkpoint(folder)
    assert stopped < killed["step"] < 100
    assert start(content, open_store(store_folder), folder).train()
    assert start(content, open_store(store_folder), tmp_path / "whole").train()
    ended, whole = read_checkpoint(folder), read_checkpoint(tmp_path / "whole")
    assert ended["step"] == 100 and same_weights(ended, whole)
    for name in ("generator_optimiser", "discriminator_optimiser_0"):
        for key, slot in whole[name]["state"].items():
            assert all(
                torch.equal(torch.as_tensor(slot[k]), torch.as_tensor(ended[name]["state"][key][k])) for k in slot
            )


def test_a_second_training_in_the_folder_is_refused(tiny, store_folder, tmp_path):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({**tiny, "steps": 1000, "checkpoint_every": 3}))
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "mrsynth_training.cli", "train", str(tmp_path / "tiny.yaml"), "--store"]
    command += [str(store_folder), "-o", str(folder), "--accelerator", "cpu", "--threads", "1"]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    wait_for_step(folder, 3, child)
    second = subprocess.run(command, capture_output=True, text=True)
    child.send_signal(signal.SIGINT)
    child.wait()
    assert second.returncode == TrainingError.exit_code
    assert "another process trains" in second.stderr
    assert child.returncode == 7
    assert subprocess.run([*command, "--max-minutes", "0"]).returncode == 0


TWO = """
def main():
    content = json.loads(sys.argv[3])
    run = Run(config.from_dict(content), store, folder / "run", accelerator="cpu")
    losses = []
    for _ in range(run.total):
        losses.append({k: float(v) for k, v in run._learn(run.draw()).items()})
        run.step += 1
        if run.step == 3:
            run.save()
    if run.fabric.is_global_zero:
        (folder / "losses.json").write_text(json.dumps(losses))
        torch.save(run.framework.state_dict(), folder / "whole.pt")
    again = Run(config.from_dict(content), store, folder / "run", accelerator="cpu")
    assert again.step == 3 and again.fabric.world_size == 2
    assert again.train()
"""


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_two_processes_learn_what_one_learns_from_the_joint_batch(
    tiny, store, store_folder, tmp_path, norm, two_processes
):
    """Losses within 1e-4 of one another over five steps, batch norm over both processes; a resume is exact."""
    content = {**tiny, "steps": 5, "batch_size": 4, "pool_size": 0}
    content["generator"] = {"name": "DenseUNet", "arguments": {"growth": 4, "blocks": [1, 1, 1, 1], "norm": norm}}
    two_processes(TWO, store_folder, json.dumps(content))
    together = json.loads((tmp_path / "losses.json").read_text())
    run, alone = start(content, store, tmp_path / "alone"), []
    for _ in range(5):
        alone.append({k: float(v) for k, v in run.optimise(run.draw()).items()})
        run.step += 1
    for step, (one, two) in enumerate(zip(alone, together, strict=True)):
        assert one == pytest.approx(two, rel=1e-4), f"step {step}"
    assert set(alone[-1]) == {"paired_l1", "ssim", "cycle", "adversarial", "discriminators"}
    whole, resumed = torch.load(tmp_path / "whole.pt"), read_checkpoint(tmp_path / "run")
    assert resumed["step"] == 5 and same_weights(whole, resumed)


def test_a_batch_that_cannot_be_shared_is_refused(tiny, store, tmp_path, monkeypatch):
    monkeypatch.setattr(hardware.TrainingFabric, "world_size", 3)
    with pytest.raises(TrainingError, match="batch of 2 for 3 processes"):
        start(tiny, store, tmp_path)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_a_compiled_module_learns_the_same():
    def learnt(compiled: str) -> torch.Tensor:
        fabric = hardware.TrainingFabric("32-true", "cpu", "1", compiled)
        fabric.launch()
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 1, 1))
        module, optimiser = fabric.setup(net, torch.optim.Adam(net.parameters(), 1e-2))
        if compiled != "off":
            assert "compiled Sequential: outputs within" in fabric.check_compiled(torch.rand(2, 1, 12, 12))[0]
        for _ in range(3):
            optimiser.zero_grad()
            fabric.backward(module(torch.ones(2, 1, 12, 12)).square().mean())
            optimiser.step()
        return torch.cat([p.detach().flatten() for p in net.parameters()])

    assert torch.allclose(learnt("off"), learnt("default"), atol=1e-4)


def test_a_compiled_run_is_checked_before_its_first_step(tiny, store, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(hardware, "OPTIONS", {"default": {"backend": "aot_eager"}})  # all of it but the C++ compiler
    content = {**tiny, "steps": 2, "losses": {"paired_l1": {"weight": 1.0}}, "augmentation": "none"}
    plain, compiled = (start(content, store, tmp_path / c, compiled=c) for c in ("off", "default"))
    assert plain.train() and compiled.train()
    assert "compiled DenseUNet: outputs within" in capsys.readouterr().out
    one, two = (read_checkpoint(tmp_path / name) for name in ("off", "default"))
    assert one["generator"].keys() == two["generator"].keys()
    for name, weights in one["average"].items():
        assert torch.allclose(weights.float(), two["average"][name].float(), atol=1e-3), name


def test_compiled_modules_that_differ_are_refused(tiny, store, tmp_path, monkeypatch):
    class Wrong(torch.nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, images):
            return 1.01 * self.module(images)

    fabric = hardware.TrainingFabric("32-true", "cpu", "1")
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 3))
    fabric._pairs = [(net, net)]
    assert "outputs within 0.0" in fabric.check_compiled(torch.rand(2, 1, 8, 8))[0]
    wrong = Wrong(net)
    monkeypatch.setattr(wrong, "state_dict", net.state_dict)
    monkeypatch.setattr(wrong, "load_state_dict", net.load_state_dict)
    fabric._pairs = [(net, wrong)]
    with pytest.raises(TrainingError, match="--compile off"):
        fabric.check_compiled(torch.rand(2, 1, 8, 8))
    if not torch.cuda.is_available():
        with pytest.raises(TrainingError, match="CUDA graphs without"):
            start(tiny, store, tmp_path, compiled="cuda-graphs")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_keeps_its_batch(tiny, store, tmp_path, bad):
    run = start(tiny, store, tmp_path)
    run.save()
    with torch.no_grad():
        next(run.framework.generators[0].parameters()).fill_(bad)
    expected = Batches(store, run.config, torch.Generator().manual_seed(1)).draw()
    with pytest.raises(TrainingError, match=r"not finite in step 0 .*failed_step_0\.pt"):
        run.train()
    kept = torch.load(tmp_path / "failed_step_0.pt")
    assert torch.equal(kept["sources"], expected.sources) and torch.equal(kept["clean"], expected.clean)
    assert read_checkpoint(tmp_path)["step"] == 0


def test_a_loss_that_explodes_stops_the_run_but_swings_do_not(tiny, store, tmp_path, monkeypatch):
    guard = Guard()
    swinging = torch.rand(300, generator=torch.Generator().manual_seed(0)) * 3
    for step, value in enumerate(swinging):
        guard.check({"adversarial": value, "paired_l1": value / 1e5}, step)
    with pytest.raises(TrainingError, match="'paired_l1' exploded: 4 after"):
        guard.check({"adversarial": swinging[0], "paired_l1": torch.tensor(4.0)}, 300)
    monkeypatch.setattr("mrsynth_training.guard.SETTLED", 5)
    run = start({**tiny, "steps": 20}, store, tmp_path)
    original = run.optimise

    def optimise(batch):
        return {name: term * (1e6 if run.step == 7 else 1) for name, term in original(batch).items()}

    monkeypatch.setattr(run, "optimise", optimise)
    with pytest.raises(TrainingError, match="exploded"):
        run.train()
    assert (tmp_path / "failed_step_7.pt").exists()


def test_a_full_disk_spares_the_last_checkpoint(tiny, store, tmp_path):
    run = start(tiny, store, tmp_path)
    path = run.save()
    before = path.read_bytes()
    run.optimise(run.draw())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OutputError) as told:
            run.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert told.value.code == "output-full"
    assert path.read_bytes() == before
    assert not list(tmp_path.glob(".mrsynth-*"))


def test_best_is_the_best_validation_and_last_is_the_last(tiny, store, tmp_path, monkeypatch):
    psnr = iter([20.0, 23.0, 21.0])
    run = start({**tiny, "validate_every": 2}, store, tmp_path)
    monkeypatch.setattr(run, "validator", lambda *_: ({"psnr/t1_to_t2": next(psnr), "psnr/t2_to_t1": 20.0}, None))
    assert run.train()
    best = read_checkpoint(tmp_path / "best.ckpt")
    assert (best["step"], best["best"]) == (4, 21.5)
    assert read_checkpoint(tmp_path)["step"] == 6
    assert start({**tiny, "validate_every": 2}, store, tmp_path).best == 21.5  # a resume does not forget it


def test_what_does_not_fit_is_refused_with_the_difference(tiny, store, tmp_path):
    start(tiny, store, tmp_path / "run").save()
    with pytest.raises(TrainingError, match=r"learning_rate: 0.0002 then, 0.001 now; losses.cycle.from_step: 2 then"):
        changed = {**tiny["losses"], "cycle": {"weight": 0.1, "from_step": 3}}
        start({**tiny, "learning_rate": 1e-3, "losses": changed}, store, tmp_path / "run")
    others = json.loads(json.dumps(store.meta))
    others["subjects"][0]["role"] = "validation"
    with pytest.raises(TrainingError, match=r"other data \(1 studies in another role \(one\)\)"):
        start(tiny, dataclasses.replace(store, meta=others), tmp_path / "run")
    slices = {**store.meta, "sha256": {**store.meta["sha256"], "data.npy": "0" * 64}}
    with pytest.raises(TrainingError, match=r"the same studies, but other slices: data.npy"):
        start(tiny, dataclasses.replace(store, meta=slices), tmp_path / "run")


def test_checkpoints_of_another_framework_or_trainer_are_refused(tiny, store, tmp_path):
    content = {**tiny, "losses": {"paired_l1": {"weight": 1.0}, "adversarial": {"weight": 0.1}}}
    start({**content, "framework": "pix2pix"}, store, tmp_path / "run").save()
    with pytest.raises(TrainingError, match="framework: 'pix2pix' then, 'self_inverse_paired' now"):
        start(content, store, tmp_path / "run")
    (tmp_path / "other").mkdir()
    torch.save({"state_dict": {}, "epoch": 3}, tmp_path / "other" / "last.ckpt")
    with pytest.raises(TrainingError, match="no checkpoint of mrsynth-train"):
        start(tiny, store, tmp_path / "other")
    with pytest.raises(TrainingError, match="no checkpoint of mrsynth-train"):
        start(tiny, store, tmp_path / "new", init_from=tmp_path / "other")


@pytest.mark.parametrize("augmentation", ["none", "strong"])
def test_slices_on_the_device_give_the_same_batches(tiny, store, augmentation):
    resident = store.on(torch.device("cpu"), 3 * store.data.nbytes)
    assert resident.resident is not None and store.on(torch.device("cpu"), store.data.nbytes).resident is None
    settings = config.from_dict({**tiny, "augmentation": augmentation})
    one, two = (Batches(s, settings, torch.Generator().manual_seed(2)).draw() for s in (store, resident))
    assert torch.equal(one.sources, two.sources) and torch.equal(one.clean, two.clean)


@pytest.mark.parametrize(("subjects", "slices", "seen"), [(3, 7, 6), (7, 7, 7), (40, 32, 32), (5, 0, 0), (0, 4, 0)])
def test_validation_looks_at_some_where_there_are_more_subjects_than_slices(subjects, slices, seen):
    rows = [{"subject": f"s{n // 4}", "slice": n % 4, "brain": 5} for n in range(4 * subjects)]
    store = SimpleNamespace(rows=rows, indices=lambda role: np.arange(len(rows)))
    chosen = Validator(store, slices).chosen
    assert sum(map(len, chosen.values())) == seen
    assert all(rows[index]["subject"] == name for name, indices in chosen.items() for index in indices)
    if subjects > slices > 0:
        numbers = np.array([int(name[1:]) for name in chosen])
        assert len(numbers) == slices and set(np.diff(numbers)) <= {1, 2}
        assert numbers[0] < 2 and numbers[-1] > subjects - 3


def test_curves_pictures_and_speed_are_logged(tiny, store, tmp_path):
    assert start(tiny, store, tmp_path).train()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    scalars = set(events.Tags()["scalars"])
    assert {"loss/paired_l1", "loss/cycle", "loss/discriminators", "learning_rate", "speed/steps_per_second"} <= scalars
    assert {"validation/psnr/t1_to_t2", "validation/ssim/t2_to_t1", "speed/share_of_data"} <= scalars
    assert events.Tags()["images"] == ["validation/t1_made_t2_made"]
    assert [event.step for event in events.Scalars("loss/paired_l1")] == [6]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_live_line_is_written_over_and_tells_the_time_left(tmp_path):
    speed = progress.Speed()
    speed.seconds, speed.data = 2.0, 0.5
    terminal = Terminal()
    with progress.Teller(tmp_path, 0, 1000, first=True, stream=terminal) as teller:
        teller.step(100, {"cycle": torch.tensor(0.25)}, speed, 1e-4)
        teller.say("validation")
    live, *rest = terminal.getvalue().lstrip("\r").split("\r")
    assert live.startswith("step 100/1000 (10.0 %)  cycle 0.2500  2.00 s/step, data 25 %  30 min left")
    assert rest[-1] == "validation\n" and rest[0].strip() == ""
    with progress.Teller(tmp_path / "other", 0, 1000, first=False) as silent:
        silent.step(20, {}, speed, 1e-4)
    assert not (tmp_path / "other").exists()
    assert [progress.duration(s) for s in (45, 700, 11100, 187200)] == ["45 s", "12 min", "3 h 05 min", "2 d 4 h"]


def test_the_learning_rate_at_the_end_of_a_run_is_almost_0():
    settings = config.from_dict({"name": "x", "steps": 100})
    factors = [loop.learning_rate_factor(step, settings, 100) for step in (0, 50, 75, 99)]
    assert factors == pytest.approx([1, 1, 0.5, 0.02])
