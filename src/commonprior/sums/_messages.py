"""The bodies of a sum's frames, read strictly: exact fields, exact sizes, seats ascending and within the roster."""

from __future__ import annotations

from typing import NamedTuple

from commonprior.canonical import Value
from commonprior.errors import MalformedMessage
from commonprior.session import Seat
from commonprior.sums._bodies import ascending, by_seat, frames, octets, sized
from commonprior.sums._shamir import SHARE_BYTES

HASH_BYTES = 32
KEY_BYTES = 32
SIGNATURE_BYTES = 64


class PublicKeys(NamedTuple):
    """What a site announces: X25519 keys for masks and for sealed packets, and the commitment to its own seed."""

    mask: bytes
    channel: bytes
    commitment: bytes


class Packet(NamedTuple):
    """Two shares for one peer: sealed, with the dealer's commitments to the share of its seed and of its mask key."""

    sealed: bytes
    seed: bytes
    key: bytes


class Dealing(NamedTuple):
    """What a dealer sends to be relayed: a signed packet frame for each peer, and the commitment to its own share."""

    packets: dict[Seat, bytes]
    own: bytes


class Opening(NamedTuple):
    """Shares of survivors' seeds and of dropped sites' mask keys; empty where the dealer's packet did not open."""

    seeds: dict[Seat, bytes]
    keys: dict[Seat, bytes]


def read_nothing(body: Value, phase: str) -> None:
    """Raise `MalformedMessage` unless a request that says nothing says nothing."""
    if body is not None:
        raise MalformedMessage(f"a {phase} request has no body")


def read_public_keys(body: Value) -> PublicKeys:
    """Return what a site announces in its keys frame."""
    match body:
        case {"mask": bytes() as mask, "channel": bytes() as channel, "commitment": bytes() as commitment, **rest}:
            _nothing_else("keys", rest)
        case _:
            raise MalformedMessage("expected keys: mask, channel, commitment")
    return PublicKeys(
        sized("mask key", mask, KEY_BYTES),
        sized("channel key", channel, KEY_BYTES),
        sized("seed commitment", commitment, HASH_BYTES),
    )


def read_key_frames(body: Value, parties: int) -> list[bytes]:
    """Return the signed keys frames that a shares request relays."""
    match body:
        case {"keys": list() as relayed, **rest}:
            _nothing_else("keys relay", rest)
        case _:
            raise MalformedMessage(f"expected keys: at most {parties} frames")
    return frames("keys", relayed, parties)


def read_dealing(body: Value, parties: int) -> Dealing:
    """Return what a dealer sends in the shares phase."""
    match body:
        case {"packets": list() as packets, "own": bytes() as own, **rest}:
            _nothing_else("shares", rest)
        case _:
            raise MalformedMessage("expected shares: packets, own")
    return Dealing(by_seat("packet", packets, parties), sized("share commitment", own, HASH_BYTES))


def read_packet(body: Value, sealed_bytes: int) -> Packet:
    """Return one packet, dealer to receiver."""
    match body:
        case {"sealed": bytes() as sealed, "seed": bytes() as seed, "key": bytes() as key, **rest}:
            _nothing_else("packet", rest)
        case _:
            raise MalformedMessage("expected a packet: sealed, seed, key")
    return Packet(
        sized("sealed shares", sealed, sealed_bytes),
        sized("share commitment", seed, HASH_BYTES),
        sized("share commitment", key, HASH_BYTES),
    )


def read_packet_frames(body: Value, parties: int) -> dict[Seat, bytes]:
    """Return the signed packet frames that a masked-input request relays, by dealer."""
    match body:
        case {"packets": list() as packets, **rest}:
            _nothing_else("packets relay", rest)
        case _:
            raise MalformedMessage("expected packets")
    return by_seat("packet", packets, parties)


def read_masked(body: Value, parties: int, size: int) -> tuple[tuple[Seat, ...], bytes]:
    """Return whose masks a site's vector carries, and the vector's `size` bytes."""
    match body:
        case {"peers": list() as peers, "words": bytes() as words, **rest}:
            _nothing_else("masked input", rest)
        case _:
            raise MalformedMessage("expected a masked input: peers, words")
    return ascending("peers", peers, parties), sized("vector", words, size)


def read_values(body: Value, size: int) -> bytes:
    """Return the `size` bytes of a vector that travels in the open."""
    match body:
        case {"words": bytes() as words, **rest}:
            _nothing_else("values", rest)
        case _:
            raise MalformedMessage("expected values: words")
    return sized("vector", words, size)


def read_survivors(body: Value, parties: int) -> tuple[tuple[Seat, ...], tuple[bytes, ...]]:
    """Return the survivors of a consistency request and the commitments to their sealed bytes."""
    match body:
        case {"survivors": list() as survivors, "commitments": list() as commitments, **rest}:
            _nothing_else("consistency", rest)
        case _:
            raise MalformedMessage("expected survivors and commitments")
    if len(survivors) != len(commitments):
        raise MalformedMessage(f"{len(survivors)} survivors with {len(commitments)} commitments")
    return (
        ascending("survivors", survivors, parties),
        tuple(sized("commitment", octets("commitment", c), HASH_BYTES) for c in commitments),
    )


def read_signature(body: Value) -> bytes:
    """Return a site's signature over its consistency statement."""
    match body:
        case {"signature": bytes() as signature, **rest}:
            _nothing_else("consistency answer", rest)
        case _:
            raise MalformedMessage("expected a signature")
    return sized("signature", signature, SIGNATURE_BYTES)


def read_signatures(body: Value, parties: int) -> dict[Seat, bytes]:
    """Return the signatures that an unmask request shows."""
    match body:
        case {"signatures": list() as signatures, **rest}:
            _nothing_else("unmask", rest)
        case _:
            raise MalformedMessage("expected signatures")
    given = by_seat("signature", signatures, parties)
    return {seat: sized("signature", signature, SIGNATURE_BYTES) for seat, signature in given.items()}


def read_opening(body: Value, parties: int) -> Opening:
    """Return the shares that a site releases in the unmask phase."""
    match body:
        case {"seeds": list() as seeds, "keys": list() as keys, **rest}:
            _nothing_else("unmask answer", rest)
        case _:
            raise MalformedMessage("expected shares: seeds, keys")
    opening = Opening(by_seat("seed share", seeds, parties), by_seat("key share", keys, parties))
    for share in (*opening.seeds.values(), *opening.keys.values()):
        if share:
            sized("share", share, SHARE_BYTES)
    return opening


def _nothing_else(what: str, rest: object) -> None:
    if rest:
        raise MalformedMessage(f"{what}: unexpected fields {sorted(map(str, rest))}")  # pyright: ignore
