"""What a masked sum costs on the complete graph, counted along `_masked_party` and `_masked_coordinator`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from commonprior.session import Session
from commonprior.sums import SecureSum
from commonprior.sums._agreed_cost import CLOSING, agreeing, asking, signatures
from commonprior.sums._fleet_cost import fleet_work
from commonprior.sums._fleet_terms import COMPLETE, terms_of
from commonprior.sums._messages import HASH_BYTES, KEY_BYTES
from commonprior.sums._operations import (
    ADDED,
    AGREEMENT,
    FRESH_BYTES,
    HASH,
    HASHED_BYTES,
    KEY_PAIR,
    SEAL,
    STREAM,
    STREAM_BYTES,
    UNSEAL,
    VERIFICATION,
    WORDS,
    by_seat,
    held,
    listed,
    made,
    message,
    read,
    seats,
)
from commonprior.sums._packets import SEALED_BYTES
from commonprior.sums._shamir import SHARE_BYTES
from commonprior.sums._shamir_cost import JOIN_STEP, SHARE_STEP, WEIGHT_STEP
from commonprior.work import Phase, Role, Work, together


class _Masked(Protocol):
    @property
    def neighbours(self) -> int: ...


def variants(cls: Callable[[int], SecureSum], session: Session) -> dict[str, SecureSum]:
    """Return the complete graph, and the sparsest that does where it is another."""
    n = len(session.roster)
    terms, complete = terms_of(session), cls(0 if n <= COMPLETE else n - 1)
    return {"masked, all": complete, f"masked, k={terms.holders}": cls(0)} if terms else {"masked": complete}


def work(kind: _Masked, session: Session) -> Work:
    """Return the work of an attempt with everyone. Raises `RecipeError` where the neighbours do not fit."""
    terms = terms_of(session, kind.neighbours)
    return complete_work(session) if terms is None else fleet_work(session, terms)


def complete_work(session: Session) -> Work:
    """Return the work on the complete graph."""
    n, d, k, t = len(session.roster), session.length, len(session.roster) - 1, session.threshold
    vector = d * session.encoding.width
    consistency, proposal = agreeing(session)

    ask = message("keys", None)
    keys = message("keys", {"mask": bytes(KEY_BYTES), "channel": bytes(KEY_BYTES), "commitment": bytes(HASH_BYTES)})
    relayed = message("shares", {"keys": listed(k + 1, held(keys.size))}, k + 1)
    packet = message("packet", {
        "sealed": bytes(SEALED_BYTES), "seed": bytes(HASH_BYTES), "key": bytes(HASH_BYTES)})  # fmt: skip
    packets = by_seat(k, n, packet.size)
    dealing = message("shares", {"packets": packets, "own": bytes(HASH_BYTES)}, k)
    dealt = message("masked", {"packets": packets}, k)
    masked = message("masked", {"peers": seats(k + 1, n), "words": held(vector)}, k + 1)
    shown = message("unmask", {"signatures": signatures(session)}, session.threshold)
    opening = message("unmask", {"seeds": by_seat(k + 1, n, SHARE_BYTES), "keys": listed(0, 0)}, k + 1)

    announce = together(read(1, ask), {KEY_PAIR: 2, HASH: 1}, made(1, keys))
    deal = together(
        read(1, relayed), read(k + 1, keys), {SHARE_STEP: 2 * t * (k + 1), SEAL: k, HASH: 2 * k + 2},
        made(k, packet), made(1, dealing),
    )  # fmt: skip
    hide = together(
        read(1, dealt), read(k, packet), {UNSEAL: k, HASH: 2 * k, AGREEMENT: k, WORDS: d},
        {STREAM: k + 1, STREAM_BYTES: (k + 1) * vector, HASHED_BYTES: vector, FRESH_BYTES: 3 * vector}, made(1, masked),
    )  # fmt: skip
    release = together(read(1, shown), {VERIFICATION: session.threshold}, made(1, opening))
    unmasking = {
        HASH: n * (k + 1) + n, WEIGHT_STEP: t * t, JOIN_STEP: n * t, ADDED: n * d, STREAM: n, STREAM_BYTES: n * vector,
        WORDS: d,
    }  # fmt: skip
    return Work((
        Phase("start", (), asking(n, ask)),
        Phase("keys", (Role(n, announce, keys.size, ask.size),), together(read(n, keys), asking(n, relayed))),
        Phase("shares", (Role(n, deal, dealing.size, relayed.size),),
              together(read(n, dealing), read(n * k, packet), asking(n, dealt))),
        Phase("masked", (Role(n, hide, masked.size, dealt.size),),
              together(read(n, masked), {HASHED_BYTES: n * vector, HASH: 1}, asking(n, proposal))),
        consistency._replace(coordinator=together(consistency.coordinator, asking(n, shown))),
        Phase("unmask", (Role(n, release, opening.size, shown.size),),
              together(read(n, opening), unmasking, made(1, CLOSING))),
    ), "", False)  # fmt: skip
