"""Delivery of nucleic acids by lipid nanoparticles: few-shot learning on assays of studies that nobody trained on.

    python benchmarks/lnpdb.py --data DIR [--prior RUN] [--json FILE]

Meta-training on 22 studies; the learner and its settings are chosen on the validation studies alone; the test studies
(BL_2023, LM_2019, SL_2020, ZC_2023) are looked at once, with everything decided. Every contestant sees the same
supports. Spearman a task is the mean over its supports; intervals are 95% intervals over tasks.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from _rows import Row, print_rows, write_rows
from rich.console import Console

from commonprior.baselines.pooled import Pooled
from commonprior.contestants import FEDERATED, best_alone, prepare
from commonprior.evaluation import compare, draws, summary
from commonprior.learners import Learner
from commonprior.learners._server import ServerStep
from commonprior.learners.dkt import Dkt
from commonprior.learners.maml import Maml
from commonprior.learners.reptile import Reptile
from commonprior.loading import open_run
from commonprior.networks.mlp import Mlp
from commonprior.predictor import Predictor
from commonprior.recipe import Recipe, read_recipe
from commonprior.tasks import Family
from commonprior.training import train

RECIPE = Path(__file__).parents[1] / "examples" / "lnpdb.toml"
BASELINES = ("pooled", "alone", "from_scratch", "transfer", "random_forest", "single_task_gp")
SHOTS, SUPPORTS, QUERIES = (16, 64), 10, 400


def candidates(recipe: Recipe) -> dict[str, Learner]:
    """Return what is tried on the validation studies, the recipe's own learner first."""
    wide, slow = Mlp(widths=(128,), activation="gelu", layer_norm=True), ServerStep(rate=3e-4)
    return {
        "dkt": recipe.learner,
        "dkt, deep features alone": Dkt(wide, terms=("deep",), server=ServerStep(rate=0.002)),
        "dkt, counts alone": Dkt(wide, terms=("counts",), server=ServerStep(rate=0.03)),
        "maml": Maml(wide, inner_steps=20, inner_rate=0.02, server=slow),
        "maml, first order": Maml(wide, inner_steps=20, inner_rate=0.02, first_order=True, server=slow),
        "anil": Maml(wide, inner_steps=20, inner_rate=0.02, adapts=("head",), server=slow),
        "reptile": Reptile(Mlp(widths=(256,)), 20, 0.01, server=ServerStep(kind="mean", rate=0.2)),
    }


def scores(contestants: dict[str, Predictor], pools: object, shots: int, seed: int) -> pd.DataFrame:
    """Return the summary of Spearman correlations over the same supports for everyone, beside the first one."""
    table = best_alone(compare(contestants, draws(pools, shots, SUPPORTS, QUERIES, seed)))
    return summary(table[table.metric == "spearman"], next(iter(contestants)))


def rows_of(frame: pd.DataFrame, split: str, shots: int) -> list[Row]:
    """Return a summary as rows: the mean, and the ends of its interval."""
    out = []
    for line in frame.itertuples():
        case = f"{split}, {shots} shots, Spearman"
        out.append(Row(str(line.contestant), case, float(line.mean), ""))
        out.append(Row(str(line.contestant), f"{case}, 95% from", float(line.low), ""))
        out.append(Row(str(line.contestant), f"{case}, 95% to", float(line.high), ""))
    return out


def choose(recipe: Recipe, family: Family, console: Console) -> tuple[str, dict[str, Predictor], list[Row]]:
    """Train every candidate on pooled tasks, and choose by the validation studies."""
    schedule = recipe.schedule
    trained: dict[str, Predictor] = {}
    budget = (schedule.rounds, schedule.tasks_per_site, schedule.shots, schedule.queries)
    for name, learner in candidates(recipe).items():
        start = time.perf_counter()
        (trained[name],) = Pooled(learner, *budget).prepare(family.spec, family.train, schedule.seed).values()
        console.print(f"trained {name} in {time.perf_counter() - start:.0f} s")
    rows, means = [], {}
    for shots in SHOTS:
        frame = scores(trained, family.valid, shots, schedule.seed)
        rows += rows_of(frame, "valid", shots)
        for line in frame.itertuples():
            means[line.contestant] = means.get(line.contestant, 0.0) + float(line.mean) / len(SHOTS)
    return max(means, key=means.__getitem__), trained, rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("COMMONPRIOR_DATA"))
    parser.add_argument("--prior", type=Path, help="a run folder whose prior is evaluated; trains one otherwise")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    console, recipe = Console(highlight=False), read_recipe(RECIPE)
    family = recipe.tasks.load(Path(options.data) if options.data else None)
    console.print(family.note)

    chosen, trained, rows = choose(recipe, family, console)
    console.print(f"chosen on the validation studies: {chosen}")
    recipe = replace(recipe, learner=candidates(recipe)[chosen])
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        learned = (
            open_run(options.prior)[1] if options.prior else train(recipe, Path(folder) / "run", Path(options.data))
        )
        rows.append(Row(FEDERATED, "training, masked sum, all sites on one machine", time.perf_counter() - start, "s"))

    others = prepare(recipe, family, tuple(b for b in BASELINES if b != "pooled"), lambda *_: None)
    contestants: dict[str, Predictor] = {FEDERATED: learned, "pooled": trained[chosen], **others}
    contestants |= {f"pooled {name}": p for name, p in trained.items() if name != chosen}
    for shots in SHOTS:
        frame = scores(contestants, family.test, shots, recipe.schedule.seed)
        rows += rows_of(frame, "test", shots)
        pooled = frame[frame.contestant == "pooled"].iloc[0]
        case = f"test, {shots} shots, Spearman less pooled's, paired"
        rows.append(Row(FEDERATED, case, -float(pooled.difference), "", ">= -0.02"))
        best = frame.loc[frame["mean"].idxmax()]
        console.print(f"{shots} shots: best is {best.contestant} with {best['mean']:.3f}")
    print_rows(console, "LNPDB", rows)
    write_rows(options.json, rows)


if __name__ == "__main__":
    main()
