"""The protocol by which contestants are compared: the same supports for everyone, several for each task.

A task's score is the mean over its supports, a contestant's the mean over tasks: supports of one task are not
independent, tasks are. Intervals are 95% intervals of Student's t over tasks (a bootstrap of ten tasks is too narrow);
a difference to a reference contestant is taken task by task before anything is averaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from scipy import special, stats
from sklearn.metrics import average_precision_score

from commonprior.errors import DataError, ModelError
from commonprior.predictor import MEMORY, Predictor, predict_tasks, spans
from commonprior.sampling import generator, learning_key
from commonprior.task import Batch, Categorical, Gaussian, Pool, Prediction, Task, stack

LEAST_QUERIES = 10
"""A rank correlation over fewer samples says nothing: a task that cannot offer as many is skipped, and named."""

_Z90 = float(stats.norm.ppf(0.95))


@dataclass(frozen=True, eq=False)
class Episodes:
    """Every support of every task, drawn anew each time it is asked for, and always the same.

    A draw depends on the seed, the site, the task, the shots and the support's number: on no contestant, and on no
    other task.
    """

    pools: tuple[tuple[str, Pool], ...]
    shots: int
    supports: int
    queries: int
    seed: int
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pools) * self.supports

    def place(self, index: int) -> tuple[str, Pool, int]:
        """Return the site, the task's pool and the number of the support of an episode."""
        site, pool = self.pools[index // self.supports]
        return site, pool, index % self.supports

    def draw(self, index: int) -> Task:
        """Return one episode, labels in the user's units."""
        site, pool, support = self.place(index)
        return pool.episode(
            generator(self.seed, "episode", site, pool.name, self.shots, support), self.shots, self.queries
        )

    def keys(self, rows: slice) -> jax.Array:
        """Return the learning keys of some episodes; the same for every contestant."""
        places = [self.place(i) for i in range(*rows.indices(len(self)))]
        return jnp.stack([learning_key(self.seed, "learning", s, p.name, self.shots, n) for s, p, n in places])


def draws(pools: Mapping[str, Sequence[Pool]], shots: int, supports: int, queries: int, seed: int) -> Episodes:
    """Return `supports` paired episodes of every task: `shots` samples to adapt on, up to `queries` to be judged by."""
    for name, value, least in (("shots", shots, 1), ("supports", supports, 1), ("queries", queries, 2)):
        if value < least:
            raise DataError(f"cannot evaluate with {name} = {value}: expected at least {least}")
    needed = shots + min(queries, LEAST_QUERIES)
    held = [(site, pool) for site in sorted(pools) for pool in sorted(pools[site], key=lambda p: p.name)]
    kept = tuple((site, pool) for site, pool in held if pool.size >= needed)
    skipped = tuple(f"{site}/{pool.name}" for site, pool in held if pool.size < needed)
    if not kept:
        largest = max((pool.size for _, pool in held), default=0)
        raise DataError(
            f"none of {len(held)} tasks has the {needed} samples that {shots} shots need (the largest has {largest}); "
            "take fewer shots"
        )
    return Episodes(kept, shots, supports, queries, seed, skipped)


def score(prediction: Prediction, query: Batch) -> dict[str, float]:
    """Return the metrics of one task's predictions [n]; padded rows do not count.

    Regression: r2, rmse, spearman, nll, coverage_90 (share of labels inside the central 90% interval). Predictions or
    labels that are all equal have no ranks: their spearman is 0; r2 over equal labels is 1 if they are met, else 0.
    Classification: accuracy, nll, delta_auprc (average precision less the class's share, Stanley et al. 2021; with
    more than two classes the mean over those that occur). Raises `ModelError` where a prediction is not finite.
    """
    rows = np.asarray(query.mask) > 0
    if not rows.any():
        raise DataError("a query without a single labelled sample cannot be scored; give the task more samples")
    prediction = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64)[rows], prediction)
    y = np.asarray(query.y)[rows]
    bad = sum(int((~np.isfinite(leaf)).sum()) for leaf in prediction)
    if bad:
        raise ModelError(f"{bad} of {sum(leaf.size for leaf in prediction)} predicted numbers are not finite")
    if isinstance(prediction, Categorical):
        return _classification(prediction, y.astype(np.int64))
    if not (prediction.variance > 0).all():
        raise ModelError(f"a predicted variance is {prediction.variance.min()}, expected above 0")
    return _regression(prediction, y.astype(np.float64))


def compare(contestants: Mapping[str, Predictor], episodes: Episodes, memory: int = MEMORY) -> pd.DataFrame:
    """Let every contestant predict every episode.

    Returns a tidy table: contestant, site, task, support, metric, value. At most `memory` bytes of episodes (or one)
    are held at a time.
    """
    if not contestants:
        raise DataError("nobody to compare; name at least one contestant")
    first = episodes.draw(0)
    each = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(first))
    records = []
    for rows, new in spans(len(episodes), max(1, memory // max(each, 1))):
        tasks = stack([episodes.draw(i) for i in range(rows.start, rows.stop)])
        keys = episodes.keys(rows)
        for name, predictor in contestants.items():
            prediction = predict_tasks(predictor, tasks.support, tasks.query.x, keys, memory)
            for i in range(new, rows.stop - rows.start):
                records += _records(name, episodes, rows.start + i, prediction, tasks.query, i)
    table = pd.DataFrame(records, columns=["contestant", "site", "task", "support", "metric", "value"])
    order = {name: i for i, name in enumerate(contestants)}
    return table.sort_values("contestant", key=lambda c: c.map(order), kind="stable", ignore_index=True)


def summary(table: pd.DataFrame, reference: str | None = None) -> pd.DataFrame:
    """Return each contestant's mean over tasks with its 95% t-interval, and its paired difference to `reference`.

    Columns: contestant, metric, tasks, mean, low, high, difference, difference_low, difference_high. A single task has
    no interval (NaN). Differences are over the tasks that both contestants predicted.
    """
    contestants = list(dict.fromkeys(table["contestant"]))
    if reference is not None and reference not in contestants:
        raise DataError(f"reference {reference!r} is not among the contestants {', '.join(contestants)}")
    by_task = table.pivot_table("value", ["metric", "site", "task"], "contestant", aggfunc="mean")
    records = []
    for metric in dict.fromkeys(table["metric"]):
        values = {name: by_task.loc[metric, name].to_numpy(float) for name in contestants}
        for name in contestants:
            own = values[name][~np.isnan(values[name])]
            if not len(own):
                continue
            difference = values[name] - (np.nan if reference is None else values[reference])
            records.append((name, metric, len(own), *_interval(own), *_interval(difference[~np.isnan(difference)])))
    columns = [
        "contestant",
        "metric",
        "tasks",
        "mean",
        "low",
        "high",
        "difference",
        "difference_low",
        "difference_high",
    ]
    return pd.DataFrame(records, columns=columns)


def _records(
    name: str, episodes: Episodes, index: int, predictions: Prediction, queries: Batch, row: int
) -> list[tuple[str, str, str, int, str, float]]:
    site, pool, support = episodes.place(index)
    prediction = jax.tree.map(lambda leaf: leaf[row], predictions)
    query = Batch(None, queries.y[row], queries.mask[row])
    try:
        metrics = score(prediction, query)
    except ModelError as error:
        raise ModelError(f"{name}, task {site}/{pool.name}, support {support}: {error}") from None
    return [(name, site, pool.name, support, metric, value) for metric, value in metrics.items()]


def _regression(prediction: Gaussian, y: np.ndarray) -> dict[str, float]:
    mean, variance = prediction
    residual = y - mean
    total = float(((y - y.mean()) ** 2).sum())
    unexplained = float((residual**2).sum())
    flat = np.ptp(y) == 0 or len(y) < 2
    inside = np.abs(residual) <= _Z90 * np.sqrt(variance)
    nll = 0.5 * (np.log(2 * np.pi * variance) + residual**2 / variance)
    return {
        "r2": float(unexplained == 0) if flat else 1 - unexplained / total,
        "rmse": float(np.sqrt((residual**2).mean())),
        "spearman": _spearman(mean, y),
        "nll": float(nll.mean()),
        "coverage_90": float(inside.mean()),
    }


def _classification(prediction: Categorical, y: np.ndarray) -> dict[str, float]:
    logits = prediction.logits
    surprise = special.logsumexp(logits, 1) - logits[np.arange(len(y)), y]
    # Of two classes, the second is the one looked for; of more, each is looked for in turn.
    sought = [1] if logits.shape[1] == 2 else [c for c in range(logits.shape[1]) if (y == c).any()]
    # Log-odds rank as probabilities do, and do not all round to 1 where a model is sure.
    odds = {c: logits[:, c] - special.logsumexp(np.delete(logits, c, 1), 1) for c in sought}
    gains = [_average_precision(y == c, odds[c]) - float((y == c).mean()) for c in sought]
    return {
        "accuracy": float((logits.argmax(1) == y).mean()),
        "nll": float(surprise.mean()),
        "delta_auprc": float(np.mean(gains)),
    }


def _average_precision(truth: np.ndarray, ranking: np.ndarray) -> float:
    return float(average_precision_score(truth, ranking)) if truth.any() else 0.0


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(np.corrcoef(stats.rankdata(a), stats.rankdata(b))[0, 1])


def _interval(values: np.ndarray) -> tuple[float, float, float]:
    """Return the mean of values [n] and its 95% interval by Student's t."""
    n = len(values)
    if n < 2:
        return (float(values[0]) if n else np.nan), np.nan, np.nan
    mean = float(values.mean())
    half = float(stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n))
    return mean, mean - half, mean + half
