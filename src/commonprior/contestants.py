# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportArgumentType=false, reportOperatorIssue=false
"""A run's prior beside everything that one would do otherwise, over the same supports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import pandas as pd

from commonprior.baselines.alone import Alone
from commonprior.baselines.from_scratch import FromScratch
from commonprior.baselines.pooled import Pooled
from commonprior.baselines.random_forest import RandomForest
from commonprior.baselines.single_task_gp import SingleTaskGp
from commonprior.baselines.transfer import Transfer
from commonprior.errors import InputError
from commonprior.evaluation import compare, draws, summary
from commonprior.learners import Learner
from commonprior.networks import Network
from commonprior.networks.mlp import Mlp
from commonprior.predictor import LearnedPrior, Predictor, predict_tasks
from commonprior.recipe import Recipe
from commonprior.task import Gaussian, stack, standardise
from commonprior.tasks import Family

FEDERATED = "federated"

NAMES = ("pooled", "alone", "from_scratch", "transfer", "random_forest", "single_task_gp")
"""Every baseline, by the name that `--baselines` takes."""

Progress = Callable[[int, int, str], None]


def read_shots(text: str) -> tuple[int, ...]:
    """Return the numbers in a list such as "5,16"."""
    try:
        counts = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--shots {text!r}: expected numbers such as 5,16") from None
    if min(counts) < 1:
        raise InputError(f"--shots {text!r}: expected numbers of at least 1")
    return counts


def baseline_names(text: str) -> tuple[str, ...]:
    """Return the baselines that `all`, `none` or a list names."""
    if text in ("all", "none"):
        return NAMES if text == "all" else ()
    names = tuple(text.split(","))
    for name in names:
        if name not in NAMES:
            raise InputError(f"--baselines {name!r}: expected all, none or some of {', '.join(NAMES)}")
    return names


def prepare(recipe: Recipe, family: Family, names: tuple[str, ...], progress: Progress) -> dict[str, Predictor]:
    """Train the named baselines on the family's training sites, as long and as wide as the federation was."""
    schedule, network = recipe.schedule, network_of(recipe.learner)
    budget = (schedule.rounds, schedule.tasks_per_site, schedule.shots, schedule.queries)
    made = {
        "pooled": lambda: Pooled(recipe.learner, *budget),
        "alone": lambda: Alone(recipe.learner, *budget),
        "from_scratch": lambda: FromScratch(network),
        "transfer": lambda: Transfer(network),
        "random_forest": RandomForest,
        "single_task_gp": SingleTaskGp,
    }
    out: dict[str, Predictor] = {}
    for i, name in enumerate(names):
        progress(i, len(names), f"preparing {name}")
        predictors = made[name]().prepare(family.spec, family.train, schedule.seed)
        for who, predictor in predictors.items():
            out[f"{name} {who}" if name == "alone" else name] = predictor
    return out


def network_of(learner: Learner) -> Network:
    """Return the learner's own network, for baselines that train one; a plain one where it has none."""
    found = getattr(learner, "network", None)
    return found if isinstance(found, Network) else Mlp(widths=(64, 64))


def compare_all(
    recipe: Recipe, learned: LearnedPrior, family: Family, shots: tuple[int, ...], supports: int, queries: int,
    split: str, baselines: str, progress: Progress,
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """Return (summary, predictions).

    Summary columns: shots and those of `evaluation.summary`, differences to the federated prior. Predictions: task,
    truth, mean, sd of the federated prior's first support of every task at the first number of shots.
    """
    pools = {"valid": family.valid, "test": family.test}.get(split)
    if not pools:
        raise InputError(f"--split {split!r}: this family has no tasks there; expected valid or test")
    contestants: dict[str, Predictor] = {
        FEDERATED: learned,
        **prepare(recipe, family, baseline_names(baselines), progress),
    }
    parts = []
    for i, k in enumerate(shots):
        progress(i, len(shots), f"predicting from {k} samples")
        episodes = draws(pools, k, supports, queries, recipe.schedule.seed)
        part = summary(best_alone(compare(contestants, episodes)), FEDERATED)
        part.insert(0, "shots", k)
        parts.append(part)
    progress(len(shots), len(shots), "evaluated")
    return pd.concat(parts, ignore_index=True), predictions_of(learned, family, pools, shots[0], queries, recipe)


def best_alone(table: pd.DataFrame) -> pd.DataFrame:
    """Keep, of the sites that learned alone, the best one in hindsight: the hardest comparison to win."""
    alone = table[table.contestant.str.startswith("alone ")]
    if alone.empty:
        return table
    means = alone[alone.metric == "nll"].groupby("contestant")["value"].mean()
    for metric in ("spearman", "r2", "accuracy"):
        scores = alone[alone.metric == metric].groupby(["contestant", "site", "task"])["value"].mean()
        if not scores.empty:
            means = -scores.groupby("contestant").mean()
            break
    best = str(means.idxmin())
    others = table[~table.contestant.str.startswith("alone ")]
    kept = alone[alone.contestant == best].assign(contestant=f"best alone ({best.removeprefix('alone ')})")
    return pd.concat([others, kept], ignore_index=True)


def predictions_of(
    learned: LearnedPrior, family: Family, pools: Mapping[str, Any], shots: int, queries: int, recipe: Recipe
) -> pd.DataFrame:
    """Return truth and prediction of every query of each task's first support; empty for classification."""
    columns = ["task", "truth", "mean", "sd"]
    if family.spec.target.kind == "classification":
        return pd.DataFrame(columns=columns)
    episodes = draws(pools, shots, 1, queries, recipe.schedule.seed)
    tasks = stack([episodes.draw(i) for i in range(len(episodes))])
    prediction = predict_tasks(learned, tasks.support, tasks.query.x, episodes.keys(slice(0, len(episodes))))
    if not isinstance(prediction, Gaussian):
        return pd.DataFrame(columns=columns)
    parts = []
    for i in range(len(episodes)):
        rows = np.asarray(tasks.query.mask[i]) > 0
        site, pool, _ = episodes.place(i)
        parts.append(pd.DataFrame({
            "task": f"{site}/{pool.name}", "truth": np.asarray(tasks.query.y[i])[rows],
            "mean": np.asarray(prediction.mean[i])[rows], "sd": np.sqrt(np.asarray(prediction.variance[i]))[rows],
        }))  # fmt: skip
    return pd.concat(parts, ignore_index=True)[columns]


def curve_point(learned: LearnedPrior, pools: Mapping[str, Any], shots: int, queries: int, seed: int) -> list[
    tuple[str, str, float]
]:  # fmt: skip
    """Return (site, metric, value) of the prior on a few fixed episodes of each site's own tasks.

    Errors and log-likelihoods are over standardised labels, so that sites with other units can share an axis.
    """
    out = []
    for site in sorted(pools):
        episodes = [
            pool.episode(np.random.default_rng([seed, i]), shots, queries) for i, pool in enumerate(pools[site][:8])
        ]
        raw = stack(episodes)
        spread = np.asarray(standardise(raw, learned.spec.target)[1].spread)
        keys = jax.random.split(jax.random.key(seed), len(episodes))
        prediction = predict_tasks(learned, raw.support, raw.query.x, keys)
        mask = np.asarray(raw.query.mask) > 0
        if isinstance(prediction, Gaussian):
            error = np.asarray(prediction.mean) - np.asarray(raw.query.y)
            value = float(np.sqrt(np.mean((error / spread[..., None])[mask] ** 2)))
            out.append((site, "rmse of standardised labels", value))
        else:
            right = np.argmax(np.asarray(prediction.logits), -1) == np.asarray(raw.query.y)
            out.append((site, "accuracy", float(right[mask].mean())))
    return out
