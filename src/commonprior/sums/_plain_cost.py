"""What a sum in the open costs, counted along `plain`."""

from __future__ import annotations

from commonprior.session import Session
from commonprior.sums._agreed_cost import CLOSING, agreeing, asking
from commonprior.sums._operations import (
    ADDED,
    HASH,
    HASHED_BYTES,
    WORDS,
    held,
    made,
    message,
    read,
)
from commonprior.work import Phase, Role, Work, together


def work(kind: object, session: Session) -> Work:
    """Return the work of an attempt with everyone."""
    n, d = len(session.roster), session.length
    vector = d * session.encoding.width
    ask, up = message("values", None), message("values", {"words": held(vector)})
    consistency, proposal = agreeing(session)
    party = together(read(1, ask), {WORDS: d, HASHED_BYTES: vector}, made(1, up))
    taking = together(read(n, up), {HASHED_BYTES: n * vector, HASH: 1}, asking(n, proposal))
    summing = together(consistency.coordinator, made(1, CLOSING), {ADDED: n * d})
    return Work((
        Phase("start", (), asking(n, ask)),
        Phase("values", (Role(n, party, up.size, ask.size),), taking),
        consistency._replace(coordinator=summing),
    ), "the coordinator", False)  # fmt: skip
