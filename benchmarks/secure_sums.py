"""What every secure sum costs, in one run: masked, committee, Paillier, CKKS, garbled comparisons, a fleet; beside what
the machine's AES unit allows and beside Flower's SecAgg+.

    python benchmarks/secure_sums.py [--repeats 9] [--no-fleet] [--json FILE]

Medians of `--repeats` runs in this one process, one thread. Whole sums are by the clock; what is compared with a limit
or with a peer is processor time on both sides, which other work on the machine disturbs least. The fleet is one run in
a process of its own, whose peak memory is read. "Dealing" is a committee party's arithmetic alone: its integers into
the field, its seeds expanded, the full shares computed. Flower is timed where `flwr` is importable.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import encryption
import numpy as np
from _flower import flower
from _rows import Row, print_rows, write_rows
from _sums import Cohort, at_most, hold_sum, is_right, make_cohort, median, most_up
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from rich.console import Console

from commonprior.frame import open_frame
from commonprior.planning.speed import measure, seconds
from commonprior.privacy._poisson import skellam
from commonprior.privacy._sampler import discrete_gaussian
from commonprior.session import COORDINATOR, Encoding
from commonprior.sums import _operations as ops
from commonprior.sums._committee_check import ROWS, coefficients_of, combinations
from commonprior.sums._committee_decode import decode
from commonprior.sums._committee_field import HALF, WORD, expand, to_field
from commonprior.sums._committee_shares import Deal, deal
from commonprior.sums._committee_terms import Terms, terms_of
from commonprior.sums._masks import BLOCK_BYTES, MaskStream, add_streams, to_words
from commonprior.sums._work import work_of
from commonprior.sums.committee import Committee
from commonprior.sums.masked import Masked
from commonprior.sums.plain import Plain

MASKED, COMMITTEE, PLAIN, MACHINE = "commonprior masked", "commonprior committee", "commonprior plain", "this machine"
MECHANISM = "commonprior mechanism"
N, D = 10, 100_000
LARGE = 10_000_000
KEYS = (ops.KEY_PAIR, ops.AGREEMENT, ops.SEAL, ops.UNSEAL, ops.STREAM)
SIGNED = (ops.FRAME_MADE, ops.FRAME_READ, ops.SIGNATURE, ops.VERIFICATION)
WHOLE = "whole sum in one process, keys and signatures included"


def aes_rate(repeats: int, size: int = 8_000_000) -> float:
    """Return what AES-256-CTR gives here at best, bytes a second, in blocks that stay in the cache."""
    zeros, out = memoryview(bytes(BLOCK_BYTES)), bytearray(BLOCK_BYTES + 16)

    def stream() -> None:
        cipher = Cipher(algorithms.AES256(bytes(32)), modes.CTR(bytes(16))).encryptor()
        for _ in range(size // BLOCK_BYTES):
            cipher.update_into(zeros, out)

    return size // BLOCK_BYTES * BLOCK_BYTES / median(stream, repeats, time.process_time)


def masking(repeats: int) -> list[Row]:
    """Time a party's own part of a masked sum: its integers into words, its own stream and one a peer added to them."""
    rate = aes_rate(repeats)
    rows = [Row(MACHINE, f"AES-256-CTR in blocks of {BLOCK_BYTES >> 10} kB", rate / 1e9, "GB/s")]
    for d, bound in ((D, 1.0), (LARGE, None)):
        encoding = Encoding(N, 0, 2**31 // N - 1, 4)
        integers = np.random.default_rng(0).integers(-encoding.limit, encoding.limit, d)
        streams = [MaskStream(os.urandom(32), 1 if peer % 2 else -1) for peer in range(N)]
        spent = median(lambda i=integers, e=encoding, s=streams: add_streams(to_words(i, e), s), repeats,
                       time.process_time)  # fmt: skip
        limit, case = 4 * d * N / rate, f"n={N}, d={d:,}:"
        mask = f"{case} masking and encoding, one party"
        rows += [
            at_most(bound, MASKED, mask, spent * 1e3, "ms") if bound else Row(MASKED, mask, spent * 1e3, "ms"),
            Row(MACHINE, f"{case} limit: 4·d·(k+1) bytes at that rate, k={N - 1} peers", limit * 1e3, "ms"),
            at_most(2.0, MASKED, f"{case} masking and encoding over that limit", spent / limit, "times"),
        ]
    return rows


def beside_masking(repeats: int) -> list[Row]:
    """Return what else a party does in a masked sum, and what it did before: keys, signatures, noise."""
    case, work = f"n={N}, d={D:,}:", work_of(Masked(), make_cohort(N, D).session)
    (party, *_), speed = (
        zip(*((role.does for role in phase.roles) for phase in work.phases[1:])),
        measure(work.everyone),
    )

    def part(operations: tuple[Any, ...]) -> float:
        return 1e3 * sum(seconds({o: does.get(o, 0) for o in operations}, speed) for does in party)

    variance = 2**20
    return [
        Row(MASKED, f"{case} key agreement of one party: keys, packets, mask keys (counted, at measured speed)",
            part(KEYS), "ms"),
        Row(MASKED, f"{case} signed frames of one party, made and opened (counted, at measured speed)",
            part(SIGNED), "ms"),
        Row(MECHANISM, f"d={D:,}: discrete Gaussian noise of one party",
            1e3 * median(lambda: discrete_gaussian(variance, D, os.urandom), repeats), "ms"),
        Row(MECHANISM, f"d={D:,}: Skellam noise of one party",
            1e3 * median(lambda: skellam(variance, D, os.urandom), repeats), "ms"),
    ]  # fmt: skip


def masked_sums(repeats: int) -> list[Row]:
    cohort = make_cohort(N, D)
    spent = median(lambda: hold_sum(Masked(), cohort), repeats)
    busy = median(lambda: hold_sum(Masked(), cohort), repeats, time.process_time)
    plain = median(lambda: hold_sum(Plain(), cohort), repeats)
    case = f"n={N}, d={D:,}:"
    rows = [
        at_most(0.12, MASKED, f"{case} {WHOLE}", spent, "s"),
        Row(MASKED, f"{case} of it, processor time (differs on a busy machine)", busy, "s"),
        Row(PLAIN, f"{case} whole sum in one process", plain, "s"),
    ]
    for width, what in ((4, "4-byte words"), (2, "2-byte words, as for int8")):
        narrow = make_cohort(N, D, width)
        held = hold_sum(Masked(), narrow)
        body: Any = open_frame(held.up["masked"][0], narrow.session, COORDINATOR).body
        words = len(body["words"])
        down = sum(requests[0] for requests in held.down.values() if requests)
        rows += [
            at_most(width, MASKED, f"{case} {what}: vector up", words / D, "bytes/parameter"),
            Row(MASKED, f"{case} {what}: everything up but the vector", (most_up(held) - words) / 1e3, "kB"),
            Row(MASKED, f"{case} {what}: everything down", down / 1e3, "kB"),
        ]
    return rows + flower(MASKED, busy, D * 4, N, D, repeats)


def dropping() -> list[Row]:
    """Hold one sum of a hundred on the complete graph in which a third vanishes."""
    cohort, leaving = make_cohort(100, D), dict.fromkeys(range(0, 99, 3), "masked")
    start = time.perf_counter()
    held = hold_sum(Masked(99), cohort, leaving)
    spent, case = time.perf_counter() - start, f"n=100, d={D:,}, everyone a neighbour, 33 drop out before their input:"
    right = len(held.done.survivors) if is_right(cohort, held.done) else 0
    return [
        Row(MASKED, f"{case} whole sum in one process (one run)", spent, "s"),
        Row(MASKED, f"{case} sites whose sum is exact", right, "sites", ">= 67"),
        Row(MASKED, f"{case} one party's work", sum(held.seconds.values()), "s"),
    ]


def dealing(cohort: Cohort, terms: Terms) -> tuple[float, float]:
    """Return (median, processor time) in seconds of one party's dealing."""
    session = cohort.session
    given = Deal(session, terms.seats, len(terms.seats), terms.degree, D + ROWS)
    dealer = len(session.roster) - 1

    def once() -> None:
        secret = np.empty(given.length, WORD)
        to_field(cohort.vectors[dealer], session.encoding.limit, secret[:-ROWS])
        secret[-ROWS:] = expand(os.urandom(32), ROWS)
        deal(given, dealer, secret, os.urandom)

    return median(once, 25), median(once, 25, time.thread_time)


def checking(cohort: Cohort, terms: Terms, repeats: int) -> float:
    """Return the seconds that an aggregator takes for the degree check of everyone's shares."""
    given = Deal(cohort.session, terms.seats, len(terms.seats), terms.degree, D + ROWS)
    rows = [expand(os.urandom(32), given.length) for _ in cohort.identities]
    return median(lambda: combinations(rows, coefficients_of(given, bytes(32))), repeats)


def opening(terms: Terms, repeats: int) -> float:
    """Return the seconds that the coordinator takes to check and open the aggregators' answers."""
    answers = dict.fromkeys(terms.seats, np.zeros(D, WORD))
    return median(lambda: decode(answers, terms.degree), repeats)


def committee(n: int, dropouts: int, kind: Committee, repeats: int, bound: float | None = None) -> list[Row]:
    cohort = make_cohort(n, D, dropouts=dropouts, reach=HALF)
    terms = terms_of(cohort.session, kind.aggregators, kind.threshold)
    case = f"n={n}, d={D:,}, {len(terms.seats)} of t={terms.degree}, {dropouts} may drop out:"
    spent, busy = dealing(cohort, terms)
    held = hold_sum(kind, cohort)
    alone = f"{case} dealing alone, one party"
    return [
        at_most(bound, COMMITTEE, alone, spent * 1e3, "ms") if bound else Row(COMMITTEE, alone, spent * 1e3, "ms"),
        Row(COMMITTEE, f"{case} of it, processor time (differs on a busy machine)", busy * 1e3, "ms"),
        Row(COMMITTEE, f"{case} one party's shares phase: dealt, committed to, sealed, signed",
            held.seconds["shares"] * 1e3, "ms"),
        Row(COMMITTEE, f"{case} degree check of everyone's shares, one aggregator",
            checking(cohort, terms, repeats) * 1e3, "ms"),
        Row(COMMITTEE, f"{case} every answer checked and the sum opened", opening(terms, repeats) * 1e3, "ms"),
        Row(COMMITTEE, f"{case} {WHOLE}", median(lambda: hold_sum(kind, cohort), repeats), "s"),
        Row(COMMITTEE, f"{case} the sum is exact", float(is_right(cohort, held.done)), "1 = yes", ">= 1"),
        Row(COMMITTEE, f"{case} most that one site sends, everything included", most_up(held) / D, "bytes/parameter"),
    ]  # fmt: skip


def committees(repeats: int) -> list[Row]:
    rows = committee(5, 0, Committee(5, 2), repeats, 2.0) + committee(10, 1, Committee(5, 2), repeats, 2.0)
    for n in range(5, 11):
        rows += committee(n, n // 4, Committee(), repeats)
        if n < N:
            cohort = make_cohort(n, D)
            rows.append(Row(MASKED, f"n={n}, d={D:,}: {WHOLE}", median(lambda c=cohort: hold_sum(Masked(), c), repeats),
                            "s"))  # fmt: skip
    return rows


def encrypted(repeats: int) -> list[Row]:
    rows = [*encryption.paillier(2048, repeats, True), *encryption.paillier(3072, repeats, False)]
    rows += encryption.ckks(repeats)
    for count in (1, 1_000, 20_000):
        rows += encryption.half_gates(count, repeats, count > 1)
    return rows + encryption.whole_comparisons(repeats)


def fleet() -> list[Row]:
    """Run the fleet's benchmark in a process of its own: its memory is not to be mixed with ours."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "fleet.json"
        program = Path(__file__).parent / "fleet.py"
        subprocess.run([sys.executable, str(program), "--json", str(file)], check=True, stdout=subprocess.DEVNULL)
        return [Row(**{k: v for k, v in row.items() if k != "ok"}) for row in json.loads(file.read_text())]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9, help="runs of which the median is taken")
    parser.add_argument("--no-fleet", action="store_true", help="leave out the fleet of 1,000, which takes a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    arguments = parser.parse_args()
    repeats = arguments.repeats
    rows = [*masking(repeats), *beside_masking(repeats), *masked_sums(repeats), *dropping(), *committees(repeats)]
    rows += encrypted(min(repeats, 5))
    rows += [] if arguments.no_fleet else fleet()
    print_rows(Console(width=160), "secure sums", rows)
    write_rows(arguments.json, rows)


if __name__ == "__main__":
    main()
