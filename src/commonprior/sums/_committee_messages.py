"""The bodies of a committee sum's frames, read as strictly as the others': exact fields and sizes, seats ascending."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from commonprior.canonical import Value
from commonprior.errors import MalformedMessage
from commonprior.session import Seat
from commonprior.sums._bodies import ascending, by_seat, frames, octets, sized
from commonprior.sums._committee_check import Statement

KEY_BYTES = HASH_BYTES = 32


class Dealing(NamedTuple):
    """What a dealer sends to be relayed: its signed header frame, and a sealed packet for each other holder."""

    header: bytes
    packets: dict[Seat, bytes]


class Header(NamedTuple):
    """What a dealer signs before anything is checked: for whom it dealt, and commitments to their salted shares."""

    holders: tuple[Seat, ...]
    commitments: tuple[bytes, ...]


class Relayed(NamedTuple):
    """What a site is shown of the dealings: everyone's signed headers, and the packets that are for it, by dealer."""

    headers: tuple[bytes, ...]
    packets: dict[Seat, bytes]


def read_channel(body: Value) -> bytes:
    """Return the channel key that a site announces."""
    match body:
        case {"channel": bytes() as channel, **rest} if not rest:
            return sized("channel key", channel, KEY_BYTES)
    raise MalformedMessage("expected keys: channel")


def read_dealing(body: Value, parties: int, size: Callable[[Seat], int]) -> Dealing:
    """Return a dealer's answer; `size` says how many bytes a holder's sealed packet takes."""
    match body:
        case {"header": bytes() as header, "packets": list() as packets, **rest} if not rest:
            sealed = by_seat("packet", packets, parties)
            for holder, packet in sealed.items():
                sized(f"packet for seat {holder}", packet, size(holder))
            return Dealing(header, sealed)
    raise MalformedMessage("expected a dealing: header, packets")


def read_header(body: Value, parties: int) -> Header:
    """Return what a dealer's header frame says."""
    match body:
        case {"holders": list() as holders, "commitments": list() as commitments, **rest} if not rest:
            if len(holders) != len(commitments):
                raise MalformedMessage(f"{len(holders)} holders with {len(commitments)} commitments")
            hashes = tuple(sized("share commitment", octets("share commitment", c), HASH_BYTES) for c in commitments)
            return Header(ascending("holders", holders, parties), hashes)
    raise MalformedMessage("expected a header: holders, commitments")


def read_relayed(body: Value, parties: int) -> Relayed:
    """Return what a check request shows."""
    match body:
        case {"headers": list() as headers, "packets": list() as packets, **rest} if not rest:
            return Relayed(tuple(frames("headers", headers, parties)), by_seat("packet", packets, parties))
    raise MalformedMessage("expected dealings: headers, packets")


def read_statement(body: Value, size: int) -> Statement:
    """Return the polynomial that a dealer publishes, of `size` bytes."""
    match body:
        case {"challenge": bytes() as challenge, "values": bytes() as values, **rest} if not rest:
            return Statement(sized("challenge", challenge, HASH_BYTES), sized("values", values, size))
    raise MalformedMessage("expected a statement: challenge, values")


def read_statement_frames(body: Value, parties: int) -> tuple[bytes, ...]:
    """Return the dealers' signed statement frames that a verify request relays."""
    match body:
        case {"statements": list() as relayed, **rest} if not rest:
            return tuple(frames("statements", relayed, parties))
    raise MalformedMessage("expected statements")


def read_complaints(body: Value, parties: int) -> dict[Seat, bytes]:
    """Return the salted shares by which a holder accuses dealers; empty where a packet did not open."""
    match body:
        case {"complaints": list() as complaints, **rest} if not rest:
            return by_seat("complaint", complaints, parties)
    raise MalformedMessage("expected complaints")


def read_share_sum(body: Value, size: int) -> bytes:
    """Return the `size` packed bytes of an aggregator's sum of shares."""
    match body:
        case {"sum": bytes() as total, **rest} if not rest:
            return sized("sum of shares", total, size)
    raise MalformedMessage("expected a sum of shares")
