"""Shamir's secret sharing of 32-byte secrets (Shamir 1979, "How to share a secret").

The field is the integers modulo the largest prime below 2^264, so that a share takes 33 bytes and drawing a
uniform element hardly ever needs a second try. Python's integers are fast enough: secrets are few and short.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

from commonprior.errors import ProtocolError
from commonprior.session import Seat
from commonprior.sums import Csprng

FIELD = 2**264 - 275
SHARE_BYTES = 33
SECRET_BYTES = 32


def evaluate(coefficients: Sequence[int], x: int, field: int = FIELD) -> int:
    """Return the polynomial's value at x; `coefficients` begin with the constant term."""
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * x + coefficient) % field
    return value


def split(secret: bytes, threshold: int, seats: Iterable[Seat], csprng: Csprng) -> dict[Seat, bytes]:
    """Return one share (33 bytes) a seat; any `threshold` of them give the secret (32 bytes), fewer say nothing."""
    coefficients = [int.from_bytes(secret, "big"), *(_element(csprng) for _ in range(threshold - 1))]
    return {seat: evaluate(coefficients, seat + 1).to_bytes(SHARE_BYTES, "big") for seat in seats}


def weights(seats: Iterable[Seat], field: int = FIELD) -> dict[Seat, int]:
    """Return Lagrange's weights at 0 for the shares of these seats: products, and one inversion for all of them."""
    points = [seat + 1 for seat in seats]
    above, below = math.prod(points) % field, []
    for x in points:
        product = x
        for other in points:
            if other != x:
                product = product * (other - x) % field
        below.append(product)
    before = list(itertools.accumulate(below, lambda left, right: left * right % field, initial=1))
    inverse, out = pow(before[-1], -1, field), {}
    for at in reversed(range(len(points))):
        out[points[at] - 1] = above * before[at] * inverse % field
        inverse = inverse * below[at] % field
    return out


def join(shares: Mapping[Seat, bytes], lagrange: Mapping[Seat, int]) -> bytes:
    """Return the secret from the shares of the seats that `lagrange` weighs.

    Raises `ProtocolError` where they give no 32-byte secret: then they are not shares of one.
    """
    total = sum(weight * int.from_bytes(shares[seat], "big") for seat, weight in lagrange.items()) % FIELD
    if total >> (8 * SECRET_BYTES):
        raise ProtocolError(f"shares of seats {sorted(lagrange)} give no secret of {SECRET_BYTES} bytes")
    return total.to_bytes(SECRET_BYTES, "big")


def _element(csprng: Csprng) -> int:
    """Return a uniform element: a draw outside the field is thrown away, never folded back into it."""
    while (value := int.from_bytes(csprng(SHARE_BYTES), "big")) >= FIELD:
        pass
    return value
