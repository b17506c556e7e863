"""Secret comparisons between two parties who both agreed to them: who has the lower number, and nothing else."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, NamedTuple, Protocol

import numpy as np

from commonprior.canonical import digest
from commonprior.errors import InputError
from commonprior.identity import Identity
from commonprior.sums import Csprng

Side = Literal["first", "second"]


@dataclass(frozen=True)
class Pairing:
    """One batch of `count` comparisons between two identities' keys, in a run; `number` is never used twice.

    Its hash is bound into every message, key and tweak.
    """

    run: bytes
    number: int
    first: bytes
    second: bytes
    count: int

    def __post_init__(self) -> None:
        if self.first == self.second:
            raise InputError(f"key {self.first.hex()[:16]}… cannot compare with itself; pair two sites")
        if self.count < 1 or not 0 <= self.number < 2**63:
            raise InputError(f"batch {self.number} of {self.count}: expected a number from 0 and at least 1 comparison")

    @cached_property
    def hash(self) -> bytes:
        """SHA-256 of every field above."""
        return digest(["commonprior/pairing/1", self.run, self.number, self.first, self.second, self.count])

    def key_of(self, side: Side) -> bytes:
        """Return the public key that signs for a side."""
        return self.first if side == "first" else self.second


class Step(NamedTuple):
    """What a machine wants done, in this order: fsync `persist`, send `send`, then look at `done`.

    `done` [count] bool says where the first side's number is lower than the second's; equal numbers are not.
    """

    persist: bytes = b""
    send: bytes = b""
    done: np.ndarray | None = None


class Machine(Protocol):
    """One side of one batch. The first side calls `begin`; a repeated frame gets the same answer."""

    def begin(self) -> Step:
        """Return the opening message; the second side has none and answers an empty step."""
        ...

    def receive(self, frame: bytes) -> Step:
        """Take one frame. A frame that breaks the protocol raises `ProtocolError` and changes nothing."""
        ...


class Comparison(abc.ABC):
    """A protocol by which two parties learn whose number is lower. It never decides whether an update is accepted."""

    trust: ClassVar[str]
    """One sentence: what each side believes of the other."""

    @abc.abstractmethod
    def machine(
        self, pairing: Pairing, side: Side, identity: Identity, values: np.ndarray, asked: int, csprng: Csprng
    ) -> Machine:
        """Return one side's machine for its values [count] float64.

        `asked` is how many comparisons this site has answered its peer before, by the records in `Step.persist`: every
        answer gives something away, and a machine refuses to go over its cap.
        """
