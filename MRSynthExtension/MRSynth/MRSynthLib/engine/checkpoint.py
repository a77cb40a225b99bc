"""Checkpoints: weights as safetensors, with a card in the file's own header.

The card is JSON and can be read without trusting, or even reading, the weights. Nothing in the file is ever
executed: no pickle, and the generator is looked up by name in `generators.GENERATORS`.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import model_folders
from .errors import ModelError
from .standard_space import FRAMES
from .writing import sha256_of, write_aside

if TYPE_CHECKING:
    from torch import nn

Card = dict[str, Any]

FORMAT_VERSION = 1
METADATA_KEY = "mrsynth_card"
DIGEST_KEY = "mrsynth_card_sha256"  # of the card's text; checkpoints from before it was written lack it
OTHER_KEYS = {DIGEST_KEY, "format"}  # safetensors' own writers say in "format" which library wrote the file
MAX_HEADER = 16 << 20
DIRECTIONS = ("t1_to_t2", "t2_to_t1")

FIELDS: dict[str, type | tuple[type, ...]] = {
    "format_version": int,
    "name": str,
    "created": str,
    "generator": dict,
    "frame": str,
    "intensity": dict,
    "contrasts": list,
    "training_data": list,
    "seed": int,
    "config_sha256": str,
    "training": dict,
    "metrics": dict,
    "reliability": (dict, type(None)),
    "known_failures": list,
    "intended_use": str,
    "licence": str,
    "weights_sha256": str,
}


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint.

    Attributes
    ----------
    path : Path
    card : dict
        Every field of `FIELDS` is there and of its type.
    sha256 : str
        Of the whole file.
    """

    path: Path
    card: Card
    sha256: str

    @property
    def name(self) -> str:
        """Name by the card."""
        return str(self.card["name"])

    @property
    def directions(self) -> tuple[str, ...]:
        """What it was trained for: both, unless the card says otherwise, as for a CycleGAN's or Pix2Pix's generator."""
        return tuple(self.card.get("directions", DIRECTIONS))

    def check_direction(self, source: str, target: str, cycle: bool = False) -> None:
        """Refuse a direction that the checkpoint was not trained for, and G(G(x)) where it has but one.

        Raises
        ------
        ModelError
            model-direction.
        """
        wanted = {f"{source}_to_{target}"} | ({f"{target}_to_{source}"} if cycle else set())
        missing = sorted(wanted - set(self.directions))
        if missing:
            said, has = (", ".join(names).upper().replace("_TO_", " to ") for names in (missing, self.directions))
            needs = f"|x - G(G(x))| needs {said} too" if cycle else f"it knows nothing of {said}"
            raise ModelError(
                "model-direction", f"'{self.name}' was trained for {has}; {needs}.", f"a checkpoint for {said}."
            )

    def generator(self) -> nn.Module:
        """The generator in evaluation mode, on the CPU, fp32.

        Raises
        ------
        ModelError
            model-generator, model-shape, model-hash, model-truncated, model-not-found.
        """
        import torch

        from .generators import build

        about = self.card["generator"]
        try:
            with torch.device("meta"):  # no memory is taken before the shapes are known to be those of the file
                module = build(about["name"], about["arguments"])
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            raise ModelError(
                "model-generator", f"'{self.path.name}': {error}.", "a generator that MRSynth has."
            ) from error
        with model_folders.readable(self.path):
            arrays = _tensors(self.path)
        if weights_sha256(arrays) != self.card["weights_sha256"]:
            raise ModelError("model-hash", f"'{self.path.name}' was changed meanwhile.", "a file that stays as it is.")
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        expected = {name: tuple(t.shape) for name, t in module.state_dict().items()}
        seen = {name: tuple(t.shape) for name, t in tensors.items()}
        if seen != expected:
            odd = sorted(name for name in expected.keys() | seen.keys() if expected.get(name) != seen.get(name))
            raise ModelError(
                "model-shape",
                f"'{self.path.name}' differs from its generator in {len(odd)} tensors, e.g. '{odd[0]}'.",
                "weights of the generator that the card names.",
            )
        module.load_state_dict(tensors, assign=True)
        return module.eval()


def _header(path: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file, which begins with its length in 8 bytes."""
    not_safetensors = ModelError(
        "model-not-safetensors", f"'{path.name}' is not a safetensors file.", "a .safetensors file."
    )
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= MAX_HEADER:  # pickles and zip archives give huge numbers here
            raise not_safetensors
        body = file.read(length)
    if body[:1] != b"{":
        raise not_safetensors
    if len(body) < length:
        raise ModelError("model-truncated", f"'{path.name}' ends within its header.", "a whole file.")
    try:
        header = json.loads(body)
        ends = [int(about["data_offsets"][1]) for key, about in header.items() if key != "__metadata__"]
        dict(header.get("__metadata__", {}))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise not_safetensors from error
    if size < 8 + length + max(ends, default=0):
        raise ModelError("model-truncated", f"'{path.name}' ends within its weights.", "a whole file.")
    return dict(header)


def validate_card(card: Any, what: str) -> Card:
    """Refuse a card that lacks a field, has one of another type, or was made for a newer MRSynth.

    Raises
    ------
    ModelError
        model-card, model-version.
    """
    if not isinstance(card, dict):
        raise ModelError("model-card", f"'{what}' has no MRSynth card.", "a checkpoint made by MRSynth.")
    version = card.get("format_version")
    if isinstance(version, int) and not 1 <= version <= FORMAT_VERSION:
        raise ModelError("model-version", f"'{what}' has card format {version}.", f"format 1 to {FORMAT_VERSION}.")
    wrong = [name for name, kind in FIELDS.items() if name not in card or not isinstance(card[name], kind)]
    if wrong:
        raise ModelError("model-card", f"The card of '{what}' lacks {', '.join(wrong)}.", "all fields of the card.")
    if card["frame"] not in FRAMES:
        raise ModelError("model-card", f"The card of '{what}' names frame '{card['frame']}'.", f"one of {FRAMES}.")
    directions = card.get("directions", DIRECTIONS)  # only cards of one direction have the field
    if not (isinstance(directions, list | tuple) and directions and all(d in DIRECTIONS for d in directions)):
        raise ModelError("model-card", f"The card of '{what}' names directions {directions}.", f"some of {DIRECTIONS}.")
    return card


def read_card(path: str | os.PathLike[str]) -> Card:
    """The card of a checkpoint, without its weights (and without torch).

    Raises
    ------
    ModelError
        model-not-found, model-not-safetensors, model-truncated, model-card, model-hash, model-version.
    """
    path = Path(path)
    with model_folders.readable(path):
        if not path.is_file():
            raise ModelError("model-not-found", f"There is no file '{path}'.", "the path of a checkpoint.")
        metadata = _header(path).get("__metadata__", {})
    try:
        card = json.loads(metadata[METADATA_KEY])
    except (KeyError, ValueError, TypeError, RecursionError):
        card = None
    if card is not None:
        _check_card_text(metadata, path.name)
    return validate_card(card, path.name)


def _check_card_text(metadata: Mapping[str, Any], what: str) -> None:
    """Refuse a card that is not as it was saved; the card decides, too, what the weights compute."""
    unknown = sorted(metadata.keys() - {METADATA_KEY} - OTHER_KEYS)
    if unknown:  # such as the name of the digest, if it was damaged
        raise ModelError("model-card", f"'{what}' also has metadata {unknown[0]!r}.", "the card and nothing else.")
    if DIGEST_KEY in metadata and metadata[DIGEST_KEY] != _text_sha256(metadata[METADATA_KEY]):
        raise ModelError("model-hash", f"The card of '{what}' is not as it was saved.", "a card with its own SHA-256.")


def _text_sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _tensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise ModelError(
            "model-truncated", f"'{path.name}' could not be read: {error}.", "a whole safetensors file."
        ) from error
    except TypeError as error:  # bfloat16, float8: numpy has no such types, and MRSynth writes none
        raise ModelError("model-shape", f"'{path.name}' has tensors of another type.", "float32 weights.") from error


def weights_sha256(tensors: Mapping[str, np.ndarray] | Iterable[tuple[str, np.ndarray]]) -> str:
    """SHA-256 over name, type, shape and bytes of all tensors, sorted by name."""
    digest = hashlib.sha256()
    for name, array in sorted(dict(tensors).items()):
        digest.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def load(name: str | os.PathLike[str] | None = None) -> Checkpoint:
    """Find and verify a checkpoint.

    Parameters
    ----------
    name : str or path, optional
        A path or an installed name; by default the shipped native-frame checkpoint.

    Returns
    -------
    Checkpoint

    Raises
    ------
    ModelError
        model-not-found, model-not-safetensors, model-truncated, model-card, model-version, model-hash.
    """
    path = model_folders.find(name)
    card = read_card(path)
    with model_folders.readable(path):
        seen = weights_sha256(_tensors(path))
        sha256 = sha256_of(path)
    if seen != card["weights_sha256"]:
        raise ModelError(
            "model-hash",
            f"The weights of '{path.name}' have SHA-256 {seen[:12]}...",
            f"{card['weights_sha256'][:12]}..., as its card says.",
        )
    return Checkpoint(path, card, sha256)


def save(module: nn.Module, card: Mapping[str, Any], path: str | os.PathLike[str]) -> Checkpoint:
    """Write a generator and its card; ``format_version`` and ``weights_sha256`` are filled in here.

    Raises
    ------
    ModelError
        model-card.
    OutputError
        If the file cannot be written.
    """
    from safetensors.numpy import save as serialize

    path = Path(path)
    tensors = {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in module.state_dict().items()}
    filled = {**card, "format_version": FORMAT_VERSION, "weights_sha256": weights_sha256(tensors)}
    validate_card(filled, path.name)
    text = json.dumps(filled, ensure_ascii=False)
    with write_aside(path) as aside:
        aside.write_bytes(_ordered(serialize(tensors, metadata={METADATA_KEY: text, DIGEST_KEY: _text_sha256(text)})))
    return load(path)


def _ordered(file: bytes) -> bytes:
    """The same safetensors file with its metadata sorted: safetensors writes them in another order each time."""
    length = struct.unpack("<Q", file[:8])[0]
    header = json.loads(file[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + file[8 + length :]
