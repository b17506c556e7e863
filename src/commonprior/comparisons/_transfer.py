"""Oblivious transfer by public keys (Masny and Rindal 2019, ePrint 2019/706, figure 8) in edwards25519's prime group.

    sender   -> receiver  A = a·G
    receiver -> sender    for each bit: R0, R1, where R_b = x·G - H(R_1-b) and R_1-b is random
    sender                keys a·(R0 + H(R1)) and a·(R1 + H(R0)); the receiver knows one of them, x·A

Both R are uniform whatever b is, so the receiver's bits are hidden from anybody; the sender's other key is hidden as
long as Diffie-Hellman is hard. The transfers are used as they are, without extension: at 48 to 48,000 bits that is
affordable, and it needs no further assumption. H maps to the group as RFC 9380, section 3 does (the sum of two
Elligator maps), with the transfer's index in it. Every point received is checked to be of the prime-order group.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import nacl.bindings as sodium

from commonprior.errors import ProtocolError
from commonprior.sums import Csprng

POINT_BYTES = 32
CHOICE_BYTES = 2 * POINT_BYTES
_SCALAR_SEED_BYTES = 64
_IDENTITY = b"\x01" + bytes(POINT_BYTES - 1)
_TO_GROUP = b"commonprior/transfer/group/1"
_TO_KEY = b"commonprior/transfer/key/1"
KEY_BYTES = 16


@dataclass(frozen=True)
class Sender:
    """The sender's secret a and A = a·G, for one batch; `context` is bound into every hash."""

    context: bytes
    secret: bytes = field(repr=False)
    public: bytes

    @staticmethod
    def draw(context: bytes, csprng: Csprng) -> Sender:
        """Return a fresh sender."""
        secret = _scalar(csprng)
        return Sender(context, secret, sodium.crypto_scalarmult_ed25519_base_noclamp(secret))

    def keys(self, choices: bytes) -> list[tuple[bytes, bytes]]:
        """Return both keys of each transfer; raise `ProtocolError` on a point that is not in the group."""
        pairs: list[tuple[bytes, bytes]] = []
        for index, at in enumerate(range(0, len(choices), CHOICE_BYTES)):
            r0, r1 = choices[at : at + POINT_BYTES], choices[at + POINT_BYTES : at + CHOICE_BYTES]
            require_point(r0)
            require_point(r1)
            points = (
                sodium.crypto_core_ed25519_add(r0, _to_group(self.context, index, 0, r1)),
                sodium.crypto_core_ed25519_add(r1, _to_group(self.context, index, 1, r0)),
            )
            if _IDENTITY in points:
                raise ProtocolError(f"choice {index}: a point is the other's hash taken back, which no receiver draws")
            shared = [sodium.crypto_scalarmult_ed25519_noclamp(self.secret, point) for point in points]
            pairs.append((_key(self, index, choices[at : at + CHOICE_BYTES], shared[0]),
                          _key(self, index, choices[at : at + CHOICE_BYTES], shared[1])))  # fmt: skip
        return pairs


class Chosen(NamedTuple):
    """What the receiver sends, and the one key of each transfer that it can compute."""

    choices: bytes
    keys: list[bytes]


def choose_keys(context: bytes, public: bytes, bits: Sequence[int], csprng: Csprng) -> Chosen:
    """Return the receiver's message for its bits, and its keys; raise `ProtocolError` where A is not in the group."""
    require_point(public)
    sender = Sender(context, b"", public)
    choices: list[bytes] = []
    keys: list[bytes] = []
    for index, bit in enumerate(bits):
        secret = _scalar(csprng)
        other = sodium.crypto_scalarmult_ed25519_base_noclamp(_scalar(csprng))
        own = sodium.crypto_core_ed25519_sub(
            sodium.crypto_scalarmult_ed25519_base_noclamp(secret), _to_group(context, index, bit, other)
        )
        sent = other + own if bit else own + other
        choices.append(sent)
        keys.append(_key(sender, index, sent, sodium.crypto_scalarmult_ed25519_noclamp(secret, public)))
    return Chosen(b"".join(choices), keys)


def require_point(point: bytes) -> None:
    """Raise `ProtocolError` unless these 32 bytes are a canonical point of the prime-order group, not the identity."""
    if len(point) != POINT_BYTES or not sodium.crypto_core_ed25519_is_valid_point(point):
        raise ProtocolError(f"{point.hex()[:16]}… is no point of edwards25519's prime-order group")


def _scalar(csprng: Csprng) -> bytes:
    return sodium.crypto_core_ed25519_scalar_reduce(csprng(_SCALAR_SEED_BYTES))


def _to_group(context: bytes, index: int, slot: int, point: bytes) -> bytes:
    """Return H for the key of `slot`, of the other slot's point."""
    place = index.to_bytes(8, "big") + slot.to_bytes(1, "big")
    wide = hashlib.sha512(_TO_GROUP + context + place + point).digest()
    return sodium.crypto_core_ed25519_add(
        sodium.crypto_core_ed25519_from_uniform(wide[:POINT_BYTES]),
        sodium.crypto_core_ed25519_from_uniform(wide[POINT_BYTES:]),
    )


def _key(sender: Sender, index: int, choice: bytes, shared: bytes) -> bytes:
    place = index.to_bytes(8, "big")
    return hashlib.sha256(_TO_KEY + sender.context + place + sender.public + choice + shared).digest()[:KEY_BYTES]
