"""What everyone can compute again to the last bit: random numbers from public words, and sums in a fixed order.

Bits come from SHAKE-256 (FIPS 202) of the canonical bytes of the words, so they are the same on every machine and under
every version of every library. Normal deviates are counted bits (a binomial is all but normal, and needs no logarithm).
"""

from __future__ import annotations

import hashlib

import numpy as np

from commonprior.canonical import Value, encode

_DOMAIN = "commonprior/public/1"
_COINS, _DEVIATION = 64, 4.0


def bits(count: int, *words: Value) -> np.ndarray:
    """Return `count` fair bits [count] uint8."""
    return np.unpackbits(np.frombuffer(_stream(-(-count // 8), words), np.uint8), count=count)


def signs(count: int, *words: Value) -> np.ndarray:
    """Return `count` numbers [count] int8, each 1 or -1."""
    return (1 - 2 * bits(count, *words).astype(np.int8)).astype(np.int8)


def integers(count: int, below: int, *words: Value) -> np.ndarray:
    """Return `count` integers [count] from 0 to `below` - 1, of which none is likelier by more than `below` in 2^64."""
    drawn = np.frombuffer(_stream(8 * count, words), "<u8")
    return (drawn % np.uint64(below)).astype(np.int64)


def normals(count: int, *words: Value) -> np.ndarray:
    """Return `count` numbers [count] float64 of mean 0 and variance 1: 64 coins each, none beyond 8."""
    drawn = np.frombuffer(_stream(_COINS // 8 * count, words), "<u8")
    return (np.bitwise_count(drawn).astype(np.float64) - _COINS / 2) / _DEVIATION


def total(values: np.ndarray) -> np.ndarray:
    """Return the sum [...] of values [n, ...], added in halves: numpy's own order differs between processors."""
    values = np.asarray(values, np.float64)
    if len(values) == 0:
        return np.zeros(values.shape[1:])
    while len(values) > 1:
        half = (len(values) + 1) // 2
        folded = values[:half].copy()
        folded[: len(values) - half] += values[half:]
        values = folded
    return values[0]


def _stream(length: int, words: tuple[Value, ...]) -> bytes:
    return hashlib.shake_256(encode([_DOMAIN, *words])).digest(length)
