"""CKKS (Cheon, Kim, Kim and Song 2017, ePrint 2016/421) made exact: bounded integers in, the exact sum out.

A published CKKS decryption m + e gives away its encryption error e, and with it the secret key: m + e = c0 + c1 · s is
a linear system in s (Li and Micciancio 2021, ePrint 2020/1533). Two things stand against it, in this order:

- *Flooding* (Li, Micciancio, Schultz and Sorrell 2022, ePrint 2022/816). Gaussian noise of standard deviation
  `FLOOD` = 2^-5 is added to each decrypted number. A ciphertext's error has coefficients of at most
  B = 19.2 · (2·8192 + 1) + 4097 < 2^18.3 (SEAL cuts its Gaussian off at six deviations, secrets are ternary), so by
  Parseval its numbers have an L2 norm below 8192 · B / √2 / 2^60 < 2^-29.2, always. The divergence between flooded
  sums with the error and without it is ‖e‖² / (2 · FLOOD²), with ‖e‖ ≤ n · √k · 2^-29.2 for n sites and k ciphertexts:
  2^-38 for n = 10 and 100,000 numbers, and that once, as a key opens one sum and is forgotten.
- *Rounding* (the exact CKKS of Bossuat, Costache, Mouchet, Nürnberger and Troncoso-Pastoriza 2024, ePrint 2024/853).
  A sum of integers is an integer, and the flooded number is off it by less than 0.3 (noise made of 53-bit numbers
  stays within 8.7 standard deviations), so the nearest integer is the sum, whatever the error and the noise were.
  What is published is a function of the integers alone: without the flooding, too, which stays for the day when
  somebody publishes more digits.

So no precision is lost: the sum is the masked sum's, bit for bit. The price is paid in range: parties · limit < 2^38,
as numbers travel at a scale of 2^60 within a modulus of 2^100 and pass through float64.

A site that sends c = (0, a) instead of an encryption would have a · s, the key, decrypted into the sum. The numbers of
a · s are no integers, and all 4096 of each ciphertext must be, to within 2^-8: a sum that is not is opened to nobody.
An `a` so small that it passes is rounded away. What is left to such a site is that the attempt fails, or not.

Ciphertexts are drawn by SEAL from the operating system's randomness.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, final

import numpy as np
import tenseal

from commonprior.canonical import decode, encode
from commonprior.errors import InputError, MalformedMessage, ProtocolError
from commonprior.session import Seat, Session
from commonprior.sums import Csprng
from commonprior.sums._he_scheme import Cryptosystem, DecryptionKey, EncryptionKey, Sizes

DEGREE = 8192
MODULI = (60, 40, 60)
SLOTS = DEGREE // 2
SCALE = 2.0**60
LARGEST_BITS = 38
FLOOD = 2.0**-5
TOLERANCE = 2.0**-8
_KEY_BYTES = 512_000
_CIPHERTEXT_BYTES = 2 * 2 * DEGREE * 8 + 1024
_CBOR_BYTES = 8
_REFUSALS = (ValueError, RuntimeError, TypeError, IndexError, MemoryError)


@final
@dataclass(frozen=True)
class CkksSystem(Cryptosystem):
    """CKKS at N = 8192 and moduli of 60, 40 and 60 bits: 128 bits of security (homomorphicencryption.org, table 1)."""

    name = "ckks"

    def sizes(self, session: Session) -> Sizes:
        """Return the largest sizes; raise `InputError` where sums could be too large to come out exactly."""
        largest = session.encoding.parties * session.encoding.limit
        if largest >= 2**LARGEST_BITS:
            raise InputError(
                f"sums of up to {largest} do not fit CKKS: expected parties · limit < 2^{LARGEST_BITS}; take an "
                f"encoding of 4 bytes a number, or the sum 'masked'"
            )
        sealed = _ciphertexts(session) * (_CIPHERTEXT_BYTES + _CBOR_BYTES) + _CBOR_BYTES
        if sealed * session.encoding.parties >= 2**30:
            raise InputError(
                f"{session.encoding.parties} sites with {session.length} numbers each are too much for CKKS: the key "
                f"holder would take in {sealed * session.encoding.parties} bytes, expected below 2^30; take 'masked'"
            )
        return Sizes(_KEY_BYTES, sealed, session.length * session.encoding.width)

    def generate(self) -> DecryptionKey:
        """Return a fresh key pair."""
        return CkksSecret(_fresh_context())

    def read_public(self, public: bytes) -> CkksPublic:
        """Return a public key of exactly these parameters."""
        try:
            context = tenseal.context_from(public)
            parameters = context.seal_context().data.key_parms_id()
        except _REFUSALS:
            raise MalformedMessage(f"{len(public)} bytes are not a CKKS public key") from None
        if parameters != _parameters() or context.has_secret_key() or not context.has_public_key():
            raise ProtocolError(f"expected a CKKS public key, and that alone, of N = {DEGREE} and moduli {MODULI}")
        return CkksPublic(context)


@final
@dataclass(frozen=True)
class CkksPublic(EncryptionKey):
    """A context that holds a public key of the right parameters."""

    context: Any = field(repr=False)

    def encrypt(self, session: Session, integers: np.ndarray, csprng: Csprng) -> bytes:
        """Return one ciphertext for each 4096 numbers; SEAL draws its randomness itself."""
        session.encoding.to_words(integers)
        padded = np.zeros(_ciphertexts(session) * SLOTS)
        padded[: session.length] = integers
        rows = padded.reshape(-1, SLOTS).tolist()
        return encode([tenseal.ckks_vector(self.context, row, scale=SCALE).serialize() for row in rows])

    def require_sound(self, session: Session, sealed: bytes) -> None:
        """Raise `MalformedMessage` unless these are fresh ciphertexts at the one scale."""
        _read(self.context, session, sealed)

    def read_opening(self, session: Session, sealed: Mapping[Seat, bytes], opening: bytes) -> np.ndarray:
        """Return the opened sum [d] int64. That it is the sum of `sealed` does not show: the key holder is trusted."""
        if len(opening) != session.length * session.encoding.width:
            raise MalformedMessage(f"an opening of {len(opening)} bytes does not fit {session.length} numbers")
        value = session.encoding.from_words(np.frombuffer(opening, session.encoding.word))
        _require_possible(value, session, len(sealed))
        return value


@final
@dataclass(frozen=True)
class CkksSecret(DecryptionKey):
    """A context that holds both keys."""

    context: Any = field(repr=False)

    @cached_property
    def public(self) -> bytes:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The parameters and the public key."""
        return self.context.serialize(
            save_public_key=True, save_secret_key=False, save_galois_keys=False, save_relin_keys=False
        )

    def open_sum(self, session: Session, sealed: Mapping[Seat, bytes], csprng: Csprng) -> bytes:
        """Return the exact sum as words; the decrypted numbers themselves go no further than this function."""
        totals: list[Any] = []
        for ciphertexts in sealed.values():
            vectors = _read(self.context, session, ciphertexts)
            totals = [a.add_(b) for a, b in zip(totals, vectors)] if totals else vectors
        decrypted = np.array([total.decrypt() for total in totals]).reshape(-1)
        value = publishable(decrypted, csprng)
        if value[session.length :].any():
            raise ProtocolError("the sum has numbers where no vector has any: a site sealed rubbish")
        value = value[: session.length]
        _require_possible(value, session, len(sealed))
        return value.astype(session.encoding.word).tobytes()


def publishable(decrypted: np.ndarray, csprng: Csprng) -> np.ndarray:
    """Return decrypted numbers [k] float64 as the integers [k] int64 that they stand for: flooded, then rounded.

    Raises `ProtocolError` where one is further than 2^-8 from every integer: no sum of honest vectors is.
    """
    nearest = np.rint(decrypted)
    if not (np.isfinite(decrypted).all() and np.abs(decrypted).max(initial=0.0) < 2.0 ** (LARGEST_BITS + 1)):
        raise ProtocolError("the decrypted sum is larger than any sum can be: a site sealed rubbish")
    if np.abs(decrypted - nearest).max(initial=0.0) > TOLERANCE:
        raise ProtocolError("the decrypted sum is not of integers: a site sealed rubbish, so it is opened to nobody")
    return np.rint(flood(decrypted, csprng)).astype(np.int64)


def flood(decrypted: np.ndarray, csprng: Csprng) -> np.ndarray:
    """Return numbers [k] with Gaussian noise of standard deviation `FLOOD` added (Box and Muller 1958)."""
    words = np.frombuffer(csprng(16 * len(decrypted)), np.uint64).reshape(2, -1) >> np.uint64(11)
    uniform = (words.astype(np.float64) + 0.5) * 2.0**-53
    return decrypted + FLOOD * np.sqrt(-2 * np.log(uniform[0])) * np.cos(2 * np.pi * uniform[1])


def _require_possible(value: np.ndarray, session: Session, survivors: int) -> None:
    bound = survivors * session.encoding.limit
    if np.abs(value).max(initial=0) > bound:
        raise ProtocolError(f"a sum of {survivors} vectors is over {bound}: a site sealed numbers over the limit")


def _read(context: Any, session: Session, sealed: bytes) -> list[Any]:
    """Return the ciphertexts under a context; raise `MalformedMessage` where they are not fresh ones at the scale."""
    items, count = decode(sealed), _ciphertexts(session)
    if not isinstance(items, list) or len(items) != count:
        raise MalformedMessage(f"expected {count} ciphertexts")
    level = context.seal_context().data.first_parms_id()
    vectors: list[Any] = []
    for item in items:
        if not isinstance(item, bytes) or not 0 < len(item) <= _CIPHERTEXT_BYTES:
            raise MalformedMessage(f"expected a ciphertext of at most {_CIPHERTEXT_BYTES} bytes")
        try:
            vector = tenseal.ckks_vector_from(context, item)
            (ciphertext,) = vector.ciphertext()
            fresh = (
                vector.size() == SLOTS and ciphertext.size() == 2 and ciphertext.scale == SCALE
                and ciphertext.parms_id() == level and ciphertext.is_ntt_form() and not ciphertext.is_transparent()
            )  # fmt: skip
        except _REFUSALS:
            raise MalformedMessage(f"{len(item)} bytes are not a CKKS ciphertext") from None
        if not fresh:
            raise MalformedMessage("a CKKS ciphertext is not a fresh one of 4096 numbers at the one scale")
        vectors.append(vector)
    return vectors


def _ciphertexts(session: Session) -> int:
    return -(-session.length // SLOTS)


def _fresh_context() -> Any:
    return tenseal.context(tenseal.SCHEME_TYPE.CKKS, DEGREE, coeff_mod_bit_sizes=list(MODULI))


@cache
def _parameters() -> list[int]:
    """Return SEAL's own hash of the parameters."""
    return _fresh_context().seal_context().data.key_parms_id()
