"""How well a plan predicts: real sums of every protocol, and the ratio of predicted to measured processor time.

    python benchmarks/plan.py [--repeats 5] [--json FILE]

n of 5, 10 and 30 sites, a fifth of whom may drop out and none does; 1,000 and 100,000 numbers (100 and 1,000 for
Paillier). Medians; the speed of the elementary operations is measured anew beside each sum, as `commonprior plan` does.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from _rows import Row, print_rows, write_rows
from _sums import Cohort, hold_sum, make_cohort
from rich.console import Console

from commonprior import plugin
from commonprior.planning.speed import measure, seconds
from commonprior.sums import SecureSum
from commonprior.sums._committee_field import HALF
from commonprior.sums._work import work_of
from commonprior.sums.ckks import Ckks
from commonprior.sums.committee import Committee
from commonprior.sums.masked import Masked
from commonprior.sums.paillier import Paillier
from commonprior.sums.plain import Plain

LEAST, MOST = 1 / 1.3, 1.3
SITES = (5, 10, 30)
TURNS, LONG = 3, 2.0
"""How often speed and sum are measured in turn, once where a sum takes longer than this many seconds."""


def timed(kind: SecureSum, cohort: Cohort) -> float:
    start = time.process_time()
    hold_sum(kind, cohort)
    return time.process_time() - start


def rows_of(kind: SecureSum, n: int, d: int, repeats: int) -> list[Row]:
    cohort = make_cohort(n, d, dropouts=n // 5, reach=HALF)
    work = work_of(kind, cohort.session)
    held = hold_sum(kind, cohort)
    sent = sum(len(frame) for answers in held.up.values() for frame in answers.values())
    asked = sum(sum(requests.values()) for requests in held.down.values())
    ratios = []
    for _ in range(TURNS):
        predicted = seconds(work.everyone, measure(work.everyone))
        spent = statistics.median(timed(kind, cohort) for _ in range(repeats))
        ratios.append((predicted / spent, predicted, spent))
        if predicted > LONG:
            break
    ratio, predicted, spent = statistics.median_low(ratios)
    who, case = f"plan of {plugin.kind_of(kind)}", f"n={n}, d={d:,}:"
    return [
        Row(who, f"{case} measured, everyone in one process", spent, "s"),
        Row(who, f"{case} predicted", predicted, "s"),
        Row(who, f"{case} predicted over measured", ratio, "times", f">= {LEAST:.3f}"),
        Row(who, f"{case} predicted over measured", ratio, "times", f"<= {MOST:.3f}"),
        Row(who, f"{case} bytes up, predicted over sent", work.all_up / sent, "times"),
        Row(who, f"{case} bytes down, predicted over sent", work.all_down / asked, "times"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="runs of which the median is taken")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    arguments = parser.parse_args()
    rows: list[Row] = []
    for n in SITES:
        for kind in (Plain(), Masked(), Committee(), Paillier(), Ckks()):
            for d in (100, 1_000) if isinstance(kind, Paillier) else (1_000, 100_000):
                rows += rows_of(kind, n, d, arguments.repeats if d < 10_000 and not isinstance(kind, Paillier) else 1)
    rows += rows_of(Masked(), 100, 1_000, 1)
    print_rows(Console(width=140), "plan", rows)
    write_rows(arguments.json, rows)


if __name__ == "__main__":
    main()
