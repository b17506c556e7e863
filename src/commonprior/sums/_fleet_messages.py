"""The bodies of a fleet's frames, read strictly. Sets of seats travel as bits, lists of one size as one byte string.

Whatever follows from the graph is not said again: a list "by neighbour" is in the order of their seats.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from commonprior.canonical import Value
from commonprior.errors import MalformedMessage
from commonprior.session import Seat
from commonprior.sums._bodies import sized
from commonprior.sums._draw import CONTRIBUTION_BYTES
from commonprior.sums._fleet_packets import PACKET_BYTES, VOUCH_BYTES, split_packet
from commonprior.sums._graph import PLACE_BYTES, Roll
from commonprior.sums._messages import HASH_BYTES, KEY_BYTES, SIGNATURE_BYTES, Packet, PublicKeys

_PAIR_BYTES = KEY_BYTES + HASH_BYTES


class Announcement(NamedTuple):
    """What a site announces: its keys, the commitment to its contribution to the draw, and its signature of both."""

    public: PublicKeys
    draw: bytes
    signature: bytes


class Dealing(NamedTuple):
    """What a site reveals and deals: its contribution, and a packet a holder."""

    contribution: bytes
    packets: tuple[Packet, ...]


class Delivery(NamedTuple):
    """Who dealt and what each revealed; (mask key, commitment to the seed) by neighbour, packets by dealer."""

    revealed: dict[Seat, bytes]
    keys: tuple[tuple[bytes, bytes], ...]
    packets: tuple[Packet, ...]


class Enrolled(NamedTuple):
    """Who is in the roll, their places end to end, and each one's signature of its own."""

    seats: tuple[Seat, ...]
    lines: bytes
    signatures: dict[Seat, bytes]


class Proposal(NamedTuple):
    """The survivors with the SHA-256 of their words, and the vouches of those among them who are neighbours."""

    hashes: dict[Seat, bytes]
    vouches: tuple[bytes, ...]


def read_announcement(body: Value) -> Announcement:
    """Return what a site announces in its keys frame."""
    match body:
        case {
            "mask": bytes() as mask, "channel": bytes() as channel, "commitment": bytes() as commitment,
            "draw": bytes() as draw, "signature": bytes() as signature, **rest,
        } if not rest:  # fmt: skip
            pass
        case _:
            raise MalformedMessage("expected keys: mask, channel, commitment, draw, signature")
    public = PublicKeys(
        sized("mask key", mask, KEY_BYTES),
        sized("channel key", channel, KEY_BYTES),
        sized("seed commitment", commitment, HASH_BYTES),
    )
    draw = sized("draw commitment", draw, HASH_BYTES)
    return Announcement(public, draw, sized("signature", signature, SIGNATURE_BYTES))


def write_roll(roll: Roll, signatures: Mapping[Seat, bytes], parties: int) -> Value:
    """Return the shares request's body."""
    signed = b"".join(signatures[seat] for seat in roll.seats)
    return {"seats": write_seats(roll.seats, parties), "places": roll.lines, "signatures": signed}


def read_roll(body: Value, parties: int) -> Enrolled:
    """Return who is in the roll, their places, and what is shown as their signatures."""
    match body:
        case {
            "seats": bytes() as bits, "places": bytes() as lines, "signatures": bytes() as signatures, **rest,
        } if not rest:  # fmt: skip
            seats = read_seats("roll", bits, parties)
            signed = _pieces("signatures", signatures, SIGNATURE_BYTES, len(seats))
            return Enrolled(
                seats, sized("roll", lines, PLACE_BYTES * len(seats)), dict(zip(seats, signed, strict=True))
            )
        case _:
            raise MalformedMessage("expected a roll: seats, places, signatures")


def read_dealing(body: Value, holders: int) -> Dealing:
    """Return what a site reveals and deals, to so many holders."""
    match body:
        case {"contribution": bytes() as contribution, "packets": bytes() as packets, **rest} if not rest:
            pieces = _pieces("packets", packets, PACKET_BYTES, holders)
            return Dealing(sized("contribution", contribution, CONTRIBUTION_BYTES), tuple(map(split_packet, pieces)))
        case _:
            raise MalformedMessage("expected a dealing: contribution, packets")


def write_delivery(delivery: Delivery, parties: int) -> Value:
    """Return the masked request's body for one site."""
    revealed, keys, packets = delivery
    return {
        "dealers": write_seats(revealed, parties),
        "contributions": b"".join(revealed[seat] for seat in sorted(revealed)),
        "keys": b"".join(mask + commitment for mask, commitment in keys),
        "packets": b"".join(map(b"".join, packets)),
    }


def read_delivery(body: Value, parties: int) -> Delivery:
    """Return what a masked request brings; how many keys and packets it must be follows from the graph."""
    match body:
        case {
            "dealers": bytes() as bits, "contributions": bytes() as shown, "keys": bytes() as keys,
            "packets": bytes() as packets, **rest,
        } if not rest:  # fmt: skip
            pass
        case _:
            raise MalformedMessage("expected a delivery: dealers, contributions, keys, packets")
    dealers = read_seats("dealers", bits, parties)
    contributions = _pieces("contributions", shown, CONTRIBUTION_BYTES, len(dealers))
    pairs = _pieces("keys", keys, _PAIR_BYTES, len(keys) // _PAIR_BYTES)
    return Delivery(
        dict(zip(dealers, contributions, strict=True)),
        tuple((pair[:KEY_BYTES], pair[KEY_BYTES:]) for pair in pairs),
        tuple(map(split_packet, _pieces("packets", packets, PACKET_BYTES, len(packets) // PACKET_BYTES))),
    )


def read_masked(body: Value, size: int, neighbours: int) -> tuple[bytes, tuple[bytes, ...]]:
    """Return a masked vector's `size` bytes, and the site's word to each of its neighbours."""
    match body:
        case {"words": bytes() as words, "vouches": bytes() as vouches, **rest} if not rest:
            return sized("vector", words, size), _pieces("vouches", vouches, VOUCH_BYTES, neighbours)
        case _:
            raise MalformedMessage("expected a masked input: words, vouches")


def write_proposal(hashes: Mapping[Seat, bytes], parties: int, vouches: Sequence[bytes]) -> Value:
    """Return the consistency request's body for one site."""
    return {
        "survivors": write_seats(hashes, parties),
        "hashes": b"".join(hashes[seat] for seat in sorted(hashes)),
        "vouches": b"".join(vouches),
    }


def read_proposal(body: Value, parties: int) -> Proposal:
    """Return whom the coordinator wants to sum; how many vouches it must bring follows from the graph."""
    match body:
        case {"survivors": bytes() as bits, "hashes": bytes() as hashes, "vouches": bytes() as vouches, **rest}:
            if rest:
                raise MalformedMessage(f"consistency: unexpected fields {sorted(map(str, rest))}")
        case _:
            raise MalformedMessage("expected survivors, hashes, vouches")
    survivors = read_seats("survivors", bits, parties)
    given = _pieces("hashes", hashes, HASH_BYTES, len(survivors))
    words = _pieces("vouches", vouches, VOUCH_BYTES, len(vouches) // VOUCH_BYTES)
    return Proposal(dict(zip(survivors, given, strict=True)), words)


def write_signatures(signatures: Mapping[Seat, bytes], parties: int) -> Value:
    """Return the unmask request's body."""
    shown = b"".join(signatures[seat] for seat in sorted(signatures))
    return {"signers": write_seats(signatures, parties), "signatures": shown}


def read_signatures(body: Value, parties: int) -> dict[Seat, bytes]:
    """Return the signatures that an unmask request shows."""
    match body:
        case {"signers": bytes() as bits, "signatures": bytes() as signatures, **rest} if not rest:
            seats = read_seats("signers", bits, parties)
            return dict(zip(seats, _pieces("signatures", signatures, SIGNATURE_BYTES, len(seats)), strict=True))
        case _:
            raise MalformedMessage("expected signatures: signers, signatures")


def write_seats(seats: Collection[Seat], parties: int) -> bytes:
    """Return a set of seats as bits, the lowest seat in the lowest bit of the first byte."""
    return sum(1 << seat for seat in set(seats)).to_bytes((parties + 7) // 8, "little")


def read_seats(what: str, bits: bytes, parties: int) -> tuple[Seat, ...]:
    """Return the seats of a set, rising; raise `MalformedMessage` unless it is of this roster."""
    number = int.from_bytes(sized(f"{what}: seats", bits, (parties + 7) // 8), "little")
    if number >> parties:
        raise MalformedMessage(f"{what}: seat {number.bit_length() - 1} is none of {parties}")
    return tuple(seat for seat, bit in enumerate(reversed(f"{number:b}")) if bit == "1")


def _pieces(what: str, data: bytes, size: int, count: int) -> tuple[bytes, ...]:
    """Return `count` pieces of `size` bytes that `data` is made of, to the byte."""
    if len(data) != size * count:
        raise MalformedMessage(f"{what} of {len(data)} bytes, expected {size * count}")
    return tuple(data[at : at + size] for at in range(0, len(data), size))
