"""How much sums under homomorphic encryption and garbled comparisons cost, by step.

    python benchmarks/encryption.py [--repeats 5] [--json FILE]

Medians of processor time over `--repeats` runs in this one process. What is not installed is listed as skipped.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _rows import Row, print_rows, write_rows
from rich.console import Console

from commonprior.identity import Identity
from commonprior.session import Encoding, Member, Session

OURS = "commonprior"
SITES = 10


def median(function: Callable[[], object], repeats: int) -> float:
    """Return the median processor time of so many runs in seconds, after one that is not counted."""
    function()
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds)


def make_session(length: int) -> tuple[Session, list[np.ndarray]]:
    limit = (2**31 - 1) // SITES
    roster = tuple(Member(f"site {seat}", Identity.generate().key) for seat in range(SITES))
    session = Session(
        b"benchmark", 1, 0, bytes(32), bytes(32), bytes(32), Identity.generate().key, roster, 3, 0, length,
        Encoding(SITES, 0, limit, 4),
    )  # fmt: skip
    rng = np.random.default_rng(0)
    return session, [rng.integers(-limit, limit, length) for _ in range(SITES)]


def paillier(bits: int, repeats: int, noted: bool) -> list[Row]:
    if importlib.util.find_spec("phe") is None:
        return [Row(OURS, "Paillier", None, "skipped: phe is not installed")]
    from commonprior.sums._he_paillier import PaillierSystem

    d = 10_000
    session, vectors = make_session(d)
    system = PaillierSystem(bits)
    secret: Any = system.generate()
    public = system.read_public(secret.public)
    sealed = {seat: public.encrypt(session, vector, os.urandom) for seat, vector in enumerate(vectors[:2])}
    opening = secret.open_sum(session, sealed, os.urandom)
    right = np.array_equal(public.read_opening(session, sealed, opening), vectors[0] + vectors[1])
    products = public.product(session, sealed)
    case = f"Paillier-{bits}, d={d:,}:"

    def row(what: str, function: Callable[[], object], target: str | None = None) -> Row:
        return Row(OURS, f"{case} {what}", median(function, repeats), "s", target if noted else None)

    return [
        row("a site encrypts", lambda: public.encrypt(session, vectors[0], os.urandom), "<= 2.0"),
        row("decryption", lambda: [secret.key.raw_decrypt(c) for c in products], "<= 0.55"),
        row("the key holder adds two, decrypts and proves", lambda: secret.open_sum(session, sealed, os.urandom)),
        row("the coordinator checks the proof", lambda: public.read_opening(session, sealed, opening)),
        row("a site checks the key", lambda: system.read_public(secret.public)),
        Row(OURS, f"{case} ciphertexts up", len(sealed[0]) / 1e6, "MB", "<= 0.12" if noted else None),
        Row(OURS, f"{case} the sum is exact", float(right), "", ">= 1"),
    ]


def ckks(repeats: int) -> list[Row]:
    if importlib.util.find_spec("tenseal") is None:
        return [Row(OURS, "CKKS", None, "skipped: tenseal is not installed")]
    from commonprior.sums._he_ckks import CkksSystem

    d = 100_000
    session, vectors = make_session(d)
    system = CkksSystem()
    secret: Any = system.generate()
    public = system.read_public(secret.public)
    sealed = {seat: public.encrypt(session, vector, os.urandom) for seat, vector in enumerate(vectors)}
    opening = secret.open_sum(session, sealed, os.urandom)
    right = np.array_equal(public.read_opening(session, sealed, opening), sum(vectors))
    one = {0: sealed[0]}
    case = f"CKKS N=8192, d={d:,}:"

    def time_of(function: Callable[[], object]) -> float:
        return median(function, repeats) * 1e3

    alone = time_of(lambda: secret.open_sum(session, one, os.urandom))
    whole = time_of(lambda: secret.open_sum(session, sealed, os.urandom))
    encrypting = time_of(lambda: bare_ckks(public.context, vectors[0]))
    opening_bare = time_of(decrypting(secret.context, vectors[0]))
    return [
        Row(OURS, f"{case} a site encrypts, TenSEAL's part", encrypting, "ms", "<= 70"),
        Row(OURS, f"{case} a site encrypts and serialises",
            time_of(lambda: public.encrypt(session, vectors[0], os.urandom)), "ms"),
        Row(OURS, f"{case} the key holder reads and adds one more site", (whole - alone) / (SITES - 1), "ms"),
        Row(OURS, f"{case} decryption, TenSEAL's part", opening_bare, "ms", "<= 16"),
        Row(OURS, f"{case} the key holder reads one, decrypts, floods and rounds", alone, "ms"),
        Row(OURS, f"{case} ciphertexts up", len(sealed[0]) / 1e6, "MB", "<= 5.9"),
        Row(OURS, f"{case} the sum of {SITES} is exact", float(right), "", ">= 1"),
    ]  # fmt: skip


def bare_ckks(context: object, vector: np.ndarray) -> list[object]:
    """Encrypt as the note's probe did: TenSEAL alone, nothing serialised."""
    import tenseal

    rows = np.pad(vector.astype(float), (0, -len(vector) % 4096)).reshape(-1, 4096)
    return [tenseal.ckks_vector(context, row.tolist(), scale=2.0**60) for row in rows]


def decrypting(context: object, vector: np.ndarray) -> Callable[[], object]:
    sealed = bare_ckks(context, vector)
    return lambda: [one.decrypt() for one in sealed]  # pyright: ignore


def half_gates(count: int, repeats: int, noted: bool) -> list[Row]:
    from commonprior.comparisons._half_gates import Hash, evaluate, garble

    bits = 48
    hash_ = Hash(os.urandom(16), 0, count)
    made = garble(bits, count, hash_, os.urandom)
    spent = median(lambda: garble(bits, count, hash_, os.urandom), repeats) / bits / count * 1e9
    read = median(lambda: evaluate(made.x, made.y, made.rows, hash_), repeats) / bits / count * 1e9
    case = f"half-gates, {count:,} comparisons of {bits} bits:"
    return [
        Row(OURS, f"{case} garble", spent, "ns/AND", "<= 160" if noted else None),
        Row(OURS, f"{case} evaluate", read, "ns/AND", "<= 33" if noted else None),
        Row(OURS, f"{case} rows", made.rows.nbytes / bits / count, "bytes/AND", "<= 32"),
    ]


def whole_comparisons(repeats: int) -> list[Row]:
    if importlib.util.find_spec("nacl") is None:
        return [Row(OURS, "a whole comparison", None, "skipped: PyNaCl is not installed")]
    from commonprior.comparisons import Pairing
    from commonprior.comparisons.garbled import GarbledComparison

    one, two, kind, rows = Identity.generate(), Identity.generate(), GarbledComparison(), []
    for count in (1, 20):
        pairing, sent = Pairing(b"benchmark", 0, one.key, two.key, count), []
        x, y = np.random.default_rng(0).normal(size=(2, count))

        def compare(pairing: Pairing = pairing, x: np.ndarray = x, y: np.ndarray = y, sent: list[int] = sent) -> None:
            first = kind.machine(pairing, "first", one, x, 0, os.urandom)
            second = kind.machine(pairing, "second", two, y, 0, os.urandom)
            sent.clear()
            step = first.begin()
            for machine in (second, first, second, first):
                sent.append(len(step.send))
                step = machine.receive(step.send)
            if step.done is None or not np.array_equal(step.done, x < y):
                raise SystemExit("the comparison is wrong")

        case = f"whole protocol, {count} comparisons of 48 bits:"
        rows += [
            Row(OURS, f"{case} both sides, transfers and signatures in", median(compare, repeats) * 1e3, "ms"),
            Row(OURS, f"{case} on the wire", sum(sent) / 1e3, "kB"),
        ]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="runs of which the median is taken")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    arguments = parser.parse_args()
    repeats = arguments.repeats
    rows = [*paillier(2048, repeats, True), *paillier(3072, repeats, False), *ckks(repeats)]
    rows += [row for count in (1, 1_000, 20_000) for row in half_gates(count, repeats, count > 1)]
    rows += whole_comparisons(repeats)
    print_rows(Console(width=160), "encryption and comparison", rows)
    write_rows(arguments.json, rows)


if __name__ == "__main__":
    main()
