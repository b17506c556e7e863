"""What a committee sum costs, counted along `_committee_party` and `_committee_coordinator`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from commonprior.session import Session
from commonprior.sums._agreed_cost import CLOSING, agreeing, asking, signatures
from commonprior.sums._committee_check import ROWS
from commonprior.sums._committee_field import WORD, add_up, combine, expand, extrapolate, inner, lagrange, to_field
from commonprior.sums._committee_messages import HASH_BYTES, KEY_BYTES
from commonprior.sums._committee_shares import OVERHEAD, SALT_BYTES, SEED_BYTES
from commonprior.sums._committee_terms import Terms, terms_of
from commonprior.sums._operations import (
    FRESH_BYTES,
    HASH,
    HASHED_BYTES,
    KEY_PAIR,
    SEAL,
    SEALED_BYTES,
    STREAM,
    UNSEAL,
    UNSEALED_BYTES,
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
from commonprior.work import Amounts, Operation, Phase, Role, Work, together

_LONG = 1 << 16
_ROWS = 6
_BLOCK = 1 << 14
"""How many numbers one block of a stream expands to."""


def _rows(count: int) -> list[np.ndarray]:
    return [expand(os.urandom(32), _LONG) for _ in range(count)]


def _expanding() -> Callable[[], object]:
    key = os.urandom(32)
    return lambda: expand(key, _LONG)


def _entering() -> Callable[[], object]:
    integers, out = np.arange(-_LONG // 2, _LONG // 2), np.empty(_LONG, WORD)
    return lambda: to_field(integers, _LONG, out)


def _extrapolating() -> Callable[[], object]:
    values, out = _rows(_ROWS), _rows(_ROWS)
    return lambda: extrapolate(values, out)


def _combining() -> Callable[[], object]:
    rows, weights = _rows(_ROWS), [lagrange(range(1, _ROWS + 1), at) for at in (0, 40, 60, 80)]
    return lambda: combine(rows, weights)


def _adding() -> Callable[[], object]:
    rows = _rows(_ROWS)
    return lambda: add_up(rows)


def _checking() -> Callable[[], object]:
    rows, coefficients = _rows(_ROWS), expand(os.urandom(32), ROWS * _LONG).reshape(ROWS, -1)
    return lambda: inner(rows, coefficients)


def _weighing() -> Callable[[], object]:
    return lambda: lagrange(range(16), 20)


EXPANDED = Operation("element expanded from a seed", _expanding, _LONG)
ENTERED = Operation("number into the field", _entering, _LONG)
EXTRAPOLATED = Operation("step of backward differences", _extrapolating, _LONG * (_ROWS * (_ROWS - 1) // 2 + _ROWS * 5))
MULTIPLIED = Operation("field multiply-add, 2^31 - 1", _combining, _LONG * _ROWS * 4)
SUMMED = Operation("field addition, 2^31 - 1", _adding, _LONG * _ROWS)
CHECKED = Operation("element in the degree check", _checking, _LONG * (_ROWS + ROWS))
WEIGHED = Operation("step of Lagrange's weights, 2^31 - 1", _weighing, 16 * 16)


class _Kind(NamedTuple):
    """Sites that do alike: how many, how many packets each seals, how many of those in full, what it is itself."""

    seats: int
    packets: int
    full: int
    aggregates: bool
    by_seed: bool


class _Frames(NamedTuple):
    """The frames that do not depend on who sends them."""

    keys: Message
    relayed: Message
    header: Message
    statement: Message
    stated: Message
    verdict: Message
    shown: Message
    sums: Message
    silent: Message


class _Committee(Protocol):
    @property
    def aggregators(self) -> int: ...

    @property
    def threshold(self) -> int: ...


def work(kind: _Committee, session: Session) -> Work:
    """Return the work of an attempt with everyone: aggregators that are dealt seeds, those that are dealt full shares,
    and sites that only deal. Raises `RecipeError` where no committee fits.
    """
    terms = terms_of(session, kind.aggregators, kind.threshold)
    n, m, t = len(session.roster), len(terms.seats), terms.degree
    frames, ask = _frames(session, terms), message("keys", None)
    consistency, proposal = agreeing(session)
    announce = together(read(1, ask), {KEY_PAIR: 1}, made(1, frames.keys))
    kinds = [_Kind(t, m - 1, m - t, True, True), _Kind(m - t, m - 1, m - t - 1, True, False)]
    if n > m:
        kinds.append(_Kind(n - m, m, m - t, False, False))
    dealings, dealt, checking, relayed = [], [], [], []
    for part in kinds:
        dealing, request = _dealing(part, session, frames), _dealt(part, session, frames)
        dealings.append(Role(part.seats, _deal(session, terms, part, frames, dealing), dealing.size,
                             frames.relayed.size))  # fmt: skip
        dealt.append(read(part.seats, dealing))
        checking.append(Role(part.seats, _check(session, terms, part, frames, request), frames.statement.size,
                             request.size))  # fmt: skip
        relayed.append(made(part.seats, request))
    return Work((
        Phase("start", (), asking(n, ask)),
        Phase("keys", (Role(n, announce, frames.keys.size, ask.size),),
              together(read(n, frames.keys), asking(n, frames.relayed))),
        Phase("shares", tuple(dealings),
              together(*dealt, read(n, frames.header), {HASH: n + 1}, made(1, CLOSING), *relayed)),
        Phase("check", tuple(checking), together(read(n, frames.statement), asking(n, frames.stated))),
        Phase("verify", tuple(_verify(session, terms, part, frames) for part in kinds),
              together(read(n, frames.verdict), {HASH: n + 1}, asking(n, proposal))),
        consistency._replace(coordinator=together(consistency.coordinator, asking(n, frames.shown))),
        Phase("sums", tuple(_sum(session, part, frames) for part in kinds),
              together(read(m, frames.sums), read(n - m, frames.silent), made(1, CLOSING), _decode(session, terms))),
    ), "", True)  # fmt: skip


def _frames(session: Session, terms: Terms) -> _Frames:
    n, m, t = len(session.roster), len(terms.seats), session.threshold
    keys = message("keys", {"channel": bytes(KEY_BYTES)})
    statement = message("check", {
        "challenge": bytes(HASH_BYTES), "values": held(WORD.itemsize * ROWS * (terms.degree + 1))})  # fmt: skip
    return _Frames(
        keys,
        message("shares", {"keys": listed(n, held(keys.size))}, n),
        message("header", {"holders": seats(m, n), "commitments": listed(m, held(HASH_BYTES))}, 2 * m),
        statement,
        message("verify", {"statements": listed(n, held(statement.size))}, n),
        message("verify", {"complaints": listed(0, 0)}),
        message("sums", {"signatures": signatures(session)}, t),
        message("sums", {"sum": held(WORD.itemsize * session.length)}),
        message("sums", {"sum": b""}),
    )


def _packets(session: Session, count: int, full: int) -> float:
    """Return the bytes of a list of so many packets, `full` of them not seeds."""
    n, long = len(session.roster), WORD.itemsize * (session.length + ROWS)
    return by_seat(count, n, OVERHEAD + SEED_BYTES) + full * (held(OVERHEAD + long) - held(OVERHEAD + SEED_BYTES))


def _inside(session: Session, count: int, full: int) -> int:
    """Return the bytes inside so many packets' seals."""
    long = WORD.itemsize * (session.length + ROWS)
    return count * SALT_BYTES + full * long + (count - full) * SEED_BYTES


def _drawn(count: int) -> int:
    """Return how many numbers are drawn for so many: whole blocks."""
    return -(-count // _BLOCK) * _BLOCK


def _dealing(kind: _Kind, session: Session, frames: _Frames) -> Message:
    packets = _packets(session, kind.packets, kind.full)
    return message("shares", {"header": held(frames.header.size), "packets": packets}, kind.packets)


def _dealt(kind: _Kind, session: Session, frames: _Frames) -> Message:
    n = len(session.roster)
    received = n - 1 if kind.aggregates else 0
    packets = _packets(session, received, 0 if kind.by_seed else received)
    return message("check", {"headers": listed(n, held(frames.header.size)), "packets": packets}, n + received)


def _deal(session: Session, terms: Terms, kind: _Kind, frames: _Frames, answer: Message) -> Amounts:
    n, m, t, d = len(session.roster), len(terms.seats), terms.degree, session.length + ROWS
    steps = t * (t + 1) // 2 + (m - t) * t
    return together(
        read(1, frames.relayed), read(n, frames.keys), {FRESH_BYTES: (t + 2) * WORD.itemsize * d + 2 * answer.size},
        {ENTERED: d, EXPANDED: t * _drawn(d) + _drawn(ROWS), STREAM: t, EXTRAPOLATED: steps * d},
        {HASH: m + 1, HASHED_BYTES: (m - t) * WORD.itemsize * d, SEAL: kind.packets,
         SEALED_BYTES: _inside(session, kind.packets, kind.full)},
        made(1, frames.header), made(1, answer),
    )  # fmt: skip


def _check(session: Session, terms: Terms, kind: _Kind, frames: _Frames, request: Message) -> Amounts:
    n, t, d = len(session.roster), terms.degree, session.length
    own = {HASH: 2 * n + 1, STREAM: 1, EXPANDED: _drawn(ROWS * d), CHECKED: (t + 1 + ROWS) * d}
    always = together(read(1, request), read(n, frames.header), own, made(1, frames.statement))
    if not kind.aggregates:
        return always
    inside = _inside(session, n - 1, 0 if kind.by_seed else n - 1)
    opening = {
        UNSEAL: n - 1, UNSEALED_BYTES: inside, FRESH_BYTES: 3 * inside, HASH: n, HASHED_BYTES: inside * n / (n - 1),
        CHECKED: (n + ROWS) * d,
    }  # fmt: skip
    return together(always, opening, {EXPANDED: n * _drawn(d + ROWS), STREAM: n} if kind.by_seed else {})


def _verify(session: Session, terms: Terms, kind: _Kind, frames: _Frames) -> Role:
    n, t = len(session.roster), terms.degree
    weighed = n * (t + 1) * (t + 1 + ROWS) if kind.aggregates else 0
    does = together(read(1, frames.stated), read(n, frames.statement), {WEIGHED: weighed}, made(1, frames.verdict))
    return Role(kind.seats, does, frames.verdict.size, frames.stated.size)


def _sum(session: Session, kind: _Kind, frames: _Frames) -> Role:
    answer = frames.sums if kind.aggregates else frames.silent
    summed = len(session.roster) * session.length if kind.aggregates else 0
    does = together(read(1, frames.shown), {VERIFICATION: session.threshold, SUMMED: summed}, made(1, answer))
    return Role(kind.seats, does, answer.size, frames.shown.size)


def _decode(session: Session, terms: Terms) -> Amounts:
    """Return what it takes to check that every answer lies on one polynomial, and to open it."""
    m, t, d = len(terms.seats), terms.degree, session.length
    return {MULTIPLIED: (t + 1) * (m - t) * d, WEIGHED: (t + 1) * (t + 1) * (m - t), ENTERED: 2 * d}
