"""A site's secrets of one attempt: drawn once, never used in another, and what the others may see of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from commonprior.canonical import digest
from commonprior.errors import ProtocolError
from commonprior.session import Seat, Session
from commonprior.sums import Csprng
from commonprior.sums._messages import PublicKeys
from commonprior.sums._shamir import join

_SEED = "commonprior/masked/seed/1"
_CURVE = 2**255 - 19
SMALL_ORDER = frozenset(
    {
        0,
        1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
        _CURVE - 1,
    }
)
"""The u-coordinates of order 1, 2, 4 and 8 on Curve25519 and its twist (Bernstein, https://cr.yp.to/ecdh.html)."""


@dataclass(frozen=True)
class Secrets:
    """The mask key (masks with each peer), the channel key (sealed packets), the seed of the site's own mask."""

    mask: X25519PrivateKey = field(repr=False)
    channel: X25519PrivateKey = field(repr=False)
    seed: bytes = field(repr=False)

    def public(self, session: Session, seat: Seat) -> PublicKeys:
        """Return what the others may see."""
        return PublicKeys(
            self.mask.public_key().public_bytes_raw(),
            self.channel.public_key().public_bytes_raw(),
            commit_seed(session, seat, self.seed),
        )


def draw(csprng: Csprng) -> Secrets:
    """Draw fresh secrets."""
    mask, channel, seed = csprng(32), csprng(32), csprng(32)
    return Secrets(X25519PrivateKey.from_private_bytes(mask), X25519PrivateKey.from_private_bytes(channel), seed)


def commit_seed(session: Session, seat: Seat, seed: bytes) -> bytes:
    """Return the commitment to a site's seed; 256 random bits need no blinding."""
    return digest([_SEED, session.hash, seat, seed])


def matches_mask_key(public: bytes, secret: bytes) -> bool:
    """Say whether `secret` is the private mask key of `public`."""
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw() == public


def opened_secret(
    session: Session,
    owner: Seat,
    public: PublicKeys,
    survives: bool,
    shares: Mapping[Seat, bytes],
    lagrange: Mapping[Seat, int],
) -> bytes | None:
    """Return a survivor's seed, or a dropped site's private mask key; None where it is not what its owner announced."""
    try:
        secret = join(shares, lagrange)
    except ProtocolError:
        return None
    if survives:
        return secret if commit_seed(session, owner, secret) == public.commitment else None
    return secret if matches_mask_key(public.mask, secret) else None


def require_sound(keys: Mapping[Seat, PublicKeys]) -> None:
    """Raise `ProtocolError` where one of the keys that sites announce is not what `require_points` asks for."""
    require_points((seat, point) for seat, public in keys.items() for point in (public.mask, public.channel))


def require_points(points: Iterable[tuple[Seat, bytes]]) -> None:
    """Raise `ProtocolError` where a key is no proper point or two keys are the same.

    A point of small order would make every pairwise secret zero; a key that appears twice would let one site pass
    for another.
    """
    owner: dict[bytes, Seat] = {}
    for seat, point in points:
        if point in owner:
            raise ProtocolError(f"seats {owner[point]} and {seat} announce the same key; expected fresh keys")
        owner[point] = seat
        if not _is_proper(point):
            raise ProtocolError(f"seat {seat} announces a key that is no proper point of Curve25519")


def _is_proper(point: bytes) -> bool:
    """Say whether a point is written in its one way (RFC 7748 would take several) and is not of small order."""
    u = int.from_bytes(point, "little")
    return u < _CURVE and u not in SMALL_ORDER
