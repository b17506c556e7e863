"""A site's side of a round of public deltas: commit, publish, try the others', and vote for what follows."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from commonprior.ballot import Ballot, Place
from commonprior.canonical import Value
from commonprior.defence.layers import Layers
from commonprior.entry import Round, round_ballot
from commonprior.errors import MalformedMessage, ModelError, ProtocolError
from commonprior.identity import Identity
from commonprior.session import Seat, Session
from commonprior.site import Registry

Losses = Callable[[np.ndarray], np.ndarray]
"""What this site's tasks lose [k] after the prior has moved by each of k means [k, d], in the units of the int8."""


@dataclass
class Publisher:
    """One attempt. `run` is the hash of the opening; `integers` [d] are the update, `losses` None where it may not
    speak: what a site says of others' updates is about its own tasks, and no noise hides that.
    """

    identity: Identity
    registry: Registry
    place: Place
    run: bytes
    seat: Seat
    layers: Layers
    integers: np.ndarray
    losses: Losses | None
    _salt: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    _opinion: tuple[float, ...] = ()

    @property
    def delta(self) -> bytes:
        """The int8 numbers, filled up with zeros to what the contract takes."""
        if np.abs(self.integers).max(initial=0) > 127:
            raise ModelError("a public delta is made of int8 numbers: say mechanism.bytes = 1")
        return self.integers.astype(np.int8).tobytes() + bytes(32 * self.place.terms[0] - len(self.integers))

    def commit(self) -> None:
        """Commit on the chain, from the site's own account."""
        self.registry.commit(self.place, self.run, self.identity, self.delta, self._salt)

    def publish(self) -> Value:
        """Return the update with the salt that its commitment was made with."""
        return {"delta": self.delta, "salt": self._salt}

    def opine(self, data: bytes) -> Value:
        """Return by what share of this site's loss each update lowers it, or nothing."""
        published = self.registry.published(self.place, self.run, data, self.layers, True)
        if self.losses is None or self.layers.accuracy is None:
            return None
        gains = self.layers.accuracy.gains(published.matrix, self.losses)
        self._opinion = tuple(float(g) for g in np.clip(np.nan_to_num(gains, nan=-1e9), -1e9, 1e9))
        return list(self._opinion)

    def check(self, session: Session, entry: Round, data: bytes) -> tuple[np.ndarray, Ballot]:
        """Return the contract's mean [d] and this site's ballot, if the published bytes lead to this entry."""
        published = self.registry.published(self.place, self.run, data, self.layers, True)
        if published.opinions.get(self.seat, ()) not in ((), self._opinion):
            raise ProtocolError("the published opinions name another one than this site gave")
        if entry.survivors != published.survivors or entry.commitments or entry.consistency or entry.draw:
            raise MalformedMessage("the entry does not name those whom the published updates lead to")
        attempt = self.registry.attempt(self.place, self.run)
        ballot = round_ballot(self.run, entry, attempt, published.subject, published.row)
        return published.mean[: session.length], ballot
