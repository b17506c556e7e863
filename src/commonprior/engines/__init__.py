"""Who carries the frames between coordinator and sites, and keeps the deadlines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from commonprior.session import Seat, Session

Outbox = Mapping[Seat, Sequence[bytes]]


class Engine(Protocol):
    """A carrier. It may lose, delay, repeat and reorder frames; it can never forge one."""

    def exchange(self, session: Session, phase: str, outbox: Outbox, deadline: float) -> Outbox:
        """Deliver frames to seats; return what they answered within `deadline` seconds."""
        ...
