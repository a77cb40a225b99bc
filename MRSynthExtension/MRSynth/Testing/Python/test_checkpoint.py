"""Checkpoints: what is saved comes back, whatever is wrong is refused by name, and nothing is ever executed."""

from __future__ import annotations

import json
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_helpers import save_untrained, small_head
from safetensors import safe_open
from safetensors.numpy import save_file

from MRSynthLib.engine import checkpoint, model_folders
from MRSynthLib.engine.checkpoint import FIELDS, METADATA_KEY, load, read_card, weights_sha256
from MRSynthLib.engine.errors import ModelError, OutputError
from MRSynthLib.engine.synthesis import Synthesizer


def contents(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Tensors and card."""
    with safe_open(path, "np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        return tensors, json.loads(file.metadata()[METADATA_KEY])


def changed(source: Path, path: Path, **fields: Any) -> Path:
    """The checkpoint under another card."""
    tensors, card = contents(source)
    save_file(tensors, path, {METADATA_KEY: json.dumps(card | fields)})
    return path


def with_header(source: Path, path: Path, header: bytes) -> Path:
    """The checkpoint's weights behind any bytes as the header."""
    data = source.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    path.write_bytes(struct.pack("<Q", len(header)) + header + data[8 + length :])
    return path


def code_of(refused: Callable[[], object]) -> str:
    with pytest.raises(ModelError) as caught:
        refused()
    assert "bad" in str(caught.value)  # which file
    return caught.value.code


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    return tmp_path / "bad.safetensors"


# --- round trip -----------------------------------------------------------------------------------------


def test_what_is_saved_comes_back(tiny_checkpoint: Path, tmp_path: Path) -> None:
    import torch

    _, card = contents(tiny_checkpoint)
    module = load(tiny_checkpoint).generator()
    saved = checkpoint.save(module, card, tmp_path / "again.safetensors")
    again = load(saved.path)
    assert again.card == card
    assert (again.name, again.sha256) == (card["name"], saved.sha256)
    x = torch.rand(1, 1, 32, 32)
    with torch.inference_mode():
        assert torch.equal(again.generator()(x), module(x))


def test_the_generator_comes_in_evaluation_mode(tiny_checkpoint: Path) -> None:
    assert not any(module.training for module in load(tiny_checkpoint).generator().modules())


def test_the_same_weights_and_card_make_the_same_file(tiny_checkpoint: Path, tmp_path: Path) -> None:
    _, card = contents(tiny_checkpoint)
    module = load(tiny_checkpoint).generator()
    one, two = (checkpoint.save(module, card, tmp_path / f"{n}.safetensors") for n in (1, 2))
    assert one.sha256 == two.sha256


def test_saving_fills_in_format_and_hash(tmp_path: Path, tiny_checkpoint: Path) -> None:
    tensors, card = contents(tiny_checkpoint)
    del card["format_version"], card["weights_sha256"]
    saved = checkpoint.save(load(tiny_checkpoint).generator(), card, tmp_path / "new.safetensors")
    assert saved.card["format_version"] == checkpoint.FORMAT_VERSION
    assert saved.card["weights_sha256"] == weights_sha256(tensors)


def test_an_incomplete_card_is_not_saved(tmp_path: Path, tiny_checkpoint: Path) -> None:
    _, card = contents(tiny_checkpoint)
    del card["licence"]
    with pytest.raises(ModelError, match="licence"):
        checkpoint.save(load(tiny_checkpoint).generator(), card, tmp_path / "new.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_not_made_up(tmp_path: Path, tiny_checkpoint: Path) -> None:
    _, card = contents(tiny_checkpoint)
    with pytest.raises(OutputError) as caught:
        checkpoint.save(load(tiny_checkpoint).generator(), card, tmp_path / "no" / "new.safetensors")
    assert caught.value.code == "output-folder-missing"


@pytest.mark.parametrize("length", [0x10280, 0x10380, 0x10480, 0x10580, 0x10000 + 0x4B50, 0x10278])
def test_a_header_of_any_length_is_read(length: int, tmp_path: Path, tiny_checkpoint: Path) -> None:
    """The file begins with this length; the first bytes of some look like those of a pickle or a zip."""
    _, card = contents(tiny_checkpoint)
    path = save_untrained(tmp_path / "first.safetensors", {**card, "known_failures": [""]})
    short = struct.unpack("<Q", path.read_bytes()[:8])[0]
    filled = {**card, "known_failures": ["x" * (length - short)]}
    path = save_untrained(tmp_path / "long.safetensors", filled)
    assert struct.unpack("<Q", path.read_bytes()[:8])[0] == length
    assert load(path).card["known_failures"] == filled["known_failures"]


def test_texts_of_any_language_survive(tmp_path: Path, tiny_checkpoint: Path) -> None:
    _, card = contents(tiny_checkpoint)
    path = save_untrained(tmp_path / "model.safetensors", {**card, "known_failures": ["Läsionen können fehlen – 病変"]})
    assert read_card(path)["known_failures"] == ["Läsionen können fehlen – 病変"]


def test_the_hash_of_weights_tells_names_types_shapes_and_bytes() -> None:
    base = {"a": np.arange(6, dtype=np.float32), "b": np.zeros(2, dtype=np.float32)}
    variants = [
        base,
        {"a": base["a"], "c": base["b"]},
        {"a": base["a"].astype(np.float64), "b": base["b"]},
        {"a": base["a"].reshape(2, 3), "b": base["b"]},
        {"a": base["a"] + 1, "b": base["b"]},
    ]
    assert len({weights_sha256(each) for each in variants}) == len(variants)
    assert weights_sha256(dict(reversed(base.items()))) == weights_sha256(base)


# --- what is refused ------------------------------------------------------------------------------------


class Trap:
    """Unpickled, it would write a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.trace, "executed")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_renamed_is_refused_and_never_run(protocol: int, bad: Path) -> None:
    trace = bad.parent / "trace"
    bad.write_bytes(pickle.dumps({"trap": Trap(trace), "weights": b"x" * 1000}, protocol=protocol))
    assert code_of(lambda: load(bad)) == "model-not-safetensors"
    assert not trace.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_torch_file_renamed_is_refused_and_never_run(zipped: bool, bad: Path) -> None:
    import torch

    trace = bad.parent / "trace"
    torch.save({"trap": Trap(trace)}, bad, _use_new_zipfile_serialization=zipped)
    assert code_of(lambda: load(bad)) == "model-not-safetensors"
    assert not trace.exists()


def test_a_card_that_names_a_function_does_not_get_it_called(bad: Path, tiny_checkpoint: Path) -> None:
    trace = bad.parent / "trace"
    for name in ("os.system", "builtins.eval", "__import__('os').system", "torch.nn.Linear"):
        changed(tiny_checkpoint, bad, generator={"name": name, "arguments": {"command": f"touch {trace}"}})
        assert code_of(load(bad).generator) == "model-generator"
    assert not trace.exists()


@pytest.mark.parametrize(
    "content", [b"", b"weights", b"\0" * 100, b"PK\3\4" + b"\0" * 100, b"\xff" * 100, b"<html>" * 50]
)
def test_other_files_are_refused(content: bytes, bad: Path) -> None:
    bad.write_bytes(content)
    assert code_of(lambda: load(bad)) == "model-not-safetensors"


@pytest.mark.parametrize(
    "header",
    [
        b"\xff" * 64,
        b"[]",
        b'"text"',
        b'{"a": 1}',
        b'{"a": {}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, "four"]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}',
        b'{"a": ' + b"[" * 100_000,
    ],
    ids=["bytes", "list", "text", "number", "empty", "offset of text", "one offset", "deep"],
)
def test_a_header_of_another_form_is_refused(header: bytes, bad: Path, tiny_checkpoint: Path) -> None:
    with_header(tiny_checkpoint, bad, header)
    assert code_of(lambda: load(bad)) == "model-not-safetensors"


@pytest.mark.parametrize("kept", [0.01, 0.3, 0.999])
def test_a_truncated_file_is_refused(kept: float, bad: Path, tiny_checkpoint: Path) -> None:
    """In the header, and in the weights."""
    data = tiny_checkpoint.read_bytes()
    bad.write_bytes(data[: int(len(data) * kept)])
    assert code_of(lambda: read_card(bad)) == "model-truncated"
    assert code_of(lambda: load(bad)) == "model-truncated"


def test_one_flipped_bit_of_the_weights_is_refused(bad: Path, tiny_checkpoint: Path) -> None:
    data = bytearray(tiny_checkpoint.read_bytes())
    data[-10] ^= 1
    bad.write_bytes(data)
    assert code_of(lambda: load(bad)) == "model-hash"


def test_a_file_without_a_card_is_refused(bad: Path) -> None:
    save_file({"weight": np.zeros(3, dtype=np.float32)}, bad)
    assert code_of(lambda: read_card(bad)) == "model-card"


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_a_card_without_any_one_field_is_refused(name: str, bad: Path, tiny_checkpoint: Path) -> None:
    tensors, card = contents(tiny_checkpoint)
    del card[name]
    save_file(tensors, bad, {METADATA_KEY: json.dumps(card)})
    with pytest.raises(ModelError, match=name) as caught:
        read_card(bad)
    assert caught.value.code == "model-card"


def test_a_checkpoint_of_one_direction_makes_that_and_refuses_the_other(bad: Path, tiny_checkpoint: Path) -> None:
    assert load(tiny_checkpoint).directions == ("t1_to_t2", "t2_to_t1")
    synthesizer = Synthesizer(changed(tiny_checkpoint, bad, name="bad", directions=["t1_to_t2"]), device="cpu")
    head = small_head()
    result = synthesizer.synthesize(head, "t2", source="t1")
    assert result.volume.voxels.any()
    with pytest.raises(ModelError, match="trained for T1 to T2; it knows nothing of T2 to T1") as caught:
        synthesizer.synthesize(head, "t1", source="t2")
    assert caught.value.code == "model-direction"
    assert code_of(lambda: synthesizer.synthesize(head, "t2", source="t1", cycle=True)) == "model-direction"


@pytest.mark.parametrize("directions", [[], ["t1_to_flair"], "t1_to_t2", None, [1]])
def test_unknown_directions_are_refused(directions: object, bad: Path, tiny_checkpoint: Path) -> None:
    assert code_of(lambda: read_card(changed(tiny_checkpoint, bad, directions=directions))) == "model-card"


@pytest.mark.parametrize(
    "fields", [{"seed": "seven"}, {"training_data": {}}, {"reliability": 1}, {"frame": "panoramic"}, {"metrics": None}]
)
def test_a_field_of_another_kind_is_refused(fields: dict[str, Any], bad: Path, tiny_checkpoint: Path) -> None:
    changed(tiny_checkpoint, bad, **fields)
    assert code_of(lambda: read_card(bad)) == "model-card"


def test_a_newer_format_is_refused_as_newer_even_where_fields_differ(bad: Path, tiny_checkpoint: Path) -> None:
    changed(tiny_checkpoint, bad, format_version=2, seed="of a new kind")
    assert code_of(lambda: read_card(bad)) == "model-version"


@pytest.mark.parametrize(
    "generator",
    [
        {"name": "Transformer", "arguments": {}},
        {"name": "DenseUNet", "arguments": {"colour": "blue"}},
        {"name": "DenseUNet", "arguments": {"growth": -3}},
        {"name": "DenseUNet", "arguments": [1]},
        {"name": "DenseUNet"},
        {"name": ["DenseUNet"], "arguments": {}},
        {},
    ],
    ids=str,
)
def test_a_generator_that_cannot_be_built_is_refused(
    generator: dict[str, Any], bad: Path, tiny_checkpoint: Path
) -> None:
    changed(tiny_checkpoint, bad, generator=generator)
    assert code_of(load(bad).generator) == "model-generator"


def test_a_generator_of_petabytes_is_refused_before_it_takes_memory(bad: Path, tiny_checkpoint: Path) -> None:
    changed(tiny_checkpoint, bad, generator={"name": "DenseUNet", "arguments": {"growth": 10**7}})
    assert code_of(load(bad).generator) == "model-shape"


def test_weights_of_another_shape_are_refused_by_name(bad: Path, tiny_checkpoint: Path) -> None:
    changed(tiny_checkpoint, bad, generator={"name": "DenseUNet", "arguments": {"growth": 5, "blocks": [1, 1, 1, 1]}})
    with pytest.raises(ModelError, match=r"\.(weight|bias)") as caught:
        load(bad).generator()
    assert caught.value.code == "model-shape"


def test_weights_of_a_type_that_is_not_used_are_refused(bad: Path, tiny_checkpoint: Path) -> None:
    import torch
    from safetensors.torch import save_file as save_torch

    _, card = contents(tiny_checkpoint)
    save_torch({"a": torch.zeros(3, dtype=torch.bfloat16)}, bad, {METADATA_KEY: json.dumps(card)})
    with pytest.raises(ModelError):
        load(bad)


# --- where checkpoints are found ------------------------------------------------------------------------


def test_a_checkpoint_is_found_by_path_and_by_name(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(tiny_checkpoint.read_bytes())
    monkeypatch.setenv(model_folders.USER_MODELS, str(tmp_path))
    for name in (mine, str(mine), "mine", "mine.safetensors"):
        assert load(name).path == mine
    assert mine in model_folders.installed()


def test_an_unknown_name_is_refused_with_those_that_there_are(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.safetensors").write_bytes(tiny_checkpoint.read_bytes())
    monkeypatch.setenv(model_folders.USER_MODELS, str(tmp_path))
    with pytest.raises(ModelError, match="mine") as caught:
        load("yours")
    assert caught.value.code == "model-not-found"


def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    path = tmp_path / f"bad{'n' * 300}.safetensors"
    assert code_of(lambda: load(path)) == code_of(lambda: read_card(path)) == "model-not-found"


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that fails to be read")
def test_a_file_that_fails_to_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.safetensors").symlink_to("/proc/self/mem")
    assert code_of(lambda: read_card(tmp_path / "bad.safetensors")) == "model-not-found"


def test_weights_that_change_between_checking_and_use_are_refused(tmp_path: Path, tiny_checkpoint: Path) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(tiny_checkpoint.read_bytes())
    checkpoint = load(path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert code_of(checkpoint.generator) == "model-hash"


@pytest.mark.parametrize("path", model_folders.installed(), ids=lambda path: path.stem)
def test_shipped_checkpoints_are_whole_small_and_say_what_they_are_for(path: Path) -> None:
    found = load(path)
    found.generator()
    assert path.stem == found.name
    assert path.stat().st_size < 10_000_000
    assert found.card["known_failures"]
    assert "research" in found.card["intended_use"].lower()


def test_a_card_is_read_without_torch(tiny_checkpoint: Path, child_environment: dict[str, str]) -> None:
    program = (
        "import sys; from MRSynthLib.engine.checkpoint import read_card; "
        f"print(read_card({str(tiny_checkpoint)!r})['name'], 'torch' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], env=child_environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["tiny-untrained", "False"]
