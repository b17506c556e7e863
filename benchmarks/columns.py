"""Sites that measure different columns: what hiding columns costs, beside leaving those sites out.

    python benchmarks/columns.py --data DIR [--rounds N] [--seeds N] [--json FILE]

Three quarters of the training sites hide a random half of their columns. The in-context learner is trained on all sites
with every column, on all sites with those hidden, and on the other quarter alone; each time it is judged on test sites
that have every column, from the same supports. What hiding loses is to be less than half of what leaving out loses, in
Spearman correlation a task. Materials: one laboratory a property and database, one task a family of anions, columns
that follow from the formula. Cytotoxicity: one laboratory and one task an article, with the gaps that it has anyway.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from _rows import Row, print_rows, write_rows
from rich.console import Console

from commonprior.baselines._central import Rounds, meta_train
from commonprior.evaluation import compare, draws
from commonprior.learners._server import ServerStep
from commonprior.learners.in_context import InContext
from commonprior.predictor import LearnedPrior, Predictor
from commonprior.sampling import generator
from commonprior.task import Column, Pool
from commonprior.tasks import Family
from commonprior.tasks._formula import composition
from commonprior.tasks.table import Table

SHOTS, QUERIES, TASKS, SUPPORTS = 8, 16, 16, 4
HIDING, HIDDEN = 0.75, 0.5
LEARNED = 0.2
"""The least correlation with every column from which on a difference means something."""
CYTOTOX = (
    Column("material", "categorical"), Column("shape", "categorical"), Column("coat_functional_group", "categorical"),
    Column("test", "categorical"), Column("cell_type", "categorical"), Column("cell_tissue", "categorical"),
    Column("time_hr", unit="h", transform="log10", centre=1.4, spread=0.3),
    Column("concentration", unit="ug/ml", transform="signed_log", centre=1.5, spread=1.0),
    Column("hydrodynamic_nm", unit="nm", transform="signed_log", centre=1.5, spread=0.6),
    Column("potential_mv", unit="mV", centre=0.0, spread=25.0),
)  # fmt: skip
MATERIALS = (
    Column("formula", "formula"), Column("anion_family", "categorical"), Column("elements", centre=3.0, spread=1.0),
    Column("mean_number", centre=25.0, spread=12.0), Column("largest_number", centre=50.0, spread=20.0),
    Column("spread_number", centre=15.0, spread=8.0), Column("largest_share", centre=0.5, spread=0.15),
)  # fmt: skip


def cytotoxicity(data: Path) -> tuple[pd.DataFrame, Table]:
    """Return the articles that give a dose, and how they are read."""
    frame = pd.read_parquet(data / "nano-chemx" / "cytotox_viability.parquet")
    frame = frame[frame.task_dose_complete].rename(columns={"site_id": "site", "task_id": "task", "viability_%": "y"})
    return frame, Table("y", "task", "articles", site="site", columns=CYTOTOX, target_kind="regression",
                        drop_small_tasks=True, valid_fraction=0.0, test_fraction=0.3)  # fmt: skip


def materials(data: Path) -> tuple[pd.DataFrame, Table]:
    """Return at most 150 rows of each task, with descriptors of the formula, and how they are read."""
    frame = pd.read_parquet(data / "materials-formula" / "materials.parquet")
    frame = frame.groupby("task_id").sample(frac=1, random_state=0).groupby("task_id").head(150)
    shares = [composition(text) for text in frame.formula]
    numbers = [(np.array(list(s)) + 1, np.array(list(s.values()))) for s in shares]
    means = np.array([n @ w for n, w in numbers])
    frame = frame.assign(
        site=frame.site_id + " " + frame.property, task=frame.anion_family, y=frame.target,
        elements=[len(n) for n, _ in numbers], mean_number=means, largest_number=[n.max() for n, _ in numbers],
        spread_number=[np.sqrt(w @ (n - m) ** 2) for (n, w), m in zip(numbers, means)],
        largest_share=[w.max() for _, w in numbers],
    )  # fmt: skip
    return frame, Table("y", "task", "materials", site="site", columns=MATERIALS, target_kind="regression",
                        drop_small_tasks=True, valid_fraction=0.0, test_fraction=0.3)  # fmt: skip


def with_gaps(frame: pd.DataFrame, columns: Sequence[Column], sites: Sequence[str], seed: int) -> pd.DataFrame:
    """Return the table with a random half of the columns of each of these sites empty."""
    frame = frame.copy()
    for site in sites:
        hidden = generator(seed, "hidden", site).permutation([c.name for c in columns])
        hidden = hidden[: round(HIDDEN * len(columns))]
        frame[hidden] = frame[hidden].astype(object)
        frame.loc[frame.site == site, hidden] = None
    return frame


def trained(family: Family, train: Mapping[str, Sequence[Pool]], rounds: int, seed: int) -> Predictor:
    """Return what the learner makes of all tasks of some sites."""
    learner = InContext(width=32, blocks=2, server=ServerStep(rate=0.002))
    pools = [pool for site in sorted(train) for pool in train[site]]
    prior = meta_train(learner, family.spec, pools, Rounds(rounds, TASKS, SHOTS, QUERIES), seed, "columns")
    return LearnedPrior(learner, prior, family.spec)


def scores(frame: pd.DataFrame, table: Table, rounds: int, seed: int) -> dict[str, float]:
    """Return each contestant's mean Spearman correlation over the tasks of the test sites."""
    whole = table.gather([("", table.file, frame)])
    sites = sorted(whole.train)
    hiding = set(generator(seed, "hiding").permutation(sites)[: round(HIDING * len(sites))])
    gaps = table.gather([("", table.file, with_gaps(frame, table.columns, sorted(hiding), seed))])
    if set(gaps.train) != set(whole.train):
        # A site whose rows no longer differ is dropped as a task, and with it from the folds: keep to the same sites.
        gaps = gaps._replace(train={s: (gaps.train | gaps.test).get(s, whole.train[s]) for s in sites})
    contestants = {
        "all columns": trained(whole, whole.train, rounds, seed),
        "columns hidden": trained(whole, gaps.train, rounds, seed),
        "sites left out": trained(whole, {s: p for s, p in whole.train.items() if s not in hiding}, rounds, seed),
    }
    found = compare(contestants, draws(whole.test, SHOTS, SUPPORTS, QUERIES, seed))
    found = found[found.metric == "spearman"]
    return {name: float(found[found.contestant == name]["value"].mean()) for name in contestants}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("COMMONPRIOR_DATA"))
    parser.add_argument("--case", choices=("cytotoxicity", "materials"), action="append", help="both without")
    parser.add_argument("--rounds", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here, too")
    options = parser.parse_args()
    console, rows, data = Console(highlight=False), [], Path(options.data) if options.data else Path()
    for case in options.case or ("cytotoxicity", "materials"):
        frame, table = {"cytotoxicity": cytotoxicity, "materials": materials}[case](data)
        seeds = []
        for seed in range(options.seeds):
            seeds.append(scores(frame, table, options.rounds, seed))
            console.print(f"{case}, seed {seed}: {seeds[-1]}")
        mean = {name: float(np.mean([s[name] for s in seeds])) for name in seeds[0]}
        apart = {name: np.std([s[name] for s in seeds], ddof=1) if len(seeds) > 1 else np.nan for name in mean}
        rows += [Row(name, f"{case}, {SHOTS} shots, Spearman", value, f"± {apart[name]:.2f} a seed")
                 for name, value in mean.items()]  # fmt: skip
        hidden, left_out = (mean["all columns"] - mean[name] for name in ("columns hidden", "sites left out"))
        claim = f"{case}, hiding loses, of what leaving out loses"
        if left_out > 0 and mean["all columns"] >= LEARNED:
            rows.append(Row("in_context", claim, hidden / left_out, "", "<= 0.5"))
        else:
            # Two gains, or two differences of noise, have a ratio too, which says nothing.
            rows.append(
                Row(
                    "in_context", claim, None, "no ratio: nothing was learned, or nothing lost by leaving out", "<= 0.5"
                )
            )
    print_rows(console, "Columns hidden at three quarters of the sites", rows)
    write_rows(options.json, rows)


if __name__ == "__main__":
    main()
