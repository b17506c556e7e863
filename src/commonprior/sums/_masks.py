"""Mask streams: AES-256 in counter mode, added to a vector of words in blocks that stay in the cache.

Each key comes out of HKDF-SHA256 (RFC 5869) over a secret of this attempt alone, bound to the session, the seats and
their public keys, and expands exactly one stream; so the counter may begin at zero. AES-256 costs a quarter more
than AES-128 and keeps the seed's 256 bits: an attacker who collects the streams of many rounds gains nothing by
attacking their keys together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from commonprior.canonical import Value, encode
from commonprior.session import Encoding, Seat, Session

BLOCK_BYTES = 1 << 16
_PAIR = "commonprior/masked/pair/1"
_SELF = "commonprior/masked/self/1"
_AES_BLOCK = 16
_KEY_BYTES = 32


class MaskStream(NamedTuple):
    """A stream to be added to a vector or subtracted from it: `key` is of AES-256, `sign` is 1 or -1."""

    key: bytes
    sign: int

    def __repr__(self) -> str:
        return f"MaskStream(sign={self.sign})"


def self_stream(session: Session, seat: Seat, seed: bytes) -> MaskStream:
    """Return the mask that a site adds for itself, so that a late input is still hidden once its key is opened."""
    return MaskStream(_derive(session, seed, [_SELF, seat]), 1)


def pair_stream(
    session: Session, private: X25519PrivateKey, seat: Seat, peer: Seat, mask_keys: Mapping[Seat, bytes]
) -> MaskStream:
    """Return the mask of `seat`, whose private mask key is given, with `peer`; the higher seat of the two subtracts it.

    `mask_keys` holds both public mask keys. Raises `ValueError` where the peer's is a point of small order.
    """
    secret = private.exchange(X25519PublicKey.from_public_bytes(mask_keys[peer]))
    low, high = sorted((seat, peer))
    key = _derive(session, secret, [_PAIR, low, high, mask_keys[low], mask_keys[high]])
    return MaskStream(key, 1 if seat == low else -1)


def to_words(integers: np.ndarray, encoding: Encoding) -> np.ndarray:
    """Return integers [d] as words [d], block by block: the temporaries of a long vector would not fit the cache."""
    words = np.empty(len(integers), encoding.word)
    step = BLOCK_BYTES // encoding.width
    for at in range(0, len(words), step):
        words[at : at + step] = encoding.to_words(integers[at : at + step])
    return words


def add_streams(words: np.ndarray, streams: Sequence[MaskStream]) -> None:
    """Add mask streams to words [d] in place, modulo the word."""
    ciphers = [(Cipher(algorithms.AES256(s.key), modes.CTR(bytes(_AES_BLOCK))).encryptor(), s.sign) for s in streams]
    zeros = memoryview(bytes(BLOCK_BYTES))
    expanded = bytearray(BLOCK_BYTES + _AES_BLOCK)
    step = BLOCK_BYTES // words.itemsize
    for at in range(0, len(words), step):
        block = words[at : at + step]
        zero, stream = zeros[: block.nbytes], np.frombuffer(expanded, words.dtype, len(block))
        for cipher, sign in ciphers:
            cipher.update_into(zero, expanded)
            (np.add if sign > 0 else np.subtract)(block, stream, out=block)


def _derive(session: Session, secret: bytes, context: Value) -> bytes:
    return HKDF(hashes.SHA256(), _KEY_BYTES, salt=session.hash, info=encode(context)).derive(secret)
