"""Sine waves from 5 and from 10 samples: the mean squared error of every learner in the folder that does regression.

    python benchmarks/sinusoid.py [--learner KIND] [--scale 1] [--json FILE]

Finn et al. (2017), section 5.1: amplitudes of 0.1 to 5, phases of 0 to pi, inputs of -5 to 5, 25 new waves a round, ten
queries each. A prior is learned for as many samples as it is judged by, 600 fixed waves of 100 queries; intervals are
95% intervals over waves. A learner that joins the folder is in the table by itself, with its own defaults until
`SETTINGS` says more; `--scale` shortens everyone's training, for a rough look. A wave without any prior is off by 3.2.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
import typing
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from _rows import Row, print_rows, write_rows
from rich.console import Console
from scipy import stats

from commonprior import learners
from commonprior.baselines._central import Rounds, meta_train
from commonprior.errors import InputError
from commonprior.learners import Learner
from commonprior.learners._local import LocalWork
from commonprior.learners._server import ServerStep
from commonprior.networks import Network
from commonprior.networks.mlp import Mlp
from commonprior.plugin import kinds, load
from commonprior.predictor import LearnedPrior, predict_tasks
from commonprior.sampling import generator, learning_key
from commonprior.task import Gaussian, stack
from commonprior.tasks.sinusoid import Sinusoid, Wave, WavePool

TASKS, QUERIES, JUDGED, JUDGED_QUERIES = 25, 10, 600, 100


class Setting(NamedTuple):
    """`fields` of the learner, its network, and for how many rounds it is trained."""

    fields: dict[str, Any] = {}  # noqa: RUF012 - never changed
    network: Network = Mlp((40, 40))
    rounds: int = 10_000


SMOOTH = Mlp((64, 64), "gelu")
SETTINGS: dict[str, Setting] = {
    # One inner step of 0.01, as in the paper, is learned much more slowly than five.
    "maml": Setting({"inner_steps": 5, "inner_rate": 0.01, "local": LocalWork(rate=1.0)}),
    "reptile": Setting({"inner_steps": 20, "inner_rate": 0.01, "server": ServerStep("mean", 0.3)}),
    "dkt": Setting({"terms": ("deep",), "objective": "marginal", "server": ServerStep(rate=0.003)}, SMOOTH, 4000),
    "protonet": Setting({"server": ServerStep(rate=0.002)}, SMOOTH),
    "matching": Setting({"server": ServerStep(rate=0.002)}, SMOOTH),
    "memory_augmented": Setting({"slots": 10, "features": 64, "server": ServerStep(rate=0.002)}, SMOOTH),
    "neural_process": Setting({"server": ServerStep(rate=0.002)}, SMOOTH),
    "in_context": Setting({"server": ServerStep(rate=0.002)}),
}


def build(kind: str, setting: Setting) -> Learner:
    """Return a learner of the folder; whatever it wants a network for gets the setting's."""
    cls = load(learners, Learner, kind)
    hints = typing.get_type_hints(cls)
    networks = {f.name: setting.network for f in dataclasses.fields(cls) if hints[f.name] is Network}
    return cls(**{**networks, **setting.fields})


def judge(learned: LearnedPrior, shots: int) -> np.ndarray:
    """Return the mean squared error of each of the waves to judge by."""
    tasks = stack([
        WavePool(f"judged-{i}", Wave.draw(generator(0, "judged", i))).episode(
            generator(0, "judged", i, shots), shots, JUDGED_QUERIES
        )
        for i in range(JUDGED)
    ])  # fmt: skip
    keys = jax.random.split(learning_key(0, "judging"), JUDGED)
    prediction = predict_tasks(learned, tasks.support, tasks.query.x, keys)
    assert isinstance(prediction, Gaussian)
    return ((np.asarray(prediction.mean) - tasks.query.y) ** 2).mean(1)


def measure(kind: str, shots: int, scale: float) -> list[Row]:
    """Return the rows of one learner: its error, half of the interval, and how long it took to train."""
    setting, family = SETTINGS.get(kind, Setting()), Sinusoid(sites=1, tasks=TASKS).load(None)
    case, rounds = f"{shots} shots, mean squared error", max(1, round(scale * setting.rounds))
    try:
        start = time.perf_counter()
        learner = build(kind, setting)
        schedule = Rounds(rounds, TASKS, shots, QUERIES)
        prior = meta_train(learner, family.spec, family.train["site-1"], schedule, 0, kind)
        seconds = time.perf_counter() - start
        errors = judge(LearnedPrior(learner, prior, family.spec), shots)
    except InputError as error:
        return [Row(kind, case, None, f"skipped: {error}")]
    half = stats.t.ppf(0.975, JUDGED - 1) * errors.std(ddof=1) / np.sqrt(JUDGED)
    return [
        Row(kind, case, float(errors.mean()), ""),
        Row(kind, f"{case}, 95% interval, half", float(half), ""),
        Row(kind, f"{shots} shots, training of {rounds} rounds", seconds, "s"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learner", choices=kinds(learners), action="append", help="one or more; all without")
    parser.add_argument("--scale", type=float, default=1.0, help="of everyone's rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here, too")
    options = parser.parse_args()
    console, rows = Console(highlight=False), []
    for kind in options.learner or kinds(learners):
        for shots in (5, 10):
            rows += measure(kind, shots, options.scale)
            console.print(f"{kind}, {shots} shots: {rows[-3].value if len(rows) > 2 else rows[-1].unit}")
            write_rows(options.json, rows)
    print_rows(console, "Sine waves", rows)


if __name__ == "__main__":
    main()
