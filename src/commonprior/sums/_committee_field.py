"""Vectors over the integers modulo 2^31 - 1: packed 4 bytes a number, combined in blocks that stay in the cache.

Products of two elements take 62 bits, so sums of them are reduced lazily: `_plan` keeps the largest value that can
stand in the accumulator as an exact integer and folds (2^31 = 1 in this field) only where int64 would overflow.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from commonprior.errors import InputError

FIELD = 2**31 - 1
HALF = (FIELD - 1) // 2
"""A signed sum stands in the field as it is as long as its size is at most this."""

WORD: np.dtype[Any] = np.dtype("<u4")
_BITS = 31
_BLOCK = 8192
_ROOM = 2**63 - 1
_STREAM_BYTES = 1 << 16
_AES_BLOCK = 16
_LIMB_BITS = 16
_ALONE = 1 << 19
"""Products of matrices of fewer steps than this stay on one thread: waiting for others took thirty times as long."""
_TOGETHER = 8
"""Rows that `inner` takes at a time: with more of them blocks would be so short that numpy's calls were half of it."""


class _Terms(NamedTuple):
    """A run of products that int64 holds: the first row, centred weights, a multiple of the field, folds after it."""

    first: int
    weights: tuple[int, ...]
    offset: int
    folds: int


def to_field(integers: np.ndarray, limit: int, out: np.ndarray) -> None:
    """Write integers [d] int64 into `out` [d] as elements; refuse one whose size is over `limit`."""
    for at in range(0, len(integers), _BLOCK):
        block = integers[at : at + _BLOCK]
        largest = max(int(block.max()), -int(block.min()))
        if largest > limit:
            raise InputError(f"integer of size {largest} is over the encoding's limit {limit}")
        out[at : at + _BLOCK] = block + ((block >> 63) & FIELD)


def from_field(elements: np.ndarray) -> np.ndarray:
    """Return elements [d] as signed integers [d] int64 from -HALF to HALF."""
    signed = elements.astype(np.int64)
    signed -= FIELD * (signed > HALF)
    return signed


def read_elements(data: bytes) -> np.ndarray | None:
    """Return packed elements, or None where a word is no element: there is one way to write each."""
    elements = np.frombuffer(data, WORD)
    return elements if int(elements.max(initial=0)) < FIELD else None


def expand(key: bytes, length: int) -> np.ndarray:
    """Return `length` uniform elements from AES-256-CTR under a key that expands nothing else.

    A word is the stream's lowest 31 bits; the one that is no element is thrown away, never folded back.
    """
    out, filled = np.empty(length, WORD), 0
    cipher = Cipher(algorithms.AES256(key), modes.CTR(bytes(_AES_BLOCK))).encryptor()
    zeros, stream = bytes(_STREAM_BYTES), bytearray(_STREAM_BYTES + _AES_BLOCK)
    words = np.frombuffer(stream, WORD, _STREAM_BYTES // WORD.itemsize)
    while filled < length:
        cipher.update_into(zeros, stream)
        np.bitwise_and(words, FIELD, out=words)
        kept = words if int(words.max()) < FIELD else words[words != FIELD]
        kept = kept[: length - filled]
        out[filled : filled + len(kept)] = kept
        filled += len(kept)
    return out


def combine(rows: Sequence[np.ndarray], weights: Sequence[Sequence[int]]) -> np.ndarray:
    """Return [o, d]: for each of `weights` [o, r] the linear combination of the rows (r of [d] elements)."""
    length, plans = len(rows[0]), [_plan(row) for row in weights]
    out = np.empty((len(plans), length), WORD)
    wide = np.empty((len(rows), _BLOCK), np.int64)
    total, spare = np.empty(_BLOCK, np.int64), np.empty(_BLOCK, np.int64)
    for at in range(0, length, _BLOCK):
        size = min(_BLOCK, length - at)
        for buffer, row in zip(wide, rows, strict=True):
            buffer[:size] = row[at : at + size]
        for plan, target in zip(plans, out, strict=True):
            _accumulate(plan, wide[:, :size], total[:size], spare[:size])
            target[at : at + size] = spare[:size]
    return out


def extrapolate(values: Sequence[np.ndarray], out: Sequence[np.ndarray]) -> None:
    """Write into each of `out` [d] the next value of polynomials of degree t, whose values [d] at 0 to t are given.

    By backward differences (Newton): nothing but additions, in words of 32 bits, which hold a sum of two elements.
    """
    length = len(values[0])
    table, spare = np.empty((len(values), _BLOCK), WORD), np.empty(_BLOCK, WORD)
    for at in range(0, length, _BLOCK):
        size = min(_BLOCK, length - at)
        rows, other = table[:, :size], spare[:size]
        for row, value in zip(rows, values, strict=True):
            row[:] = value[at : at + size]
        for order in range(1, len(values)):
            for row, following in itertools.pairwise(rows[: len(values) - order + 1]):
                np.subtract(following, row, out=row)
                np.add(row, FIELD, out=other)
                np.minimum(row, other, out=row)
        for target in out:
            for row, above in itertools.pairwise(rows):
                np.add(above, row, out=above)
                np.subtract(above, FIELD, out=other)
                np.minimum(above, other, out=above)
            target[at : at + size] = rows[-1]


def add_up(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Return the sum [d] of rows of elements [d]."""
    return combine(rows, [[1] * len(rows)])[0]


def inner(rows: Sequence[np.ndarray], coefficients: np.ndarray) -> list[list[int]]:
    """Return [n][k]: the inner product of each row (n of [d] elements) with each of `coefficients` [k, d].

    Limbs of 16 bits in float64: a block's sums stay below 2^53, where every integer is exact in any order.
    """
    if len(rows) > _TOGETHER:
        parts = [rows[at : at + _TOGETHER] for at in range(0, len(rows), _TOGETHER)]
        return [row for part in parts for row in inner(part, coefficients)]
    n, (k, length), mask = len(rows), coefficients.shape, (1 << _LIMB_BITS) - 1
    step = min(_BLOCK, max(1, _ALONE // (4 * n * k)))
    totals = np.zeros((2 * n, 2 * k), np.int64)
    left, right = np.empty((2 * n, step)), np.empty((2 * k, step))
    for at in range(0, length, step):
        size = min(step, length - at)
        for matrix, vectors in ((left, rows), (right, coefficients)):
            for i, vector in enumerate(vectors):
                block = vector[at : at + size]
                matrix[i, :size] = block & mask
                matrix[i + len(vectors), :size] = block >> _LIMB_BITS
        totals += (left[:, :size] @ right[:, :size].T).astype(np.int64)
    low, high = totals[:n].tolist(), totals[n:].tolist()
    return [
        [(lo[j] + ((lo[j + k] + hi[j]) << _LIMB_BITS) + (hi[j + k] << 2 * _LIMB_BITS)) % FIELD for j in range(k)]
        for lo, hi in zip(low, high, strict=True)
    ]


def lagrange(points: Sequence[int], at: int) -> list[int]:
    """Return the weights that take a polynomial's values at `points` to its value at `at`."""
    out = []
    for x in points:
        above, below = 1, 1
        for other in points:
            if other != x:
                above, below = above * (at - other) % FIELD, below * (x - other) % FIELD
        out.append(above * pow(below, -1, FIELD) % FIELD)
    return out


def _accumulate(plan: Sequence[_Terms], rows: np.ndarray, total: np.ndarray, spare: np.ndarray) -> None:
    """Leave in `spare` the combination of the rows' blocks, reduced; `total` and `spare` are int64 of a block."""
    total.fill(0)
    for first, weights, offset, folds in plan:
        if offset:
            np.add(total, offset, out=total)
        for row, weight in zip(rows[first:], weights, strict=False):
            if weight in (1, -1):
                (np.add if weight > 0 else np.subtract)(total, row, out=total)
            else:
                np.multiply(row, weight, out=spare)
                np.add(total, spare, out=total)
        for _ in range(folds):
            np.right_shift(total, _BITS, out=spare)
            np.bitwise_and(total, FIELD, out=total)
            np.add(total, spare, out=total)
    # Below twice the field: as unsigned words, what was below the field wraps to something huge and loses.
    words, reduced = total.view(np.uint64), spare.view(np.uint64)
    np.subtract(words, np.uint64(FIELD), out=reduced)
    np.minimum(words, reduced, out=reduced)


def _plan(weights: Sequence[int]) -> list[_Terms]:
    """Cut a combination into runs that cannot overflow, with weights of least size and an offset against signs."""
    centred = [w - FIELD if w > HALF else w for w in (weight % FIELD for weight in weights)]
    plan: list[_Terms] = []
    first, bound = 0, 0
    while first < len(centred):
        end, offset = first, 0
        while end < len(centred) and bound + abs(centred[end]) * FIELD <= _ROOM:
            bound += abs(centred[end]) * FIELD
            offset += max(0, -centred[end]) * FIELD
            end += 1
        folds = 0
        while bound >= 2 * FIELD:
            bound, folds = FIELD + (bound >> _BITS), folds + 1
        plan.append(_Terms(first, tuple(centred[first:end]), offset, folds))
        first = end
    return plan
