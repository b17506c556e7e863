"""From the aggregators' answers to the sum: which of them lie, and what the others say.

The answers are, coordinate by coordinate, a Reed-Solomon word: values of one polynomial of degree t. Where they are
not, random combinations of all coordinates show every liar at once, Berlekamp and Welch's algorithm (US patent
4,633,470, 1986; Gemmell and Sudan 1992) finds them, and the whole vector is then checked without them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from commonprior.session import Seat
from commonprior.sums._committee_field import FIELD, combine, expand, inner, lagrange
from commonprior.sums._committee_shares import point

_ROWS = 4


class Decoded(NamedTuple):
    """The polynomial's value at 0 in every coordinate [d], and the seats whose answers do not lie on it."""

    value: np.ndarray
    liars: frozenset[Seat]


def decode(answers: Mapping[Seat, np.ndarray], degree: int) -> Decoded | None:
    """Return the secret of answers (by seat, [d] elements), or None where too many of them lie.

    With a answers, up to (a - degree - 1) // 2 liars are found.
    """
    if lie_on_one(answers, degree):
        return Decoded(_at_zero(answers, degree), frozenset())
    liars = _find_liars(answers, degree)
    honest = {seat: answer for seat, answer in answers.items() if liars and seat not in liars}
    if not liars or not lie_on_one(honest, degree):
        return None
    return Decoded(_at_zero(honest, degree), liars)


def lie_on_one(answers: Mapping[Seat, np.ndarray], degree: int) -> bool:
    """Say whether all answers are values of one polynomial of at most `degree`, in every coordinate."""
    seats = sorted(answers)
    base, rest = seats[: degree + 1], seats[degree + 1 :]
    points = [point(seat) for seat in base]
    expected = combine([answers[seat] for seat in base], [lagrange(points, point(seat)) for seat in rest])
    return all(np.array_equal(answers[seat], row) for seat, row in zip(rest, expected, strict=True))


def locate(points: Sequence[int], word: Sequence[int], degree: int) -> frozenset[int] | None:
    """Return the places at which `word` leaves the one polynomial of `degree` that most of it lies on.

    None where that would take more than (n - degree - 1) // 2 errors.
    """
    errors = (len(points) - degree - 1) // 2
    # N(x) = y·E(x) for E monic of degree `errors`: unknown are N's coefficients and the lower ones of E.
    system = [
        [*(pow(x, k, FIELD) for k in range(degree + errors + 1)), *(-y * pow(x, k, FIELD) for k in range(errors)),
         y * pow(x, errors, FIELD)]
        for x, y in zip(points, word, strict=True)
    ]  # fmt: skip
    solution = _solve(system)
    if solution is None:
        return None
    locator = [*solution[degree + errors + 1 :], 1]
    sound = [i for i, x in enumerate(points) if sum(c * pow(x, k, FIELD) for k, c in enumerate(locator)) % FIELD]
    base = sound[: degree + 1]
    wrong = frozenset(
        i for i, x in enumerate(points)
        if sum(w * word[b] for w, b in zip(lagrange([points[b] for b in base], x), base, strict=True)) % FIELD
        != word[i]
    )  # fmt: skip
    return wrong if len(wrong) <= errors else None


def _find_liars(answers: Mapping[Seat, np.ndarray], degree: int) -> frozenset[Seat] | None:
    seats = sorted(answers)
    key = hashlib.sha256(b"".join(hashlib.sha256(answers[seat].tobytes()).digest() for seat in seats)).digest()
    length = len(answers[seats[0]])
    rows = inner([answers[seat] for seat in seats], expand(key, _ROWS * length).reshape(_ROWS, length))
    liars: set[Seat] = set()
    for k in range(_ROWS):
        wrong = locate([point(seat) for seat in seats], [row[k] for row in rows], degree)
        if wrong is None:
            return None
        liars |= {seats[i] for i in wrong}
    return frozenset(liars) if len(liars) <= (len(seats) - degree - 1) // 2 else None


def _at_zero(answers: Mapping[Seat, np.ndarray], degree: int) -> np.ndarray:
    seats = sorted(answers)[: degree + 1]
    return combine([answers[seat] for seat in seats], [lagrange([point(seat) for seat in seats], 0)])[0]


def _solve(system: list[list[int]]) -> list[int] | None:
    """Return a solution of an augmented linear system over the field (free unknowns are 0), or None."""
    unknowns = len(system[0]) - 1
    rows = [[value % FIELD for value in row] for row in system]
    pivots: list[int] = []
    for column in range(unknowns):
        at = len(pivots)
        found = next((i for i in range(at, len(rows)) if rows[i][column]), None)
        if found is None:
            continue
        rows[at], rows[found] = rows[found], rows[at]
        inverse = pow(rows[at][column], -1, FIELD)
        rows[at] = [value * inverse % FIELD for value in rows[at]]
        for i, row in enumerate(rows):
            if i != at and row[column]:
                rows[i] = [(a - row[column] * b) % FIELD for a, b in zip(row, rows[at], strict=True)]
        pivots.append(column)
    if any(row[-1] for row in rows[len(pivots) :]):
        return None
    out = [0] * unknowns
    for row, column in zip(rows, pivots, strict=False):
        out[column] = row[-1]
    return out
