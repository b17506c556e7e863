"""How much a secure sum costs by protocol: the committee of sites, from 5 to 10 of them, beside the masked sum.

    python benchmarks/secure_sums.py [--repeats 9] [--json FILE]

Medians of `--repeats` runs in this one process, one thread. "Dealing" is a party's arithmetic alone: its integers into
the field, its seeds expanded, the full shares computed. Keys, commitments, sealing and signatures are in the lines on
whole sums and phases.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from pathlib import Path

import numpy as np
from _rows import Row, print_rows, write_rows
from masked_sum import Cohort, Held, at_most, hold_sum, is_right, make_cohort, median
from rich.console import Console

from commonprior.session import Encoding
from commonprior.sums._committee_check import ROWS, coefficients_of, combinations
from commonprior.sums._committee_decode import decode
from commonprior.sums._committee_field import HALF, WORD, expand, to_field
from commonprior.sums._committee_shares import Deal, deal
from commonprior.sums._committee_terms import Terms, terms_of
from commonprior.sums.committee import Committee
from commonprior.sums.masked import Masked

COMMITTEE, MASKED = "commonprior committee", "commonprior masked"
D = 100_000


def committee_cohort(n: int, dropouts: int) -> Cohort:
    """Return a cohort whose integers fill the committee's field, not the word."""
    cohort = make_cohort(n, D)
    encoding = Encoding(n, 0, HALF // n, 4)
    session = dataclasses.replace(cohort.session, dropouts=dropouts, encoding=encoding)
    vectors = [np.clip(vector, -encoding.limit, encoding.limit) for vector in cohort.vectors]
    return dataclasses.replace(cohort, session=session, vectors=vectors)


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
    given = np.zeros(D, WORD)
    answers = dict.fromkeys(terms.seats, given)
    return median(lambda: decode(answers, terms.degree), repeats)


def up(held: Held) -> float:
    """Return the bytes that the site that sends most sends in a whole sum, by number of the vector."""
    return max(sum(len(answers.get(seat, b"")) for answers in held.up.values()) for seat in held.done.survivors) / D


def committee(n: int, dropouts: int, kind: Committee, repeats: int, bound: float | None = None) -> list[Row]:
    cohort = committee_cohort(n, dropouts)
    terms = terms_of(cohort.session, kind.aggregators, kind.threshold)
    case = f"n={n}, d={D:,}, {len(terms.seats)} of t={terms.degree}, {dropouts} may drop out:"
    spent, busy = dealing(cohort, terms)
    held = hold_sum(kind, cohort)
    right = is_right(cohort, held.done)
    alone = f"{case} dealing alone, one party"
    return [
        at_most(bound, COMMITTEE, alone, spent * 1e3, "ms") if bound else Row(COMMITTEE, alone, spent * 1e3, "ms"),
        Row(COMMITTEE, f"{case} of it, processor time (differs on a busy machine)", busy * 1e3, "ms"),
        Row(COMMITTEE, f"{case} one party's shares phase: dealt, committed to, sealed, signed",
            held.seconds["shares"] * 1e3, "ms"),
        Row(COMMITTEE, f"{case} degree check of everyone's shares, one aggregator",
            checking(cohort, terms, repeats) * 1e3, "ms"),
        Row(COMMITTEE, f"{case} every answer checked and the sum opened", opening(terms, repeats) * 1e3, "ms"),
        Row(COMMITTEE, f"{case} whole sum in one process, keys and signatures included",
            median(lambda: hold_sum(kind, cohort), repeats), "s"),
        Row(COMMITTEE, f"{case} the sum is exact", float(right), "1 = yes", ">= 1"),
        Row(COMMITTEE, f"{case} most that one site sends, everything included", up(held), "bytes/parameter"),
    ]  # fmt: skip


def masked(n: int, repeats: int) -> list[Row]:
    cohort = make_cohort(n, D)
    case = f"n={n}, d={D:,}:"
    return [
        Row(MASKED, f"{case} whole sum in one process, keys and signatures included",
            median(lambda: hold_sum(Masked(), cohort), repeats), "s"),
        Row(MASKED, f"{case} most that one site sends, everything included", up(hold_sum(Masked(), cohort)),
            "bytes/parameter"),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9, help="runs of which the median is taken")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    arguments = parser.parse_args()
    rows = committee(5, 0, Committee(5, 2), arguments.repeats, 2.0)
    rows += committee(10, 1, Committee(5, 2), arguments.repeats, 2.0)
    for n in range(5, 11):
        rows += committee(n, n // 4, Committee(), arguments.repeats)
        rows += masked(n, arguments.repeats)
    print_rows(Console(width=160), "secure sums", rows)
    write_rows(arguments.json, rows)


if __name__ == "__main__":
    main()
