"""Paillier's cryptosystem (1999) over packed, biased integers, with openings that anyone can check.

An integer x in [-limit, limit] is sealed as x + limit in a slot of `width` bytes; as parties · limit < 2^(8·width - 1),
the sum of all of them stays within its slot, so one ciphertext of k bits carries (k - 1) // (8·width) numbers. Only
raw integers are encrypted: `phe`'s encoding of floats sends their exponents in the open.

The opening of a sum is the plaintext m and the root r with C = (1 + N)^m · r^N mod N². Whoever has the ciphertexts
checks it without the key. It is unique if gcd(N, φ(N)) = 1, which the key holder proves (Goldberg, Reyzin, Sagga and
Baldimtsi 2019, ePrint 2018/057): N has no factor below 2^13, and ten numbers hashed from N have N-th roots, which
for another N all have with probability 2^-130 at most. r, a product of one uniform factor from each site, says
nothing more than the sum does.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, final

import numpy as np
from phe.paillier import PaillierPrivateKey, PaillierPublicKey, generate_paillier_keypair
from phe.util import is_prime, powmod

from commonprior.canonical import decode, encode
from commonprior.errors import MalformedMessage, ProtocolError
from commonprior.session import Seat, Session
from commonprior.sums import Csprng
from commonprior.sums._he_scheme import Cryptosystem, DecryptionKey, EncryptionKey, Sizes

_ROOT = b"commonprior/paillier/root/1"
_SMOOTH_BITS = 13
_ROOTS = 10
_MARGIN_BYTES = 16
_CBOR_BYTES = 8


@final
@dataclass(frozen=True)
class PaillierSystem(Cryptosystem):
    """Paillier with a modulus of `bits` bits."""

    bits: int
    name = "paillier"

    def sizes(self, session: Session) -> Sizes:
        """Return the largest sizes; every encoding of up to 8 bytes a number fits."""
        modulus = self.bits // 8
        count = _ciphertexts(self.bits, session)
        key = modulus * (_ROOTS + 1) + _CBOR_BYTES * (_ROOTS + 3)
        return Sizes(key, 2 * modulus * count, session.length * session.encoding.width + modulus * count)

    def generate(self) -> DecryptionKey:
        """Return a fresh key pair."""
        while True:
            pair: tuple[Any, Any] = generate_paillier_keypair(n_length=self.bits)
            public, private = pair
            if math.gcd(public.n, (private.p - 1) * (private.q - 1)) == 1:
                return PaillierSecret(private, self.bits)

    def read_public(self, public: bytes) -> PaillierPublic:
        """Return a public key whose modulus is of the right size and of the right shape."""
        size = self.bits // 8
        match decode(public):
            case [bytes() as modulus, *roots] if len(roots) == _ROOTS and len(modulus) == size:
                n = int.from_bytes(modulus, "big")
            case _:
                raise MalformedMessage(f"expected a modulus of {size} bytes and {_ROOTS} roots")
        if n.bit_length() != self.bits or math.gcd(n, _small_factors()) != 1 or is_prime(n):
            raise ProtocolError(f"a Paillier modulus has {self.bits} bits and two large factors; this one has not")
        for at, root in enumerate(roots):
            if not isinstance(root, bytes) or len(root) != size:
                raise MalformedMessage(f"expected a root of {size} bytes")
            if powmod(int.from_bytes(root, "big"), n, n) != _challenge(n, at):
                raise ProtocolError("the Paillier modulus N is not proven to have no factor in common with φ(N)")
        return PaillierPublic(PaillierPublicKey(n), self.bits)


@final
@dataclass(frozen=True)
class PaillierPublic(EncryptionKey):
    """A checked modulus N of `bits` bits."""

    key: PaillierPublicKey
    bits: int

    def encrypt(self, session: Session, integers: np.ndarray, csprng: Csprng) -> bytes:
        """Return the ciphertexts one after the other, big-endian, each of twice the modulus's bytes."""
        sealed = [self._seal(m, _unit(self.key.n, csprng)) for m in _pack(integers, self.bits, session)]
        return b"".join(c.to_bytes(self.bits // 4, "big") for c in sealed)

    def require_sound(self, session: Session, sealed: bytes) -> None:
        """Raise `MalformedMessage` unless each ciphertext is a unit modulo N²."""
        self._read(session, sealed)

    def read_opening(self, session: Session, sealed: Mapping[Seat, bytes], opening: bytes) -> np.ndarray:
        """Return the opened sum [d] int64, if sealing it with the opened roots gives the very product of `sealed`."""
        size, at = self.bits // 8, session.length * session.encoding.width
        if len(opening) != at + _ciphertexts(self.bits, session) * size:
            raise MalformedMessage(f"an opening of {len(opening)} bytes does not fit {session.length} numbers")
        words = np.frombuffer(opening[:at], session.encoding.word)
        for m, root, product in zip(_join(words, self.bits, session), _chunks(opening[at:], size),
                                    self.product(session, sealed)):  # fmt: skip
            if self._seal(m, root) != product:
                raise ProtocolError("the opened sum is not the sum of the sealed vectors")
        return _unbias(words, session, len(sealed))

    def product(self, session: Session, sealed: Mapping[Seat, bytes]) -> list[int]:
        """Return the ciphertexts of the sum."""
        products = [1] * _ciphertexts(self.bits, session)
        for ciphertexts in sealed.values():
            read = self._read(session, ciphertexts)
            products = [p * c % self.key.nsquare for p, c in zip(products, read)]
        return products

    def _seal(self, m: int, root: int) -> int:
        return self.key.raw_encrypt(m, root) if root else 0

    def _read(self, session: Session, sealed: bytes) -> list[int]:
        size, count = self.bits // 4, _ciphertexts(self.bits, session)
        if len(sealed) != size * count:
            raise MalformedMessage(f"ciphertexts of {len(sealed)} bytes, expected {count} of {size}")
        ciphertexts = _chunks(sealed, size)
        for c in ciphertexts:
            if not 0 < c < self.key.nsquare or math.gcd(c, self.key.n) != 1:
                raise MalformedMessage("a ciphertext is not a unit modulo N²")
        return ciphertexts


@final
@dataclass(frozen=True)
class PaillierSecret(DecryptionKey):
    """Both factors of a modulus of `bits` bits."""

    key: PaillierPrivateKey = field(repr=False)
    bits: int

    @cached_property
    def public(self) -> bytes:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The modulus and the proof that openings under it are unique."""
        n, size = self.key.public_key.n, self.bits // 8
        roots = [self._root(_challenge(n, at)).to_bytes(size, "big") for at in range(_ROOTS)]
        return encode([n.to_bytes(size, "big"), *roots])

    def open_sum(self, session: Session, sealed: Mapping[Seat, bytes], csprng: Csprng) -> bytes:
        """Return the slots' sums as words, then one root for each ciphertext of the sum."""
        public = PaillierPublic(self.key.public_key, self.bits)
        products = public.product(session, sealed)
        slots = _slots(self.bits, session)
        plain = [self.key.raw_decrypt(c) for c in products]
        if any(m.bit_length() > 8 * slots * session.encoding.width for m in plain):
            raise ProtocolError("the sum leaves its slots: a site sealed numbers over the encoding's limit")
        data = b"".join(m.to_bytes(slots * session.encoding.width, "little") for m in plain)
        words = np.frombuffer(data, session.encoding.word)
        if words[session.length :].any():
            raise ProtocolError("the sum has numbers where no vector has any: a site sealed rubbish")
        words = words[: session.length]
        _unbias(words, session, len(sealed))
        roots = [self._root(c % self.key.public_key.n).to_bytes(self.bits // 8, "big") for c in products]
        return words.tobytes() + b"".join(roots)

    @cached_property
    def _exponents(self) -> tuple[int, int]:
        n, p, q = self.key.public_key.n, self.key.p, self.key.q
        return pow(n, -1, p - 1), pow(n, -1, q - 1)

    def _root(self, y: int) -> int:
        """Return the N-th root of y modulo N, by the Chinese remainder theorem."""
        p, q, (dp, dq) = self.key.p, self.key.q, self._exponents
        at_p, at_q = powmod(y, dp, p), powmod(y, dq, q)
        return at_p + p * ((at_q - at_p) * self.key.p_inverse % q)


def _slots(bits: int, session: Session) -> int:
    return (bits - 1) // (8 * session.encoding.width)


def _ciphertexts(bits: int, session: Session) -> int:
    return -(-session.length // _slots(bits, session))


def _pack(integers: np.ndarray, bits: int, session: Session) -> list[int]:
    """Return integers [d] within the limit as biased, packed plaintexts."""
    encoding = session.encoding
    words = encoding.to_words(integers) + encoding.word.type(encoding.limit)
    return _join(words, bits, session)


def _join(words: np.ndarray, bits: int, session: Session) -> list[int]:
    data, step = words.tobytes(), _slots(bits, session) * session.encoding.width
    return [int.from_bytes(data[at : at + step], "little") for at in range(0, len(data), step)]


def _unbias(words: np.ndarray, session: Session, survivors: int) -> np.ndarray:
    """Return slots' sums [d] as signed sums [d] int64; raise `ProtocolError` on one that nobody honest can cause."""
    encoding = session.encoding
    bias = survivors * encoding.limit
    if int(words.max(initial=0)) > 2 * bias:
        raise ProtocolError(f"a sum of {survivors} vectors is over {bias}: a site sealed numbers over the limit")
    return encoding.from_words(words - encoding.word.type(bias))


def _chunks(data: bytes, size: int) -> list[int]:
    return [int.from_bytes(data[at : at + size], "big") for at in range(0, len(data), size)]


def _unit(n: int, csprng: Csprng) -> int:
    """Return a uniform unit modulo n."""
    size = (n.bit_length() + 7) // 8
    while True:
        r = int.from_bytes(csprng(size), "big")
        if 0 < r < n and math.gcd(r, n) == 1:
            return r


def _challenge(n: int, at: int) -> int:
    """Return a number modulo n that its maker could not choose."""
    size = (n.bit_length() + 7) // 8
    seed = _ROOT + at.to_bytes(1, "big") + n.to_bytes(size, "big")
    return int.from_bytes(hashlib.shake_256(seed).digest(size + _MARGIN_BYTES), "big") % n


@cache
def _small_factors() -> int:
    """Return a number that every prime below 2^13 divides."""
    return math.factorial(1 << _SMOOTH_BITS)
