"""What one line of the record says. The bytes of an entry are its deterministic CBOR; its hash is the next one's
`previous`. A record is an entry with the sites' signatures over it; the coordinator's alone count for nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from eth_hash.auto import keccak

from commonprior.ballot import NOTHING, Ballot, Place
from commonprior.canonical import decode, digest, encode
from commonprior.errors import InputError, MalformedMessage
from commonprior.identity import verify
from commonprior.session import Encoding, Member, Seat, Session

Signatures: TypeAlias = tuple[tuple[Seat, bytes], ...]

NO_HEAD = bytes(32)
"""What precedes the first entry."""


@dataclass(frozen=True)
class Opening:
    """The first entry: who learns what together, by which rules, from which prior. Every site signs it.

    `ledger` is the `Place` where ballots on it are counted, if there is one.
    """

    run: bytes
    coordinator: bytes
    roster: tuple[Member, ...]
    dropouts: int
    colluders: int
    recipe: Mapping[str, Any]
    recipe_hash: bytes
    spec: Mapping[str, Any]
    prior: bytes
    note: str
    ledger: Mapping[str, Any] = dataclasses.field(default_factory=dict[str, Any])

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        return encode({"kind": "open", "version": 1, **_without_empty(self, "ledger")})


@dataclass(frozen=True)
class Round:
    """One finished round.

    `commitments` are SHA-256 of each survivor's sealed bytes, `consistency` the sites' signatures over the session,
    the survivors and the commitments, `sum` the hash of the summed words, `prior` of the prior that came of it.
    `epsilon` is what the run has spent so far at `delta` for one `unit`; -1 where there is no noise and no guarantee.

    Where the sites sum in groups, `draw` is what each of them showed in the draw, from which the groups follow; `sum`
    is of all groups' words, one group after the other, and each group's sites sign for their own group. Where everyone
    is in one sum the entry has no such field, and is the bytes that it always was. `block` is the hash of the newest
    block of an embedded chain when the round ended: with their signatures the sites vouch for that chain too.
    """

    round: int
    attempt: int
    previous: bytes
    base: bytes
    length: int
    encoding: Encoding
    survivors: tuple[Seat, ...]
    commitments: tuple[bytes, ...]
    consistency: Signatures
    sum: bytes
    prior: bytes
    unit: str
    epsilon: float
    delta: float
    draw: Signatures = ()
    block: bytes = b""

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        return encode({"kind": "round", "version": 1, **_without_empty(self, "draw", "block")})

    def session(self, opening: Opening) -> Session:
        """Return the session in which this round was run."""
        return Session(
            opening.run, self.round, self.attempt, self.base, opening.recipe_hash, self.previous, opening.coordinator,
            opening.roster, opening.dropouts, opening.colluders, self.length, self.encoding,
        )  # fmt: skip


Entry: TypeAlias = Opening | Round


def _without_empty(entry: Entry, *optional: str) -> dict[str, Any]:
    """Return the fields, without those that may be left out and are."""
    return {k: v for k, v in dataclasses.asdict(entry).items() if v or k not in optional}


def read_entry(data: bytes) -> Entry:
    """Return the entry whose canonical bytes these are, or raise `MalformedMessage`."""
    match decode(data):
        case {"kind": "open", "version": 1, **fields}:
            cls = Opening
        case {"kind": "round", "version": 1, **fields}:
            cls = Round
        case _:
            raise MalformedMessage("expected an entry of kind open or round, version 1")
    fields.pop("kind", None)
    fields.pop("version", None)
    for name, nothing in (("draw", []), ("block", b"")) if cls is Round else (("ledger", {}),):
        fields.setdefault(name, nothing)
    if set(fields) != {f.name for f in dataclasses.fields(cls)}:
        raise MalformedMessage(f"a {cls.__name__} entry has fields {sorted(fields)}")
    checked = {f.name: _checked(f.name, str(f.type), fields[f.name]) for f in dataclasses.fields(cls)}
    entry = cls(**checked)
    if entry.encode() != data:  # True passes for 1
        raise MalformedMessage(f"a {cls.__name__} entry in other bytes than its own")
    return entry


def _checked(name: str, annotation: str, value: Any) -> Any:
    match annotation, value:
        case ("bytes", bytes()) | ("str", str()) | ("float", float()) | ("Mapping[str, Any]", dict()):
            return value
        case (("int" | "float"), int()) if not isinstance(value, bool):
            return value
        case "tuple[Seat, ...]", list() if all(type(v) is int for v in value):
            return tuple(value)
        case "tuple[bytes, ...]", list() if all(isinstance(v, bytes) for v in value):
            return tuple(value)
        case "Signatures", list():
            return _signatures(value)
        case "tuple[Member, ...]", list():
            return tuple(_member(v) for v in value)
        case "Encoding", {"parties": int(), "fraction": int(), "limit": int(), "width": int(), **rest} if (
            not rest and not any(isinstance(v, bool) for v in value.values())
        ):
            try:
                return Encoding(**value)
            except InputError as error:
                raise MalformedMessage(f"encoding: {error}") from None
        case _:
            raise MalformedMessage(f"entry field {name}: {type(value).__name__} is no {annotation}")


def _member(value: Any) -> Member:
    match value:
        case {"name": str() as name, "key": bytes() as key, **rest} if not rest:
            return Member(name, key)
        case _:
            raise MalformedMessage("expected a member: name and key")


def _signatures(value: list[Any]) -> Signatures:
    out = []
    for item in value:
        match item:
            case [int() as seat, bytes() as signature] if not isinstance(seat, bool):
                out.append((seat, signature))
            case _:
                raise MalformedMessage("expected signatures: [seat, bytes]")
    return tuple(out)


def family_of(opening: Opening) -> bytes:
    """Return the name of the family of models that a run belongs to: its learner and what it predicts from what."""
    return digest(["commonprior/family/1", opening.recipe.get("learner"), opening.spec])


def opening_ballot(opening: Opening) -> Ballot:
    """Return what each account signs to begin a run on its terms."""
    run, place = digest(opening.encode()), Place.read(opening.ledger, len(opening.roster))
    if place is None:
        raise MalformedMessage("the opening names no ledger: there is nothing to vote on")
    terms = b"".join(t.to_bytes(32, "big") for t in place.contract_terms)
    subject = keccak(family_of(opening) + opening.recipe_hash + terms + place.proposer.rjust(32, b"\0"))
    return Ballot(run, 0, 0, NOTHING, opening.prior, run, subject)


def round_ballot(
    run: bytes, entry: Round, attempt: int | None = None, subject: bytes = NOTHING, scores: bytes = b""
) -> Ballot:
    """Return what each account signs to end a round; `run` is the hash of the opening.

    Of public deltas, `attempt` is the contract's, `subject` the hash of the contributors' names, `scores` a byte each.
    """
    counted = entry.attempt if attempt is None else attempt
    return Ballot(run, entry.round, counted, entry.base, entry.prior, digest(entry.encode()), subject, scores)


def statement_of(entry: bytes) -> bytes:
    """Return what a site signs to say that it agrees with an entry."""
    return digest(["commonprior/entry/1", entry])


def make_record(entry: bytes, signatures: Signatures, ballots: Signatures = ()) -> dict[str, Any]:
    """Return a line of the journal; `ballots` are what the sites' ledger accounts signed, where there is a ledger."""
    record: dict[str, Any] = {"entry": entry, "signatures": [list(s) for s in sorted(signatures)]}
    return {**record, "ballots": [list(b) for b in sorted(ballots)]} if ballots else record


def read_record(data: bytes) -> tuple[bytes, Signatures]:
    """Return a line's entry bytes and its signatures."""
    return _record(data)[:2]


def read_ballots(data: bytes) -> Signatures:
    """Return the ballots of a line, nothing where it has none."""
    return _record(data)[2]


def _record(data: bytes) -> tuple[bytes, Signatures, Signatures]:
    match decode(data):
        case {"entry": bytes() as entry, "signatures": list() as signatures, **rest} if rest.keys() <= {"ballots"}:
            ballots = rest.get("ballots", [])
            if not isinstance(ballots, list) or (rest and not ballots):
                raise MalformedMessage("expected ballots, or nothing")
            return entry, _signatures(signatures), _signatures(ballots)
        case _:
            raise MalformedMessage("expected a record: an entry and its signatures")


def signers(entry: bytes, signatures: Signatures, roster: tuple[Member, ...]) -> frozenset[Seat]:
    """Return the seats of the roster whose signature over `entry` holds."""
    statement = statement_of(entry)
    return frozenset(
        seat for seat, signature in signatures
        if 0 <= seat < len(roster) and verify(roster[seat].key, signature, statement)
    )  # fmt: skip
