"""The garbled circuit by itself: every pair of 8-bit numbers, and the hash against its formula."""

import os

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from commonprior.comparisons._half_gates import Hash, choose, evaluate, garble, low_bits


def to_bits(numbers, bits):
    return ((numbers[None] >> np.arange(bits)[:, None]) & 1).astype(bool)


def less(x, y, bits, hash_key=bytes(16), number=0):
    """Garble and evaluate x < y for arrays of integers."""
    garbled = garble(bits, len(x), Hash(hash_key, number, len(x)), os.urandom)
    own = choose(garbled.x, garbled.offset, to_bits(x, bits))
    theirs = choose(garbled.y, garbled.offset, to_bits(y, bits))
    out = evaluate(own, theirs, garbled.rows, Hash(hash_key, number, len(x)))
    zero, one = (out == garbled.outcome).all(-1), (out == garbled.outcome ^ garbled.offset).all(-1)
    assert (zero ^ one).all()
    assert (low_bits(out) ^ low_bits(garbled.outcome) == one).all()
    return one


def test_all_pairs_of_8_bit_numbers():
    x, y = (m.reshape(-1) for m in np.meshgrid(np.arange(256), np.arange(256)))
    np.testing.assert_array_equal(less(x, y, 8), x < y)


def test_random_and_close_48_bit_numbers():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 2**48, (2, 5000))
    y[::7], y[1::7], y[2::7] = x[::7], x[1::7] + 1, x[2::7] - 1
    x[:2], y[:2] = [0, 2**48 - 1], [2**48 - 1, 0]
    y = y.clip(0, 2**48 - 1)
    np.testing.assert_array_equal(less(x, y, 48, os.urandom(16), 3), x < y)


@pytest.mark.parametrize("bits", [1, 2, 62])
def test_the_narrowest_and_the_widest(bits):
    x, y = np.random.default_rng(bits).integers(0, 2**bits, (2, 100))
    np.testing.assert_array_equal(less(x, y, bits), x < y)


def test_the_hash_is_the_formula_s():
    """H(x, t) = π(σ(x) ⊕ t) ⊕ σ(x) ⊕ t with σ(a ∥ b) = (a ⊕ b) ∥ a, one block after the other."""
    key, number, count, bit = os.urandom(16), 9, 3, 5
    aes = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    left, right = np.random.default_rng(0).integers(0, 2**63, (2, 2, count, 2)).astype(np.uint64)
    got = Hash(key, number, count).gate(bit, left, right)
    for half, x in enumerate((left, right)):
        for k in range(2):
            for i in range(count):
                a, b = (int(v) for v in x[k, i])
                block = [(a ^ b) ^ number, a ^ ((2 * bit + half) * count + i)]
                data = b"".join(v.to_bytes(8, "little") for v in block)
                expected = bytes(p ^ q for p, q in zip(aes.update(data), data))
                assert got[half][k, i].astype("<u8").tobytes() == expected


def test_no_tweak_is_used_twice_within_a_batch_or_across_batches():
    """At label zero the hash is a function of the tweak alone."""
    zero, seen = np.zeros((1, 7, 2), np.uint64), []
    for number in range(3):
        hash_ = Hash(bytes(16), number, 7)
        seen += [half[0] for bit in range(48) for half in hash_.gate(bit, zero, zero)]
    blocks = np.concatenate(seen)
    assert len(np.unique(blocks, axis=0)) == len(blocks) == 3 * 48 * 2 * 7


def test_labels_and_offset_are_fresh_and_the_offset_s_permute_bit_is_set():
    one, two = (garble(8, 5, Hash(bytes(16), 0, 5), os.urandom) for _ in range(2))
    assert low_bits(one.offset)
    assert (one.offset != two.offset).all()
    everything = np.concatenate([m.reshape(-1, 2) for g in (one, two) for m in (g.x, g.y)])
    assert len(np.unique(everything, axis=0)) == len(everything)


def test_a_row_that_is_wrong_gives_a_label_of_neither_outcome():
    x = np.arange(4)
    garbled = garble(4, 4, Hash(bytes(16), 0, 4), os.urandom)
    own, theirs = (choose(w, garbled.offset, to_bits(v, 4)) for w, v in ((garbled.x, x), (garbled.y, x[::-1])))
    rows = garbled.rows ^ np.uint64(2)
    out = evaluate(own, theirs, rows, Hash(bytes(16), 0, 4))
    neither = (out != garbled.outcome).any(-1) & (out != garbled.outcome ^ garbled.offset).any(-1)
    assert neither.any()


def test_attack_an_offset_used_twice():
    """With one offset and the same labels for two batches, a side that evaluates both holds two labels of a wire."""
    tape = np.random.default_rng(0).bytes(100_000)

    def again():
        at = [0]

        def draw(n):
            at[0] += n
            return tape[at[0] - n : at[0]]

        return draw

    weak = [garble(4, 1, Hash(bytes(16), 0, 1), again()) for _ in range(2)]
    sound = [garble(4, 1, Hash(bytes(16), 0, 1), os.urandom) for _ in range(2)]
    for (first, second), broken in ((weak, True), (sound, False)):
        seen = (
            choose(first.x, first.offset, to_bits(np.array([3]), 4)),
            choose(second.x, second.offset, to_bits(np.array([12]), 4)),
        )
        stolen = (seen[0] ^ seen[1])[0, 0]
        assert (stolen == first.offset).all() == broken
