"""Sites that measure different columns: what hiding columns costs, beside leaving those sites out.

    python benchmarks/columns.py --data DIR [--hiding SHARE] [--hidden SHARE] [--rounds N] [--seeds N] [--json FILE]

Of the training sites, the share `hiding` hides a random share `hidden` of its columns. A learner is trained on all
sites with every column, on all sites with those hidden, and on the others alone; each time it is judged on test sites
that have every column, from the same supports. What hiding loses is to be less than half of what leaving out loses, in
Spearman correlation a task. Learners: the in-context transformer, and a deep kernel over the attention network, both of
sets of columns. The prior of the round that was best on a sixth of the training sites, which show every column, is
judged.

Materials: one laboratory a database and family of anions, one task an elastic or thermal property, columns that follow
from the formula; tested on five families of anions that nobody trained on. Cytotoxicity: one laboratory and one task an
article, with the gaps that it has anyway.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from _rows import Row, print_rows, write_rows
from rich.console import Console

from commonprior.baselines.random_forest import RandomForest
from commonprior.evaluation import Episodes, compare, draws
from commonprior.learners import Learner
from commonprior.learners._server import ServerStep
from commonprior.learners.dkt import Dkt
from commonprior.learners.in_context import InContext
from commonprior.networks.attention import Attention
from commonprior.predictor import LearnedPrior, Predictor
from commonprior.sampling import generator, learning_key, sample_tasks
from commonprior.task import Column, Pool
from commonprior.tasks import Family
from commonprior.tasks._formula import composition
from commonprior.tasks.table import Table

SHOTS, QUERIES, TASKS, SUPPORTS = 8, 16, 16, 4
LOOKS = 8
"""So often a contestant is judged on the way."""
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
    Column("formula", "formula"), Column("elements", centre=3.0, spread=1.0),
    Column("mean_number", centre=25.0, spread=12.0), Column("largest_number", centre=50.0, spread=20.0),
    Column("spread_number", centre=15.0, spread=8.0), Column("largest_share", centre=0.5, spread=0.15),
)  # fmt: skip


ELASTIC = (
    "aflow__ael_bulk_modulus_vrh", "aflow__ael_shear_modulus_vrh", "aflow__ael_debye_temperature",
    "aflow__agl_thermal_expansion_300K", "matbench_log_gvrh", "matbench_log_kvrh", "mp_bulk_modulus",
    "mp_shear_modulus",
)  # fmt: skip
Sites: TypeAlias = Mapping[str, Sequence[Pool]]


class Case(NamedTuple):
    """The rows, how they are read, and the last words of the names of the test sites, if not the table's fold."""

    frame: pd.DataFrame
    table: Table
    held: tuple[str, ...] = ()


class Hides(NamedTuple):
    """Which share of the sites hides which share of its columns."""

    sites: float
    columns: float


def cytotoxicity(data: Path) -> Case:
    """Return the articles that give a dose."""
    frame = pd.read_parquet(data / "nano-chemx" / "cytotox_viability.parquet")
    frame = frame[frame.task_dose_complete].rename(columns={"site_id": "site", "task_id": "task", "viability_%": "y"})
    return Case(frame, Table("y", "task", "articles", site="site", columns=CYTOTOX, target_kind="regression",
                             drop_small_tasks=True, valid_fraction=0.0, test_fraction=0.3))  # fmt: skip


def materials(data: Path) -> Case:
    """Return at most 150 rows of each property and family, with descriptors of the formula."""
    frame = pd.read_parquet(data / "materials-formula" / "materials.parquet")
    frame = frame[frame.property.isin(ELASTIC)]
    frame = frame.groupby("task_id").sample(frac=1, random_state=0).groupby("task_id").head(150)
    shares = [composition(text) for text in frame.formula]
    numbers = [(np.array(list(s)) + 1, np.array(list(s.values()))) for s in shares]
    means = np.array([n @ w for n, w in numbers])
    frame = frame.assign(
        site=frame.site_id + " " + frame.anion_family, task=frame.property, y=frame.target,
        elements=[len(n) for n, _ in numbers], mean_number=means, largest_number=[n.max() for n, _ in numbers],
        spread_number=[np.sqrt(w @ (n - m) ** 2) for (n, w), m in zip(numbers, means)],
        largest_share=[w.max() for _, w in numbers],
    )  # fmt: skip
    held = generator(0, "families").permutation(sorted(frame.anion_family.unique()))[:5]
    return Case(frame, Table("y", "task", "materials", site="site", columns=MATERIALS, target_kind="regression",
                             drop_small_tasks=True, valid_fraction=0.0, test_fraction=0.3), tuple(held))  # fmt: skip


CASES = {"cytotoxicity": cytotoxicity, "materials": materials}


def with_gaps(
    frame: pd.DataFrame, columns: Sequence[Column], sites: Sequence[str], share: float, seed: int
) -> pd.DataFrame:
    """Return the table with a random share of the columns of each of these sites empty."""
    frame = frame.copy()
    for site in sites:
        hidden = generator(seed, "hidden", site).permutation([c.name for c in columns])
        hidden = hidden[: round(share * len(columns))]
        frame[hidden] = frame[hidden].astype(object)
        frame.loc[frame.site == site, hidden] = None
    return frame


def folds(frame: pd.DataFrame, table: Table, held: Sequence[str]) -> tuple[Family, Sites, Sites]:
    """Return the family, its training sites and its test sites: those of `held`, or the table's own fold."""
    family = table.gather([("", table.file, frame)])
    if not held:
        return family, family.train, family.test
    sites = {**family.train, **family.test}
    test = {site: pools for site, pools in sites.items() if site.split()[-1] in held}
    return family, {site: pools for site, pools in sites.items() if site not in test}, test


def learners(family: Family) -> dict[str, Learner]:
    """Return everyone who reads sets of columns."""
    attention = Attention(tuple(family.spec.columns), width=32)
    return {
        "in_context": InContext(width=32, blocks=2, server=ServerStep(rate=0.002)),
        "dkt, attention": Dkt(
            attention, ("deep",), objective="crossed", mean="linear", server=ServerStep(rate=0.002)
        ),
    }  # fmt: skip


def trained(learner: Learner, family: Family, train: Sites, valid: Sites, rounds: int, seed: int) -> Predictor:
    """Return what the learner makes of all tasks of some sites, at the round that was best on others."""
    pools = [pool for site in sorted(train) for pool in train[site]]
    tasks = min(TASKS, len(pools))
    episodes = draws(valid, SHOTS, SUPPORTS, QUERIES, seed)
    best, at_best = -np.inf, None
    prior = learner.init(family.spec, learning_key(seed, "columns", "init"))
    for number in range(1, rounds + 1):
        rng = generator(seed, "columns", number)
        drawn = sample_tasks(pools, rng, tasks, SHOTS, QUERIES, family.spec.target)
        contributions, _ = learner.contribute(prior, drawn, {}, learning_key(seed, "columns", number))
        mean = np.asarray(contributions.rows, np.float64).mean(0)
        prior = learner.apply(prior, mean, learning_key(seed, "columns", number, "apply"))
        if number % (rounds // LOOKS) == 0:
            now = LearnedPrior(learner, prior, family.spec)
            found = correlation({"now": now}, episodes)["now"]
            if found > best:
                best, at_best = found, now
    assert at_best is not None
    return at_best


def correlation(contestants: Mapping[str, Predictor], episodes: Episodes) -> dict[str, float]:
    """Return each contestant's mean Spearman correlation over tasks."""
    found = compare(contestants, episodes)
    found = found[found.metric == "spearman"]
    return {name: float(found[found.contestant == name]["value"].mean()) for name in contestants}


def scores(case: Case, hides: Hides, rounds: int, seed: int) -> dict[str, dict[str, float]]:
    """Return by learner what each contestant comes to on the test sites."""
    family, train, test = folds(*case)
    sites = [str(site) for site in generator(seed, "hiding").permutation(sorted(train))]
    valid, sites = sites[: len(sites) // 6], sorted(sites[len(sites) // 6 :])
    hiding = set(generator(seed, "which").permutation(sites)[: round(hides.sites * len(sites))])
    frame, table, held = case
    _, gaps, beside = folds(with_gaps(frame, table.columns, sorted(hiding), hides.columns, seed), table, held)
    # A site whose rows no longer differ is no task any more, and with it leaves its fold: keep to the same sites.
    gaps = {site: ({**gaps, **beside}).get(site, train[site]) for site in sites}
    judges = {site: train[site] for site in valid}
    what: dict[str, Sites] = {
        "all columns": {site: train[site] for site in sites},
        "columns hidden": gaps,
        "sites left out": {site: train[site] for site in sites if site not in hiding},
    }
    episodes, out = draws(test, SHOTS, 2 * SUPPORTS, QUERIES, seed), {}
    forest = RandomForest().prepare(family.spec, {}, seed)
    out["random_forest"] = {"by itself": next(iter(correlation(forest, episodes).values()))}
    for name, learner in learners(family).items():
        priors = {how: trained(learner, family, which, judges, rounds, seed) for how, which in what.items()}
        out[name] = correlation(priors, episodes)
    return out


def summarised(case: str, seeds: Sequence[Mapping[str, Mapping[str, float]]]) -> list[Row]:
    """Return the rows of one case: means over seeds, and what hiding loses of what leaving out loses."""
    rows = []
    for who in seeds[0]:
        found = {how: np.array([seed[who][how] for seed in seeds]) for how in seeds[0][who]}
        for how, values in found.items():
            apart = f"± {values.std(ddof=1):.2f} a seed" if len(seeds) > 1 else ""
            rows.append(Row(f"{who}, {how}", f"{case}, {SHOTS} shots, Spearman", float(values.mean()), apart))
        if len(found) == 1:
            continue
        hidden, left = (found["all columns"] - found[how] for how in ("columns hidden", "sites left out"))
        for how, lost in (("hiding", hidden), ("leaving out", left)):
            apart = f"± {lost.std(ddof=1) / np.sqrt(len(seeds)):.3f}" if len(seeds) > 1 else ""
            rows.append(Row(who, f"{case}, {how} loses", float(lost.mean()), apart))
        claim = f"{case}, hiding loses, of what leaving out loses"
        if left.mean() > 0 and found["all columns"].mean() >= LEARNED:
            rows.append(Row(who, claim, float(hidden.mean() / left.mean()), "", "<= 0.5"))
        else:
            # Two gains, or two differences of noise, have a ratio too, which says nothing.
            rows.append(
                Row(who, claim, None, "no ratio: nothing was learned, or nothing lost by leaving out", "<= 0.5")
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("COMMONPRIOR_DATA"))
    parser.add_argument("--case", choices=CASES, action="append", help="both without")
    parser.add_argument("--hiding", type=float, default=0.9, help="the share of the sites that hides columns")
    parser.add_argument("--hidden", type=float, default=0.25, help="the share of the columns that it hides")
    parser.add_argument("--rounds", type=int, default=800, help=f"at least {LOOKS}")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here, too")
    options = parser.parse_args()
    console, rows, data = Console(highlight=False), [], Path(options.data) if options.data else Path()
    hides = Hides(options.hiding, options.hidden)
    for name in options.case or CASES:
        case, seeds = CASES[name](data), []
        for seed in range(options.seeds):
            seeds.append(scores(case, hides, options.rounds, seed))
            console.print(f"{name}, seed {seed}: {seeds[-1]}")
        rows += summarised(f"{name}, {hides.sites:.0%} hide {hides.columns:.0%}", seeds)
    print_rows(console, "Columns that sites hide", rows)
    write_rows(options.json, rows)


if __name__ == "__main__":
    main()
