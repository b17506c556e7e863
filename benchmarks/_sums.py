"""Whole sums in one process, for benchmarks: a cohort, and every machine's side of one attempt."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from _rows import Row

from commonprior.identity import Identity
from commonprior.session import COORDINATOR, Encoding, Member, Seat, Session
from commonprior.sums import Aggregate, SecureSum


def at_most(bound: float, who: str, case: str, value: float, unit: str) -> Row:
    return Row(who, case, value, unit, f"<= {bound:g}")


def median(function: Callable[[], object], repeats: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the median of so many runs in seconds by `clock`, after one that is not counted."""
    function()
    seconds = []
    for _ in range(repeats):
        start = clock()
        function()
        seconds.append(clock() - start)
    return statistics.median(seconds)


@dataclass(frozen=True)
class Cohort:
    identities: list[Identity]
    coordinator: Identity
    session: Session
    vectors: list[np.ndarray]


def make_cohort(n: int, d: int, width: int = 4, dropouts: int | None = None, reach: int = 0) -> Cohort:
    """Return n sites with random vectors; `reach` bounds n · limit where the word alone does not."""
    identities, coordinator = [Identity.generate() for _ in range(n)], Identity.generate()
    limit = (reach or 2 ** (8 * width - 1) - 1) // n
    roster = tuple(Member(f"site {seat}", identity.key) for seat, identity in enumerate(identities))
    session = Session(
        b"benchmark", 1, 0, bytes(32), bytes(32), bytes(32), coordinator.key, roster,
        n // 3 if dropouts is None else dropouts, 0, d, Encoding(n, 0, limit, width),
    )  # fmt: skip
    rng = np.random.default_rng(0)
    return Cohort(identities, coordinator, session, [rng.integers(-limit, limit, d) for _ in range(n)])


@dataclass(frozen=True)
class Held:
    """A finished sum: how it ended, the bytes of every frame by phase and seat, and the mean seconds of one party."""

    done: Aggregate
    up: dict[str, dict[Seat, bytes]]
    down: dict[str, dict[Seat, int]]
    seconds: dict[str, float]


def hold_sum(kind: SecureSum, cohort: Cohort, leave: dict[Seat, str] | None = None) -> Held:
    """Hold a whole sum: machines made, keys drawn, frames signed, sent, checked, the sum opened."""
    session, gone = cohort.session, {s: kind.phases.index(p) for s, p in (leave or {}).items()}
    parties = [
        kind.party(session, seat, cohort.identities[seat], vector, os.urandom, lambda seats: None)
        for seat, vector in enumerate(cohort.vectors)
    ]
    machine, outbox, done = kind.coordinator(session, cohort.coordinator), {}, None
    up: dict[str, dict[Seat, bytes]] = {}
    down: dict[str, dict[Seat, int]] = {}
    seconds: dict[str, float] = {}
    for at, phase in enumerate(kind.phases):
        up[phase], down[phase] = {}, {seat: len(request) for seat, request in outbox.items()}
        for seat, request in outbox.items():
            if gone.get(seat, len(kind.phases)) <= at:
                continue
            start = time.perf_counter()
            ((_, answer),) = parties[seat].receive(COORDINATOR, request).send
            seconds[phase] = seconds.get(phase, 0.0) + (time.perf_counter() - start) / len(outbox)
            machine.receive(seat, answer)
            up[phase][seat] = answer
        step = machine.close(phase)
        outbox, done = dict(step.send), step.done
    if not isinstance(done, Aggregate):
        raise SystemExit(f"the sum did not finish: {done}")
    return Held(done, up, down, seconds)


def is_right(cohort: Cohort, done: Aggregate) -> bool:
    return bool(np.array_equal(done.value, sum(cohort.vectors[s] for s in done.survivors)))


def most_up(held: Held) -> int:
    """Return the bytes of the site that sends most in a whole sum."""
    return max(sum(len(answers.get(seat, b"")) for answers in held.up.values()) for seat in held.done.survivors)
