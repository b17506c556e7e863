"""What a sum under CKKS costs: operations on ciphertexts of 4096 numbers."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import tenseal

from commonprior.session import Encoding, Member, Session
from commonprior.sums._he_ckks import SCALE, SLOTS, CkksSystem, publishable
from commonprior.sums._he_cost import Cryptography, encrypted_work
from commonprior.work import Operation, Work

_KEY, _CIPHERTEXT = 363_600, 235_140
"""Bytes as SEAL writes them, compressed; they differ a little from key to key."""


@cache
def _trial() -> tuple[Any, Any, Session, np.ndarray]:
    """Return a key pair, and a session in which one vector fills one ciphertext."""
    secret: Any = CkksSystem().generate()
    public: Any = CkksSystem().read_public(secret.public)
    roster, blank = (Member("one", b"1"), Member("two", b"2")), bytes(32)
    session = Session(b"", 0, 0, blank, blank, blank, blank, roster, 0, 0, SLOTS, Encoding(2, 0, 2**30 - 1, 4))
    return secret, public, session, np.arange(SLOTS)


def _generating() -> Callable[[], object]:
    return lambda: CkksSystem().generate().public


def _reading_key() -> Callable[[], object]:
    public = _trial()[0].public
    return lambda: CkksSystem().read_public(public)


def _sealing() -> Callable[[], object]:
    _, public, session, integers = _trial()
    return lambda: public.encrypt(session, integers, os.urandom)


def _reading() -> Callable[[], object]:
    _, public, session, integers = _trial()
    sealed = public.encrypt(session, integers, os.urandom)
    return lambda: public.require_sound(session, sealed)


def _vector() -> Any:
    return tenseal.ckks_vector(_trial()[0].context, list(range(SLOTS)), scale=SCALE)


def _adding() -> Callable[[], object]:
    one, two = _vector(), _vector()
    return lambda: one.add_(two)


def _opening() -> Callable[[], object]:
    vector = _vector()
    return lambda: publishable(np.array(vector.decrypt()), os.urandom)


KEY = Operation("CKKS key", _generating)
KEY_READ = Operation("CKKS key read", _reading_key)
ENCRYPTED = Operation("CKKS encryption of 4096 numbers", _sealing)
READ = Operation("CKKS ciphertext read", _reading)
ADDED = Operation("CKKS ciphertext added", _adding)
DECRYPTED = Operation("CKKS ciphertext decrypted, flooded, rounded", _opening)


def work(kind: object, session: Session) -> Work:
    """Return the work of an attempt with everyone. Raises `InputError` where sums do not fit CKKS."""
    CkksSystem().sizes(session)
    n, count = len(session.roster), -(-session.length // SLOTS)
    opened = session.length * session.encoding.width
    return encrypted_work(session, Cryptography(
        {KEY: 1}, {KEY_READ: 1}, {ENCRYPTED: count}, {READ: count},
        {READ: n * count, ADDED: (n - 1) * count, DECRYPTED: count}, {}, _KEY, count * (_CIPHERTEXT + 5), opened,
    ), is_checked=False)  # fmt: skip
