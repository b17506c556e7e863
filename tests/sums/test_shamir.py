import itertools
import os
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonprior.errors import ProtocolError
from commonprior.sums._shamir import FIELD, SHARE_BYTES, evaluate, join, split, weights


def is_probable_prime(number):
    """Miller and Rabin's test with the first 40 primes as bases."""
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    primes = [p for p in range(2, 174) if all(p % q for q in range(2, p))]
    for base in primes:
        x = pow(base, odd, number)
        if x not in (1, number - 1) and not any((x := x * x % number) == number - 1 for _ in range(twos - 1)):
            return False
    return True


def test_the_field_is_the_largest_prime_that_fits_a_share():
    top = 2 ** (8 * SHARE_BYTES)
    assert [top - FIELD, is_probable_prime(FIELD)] == [275, True]
    assert not any(is_probable_prime(candidate) for candidate in range(FIELD + 1, top))


@settings(deadline=None, max_examples=60)
@given(secret=st.binary(min_size=32, max_size=32), n=st.integers(1, 12), data=st.data())
def test_any_threshold_of_shares_gives_the_secret(secret, n, data):
    t = data.draw(st.integers(1, n))
    shares = split(secret, t, range(n), os.urandom)
    seats = data.draw(st.permutations(range(n)))[:t]
    assert join(shares, weights(seats)) == secret
    assert all(len(share) == SHARE_BYTES for share in shares.values())


def test_shares_by_hand():
    """Secret 1234 and coefficients 166 and 94: the textbook example, modulo 1613 instead of over the integers."""
    shares = {x - 1: evaluate([1234, 166, 94], x, 1613) for x in range(1, 7)}
    assert [shares[s] for s in range(6)] == [1494, 329, 965, 176, 1188, 775]
    assert sum(w * shares[s] for s, w in weights([1, 3, 4], 1613).items()) % 1613 == 1234


def test_attack_fewer_shares_than_the_threshold_say_nothing():
    """Over the field of 7, t = 3: whatever the secret, every pair of shares comes up equally often."""
    field, seen = 7, {}
    for secret in range(field):
        polynomials = [(secret, *rest) for rest in itertools.product(range(field), repeat=2)]
        seen[secret] = Counter((evaluate(p, 1, field), evaluate(p, 5, field)) for p in polynomials)
    assert all(counts == seen[0] for counts in seen.values())
    assert set(seen[0].values()) == {1}
    assert len(seen[0]) == field**2


def test_attack_fewer_shares_than_the_threshold_fit_every_secret():
    secret, other = os.urandom(32), os.urandom(32)
    shares = split(secret, 4, range(6), os.urandom)
    stolen = {seat: shares[seat] for seat in (0, 2, 5)}
    try:
        guess = join(stolen, weights(stolen))
    except ProtocolError:
        guess = None
    assert guess != secret
    lagrange = weights([0, 2, 5, 3])
    needed = int.from_bytes(other, "big") - sum(lagrange[s] * int.from_bytes(v, "big") for s, v in stolen.items())
    missing = (needed * pow(lagrange[3], -1, FIELD) % FIELD).to_bytes(SHARE_BYTES, "big")
    assert join({**stolen, 3: missing}, lagrange) == other


def test_a_draw_outside_the_field_is_thrown_away():
    draws = iter([b"\xff" * SHARE_BYTES, FIELD.to_bytes(SHARE_BYTES, "big"), (5).to_bytes(SHARE_BYTES, "big")])
    shares = split((3).to_bytes(32, "big"), 2, [0], lambda n: next(draws))
    assert int.from_bytes(shares[0], "big") == 3 + 5


def test_shares_of_no_secret_are_refused():
    shares = split(bytes(32), 2, range(2), os.urandom)
    with pytest.raises(ProtocolError, match="give no secret of 32 bytes"):
        join({**shares, 1: b"\xff" * SHARE_BYTES}, weights([0, 1]))
