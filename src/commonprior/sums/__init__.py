"""Secure sums as state machines without input or output: bytes in, bytes out, no sockets, no clocks."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, NamedTuple, Protocol

import numpy as np

from commonprior.canonical import Value
from commonprior.errors import MalformedMessage
from commonprior.identity import Identity
from commonprior.session import Seat, Session
from commonprior.sums._groups import WHOLE, Draw, Grouping

CONSISTENCY = "consistency"

Csprng = Callable[[int], bytes]

Guard = Callable[[frozenset[Seat]], None]
"""A site's last word on a contributor set: raises `PolicyRefusal` if it must not be summed."""


class Aggregate(NamedTuple):
    """The sum [d] int64 over `survivors`. `commitments` are SHA-256 of each survivor's sealed bytes, `signatures`
    the sites' over `statement`: (session, survivors, commitments). `parts` is what recomputing the sum needs.

    In groups, `value` is [groups, d], each site signs its own group's statement, and the groups follow from `draw`.
    `culprits` are who broke the protocol and can be shown to have, though the sum came out right without them.
    """

    value: np.ndarray
    survivors: tuple[Seat, ...]
    commitments: tuple[bytes, ...]
    statement: bytes
    signatures: tuple[tuple[Seat, bytes], ...]
    parts: tuple[bytes, ...] = ()
    draw: Draw = ()
    culprits: tuple[Seat, ...] = ()


class Aborted(NamedTuple):
    """The attempt is over without a sum: why, and who broke the protocol (empty where sites only dropped out)."""

    reason: str
    culprits: tuple[Seat, ...] = ()


class Finished(NamedTuple):
    """A party has done its part in this attempt."""

    survivors: tuple[Seat, ...]


class Step(NamedTuple):
    """What a machine wants done, in this order: fsync `persist`, send `send`, then look at `done`."""

    persist: bytes = b""
    send: Sequence[tuple[Seat, bytes]] = ()
    done: Aggregate | Aborted | Finished | None = None


class Machine(Protocol):
    """One party's side of one attempt. Frames are signed; a repeated frame gets the same answer, never a second one."""

    def receive(self, sender: Seat, frame: bytes) -> Step:
        """Take one frame. A frame that breaks the protocol raises `ProtocolError` and changes nothing."""
        ...

    def close(self, phase: str) -> Step:
        """The deadline of `phase` passed: go on with whoever answered. Irrevocable."""
        ...


def read_parts(value: Value) -> list[bytes]:
    """Return what was kept of a sum, or raise `MalformedMessage`."""
    parts = [part for part in value if isinstance(part, bytes)] if isinstance(value, list) else []
    if not isinstance(value, list) or len(parts) < len(value):
        raise MalformedMessage("expected the parts of a sum as bytes")
    return parts


class SecureSum(abc.ABC):
    """A protocol that adds integer vectors modulo 2^(8·width), by what it reveals and to whom.

    The coordinator's machine is driven phase by phase: `receive` until everyone answered, then `close(phase)`,
    whose Step carries the next phase's messages or, at the end, `done`. The phase in which the sites sign whose
    bytes are summed is called `CONSISTENCY` in every protocol: site and coordinator keep what was agreed there.
    """

    phases: ClassVar[tuple[str, ...]]
    insecure: ClassVar[str] = ""
    """Empty, or what an output must say: this sum shows every update to the coordinator."""

    trust: ClassVar[str] = ""
    """One sentence: whom a site must trust not to do what, for its update to stay hidden and the sum to be right."""

    grouping: ClassVar[Grouping] = WHOLE
    """Into how many sums the sites are split, and what makes one mean of them again."""

    def unsigned(self, parties: int, dropouts: int, colluders: int) -> int:
        """Return how many honest survivors a sum may lack that its sites believe to be in it: what noise counts on."""
        return 0

    def key_holders(self, session: Session) -> frozenset[Seat]:
        """Return the seats of which each one, by itself, may come to read other sites' updates: none in most sums."""
        return frozenset()

    @abc.abstractmethod
    def check(self, session: Session) -> None:
        """Raise `InputError`, with the numbers, where this sum cannot be held in such a session.

        Asked once, before anybody enrols; the machines refuse such a session too.
        """

    @abc.abstractmethod
    def party(
        self, session: Session, seat: Seat, identity: Identity, integers: np.ndarray, csprng: Csprng, guard: Guard
    ) -> Machine:
        """Return the machine of the site on `seat`, whose integers [d] int64 are within the encoding's limit."""

    @abc.abstractmethod
    def coordinator(self, session: Session, identity: Identity, log: Sequence[tuple[Seat, bytes]] = ()) -> Machine:
        """Return the coordinator's machine; `log` replays the frames of the same attempt after a restart."""

    def recompute(
        self, session: Session, commitments: Mapping[Seat, bytes], parts: Sequence[bytes], draw: Draw = ()
    ) -> np.ndarray | None:
        """Return the sum [d] int64 ([groups, d] in groups), computed again from `Aggregate.parts`.

        None where this sum leaves nothing that an outsider could compute it from. Raises `ProtocolError` where the
        parts are malformed, or not those that the survivors committed to.
        """
        return None
