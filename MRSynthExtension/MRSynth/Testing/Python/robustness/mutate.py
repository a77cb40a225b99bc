"""Seeded damage to bytes: the same seed gives the same damage on every machine."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator


def randomness(seed: int, name: str) -> random.Random:
    """The random numbers of one case, which do not depend on the cases before it."""
    return random.Random(f"{seed}/{name}")


def flipped(data: bytes, rng: random.Random, count: int, within: int | None = None) -> bytes:
    """`count` bytes replaced by random ones, among the first `within` bytes."""
    damaged = bytearray(data)
    for _ in range(count):
        damaged[rng.randrange(min(within or len(data), len(data)))] = rng.randrange(256)
    return bytes(damaged)


def one_bit(data: bytes, rng: random.Random, within: int | None = None) -> bytes:
    """One bit turned over, among the first `within` bytes."""
    damaged = bytearray(data)
    damaged[rng.randrange(min(within or len(data), len(data)))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def shuffled(data: bytes, rng: random.Random, within: int | None = None) -> bytes:
    """A piece cut out, doubled or moved, which begins within the first `within` bytes."""
    start = rng.randrange(min(within or len(data), len(data)))
    end = min(len(data), start + 1 + rng.randrange(64))
    kind = rng.choice(("cut", "double", "move", "zero"))
    piece = data[start:end]
    if kind == "cut":
        return data[:start] + data[end:]
    if kind == "double":
        return data[:end] + piece + data[end:]
    if kind == "zero":
        return data[:start] + bytes(len(piece)) + data[end:]
    rest = data[:start] + data[end:]
    to = rng.randrange(len(rest) + 1)
    return rest[:to] + piece + rest[to:]


def bomb(size: int, start: bytes = b"") -> Iterator[bytes]:
    """A gzip file that holds `start` and then `size` zeros, in pieces: many members of 64 MB each."""
    member = 64 << 20
    if start:
        yield gzip_member(start)
    packed = gzip_member(bytes(member))
    for _ in range(size // member):
        yield packed
    yield gzip_member(bytes(size % member))


def gzip_member(data: bytes) -> bytes:
    """`data` as a gzip file, the same bytes each time."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return squeeze.compress(data) + squeeze.flush()
