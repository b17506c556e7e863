"""The degree check: do a dealer's shares lie on one polynomial of the agreed degree, in every coordinate?

Each dealer shares ROWS uniform elements m behind its d numbers x. When every dealer has signed commitments to all of
its shares, their hash is the challenge: ROWS x d uniform coefficients r. The dealer publishes the polynomial of
<r, x> + m, row by row, by its values at 0 to t; each holder compares it with the same combination
of the share that it holds.

Soundness: if the values that honest holders have leave degree t in a coordinate, then a combination hides it for one
coefficient in p = 2^31 - 1: once in p^ROWS, 2^-124, challenges. The challenge is a hash of salted commitments (Fiat and
Shamir 1986), so a dealer may draw salts until one suits it, offline: 2^60 draws succeed with 2^-64.

Privacy: the published polynomial is uniform, since m is; with the t shares that colluders may hold it says nothing of
x. That takes *one* challenge an attempt: two different combinations with the same m would give away their difference.
The dealer, not the holders, publishes it for this reason: an honest dealer answers once, whatever a coordinator shows
to whom, and a holder opens a share only where the dealer signed, for the very same challenge, that it was another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from commonprior.canonical import digest
from commonprior.session import Seat
from commonprior.sums._committee_field import FIELD, WORD, expand, inner, lagrange, read_elements
from commonprior.sums._committee_shares import SALT_BYTES, Deal, commit_share, open_share, point
from commonprior.sums._consistency import commit

ROWS = 4
_CHALLENGE = "commonprior/committee/challenge/1"
_KEY_BYTES = 32


class Statement(NamedTuple):
    """What a dealer publishes: the challenge, and at each of 0 to t the combination's ROWS elements."""

    challenge: bytes
    values: bytes


def challenge_of(given: Deal, headers: Mapping[Seat, bytes]) -> bytes:
    """Return the challenge over the signed headers (by dealer) of everyone whose shares are fixed."""
    dealers = sorted(headers)
    return digest([_CHALLENGE, given.session.hash, dealers, [commit(headers[dealer]) for dealer in dealers]])


def coefficients_of(given: Deal, challenge: bytes) -> np.ndarray:
    """Return the coefficients [ROWS, d] that a challenge stands for."""
    info = b"commonprior/committee/coefficients/1"
    key = HKDF(hashes.SHA256(), _KEY_BYTES, salt=given.session.hash, info=info).derive(challenge)
    return expand(key, ROWS * (given.length - ROWS)).reshape(ROWS, -1)


def combinations(rows: Sequence[np.ndarray], coefficients: np.ndarray) -> list[list[int]]:
    """Return [n][ROWS]: each row's (n of [d + ROWS] elements) combinations with the mask behind it."""
    products = inner([row[: coefficients.shape[1]] for row in rows], coefficients)
    return [
        [(value + int(mask)) % FIELD for value, mask in zip(product, row[-ROWS:], strict=True)]
        for product, row in zip(products, rows, strict=True)
    ]


def state(challenge: bytes, coefficients: np.ndarray, values: Sequence[np.ndarray]) -> Statement:
    """Return a dealer's statement from its polynomial's values at 0 to t."""
    return Statement(challenge, np.array(combinations(values, coefficients), WORD).tobytes())


def statement_bytes(given: Deal) -> int:
    """Return how many bytes the values of a statement take."""
    return WORD.itemsize * ROWS * (given.degree + 1)


def agrees(given: Deal, holder: Seat, statement: Statement, combination: Sequence[int]) -> bool:
    """Say whether a holder's combination [ROWS] is where the dealer's statement has it."""
    values = read_elements(statement.values)
    if values is None:
        return False
    weights = lagrange(range(given.degree + 1), point(holder))
    rows = values.reshape(-1, ROWS).tolist()
    return all(
        sum(weight * row[k] for weight, row in zip(weights, rows, strict=True)) % FIELD == combination[k]
        for k in range(ROWS)
    )


def proves_guilt(given: Deal, dealer: Seat, holder: Seat, commitment: bytes, statement: Statement, salted: bytes) -> (
    bool
):  # fmt: skip
    """Say whether an opened share shows to anyone that its dealer lied: the dealer committed to it, and it is no share
    or not where the dealer's statement has it.
    """
    if commit_share(given.session, dealer, holder, salted) != commitment:
        return False
    share = open_share(given, dealer, holder, salted[SALT_BYTES:])
    if share is None:
        return True
    (combination,) = combinations([share], coefficients_of(given, statement.challenge))
    return not agrees(given, holder, statement, combination)
