"""A site's side of a round of public deltas: commit, publish, try the others', and vote for what follows."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from commonprior.ballot import Ballot, Place
from commonprior.canonical import Value, digest
from commonprior.defence.history import History
from commonprior.defence.layers import Layers
from commonprior.defence.said import Said, said_of
from commonprior.entry import Round, round_ballot
from commonprior.errors import InputError, MalformedMessage, ModelError, PolicyRefusal, ProtocolError
from commonprior.identity import Identity
from commonprior.session import Seat, Session
from commonprior.site import Judged, Registry, Told

Losses = Callable[[np.ndarray], np.ndarray]
"""What this site's tasks lose [k] after the prior has moved by each of k means [k, d], in the units of the int8."""


class Checked(NamedTuple):
    """The contract's mean [d], the hash of the older prior that the round goes back to instead, and the ballot with the
    contract's number of the attempt.
    """

    mean: np.ndarray
    back: bytes | None
    ballot: Ballot
    attempt: int


@dataclass
class Publisher:
    """One attempt. `run` is the hash of the opening; `integers` [d] are the update, `losses` None where it may not
    speak: what a site says of others' updates is about its own tasks, and no noise hides that. `loss` is what its tasks
    lose under the round's base, `history` where the round before left everyone.
    """

    identity: Identity
    registry: Registry
    place: Place
    run: bytes
    seat: Seat
    layers: Layers
    integers: np.ndarray
    losses: Losses | None
    loss: Callable[[], float]
    history: History
    session: Session
    charge: Callable[[], None]
    _salt: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    _said: Said | None = None
    _shown: bytes = b""
    _committed: bool = False
    _attempt: int | None = None

    @property
    def delta(self) -> bytes:
        """The int8 numbers, filled up with zeros to what the contract takes."""
        if np.abs(self.integers).max(initial=0) > 127:
            raise ModelError("a public delta is made of int8 numbers: say mechanism.bytes = 1")
        return self.integers.astype(np.int8).tobytes() + bytes(32 * self.place.terms[0] - len(self.integers))

    def commit(self) -> None:
        """Commit on the chain, from the site's own account; refuse where the update would not be taken."""
        if self.identity.address in self.history.excluded(self.layers):
            raise PolicyRefusal(f"0x{self.identity.address.hex()} is left out of later rounds: its updates were "
                                f"rejected too often, and its bond would be lost")  # fmt: skip
        self._attempt = self._same_attempt()
        self.registry.commit(self.place, self.run, self.identity, self.delta, self._salt)
        self._committed = True

    def _same_attempt(self) -> int:
        """Return the contract's attempt under way; refuse another one than this site has taken part in."""
        attempt = self.registry.attempt(self.place, self.run)
        if self._attempt not in (None, attempt):
            raise PolicyRefusal(f"the contract's attempt is {attempt}, this site took part in {self._attempt}")
        return attempt

    def _read(self, data: bytes, whole: bool) -> Judged:
        """Return what published bytes say; show one's own update to the contract where they leave it out."""
        self._attempt = self._same_attempt()
        told = Told(self.history, self.session, self.losses is not None)
        published = self.registry.published(self.place, self.run, data, self.layers, told, whole)
        if self._committed and self.identity.address not in published.accepted:
            self.charge()
            self.registry.reveal(self.place, self.run, self.identity, self.delta, self._salt)
            raise PolicyRefusal("the published updates leave out this site's, which it committed to and has now shown "
                                "to the contract")  # fmt: skip
        return published

    def publish(self) -> Value:
        """Return the update with the salt that its commitment was made with."""
        return {"delta": self.delta, "salt": self._salt}

    def opine(self, data: bytes) -> Value:
        """Return by what share of this site's loss each update lowers it, and that loss; or nothing."""
        published, shown = self._read(data, False), digest(data)
        if self.losses is None or self.layers.accuracy is None:
            return None
        if self._said is None:
            try:
                gains = self.layers.accuracy.gains(published.matrix, self.losses)
            except InputError:  # a prior that has diverged is no measure of updates
                gains = np.zeros(len(published.matrix))
            said = said_of(gains, self.loss())
            signature = self.identity.sign(said.statement(self.session.hash, shown))
            self._said, self._shown = said._replace(signature=signature), shown
        if shown != self._shown:
            raise ProtocolError("asked for an opinion on other updates than before")
        return [list(self._said.gains), self._said.loss, self._said.signature]

    def check(self, entry: Round, data: bytes) -> Checked:
        """Return what this site may sign, if the published bytes lead to this entry."""
        published = self._read(data, True)
        if published.said.get(self.seat) not in (None, self._said):
            raise ProtocolError("the published opinions name another one than this site gave")
        if entry.survivors != published.survivors or entry.commitments or entry.consistency or entry.draw:
            raise MalformedMessage("the entry does not name those whom the published updates lead to")
        attempt = self._same_attempt()
        ballot = round_ballot(self.run, entry, attempt, published.subject, published.row)
        back = published.back(self.session.round, self.session.base, self.layers)
        return Checked(published.mean[: self.session.length], back.prior if back is not None else None, ballot, attempt)
