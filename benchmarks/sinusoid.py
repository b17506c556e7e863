"""Sine waves from 5 and from 10 samples: the mean squared error of every learner in the folder that does regression.

    python benchmarks/sinusoid.py [--learner KIND] [--scale 1] [--json FILE]

Finn et al. (2017), section 5.1: amplitudes of 0.1 to 5, phases of 0 to pi, inputs of -5 to 5, 25 new waves a round, ten
queries each. A prior is learned for as many samples as it is judged by, 600 fixed waves of 100 queries; intervals are
95% intervals over waves. A learner that joins the folder is in the table by itself, with its own defaults until
`SETTINGS` says more; everyone's rate falls to nothing over its rounds. `--scale` shortens the training, for a rough
look; rows of learners that are not asked for are kept in `--json`. A wave without any prior is off by 3.2.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
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
from commonprior.learners.dkt import Dkt
from commonprior.learners.neural_process import NeuralProcess
from commonprior.networks import Network
from commonprior.networks.mlp import Mlp
from commonprior.plugin import kinds, load
from commonprior.predictor import LearnedPrior, predict_tasks
from commonprior.sampling import generator, learning_key
from commonprior.task import Gaussian, stack
from commonprior.tasks.sinusoid import Sinusoid, Wave, WavePool

TASKS, QUERIES, JUDGED, JUDGED_QUERIES = 25, 10, 600, 100


SMOOTH, TANH = Mlp((64, 64), "gelu"), Mlp((64, 64), "tanh")


class Setting(NamedTuple):
    """`fields` of the learner, its network, and for how many rounds it is trained.

    The network's hidden units are bounded: inputs of 5 make the first inner steps of 0.01 through rectifiers diverge.
    """

    fields: dict[str, Any] = {}  # noqa: RUF012 - never changed
    network: Network = TANH
    rounds: int = 5000


DEEP = {"terms": ("deep",), "objective": "marginal", "server": ServerStep(rate=0.003)}
SETTINGS: dict[str, Setting] = {
    # One inner step of 0.01, as in the paper, is learned much more slowly than five.
    # Once in a while one diverges on a wave: a clip keeps the others' steps.
    "maml": Setting({"inner_steps": 5, "inner_rate": 0.01, "local": LocalWork(rate=1.0)}),
    "meta_sgd": Setting({"local": LocalWork(rate=1.0)}),
    "imaml": Setting({"inner_steps": 32, "inner_rate": 0.005, "local": LocalWork(rate=1.0)}),
    "evolution": Setting({"inner_rate": 0.01}, rounds=1000),
    "genetic": Setting({"inner_rate": 0.005}, rounds=1000),
    "population": Setting({"inner_rate": 0.01}, rounds=2000),
    "reptile": Setting({"inner_steps": 32, "server": ServerStep("mean", 0.3)}),
    "dkt": Setting(DEEP, SMOOTH, 2000),
    "ensemble": Setting({"of": Dkt(network=SMOOTH, **DEEP)}, rounds=2000),
    "online": Setting({"of": NeuralProcess(SMOOTH, server=ServerStep(rate=0.002))}, SMOOTH),
    "protonet": Setting({"server": ServerStep(rate=0.002)}, SMOOTH),
    "matching": Setting({"server": ServerStep(rate=0.002)}, SMOOTH),
    "memory_augmented": Setting({"slots": 10, "features": 64, "server": ServerStep(rate=0.002)}, SMOOTH),
    "neural_process": Setting({"server": ServerStep(rate=0.002)}, SMOOTH),
    "in_context": Setting({"server": ServerStep(rate=0.002)}),
}


def build(kind: str, setting: Setting, rounds: int) -> Learner:
    """Return a learner of the folder; whatever it wants a network for gets the setting's."""
    cls = load(learners, Learner, kind)
    hints = typing.get_type_hints(cls)
    networks = {f.name: setting.network for f in dataclasses.fields(cls) if hints[f.name] is Network}
    return fading(cls(**{**networks, **setting.fields}), rounds)


def fading(learner: Learner, rounds: int) -> Learner:
    """Return the learner with a server's rate, its members' too, that falls to nothing over so many rounds."""
    given = {field.name: getattr(learner, field.name) for field in dataclasses.fields(learner)}
    changed = {name: dataclasses.replace(v, fades=rounds) for name, v in given.items() if isinstance(v, ServerStep)}
    changed |= {name: fading(value, rounds) for name, value in given.items() if isinstance(value, Learner)}
    return dataclasses.replace(learner, **changed)


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
        learner = build(kind, setting, rounds)
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


def kept(path: Path | None, asked: list[str] | None) -> list[Row]:
    """Return the rows that a file has of learners that are not asked for."""
    if path is None or not path.exists() or not asked:
        return []
    rows = (Row(*(row[name] for name in Row._fields)) for row in json.loads(path.read_text()))
    return [row for row in rows if row.who not in asked]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learner", choices=kinds(learners), action="append", help="one or more; all without")
    parser.add_argument("--scale", type=float, default=1.0, help="of everyone's rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here, too")
    options = parser.parse_args()
    console, rows = Console(highlight=False), kept(options.json, options.learner)
    for kind in options.learner or kinds(learners):
        for shots in (5, 10):
            found = measure(kind, shots, options.scale)
            rows += found
            console.print(f"{kind}, {shots} shots: {found[0].value or found[0].unit}")
            write_rows(options.json, rows)
    print_rows(console, "Sine waves", rows)


if __name__ == "__main__":
    main()
