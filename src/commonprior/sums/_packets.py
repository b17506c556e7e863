"""Seat-to-seat packets: a peer's shares, HPKE-sealed (RFC 9180) to its channel key and relayed by the coordinator.

The dealer signs each packet with commitments to both shares in it. So a share that does not match its commitment is
the releasing site's lie, shares that match and yet do not give the secret are the dealer's, and neither can be
blamed for the other.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from commonprior.canonical import digest, encode
from commonprior.errors import ProtocolError
from commonprior.frame import open_frame, seal
from commonprior.identity import Identity
from commonprior.session import Seat, Session
from commonprior.sums._messages import Packet, read_packet
from commonprior.sums._shamir import SHARE_BYTES

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)
_PHASE = "packet"
_INFO = "commonprior/masked/packet/1"
_SHARE = "commonprior/masked/share/1"
_TAG_BYTES = 16
_FRAME_BYTES = 1024
SEALED_BYTES = KEM.X25519.enc_length() + 2 * SHARE_BYTES + _TAG_BYTES


class Shares(NamedTuple):
    """One seat's shares of one dealer's two secrets."""

    seed: bytes
    key: bytes


def commit_share(session: Session, dealer: Seat, receiver: Seat, kind: Literal["seed", "key"], share: bytes) -> bytes:
    """Return the commitment to a share; its 256 random bits need no blinding."""
    return digest([_SHARE, session.hash, dealer, receiver, kind, share])


def seal_packet(
    identity: Identity, session: Session, dealer: Seat, receiver: Seat, channel: bytes, shares: Shares
) -> bytes:
    """Return the signed frame from `dealer` to `receiver`, whose channel key is `channel`."""
    key = X25519PublicKey.from_public_bytes(channel)
    body = {
        "sealed": _SUITE.encrypt(shares.seed + shares.key, key, _info(session, dealer, receiver)),
        "seed": commit_share(session, dealer, receiver, "seed", shares.seed),
        "key": commit_share(session, dealer, receiver, "key", shares.key),
    }
    return seal(identity, session, _PHASE, dealer, receiver, body)


def read_packet_frame(frame: bytes, session: Session, dealer: Seat, receiver: Seat) -> Packet:
    """Return what a dealer signed for a receiver, still sealed; raise `ProtocolError` where it did not."""
    opened = open_frame(frame, session, receiver, _FRAME_BYTES)
    if opened.sender != dealer or opened.phase != _PHASE:
        raise ProtocolError(f"{opened.phase} frame of seat {opened.sender} in the place of seat {dealer}'s packet")
    return read_packet(opened.body, SEALED_BYTES)


def open_packet(
    packet: Packet, channel: X25519PrivateKey, session: Session, dealer: Seat, receiver: Seat
) -> Shares | None:
    """Return the shares, or None where the dealer sealed rubbish or other shares than it committed to."""
    try:
        plain = _SUITE.decrypt(packet.sealed, channel, _info(session, dealer, receiver))
    except (InvalidTag, ValueError):
        return None
    shares = Shares(plain[:SHARE_BYTES], plain[SHARE_BYTES:])
    honest = (
        commit_share(session, dealer, receiver, "seed", shares.seed) == packet.seed
        and commit_share(session, dealer, receiver, "key", shares.key) == packet.key
    )
    return shares if honest else None


def _info(session: Session, dealer: Seat, receiver: Seat) -> bytes:
    return encode([_INFO, session.hash, dealer, receiver])
