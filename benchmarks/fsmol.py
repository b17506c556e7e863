"""Activity of molecules in assays that nobody trained on: FS-Mol's own protocol, beside its published table.

    python benchmarks/fsmol.py --data DIR [--prior RUN] [--fold valid|test|FILE] [--shots 16,64] [--json FILE]

Ten supports a task and size, drawn as the published ones are (seeds 0 to 9, stratified, the query is all the rest);
delta-AUPRC is the mean over supports, then over tasks, with a 95% interval of Student's t over tasks. Everything is
chosen on the validation fold; the test fold is for the last look. Without --prior the recipe is trained first.
With --pooled the same learner also learns as long from all tasks in one hand.
With --target regression: R2 against the support's mean, over the assays that the published table is over.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pandas as pd
from _rows import Row, print_rows, write_rows
from rich.console import Console
from sklearn.model_selection import StratifiedShuffleSplit

from commonprior.baselines.pooled import Pooled
from commonprior.baselines.random_forest import RandomForest
from commonprior.contestants import FEDERATED, read_shots
from commonprior.evaluation import score, summary
from commonprior.loading import open_run
from commonprior.predictor import LearnedPrior, Predictor
from commonprior.recipe import Recipe, read_recipe
from commonprior.sampling import learning_key
from commonprior.task import Batch, Categorical, Prediction
from commonprior.tasks._pool import TablePool
from commonprior.tasks.fsmol import Fsmol
from commonprior.training import train

RECIPE = Path(__file__).parents[1] / "examples" / "fsmol.toml"
DRAWS, CHUNK = 10, 256

DELTA_AUPRC = {
    "kNN": (0.056, 0.080, 0.107, 0.144), "random forest, tuned": (0.098, 0.130, 0.168, 0.218),
    "GP-ST": (0.114, 0.144, 0.176, 0.218), "Multitask": (0.117, 0.149, 0.182, 0.228),
    "MAML": (0.165, 0.172, 0.178, 0.197), "CNP": (0.190, 0.195, 0.198, 0.211),
    "ProtoNet": (0.211, 0.247, 0.276, 0.306), "DKT": (0.220, 0.250, 0.275, 0.307),
    "ADKF-IFT": (0.234, 0.266, 0.290, 0.321),
}  # fmt: skip
"""Published (Chen, Tripp and Hernández-Lobato 2023): 157 test tasks at 16, 32, 64, 128 shots."""

R2 = {
    "random forest, tuned": (0.055, 0.111, 0.178, 0.225), "GP-ST": (0.068, 0.116, 0.181, 0.231),
    "DKT": (0.175, 0.250, 0.321, 0.359), "ADKF-IFT": (0.167, 0.254, 0.340, 0.382),
}  # fmt: skip
"""Published (the same): 111 test tasks."""

SIZES = (16, 32, 64, 128)
METRIC = {"classification": "delta-AUPRC", "regression": "R2"}


class Draw(NamedTuple):
    """Which rows of a task are support, and which are query."""

    support: np.ndarray
    query: np.ndarray


def published_draws(active: np.ndarray, shots: int) -> list[tuple[int, Draw]]:
    """Return (seed, draw)s of a task whose rows, in the file's order, are active or not [n]; impossible ones left out.

    The source lists a task's actives first and calls them class 0: seeds repeat its supports only in that order.
    """
    order = np.concatenate([np.flatnonzero(active), np.flatnonzero(~active)])
    kind, n = np.where(active[order], 0, 1), len(active)
    draws = []
    for seed in range(DRAWS if n - shots >= 2 else 0):
        split = StratifiedShuffleSplit(1, train_size=shots, test_size=n - shots, random_state=seed)
        support, query = next(split.split(order[:, None], kind))
        if all(len(np.unique(kind[rows])) == 2 for rows in (support, query)):
            draws.append((seed, Draw(order[support], order[query])))
    return draws


def predicted(predictor: Predictor, pool: TablePool, draws: Sequence[Draw], keys: jax.Array) -> Iterator[Prediction]:
    """Yield the prediction of every draw's whole query, in pieces of one shape: one program serves all tasks."""
    shots, n = len(draws[0].support), len(draws[0].query)
    x = [pool.rows.take(pool.index[draw.support], shots) for draw in draws]
    y = np.stack([pool.y[draw.support] for draw in draws])
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *x)
    adapted = predictor.adapt(Batch(stacked, y, np.ones(y.shape, np.float32)), keys)
    parts = []
    for at in range(0, n, CHUNK):
        x = [pool.rows.take(pool.index[draw.query[at : at + CHUNK]], CHUNK) for draw in draws]
        part = predictor.predict(adapted, jax.tree.map(lambda *leaves: np.stack(leaves), *x), keys)
        parts.append(jax.tree.map(lambda leaf, end=n - at: np.asarray(leaf)[:, :end], part))
    whole = jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=1), *parts)
    for i in range(len(draws)):
        yield jax.tree.map(lambda leaf, i=i: leaf[i], whole)


def figure(prediction: Prediction, pool: TablePool, draw: Draw) -> float:
    """Return delta-AUPRC, or R2 against the mean of the support."""
    y = pool.y[draw.query]
    if isinstance(prediction, Categorical):
        return score(prediction, Batch(None, y, np.ones(len(y), np.float32)))["delta_auprc"]
    known = pool.y[draw.support].astype(np.float64).mean()
    return float(1 - ((y - prediction.mean) ** 2).sum() / ((y - known) ** 2).sum())


def evaluate(predictors: Mapping[str, Predictor], source: Fsmol, path: Path, shots: int) -> tuple[pd.DataFrame, int]:
    """Return a table as `evaluation.compare` does, and how many tasks have no draw of this size."""
    pools = {p.name: (site, p) for site, held in source.fold(path).items() for p in held}
    labels = pools
    if source.target == "regression":  # draws are stratified by the class, whatever is predicted
        classes = replace(source, target="classification")
        labels = {p.name: (site, p) for site, held in classes.fold(path).items() for p in held}
    records, without = [], 0
    for name, (site, pool) in sorted(pools.items()):
        draws = published_draws(labels[name][1].y > 0, shots)
        without += not draws
        if not draws:
            continue
        keys = jax.random.split(learning_key(0, "fsmol", name, shots), len(draws))
        for who, predictor in predictors.items():
            predictions = predicted(predictor, pool, [draw for _, draw in draws], keys)
            for (seed, draw), prediction in zip(draws, predictions, strict=True):
                records.append((who, site, name, seed, METRIC[source.target], figure(prediction, pool, draw)))
    columns = ["contestant", "site", "task", "support", "metric", "value"]
    return pd.DataFrame(records, columns=columns), without


def rows_of(table: pd.DataFrame, fold: str, shots: int, target: str) -> list[Row]:
    """Return the means over tasks and the ends of their intervals, and the published means beside them."""
    out, case = [], f"{fold}, {shots} shots, {METRIC[target]}"
    goal = ">= 0.234" if (fold, shots, target) == ("test", 16, "classification") else None
    for line in summary(table, FEDERATED).to_dict("records"):
        who = str(line["contestant"])
        wanted = goal if who == FEDERATED else None
        out.append(Row(who, f"{case}, {line['tasks']} tasks", float(line["mean"]), "", wanted))
        out.append(Row(who, f"{case}, 95% from", float(line["low"]), ""))
        out.append(Row(who, f"{case}, 95% to", float(line["high"]), ""))
    if shots in SIZES:
        for who, values in (DELTA_AUPRC if target == "classification" else R2).items():
            case = f"test, {shots} shots, {METRIC[target]}, as published"
            out.append(Row(who, case, values[SIZES.index(shots)], ""))
    return out


def learned_prior(options: argparse.Namespace, data: Path, console: Console) -> tuple[Recipe, LearnedPrior, list[Row]]:
    """Return the prior of a run, or train one."""
    if options.prior:
        return *open_run(options.prior), []
    recipe = read_recipe(options.recipe)
    if options.target:
        recipe = replace(recipe, tasks=replace(recipe.tasks, target=options.target))  # pyright: ignore
    if options.rounds:
        recipe = replace(recipe, schedule=replace(recipe.schedule, rounds=options.rounds))
    with tempfile.TemporaryDirectory() as folder:
        start, processor = time.perf_counter(), time.process_time()
        learned = train(recipe, options.keep or Path(folder) / "run", data)
        case = "training, masked sum, all sites on one machine"
        rows = [
            Row(FEDERATED, case, time.perf_counter() - start, "s"),
            Row(FEDERATED, f"{case}, processor time", (time.process_time() - processor) / 60, "min", "<= 60"),
        ]
    console.print(f"trained in {rows[0].value:.0f} s")
    return recipe, learned, rows


def pooled_prior(recipe: Recipe, data: Path, console: Console) -> tuple[Mapping[str, Predictor], list[Row]]:
    """Return what the recipe's learner makes of the same tasks, rounds and shots in one hand, and how long it took."""
    schedule, family = recipe.schedule, recipe.tasks.load(data)
    budget = (schedule.rounds, schedule.tasks_per_site, schedule.shots, schedule.queries)
    processor = time.process_time()
    pooled = Pooled(recipe.learner, *budget).prepare(family.spec, family.train, schedule.seed)
    minutes = (time.process_time() - processor) / 60
    console.print(f"trained on pooled tasks in {minutes:.1f} min")
    return pooled, [Row("pooled", "training, all tasks in one hand, processor time", minutes, "min", "<= 60")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("COMMONPRIOR_DATA"))
    parser.add_argument("--prior", type=Path, help="a run folder whose prior is evaluated; trains one otherwise")
    parser.add_argument("--keep", type=Path, help="a new run folder to train in, and to keep")
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="what is trained where there is no --prior")
    parser.add_argument("--rounds", type=int, help="train for so many rounds instead of the recipe's")
    parser.add_argument("--target", choices=sorted(METRIC), help="of the training; a run's prior has its own")
    parser.add_argument("--fold", default="valid", help="valid, test, or a file that has tasks.parquet beside it")
    parser.add_argument("--shots", default="16,64")
    parser.add_argument("--pooled", action="store_true", help="train on pooled tasks, too")
    parser.add_argument("--no-forest", action="store_true", help="leave the random forest out")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    data = Path(options.data) if options.data else Path()
    recipe, learned, rows = learned_prior(options, data, console)
    source = recipe.tasks
    if not isinstance(source, Fsmol):
        parser.error(f"the run's tasks are {type(source).__name__}, expected a run on fsmol")
    folder = data / "fsmol" if (data / "fsmol").is_dir() else data
    path = folder / f"{options.fold}.parquet" if options.fold in ("train", "valid", "test") else Path(options.fold)
    predictors: dict[str, Predictor] = {FEDERATED: learned}
    if not options.no_forest:
        predictors |= RandomForest().prepare(learned.spec, {}, 0)
    if options.pooled:
        pooled, more = pooled_prior(recipe, data, console)
        predictors, rows = predictors | pooled, rows + more
    for shots in read_shots(options.shots):
        table, without = evaluate(predictors, source, path, shots)
        if without:
            console.print(f"{without} tasks have no support of {shots}")
        rows += rows_of(table, path.stem, shots, source.target)
    print_rows(console, "FS-Mol", rows)
    write_rows(options.json, rows)


if __name__ == "__main__":
    main()
