"""What a masked sum costs on a drawn graph, counted along `_fleet_party` and `_fleet_coordinator`.

A site draws k holders, holds on average k others' shares, and has that many fewer neighbours than 2·k as both happen to
be the same: the counts are means over the draw.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache

import numpy as np

from commonprior.session import Session
from commonprior.sums import CONSISTENCY
from commonprior.sums._agreed_cost import CLOSING, asking
from commonprior.sums._draw import CONTRIBUTION_BYTES
from commonprior.sums._fleet_messages import write_seats
from commonprior.sums._fleet_packets import (
    PACKET_BYTES,
    VOUCH_BYTES,
    Line,
    commit_words,
    open_shares,
    seal_shares,
    split_packet,
    vouch,
)
from commonprior.sums._fleet_terms import Terms
from commonprior.sums._graph import PLACE_BYTES, Graph, draw_holders
from commonprior.sums._messages import HASH_BYTES, KEY_BYTES, SIGNATURE_BYTES
from commonprior.sums._operations import (
    ADDED,
    AGREEMENT,
    HASH,
    HASHED_BYTES,
    ITEMS_MADE,
    KEY_PAIR,
    SIGNATURE,
    STREAM,
    STREAM_BYTES,
    VERIFICATION,
    WORDS,
    by_seat,
    held,
    listed,
    made,
    message,
    read,
    stage,
)
from commonprior.sums._packets import Shares
from commonprior.sums._shamir import SHARE_BYTES
from commonprior.sums._shamir_cost import JOIN_STEP, SHARE_STEP, WEIGHT_STEP
from commonprior.work import Operation, Phase, Role, Work, together

_MANY = 1000
_SHARES = Shares(bytes(SHARE_BYTES), bytes(SHARE_BYTES))
_LINE = Line(bytes(32), bytes(32))


def _packing() -> Callable[[], object]:
    session = stage()[1]
    return lambda: seal_shares(session, _LINE, 0, 1, _SHARES)


def _unpacking() -> Callable[[], object]:
    session = stage()[1]
    packet = split_packet(seal_shares(session, _LINE, 0, 1, _SHARES))
    return lambda: open_shares(session, _LINE, 0, 1, packet)


def _vouching() -> Callable[[], object]:
    return lambda: vouch(_LINE, bytes(32))


def _committing() -> Callable[[], object]:
    words = {seat: bytes(HASH_BYTES) for seat in range(_MANY)}
    return lambda: commit_words(bytes(32), words)


COMMITTED = Operation("masked vector committed to, by its hash", _committing, _MANY)
PACKED = Operation("packet between neighbours sealed", _packing)
UNPACKED = Operation("packet between neighbours opened", _unpacking)
VOUCHED = Operation("word to a neighbour", _vouching)


@cache
def _drawing(n: int, k: int) -> Operation:
    """Return the operation of drawing one site's holders."""

    def prepare() -> Callable[[], object]:
        seats = tuple(range(n))
        return lambda: draw_holders(bytes(32), seats, 0, os.urandom(32), k)

    return Operation(f"{k} of {n} holders drawn", prepare)


@cache
def _looking(n: int, k: int) -> Operation:
    """Return the operation of finding the survivor that keeps the fewest holders."""

    def prepare() -> Callable[[], object]:
        holders = np.random.default_rng(0).random((n, n)) < k / n
        graph, everyone = Graph(tuple(range(n)), holders, b""), tuple(range(n))
        return lambda: graph.weakest(everyone)

    return Operation(f"fewest holders of {n} sites found", prepare)


def fleet_work(session: Session, terms: Terms) -> Work:
    """Return the work of an attempt with everyone."""
    n, d, k, t = len(session.roster), session.length, terms.holders, terms.threshold
    m, vector = k + k * (1 - k / (n - 1)), d * session.encoding.width
    drawing, looking, bits = _drawing(n, k), _looking(n, k), write_seats((), n)

    ask = message("keys", None)
    keys = message("keys", {
        "mask": bytes(KEY_BYTES), "channel": bytes(KEY_BYTES), "commitment": bytes(HASH_BYTES),
        "draw": bytes(HASH_BYTES), "signature": bytes(SIGNATURE_BYTES)})  # fmt: skip
    roll = message("shares", {
        "seats": bits, "places": held(n * PLACE_BYTES), "signatures": held(n * SIGNATURE_BYTES)})  # fmt: skip
    dealing = message("shares", {"contribution": bytes(CONTRIBUTION_BYTES), "packets": held(k * PACKET_BYTES)})
    delivery = message("masked", {
        "dealers": bits, "contributions": held(n * CONTRIBUTION_BYTES), "keys": held(m * (KEY_BYTES + HASH_BYTES)),
        "packets": held(k * PACKET_BYTES)})  # fmt: skip
    masked = message("masked", {"words": held(vector), "vouches": held(m * VOUCH_BYTES)})
    proposal = message(CONSISTENCY, {
        "survivors": bits, "hashes": held(n * HASH_BYTES), "vouches": held(m * VOUCH_BYTES)})  # fmt: skip
    signed = message(CONSISTENCY, {"signature": bytes(SIGNATURE_BYTES)})
    shown = message("unmask", {"signers": bits, "signatures": held(session.threshold * SIGNATURE_BYTES)})
    opening = message("unmask", {"seeds": by_seat(k, n, SHARE_BYTES), "keys": listed(0, 0)}, k)

    announce = together(read(1, ask), {KEY_PAIR: 2, HASH: 4, SIGNATURE: 1}, made(1, keys))
    deal = together(
        read(1, roll), {HASH: 4 + k, drawing: 1, VERIFICATION: k, AGREEMENT: k, SHARE_STEP: 2 * t * k, PACKED: k},
        made(1, dealing),
    )  # fmt: skip
    hide = together(
        read(1, delivery), {HASH: 2 * m + 1, AGREEMENT: 2 * m - k, STREAM: m + 1, UNPACKED: k},
        {WORDS: d, STREAM_BYTES: (m + 1) * vector, HASHED_BYTES: vector, VOUCHED: m}, made(1, masked),
    )  # fmt: skip
    agree = together(
        read(1, proposal), {COMMITTED: n, ITEMS_MADE: n, HASH: 1, VOUCHED: m, SIGNATURE: 1}, made(1, signed)
    )  # fmt: skip
    release = together(read(1, shown), {VERIFICATION: terms.spot}, made(1, opening))
    unmasking = {
        HASH: n * k + n, WEIGHT_STEP: n * t * t, JOIN_STEP: n * t, ADDED: n * d, STREAM: n, STREAM_BYTES: n * vector,
        WORDS: d,
    }  # fmt: skip
    delivering = {HASH: n, drawing: n, looking: 1}
    proposing = {HASHED_BYTES: n * vector, COMMITTED: n, ITEMS_MADE: n, HASH: 1, looking: 1}
    return Work((
        Phase("start", (), asking(n, ask)),
        Phase("keys", (Role(n, announce, keys.size, ask.size),),
              together(read(n, keys), {HASH: 3 * n, VERIFICATION: n}, asking(n, roll))),
        Phase("shares", (Role(n, deal, dealing.size, roll.size),),
              together(read(n, dealing), delivering, asking(n, delivery))),
        Phase("masked", (Role(n, hide, masked.size, delivery.size),),
              together(read(n, masked), proposing, asking(n, proposal)), {drawing: n}),
        Phase(CONSISTENCY, (Role(n, agree, signed.size, proposal.size),),
              together(read(n, signed), {VERIFICATION: n}, asking(n, shown))),
        Phase("unmask", (Role(n, release, opening.size, shown.size),),
              together(read(n, opening), unmasking, made(1, CLOSING))),
    ), "", False)  # fmt: skip
