"""Who a round talks to: a site agent with its tasks, or a gateway that holds devices' packets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np

from commonprior.ballot import Place
from commonprior.defence.history import History, Version
from commonprior.defence.layers import Layers
from commonprior.defence.said import Said
from commonprior.identity import Identity
from commonprior.prior import Prior, Tensors
from commonprior.privacy import Mechanism, Release
from commonprior.session import Seat, Session


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


class Judged(Protocol):
    """What follows from the published updates of a round of public deltas (`ledger.published`)."""

    @property
    def accepted(self) -> Mapping[bytes, bool]:
        """The contributors' accounts, and whether each is averaged."""
        ...

    @property
    def matrix(self) -> np.ndarray:
        """Everybody's numbers, int8 [n, d], in the contract's order."""
        ...

    @property
    def row(self) -> bytes:
        """A byte a contributor: what everybody votes."""
        ...

    @property
    def survivors(self) -> tuple[Seat, ...]:
        """Who is accepted."""
        ...

    @property
    def mean(self) -> np.ndarray:
        """The mean that the contract computes, int8 [d] and zeros."""
        ...

    @property
    def said(self) -> Mapping[Seat, Said]:
        """What each site said of each contributor, and what it loses itself."""
        ...

    def back(self, round_: int, base: bytes, layers: Layers) -> Version | None:
        """Return the version that the round goes back to, instead of adding its mean, if it does."""
        ...

    def following(self, round_: int, base: bytes, layers: Layers) -> History:
        """Return where the round leaves everyone."""
        ...

    @property
    def subject(self) -> bytes:
        """What the ballots name: the contributors' accounts, and who of them is averaged."""
        ...


class Told(NamedTuple):
    """What published bytes are checked against: where the round before left everyone, the session, and whether sites
    speak about updates at all (they do not where noise hides their own).
    """

    history: History
    session: Session
    speaks: bool

    def least(self, place: Place, layers: Layers) -> int:
        """Return how many contributors there are at least, and opinions where sites speak."""
        out = self.history.excluded(layers).intersection(place.accounts)
        return self.session.threshold - len(out)


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

    def stake(self, place: Place, identity: Identity) -> None:
        """Deposit what a run of public deltas asks for, unless it is there."""
        ...

    def commit(self, place: Place, run: bytes, identity: Identity, delta: bytes, salt: bytes) -> None:
        """Commit to a public delta from one's own account."""
        ...

    def attempt(self, place: Place, run: bytes) -> int:
        """Return the contract's number of the attempt under way."""
        ...

    def reveal(self, place: Place, run: bytes, identity: Identity, delta: bytes, salt: bytes) -> None:
        """Show one's update on the chain, so that nobody can leave it out."""
        ...

    def published(
        self, place: Place, run: bytes, data: bytes, layers: Layers, told: Told | None, whole: bool = True
    ) -> Judged:
        """Return what follows from a round's published bytes, checked against the commitments on the chain.

        `whole`: the opinions of those who speak must be there. With `told` None the bytes are those of a round that is
        over, to be believed as a threshold of sites signed them.
        """
        ...


class Contributor(Protocol):
    """Whoever has something to add to the prior."""

    def contribute(self, context: Context, mechanism: Mechanism, memory: Tensors) -> Protected:
        """Return clipped, noised integers; raise `PolicyRefusal` rather than give too much."""
        ...

    def loss(self, context: Context, prior: Prior) -> float:
        """Return what this contributor's own tasks lose under a prior: the mean negative log-likelihood of a query.

        The same number of a round asks for the same tasks.
        """
        ...
