"""The elementary operations that every sum is made of, and how many bytes its frames take.

A signed frame is an operation of its own (CBOR, two hashes, one signature or its check); its bytes are counted beside
it, as a long vector is copied and hashed with it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import NamedTuple

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from commonprior.canonical import Value, encode
from commonprior.frame import open_frame, seal
from commonprior.identity import Identity, verify
from commonprior.session import COORDINATOR, Encoding, Member, Session
from commonprior.sums._consistency import commit
from commonprior.sums._keys import commit_seed
from commonprior.sums._masks import BLOCK_BYTES, MaskStream, add_streams, pair_stream, self_stream, to_words
from commonprior.work import Amounts, Operation

_LONG, _MANY, _FRESH = 1 << 20, 1000, 1 << 26
_SIZES = (_LONG, 1 << 23, 1 << 25)
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)


@cache
def stage() -> tuple[Identity, Session]:
    """Return the one site that all trials are made with, and a session that it takes part in."""
    site, other = Identity.generate(), Identity.generate()
    roster = (Member("site", site.key), Member("other", other.key))
    blank = bytes(32)
    return site, Session(
        b"trial", 0, 0, blank, blank, blank, site.key, roster, 0, 0, 1, Encoding(2, 0, 2**30 - 1, 4)
    )  # fmt: skip


def _body(size: int, items: int) -> Value:
    listed_items = [[seat % 32, bytes(64)] for seat in range(items)]
    return {"words": os.urandom(size), "list": listed_items, "seed": bytes(32), "key": bytes(32)}


def _sealing(size: int, items: int) -> Callable[[], Callable[[], object]]:
    def prepare() -> Callable[[], object]:
        (site, session), body = stage(), _body(size, items)
        return lambda: seal(site, session, "trial", COORDINATOR, 0, body)

    return prepare


def _opening(size: int, items: int) -> Callable[[], Callable[[], object]]:
    def prepare() -> Callable[[], object]:
        site, session = stage()
        frame = seal(site, session, "trial", COORDINATOR, 0, _body(size, items))
        return lambda: open_frame(frame, session, 0)

    return prepare


def _signing() -> Callable[[], object]:
    site = stage()[0]
    return lambda: site.sign(bytes(32))


def _verifying() -> Callable[[], object]:
    site = stage()[0]
    key, signature = site.key, site.sign(bytes(32))
    return lambda: verify(key, signature, bytes(32))


def _drawing() -> Callable[[], object]:
    return lambda: X25519PrivateKey.from_private_bytes(os.urandom(32)).public_key().public_bytes_raw()


def _agreeing() -> Callable[[], object]:
    session, (own, peer) = stage()[1], (X25519PrivateKey.generate(), X25519PrivateKey.generate())
    keys = {0: own.public_key().public_bytes_raw(), 1: peer.public_key().public_bytes_raw()}
    return lambda: pair_stream(session, own, 0, 1, keys)


def _deriving() -> Callable[[], object]:
    session, words = stage()[1], np.zeros(4, np.uint32)
    return lambda: add_streams(words, [self_stream(session, 0, bytes(32))])


def _masking() -> Callable[[], object]:
    words, streams = np.zeros(_LONG // 4, np.uint32), [MaskStream(os.urandom(32), sign) for sign in (1, -1)]
    return lambda: add_streams(words, streams)


def _encoding() -> Callable[[], object]:
    session, integers = stage()[1], np.arange(_LONG // 4)
    return lambda: to_words(integers, session.encoding)


def _adding() -> Callable[[], object]:
    words, other = np.zeros(_LONG // 4, np.uint32), np.ones(_LONG // 4, np.uint32)
    return lambda: np.add(words, other, out=words)


def _hashing() -> Callable[[], object]:
    session = stage()[1]
    return lambda: commit_seed(session, 0, bytes(32))


def _committing() -> Callable[[], object]:
    data = os.urandom(_LONG)
    return lambda: commit(data)


def _packing(size: int) -> Callable[[], Callable[[], object]]:
    def prepare() -> Callable[[], object]:
        session, key, plain = stage()[1], X25519PrivateKey.generate().public_key(), os.urandom(size)
        return lambda: _SUITE.encrypt(plain, key, encode(["trial", session.hash, 0, 1]))

    return prepare


def _unpacking(size: int) -> Callable[[], Callable[[], object]]:
    def prepare() -> Callable[[], object]:
        session, key = stage()[1], X25519PrivateKey.generate()
        sealed = _SUITE.encrypt(os.urandom(size), key.public_key(), encode(["trial", session.hash, 0, 1]))
        return lambda: _SUITE.decrypt(sealed, key, encode(["trial", session.hash, 0, 1]))

    return prepare


def _touching() -> Callable[[], object]:
    return lambda: b"\1" * _FRESH


FRAME_MADE = Operation("signed frame made", _sealing(32, 0))
FRAME_READ = Operation("signed frame opened", _opening(32, 0))
BYTES_MADE = {size: Operation(f"byte made, frames of {size >> 20} MB", _sealing(size, 0), size) for size in _SIZES}
BYTES_READ = {size: Operation(f"byte opened, frames of {size >> 20} MB", _opening(size, 0), size) for size in _SIZES}
"""Opening a frame of 32 MB costs five times as much a byte as one of 1 MB: the allocator gives memory of that size back
to the system, so that each copy is to pages that are touched for the first time."""
ITEMS_MADE = Operation("item of a frame's lists made", _sealing(0, _MANY), _MANY)
ITEMS_READ = Operation("item of a frame's lists opened", _opening(0, _MANY), _MANY)
SEAL = Operation("HPKE seal", _packing(66))
UNSEAL = Operation("HPKE open", _unpacking(66))
SEALED_BYTES = Operation("byte of an HPKE seal", _packing(_LONG), _LONG)
UNSEALED_BYTES = Operation("byte of an HPKE open", _unpacking(_LONG), _LONG)
SIGNATURE = Operation("Ed25519 signature", _signing)
VERIFICATION = Operation("Ed25519 verification", _verifying)
KEY_PAIR = Operation("X25519 key pair", _drawing)
AGREEMENT = Operation("X25519 agreement, HKDF", _agreeing)
STREAM = Operation("mask stream begun, HKDF", _deriving)
STREAM_BYTES = Operation(f"byte of AES-256-CTR masks, {BLOCK_BYTES >> 10} kB blocks", _masking, 2 * _LONG)
WORDS = Operation("number into a word", _encoding, _LONG / 4)
ADDED = Operation("word added", _adding, _LONG / 4)
HASH = Operation("SHA-256 of a statement", _hashing)
HASHED_BYTES = Operation("byte of SHA-256", _committing, _LONG)
FRESH_BYTES = Operation("byte of fresh memory", _touching, _FRESH)
"""What is kept while an attempt lasts: the first touch of each page of it costs more than what is written there."""


class Message(NamedTuple):
    """A signed frame: its bytes, and how many items stand in its lists."""

    size: float
    items: int


def made(count: float, message: Message) -> Amounts:
    """Return what it takes to make a frame so many times."""
    sized = BYTES_MADE[_nearest(message.size)]
    return {FRAME_MADE: count, sized: count * message.size, ITEMS_MADE: count * message.items}


def read(count: float, message: Message) -> Amounts:
    """Return what it takes to open a frame so many times."""
    sized = BYTES_READ[_nearest(message.size)]
    return {FRAME_READ: count, sized: count * message.size, ITEMS_READ: count * message.items}


def message(phase: str, fields: Mapping[str, Value | float] | None, items: int = 0) -> Message:
    """Return the frame around a body; a float stands for the encoded size of its field, None for an empty body."""
    return around(phase, 1 if fields is None else _body_bytes(fields), items)


def around(phase: str, body: float, items: int = 0) -> Message:
    """Return the frame around a body of so many bytes."""
    content = len(encode([bytes(32), phase, 0, COORDINATOR])) + body
    return Message(1 + held(content) + held(64), items)


def held(size: float) -> float:
    """Return the bytes of a byte string in CBOR."""
    return float(size) + (1 if size < 24 else 2 if size < 1 << 8 else 3 if size < 1 << 16 else 5)


def listed(count: int, item: float) -> float:
    """Return the bytes of a list of so many items of `item` bytes."""
    return float(count * item + (1 if count < 24 else 2 if count < 1 << 8 else 3))


def seats(count: int, parties: int) -> float:
    """Return the bytes of a list of so many seats."""
    return listed(count, sum(1 if s < 24 else 2 if s < 1 << 8 else 3 for s in range(parties)) / parties)


def by_seat(count: int, parties: int, item: float) -> float:
    """Return the bytes of a list of [seat, byte string of `item` bytes]."""
    return seats(count, parties) + count * (1 + held(item))


def _nearest(size: float) -> int:
    """Return the size measured that is nearest, as a ratio."""
    return min(_SIZES, key=lambda measured: max(measured / max(size, 1), size / measured))


def _body_bytes(fields: Mapping[str, Value | float]) -> float:
    sized = {name: size for name, size in fields.items() if isinstance(size, float)}
    rest: dict[str, Value] = {name: None if name in sized else value for name, value in fields.items()}  # pyright: ignore
    return len(encode(rest)) + sum(size - 1 for size in sized.values())
