"""What an additively homomorphic cryptosystem gives a sum: keys, sealed vectors, and an opening of their sum alone."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from commonprior.errors import InputError
from commonprior.session import Seat, Session
from commonprior.sums import Csprng


class Sizes(NamedTuple):
    """The most bytes that a public key, one site's sealed vector and the opened sum may take."""

    key: int
    sealed: int
    opening: int


class EncryptionKey(abc.ABC):
    """The key holder's public key, checked."""

    @abc.abstractmethod
    def encrypt(self, session: Session, integers: np.ndarray, csprng: Csprng) -> bytes:
        """Return integers [d] int64, each within the encoding's limit, sealed."""

    @abc.abstractmethod
    def require_sound(self, session: Session, sealed: bytes) -> None:
        """Raise `MalformedMessage` unless these are ciphertexts of one vector [d] under this key."""

    @abc.abstractmethod
    def read_opening(self, session: Session, sealed: Mapping[Seat, bytes], opening: bytes) -> np.ndarray:
        """Return the opened sum [d] int64; raise `ProtocolError` where it is not the sum of `sealed`, if that shows."""


class DecryptionKey(abc.ABC):
    """The key holder's secret: made for one attempt, never written down. `public` are its public half's bytes."""

    public: bytes

    @abc.abstractmethod
    def open_sum(self, session: Session, sealed: Mapping[Seat, bytes], csprng: Csprng) -> bytes:
        """Add sound ciphertexts and return the opening of their sum, nothing else.

        Raises `ProtocolError` where the sum is not one that honest vectors could have.
        """


class Cryptosystem(abc.ABC):
    """Makes and reads keys. `name` stands in what a site writes down."""

    name: str

    @abc.abstractmethod
    def sizes(self, session: Session) -> Sizes:
        """Return the largest sizes; raise `InputError` where the cryptosystem cannot carry the session's encoding."""

    @abc.abstractmethod
    def generate(self) -> DecryptionKey:
        """Return a fresh key pair from the operating system's randomness."""

    @abc.abstractmethod
    def read_public(self, public: bytes) -> EncryptionKey:
        """Return a public key; raise `ProtocolError` where it is malformed or weak."""


def holder_of(session: Session, name: str) -> Seat:
    """Return the seat that holds the key: the site of that name, or the first by name where the name is empty.

    Sites check names against their own trust lists; the order of a roster is its coordinator's, and so would be a draw
    by the session's hash, attempt after attempt, until it likes the holder.
    """
    if not name:
        return min(range(len(session.roster)), key=lambda seat: session.roster[seat].name)
    for seat, member in enumerate(session.roster):
        if member.name == name:
            return seat
    raise InputError(
        f"sum.key_holder = {name!r} is not in the roster; expected one of "
        f"{', '.join(member.name for member in session.roster)}, or '' for the first"
    )
