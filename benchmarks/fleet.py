"""How much a masked sum costs for a fleet, where neighbours are drawn: time, memory, and bytes a site.

    python benchmarks/fleet.py [--sites 1000] [--numbers 100000] [--json FILE]

One run in this one process, one thread: every site's machine and the coordinator's. A tenth of the sites drop out just
before their input, which costs most, and a tenth are assumed to collude. The vectors are windows of one random array,
so that memory is the protocol's own. `fleet(sites, numbers)` returns the rows.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from pathlib import Path

import numpy as np
from _rows import Row, print_rows, write_rows
from rich.console import Console

from commonprior.identity import Identity
from commonprior.session import COORDINATOR, Encoding, Member, Seat, Session
from commonprior.sums import Aggregate, Machine
from commonprior.sums._fleet_terms import terms_of
from commonprior.sums.masked import Masked

OURS = "commonprior masked"


def make_session(sites: int, numbers: int, identities: list[Identity], coordinator: Identity) -> Session:
    roster = tuple(Member(f"site {seat}", identity.key) for seat, identity in enumerate(identities))
    limit = (2**31 - 1) // sites
    return Session(
        b"benchmark", 1, 0, bytes(32), bytes(32), bytes(32), coordinator.key, roster, sites // 10, sites // 10, numbers,
        Encoding(sites, 0, limit, 4),
    )  # fmt: skip


def hold(
    parties: list[Machine], machine: Machine, gone: frozenset[Seat]
) -> tuple[Aggregate, dict[str, tuple[float, float, int, int]]]:
    """Hold a sum; return it, and by phase the seconds of all sites and of the coordinator, and the largest frames."""
    outbox: dict[Seat, bytes] = {}
    costs: dict[str, tuple[float, float, int, int]] = {}
    done = None
    for phase in Masked.phases:
        sites, up, start = 0.0, 0, time.perf_counter()
        down = max(map(len, outbox.values()), default=0)
        for seat, request in outbox.items():
            if seat in gone and Masked.phases.index(phase) >= Masked.phases.index("masked"):
                continue
            begun = time.perf_counter()
            ((_, answer),) = parties[seat].receive(COORDINATOR, request).send
            sites += time.perf_counter() - begun
            machine.receive(seat, answer)
            up = max(up, len(answer))
        step = machine.close(phase)
        outbox, done = dict(step.send), step.done
        costs[phase] = sites, time.perf_counter() - start - sites, up, down
    if not isinstance(done, Aggregate):
        raise SystemExit(f"the sum did not finish: {done}")
    return done, costs


def fleet(sites: int, numbers: int) -> list[Row]:
    identities, coordinator = [Identity.generate() for _ in range(sites)], Identity.generate()
    session, kind = make_session(sites, numbers, identities, coordinator), Masked()
    limit = session.encoding.limit
    shared = np.random.default_rng(0).integers(-limit, limit, numbers + sites)
    vectors = [shared[seat : seat + numbers] for seat in range(sites)]
    gone = frozenset(range(0, sites, 10))
    start, busy = time.perf_counter(), time.process_time()
    parties = [
        kind.party(session, seat, identities[seat], vector, os.urandom, lambda seats: None)
        for seat, vector in enumerate(vectors)
    ]
    done, costs = hold(parties, kind.coordinator(session, coordinator), gone)
    spent, busy = time.perf_counter() - start, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    right = float(np.array_equal(done.value, sum(vectors[seat] for seat in done.survivors)))
    case, terms = f"n={sites:,}, d={numbers:,}, a tenth drops out:", terms_of(session)
    large = sites == 1000 and numbers == 100_000
    rows = [
        Row(OURS, f"{case} whole sum in one process and thread", spent, "s", "<= 60" if large else None),
        Row(OURS, f"{case} of it, processor time (differs on a busy machine)", busy, "s"),
        Row(OURS, f"{case} peak memory of the process", peak, "GB", "<= 2" if large else None),
        Row(OURS, f"{case} the sum is exact", right, "1 = yes", ">= 1"),
        Row(OURS, f"{case} holders that a site draws", terms.holders if terms else sites - 1, "sites"),
        Row(OURS, f"{case} one site's work", sum(c[0] for c in costs.values()) / sites * 1e3, "ms"),
        Row(OURS, f"{case} the coordinator's work", sum(c[1] for c in costs.values()), "s"),
    ]
    for phase, (each, own, up, down) in costs.items():
        rows += [
            Row(OURS, f"{case} {phase}, all sites", each, "s"),
            Row(OURS, f"{case} {phase}, coordinator", own, "s"),
            Row(OURS, f"{case} {phase}, largest answer", up / 1e3, "kB"),
            Row(OURS, f"{case} {phase}, largest request", down / 1e3, "kB"),
        ]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sites", type=int, default=1000)
    parser.add_argument("--numbers", type=int, default=100_000, help="numbers a vector holds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    arguments = parser.parse_args()
    rows = fleet(arguments.sites, arguments.numbers)
    print_rows(Console(width=160), "fleet", rows)
    write_rows(arguments.json, rows)


if __name__ == "__main__":
    main()
