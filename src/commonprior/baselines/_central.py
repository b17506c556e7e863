"""Meta-training in one place: what a federation does, without anybody to hide anything from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from commonprior.learners import Learner
from commonprior.prior import Prior
from commonprior.sampling import generator, learning_key, sample_tasks
from commonprior.task import Pool, TaskSpec


@dataclass(frozen=True)
class Rounds:
    """`rounds` rounds, each of `tasks` distinct tasks with `shots` samples to adapt on and `queries` to learn from."""

    rounds: int
    tasks: int
    shots: int
    queries: int


def meta_train(learner: Learner, spec: TaskSpec, pools: Sequence[Pool], rounds: Rounds, seed: int, name: str) -> Prior:
    """Return the prior after all rounds: sample, contribute, mean of rows, apply. `name` is who trains."""
    prior, memory = learner.init(spec, learning_key(seed, name, "init")), {}
    for number in range(rounds.rounds):
        rng = generator(seed, name, number, "tasks")
        tasks = sample_tasks(pools, rng, rounds.tasks, rounds.shots, rounds.queries, spec.target)
        contributions, memory = learner.contribute(prior, tasks, memory, learning_key(seed, name, number, "learning"))
        mean = np.asarray(contributions.rows, np.float64).mean(0)
        prior = learner.apply(prior, mean, learning_key(seed, name, number, "apply"))
    return prior
