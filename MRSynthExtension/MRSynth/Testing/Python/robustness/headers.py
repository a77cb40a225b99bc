"""The checkpoint fuzzer: mutated safetensors headers, of which none may load wrongly or end the process.

All mutants of a run are tried in one child process. It tells the number of each before it begins, so that one which
ends or stops the process is known.
"""

from __future__ import annotations

import copy
import hashlib
import json
import random
import struct
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .doors import PATIENCE, Child
from .mutate import flipped, one_bit, randomness, shuffled

CARD = "mrsynth_card"
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 2**31, 2**63, 2**64, 10**30, -(2**63), 0.5, 1e308, float("nan"), float("inf"), "",
    "x", "F64", "BF16", "I8", "BOOL", "../../etc/passwd", "a\0b", "\ud800", "\x1b[2J", "x" * 100_000, [], [0], [[]],
    [-1], [2**62, 2**62], [0] * 1000, {}, {"": ""}, {"name": "os.system"},
)  # fmt: skip


@dataclass
class Result:
    """What came of many mutants.

    Attributes
    ----------
    answers : Counter
        Times of each error code; "the same" where the mutant is the checkpoint that it was made from.
    failures : list of str
    memory : int
        Most bytes in use.
    """

    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    memory: int = 0

    @property
    def count(self) -> int:
        return sum(self.answers.values())


def mutant(whole: bytes, seed: int, number: int) -> tuple[str, bytes]:
    """One of the mutants: the name of what was done, and the file."""
    rng = randomness(seed, f"header {number}")
    length = struct.unpack("<Q", whole[:8])[0]
    header, weights = whole[8 : 8 + length], whole[8 + length :]
    name, mutate = rng.choice(list(MUTATIONS.items()))
    made = mutate(header, rng)
    if name == "length":
        return name, _length(rng, length) + header + weights
    if name == "truncated":
        return name, whole[: rng.randrange(8 + length)]
    # Half of the times the file stays as long as it was, as where a disk or a transfer has damaged it.
    return name, struct.pack("<Q", len(made)) + made + weights


def _length(rng: random.Random, length: int) -> bytes:
    values = (0, 1, 2, length - 1, length + 1, length * 2, 2**24, 2**31, 2**63, 2**64 - 1, rng.randrange(2**64))
    return struct.pack("<Q", rng.choice(values))


def _document(change: Callable[[dict[str, Any], random.Random], None]) -> Callable[[bytes, random.Random], bytes]:
    """A mutation of the parsed header."""

    def mutate(header: bytes, rng: random.Random) -> bytes:
        document = json.loads(header)
        change(document, rng)
        return json.dumps(document).encode("utf-8", "surrogatepass")

    return mutate


def _tensor(document: dict[str, Any], rng: random.Random) -> None:
    """Another type, shape or place of a tensor."""
    about = document[rng.choice([name for name in document if name != "__metadata__"])]
    key = rng.choice(list(about))
    old = about[key]
    if isinstance(old, list) and rng.random() < 0.7:
        at = rng.randrange(len(old)) if old else 0
        new = rng.choice(
            (0, 1, -1, 2**31, 2**32, 2**62, 2**64, *(n + d for n in old[at : at + 1] for d in (-4, -1, 1, 4)))
        )
        about[key] = [*old[:at], new, *old[at + 1 :]]
    else:
        about[key] = rng.choice(ODD)


def _swap(document: dict[str, Any], rng: random.Random) -> None:
    """Two tensors under each other's name, or one of them twice, or not at all."""
    one, other = rng.sample([name for name in document if name != "__metadata__"], 2)
    kind = rng.randrange(4)
    if kind == 0:
        document[one], document[other] = document[other], document[one]
    elif kind == 1:
        document[one] = copy.deepcopy(document[other])
    elif kind == 2:
        del document[one]
    else:
        document["extra"] = copy.deepcopy(document[one])


def _metadata(document: dict[str, Any], rng: random.Random) -> None:
    """Another kind of metadata, or more of it."""
    kind = rng.randrange(3)
    if kind == 0:
        document["__metadata__"] = rng.choice(ODD)
    elif kind == 1:
        key = rng.choice([*document["__metadata__"], "other"])
        document["__metadata__"][key] = rng.choice(ODD)
    else:
        document["__metadata__"].pop(rng.choice(list(document["__metadata__"])))


def _card(document: dict[str, Any], rng: random.Random) -> None:
    """Another value somewhere in the card."""
    card = json.loads(document["__metadata__"][CARD])
    place = card
    while True:
        key = rng.choice(list(place)) if isinstance(place, dict) else rng.randrange(len(place))
        inner = place[key]
        if not (isinstance(inner, (dict, list)) and inner and rng.random() < 0.8):
            break
        place = inner
    if isinstance(inner, (int, float)) and not isinstance(inner, bool) and rng.random() < 0.5:
        place[key] = inner + rng.choice((-1, 1, 0.5))
    elif isinstance(place, dict) and rng.random() < 0.2:
        del place[key]
    else:
        place[key] = rng.choice(ODD)
    document["__metadata__"][CARD] = json.dumps(card)


def _deep(header: bytes, rng: random.Random) -> bytes:
    depth = rng.choice((10, 1000, 100_000))
    text = rng.choice((b"[", b'{"a":')) * depth
    return b'{"a":' + text + header[1:]


MUTATIONS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "bit": one_bit,
    "bytes": lambda header, rng: flipped(header, rng, 1 << rng.randrange(6)),
    "piece": shuffled,
    "length": lambda header, rng: header,
    "truncated": lambda header, rng: header,
    "tensor": _document(_tensor),
    "swap": _document(_swap),
    "metadata": _document(_metadata),
    "card": _document(_card),
    "doubled key": lambda header, rng: header[:-1] + b"," + header[1:],
    "deep": _deep,
    "noise": lambda header, rng: b"{" + rng.randbytes(rng.randrange(1000)),
}


def fuzz(whole: bytes, numbers: range, seed: int, tell: Callable[[str], object] = lambda line: None) -> Result:
    """Try mutants of a checkpoint.

    Parameters
    ----------
    whole : bytes
        The file of a sound checkpoint.
    numbers : range
        Which mutants; each is the same in every run with the same seed.
    seed : int
    tell : callable
        Called with a line for each failure.
    """
    result = Result()

    def fail(number: int, what: str) -> None:
        result.answers["failed"] += 1
        result.failures.append(f"{number} ({mutant(whole, seed, number)[0]}): {what}")
        tell(result.failures[-1])

    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder, "base.safetensors")
        base.write_bytes(whole)
        left = list(numbers)
        while left:
            child = Child(["-m", "robustness.headers", str(base), str(seed), str(left[0]), str(numbers.stop)])
            done = 0
            try:
                while done < len(left):
                    told = json.loads(next(child.lines(PATIENCE + (60 if not done else 0))))
                    if told["answer"].startswith("!"):
                        fail(told["number"], told["answer"][1:])
                    else:
                        result.answers[told["answer"]] += 1
                    done += 1
            except (TimeoutError, EOFError) as error:
                fail(left[done], f"{type(error).__name__}: {child.said()[-500:]}")
                done += 1
            result.memory = max(result.memory, child.memory())
            child.end()
            left = left[done:]
    return result


def _answer(base: Any, decides: Any, path: Path) -> str:
    """The code with which a mutant is refused; after a "!", what is wrong."""
    from MRSynthLib.engine import checkpoint
    from MRSynthLib.engine.errors import ModelError

    try:
        found = checkpoint.load(path)
        state = found.generator().state_dict()
    except ModelError as error:
        return error.code
    except BaseException:
        return "!" + traceback.format_exc()[-800:]
    if _digest(state) != base:
        return "!it loads with other weights"
    if {key: found.card.get(key) for key in decides} != decides:
        changed = [key for key in decides if found.card.get(key) != decides[key]]
        return f"!it loads with another card: {', '.join(changed)}"
    return "the same"


def _digest(state: Any) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def main() -> None:
    """Try the mutants from one number to another, and print a line of JSON for each."""
    base, seed, first, last = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    from MRSynthLib.engine import checkpoint

    whole = base.read_bytes()
    sound = checkpoint.load(base)
    weights = _digest(sound.generator().state_dict())
    path = base.with_name("mutant.safetensors")
    for number in range(first, last):
        path.write_bytes(mutant(whole, seed, number)[1])
        print(json.dumps({"number": number, "answer": _answer(weights, sound.card, path)}), flush=True)


if __name__ == "__main__":
    main()
