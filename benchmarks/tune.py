"""Tuning with a memory of earlier searches, beside the same search without one, Optuna's default, and chance.

    python benchmarks/tune.py --data DIR [--table FILE] [--json FILE]

Five real families of tasks; the same random settings of a deep-kernel Gaussian process are trained on each, once, and
judged on its validation tasks: a table of results. Every searcher then proposes settings freely, each is moved to the
nearest ones of the table that it has not had, and told the result. A searcher with a memory has seen thirty results of
each of the four other families. *regret* is (best - found) / (best - median) of the table, mean over families and 20
repetitions. `--table` keeps the results, which take most of the time.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
import pandas as pd
from _rows import Row, print_rows, write_rows
from methods import columns_of
from rich.console import Console

from commonprior.baselines.pooled import Pooled
from commonprior.evaluation import compare, draws
from commonprior.recipe import Recipe, Schedule, read_recipe
from commonprior.sampling import generator
from commonprior.task import Column
from commonprior.tasks import Family
from commonprior.tasks.table import Table
from commonprior.tuning.ensemble import Model, Trials, propose
from commonprior.tuning.space import Settings, Space, changed, space_from
from commonprior.tuning.trials import candidates

RECIPE = Path(__file__).parents[1] / "examples" / "lnpdb.toml"
SPACE = space_from({
    "learner.server.rate": {"low": 1e-4, "high": 0.1, "log": True},
    "learner.features": {"low": 4, "high": 64, "log": True, "integer": True},
    "learner.network.widths": {"choices": [[32], [128], [64, 64]]},
    "learner.terms": {"choices": [["deep"], ["counts", "values"], ["deep", "counts", "values"]]},
    "learner.objective": {"choices": ["marginal", "predictive"]},
})  # fmt: skip
CONFIGURATIONS, REMEMBERED, BUDGET, REPETITIONS = 64, 30, 20, 20
SCHEDULE = Schedule(rounds=60, tasks_per_site=4, shots=8, queries=16)

Searcher = Callable[[Trials, np.random.Generator], np.ndarray]
"""From what was found so far to the point that it wants next."""


def families(data: Path) -> dict[str, Family]:
    """Return five families: nanoparticles that deliver, kill bacteria, harm cells, are magnetic; materials."""

    def chem(file: str, target: str, **more: object) -> Family:
        name = f"{file}.parquet"
        frame = pd.read_parquet(data / "nano-chemx" / name)
        if more:
            frame = frame[frame[target] > 0]  # of what is asked for is the logarithm
        columns = columns_of(frame, target)
        frame = frame[["task_id", "site_id", target, *(column.name for column in columns)]]
        return Table(target=target, task="task_id", site="site_id", file=name, columns=columns, min_rows=24,
                     target_kind="regression", drop_small_tasks=True, **more).gather([("", name, frame)])  # fmt: skip

    crystals = Table(
        target="target", task="task_id", site="site_id", file="materials-formula/materials.parquet", min_rows=40,
        columns=(Column("formula", "formula"),), target_kind="regression", drop_small_tasks=True,
        valid_sites=("petretto_dfpt", "jarvis_dft_2d"), test_sites=("citrine_experimental", "zhuo_experimental"),
    )  # fmt: skip
    return {
        "lnpdb": read_recipe(RECIPE).tasks.load(data),
        "materials": crystals.load(data),
        "mic": chem("antibacterial_mic", "mic_np_ug_ml", transform="log10"),
        "viability": chem("cytotox_viability", "viability_%"),
        "zoi": chem("antibacterial_zoi", "zoi_np_mm"),
    }


def result(family: Family, recipe: Recipe) -> float:
    """Train on pooled tasks; return minus the mean negative log-likelihood on validation tasks."""
    budget = (SCHEDULE.rounds, SCHEDULE.tasks_per_site, SCHEDULE.shots, SCHEDULE.queries)
    trained = Pooled(recipe.learner, *budget).prepare(family.spec, family.train, 0)
    table = compare(trained, draws(family.valid, SCHEDULE.shots, 3, 100, 0))
    return -float(table[table.metric == "nll"]["value"].mean())


def tabulate(data: Path, path: Path | None) -> tuple[list[Settings], dict[str, list[float]]]:
    """Return settings and each family's results; keep them in a file, and go on from it."""
    rng = generator(0, "configurations")
    settings = [SPACE.settings(rng.random(SPACE.size)) for _ in range(CONFIGURATIONS)]
    results: dict[str, list[float]] = json.loads(path.read_text()) if path and path.exists() else {}
    recipe = read_recipe(RECIPE)
    for name, family in families(data).items():
        done = results.setdefault(name, [])
        for chosen in settings[len(done) :]:
            done.append(result(family, changed(recipe, chosen)))
            jax.clear_caches()  # each setting is a program of its own, and a process has room for so many
            if path:
                path.write_text(json.dumps(results))
    return settings, results


def optuna_searcher(space: Space, seed: int) -> Callable[[Trials, np.random.Generator], np.ndarray] | None:
    """Return Optuna's default sampler as a searcher; None where it is not installed."""
    try:
        import optuna
    except ImportError:
        return None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    kinds = {
        name: optuna.distributions.CategoricalDistribution([json.dumps(c) for c in d.choices]) if d.choices
        else optuna.distributions.IntDistribution(int(d.low), int(d.high), log=d.log) if d.integer
        else optuna.distributions.FloatDistribution(d.low, d.high, log=d.log)
        for name, d in space.dimensions
    }  # fmt: skip
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))

    def search(trials: Trials, rng: np.random.Generator) -> np.ndarray:
        for point, score in list(zip(*trials, strict=True))[len(study.get_trials(states=(_complete(optuna),))) :]:
            params = {n: json.dumps(v) if isinstance(v, list) else json.dumps(v) if isinstance(v, str) else v
                      for n, v in space.settings(point).items()}  # fmt: skip
            study.add_trial(optuna.create_trial(params=params, distributions=kinds, value=float(score)))
        asked = study.ask(kinds)
        study.tell(asked, state=optuna.trial.TrialState.FAIL)
        return space.point({n: json.loads(v) if isinstance(v, str) else v for n, v in asked.params.items()})

    return search


def _complete(optuna: object) -> object:
    return optuna.trial.TrialState.COMPLETE


def found(searcher: Searcher, points: np.ndarray, scores: np.ndarray, rng: np.random.Generator) -> list[float]:
    """Return the best score after each of `BUDGET` trials."""
    left, tried = list(range(len(points))), []
    for _ in range(BUDGET):
        wish = searcher(Trials(points[tried], scores[tried]), rng)
        nearest = left[int(np.argmin(((points[left] - wish) ** 2).sum(1)))]
        left.remove(nearest)
        tried.append(nearest)
    return list(np.maximum.accumulate(scores[tried]))


def ours(earlier: Sequence[Model]) -> Searcher:
    """Return our search with models of earlier ones."""

    def search(trials: Trials, rng: np.random.Generator) -> np.ndarray:
        choice = candidates(SPACE, trials, rng)
        return choice[propose(earlier, trials, choice, rng)]

    return search


def regrets(settings: Sequence[Settings], results: Mapping[str, Sequence[float]], seed: int) -> dict[str, np.ndarray]:
    """Return each searcher's regrets [families, budget] in one repetition."""
    points = np.stack([SPACE.point(s) for s in settings])
    out: dict[str, list[np.ndarray]] = {}
    for name, own in results.items():
        scores = np.asarray(own)
        rng = generator(seed, "repetition", name)
        models = [Model(Trials(points[seen], np.asarray(other)[seen]), rng)
                  for label, other in results.items() if label != name
                  for seen in [rng.permutation(len(points))[:REMEMBERED]]]  # fmt: skip
        searchers: dict[str, Searcher | None] = {
            "chance": lambda trials, chance: chance.random(SPACE.size),
            "Optuna, default (TPE)": optuna_searcher(SPACE, seed),
            "without a memory": ours([]),
            "with a memory": ours(models),
        }
        for who, searcher in searchers.items():
            if searcher is not None:
                best = np.array(found(searcher, points, scores, generator(seed, "search", name)))
                out.setdefault(who, []).append((scores.max() - best) / (scores.max() - np.median(scores)))
    return {who: np.stack(parts) for who, parts in out.items()}


def main() -> None:
    """Tabulate, search, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("COMMONPRIOR_DATA"))
    parser.add_argument("--table", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("--data DIR (or COMMONPRIOR_DATA) is needed")
    settings, results = tabulate(Path(arguments.data), arguments.table)
    runs = [regrets(settings, results, seed) for seed in range(REPETITIONS)]
    rows = []
    for who in runs[0]:
        every = np.stack([run[who] for run in runs])  # [repetitions, families, budget]
        for trials in (3, 10, BUDGET):
            value = every[:, :, trials - 1]
            half = 1.96 * value.mean(1).std(ddof=1) / np.sqrt(len(runs))
            rows.append(Row(who, f"regret after {trials} trials", float(value.mean()), f"± {half:.3f}"))
    if "Optuna, default (TPE)" not in runs[0]:
        rows.append(Row("Optuna, default (TPE)", "regret", None, "skipped: not installed"))
    print_rows(Console(), "Tuning", rows)
    write_rows(arguments.json, rows)


if __name__ == "__main__":
    main()
