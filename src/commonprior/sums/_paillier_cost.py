"""What a sum under Paillier's cryptosystem costs: operations on ciphertexts of packed numbers."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, Protocol

import numpy as np
from phe.util import powmod

from commonprior.session import Encoding, Member, Session
from commonprior.sums._he_cost import Cryptography, encrypted_work
from commonprior.sums._he_paillier import PaillierSystem
from commonprior.work import Operation, Work

_SIEVED = 0.09
"""Of the numbers up to the next prime, the share that GMP's sieve leaves to be tested (measured, 1024 to 1536 bits)."""

_ROOTS = 11


class _Operations(NamedTuple):
    prime_test: Operation
    key_proof: Operation
    key_read: Operation
    encrypted: Operation
    read: Operation
    added: Operation
    opened: Operation
    checked: Operation


class _Paillier(Protocol):
    @property
    def modulus_bits(self) -> int: ...


@cache
def _trial(bits: int) -> tuple[Any, Any, Session, np.ndarray]:
    """Return a key pair, and a session in which one vector fills one ciphertext."""
    secret: Any = PaillierSystem(bits).generate()
    public: Any = PaillierSystem(bits).read_public(secret.public)
    slots, blank = (bits - 1) // 32, bytes(32)
    roster = (Member("one", b"1"), Member("two", b"2"))
    session = Session(b"", 0, 0, blank, blank, blank, blank, roster, 0, 0, slots, Encoding(2, 0, 2**29, 4))
    return secret, public, session, np.arange(slots)


def _sealed(bits: int, sites: int) -> dict[int, bytes]:
    _, public, session, integers = _trial(bits)
    return {seat: public.encrypt(session, integers, os.urandom) for seat in range(sites)}


@cache
def _operations(bits: int) -> _Operations:
    """Return the operations at one size of modulus."""

    def testing() -> Callable[[], object]:
        candidate = int.from_bytes(os.urandom(bits // 16), "big") | 1 | 1 << (bits // 2 - 1)
        return lambda: powmod(3, candidate - 1, candidate)

    def proving() -> Callable[[], object]:
        key = _trial(bits)[0]
        return lambda: type(key)(key.key, bits).public

    def reading_key() -> Callable[[], object]:
        public = _trial(bits)[0].public
        return lambda: PaillierSystem(bits).read_public(public)

    def encrypting() -> Callable[[], object]:
        _, public, session, integers = _trial(bits)
        return lambda: public.encrypt(session, integers, os.urandom)

    def reading() -> Callable[[], object]:
        _, public, session, _ = _trial(bits)
        ((_, sealed),) = _sealed(bits, 1).items()
        return lambda: public.require_sound(session, sealed)

    def adding() -> Callable[[], object]:
        _, public, session, _ = _trial(bits)
        sealed = _sealed(bits, 1)
        return lambda: public.product(session, dict.fromkeys(range(8), sealed[0]))

    def opening() -> Callable[[], object]:
        secret, _, session, _ = _trial(bits)
        sealed = _sealed(bits, 1)
        return lambda: secret.open_sum(session, sealed, os.urandom)

    def checking() -> Callable[[], object]:
        secret, public, session, _ = _trial(bits)
        sealed = _sealed(bits, 1)
        opened = secret.open_sum(session, sealed, os.urandom)
        return lambda: public.read_opening(session, sealed, opened)

    name = f"Paillier-{bits}"
    return _Operations(
        Operation(f"{name} test of a prime", testing),
        Operation(f"{name} proof about a key", proving),
        Operation(f"{name} key read", reading_key),
        Operation(f"{name} encryption", encrypting),
        Operation(f"{name} ciphertext read", reading),
        Operation(f"{name} ciphertext read and added", adding, 8),
        Operation(f"{name} decryption, with its root", opening),
        Operation(f"{name} opening checked", checking),
    )


def work(kind: _Paillier, session: Session) -> Work:
    """Return the work of an attempt with everyone; how long a key takes is chance, what is given is its mean."""
    bits, n = kind.modulus_bits, len(session.roster)
    count = -(-session.length // ((bits - 1) // (8 * session.encoding.width)))
    of, size = _operations(bits), bits // 8
    tests = 2 * _SIEVED * (bits // 2) * math.log(2)
    key = _ROOTS * (size + 3) + 1
    return encrypted_work(session, Cryptography(
        {of.prime_test: tests, of.key_proof: 1}, {of.key_read: 1}, {of.encrypted: count}, {of.read: count},
        {of.added: (n - 1) * count, of.opened: count}, {of.added: (n - 1) * count, of.checked: count},
        key, 2 * size * count, session.length * session.encoding.width + size * count,
    ), is_checked=True)  # fmt: skip
