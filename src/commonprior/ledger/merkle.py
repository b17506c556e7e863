"""Merkle trees of RFC 6962 over SHA-256, as the contracts read them: leaves of 256 numbers of one byte."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

CHUNK = 256
"""Numbers, and bytes, in a leaf."""


def chunks_of(data: bytes) -> list[bytes]:
    """Return a vector's leaves, the last one what is left."""
    return [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)]


def leaf(chunk: bytes) -> bytes:
    """Return a leaf's hash."""
    return sha256(b"\x00" + chunk).digest()


def levels_of(data: bytes) -> list[list[bytes]]:
    """Return the tree from its leaves to its root; a node without a sibling goes up as it is."""
    level = [leaf(chunk) for chunk in chunks_of(data)]
    levels = [level]
    while len(level) > 1:
        pairs = [sha256(b"\x01" + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
        level = pairs + level[len(level) - len(level) % 2 :]
        levels.append(level)
    return levels


def root(data: bytes) -> bytes:
    """Return the root of a vector that is not empty."""
    return levels_of(data)[-1][0]


def proof(levels: Sequence[Sequence[bytes]], index: int) -> list[bytes]:
    """Return the inclusion proof of a leaf (RFC 9162, section 2.1.3.1), from its sibling up."""
    out = []
    for level in levels[:-1]:
        if index ^ 1 < len(level):
            out.append(level[index ^ 1])
        index >>= 1
    return out


def root_from(node: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """Return the root that a proof leads to, or None where it has not the length it must have (section 2.1.3.2)."""
    last = size - 1
    if not 0 <= index <= last:
        return None
    for step in path:
        if last == 0:
            return None
        if index & 1 or index == last:
            node = sha256(b"\x01" + step + node).digest()
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            node = sha256(b"\x01" + node + step).digest()
        index, last = index >> 1, last >> 1
    return node if last == 0 else None
