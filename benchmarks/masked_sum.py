"""How much a masked sum costs, beside what the machine's AES unit allows and beside Flower's SecAgg+.

    python benchmarks/masked_sum.py [--repeats 9] [--json FILE]

Medians of `--repeats` runs in this one process, one thread. Flower is timed where `flwr` is importable.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _rows import Row, print_rows, write_rows
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from rich.console import Console

from commonprior.frame import open_frame
from commonprior.identity import Identity
from commonprior.session import COORDINATOR, Encoding, Member, Seat, Session
from commonprior.sums import Aggregate, SecureSum
from commonprior.sums._masks import MaskStream, add_streams, to_words
from commonprior.sums.masked import Masked
from commonprior.sums.plain import Plain

OURS, PLAIN, MACHINE, FLOWER = "commonprior masked", "commonprior plain", "this machine", "flwr SecAgg+"
N, D = 10, 100_000


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


def make_cohort(n: int, d: int, width: int = 4) -> Cohort:
    identities, coordinator = [Identity.generate() for _ in range(n)], Identity.generate()
    limit = (2 ** (8 * width - 1) - 1) // n
    roster = tuple(Member(f"site {seat}", identity.key) for seat, identity in enumerate(identities))
    session = Session(
        b"benchmark", 1, 0, bytes(32), bytes(32), bytes(32), coordinator.key, roster, n // 3, 0, d,
        Encoding(n, 0, limit, width),
    )  # fmt: skip
    rng = np.random.default_rng(0)
    return Cohort(identities, coordinator, session, [rng.integers(-limit, limit, d) for _ in range(n)])


@dataclass(frozen=True)
class Held:
    """A finished sum: how it ended, the bytes of every frame by phase and seat, and the slowest view of one party."""

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


def whole_sums(repeats: int) -> list[Row]:
    cohort = make_cohort(N, D)
    masked = median(lambda: hold_sum(Masked(), cohort), repeats)
    busy = median(lambda: hold_sum(Masked(), cohort), repeats, time.process_time)
    plain = median(lambda: hold_sum(Plain(), cohort), repeats)
    phase = statistics.median(hold_sum(Masked(), cohort).seconds["masked"] for _ in range(repeats)) * 1e3
    case = f"n={N}, d={D:,}: whole sum in one process, keys and signatures included"
    return [
        at_most(0.15, OURS, case, masked, "s"),
        Row(OURS, f"n={N}, d={D:,}: of it, processor time (differs on a busy machine)", busy, "s"),
        Row(PLAIN, f"n={N}, d={D:,}: whole sum in one process", plain, "s"),
        Row(OURS, f"n={N}, d={D:,}: one party's masked phase: packets, key agreement, masks, signature", phase, "ms"),
    ]


def aes_rate(repeats: int, size: int = 8_000_000) -> float:
    """Return what AES-256-CTR gives here at best, bytes a second, written into one buffer."""
    zeros, out = memoryview(bytes(size)), bytearray(size + 16)

    def expand() -> None:
        Cipher(algorithms.AES256(bytes(32)), modes.CTR(bytes(16))).encryptor().update_into(zeros, out)

    return size / median(expand, repeats)


def masks(repeats: int) -> list[Row]:
    """Time a party's masks alone: its integers into words, its own stream and one a peer added to them."""
    rate = aes_rate(repeats)
    rows = [Row(MACHINE, "AES-256-CTR into one buffer of 8 MB", rate / 1e9, "GB/s")]
    for n, d, bound in ((N, D, 1.0), (N, 10_000_000, None)):
        encoding = Encoding(n, 0, 2**31 // n - 1, 4)
        integers = np.random.default_rng(0).integers(-encoding.limit, encoding.limit, d)
        streams = [MaskStream(os.urandom(32), 1 if peer % 2 else -1) for peer in range(n)]
        spent = median(lambda i=integers, e=encoding, s=streams: add_streams(to_words(i, e), s), repeats)
        limit, case = 4 * d * n / rate, f"n={n}, d={d:,}: masks of one party's vector, keys not counted"
        rows += [
            at_most(bound, OURS, case, spent * 1e3, "ms") if bound else Row(OURS, case, spent * 1e3, "ms"),
            Row(MACHINE, f"n={n}, d={d:,}: limit 4·d·(k+1) bytes at that rate, k={n - 1} peers", limit * 1e3, "ms"),
            Row(OURS, f"n={n}, d={d:,}: share of the limit reached", 100 * limit / spent, "%"),
        ]
    return rows


def traffic() -> list[Row]:
    rows = []
    for width in (4, 2):
        cohort = make_cohort(N, D, width)
        held = hold_sum(Masked(), cohort)
        body: Any = open_frame(held.up["masked"][0], cohort.session, COORDINATOR).body
        up = sum(len(answers[0]) for answers in held.up.values() if answers)
        down = sum(requests[0] for requests in held.down.values() if requests)
        case = f"n={N}, d={D:,}, {width}-byte words:"
        rows += [
            at_most(width, OURS, f"{case} vector up", len(body["words"]) / D, "bytes/parameter"),
            Row(OURS, f"{case} everything up, five phases, signed", up / D, "bytes/parameter"),
            Row(OURS, f"{case} everything up but the vector", (up - len(body["words"])) / 1e3, "kB"),
            Row(OURS, f"{case} everything down", down / 1e3, "kB"),
        ]
    return rows


def large_cohort() -> list[Row]:
    cohort, leaving = make_cohort(100, D), dict.fromkeys(range(0, 99, 3), "masked")
    start = time.perf_counter()
    held = hold_sum(Masked(), cohort, leaving)
    spent = time.perf_counter() - start
    right = len(held.done.survivors) if is_right(cohort, held.done) else 0
    case = f"n=100, d={D:,}: whole sum in one process, 33 sites drop out before their input (one run)"
    return [
        Row(OURS, case, spent, "s"),
        Row(OURS, f"n=100, d={D:,}: sites whose sum is exact", right, "sites", ">= 67"),
        Row(OURS, f"n=100, d={D:,}: of it, one party's work", sum(held.seconds.values()), "s"),
    ]


def flower(repeats: int) -> list[Row]:
    """Time the client's four functions of Flower's SecAgg+ mod; its server's work and transport are left out."""
    os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
    os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
    if importlib.util.find_spec("flwr") is None:
        return [Row(FLOWER, "SecAgg+ client functions", None, "skipped: not installed")]
    version = importlib.import_module("importlib.metadata").version("flwr")
    collecting: list[float] = []
    sizes: list[int] = []

    def clients() -> None:
        seconds, size = hold_flower()
        collecting.append(seconds)
        sizes.append(size)

    whole = median(clients, repeats)
    who, case = f"{FLOWER} {version}", f"n={N}, d={D:,}:"
    return [
        Row(who, f"{case} work of the {N} clients alone, no server, no signatures", whole, "s"),
        Row(who, f"{case} one client's masked phase", statistics.median(collecting[1:]) * 1e3, "ms"),
        Row(who, f"{case} vector up", sizes[0] / D, "bytes/parameter"),
    ]


def hold_flower() -> tuple[float, int]:
    """Take ten clients through SecAgg+'s stages; return one client's seconds in stage 2 and its vector's bytes."""
    mod = importlib.import_module("flwr.client.mod.secure_aggregation.secaggplus_mod")
    update = importlib.import_module("flwr.common").ndarrays_to_parameters([np.zeros(D, np.float32)])
    key, nodes = mod.Key, range(1, N + 1)
    setup = {
        key.SAMPLE_NUMBER: N, key.SHARE_NUMBER: N, key.THRESHOLD: N - N // 3, key.CLIPPING_RANGE: 8.0,
        key.TARGET_RANGE: 1 << 22, key.MOD_RANGE: 1 << 32, key.MAX_WEIGHT: 1000.0,
    }  # fmt: skip
    states = {node: mod.SecAggPlusState() for node in nodes}
    keys: dict[str, list[bytes]] = {}
    for node, state in states.items():
        state.nid = node
        answer = mod._setup(state, setup)
        keys[str(node)] = [answer[key.PUBLIC_KEY_1], answer[key.PUBLIC_KEY_2]]
    sealed: dict[int, dict[int, bytes]] = {node: {} for node in nodes}
    for node, state in states.items():
        answer = mod._share_keys(state, keys)
        for receiver, ciphertext in zip(answer[key.DESTINATION_LIST], answer[key.CIPHERTEXT_LIST]):
            sealed[receiver][node] = ciphertext
    start, size = time.perf_counter(), 0
    for node, state in states.items():
        relayed = {key.CIPHERTEXT_LIST: list(sealed[node].values()), key.SOURCE_LIST: list(sealed[node])}
        answer = mod._collect_masked_vectors(state, relayed, 10, update)
        size = sum(len(array) for array in answer[key.MASKED_PARAMETERS])
    collecting = (time.perf_counter() - start) / N
    for state in states.values():
        mod._unmask(state, {key.ACTIVE_NODE_ID_LIST: list(nodes), key.DEAD_NODE_ID_LIST: []})
    return collecting, size


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9, help="runs of which the median is taken")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    arguments = parser.parse_args()
    rows = [*whole_sums(arguments.repeats), *masks(arguments.repeats), *traffic(), *large_cohort()]
    rows += flower(arguments.repeats)
    print_rows(Console(width=160), "masked sum", rows)
    write_rows(arguments.json, rows)


if __name__ == "__main__":
    main()
