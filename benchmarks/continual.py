"""Learning to learn from a stream: forgetting and forward transfer, beside plain fine-tuning.

    python benchmarks/continual.py --data DIR [--json FILE]

*gas*: six batches of a drifting sensor array over three years, in order; six gases are told apart from one sample each
of the batch at hand. *weather*: eight half-years at forty stations, winter and summer in turn; the next day's rain from
ten days. After every segment each learner is judged on held-out tasks of all segments. *plain fine-tuning* trains the
same network on each segment's labelled samples in turn, without any inner loop, and takes the same few steps on a
support when it is judged. Figures are those of `commonprior.continual`; ± is the standard error over repetitions.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pandas as pd
from _rows import Row, print_rows, write_rows
from rich.console import Console

from commonprior.continual import Transfer, transfer
from commonprior.evaluation import score
from commonprior.learners import Learner
from commonprior.learners._server import ServerStep
from commonprior.learners.maml import Maml
from commonprior.learners.online import Online
from commonprior.learners.protonet import Protonet
from commonprior.learners.reptile import Reptile
from commonprior.networks.mlp import Mlp
from commonprior.predictor import LearnedPrior, predict_tasks
from commonprior.prior import Prior
from commonprior.sampling import generator, learning_key, sample_tasks
from commonprior.task import Batch, Column, Pool, Target, Task, TaskSpec, stack
from commonprior.tasks.table import Table

REPETITIONS, ROUNDS, TASKS, JUDGED = 3, 60, 8, 40


class Stream(NamedTuple):
    """Segments in order, each with pools to learn from and pools to be judged on; shots, queries and the metric."""

    spec: TaskSpec
    learn: Sequence[Sequence[Pool]]
    judge: Sequence[Sequence[Pool]]
    shots: int
    queries: int
    metric: str


class Batches:
    """Tasks out of one batch: a sample of each gas that is in it, and others to be judged by."""

    def __init__(self, name: str, x: np.ndarray, gases: np.ndarray) -> None:
        self.name, self.size, self._x, self._gases = name, len(gases), x, gases

    def episode(self, rng: np.random.Generator, shots: int, queries: int) -> Task:
        """Draw shots / 6 samples of each gas, padded where the batch lacks one, and queries at random."""
        order, each = rng.permutation(self.size), shots // 6
        support = np.concatenate([order[self._gases[order] == g][:each] for g in range(6)])
        query = np.setdiff1d(order, support)
        query = rng.permutation(query)[:queries]
        return Task(self._batch(support, shots), self._batch(query, queries))

    def _batch(self, rows: np.ndarray, length: int) -> Batch:
        index = np.concatenate([rows, np.zeros(length - len(rows), int)])
        return Batch(self._x[index], self._gases[index], (np.arange(length) < len(rows)).astype(np.float32))


def gas(data: Path) -> Stream:
    """Return the batches in order; odd rows to learn from, even ones to be judged on."""
    table = pd.read_parquet(data / "gas-sensor-drift" / "gas_drift.parquet").sort_values(["batch", "row_in_batch"])
    sensors = [c for c in table.columns if c[0] == "s" and c[1:3].isdigit()]
    values = np.sign(table[sensors]) * np.log1p(np.abs(table[sensors]))
    first = values[table.batch == table.batch.min()]
    x = ((values - first.median()) / first.std()).clip(-10, 10).to_numpy(np.float32)
    batches = sorted(table.batch.unique())
    pools = {
        half: [
            [Batches(f"{b}/{half}", x[rows], table.gas_code.to_numpy(np.int32)[rows] - 1)]
            for b in batches
            for rows in [np.flatnonzero((table.batch == b).to_numpy())[half::2]]
        ]
        for half in (0, 1)
    }
    spec = TaskSpec(Target(kind="classification", classes=tuple("123456")), shape=(len(sensors),))
    return Stream(spec, pools[1], pools[0], 6, 30, "accuracy")


def weather(data: Path) -> Stream:
    """Return half-years in order; a task is a station in a half-year, every fourth station is judged on."""
    table = pd.read_parquet(data / "weather-stations-au" / "weather_au.parquet")
    date = pd.to_datetime(table.date)
    half = (date.dt.year - 2010) * 2 + (date.dt.month - 4).floordiv(6)
    table = table.assign(task=table.site_id.astype(str) + "/" + half.astype(str), segment=half)[half.between(0, 7)]
    inputs = [c for c in table.columns if c.endswith(("_temp_C", "_pct", "_hPa")) or c in ("rainfall_mm", "temp_3pm_C")]
    source = Table(
        target="rain_tomorrow", task="task", site="site_id", file="weather.parquet", target_kind="classification",
        columns=tuple(Column(c) for c in inputs), classes=("0", "1"), valid_fraction=0.0, test_fraction=0.0,
        drop_small_tasks=True, min_rows=60,
    )  # fmt: skip
    rain = table.rain_tomorrow
    table = table[rain.notna()].assign(rain_tomorrow=rain[rain.notna()].astype(int))
    family = source.gather([("", "weather.parquet", table[[*inputs, "task", "site_id", "rain_tomorrow"]])])
    learn: list[list[Pool]] = [[] for _ in range(8)]
    judge: list[list[Pool]] = [[] for _ in range(8)]
    for i, site in enumerate(sorted(family.train)):
        for pool in family.train[site]:
            (judge if i % 4 == 0 else learn)[int(pool.name.rpartition("/")[2])].append(pool)
    return Stream(family.spec, learn, judge, 10, 40, "delta_auprc")


def judged(learner: Learner, prior: Prior, stream: Stream, seed: int) -> list[float]:
    """Return the mean score on held-out tasks of each segment; the same tasks for everyone."""
    out = []
    for number, pools in enumerate(stream.judge):
        rng = generator(seed, "judge", number)
        tasks = stack([pools[i % len(pools)].episode(rng, stream.shots, stream.queries) for i in range(JUDGED)])
        keys = jax.random.split(learning_key(seed, "judge"), JUDGED)
        prediction = predict_tasks(LearnedPrior(learner, prior, stream.spec), tasks.support, tasks.query.x, keys)
        each = [jax.tree.map(lambda leaf, i=i: leaf[i], (prediction, tasks.query)) for i in range(JUDGED)]
        out.append(float(np.mean([score(*one)[stream.metric] for one in each])))
    return out


def in_order(learner: Learner, judge: Learner, stream: Stream, seed: int) -> np.ndarray:
    """Train on one segment after another; return scores [segments + 1, segments]."""
    prior, memory = learner.init(stream.spec, learning_key(seed, "init")), {}
    scores = [judged(judge, prior, stream, seed)]
    for number, pools in enumerate(stream.learn):
        many = [pools[i % len(pools)] for i in range(max(len(pools), TASKS))]
        for step in range(ROUNDS):
            rng = generator(seed, "learn", number, step)
            tasks = sample_tasks(many, rng, TASKS, stream.shots, stream.queries, stream.spec.target)
            contributions, memory = learner.contribute(prior, tasks, memory, learning_key(seed, number, step))
            prior = learner.apply(prior, np.asarray(contributions.rows, np.float64).mean(0), None)
        scores.append(judged(judge, prior, stream, seed))
    return np.array(scores)


def contestants() -> Mapping[str, tuple[Learner, Learner]]:
    """Return who learns from the stream, and what adapts the prior when it is judged."""
    network, server = Mlp((128,), activation="gelu", layer_norm=True), ServerStep(rate=1e-3)
    maml = Maml(network, inner_steps=5, inner_rate=0.05, server=server)
    proto = Protonet(network, server=server)
    # One small step on support and query together is a step of plain supervised training.
    plain, tuned = (Reptile(network, inner_steps=n, inner_rate=0.05, server=server) for n in (1, 5))
    return {
        "maml, replay": (Online(maml, replay=8, keep=64), maml),
        "maml, no replay": (maml, maml),
        "prototypical network, replay": (Online(proto, replay=8, keep=64), proto),
        "prototypical network, no replay": (proto, proto),
        "plain fine-tuning": (plain, tuned),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run both streams."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("COMMONPRIOR_DATA"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    if options.data is None:
        parser.error("--data DIR (or COMMONPRIOR_DATA) is needed")
    streams: dict[str, Callable[[Path], Stream]] = {"gas": gas, "weather": weather}
    rows = []
    for name, read in streams.items():
        stream = read(Path(options.data))
        for who, (learner, judge) in contestants().items():
            every = np.array([transfer(in_order(learner, judge, stream, seed)) for seed in range(REPETITIONS)])
            for figure, mean, error in zip(
                Transfer._fields, every.mean(0), every.std(0, ddof=1) / np.sqrt(len(every)), strict=True
            ):
                case = f"{name}, {len(stream.learn)} segments, {stream.metric}, {figure}"
                rows.append(Row(who, case, float(mean), f"± {error:.3f}"))
            Console().print(f"{name}: {who} {every.mean(0).round(3)}")
    print_rows(Console(), "Streams", rows)
    write_rows(options.json, rows)


if __name__ == "__main__":
    main()
