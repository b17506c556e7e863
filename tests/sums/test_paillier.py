"""Paillier against Python's integers: packing, sealing, opening, and a modulus that is not what it should be."""

import math
from typing import Any

import numpy as np
import pytest

from commonprior.canonical import decode, encode
from commonprior.errors import MalformedMessage, ProtocolError, RecipeError

pytest.importorskip("phe", reason="phe is not installed: install commonprior[he]")

from phe.util import is_prime

from commonprior.sums._he_paillier import PaillierSecret, PaillierSystem, _challenge, _pack, _unit
from commonprior.sums.paillier import Paillier

SYSTEM = PaillierSystem(2048)


def next_prime(n):
    n |= 1
    while not is_prime(n):
        n += 2
    return n


@pytest.fixture(scope="module")
def secret():
    return SYSTEM.generate()


@pytest.fixture(scope="module")
def public(secret):
    return SYSTEM.read_public(secret.public)


@pytest.mark.parametrize(("width", "slots"), [(1, 255), (2, 127), (4, 63), (8, 31)])
def test_packed_plaintexts_are_biased_integers_side_by_side(session, vectors, width, slots):
    made = session(n=3, length=200, width=width)
    vector = vectors(made)[0]
    plain = _pack(vector, 2048, made)
    assert len(plain) == math.ceil(200 / slots)
    numbers = [(m >> (8 * width * at)) % 2 ** (8 * width) for m in plain for at in range(slots)]
    assert numbers[:200] == [int(x) + made.encoding.limit for x in vector]
    assert not any(numbers[200:])


def test_a_ciphertext_is_the_formula_s(session, vectors, public, secret):
    """Paillier 1999, scheme 1: c = g^m · r^N mod N² with g = 1 + N, written out with Python's own integers."""
    made = session(n=3, length=63)
    vector = vectors(made)[0]
    tape = np.random.default_rng(1).bytes(10_000)

    def drawing():
        at = [0]

        def draw(n):
            at[0] += n
            return tape[at[0] - n : at[0]]

        return draw

    n = secret.key.public_key.n
    root = _unit(n, drawing())
    expected = pow(1 + n, _pack(vector, 2048, made)[0], n * n) * pow(root, n, n * n) % (n * n)
    assert public.encrypt(made, vector, drawing()) == expected.to_bytes(512, "big")


def test_an_opening_can_be_checked_by_anyone_and_only_the_right_one_passes(session, vectors, public, secret):
    made = session(n=3, length=100)
    sealed = {seat: public.encrypt(made, v, np.random.default_rng(seat).bytes) for seat, v in enumerate(vectors(made))}
    opening = secret.open_sum(made, sealed, bytes)
    np.testing.assert_array_equal(public.read_opening(made, sealed, opening), sum(vectors(made)))
    for at in (0, 399, 400, len(opening) - 1):
        bad = opening[:at] + bytes([opening[at] ^ 1]) + opening[at + 1 :]
        with pytest.raises(ProtocolError, match="not the sum of the sealed vectors"):
            public.read_opening(made, sealed, bad)
    with pytest.raises(ProtocolError, match="not the sum of the sealed vectors"):
        public.read_opening(made, sealed, bytes(400) + opening[400:656] + bytes(256))
    del sealed[1]
    with pytest.raises(ProtocolError, match="not the sum of the sealed vectors"):
        public.read_opening(made, sealed, opening)


def test_an_overflowing_slot_is_not_opened(session, public, secret):
    made = session(n=3, length=63)
    n = secret.key.public_key.n
    too_large = (2**2047 * n + 1) % (n * n)
    over_limit = ((2 * 3 * made.encoding.limit + 1) * n + 1) % (n * n)
    beyond = session(n=3, length=62)
    for where, c, why in (
        (made, too_large, "leaves its slots"),
        (made, over_limit, "over the limit"),
        (beyond, (2 ** (32 * 62) * n + 1) % (n * n), "where no vector has any"),
    ):
        with pytest.raises(ProtocolError, match=why):
            secret.open_sum(where, {0: c.to_bytes(512, "big"), 1: (1).to_bytes(512, "big"),
                                    2: (1).to_bytes(512, "big")}, bytes)  # fmt: skip


def test_what_is_no_unit_is_no_ciphertext(session, public, secret):
    made = session(n=3, length=1)
    n = secret.key.public_key.n
    for bad in (0, n, n * n, secret.key.p):
        with pytest.raises(MalformedMessage, match="not a unit"):
            public.require_sound(made, bad.to_bytes(512, "big"))
    with pytest.raises(MalformedMessage, match="512"):
        public.require_sound(made, bytes(511))


def refused(n, roots):
    with pytest.raises(ProtocolError) as caught:
        SYSTEM.read_public(encode([n.to_bytes(256, "big"), *(r.to_bytes(256, "big") for r in roots)]))
    return str(caught.value)


def test_attack_a_modulus_under_which_openings_are_not_unique(secret):
    """A key holder that takes N with a factor in common with φ(N) could open one ciphertext as two sums."""
    p = next_prime(2**900 + 2**800)
    k = (2**2047 + 2**2046) // (p * p)
    while not is_prime(k * p + 1) or (p * (k * p + 1)).bit_length() != 2048:
        k += 1
    n, phi = p * (k * p + 1), (p - 1) * k * p
    assert math.gcd(n, phi) == p
    guesses = [pow(_challenge(n, at), pow(n // p, -1, phi // p), n) for at in range(10)]
    assert "is not proven" in refused(n, guesses)
    assert "is not proven" in refused(n, [0] * 10)


def test_moduli_of_the_wrong_size_or_shape_are_refused(secret):
    good: Any = decode(secret.public)
    roots = [int.from_bytes(r, "big") for r in good[1:]]
    prime = next_prime(2**2047)
    n = secret.key.public_key.n
    assert "two large factors" in refused(prime, roots)
    assert "two large factors" in refused(n >> 1, roots)
    assert "two large factors" in refused(8191 * (n // 8191), roots)
    assert "is not proven" in refused(n, [roots[1], roots[0], *roots[2:]])
    assert "expected a modulus" in refused(n, roots[1:])
    with pytest.raises(RecipeError, match="sum.modulus_bits = 1024: expected 2048, 3072 or 4096"):
        Paillier(1024)  # pyright: ignore


def test_attack_a_site_cannot_lie_about_the_sum_s_proof_with_a_larger_root(session, vectors, public, secret):
    """r and r + N open the same sum: an opening may be rewritten, the sum in it may not."""
    made = session(n=2, dropouts=0, length=1)
    sealed = {0: public.encrypt(made, vectors(made)[0], np.random.default_rng(0).bytes)}
    opening = secret.open_sum(made, sealed, bytes)
    root = int.from_bytes(opening[4:], "big") + secret.key.public_key.n
    if root < 2**2048:
        again = opening[:4] + root.to_bytes(256, "big")
        np.testing.assert_array_equal(public.read_opening(made, sealed, again), vectors(made)[0])


def test_keys_are_not_shown(secret):
    assert str(secret.key.p) not in repr(secret)
    assert isinstance(secret, PaillierSecret)
