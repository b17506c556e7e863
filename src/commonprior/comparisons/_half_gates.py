"""Half-gates garbling (Zahur, Rosulek and Evans 2015, ePrint 2014/756, figure 2) of "x < y", many at once in numpy.

A label is 16 bytes, held as two little-endian uint64 in the last axis; arrays are [bits, count, 2], lowest bit first.
XOR is free, an AND costs two rows of 16 bytes. The hash is H(x, t) = π(σ(x) ⊕ t) ⊕ σ(x) ⊕ t with π = AES-128 under a
key that is fresh in each batch and σ(a ∥ b) = (a ⊕ b) ∥ a, which is circular correlation robust for naturally derived
keys where bare π(x) ⊕ x is not (Guo, Katz, Wang and Yu 2020, ePrint 2019/074, section 7). No tweak t is used twice:
its high half is the batch's number, its low half counts both halves of every gate of every comparison.

The circuit is a borrow chain with one AND a bit: c' = y ⊕ (¬(x ⊕ y) ∧ (c ⊕ y)), and c' = ¬x ∧ y for the lowest.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from commonprior.sums import Csprng

LABEL_BYTES = 16
_AES_BLOCK = 16


class Hash:
    """H under one AES key, for one batch of `count` comparisons."""

    def __init__(self, key: bytes, number: int, count: int) -> None:
        # ECB is the bare permutation π, which the hash is built from.
        self._aes = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305
        self._number, self._count = np.uint64(number), count

    def gate(self, bit: int, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return H of labels [k, count, 2] under the tweaks of gate `bit`'s first and second half."""
        first = np.arange(2 * bit * self._count, (2 * bit + 1) * self._count, dtype=np.uint64)
        block = np.empty((2, *left.shape), np.uint64)
        for at, (labels, low) in enumerate(((left, first), (right, first + np.uint64(self._count)))):
            np.bitwise_xor(labels[..., 0], labels[..., 1], out=block[at, ..., 0])
            block[at, ..., 0] ^= self._number
            np.bitwise_xor(labels[..., 0], low, out=block[at, ..., 1])
        out = bytearray(block.nbytes + _AES_BLOCK - 1)
        self._aes.update_into(block.data.cast("B"), out)
        block ^= np.frombuffer(out, np.uint64, block.size).reshape(block.shape)
        return block[0], block[1]


@dataclass(frozen=True)
class Garbled:
    """What the garbler keeps and sends: zero-labels x and y [bits, count, 2], the offset, rows [bits, 2, count, 2],
    and the zero-labels of the outcome [count, 2].
    """

    x: np.ndarray = field(repr=False)
    y: np.ndarray = field(repr=False)
    offset: np.ndarray = field(repr=False)
    rows: np.ndarray = field(repr=False)
    outcome: np.ndarray = field(repr=False)


def garble(bits: int, count: int, hash_: Hash, csprng: Csprng) -> Garbled:
    """Garble `count` comparisons of `bits` bits under fresh labels and a fresh offset."""
    offset = labels(csprng, 1)[0]
    offset[0] |= np.uint64(1)
    drawn = labels(csprng, 2 * bits * count).reshape(2, bits, count, 2)
    x, y = drawn[0], drawn[1]
    rows = np.empty((bits, 2, count, 2), np.uint64)
    carry = x[0]
    for bit in range(bits):
        if bit == 0:
            carry = _garble_and(hash_, 0, x[0] ^ offset, y[0], offset, rows[0])
        else:
            carry = y[bit] ^ _garble_and(hash_, bit, x[bit] ^ y[bit] ^ offset, carry ^ y[bit], offset, rows[bit])
    return Garbled(x, y, offset, rows, carry)


def evaluate(x: np.ndarray, y: np.ndarray, rows: np.ndarray, hash_: Hash) -> np.ndarray:
    """Return the outcome's labels [count, 2] from one label a bit of each number and the garbled rows."""
    carry = _evaluate_and(hash_, 0, x[0], y[0], rows[0])
    for bit in range(1, len(rows)):
        carry = y[bit] ^ _evaluate_and(hash_, bit, x[bit] ^ y[bit], carry ^ y[bit], rows[bit])
    return carry


def labels(csprng: Csprng, count: int) -> np.ndarray:
    """Return fresh labels [count, 2]."""
    return np.frombuffer(csprng(LABEL_BYTES * count), "<u8").astype(np.uint64).reshape(count, 2)


def low_bits(of: np.ndarray) -> np.ndarray:
    """Return the permute bit of labels [..., 2] as bool [...]."""
    return (of[..., 0] & np.uint64(1)).astype(bool)


def choose(zero: np.ndarray, offset: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """Return the labels that stand for `bits` [...], of zero-labels [..., 2]."""
    return zero ^ (_mask(bits) & offset)


def _mask(bits: np.ndarray) -> np.ndarray:
    return (np.uint64(0) - bits.astype(np.uint64))[..., None]


def _garble_and(
    hash_: Hash, bit: int, a: np.ndarray, b: np.ndarray, offset: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """Return the zero-labels [count, 2] of a ∧ b and write the gate's two rows."""
    pair_a, pair_b = hash_.gate(bit, np.stack([a, a ^ offset]), np.stack([b, b ^ offset]))
    rows[0] = pair_a[0] ^ pair_a[1] ^ (_mask(low_bits(b)) & offset)
    rows[1] = pair_b[0] ^ pair_b[1] ^ a
    generator = pair_a[0] ^ (_mask(low_bits(a)) & rows[0])
    return generator ^ pair_b[0] ^ (_mask(low_bits(b)) & (rows[1] ^ a))


def _evaluate_and(hash_: Hash, bit: int, a: np.ndarray, b: np.ndarray, rows: np.ndarray) -> np.ndarray:
    at_a, at_b = hash_.gate(bit, a[None], b[None])
    return at_a[0] ^ (_mask(low_bits(a)) & rows[0]) ^ at_b[0] ^ (_mask(low_bits(b)) & (rows[1] ^ a))
