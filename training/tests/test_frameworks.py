"""Every method: what it makes of what, that it learns, resumes and leaves the trainer as the engine runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mrsynth_training import config as configs
from mrsynth_training import evaluation
from mrsynth_training.batches import Batches
from mrsynth_training.candidates import network
from mrsynth_training.errors import TrainingError
from mrsynth_training.export import export
from mrsynth_training.frameworks import NotFinite
from mrsynth_training.loop import Run, read_checkpoint
from mrsynth_training.neighbours import neighbours, windows
from mrsynth_training.slices import SliceStore, SubjectSlices, open_store, write_store
from mrsynth_training.store_files import BRAIN, LESION
from MRSynthLib.desktop.card import card_html
from MRSynthLib.engine import intensity
from MRSynthLib.engine.preparation import prepare
from MRSynthLib.engine.synthesis import Synthesizer, other
from MRSynthLib.engine.terminal import card_text
from MRSynthLib.engine.volume import Volume

Brain = Callable[[int], tuple[Volume, Volume, np.ndarray]]
DENSE = {"name": "DenseUNet", "arguments": {"growth": 4, "blocks": [1, 1, 1, 1]}}
UNET = {"name": "UNet", "arguments": {"base": 8, "norm": "batch"}}
RESNET = {"name": "ResNet", "arguments": {"base": 4, "blocks": 2}}
UNPAIRED = {"cycle": {"weight": 10.0}, "adversarial": {"weight": 1.0}}
L1 = {"paired_l1": {"weight": 1.0}}
NEIGHBOURS = {"name": "DenseUNet", "arguments": {**DENSE["arguments"], "in_channels": 3}}
CONTEXT = {"name": "AutoContext", "arguments": {"first": DENSE, "second": DENSE}}
METHODS = {
    "self_inverse": {"framework": "self_inverse", "losses": UNPAIRED},
    "self_inverse_unet": {"framework": "self_inverse", "losses": UNPAIRED, "generator": UNET},
    "self_inverse_resnet": {"framework": "self_inverse", "losses": UNPAIRED, "generator": RESNET},
    "self_inverse_paired": {
        "framework": "self_inverse_paired",
        "losses": {**L1, "cycle": {"weight": 0.1}, "adversarial": {"weight": 0.01}},
        "deep_supervision": True,
    },
    "cyclegan": {"framework": "cyclegan", "losses": UNPAIRED, "generator": RESNET, "gan": "hinge"},
    "pix2pix": {
        "framework": "pix2pix",
        "losses": {"paired_l1": {"weight": 100.0}, "adversarial": {"weight": 1.0}},
        "generator": UNET,
        "gan": "log",
        "pool_size": 0,
    },
    "neighbours": {
        "framework": "self_inverse_paired",
        "losses": {**L1, "cycle": {"weight": 0.1}},
        "generator": NEIGHBOURS,
    },
    "auto_context": {"framework": "self_inverse_paired", "losses": L1, "generator": CONTEXT},
}


@pytest.fixture(scope="module")
def store_folder(tmp_path_factory: pytest.TempPathFactory, brain: Brain) -> Path:
    """Four phantom patients with a lesion each, 4 mm pixels; the last one is for validation."""
    subjects = []
    for seed, name in enumerate(("P0", "P1", "P2", "P3")):
        t1, t2, lesion = brain(seed)
        images = np.stack([t1.voxels / 740, t2.voxels / 1000], axis=1).clip(0, 1).astype(np.float32)
        mask = np.where(lesion, LESION, np.where(t1.voxels > 0, BRAIN, 0)).astype(np.uint8)
        record = {"subject": name, "patient": name, "group": name, "source": "computed", "licence": "CC0"}
        record["role"] = "validation" if name == "P3" else "train"
        subjects.append(SubjectSlices(images, mask, np.arange(len(images)), record))
    return write_store(tmp_path_factory.mktemp("phantoms"), "native", subjects)


@pytest.fixture(scope="module")
def store(store_folder: Path) -> SliceStore:
    return open_store(store_folder)


def experiment(name: str, **changes: object) -> configs.Config:
    content = {
        "name": name,
        "generator": DENSE,
        "augmentation": "none",
        "crop": 32,
        "batch_size": 2,
        "steps": 40,
        "learning_rate": 2e-3,
        "discriminator_filters": 4,
        "pool_size": 3,
        "ema_decay": 0.9,
        "checkpoint_every": 100,
        "validate_every": 100,
        "validation_slices": 4,
    }
    return configs.from_dict({**content, **METHODS.get(name, {}), **changes})


def start(setting: configs.Config, store: SliceStore, folder: Path, **options: object) -> Run:
    return Run(setting, store, folder, accelerator="cpu", **options)


@pytest.fixture(scope="module")
def first_stage(store: SliceStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run of a paired self-inverse generator, for auto-context to refine."""
    folder = tmp_path_factory.mktemp("first")
    run = start(experiment("self_inverse_paired", losses=L1, steps=15), store, folder)
    run.train()
    return folder


def begun(name: str, store: SliceStore, folder: Path, first_stage: Path, **changes: object) -> Run:
    options = {"init_from": first_stage} if name == "auto_context" else {}
    return start(experiment(name, **changes), store, folder, **options)


def steps(run: Run, count: int) -> dict[str, list[float]]:
    seen: dict[str, list[float]] = {}
    for _ in range(count):
        for name, term in run.optimise(run.batches.draw()).items():
            seen.setdefault(name, []).append(float(term))
        run.step += 1
    return seen


# --- learning -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_every_method_lowers_its_loss(name, store, tmp_path, first_stage):
    run = begun(name, store, tmp_path, first_stage)
    term = "paired_l1" if "paired_l1" in METHODS[name]["losses"] else "cycle"
    seen = steps(run, 40)
    assert np.mean(seen[term][-8:]) < 0.85 * np.mean(seen[term][:8])
    assert all(np.isfinite(values).all() for values in seen.values())


@pytest.mark.parametrize(
    "term",
    ["ssim", "ms_ssim", "local", "local_cycle", "gradient_difference", "lesion", "gradient_consistency", "structure"],
)
def test_every_term_alone_is_lowered(term, store, tmp_path):
    setting = experiment("one", framework="self_inverse_paired", losses={term: {"weight": 1.0}}, seed=3)
    seen = steps(start(setting, store, tmp_path), 24)
    assert set(seen) == {term}
    assert np.mean(seen[term][-6:]) < np.mean(seen[term][:6])


@pytest.mark.parametrize("name", ["cyclegan", "pix2pix", "neighbours", "auto_context"])
def test_interrupted_and_resumed_is_bit_for_bit_uninterrupted(name, store, tmp_path, first_stage):
    assert begun(name, store, tmp_path / "whole", first_stage, steps=3).train()
    begun(name, store, tmp_path / "parts", first_stage, steps=3).train(max_minutes=0)
    resumed = start(experiment(name, steps=3), store, tmp_path / "parts")
    assert resumed.step == 1
    assert resumed.train()
    whole, parts = (read_checkpoint(tmp_path / folder) for folder in ("whole", "parts"))
    tensors = [key for key in whole if key.startswith(("generator", "average", "discriminator"))]
    assert len([key for key in tensors if key.startswith("average")]) == (2 if name in ("cyclegan", "pix2pix") else 1)
    for key in tensors:
        for mine, other_one in zip(_leaves(whole[key]), _leaves(parts[key]), strict=True):
            assert torch.equal(mine, other_one), key


SHARED = """
def main():
    first, contents = Path(sys.argv[3]), json.loads(sys.argv[4])
    for content in contents:
        options = {"init_from": first} if content["generator"]["name"] == "AutoContext" else {}
        run = Run(config.from_dict(content), store, folder / content["name"], accelerator="cpu", **options)
        losses = []
        for run.step in range(run.total):
            losses.append({k: float(v) for k, v in run._learn(run.draw()).items()})
        if run.fabric.is_global_zero:
            (folder / f"{content['name']}.json").write_text(json.dumps(losses))
"""


def test_two_processes_learn_what_one_learns_from_the_joint_batch(
    store, store_folder, tmp_path, first_stage, two_processes
):
    names = ("cyclegan", "pix2pix", "neighbours", "auto_context")
    changes = {"steps": 2, "batch_size": 4, "pool_size": 0}
    contents = [experiment(name, **changes).as_dict() for name in names]
    two_processes(SHARED, store_folder, first_stage, json.dumps(contents))
    for name in names:
        alone = begun(name, store, tmp_path / "alone" / name, first_stage, **changes)
        for step, together in enumerate(json.loads((tmp_path / f"{name}.json").read_text())):
            alone.step = step
            expected = {key: float(term) for key, term in alone.optimise(alone.draw()).items()}
            assert together == pytest.approx(expected, rel=1e-4), f"{name}, step {step}"


def _leaves(content: object) -> list[Tensor]:
    if isinstance(content, dict):
        return [leaf for value in content.values() for leaf in _leaves(value)]
    if isinstance(content, list | tuple):
        return [leaf for value in content for leaf in _leaves(value)]
    return [content] if isinstance(content, Tensor) else []


# --- who makes what of what ---------------------------------------------------------------------------------


def halves() -> Tensor:
    return torch.rand((4, 1, 32, 32), generator=torch.Generator().manual_seed(1))


def test_an_exact_involution_has_no_cycle_loss(store, tmp_path):
    """G(G(x)) = x: 1 - x is its own inverse, 0.9 x is not."""
    run = start(experiment("self_inverse"), store, tmp_path)
    batch = run.batches.draw()
    run.framework.generators[0] = lambda x: 1 - x
    made = run.framework._made(batch, cycled=True)
    torch.testing.assert_close(made.cycled, batch.clean)
    assert torch.equal(made.synthetic, 1 - batch.sources)
    run.framework.generators[0] = lambda x: 0.9 * x
    torch.testing.assert_close(run.framework._made(batch, cycled=True).cycled, 0.81 * batch.clean)


def test_two_generators_take_a_direction_each_and_the_other_one_goes_back(store, tmp_path):
    framework = start(experiment("cyclegan"), store, tmp_path).framework
    framework.generators = [lambda x: x + 0.1, lambda x: 0.5 * x]
    t1, t2 = halves().chunk(2)
    assert torch.equal(framework.forth(torch.cat([t1, t2])), torch.cat([t1 + 0.1, 0.5 * t2]))
    assert torch.equal(framework.back(torch.cat([t2, t1])), torch.cat([0.5 * t2, t1 + 0.1]))


@pytest.mark.parametrize("name", ["self_inverse", "cyclegan"])
def test_gradients_are_those_of_equations_1_to_6(name, store, tmp_path):
    run = start(experiment(name, gan="log"), store, tmp_path)
    framework = run.framework
    forth, back = framework.generators[0], framework.generators[-1]
    d_y, d_x = framework.discriminators
    batch = run.batches.draw()
    # Batch norm would see both contrasts at once: here each is computed on its own.
    for module in framework.trained:
        module.eval()
    x, y = batch.clean.chunk(2)
    eq_1 = -torch.log(torch.sigmoid(d_y(forth(x))[0])).mean()
    eq_4 = -torch.log(torch.sigmoid(d_x(back(y))[0])).mean()
    eq_2 = (back(forth(x)) - x).abs().mean()
    eq_5 = (forth(back(y)) - y).abs().mean()
    total = 0.5 * ((eq_1 + 10 * eq_2) + (eq_4 + 10 * eq_5))
    modules = torch.nn.ModuleList(dict.fromkeys(framework.generators))
    expected = torch.autograd.grad(total, list(modules.parameters()))
    _, terms = framework._optimise_generators(batch, 0)
    assert float(terms["cycle"].detach()) == pytest.approx(float((eq_2 + eq_5).detach()) / 2, rel=1e-5)
    for parameter, gradient in zip(modules.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-5)
    assert all(parameter.grad is None for parameter in framework.discriminators.parameters())


def test_pix2pix_shows_the_discriminators_the_source_beside_the_image(store, tmp_path):
    run = start(experiment("pix2pix"), store, tmp_path)
    batch = run.batches.draw()
    seen: list[Tensor] = []
    for discriminator in run.framework.discriminators:
        discriminator.register_forward_hook(lambda _module, inputs, _scores: seen.append(inputs[0].detach().clone()))
    synthetic, _ = run.framework._optimise_generators(batch, 0)
    run.framework._optimise_discriminators(synthetic.detach(), batch)
    t1, t2 = batch.clean.chunk(2)
    made = synthetic.detach().chunk(2)
    shown = [(t1, made[0]), (t2, made[1]), (t1, t2), (t1, made[0]), (t2, t1), (t2, made[1])]
    assert len(seen) == len(shown)
    for images, pair in zip(seen, shown, strict=True):
        assert torch.equal(images, torch.cat(pair, dim=1))


def test_nothing_is_changed_by_a_step_whose_loss_is_not_finite(store, tmp_path):
    run = start(experiment("cyclegan"), store, tmp_path)
    batch = run.batches.draw()
    before = [parameter.detach().clone() for module in run.framework.trained for parameter in module.parameters()]
    batch.sources[0, 0, 5, 5] = float("nan")
    with pytest.raises(NotFinite, match="not finite in step 0"):
        run.optimise(batch)
    after = [parameter for module in run.framework.trained for parameter in module.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


# --- 2.5-D ----------------------------------------------------------------------------------------------------


def test_neighbours_end_at_the_subject_and_before_a_gap():
    rows = [{"subject": s, "slice": n} for s, n in (("a", 3), ("a", 4), ("a", 5), ("a", 9), ("b", 4), ("b", 5))]
    assert neighbours(rows, 1).tolist() == [[n] for n in range(6)]
    assert neighbours(rows, 5).tolist() == [
        [0, 0, 0, 1, 2],
        [0, 0, 1, 2, 2],
        [0, 1, 2, 2, 2],
        [3, 3, 3, 3, 3],
        [4, 4, 4, 5, 5],
        [4, 4, 5, 5, 5],
    ]


def test_a_batch_holds_the_slices_around_its_own_and_one_crop_for_all(store):
    setting = experiment("neighbours", losses={**L1, "lesion": {"weight": 1.0}})
    batches = Batches(store, setting, torch.Generator().manual_seed(4))
    batch = batches.draw()
    assert batch.sources.shape == (4, 3, 32, 32) and batch.clean.shape == batch.mask.shape == (4, 1, 32, 32)
    assert torch.equal(batch.sources[:, 1:2], batch.clean)
    indices = Batches(store, setting, torch.Generator().manual_seed(4)).sampler.draw(2)
    for place, index in enumerate(indices.tolist()):
        for contrast in range(2):
            for layer, offset in enumerate((-1, 0, 1)):
                row = store.rows[index]
                same = store.rows[min(max(index + offset, 0), len(store) - 1)]["subject"] == row["subject"]
                whole = torch.from_numpy(store.data[index + offset if same else index, contrast].astype(np.float32))
                cut = batch.sources[2 * contrast + place, layer]
                assert float(cut.sum()) == pytest.approx(float(_cut(whole, store.boxes([index])[0]).sum()), rel=1e-4)
    assert set(batch.mask.unique().tolist()) <= {0, BRAIN, LESION}
    assert torch.equal(batch.mask[:2], batch.mask[2:])
    assert not batch.mask[batch.clean.sum(1, keepdim=True) == 0].any()


def _cut(image: Tensor, box: Tensor) -> Tensor:
    """The 32x32 square over the middle of the box."""
    top, left = (int((box[i] + box[i + 1]) / 2) - 16 for i in (0, 2))
    padded = torch.nn.functional.pad(image, (32, 32, 32, 32))
    return padded[top + 32 : top + 64, left + 32 : left + 64]


def test_the_cycle_in_25_d_sees_synthetic_neighbours(store, tmp_path):
    run = start(experiment("neighbours"), store, tmp_path)
    batch = run.batches.draw()
    assert batch.sources.shape[1] == 5
    run.framework.generators[0] = lambda x: 2 * x[:, :1] + 3 * x[:, 1:2] + 5 * x[:, 2:]
    made = run.framework._made(batch, cycled=True)
    s = [batch.sources[:, n : n + 1] for n in range(5)]
    below, here, above = (2 * s[n] + 3 * s[n + 1] + 5 * s[n + 2] for n in range(3))
    torch.testing.assert_close(made.synthetic, here)
    torch.testing.assert_close(made.cycled, 2 * below + 3 * here + 5 * above)
    torch.testing.assert_close(run.framework._made(batch, cycled=False).synthetic, here)
    assert windows(batch.sources, 5) is batch.sources


# --- auto-context ---------------------------------------------------------------------------------------------


def test_auto_context_refines_a_run_and_leaves_its_generator_alone(store, tmp_path, first_stage):
    run = begun("auto_context", store, tmp_path / "run", first_stage)
    earlier = read_checkpoint(first_stage)["average"]
    second = {name: tensor.clone() for name, tensor in run.framework.generator.second.state_dict().items()}
    steps(run, 2)
    for module in (run.framework.generator, run.framework.averages["t1_to_t2"]):
        assert all(torch.equal(tensor, earlier[name]) for name, tensor in module.first.state_dict().items())
    later = run.framework.generator.second.state_dict()
    assert any(not torch.equal(tensor, second[name]) for name, tensor in later.items())


def test_auto_context_without_a_first_stage_and_runs_that_do_not_fit_are_refused(store, tmp_path, first_stage):
    with pytest.raises(TrainingError, match="no trained first generator"):
        steps(start(experiment("auto_context"), store, tmp_path / "1"), 1)
    with pytest.raises(TrainingError, match="does not fit UNet"):
        start(experiment("self_inverse_unet"), store, tmp_path / "2", init_from=first_stage)
    start(experiment("cyclegan", generator=DENSE), store, tmp_path / "3", init_from=first_stage)  # both from one
    start(experiment("cyclegan"), store, tmp_path / "4").save()
    with pytest.raises(TrainingError, match="no generator for t1_to_t2 and t2_to_t1"):
        start(experiment("self_inverse_resnet"), store, tmp_path / "5", init_from=tmp_path / "4")


# --- from the trainer to the engine --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["self_inverse", "pix2pix", "cyclegan", "neighbours", "auto_context"])
def test_the_engine_gives_the_trainers_own_voxels(name, store, tmp_path, first_stage, brain):
    run = begun(name, store, tmp_path / "run", first_stage)
    steps(run, 3)
    run.save()
    volumes = dict(zip(("t1", "t2"), brain(3)[:2], strict=True))
    two = name in ("pix2pix", "cyclegan")
    for source, volume in volumes.items():
        direction = f"{source}_to_{other(source)}"
        path = tmp_path / f"{direction}.safetensors"
        saved, _ = export(run.folder, path, name="it", direction=direction if two else None)
        assert saved.directions == ((direction,) if two else ("t1_to_t2", "t2_to_t1"))
        result = Synthesizer(saved, device="cpu", precision="fp32").synthesize(volume, source=source)

        prepared = prepare(volume, "native", source=source, target=None, mask=None)
        slices = torch.from_numpy(prepared.slices)
        depth = run.config.depth
        made = np.zeros_like(prepared.slices)
        with torch.inference_mode():
            for k in range(len(slices)):
                around = [min(max(k + offset, 0), len(slices) - 1) for offset in range(-(depth // 2), depth // 2 + 1)]
                if slices[k].any():
                    made[k] = run.framework.averages[direction](slices[around][None])[0, 0].numpy()
        expected = intensity.to_output(prepared.restored(made))
        assert expected.std() > 20
        assert np.abs(result.volume.voxels.astype(int) - expected).max() <= 1  # of 1000: rounding


def test_a_checkpoint_of_one_direction_is_scored_and_shown_in_that_alone(store, tmp_path, studies):
    run = start(experiment("cyclegan"), store, tmp_path / "run")
    run.save()
    path = tmp_path / "back.safetensors"
    card = export(run.folder, path, name="back", direction="t2_to_t1")[0].card
    (results,) = evaluation.evaluate([network(str(path), "cpu")], studies, subjects=["B"], protocols=["paper"])
    assert [entry["direction"] for entry in results["subjects"]] == ["t2_to_t1"]
    assert results["failures"] == {}
    assert "T2w -> T1w" in card_text(card, str(path))
    assert "T2w → T1w" in card_html(card)


def test_the_card_tells_of_inserted_lesions_and_of_the_protocol_of_a_cross_validation(store, tmp_path):
    start(experiment("self_inverse_paired", inserted_lesions=0.5), store, tmp_path / "run").save()
    fold = tmp_path / "fold.json"
    entry = {"subject": "Q", "role": "unseen", "direction": "t1_to_t2", "scores": {"paper": {"psnr": 20.0}}}
    fold.write_text(json.dumps({"protocol_version": 7, "subjects": [entry]}))
    path = tmp_path / "model.safetensors"
    card = export(tmp_path / "run", path, name="it", cross_validation=[fold])[0].card
    assert card["training"]["inserted_lesions"] == 0.5
    assert card["metrics"]["protocol_version"] == 7
    assert card["metrics"]["cross_validation"]["t1_to_t2"]["paper"] == {"psnr": 20.0, "subjects": 1}
    scores = tmp_path / "scores.json"
    about = {"weights_sha256": card["weights_sha256"]}
    scores.write_text(json.dumps({"protocol_version": 1, "checkpoint": about, "summary": {}}))
    with pytest.raises(TrainingError, match="protocol versions 1 and 7"):
        export(tmp_path / "run", path, name="it", metrics=scores, cross_validation=[fold])


def test_exports_name_their_direction_and_refuse_a_wrong_one(store, tmp_path):
    start(experiment("cyclegan"), store, tmp_path / "two").save()
    start(experiment("self_inverse"), store, tmp_path / "one").save()
    path = tmp_path / "model.safetensors"
    with pytest.raises(TrainingError, match="one of t1_to_t2, t2_to_t1"):
        export(tmp_path / "two", path, name="it")
    with pytest.raises(TrainingError, match="its one generator makes both"):
        export(tmp_path / "one", path, name="it", direction="t1_to_t2")
    saved, _ = export(tmp_path / "two", path, name="it", direction="t2_to_t1")
    assert (saved.card["directions"], saved.card["contrasts"]) == (["t2_to_t1"], ["t2", "t1"])
    assert saved.card["training"]["framework"] == "cyclegan"
