"""CKKS made exact: what it costs in range, and why publishing the sum does not give the key away."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from commonprior.errors import InputError, MalformedMessage, ProtocolError
from commonprior.session import Encoding

pytest.importorskip("tenseal", reason="tenseal is not installed: install commonprior[he]")

import tenseal

from commonprior.canonical import decode, encode
from commonprior.sums._he_ckks import FLOOD, CkksSystem, flood, publishable

SYSTEM = CkksSystem()


def draw(seed):
    return np.random.default_rng(seed).bytes


class Toy:
    """A ring small enough to write out: Z_q[X] / (X^32 + 1), numbers in the slots as CKKS puts them, real parts out."""

    N, Q, SCALE = 32, 2**50 - 27, 2.0**30

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.secret = self.rng.integers(-1, 2, self.N).astype(object)
        self.points = np.exp(1j * np.pi * np.arange(1, self.N, 2) / self.N)[:, None] ** np.arange(self.N)

    def coefficients(self, numbers):
        """The polynomial with real coefficients whose values at the 32 roots are the numbers and their conjugates."""
        return self.SCALE * 2 / self.N * (self.points.conj().T @ numbers).real

    def matrix(self, a):
        """Multiplication by a: column i is a · X^i, where X^32 = -1."""
        columns = [np.concatenate([-a[self.N - i :], a[: self.N - i]]) for i in range(self.N)]
        return np.stack(columns, axis=1) % self.Q

    def encrypt(self, numbers):
        a = self.rng.integers(0, self.Q, self.N).astype(object)
        error = np.rint(self.rng.normal(0, 3.2, self.N)) + np.rint(self.coefficients(numbers))
        return (error.astype(int).astype(object) - self.matrix(a) @ self.secret) % self.Q, a

    def decrypt(self, ciphertext):
        """The numbers, with the encryption error in them."""
        plain = (ciphertext[0] + self.matrix(ciphertext[1]) @ self.secret) % self.Q
        centred = (plain + self.Q // 2) % self.Q - self.Q // 2
        return (self.points @ centred.astype(np.float64)).real / self.SCALE


def recover(toy, ciphertexts, published):
    """Li and Micciancio's attack (2021, section 3) on published real parts: the secret of a linear system.

    The numbers of one ciphertext give c0 + c1 · s plus its conjugate, 16 equations in the 32 unknowns; two give 32.
    """
    half = toy.N // 2
    rows, right = [], []
    for (c0, c1), numbers in zip(ciphertexts, published):
        fold = np.eye(toy.N, dtype=int).astype(object)
        for i in range(1, toy.N):
            fold[i, toy.N - i] -= 1
        fold[0, 0] = 2
        known = np.rint(2 * toy.coefficients(np.asarray(numbers, float))).astype(int).astype(object)
        rows.append((fold @ toy.matrix(c1) % toy.Q)[:half])
        right.append(((known - fold @ c0) % toy.Q)[:half])
    return solve(np.concatenate(rows), np.concatenate(right), toy.Q)


def solve(matrix, right, q):
    """Gauss and Jordan modulo a prime."""
    rows = np.concatenate([matrix, right[:, None]], axis=1)
    for at in range(len(rows)):
        pivot = at + next(i for i, x in enumerate(rows[at:, at]) if x)
        rows[[at, pivot]] = rows[[pivot, at]]
        rows[at] = rows[at] * pow(int(rows[at, at]), -1, q) % q
        for other in range(len(rows)):
            if other != at:
                rows[other] = (rows[other] - rows[other, at] * rows[at]) % q
    return (rows[:, -1] + q // 2) % q - q // 2


def test_attack_ckks_key_recovery():
    """From a decryption as it is the key comes out; from a flooded one, and from what we publish, it does not."""
    for seed in range(3):
        toy = Toy(seed)
        numbers = [toy.rng.integers(-8, 9, 16).astype(float) for _ in range(2)]
        ciphertexts = [toy.encrypt(row) for row in numbers]
        decrypted = [toy.decrypt(c) for c in ciphertexts]
        assert 0 < np.abs(np.subtract(decrypted, numbers)).max() < 2**-20
        assert (recover(toy, ciphertexts, decrypted) == toy.secret).all()
        published = [publishable(row, draw(seed)) for row in decrypted]
        assert (np.array(published) == numbers).all()
        for protected in ([flood(row, draw(seed)) for row in decrypted], published):
            found = recover(toy, ciphertexts, protected)
            assert (found == toy.secret).mean() < 0.2
            assert np.abs(found).max() > 2**40


def test_attack_a_ciphertext_that_decrypts_to_the_key():
    """A site sends (0, a): with rounding alone its sum shows a · s. All slots must be integers, so it opens nothing."""
    toy = Toy(5)
    numbers = toy.rng.integers(-2, 3, 16).astype(float)
    honest = toy.encrypt(numbers)
    amplitude = int(toy.SCALE * 256)
    planted = honest[0], (honest[1] + np.eye(1, toy.N, dtype=int)[0] * amplitude) % toy.Q
    decrypted = toy.decrypt(planted)
    shown = np.rint(decrypted) - numbers
    values = toy.points @ toy.secret.astype(float)
    np.testing.assert_allclose(shown / 256, values.real, atol=0.01)
    with pytest.raises(ProtocolError, match="not of integers"):
        publishable(decrypted, draw(0))


def test_a_planted_key_too_small_to_be_noticed_is_rounded_away():
    toy = Toy(6)
    numbers = toy.rng.integers(-2, 3, 16).astype(float)
    honest = toy.encrypt(numbers)
    planted = honest[0], (honest[1] + np.eye(1, toy.N, dtype=int)[0] * int(toy.SCALE * 2**-13)) % toy.Q
    decrypted = toy.decrypt(planted)
    assert np.abs(decrypted - toy.decrypt(honest)).max() > 2**-14
    np.testing.assert_array_equal(publishable(decrypted, draw(0)), numbers)


def test_flooding_has_the_spread_that_it_says_and_hides_the_error():
    noise = flood(np.zeros(200_000), draw(1))
    assert np.std(noise) == pytest.approx(FLOOD, rel=0.01)
    assert np.mean(noise) == pytest.approx(0, abs=4 * FLOOD / 200_000**0.5)
    assert np.mean(np.abs(noise) > 3 * FLOOD) == pytest.approx(0.0027, rel=0.2)
    assert np.abs(noise).max() < 0.25
    assert not (flood(np.zeros(64), draw(1)) == flood(np.zeros(64), draw(2))).any()


def test_the_encryption_error_is_within_the_bound_that_the_flooding_was_chosen_for(session):
    made = session(n=2, dropouts=0, length=4096)
    secret: Any = SYSTEM.generate()
    public = SYSTEM.read_public(secret.public)
    items: Any = decode(public.encrypt(made, np.zeros(4096, np.int64), draw(0)))
    error = np.array(tenseal.ckks_vector_from(secret.context, items[0]).decrypt())
    assert 0 < np.linalg.norm(error) < 2**-29.2
    assert np.linalg.norm(error) / FLOOD < 2**-24


def test_sums_at_the_edge_of_the_range_are_exact_and_beyond_it_refused(session):
    encoding = Encoding(4, 0, (2**38 - 1) // 4, 8)
    made = session(n=4, length=5000, encoding=encoding)
    secret: Any = SYSTEM.generate()
    public = SYSTEM.read_public(secret.public)
    SYSTEM.sizes(made)
    rng = np.random.default_rng(0)
    rows = [rng.integers(-encoding.limit, encoding.limit, 5000, endpoint=True) for _ in range(4)]
    rows[0][:9] = rows[1][:9] = rows[2][:9] = rows[3][:9] = encoding.limit
    sealed = {seat: public.encrypt(made, row, draw(0)) for seat, row in enumerate(rows)}
    opened = public.read_opening(made, sealed, secret.open_sum(made, sealed, draw(1)))
    np.testing.assert_array_equal(opened, sum(rows))
    wide = dataclasses.replace(made, encoding=Encoding(4, 0, 2**36, 8))
    with pytest.raises(InputError, match=r"parties · limit < 2\^38"):
        SYSTEM.sizes(wide)
    with pytest.raises(InputError, match="too much for CKKS"):
        SYSTEM.sizes(session(n=13, length=10_000_000))


def test_keys_and_ciphertexts_of_other_parameters_are_refused(session):
    made = session(n=3, length=5)
    secret: Any = SYSTEM.generate()
    public = SYSTEM.read_public(secret.public)
    row = np.zeros(4096).tolist()
    weak = tenseal.context(tenseal.SCHEME_TYPE.CKKS, 4096, coeff_mod_bit_sizes=[40, 20, 40])
    private = secret.context.serialize(save_secret_key=True)
    for bad in (weak.serialize(), private):
        with pytest.raises(ProtocolError, match="expected a CKKS public key"):
            SYSTEM.read_public(bad)
    scaled = tenseal.ckks_vector(public.context, row, scale=2.0**40).serialize()
    short = tenseal.ckks_vector(public.context, row[:7], scale=2.0**60).serialize()
    good = tenseal.ckks_vector(public.context, row, scale=2.0**60).serialize()
    for items in ([scaled], [short], [b""], [good, good], [], [weak.serialize()], [good[:-1]], [3]):
        with pytest.raises(MalformedMessage):
            public.require_sound(made, encode(items))
    public.require_sound(made, encode([good]))


def test_rubbish_that_passes_for_a_ciphertext_is_not_opened(session):
    """Under another key, or with bits turned over, numbers decrypt that are no integers."""
    made = session(n=2, dropouts=0, length=5)
    secret, other = SYSTEM.generate(), SYSTEM.generate()
    public = SYSTEM.read_public(secret.public)
    strange = SYSTEM.read_public(other.public).encrypt(made, np.zeros(5, np.int64), draw(0))
    public.require_sound(made, strange)
    with pytest.raises(ProtocolError, match="a site sealed rubbish"):
        secret.open_sum(made, {0: public.encrypt(made, np.zeros(5, np.int64), draw(0)), 1: strange}, draw(1))
    beyond = encode([tenseal.ckks_vector(public.context, [*[0.0] * 4095, 1.0], scale=2.0**60).serialize()])
    with pytest.raises(ProtocolError, match="where no vector has any"):
        secret.open_sum(made, {0: beyond}, draw(1))
    with pytest.raises(ProtocolError, match="larger than any sum"):
        publishable(np.array([1e20]), draw(0))
    with pytest.raises(ProtocolError, match="larger than any sum"):
        publishable(np.array([np.nan]), draw(0))
