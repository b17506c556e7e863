"""What the consistency round costs, which every sum has, and a coordinator's requests."""

from __future__ import annotations

from commonprior.session import Session
from commonprior.sums import CONSISTENCY
from commonprior.sums._messages import HASH_BYTES, SIGNATURE_BYTES
from commonprior.sums._operations import (
    HASH,
    SIGNATURE,
    VERIFICATION,
    Message,
    by_seat,
    held,
    listed,
    made,
    message,
    read,
    seats,
)
from commonprior.work import Amounts, Phase, Role, together

CLOSING = message("close", {})


def asking(count: int, request: Message) -> Amounts:
    """Return what the coordinator does to close a phase: one record of it, and a request to each seat."""
    return together(made(1, CLOSING), made(count, request))


def agreeing(session: Session) -> tuple[Phase, Message]:
    """Return the consistency phase of everyone, and its request, which the phase before it makes."""
    n = len(session.roster)
    request = message(CONSISTENCY, {"survivors": seats(n, n), "commitments": listed(n, held(HASH_BYTES))}, 2 * n)
    answer = message(CONSISTENCY, {"signature": bytes(SIGNATURE_BYTES)})
    party = together(read(1, request), {HASH: 1, SIGNATURE: 1}, made(1, answer))
    coordinator = together(read(n, answer), {VERIFICATION: n})
    return Phase(CONSISTENCY, (Role(n, party, answer.size, request.size),), coordinator), request


def signatures(session: Session) -> float:
    """Return the bytes of the threshold's signatures."""
    return by_seat(session.threshold, len(session.roster), SIGNATURE_BYTES)
