"""Mutated safetensors headers: refused by a code, or the checkpoint that they were made from."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from robustness import headers
from robustness.command import SEED
from safetensors.numpy import save_file
from test_checkpoint import changed, contents

from MRSynthLib.engine.checkpoint import DIGEST_KEY, METADATA_KEY, load, read_card
from MRSynthLib.engine.errors import ModelError

POSIX = pytest.mark.skipif(os.name == "nt", reason="pipes that can be waited for, of POSIX")


@POSIX
def test_no_mutant_loads_wrongly_or_ends_the_process(tiny_checkpoint: Path) -> None:
    result = headers.fuzz(tiny_checkpoint.read_bytes(), range(400), SEED)
    assert result.failures == []
    assert result.count == 400
    assert {"model-hash", "model-card", "model-truncated", "model-not-safetensors"} <= set(result.answers)


@POSIX
def test_the_fuzzer_sees_a_checkpoint_that_loads_wrongly(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """As long as the card had no digest, any of its fields could be another one."""
    bare = changed(tiny_checkpoint, tmp_path / "bare.safetensors").read_bytes()
    assert any("loads with another card" in failure for failure in headers.fuzz(bare, range(150), SEED).failures)


def test_a_mutant_is_the_same_in_every_run(tiny_checkpoint: Path) -> None:
    whole = tiny_checkpoint.read_bytes()
    assert [headers.mutant(whole, SEED, n) for n in range(30)] == [headers.mutant(whole, SEED, n) for n in range(30)]
    assert len({headers.mutant(whole, SEED, n)[1] for n in range(30)}) > 20


def test_a_card_that_was_changed_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    whole = tiny_checkpoint.read_bytes()
    assert whole.count(b"tiny-untrained") == 1
    path = tmp_path / "bad.safetensors"
    path.write_bytes(whole.replace(b"tiny-untrained", b"tiny-untrainee"))
    for refused in (read_card, load):
        with pytest.raises(ModelError) as caught:
            refused(path)
        assert caught.value.code == "model-hash"


def test_a_card_without_digest_is_read_as_before(tiny_checkpoint: Path, tmp_path: Path) -> None:
    path = changed(tiny_checkpoint, tmp_path / "old.safetensors", name="old")
    assert DIGEST_KEY.encode() not in path.read_bytes()
    assert load(path).name == "old"


def test_metadata_of_unknown_name_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """It could be the digest under a damaged name."""
    tensors, card = contents(tiny_checkpoint)
    path = tmp_path / "bad.safetensors"
    save_file(tensors, path, {METADATA_KEY: json.dumps(card), DIGEST_KEY.replace("256", "257"): "0" * 64})
    with pytest.raises(ModelError) as caught:
        read_card(path)
    assert caught.value.code == "model-card"
