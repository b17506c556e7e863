"""What a sum under homomorphic encryption costs, counted along `_he_party` and `_he_coordinator`."""

from __future__ import annotations

from typing import NamedTuple

from commonprior.session import Session
from commonprior.sums._agreed_cost import CLOSING, agreeing, asking, signatures
from commonprior.sums._messages import HASH_BYTES
from commonprior.sums._operations import (
    FRESH_BYTES,
    HASH,
    HASHED_BYTES,
    VERIFICATION,
    held,
    listed,
    made,
    message,
    read,
)
from commonprior.work import Amounts, Phase, Role, Work, together


class Cryptography(NamedTuple):
    """What a cryptosystem does: to make a key, to check it, to seal a vector, to check one, to open a sum of n sealed
    vectors, and to check the opening; and the bytes of a key, of a sealed vector and of an opening.
    """

    generating: Amounts
    reading_key: Amounts
    sealing: Amounts
    reading: Amounts
    opening: Amounts
    checking: Amounts
    key: int
    sealed: int
    opened: int


def encrypted_work(session: Session, system: Cryptography, is_checked: bool) -> Work:
    """Return the work of an attempt with everyone, one of whom holds the key."""
    n = len(session.roster)
    consistency, proposal = agreeing(session)
    ask, key = message("key", None), message("key", {"key": held(system.key)})
    shown = message("committed", {"key": held(key.size)})
    early = message("committed", {"commitment": bytes(HASH_BYTES)})
    relayed = message("encrypted", {"commitments": listed(n, held(early.size))}, n)
    sealed = message("encrypted", {"seen": bytes(HASH_BYTES), "sealed": held(system.sealed)})
    everything = message(
        "open", {"signatures": signatures(session), "sealed": listed(n, held(sealed.size))}, n + session.threshold
    )
    opening = message("open", {"opening": held(system.opened)})

    making = together(read(1, ask), system.generating, made(1, key))
    sealing = together(
        read(1, shown), read(1, key), system.reading_key, system.sealing, {HASHED_BYTES: system.sealed, HASH: 1},
        made(1, early),
    )  # fmt: skip
    sending = together(
        read(1, relayed),
        read(n, early),
        {HASHED_BYTES: system.sealed, HASH: 2, FRESH_BYTES: 3 * system.sealed},
        made(1, sealed),
    )
    taking = together(
        read(n, sealed), *[system.reading] * n, {HASHED_BYTES: 2 * n * system.sealed, HASH: 2 * n + 1},
        {FRESH_BYTES: n * system.sealed}, asking(n, proposal),
    )  # fmt: skip
    opens = together(
        read(1, everything), read(n, sealed), {VERIFICATION: session.threshold, HASHED_BYTES: n * system.sealed},
        {HASH: n + 2, FRESH_BYTES: 3 * n * system.sealed}, *[system.reading] * n, system.opening, made(1, opening),
    )  # fmt: skip
    return Work((
        Phase("start", (), asking(1, ask)),
        Phase("key", (Role(1, making, key.size, ask.size),),
              together(read(1, key), system.reading_key, asking(n, shown))),
        Phase("committed", (Role(n, sealing, early.size, shown.size),), together(read(n, early), asking(n, relayed))),
        Phase("encrypted", (Role(n, sending, sealed.size, relayed.size),), taking),
        consistency._replace(coordinator=together(consistency.coordinator, asking(1, everything))),
        Phase("open", (Role(1, opens, opening.size, everything.size),),
              together(read(1, opening), system.checking, made(1, CLOSING))),
    ), "the key holder, one of the sites", is_checked)  # fmt: skip
