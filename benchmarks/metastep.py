"""One meta-step: what the interface costs over hand-written JAX, how fast peers are, and the memory of inner steps.

    python benchmarks/metastep.py [--turns N] [--json FILE]

Finn et al. (2017), section 5.1: 25 sine waves, 10 samples to adapt on and 10 to be judged by, a network 1-40-40-1 with
ReLU, inner rate 0.01, plain gradient descent outside. Everyone starts from the same weights and gets the same batch as
numpy arrays, as a source of tasks makes it. The contestants take short turns in random order, so that whatever else the
machine does disturbs them all alike; a figure is the median over turns, a ratio that of the same turn's. commonprior's
step is the public one: `contribute`, the mean over its rows, `apply`. MAML's and Reptile's rows are one a task, which
hand-written training has no need of. Reptile, deep kernels and neural processes take the same batch, prototypical
networks one of Gaussian classes. Memory is the compiler's own figure for the temporary arrays of a meta-gradient.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import _handwritten
import jax
import jax.numpy as jnp
import numpy as np
from _handwritten import Descent
from _peers import OUTER_RATE, Contestant, Weights, torch_peers
from _rows import Row, print_rows, write_rows
from rich.console import Console

from commonprior.learners import Learner
from commonprior.learners._local import LocalWork
from commonprior.learners._server import ServerStep
from commonprior.learners.dkt import Dkt
from commonprior.learners.imaml import Imaml
from commonprior.learners.maml import Maml
from commonprior.learners.meta_sgd import MetaSgd
from commonprior.learners.neural_process import NeuralProcess
from commonprior.learners.protonet import Protonet
from commonprior.learners.reptile import Reptile
from commonprior.networks.mlp import Mlp
from commonprior.predictor import LearnedPrior
from commonprior.prior import Prior
from commonprior.sampling import generator, learning_key, sample_tasks
from commonprior.task import Batch, Target, Task, TaskSpec, log_likelihood
from commonprior.tasks.sinusoid import Sinusoid

TASKS, SHOTS, QUERIES, INNER_RATE = 25, 10, 10, 0.01
TURN_SECONDS = 0.02
OURS, PUBLIC, HAND, TORCH = "commonprior", "commonprior, contribute alone", "hand-written JAX", "torch.func vmap"


class Interface(Contestant):
    """commonprior through its public Learner; `whole` is the full step, else `contribute` alone."""

    def __init__(self, learner: Learner, prior: Prior, tasks: Task, spec: TaskSpec, whole: bool = True) -> None:
        self._learner, self._prior, self._tasks, self._spec, self._whole = learner, prior, tasks, spec, whole
        self._key = learning_key(0, "step")

    def step(self) -> None:
        contributions, _ = self._learner.contribute(self._prior, self._tasks, {}, self._key)
        if self._whole:
            mean = contributions.rows.sum(0) / len(contributions.rows)  # a third of the time of `mean(0)`
            self._prior = self._learner.apply(self._prior, mean, self._key)

    def loss(self) -> float:
        learned, keys = LearnedPrior(self._learner, self._prior, self._spec), jax.random.split(self._key, TASKS)
        prediction = learned.predict(learned.adapt(self._tasks.support, keys), self._tasks.query.x, keys)
        if isinstance(self._learner, Maml | Reptile):
            return float(((prediction.mean - self._tasks.query.y) ** 2).mean())
        return -float(jax.vmap(log_likelihood)(prediction, self._tasks.query).mean())


class HandWritten(Contestant):
    """The same meta-step as anybody would write it for this one network."""

    def __init__(self, weights: Weights, batch: Sequence[np.ndarray], inner_steps: int) -> None:
        self._weights: Mapping[str, Any] = weights
        self._batch, self._steps = batch, inner_steps

    def step(self) -> None:
        self._weights = jax.block_until_ready(_hand_step(self._weights, *self._batch, steps=self._steps))

    def loss(self) -> float:
        return float(_hand_loss(self._weights, *self._batch, steps=self._steps))


def _forward(weights: Mapping[str, Any], x: jax.Array) -> jax.Array:
    h = jax.nn.relu(x @ weights["body/0/weight"] + weights["body/0/bias"])
    h = jax.nn.relu(h @ weights["body/1/weight"] + weights["body/1/bias"])
    return (h @ weights["head/weight"] + weights["head/bias"])[:, 0]


def _error(weights: Mapping[str, Any], x: jax.Array, y: jax.Array) -> jax.Array:
    return ((_forward(weights, x) - y) ** 2).mean()


def _hand_loss(weights: Mapping[str, Any], xs: Any, ys: Any, xq: Any, yq: Any, *, steps: int) -> jax.Array:
    def one(xs: Any, ys: Any, xq: Any, yq: Any) -> jax.Array:
        fast = weights
        for _ in range(steps):
            slope = jax.grad(_error)(fast, xs, ys)
            fast = {name: fast[name] - INNER_RATE * slope[name] for name in fast}
        return _error(fast, xq, yq)

    return jax.vmap(one)(jnp.asarray(xs), jnp.asarray(ys), jnp.asarray(xq), jnp.asarray(yq)).mean()


@partial(jax.jit, static_argnames="steps")
def _hand_step(weights: Mapping[str, Any], xs: Any, ys: Any, xq: Any, yq: Any, *, steps: int) -> Mapping[str, Any]:
    slope = jax.grad(_hand_loss)(weights, xs, ys, xq, yq, steps=steps)
    return {name: weights[name] - OUTER_RATE * slope[name] for name in weights}


def contestants(inner_steps: int) -> tuple[dict[str, Contestant], list[str]]:
    """Return everyone who is here, and the names of the peers who are not."""
    learner = Maml(
        Mlp((40, 40)),
        inner_steps,
        INNER_RATE,
        local=LocalWork(rate=OUTER_RATE, clip=0.0),
        server=ServerStep("mean", 1.0),
    )
    family = Sinusoid(sites=1, tasks=TASKS).load(None)
    tasks = sample_tasks(family.train["site-1"], generator(0), TASKS, SHOTS, QUERIES, family.spec.target)
    fresh = learner.init(family.spec, learning_key(0, "init"))
    # At half its size, nobody's inner loop diverges on these inputs, and losses can be compared to the last digits.
    prior = fresh._replace(params={name: value / 2 for name, value in fresh.params.items()})
    weights = {name: value for name, value in prior.params.items() if name != "noise"}
    batch = (tasks.support.x, tasks.support.y, tasks.query.x, tasks.query.y)
    peers, missing = torch_peers(weights, batch, inner_steps, INNER_RATE)
    here: dict[str, Contestant] = {
        OURS: Interface(learner, prior, tasks, family.spec),
        PUBLIC: Interface(learner, prior, tasks, family.spec, whole=False),
        HAND: HandWritten(weights, batch, inner_steps),
    }
    return here | peers, missing


def others() -> dict[str, dict[str, Contestant]]:
    """Return commonprior and hand-written JAX for each of the other learners."""
    # One row a site: these have more parameters than MAML's network, and nobody clips a task here.
    local, server = LocalWork(rate=OUTER_RATE, averaged=True, clip=0.0), ServerStep("mean", 1.0)
    network = Mlp((40, 40))
    waves = Sinusoid(sites=1, tasks=TASKS).load(None)
    drawn = sample_tasks(waves.train["site-1"], generator(0), TASKS, SHOTS, QUERIES, waves.spec.target)
    cases: dict[str, tuple[Learner, TaskSpec, Task, Callable[[Weights, Sequence[np.ndarray]], Contestant]]] = {
        "Reptile, 5 inner steps": (
            Reptile(network, 5, INNER_RATE, clip=0.0, server=ServerStep("mean", 1.0)), waves.spec, drawn,
            lambda weights, batch: _handwritten.Reptile(weights, batch, 5, INNER_RATE, noise=True)),
        "ProtoNet, 5 classes": (
            Protonet(network, local=local, server=server), _BLOBS, blobs(), partial(Descent, _handwritten.protonet)),
        "DKT": (
            Dkt(network, ("deep",), local=local, server=server), waves.spec, drawn, partial(Descent, _handwritten.dkt)),
        "ANP": (
            NeuralProcess(network, heads=_handwritten.HEADS, local=local, server=server), waves.spec, drawn,
            partial(Descent, _handwritten.anp)),
    }  # fmt: skip
    here: dict[str, dict[str, Contestant]] = {}
    for case, (learner, spec, tasks, by_hand) in cases.items():
        prior = learner.init(spec, learning_key(0, "init"))
        batch = (tasks.support.x, tasks.support.y, tasks.query.x, tasks.query.y)
        here[case] = {OURS: Interface(learner, prior, tasks, spec), HAND: by_hand(dict(prior.params), batch)}
    return here


_BLOBS = TaskSpec(Target(kind="classification", classes=tuple("abcde")), shape=(16,))


def blobs() -> Task:
    """Return tasks whose classes are Gaussians in 16 dimensions, as many samples of each class."""
    rng, classes = generator(0, "blobs"), len(_BLOBS.target.classes)

    def batch(centres: np.ndarray, n: int) -> Batch:
        y = np.tile(np.arange(classes, dtype=np.int32), (TASKS, n // classes))
        x = np.take_along_axis(centres, y[..., None], 1) + rng.normal(size=(*y.shape, 16))
        return Batch(x.astype(np.float32), y, np.ones(y.shape, np.float32))

    centres = rng.normal(size=(TASKS, classes, 16))
    return Task(batch(centres, SHOTS), batch(centres, QUERIES))


def measure_other(case: str, here: Mapping[str, Contestant], turns: int) -> list[Row]:
    """Return the rows of one learner."""
    losses = {name: first_losses(contestant) for name, contestant in here.items()}
    spent = take_turns(here, turns)
    rows = [Row(name, f"{case}, a meta-step", float(np.median(ms)), "ms") for name, ms in spent.items()]
    ratio = float(np.median(spent[OURS] / spent[HAND]))
    apart = float(np.max(np.abs(np.divide(losses[OURS], losses[HAND]) - 1)))
    return [
        *rows, Row(OURS, f"{case}, time over hand-written JAX", ratio, "x", "<= 1.15"),
        Row(OURS, f"{case}, first losses apart from {HAND}'s", apart, "relative", "<= 1e-05"),
    ]  # fmt: skip


def memory() -> list[Row]:
    """Return what a meta-gradient over the batch takes in temporary memory, by inner steps."""
    waves = Sinusoid(sites=1, tasks=TASKS).load(None)
    tasks = sample_tasks(waves.train["site-1"], generator(0), TASKS, SHOTS, QUERIES, waves.spec.target)
    learners: dict[str, Callable[[int], Maml | MetaSgd | Imaml]] = {
        "MAML": lambda steps: Maml(Mlp((40, 40)), steps),
        "MAML, first order": lambda steps: Maml(Mlp((40, 40)), steps, first_order=True),
        "Meta-SGD": lambda steps: MetaSgd(Mlp((40, 40)), steps),
        "iMAML": lambda steps: Imaml(Mlp((40, 40)), steps),
    }
    rows = []
    for name, make in learners.items():
        peak = {steps: _peak(make(steps), waves.spec, tasks) for steps in (1, 5, 20)}
        rows += [Row(OURS, f"{name}, memory of {n} inner steps", bytes_ / 1e6, "MB") for n, bytes_ in peak.items()]
        rows.append(Row(OURS, f"{name}, memory of 20 inner steps over 5", peak[20] / peak[5], "x", "<= 3"))
    return rows


def _peak(learner: Maml | MetaSgd | Imaml, spec: TaskSpec, tasks: Task) -> int:
    params = dict(learner.init(spec, learning_key(0, "init")).params)
    gradient = jax.jit(jax.vmap(jax.grad(learner.meta_loss), (None, 0)))
    return gradient.lower(params, tasks).compile().memory_analysis().temp_size_in_bytes


def first_losses(contestant: Contestant) -> tuple[float, float]:
    """Return the loss before and after the first meta-step: who agrees on both has the same gradient."""
    before = contestant.loss()
    contestant.step()
    return before, contestant.loss()


def take_turns(here: Mapping[str, Contestant], turns: int) -> dict[str, np.ndarray]:
    """Return each contestant's milliseconds a step [turns], the median of each turn.

    A turn begins with a step that does not count, so that nobody pays for what the one before left in the caches, or
    for its threads that still spin.
    """
    rng, spent = generator(0, "order"), {name: np.zeros(turns) for name in here}
    for turn in range(turns):
        for name in rng.permutation(list(here)):
            here[name].step()
            seconds, end = [], time.perf_counter() + TURN_SECONDS
            while (start := time.perf_counter()) < end:
                here[name].step()
                seconds.append(time.perf_counter() - start)
            spent[name][turn] = 1e3 * statistics.median(seconds)
    return spent


def measure(inner_steps: int, turns: int) -> list[Row]:
    """Return the rows of one number of inner steps."""
    here, missing = contestants(inner_steps)
    case = f"{inner_steps} inner step{'s' if inner_steps > 1 else ''}"
    losses = {name: first_losses(contestant) for name, contestant in here.items() if name != PUBLIC}
    spent = take_turns(here, turns)
    rows = [Row(name, f"{case}, a meta-step", float(np.median(ms)), "ms") for name, ms in spent.items()]
    rows += [Row(name, f"{case}, a meta-step", None, "skipped: not installed") for name in missing]
    rows.append(
        Row(OURS, f"{case}, time over hand-written JAX", float(np.median(spent[OURS] / spent[HAND])), "x", "<= 1.15")
    )
    for peer, target in ((TORCH, ">= 4"), ("learn2learn", ">= 40")):
        if peer in spent:
            times = float(np.median(spent[peer] / spent[OURS]))
            rows.append(Row(OURS, f"{case}, times faster than {peer}", times, "x", target))
    for name, (before, after) in losses.items():
        rows.append(Row(name, f"{case}, first loss", before, ""))
        apart = np.max(np.abs(np.divide((before, after), losses[HAND]) - 1))  # NaN, and so not met, where one diverged
        rows.append(Row(name, f"{case}, first losses apart from {HAND}'s", float(apart), "relative", "<= 1e-05"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=50, help="turns of each contestant")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here, too")
    arguments = parser.parse_args()
    rows = [row for inner_steps in (1, 5) for row in measure(inner_steps, arguments.turns)]
    rows += [row for case, here in others().items() for row in measure_other(case, here, arguments.turns)]
    rows += memory()
    print_rows(Console(), "One meta-step, second-order MAML where no other is named: 25 tasks of 10+10 samples", rows)
    write_rows(arguments.json, rows)


if __name__ == "__main__":
    main()
