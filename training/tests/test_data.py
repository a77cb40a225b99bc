"""The slice store, how batches are drawn from it, and augmentation."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from mrsynth_training import augment, config
from mrsynth_training.batches import Batches, exchange
from mrsynth_training.errors import TrainingError
from mrsynth_training.slices import SAMPLERS, SubjectSlices, open_store, write_store


def test_store_gives_back_what_was_written(tmp_path):
    images = np.random.default_rng(0).random((3, 2, 20, 16)).astype(np.float16).astype(np.float32)
    images[:, :, :5] = 0
    mask = (images[:, 0] > 0.2).astype(np.uint8)
    record = {"subject": "S", "patient": "P", "group": "G", "role": "train", "licence": "CC0"}
    small = SubjectSlices(images[:, :, :10, :8], mask[:, :10, :8], np.array([1, 2, 5]), {**record, "subject": "s"})
    store = open_store(
        write_store(tmp_path, "paper", [SubjectSlices(images, mask, np.array([4, 5, 9]), record), small])
    )
    assert len(store) == 6
    assert torch.equal(store.images(np.arange(3)), torch.from_numpy(images))
    assert np.array_equal(store.mask[:3], mask)
    assert np.array_equal(store.data[3:, :, :10, :8], images[:, :, :10, :8])
    assert not store.data[3:, :, 10:].any()  # padded with 0
    assert [row["slice"] for row in store.rows] == [4, 5, 9, 1, 2, 5]
    assert store.rows[0]["brain"] == mask[0].sum()
    assert store.boxes(np.array([0]))[0].tolist() == [5, 20, 0, 16]
    assert (store.meta["frame"], store.meta["subjects"][0]) == ("paper", record)


def test_store_of_another_version_and_a_folder_that_is_none_are_refused(random_store, tmp_path):
    with pytest.raises(TrainingError, match="not a readable slice store"):
        open_store(tmp_path)
    write_store(
        tmp_path,
        "native",
        [SubjectSlices(np.zeros((1, 2, 8, 8)), np.zeros((1, 8, 8)), np.array([0]), random_store.meta["subjects"][0])],
    )
    meta = json.loads((tmp_path / "meta.json").read_text())
    (tmp_path / "meta.json").write_text(json.dumps({**meta, "format_version": 99}))
    with pytest.raises(TrainingError, match="format version 99"):
        open_store(tmp_path)


@pytest.mark.parametrize("sampling", SAMPLERS)
def test_samplers_never_draw_validation_slices(random_store, sampling):
    drawn = SAMPLERS[sampling](random_store, torch.Generator().manual_seed(0)).draw(500)
    assert set(drawn.tolist()) == set(random_store.indices("train").tolist())


def test_an_epoch_shows_every_slice_once(random_store):
    sampler = SAMPLERS["epochs"](random_store, torch.Generator().manual_seed(0))
    drawn = torch.cat([sampler.draw(5) for _ in range(12)])
    for epoch in drawn.split(12):
        assert sorted(epoch.tolist()) == random_store.indices("train").tolist()


def test_groups_are_drawn_equally_often_whatever_their_size(tmp_path):
    record = {"patient": "p", "role": "train"}
    subjects = [
        SubjectSlices(
            np.ones((n, 2, 8, 8)), np.ones((n, 8, 8)), np.arange(n), {**record, "subject": name, "group": name}
        )
        for name, n in (("many", 90), ("few", 10))
    ]
    store = open_store(write_store(tmp_path, "native", subjects))
    drawn = SAMPLERS["groups"](store, torch.Generator().manual_seed(0)).draw(2000)
    assert 900 < int((drawn >= 90).sum()) < 1100


def draw(store, content, seed=3):
    return Batches(store, config.from_dict(content), torch.Generator().manual_seed(seed)).draw()


def test_batches_repeat_with_the_seed_and_differ_without(random_store, tiny):
    first, again, other = draw(random_store, tiny), draw(random_store, tiny), draw(random_store, tiny, seed=4)
    assert torch.equal(first.sources, again.sources)
    assert torch.equal(first.clean, again.clean)
    assert not torch.equal(first.sources, other.sources)
    assert first.sources.shape == (4, 1, 32, 32)
    assert float(first.sources.min()) >= 0 and float(first.sources.max()) <= 1


def test_targets_are_the_other_contrast_of_the_same_slice(random_store, tiny):
    batch = draw(random_store, {**tiny, "augmentation": "none"})
    t1, t2 = batch.sources.chunk(2)
    assert torch.equal(batch.targets, torch.cat([t2, t1]))
    assert torch.equal(exchange(exchange(t1)), t1)


UNPAIRED = {
    "augmentation": "none",
    "pairing": "unpaired",
    "losses": {"cycle": {"weight": 1.0}, "adversarial": {"weight": 1.0}},
}


def shown(store, batch):
    """Which training slices the T1 and the T2 of a batch are, without augmentation."""
    indices = store.indices("train")
    whole = augment.crop(store.images(indices), store.boxes(indices), 32, torch.Generator(), random=False)
    return [
        [int((image == whole[:, contrast : contrast + 1]).flatten(1).all(1).nonzero()[0]) for image in half]
        for contrast, half in enumerate(batch.clean.chunk(2))
    ]


def test_unpaired_batches_are_of_different_slices(random_store, tiny):
    t1, t2 = shown(random_store, draw(random_store, {**tiny, **UNPAIRED}))
    assert t1 != t2


def test_an_unpaired_epoch_shows_every_slice_of_both_contrasts_once(random_store, tiny):
    setting = config.from_dict({**tiny, **UNPAIRED, "sampling": "epochs"})
    batches = Batches(random_store, setting, torch.Generator().manual_seed(1))
    for _ in range(2):
        t1, t2 = ([i for part in parts for i in part] for parts in zip(*epoch(random_store, batches), strict=True))
        assert sorted(t1) == sorted(t2) == list(range(12))
        assert t1 != t2


def epoch(store, batches):
    return [shown(store, batches.draw()) for _ in range(len(store.indices("train")) // batches.config.batch_size)]


def test_background_stays_exactly_0():
    images = torch.rand((8, 1, 32, 32), generator=torch.Generator().manual_seed(0)) + 0.05
    images[:, :, :10] = 0
    for seed in range(5):
        assert not augment.degrade(images, torch.Generator().manual_seed(seed))[:, :, :10].any()
        assert not augment.soften_targets(images, torch.Generator().manual_seed(seed))[:, :, :10].any()


def test_another_contrast_keeps_black_white_and_the_order_of_tissues():
    ramp = torch.linspace(0, 1, 101).repeat(6, 1, 1, 1)
    seen = augment.recontrast(ramp, torch.Generator().manual_seed(3))
    assert not seen[..., 0].any()
    assert torch.allclose(seen[..., -1], torch.ones(6, 1, 1))
    assert (seen.diff(dim=-1) > 0).all()
    assert float((seen - ramp).abs().amax(dim=-1).min()) > 0.01, "no image keeps its contrast"
    assert float(seen[..., 50].std()) > 0.03, "each has a curve of its own"


def test_only_the_source_is_shown_in_another_contrast(random_store, tiny):
    strong, contrast = (draw(random_store, {**tiny, "augmentation": kind}) for kind in ("strong", "contrast"))
    assert float((contrast.clean - strong.clean).abs().max()) < 0.03, "targets: softened, each by a gamma of its own"
    assert float((contrast.sources - strong.sources).abs().max()) > 0.03


def test_targets_are_softened_each_by_a_gamma_of_its_own(random_store, tiny, monkeypatch):
    monkeypatch.setattr(augment, "degrade", lambda images, generator: images)
    batch = draw(random_store, tiny)
    for plain, softened in zip(batch.sources, batch.clean, strict=True):
        seen = (plain > 0.05) & (plain < 0.95)
        gamma = softened[seen].log() / plain[seen].log()
        assert float(gamma.std()) < 1e-3
        assert 0.97 <= float(gamma.mean()) <= 1.03 and abs(float(gamma.mean()) - 1) > 1e-4


def test_geometry_is_the_same_for_both_contrasts():
    slices = torch.rand((4, 1, 40, 40), generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[0, 40, 0, 40]] * 4)
    moved = augment.crop(torch.cat([slices, slices], 1), boxes, 32, torch.Generator().manual_seed(1))
    assert torch.equal(moved[:, 0], moved[:, 1])


def test_centred_crop_only_cuts():
    slices = torch.rand((1, 2, 40, 44), generator=torch.Generator().manual_seed(0))
    cut = augment.crop(slices, torch.tensor([[0, 40, 0, 44]]), 32, torch.Generator(), random=False)
    assert torch.allclose(cut, slices[:, :, 4:36, 6:38], atol=1e-5)
