"""What is published of a round of public deltas, and what follows from it: the same for every site and any auditor.

The record's `sum` is the hash of these bytes: every contributor's int8 delta with its salt, what the sites said of them
and lose themselves, and where the rounds before left everyone. From them alone follow the scores, who is accepted, the
mean that the contract computes, who is left out of the next round, and whether this one goes back to an older prior.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from commonprior.ballot import Place
from commonprior.canonical import Value, decode, digest, encode
from commonprior.defence.history import History, Version, read_history
from commonprior.defence.layers import Layers, Opinion
from commonprior.defence.said import Said, read_said
from commonprior.errors import MalformedMessage, ProtocolError
from commonprior.identity import verify
from commonprior.ledger.client import taken_of
from commonprior.ledger.public import Update, accepted, in_order, mean_of
from commonprior.session import Seat
from commonprior.site import Told


class Published(NamedTuple):
    """A round's updates in the contract's order (by account), what each site said, where everyone stood, the scores
    that everybody casts, who is accepted (bits in that order, and seats, rising) and the mean of theirs, int8
    [32 · words].
    """

    updates: tuple[Update, ...]
    said: Mapping[Seat, Said]
    history: History
    row: bytes
    taken: int
    survivors: tuple[Seat, ...]
    mean: np.ndarray

    @property
    def matrix(self) -> np.ndarray:
        """The updates' numbers, int8 [n, 32 · words]."""
        return matrix_of(self.updates)

    @property
    def accepted(self) -> dict[bytes, bool]:
        """The contributors' accounts, and whether each is averaged."""
        return {u.who: bool(self.taken >> i & 1) for i, u in enumerate(self.updates)}

    def judged(self, round_: int, base: bytes, layers: Layers) -> History:
        """Return where everyone stands once this round's sites have said what they lose under its base."""
        return self.history.judged(round_, base, {seat: said.loss for seat, said in self.said.items()}, layers)

    def back(self, round_: int, base: bytes, layers: Layers) -> Version | None:
        """Return the version that this round goes back to, instead of adding its mean, if it does."""
        return self.judged(round_, base, layers).back(layers)

    def following(self, round_: int, base: bytes, layers: Layers) -> History:
        """Return where this round leaves everyone."""
        return self.judged(round_, base, layers).after(self.accepted, layers)

    @property
    def subject(self) -> bytes:
        """What the ballots name: the contributors' accounts, and who of them is averaged."""
        return taken_of([u.who for u in self.updates], self.taken)


def write_published(updates: Mapping[Seat, tuple[bytes, bytes]], said: Mapping[Seat, Said], history: History) -> bytes:
    """Return the bytes of a round's (delta, salt) and what was said, by seat, and where everyone stood before it."""
    return encode({
        "updates": [[seat, delta, salt] for seat, (delta, salt) in sorted(updates.items())],
        "opinions": [[seat, list(gains), loss, signed] for seat, (gains, loss, signed) in sorted(said.items())],
        "history": history.encode(),
    })  # fmt: skip


def read_published(data: bytes, place: Place, layers: Layers, told: Told | None) -> Published:
    """Return what follows from a round's published bytes, or raise `ProtocolError`.

    `told` is None where the bytes themselves are to be believed, as a threshold of sites signed for them. Whether the
    updates are those that were committed to is for the chain to say.
    """
    match decode(data):
        case {"updates": list() as lines, "opinions": list() as said, "history": dict() as stood, **rest} if (
            not rest and lines
        ):
            history = read_history(stood)
        case _:
            raise MalformedMessage("expected a round's updates and opinions, and where everyone stood")
    if told is not None and history != told.history:
        raise ProtocolError("where everyone is said to have stood is not where the round before left them")
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
    out = history.excluded(layers).intersection(seats)
    if out:
        raise ProtocolError(f"an update of 0x{min(out).hex()}, which is left out: it was rejected too often")
    updates = tuple(in_order(found))
    opinions = dict(_opinion(line, len(updates), seats.values()) for line in said)
    if told is not None:
        _check_told(told, told.least(place, layers), {seats[u.who]: u for u in found}, opinions)
    row = row_of(updates, {seat: one.gains for seat, one in opinions.items()}, layers)
    taken = accepted({b"": row}, {b"": 1}, 1, len(updates))
    kept = [u for i, u in enumerate(updates) if taken >> i & 1]
    if not kept:
        raise ProtocolError(f"none of {len(updates)} updates is accepted: there is nothing to average")
    mean = np.frombuffer(mean_of([u.delta for u in kept]), np.int8)
    return Published(updates, opinions, history, row, taken, tuple(sorted(seats[u.who] for u in kept)), mean)


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


def _check_told(told: Told, least: int, updates: Mapping[Seat, Update], opinions: Mapping[Seat, Said]) -> None:
    """Refuse a round of too few, and opinions that are too few, or not their sites' own on this very round."""
    if len(updates) < least:
        raise ProtocolError(f"{len(updates)} sites' updates are published, expected {least}")
    if (opinions and len(opinions) < least) or (opinions and not told.speaks):
        raise ProtocolError(f"{len(opinions)} opinions are published, expected {least if told.speaks else 0}")
    shown = digest(write_published({seat: (u.delta, u.salt) for seat, u in updates.items()}, {}, told.history))
    for seat, said in opinions.items():
        if not verify(told.session.key_of(seat), said.signature, said.statement(told.session.hash, shown)):
            raise ProtocolError(f"the opinion of seat {seat} is not its own, or is about other updates")


def require_opinions(published: Published, told: Told, place: Place, layers: Layers) -> None:
    """Raise `ProtocolError` for a finished round whose sites speak and are not heard."""
    least = told.least(place, layers) if told.speaks and layers.accuracy is not None else 0
    if len(published.said) < least:
        raise ProtocolError(f"{len(published.said)} opinions are published, expected {least}")


def _opinion(line: Value, count: int, seats: Collection[Seat]) -> tuple[Seat, Said]:
    match line:
        case [int() as seat, *said] if seat in seats and not isinstance(seat, bool):
            return seat, read_said(said, count)
        case _:
            raise MalformedMessage(f"expected an opinion: a contributor's seat, {count} numbers and a loss")
