"""What to measure next: expected improvement and information beside random choice, on real tasks.

    python benchmarks/suggest.py --data DIR [--json FILE]

A held-out task starts with five random samples; ten more are chosen one at a time from all its others, whose labels
are looked up only when they are chosen. *best found* is the share of the task's samples that the best one so far beats
(1: the best of all); *Spearman* is the rank correlation over what is left, after all fifteen. Every strategy begins
with the same samples; intervals are 95% intervals over tasks, of the difference to random choice.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
import pandas as pd
from _rows import Row, print_rows, write_rows
from rich.console import Console
from scipy import stats

from commonprior.baselines.pooled import Pooled
from commonprior.evaluation import summary
from commonprior.learners._server import ServerStep
from commonprior.learners.dkt import Dkt
from commonprior.networks.mlp import Mlp
from commonprior.predictor import LearnedPrior, predict_task
from commonprior.recipe import Recipe, Schedule, read_recipe
from commonprior.sampling import generator, learning_key
from commonprior.suggestion import suggest
from commonprior.task import Batch, Column, Pool
from commonprior.tasks import Family
from commonprior.tasks.table import Table

START, MORE, STARTS, CANDIDATES, TASKS = 5, 10, 3, 150, 40
LNPDB = Path(__file__).parents[1] / "examples" / "lnpdb.toml"
STRATEGIES = ("random", "improvement", "information")


def lnpdb(data: Path) -> tuple[Family, LearnedPrior]:
    """Return the studies of lipid nanoparticles and the prior of the example's learner."""
    recipe: Recipe = read_recipe(LNPDB)
    return _with_prior(recipe.tasks.load(data), recipe.learner, recipe.schedule)


def materials(data: Path) -> tuple[Family, LearnedPrior]:
    """Return material properties by formula: experiments and 2D materials are held out, computed crystals train."""
    source = Table(
        target="target", task="task_id", site="site_id", file="materials-formula/materials.parquet",
        columns=(Column("formula", "formula"),), target_kind="regression", drop_small_tasks=True, min_rows=40,
        test_sites=("jarvis_dft_2d", "citrine_experimental", "zhuo_experimental"), valid_sites=("petretto_dfpt",),
    )  # fmt: skip
    learner = Dkt(Mlp((128,)), terms=("deep", "counts"), server=ServerStep(kind="adam", rate=0.003))
    return _with_prior(source.load(data), learner, Schedule(rounds=200, tasks_per_site=8, shots=16, queries=32))


def _with_prior(family: Family, learner: Dkt, schedule: Schedule) -> tuple[Family, LearnedPrior]:
    budget = (schedule.rounds, schedule.tasks_per_site, schedule.shots, schedule.queries)
    (prior,) = Pooled(learner, *budget).prepare(family.spec, family.train, schedule.seed).values()
    if not isinstance(prior, LearnedPrior):
        raise TypeError("pooled training leaves a learned prior")
    return family, prior


def search(learned: LearnedPrior, pool: Pool, start: int, strategy: str) -> dict[str, float]:
    """Choose `MORE` samples of one task after `START` random ones; return what was found."""
    rng = generator(0, "search", pool.name, start)
    drawn = pool.episode(rng, START, CANDIDATES)
    left = np.asarray(drawn.query.mask) > 0
    room = jax.tree.map(lambda leaf: np.concatenate([leaf, np.zeros((MORE, *leaf.shape[1:]), leaf.dtype)]),
                        jax.tree.map(np.asarray, drawn.support))  # fmt: skip
    truth, everyone = np.asarray(drawn.query.y), np.concatenate([drawn.support.y, drawn.query.y[left]])
    key, found = learning_key(0, "search", pool.name, start), {}
    for i in range(MORE):
        promise = rng.random(len(truth))
        if strategy != "random":
            judged = suggest(learned, room, drawn.query.x, key, information=strategy == "information")
            promise = getattr(judged, strategy)
        best = int(np.argmax(np.where(left, promise, -np.inf)))
        left[best] = False
        for leaf, rows in zip(jax.tree.leaves(room), jax.tree.leaves(drawn.query), strict=True):
            leaf[START + i] = rows[best]
        if i + 1 in (MORE // 2, MORE):
            top = room.y[: START + i + 1].max()
            found[f"best found after {i + 1}"] = float(
                (everyone < top).mean() / max((everyone < everyone.max()).mean(), 1e-9)
            )
    prediction = predict_task(learned, Batch(*room), drawn.query.x, key)
    found["Spearman on the rest"] = float(np.nan_to_num(stats.spearmanr(prediction.mean[left], truth[left]).statistic))
    return found


def compare(learned: LearnedPrior, pools: Mapping[str, Sequence[Pool]]) -> pd.DataFrame:
    """Return contestant, site, task, support, metric, value of every search."""
    held = [(site, pool) for site in sorted(pools) for pool in pools[site] if pool.size >= START + MORE + 25]
    every = np.linspace(0, len(held) - 1, min(TASKS, len(held))).astype(int)
    records = [
        (strategy, site, pool.name, start, metric, value)
        for site, pool in (held[i] for i in every)
        for start in range(STARTS)
        for strategy in STRATEGIES
        for metric, value in search(learned, pool, start, strategy).items()
    ]
    return pd.DataFrame(records, columns=["contestant", "site", "task", "support", "metric", "value"])


def main() -> None:
    """Search in both families and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("COMMONPRIOR_DATA"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("--data DIR (or COMMONPRIOR_DATA) with lnpdb and materials-formula is needed")
    rows: list[Row] = []
    sources: dict[str, Callable[[Path], tuple[Family, LearnedPrior]]] = {"lnpdb": lnpdb, "materials": materials}
    for name, source in sources.items():
        family, learned = source(Path(arguments.data))
        table = summary(compare(learned, family.test), "random")
        for line in table.itertuples():
            case = f"{name}, {line.tasks} tasks, {line.metric}"
            rows.append(Row(str(line.contestant), case, float(line.mean), ""))
            if line.contestant != "random":
                rows.append(Row(str(line.contestant), f"{case}, more than random", float(line.difference), ""))
                rows.append(Row(str(line.contestant), f"{case}, 95% from", float(line.difference_low), ""))
                rows.append(Row(str(line.contestant), f"{case}, 95% to", float(line.difference_high), ""))
    print_rows(Console(), "What to measure next", rows)
    write_rows(arguments.json, rows)


if __name__ == "__main__":
    main()
