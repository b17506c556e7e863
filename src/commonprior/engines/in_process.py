"""Every site in this process: for simulations, tests and the demonstration. Frames still travel as bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from commonprior.engines import Outbox
from commonprior.session import Seat, Session

Endpoint = Callable[[bytes], Sequence[bytes]]
"""A site: one frame in, frames out."""


@dataclass(frozen=True)
class InProcess:
    """An engine that calls the sites one after the other; its deadline never passes."""

    endpoints: Mapping[Seat, Endpoint]

    def exchange(self, session: Session, phase: str, outbox: Outbox, deadline: float) -> Outbox:
        """Deliver frames in seat order and return the answers."""
        return {
            seat: [answer for frame in frames for answer in self.endpoints[seat](frame)]
            for seat, frames in sorted(outbox.items())
        }
