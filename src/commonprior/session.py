"""What the parties of one attempt at one round agree on before a byte of it moves.

The hash of the `Session` is bound into every key, share, mask and signature, so nothing of one attempt means
anything in another.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from commonprior.canonical import Value, digest
from commonprior.errors import InputError, MalformedMessage

Seat: TypeAlias = int
"""A party's place in the roster, from 0."""

COORDINATOR: Seat = -1


@dataclass(frozen=True)
class Member:
    """One site of a roster: a name for people, an Ed25519 public key for everything else."""

    name: str
    key: bytes


@dataclass(frozen=True)
class Encoding:
    """How a real vector becomes integers that can be added modulo 2^(8·width) without wrapping.

    A number v travels as round(v · 2^fraction); one party's coordinate never exceeds `limit` in absolute value,
    noise included, and parties · limit < 2^(8·width - 1).
    """

    parties: int
    fraction: int
    limit: int
    width: int

    def __post_init__(self) -> None:
        if self.width not in (1, 2, 4, 8):
            raise InputError(f"a number takes 1, 2, 4 or 8 bytes, got {self.width}")
        if self.parties * self.limit >= 2 ** (8 * self.width - 1):
            raise InputError(
                f"{self.parties} parties of up to {self.limit} each overflow {self.width} bytes: "
                f"expected parties · limit < 2^{8 * self.width - 1}; take more bytes a number or fewer bits"
            )

    @property
    def word(self) -> np.dtype[Any]:
        """The unsigned little-endian word in which sums are taken."""
        return np.dtype(f"<u{self.width}")

    def to_words(self, integers: np.ndarray) -> np.ndarray:
        """Return integers [d] int64 as words [d]; refuse one over the limit."""
        largest = max(int(integers.max(initial=0)), -int(integers.min(initial=0)))  # abs(-2^63) is no int64
        if largest > self.limit:
            raise InputError(f"integer of size {largest} is over the encoding's limit {self.limit}")
        return integers.astype(np.int64).astype(self.word)

    def from_words(self, words: np.ndarray) -> np.ndarray:
        """Return a sum of words [d] as signed integers [d] int64."""
        return words.view(np.dtype(f"<i{self.width}")).astype(np.int64)

    def to_real(self, integers: np.ndarray) -> np.ndarray:
        """Return integers [d] as float64 [d]."""
        return np.ldexp(integers.astype(np.float64), -self.fraction)


@dataclass(frozen=True)
class Session:
    """One attempt at one round.

    `base` is the hash of the prior that everyone starts from, `recipe` of the recipe, `head` of the journal so
    far; `threshold` = n - dropouts sites must agree before anything opens, and 2 · threshold > n + colluders.
    """

    run: bytes
    round: int
    attempt: int
    base: bytes
    recipe: bytes
    head: bytes
    coordinator: bytes
    roster: tuple[Member, ...]
    dropouts: int
    colluders: int
    length: int
    encoding: Encoding

    def __post_init__(self) -> None:
        n, t, g = len(self.roster), self.threshold, self.colluders
        if len({m.key for m in self.roster}) != n or len({m.name for m in self.roster}) != n:
            raise InputError(f"a roster of {n} names a site or a key twice")
        if n < 2 or self.dropouts < 0 or g < 0 or 2 * t <= n + g:
            raise InputError(
                f"{n} sites, {self.dropouts} dropouts and {g} colluders do not go together: expected "
                f"2 · (sites - dropouts) > sites + colluders; allow fewer dropouts or invite more sites"
            )
        if self.encoding.parties != n:
            raise InputError(f"an encoding for {self.encoding.parties} parties does not fit a roster of {n}")

    @property
    def threshold(self) -> int:
        """How many sites must sign the same contributor set before anything opens."""
        return len(self.roster) - self.dropouts

    @cached_property
    def hash(self) -> bytes:
        """SHA-256 of every field above."""
        return digest(["commonprior/session/1", dataclasses.asdict(self)])

    def key_of(self, seat: Seat) -> bytes:
        """Return the public key that signs for a seat."""
        return self.coordinator if seat == COORDINATOR else self.roster[seat].key

    def seat_of(self, key: bytes) -> Seat | None:
        """Return the seat of a public key, or None where the roster does not have it."""
        return next((seat for seat, member in enumerate(self.roster) if member.key == key), None)


def consistency_statement(session: Session, survivors: Sequence[Seat], commitments: Sequence[bytes]) -> bytes:
    """Return what sites sign before anything opens: whose sealed bytes are summed in this attempt, and which bytes."""
    return digest(["commonprior/consistency/1", session.hash, list(survivors), list(commitments)])


def read_session(value: Value) -> Session:
    """Return the session whose `dataclasses.asdict` this is, or raise `MalformedMessage`."""
    match value:
        case {"roster": list() as roster, "encoding": dict() as encoding, **rest}:
            pass
        case _:
            raise MalformedMessage("expected a session with a roster and an encoding")
    rest = {k: v for k, v in rest.items() if k not in ("roster", "encoding")}
    kinds: dict[str, str] = {f.name: str(f.type) for f in dataclasses.fields(Session)}
    if {*rest, "roster", "encoding"} != set(kinds):
        raise MalformedMessage(f"a session has fields {sorted(kinds)}, got {sorted(rest)}")
    for name, item in rest.items():
        if not isinstance(item, {"bytes": bytes, "int": int}[kinds[name]]) or isinstance(item, bool):
            raise MalformedMessage(f"session field {name}: expected {kinds[name]}, got another type")
    members: list[Member] = []
    for item in roster:
        match item:
            case {"name": str() as name, "key": bytes() as key, **more} if not more:
                members.append(Member(name, key))
            case _:
                raise MalformedMessage("expected a member: name and key")
    if set(encoding) != {f.name for f in dataclasses.fields(Encoding)} or any(
        type(v) is not int for v in encoding.values()
    ):
        raise MalformedMessage("expected an encoding: parties, fraction, limit, width")
    try:
        return Session(roster=tuple(members), encoding=Encoding(**encoding), **rest)  # pyright: ignore
    except InputError as error:
        raise MalformedMessage(f"session: {error}") from None
