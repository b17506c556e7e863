"""A dealer's shares (Shamir 1979) of a whole vector, most of them compressed to a seed.

The polynomial of each coordinate has degree t and the secret at 0. Its values at 1 to t, the seats of the first t
aggregators, are drawn rather than computed: each is the expansion of a 32-byte seed, and only the others' travel in
full. That is the same distribution as drawing coefficients: any t values and the secret determine the polynomial.

A packet carries a share with a salt. The dealer signs commitments to every share, so that an aggregator can prove what
it was dealt. Without the salt, t aggregators together could compute what another one's share would be for any guess at
the secret, and look whether its hash is the committed one.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from commonprior.canonical import encode
from commonprior.session import Seat, Session
from commonprior.sums import Csprng
from commonprior.sums._committee_field import WORD, expand, extrapolate, read_elements

SEED_BYTES = SALT_BYTES = 32
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)
_TAG_BYTES = 16
OVERHEAD = KEM.X25519.enc_length() + SALT_BYTES + _TAG_BYTES
"""What a sealed packet takes beside the share itself."""

_PACKET = "commonprior/committee/packet/1"
_SHARE = "commonprior/committee/share/1"
_SEED = "commonprior/committee/seed/1"


class Deal(NamedTuple):
    """What every dealer of an attempt does alike: `holders` are the aggregators that announced keys, ascending, out of
    the first `seats` seats of the roster.
    """

    session: Session
    holders: tuple[Seat, ...]
    seats: int
    degree: int
    length: int

    def is_seed(self, holder: Seat) -> bool:
        """Say whether a holder's share travels as a seed."""
        return holder < self.degree

    def share_bytes(self, holder: Seat) -> int:
        """Return how many bytes a holder's share takes, as it travels."""
        return SEED_BYTES if self.is_seed(holder) else WORD.itemsize * self.length


class Dealt(NamedTuple):
    """A dealer's shares, each behind a salt of its own, by holder; and its polynomial's values at 0 to t."""

    salted: dict[Seat, bytearray]
    values: tuple[np.ndarray, ...]


def point(seat: Seat) -> int:
    """Return where a seat's share is evaluated; 0 is the secret."""
    return seat + 1


def deal(given: Deal, dealer: Seat, secret: np.ndarray, csprng: Csprng) -> Dealt:
    """Share a vector of elements [length] out to the holders."""
    seeds = [csprng(SEED_BYTES) for _ in range(given.degree)]
    values = (secret, *(_expand(given, dealer, seat, seed) for seat, seed in enumerate(seeds)))
    # Written where they are sealed from: copying a long vector costs more than computing it.
    full = [bytearray(SALT_BYTES + WORD.itemsize * given.length) for _ in range(given.degree, given.seats)]
    extrapolate(values, [np.frombuffer(share, WORD, offset=SALT_BYTES) for share in full])
    salted = [bytearray(SALT_BYTES) + seed for seed in seeds] + full
    for share in salted:
        share[:SALT_BYTES] = csprng(SALT_BYTES)
    return Dealt({holder: salted[holder] for holder in given.holders}, values)


def open_share(given: Deal, dealer: Seat, holder: Seat, share: bytes) -> np.ndarray | None:
    """Return a share's elements [length], or None where it is no share: of another size, or words out of the field."""
    if len(share) != given.share_bytes(holder):
        return None
    return _expand(given, dealer, holder, share) if given.is_seed(holder) else read_elements(share)


def commit_share(session: Session, dealer: Seat, holder: Seat, salted: bytes | bytearray) -> bytes:
    """Return the commitment to a salted share: SHA-256 over whose it is, for whom, salt and share."""
    state = hashlib.sha256(encode([_SHARE, session.hash, dealer, holder]))
    state.update(salted)
    return state.digest()


def seal_packet(session: Session, dealer: Seat, holder: Seat, channel: bytes, salted: bytes | bytearray) -> bytes:
    """Return a salted share HPKE-sealed (RFC 9180) to the holder's channel key."""
    return _SUITE.encrypt(salted, X25519PublicKey.from_public_bytes(channel), _info(session, dealer, holder))


def open_packet(session: Session, dealer: Seat, holder: Seat, channel: X25519PrivateKey, sealed: bytes) -> bytes | None:
    """Return the salted share, or None where the packet does not open."""
    try:
        return _SUITE.decrypt(sealed, channel, _info(session, dealer, holder))
    except (InvalidTag, ValueError):
        return None


def _expand(given: Deal, dealer: Seat, holder: Seat, seed: bytes) -> np.ndarray:
    info = encode([_SEED, dealer, holder])
    return expand(HKDF(hashes.SHA256(), SEED_BYTES, salt=given.session.hash, info=info).derive(seed), given.length)


def _info(session: Session, dealer: Seat, holder: Seat) -> bytes:
    return encode([_PACKET, session.hash, dealer, holder])
