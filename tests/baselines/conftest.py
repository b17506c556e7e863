"""Two families and a learner that are small enough for every baseline."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from commonprior.learners import Learner
from commonprior.networks.mlp import Mlp
from commonprior.prior import Contributions, Prior
from commonprior.sampling import learning_key
from commonprior.task import Batch, Column, Gaussian, Rows, Target, Task, TaskSpec

COLUMNS = (Column("a"), Column("b"), Column("s", "smiles", slots=12))


@dataclass(frozen=True)
class Mixture:
    """Rows with two values and twelve counts; the label is linear in them, or whether that is above its middle."""

    name: str
    slope: float = 1.0
    size: int = 80
    classes: int = 0

    def episode(self, rng: np.random.Generator, shots: int, queries: int) -> Task:
        def batch(n: int) -> Batch:
            values = rng.normal(size=(n, 2)).astype(np.float32)
            counts = rng.poisson(0.8, (n, 12)).astype(np.float32)
            y = self.slope * (3 * values[:, 0] + counts[:, :3].sum(1) - 2.4) + 50
            y = (y > 50).astype(np.int32) if self.classes else y.astype(np.float32)
            return Batch(Rows(values, np.ones((n, 3), np.float32), counts), y, np.ones(n, np.float32))

        return Task(batch(shots), batch(queries))


@dataclass(frozen=True)
class Level(Learner):
    """Predicts its prior's slope times x[0]; a task's contribution is how far its own slope is from the prior's."""

    rate: float = 0.5

    def init(self, spec, key):
        return Prior({"slope": np.asarray(jax.random.normal(key, (1,)), np.float32)})

    def length(self, prior):
        return 1

    def adapt(self, prior, support, key, start=None):
        return jnp.asarray(prior.params["slope"])

    def predict(self, prior, adapted, x, key):
        first = x.values[:, 0]
        return Gaussian(first * adapted, jnp.ones_like(first))

    def contribute(self, prior, tasks, memory, key):
        first, y = tasks.support.x.values[..., 0], tasks.support.y
        slopes = (first * y).sum(1) / (first**2).sum(1) + 0.01 * np.asarray(jax.random.normal(key, (len(y),)))
        rounds = memory.get("rounds", np.zeros(1)) + 1
        return Contributions((slopes - prior.params["slope"])[:, None] / rounds, "task"), {"rounds": rounds}

    def apply(self, prior, mean, key):
        return Prior({"slope": (prior.params["slope"] + self.rate * mean).astype(np.float32)})


@pytest.fixture
def spec():
    return TaskSpec(Target(), COLUMNS)


@pytest.fixture
def class_spec():
    return TaskSpec(Target(kind="classification", classes=("low", "high")), COLUMNS)


@pytest.fixture
def pool():
    return Mixture


@pytest.fixture
def learner():
    return Level()


@pytest.fixture
def network():
    return Mlp(widths=(16,))


@pytest.fixture
def episodes():
    """(pools, shots, queries, seed) -> stacked task and keys."""

    def draw(pools, shots, queries=30, seed=0):
        tasks = [p.episode(np.random.default_rng([seed, i]), shots, queries) for i, p in enumerate(pools)]
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *tasks)
        return stacked, jnp.stack([learning_key(seed, i) for i in range(len(pools))])

    return draw
