"""The bodies of an encrypted sum's frames, read strictly, and what they commit to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from commonprior.canonical import Value, digest
from commonprior.errors import MalformedMessage, ProtocolError
from commonprior.frame import Frame
from commonprior.session import Seat, Session
from commonprior.sums._bodies import frames, open_relayed
from commonprior.sums._messages import HASH_BYTES, read_signatures

_COMMITMENT = "commonprior/encrypted/commitment/1"
_LIST = "commonprior/encrypted/list/1"


class Sealed(NamedTuple):
    """A site's ciphertexts, and the digest of the commitments that it saw before it let go of them."""

    seen: bytes
    ciphertexts: bytes


def commit_early(session: Session, seat: Seat, sealed_digest: bytes) -> bytes:
    """Return a site's commitment to ciphertexts that nobody has seen; another seat cannot take it over as its own."""
    return digest([_COMMITMENT, session.hash, seat, sealed_digest])


def list_digest(session: Session, commitments: Mapping[Seat, bytes]) -> bytes:
    """Return what a site signs to say which early commitments it saw."""
    return digest([_LIST, session.hash, [[seat, commitments[seat]] for seat in sorted(commitments)]])


def read_one(body: Value, field: str, limit: int) -> bytes:
    """Return the bytes of a body that has this one field, of at most `limit` bytes."""
    if not isinstance(body, dict) or list(body) != [field]:
        raise MalformedMessage(f"expected {field} alone")
    data = body[field]
    if not isinstance(data, bytes) or len(data) > limit:
        raise MalformedMessage(f"{field}: expected at most {limit} bytes")
    return data


def read_commitment(body: Value) -> bytes:
    """Return a site's early commitment."""
    commitment = read_one(body, "commitment", HASH_BYTES)
    if len(commitment) != HASH_BYTES:
        raise MalformedMessage(f"commitment of {len(commitment)} bytes, expected {HASH_BYTES}")
    return commitment


def read_sealed(body: Value, limit: int) -> Sealed:
    """Return what a site sends in the encrypted phase."""
    match body:
        case {"seen": bytes() as seen, "sealed": bytes() as sealed, **rest} if not rest:
            pass
        case _:
            raise MalformedMessage("expected seen and sealed")
    if len(seen) != HASH_BYTES or len(sealed) > limit:
        raise MalformedMessage(f"expected a hash and at most {limit} bytes, got {len(seen)} and {len(sealed)}")
    return Sealed(seen, sealed)


def read_early(body: Value, session: Session) -> dict[Seat, bytes]:
    """Return the early commitments by seat that an encrypted request relays, each in its site's own signed frame."""
    match body:
        case {"commitments": list() as relayed, **rest} if not rest:
            opened = _relayed("committed", relayed, session)
        case _:
            raise MalformedMessage("expected commitments")
    return {seat: read_commitment(frame.body) for seat, frame in opened.items()}


def read_open_request(body: Value, session: Session, limit: int) -> tuple[dict[Seat, bytes], dict[Seat, Sealed]]:
    """Return the consistency signatures and the survivors' ciphertexts, each in its site's own signed frame."""
    match body:
        case {"signatures": list() as signatures, "sealed": list() as relayed, **rest} if not rest:
            opened = _relayed("encrypted", relayed, session)
        case _:
            raise MalformedMessage("expected signatures and sealed")
    sealed = {seat: read_sealed(frame.body, limit) for seat, frame in opened.items()}
    return read_signatures({"signatures": signatures}, len(session.roster)), sealed


def _relayed(phase: str, relayed: list[Value], session: Session) -> dict[Seat, Frame]:
    """Open the frames by which sites sent something to the coordinator, in the order of their seats."""
    opened: dict[Seat, Frame] = {}
    for data in frames(phase, relayed, len(session.roster)):
        frame = open_relayed(data, session, phase)
        if opened and frame.sender <= max(opened):
            raise ProtocolError(f"frame of seat {frame.sender} after seat {max(opened)}; expected each once, ascending")
        opened[frame.sender] = frame
    return opened
