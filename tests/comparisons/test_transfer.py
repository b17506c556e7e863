"""Oblivious transfer: who ends with which key, and points that are none."""

import os

import pytest

pytest.importorskip("nacl.bindings", reason="PyNaCl is not installed: install commonprior[garbled]")

import nacl.bindings as nacl

from commonprior.comparisons._transfer import CHOICE_BYTES, Sender, _to_group, choose_keys
from commonprior.errors import ProtocolError

IDENTITY = b"\x01" + bytes(31)
BITS = [0, 1, 1, 0, 1, 0, 0, 1]


def test_the_receiver_has_the_key_of_its_bit_and_not_the_other():
    sender = Sender.draw(b"context", os.urandom)
    chosen = choose_keys(b"context", sender.public, BITS, os.urandom)
    for bit, key, pair in zip(BITS, chosen.keys, sender.keys(chosen.choices), strict=True):
        assert key == pair[bit]
        assert key != pair[1 - bit]
    assert len({key for pair in sender.keys(chosen.choices) for key in pair}) == 2 * len(BITS)


def test_keys_depend_on_the_context_and_on_the_place():
    sender = Sender.draw(b"context", os.urandom)
    chosen = choose_keys(b"another", sender.public, [0, 0], os.urandom)
    assert all(key not in pair for key, pair in zip(chosen.keys, sender.keys(chosen.choices)))
    right = choose_keys(b"context", sender.public, [0, 0], os.urandom)
    swapped = right.choices[CHOICE_BYTES:] + right.choices[:CHOICE_BYTES]
    assert not {k for pair in sender.keys(swapped) for k in pair} & set(right.keys)


def test_attack_points_that_are_not_in_the_group():
    """A point of small order, off the curve, not canonical, or with a torsion part would give away bits of the key."""
    torsion = bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")
    good = Sender.draw(b"", os.urandom).public
    mixed = nacl.crypto_core_ed25519_add(good, torsion)
    not_canonical = (2**255 - 19 + 1).to_bytes(32, "little")
    off = next(bytes([i]) + good[1:] for i in range(256) if not nacl.crypto_core_ed25519_is_valid_point(
        bytes([i]) + good[1:]))  # fmt: skip
    sender = Sender.draw(b"", os.urandom)
    for bad in (IDENTITY, bytes(32), torsion, mixed, not_canonical, off, good[:-1]):
        with pytest.raises(ProtocolError, match="prime-order group"):
            choose_keys(b"", bad, [0], os.urandom)
        if len(bad) == 32:
            for choice in (bad + good, good + bad):
                with pytest.raises(ProtocolError, match="prime-order group"):
                    sender.keys(choice)


def test_attack_a_choice_that_takes_the_hash_back():
    """R0 = -H(R1) is a proper point, and R0 + H(R1) none that a key can be made of: a refusal, not a crash."""
    sender = Sender.draw(b"context", os.urandom)
    one = Sender.draw(b"", os.urandom).public
    for slot in (0, 1):
        back = nacl.crypto_core_ed25519_sub(nacl.crypto_core_ed25519_sub(one, _to_group(b"context", 0, slot, one)), one)
        with pytest.raises(ProtocolError, match="choice 0: a point is the other's hash taken back"):
            sender.keys(one + back if slot else back + one)


def test_choices_look_alike_whatever_the_bits_are():
    sender = Sender.draw(b"", os.urandom)
    sent = [choose_keys(b"", sender.public, [bit] * 200, os.urandom).choices for bit in (0, 1)]
    points = [c[at : at + 32] for c in sent for at in range(0, len(c), 32)]
    assert len(set(points)) == 800
    assert all(nacl.crypto_core_ed25519_is_valid_point(point) for point in points)
    for slot in (0, 32):
        means = [sum(c[at + slot] for at in range(0, len(c), 64)) / 200 for c in sent]
        assert all(100 < mean < 155 for mean in means)
