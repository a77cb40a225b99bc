"""Lesions put into training slices: where, how bright, in both contrasts alike, and repeatably."""

import pytest
import torch

from mrsynth_training import config, inserted_lesions
from mrsynth_training.batches import Batches
from mrsynth_training.errors import TrainingError
from mrsynth_training.store_files import BRAIN, LESION

SIDE, COUNT = 96, 12
WHITE, GREY, FLUID = (0.8, 0.25), (0.6, 0.4), (0.15, 0.95)  # T1, T2


@pytest.fixture
def head():
    """Slices (T1, T2, mask) of a round head: fluid around a ventricle, grey matter outside, white matter between."""
    y, x = torch.meshgrid(torch.arange(SIDE) - SIDE / 2, torch.arange(SIDE) - SIDE / 2, indexing="ij")
    distance = torch.hypot(y, x)
    texture = 0.02 * torch.rand(COUNT, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(9))
    images = []
    for white, grey, fluid in zip(WHITE, GREY, FLUID, strict=True):
        image = torch.where(distance < 44, grey, 0.0)
        image[distance < 36] = white
        image[distance < 8] = fluid
        images.append(image + texture * (image > 0))
    mask = (distance < 44).long().repeat(COUNT, 1, 1, 1) * BRAIN
    return images[0], images[1], mask


def inserted(head, share=1.0, seed=1):
    copies = tuple(part.clone() for part in head)
    inserted_lesions.insert(*copies, share, torch.Generator().manual_seed(seed))
    return copies


def test_lesions_are_darker_in_t1_and_brighter_in_t2_than_white_matter(head):
    t1, t2, mask = inserted(head)
    assert (mask == LESION).flatten(1).any(1).all(), "every slice has white matter enough"
    marked = (mask == LESION) & (head[0] >= WHITE[0])
    assert (t1 < head[0])[marked].all()
    assert (t2 > head[1])[marked].all()
    assert float((t2 - head[1])[marked].median()) > 0.1


def test_nothing_changes_outside_the_brain_or_in_fluid(head):
    t1, t2, _ = inserted(head)
    still = (head[2] == 0) | (head[0] < 0.2)
    assert torch.equal(t1[still], head[0][still])
    assert torch.equal(t2[still], head[1][still])
    assert not torch.equal(t1, head[0])


def test_both_contrasts_change_at_the_same_places(head):
    t1, t2, _ = inserted(head)
    change1, change2 = (head[0] - t1).abs() > 0.02, (t2 - head[1]).abs() > 0.02
    assert float((change1 & change2).sum() / (change1 | change2).sum()) > 0.6


def test_slices_beside_one_another_get_the_same_lesions(head):
    slab = tuple(torch.cat([part, part, part], dim=1) for part in head[:2])
    t1, _, mask = inserted((*slab, head[2]))
    assert torch.equal(t1[:, 0], t1[:, 2])
    assert (mask == LESION).any()


def test_the_share_is_that_of_the_slices(head):
    many = tuple(part.repeat(20, 1, 1, 1) for part in head)
    mask = inserted(many, share=0.3)[2]
    assert 0.2 < float((mask == LESION).flatten(1).any(1).float().mean()) < 0.4
    assert torch.equal(inserted(head, share=0.0)[0], head[0])


def test_a_seed_gives_the_same_lesions_and_another_one_others(head):
    first, again, other = inserted(head), inserted(head), inserted(head, seed=2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_a_slice_without_white_matter_stays_as_it_is(head):
    empty = torch.zeros_like(head[0])
    for mask in (torch.zeros_like(head[2]), head[2]):
        t1, t2, marked = inserted((empty, empty, mask))
        assert not t1.any() and not t2.any()
        assert torch.equal(marked, mask)


def test_a_contrast_that_is_cut_off_does_no_harm(head):
    t1, t2, mask = head
    cut = t2.clone()
    cut[t1 < WHITE[0]] = 0
    for source, target in ((t1, cut), (t1, torch.zeros_like(t2))):
        made = inserted((source, target, mask))
        assert all(torch.isfinite(image).all() for image in made)


def test_a_batch_shows_them_in_source_target_and_mask(tiny, random_store):
    base = {**tiny, "augmentation": "none"}
    plain, ill = (
        Batches(random_store, config.from_dict({**base, **more}), torch.Generator().manual_seed(4)).draw()
        for more in ({"losses": {"lesion": {"weight": 1}}}, {"inserted_lesions": 1.0})
    )
    assert not torch.equal(plain.clean, ill.clean)
    assert torch.equal(ill.sources, ill.clean)
    assert (ill.mask == LESION).sum() > (plain.mask == LESION).sum()


def test_a_share_beyond_one_is_refused(tiny):
    with pytest.raises(TrainingError, match=r"inserted_lesions is 1\.5"):
        config.from_dict({**tiny, "inserted_lesions": 1.5})


def test_runs_without_them_keep_their_hash(tiny):
    assert config.from_dict(tiny).sha256() == config.from_dict({**tiny, "inserted_lesions": 0}).sha256()
    assert config.from_dict(tiny).sha256() != config.from_dict({**tiny, "inserted_lesions": 0.5}).sha256()
