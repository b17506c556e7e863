"""What two neighbours of a fleet send each other: a packet of shares, and a word on what each has seen.

One key agreement a pair between the channel keys of this attempt, and from it one key a direction and purpose, bound to
the session, the roll, both seats and both keys. Each key seals one packet or vouches once, so a nonce need not be
drawn. This is a third of what HPKE and a signature a packet would cost (`_packets`): the dealer's one signed frame
already commits to every share in it. Mask keys are others: those of dropped sites are opened, a channel key never.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from commonprior.canonical import digest
from commonprior.errors import ProtocolError
from commonprior.session import Seat, Session
from commonprior.sums._graph import Roll, hash_fixed
from commonprior.sums._messages import HASH_BYTES, Packet
from commonprior.sums._packets import Shares
from commonprior.sums._shamir import SHARE_BYTES

_LINE = b"commonprior/fleet/line/1"
_SEED = b"commonprior/fleet/seed share/1"
_KEY = b"commonprior/fleet/key share/1"
_COMMITMENT = "commonprior/fleet/commitment/1"
_KEY_BYTES = 32
_TAG_BYTES = 16
_NONCE = bytes(12)
SEALED_BYTES = 2 * SHARE_BYTES + _TAG_BYTES
PACKET_BYTES = SEALED_BYTES + 2 * HASH_BYTES
VOUCH_BYTES = 32


class Line(NamedTuple):
    """The keys of one direction between two sites: one seals the packet, one vouches."""

    seal: bytes
    vouch: bytes

    def __repr__(self) -> str:
        return "Line()"


class Lines(NamedTuple):
    """Both directions, seen from one end."""

    out: Line
    back: Line


def lines_to(session: Session, roll: Roll, channel: X25519PrivateKey, seat: Seat, peer: Seat) -> Lines:
    """Return the lines between `seat`, whose channel key is given, and another place of the roll.

    Raises `ProtocolError` where the peer's key is a point of small order.
    """
    try:
        secret = channel.exchange(X25519PublicKey.from_public_bytes(roll.channel(peer)))
    except ValueError:
        raise ProtocolError(f"seat {peer} announces a channel key that is no proper point of Curve25519") from None

    low, high = sorted((seat, peer))
    info = hash_fixed(_LINE, session, (low, high), roll.hash, roll.channel(low), roll.channel(high))
    derived = HKDF(hashes.SHA256(), 4 * _KEY_BYTES, salt=session.hash, info=info).derive(secret)
    up, down = (
        Line(derived[at : at + _KEY_BYTES], derived[at + _KEY_BYTES : at + 2 * _KEY_BYTES])
        for at in (0, 2 * _KEY_BYTES)
    )
    return Lines(up, down) if seat == low else Lines(down, up)


def commit_share(session: Session, dealer: Seat, receiver: Seat, shares: Shares) -> Shares:
    """Return the commitments to both shares of a packet; their 256 random bits need no blinding.

    An empty share has one too, which is nobody's.
    """
    seats = (dealer, receiver)
    return Shares(hash_fixed(_SEED, session, seats, shares.seed), hash_fixed(_KEY, session, seats, shares.key))


def seal_shares(session: Session, line: Line, dealer: Seat, receiver: Seat, shares: Shares) -> bytes:
    """Return a packet: the shares sealed, then the commitments to both."""
    sealed = AESGCM(line.seal).encrypt(_NONCE, shares.seed + shares.key, None)
    return sealed + b"".join(commit_share(session, dealer, receiver, shares))


def split_packet(packet: bytes) -> Packet:
    """Return the three parts of a packet of `PACKET_BYTES`."""
    return Packet(packet[:SEALED_BYTES], packet[SEALED_BYTES:-HASH_BYTES], packet[-HASH_BYTES:])


def open_shares(session: Session, line: Line, dealer: Seat, receiver: Seat, packet: Packet) -> Shares | None:
    """Return the shares, or None where the dealer sealed rubbish or other shares than it committed to."""
    try:
        plain = AESGCM(line.seal).decrypt(_NONCE, packet.sealed, None)
    except InvalidTag:
        return None
    shares = Shares(plain[:SHARE_BYTES], plain[SHARE_BYTES:])
    return shares if commit_share(session, dealer, receiver, shares) == (packet.seed, packet.key) else None


def commit_words(view: bytes, words: Mapping[Seat, bytes]) -> dict[Seat, bytes]:
    """Return the commitments to masked vectors, by their SHA-256 and the view of the graph on which they are masked."""
    context = digest([_COMMITMENT, view])
    return {seat: hashlib.sha256(context + hash_).digest() for seat, hash_ in words.items()}


def vouch(line: Line, commitment: bytes) -> bytes:
    """Return the word that the commitment, and so the view in it, is this end's own."""
    return hmac.digest(line.vouch, commitment, "sha256")


def is_vouched(line: Line, commitment: bytes, word: bytes) -> bool:
    """Say whether the other end gave its word for this commitment."""
    return hmac.compare_digest(vouch(line, commitment), word)
