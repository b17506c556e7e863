"""Who a round talks to: a site agent with its tasks, or a gateway that holds devices' packets."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from commonprior.ballot import Place
from commonprior.prior import Prior, Tensors
from commonprior.privacy import Mechanism, Release
from commonprior.session import Session


class Context(NamedTuple):
    """What a contributor is told of a round: the session, the prior to start from, and the run's public seed."""

    session: Session
    prior: Prior
    release: Release
    seed: int


class Protected(NamedTuple):
    """Integers [d] that may be summed, and what the contributor remembers if the round succeeds."""

    integers: np.ndarray
    memory: Tensors


class Registry(Protocol):
    """What a site asks a ledger, through a node of its own."""

    def check(self, place: Place) -> None:
        """Raise `LedgerError` unless the contracts are this version's and their members are the place's accounts."""
        ...

    def head(self, place: Place, run: bytes) -> tuple[int, bytes] | None:
        """Return how many rounds a run has and its newest prior's hash; None where it has not been begun."""
        ...

    def newest(self) -> bytes:
        """Return the hash of the newest block."""
        ...


class Contributor(Protocol):
    """Whoever has something to add to the prior."""

    def contribute(self, context: Context, mechanism: Mechanism, memory: Tensors) -> Protected:
        """Return clipped, noised integers; raise `PolicyRefusal` rather than give too much."""
        ...
