"""What is published of a round of public deltas, and what follows from it: the same for every site and any auditor.

The record's `sum` is the hash of these bytes: every contributor's int8 delta with its salt, and what the sites said of
them. From them alone follow the scores, who is accepted, and the mean that the contract computes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from commonprior.ballot import Place
from commonprior.canonical import decode, encode
from commonprior.defence.layers import Layers, Opinion
from commonprior.errors import MalformedMessage, ProtocolError
from commonprior.ledger.client import taken_of
from commonprior.ledger.public import Update, accepted, in_order, mean_of
from commonprior.session import Seat

MOST_GAIN = 1e9
"""Opinions are kept within ± this: a loss that became infinite is no number that can be written."""


class Published(NamedTuple):
    """A round's updates in the contract's order (by account), each site's opinion, the scores that everybody casts, who
    is accepted (bits in that order, and seats, rising) and the mean of theirs, int8 [32 · words].
    """

    updates: tuple[Update, ...]
    opinions: Mapping[Seat, tuple[float, ...]]
    row: bytes
    taken: int
    survivors: tuple[Seat, ...]
    mean: np.ndarray

    @property
    def matrix(self) -> np.ndarray:
        """The updates' numbers, int8 [n, 32 · words]."""
        return matrix_of(self.updates)

    @property
    def subject(self) -> bytes:
        """What the ballots name: the contributors' accounts, and who of them is averaged."""
        return taken_of([u.who for u in self.updates], self.taken)


def write_published(updates: Mapping[Seat, tuple[bytes, bytes]], opinions: Mapping[Seat, Sequence[float]]) -> bytes:
    """Return the bytes of a round's (delta, salt) and opinions by seat."""
    return encode({
        "updates": [[seat, delta, salt] for seat, (delta, salt) in sorted(updates.items())],
        "opinions": [[seat, [float(g) for g in gains]] for seat, gains in sorted(opinions.items())],
    })  # fmt: skip


def clipped(gains: np.ndarray) -> list[float]:
    """Return an opinion [n] as it is written."""
    return [float(g) for g in np.clip(np.nan_to_num(gains, nan=-MOST_GAIN), -MOST_GAIN, MOST_GAIN)]


def read_published(data: bytes, place: Place, layers: Layers) -> Published:
    """Return what follows from a round's published bytes, or raise `ProtocolError`.

    Whether the updates are those that were committed to is for the chain to say.
    """
    match decode(data):
        case {"updates": list() as lines, "opinions": list() as said, **rest} if not rest and lines:
            pass
        case _:
            raise MalformedMessage("expected a round's updates and opinions")
    seats: dict[bytes, Seat] = {}
    found: list[Update] = []
    for line in lines:
        match line:
            case [int() as seat, bytes() as delta, bytes() as salt] if 0 <= seat < len(place.accounts):
                seats[place.accounts[seat]] = seat
                found.append(Update(place.accounts[seat], delta, salt))
            case _:
                raise MalformedMessage("expected an update: seat, delta and salt")
    size = 32 * place.terms[0]
    if len(seats) < len(found) or any(len(u.delta) != size or len(u.salt) != 32 for u in found):
        raise ProtocolError(f"expected one update a seat, of {size} bytes, with a salt of 32")
    updates = tuple(in_order(found))
    opinions = dict(_opinion(line, len(updates), seats.values()) for line in said)
    row = row_of(updates, opinions, layers)
    taken = accepted({b"": row}, {b"": 1}, 1, len(updates))
    kept = [u for i, u in enumerate(updates) if taken >> i & 1]
    if not kept:
        raise ProtocolError(f"none of {len(updates)} updates is accepted: there is nothing to average")
    mean = np.frombuffer(mean_of([u.delta for u in kept]), np.int8)
    return Published(updates, opinions, row, taken, tuple(sorted(seats[u.who] for u in kept)), mean)


def row_of(updates: Sequence[Update], opinions: Mapping[Seat, Sequence[float]], layers: Layers) -> bytes:
    """Return the scores of updates in the contract's order, a byte each, as everyone computes them alike.

    No more are sent away by opinion than can lie: where nearly everyone makes the losses worse, as at the end of
    training, the step is too long and nobody is to blame; then the best are the measure of the others.
    """
    matrix = matrix_of(updates)
    if not opinions:
        return layers.row(matrix)
    table = np.sort(np.asarray([gains for _, gains in sorted(opinions.items())], np.float64), axis=0)
    median = table[(len(table) - 1) // 2]
    least = float(np.sort(median)[layers.liars * len(median) // 100])
    return layers.row(matrix, [Opinion(gains=median - min(0.0, least))])


def matrix_of(updates: Sequence[Update]) -> np.ndarray:
    """Return updates' numbers, int8 [n, 32 · words]."""
    return np.stack([np.frombuffer(u.delta, np.int8) for u in updates])


def _opinion(line: object, count: int, seats: object) -> tuple[Seat, tuple[float, ...]]:
    match line:
        case [int() as seat, list() as gains] if seat in seats and len(gains) == count:  # pyright: ignore[reportOperatorIssue]
            if all(isinstance(g, int | float) and math.isfinite(g) and abs(g) <= MOST_GAIN for g in gains):
                return seat, tuple(float(g) for g in gains)
        case _:
            pass
    raise MalformedMessage(f"expected an opinion: a contributor's seat and {count} numbers")
