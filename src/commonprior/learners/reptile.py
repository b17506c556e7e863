"""Reptile: move the prior towards the weights that each task ends up with.

Nichol, Achiam & Schulman, "On first-order meta-learning algorithms" (2018). No gradient passes through the inner loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import final

import jax
import jax.numpy as jnp
import numpy as np

from commonprior.errors import RecipeError
from commonprior.learners import Learner, Memory, _objective
from commonprior.learners._inner import descend, descend_drawn
from commonprior.learners._local import as_rows
from commonprior.learners._server import ServerStep
from commonprior.networks import Network
from commonprior.prior import Contributions, Prior, Tensors
from commonprior.task import Array, Batch, Prediction, Task, TaskSpec


@final
@dataclass(frozen=True)
class Reptile(Learner):
    """Each step of learning a task takes `minibatch` of its samples, drawn anew (0: all); adapting takes all."""

    network: Network
    inner_steps: int = 10
    inner_rate: float = 0.01
    minibatch: int = 0
    server: ServerStep = ServerStep()

    def __post_init__(self) -> None:
        if self.inner_steps < 1:
            raise RecipeError(f"inner_steps = {self.inner_steps}: expected at least 1")
        if not self.inner_rate > 0:
            raise RecipeError(f"inner_rate = {self.inner_rate}: expected a number above 0")
        if self.minibatch < 0:
            raise RecipeError(f"minibatch = {self.minibatch}: expected 0 for all samples, or how many")

    def init(self, spec: TaskSpec, key: Array) -> Prior:
        """Return fresh weights."""
        return self.server.begin(_objective.fresh(self.network, spec, key))

    def length(self, prior: Prior) -> int:
        """Return the number of parameters."""
        return sum(value.size for value in prior.params.values())

    def adapt(self, prior: Prior, support: Batch, key: Array, start: Tensors | None = None) -> Tensors:
        """Return the adapted weights."""
        return self._adapt(prior.params if start is None else start, support)

    def predict(self, prior: Prior, adapted: Tensors, x: Array, key: Array) -> Prediction:
        """Return what the adapted network says; every sample of a regression has the prior's one variance."""
        return _objective.predict(self.network, {**prior.params, **adapted}, x)

    def contribute(self, prior: Prior, tasks: Task, memory: Memory, key: Array) -> tuple[Contributions, Memory]:
        """Return one row a task: its own weights, learned from support and query together, minus the prior's."""
        return Contributions(np.asarray(_rows(self, dict(prior.params), tasks, key)), "task"), memory

    def apply(self, prior: Prior, mean: Array, key: Array) -> Prior:
        """Return the next prior."""
        return self.server.apply(prior, mean)

    def _adapt(self, start: Tensors, support: Batch) -> Tensors:
        def loss(weights: Tensors) -> Array:
            return _objective.fit(self.network, weights, support)

        return descend(loss, _objective.weights(start), self.inner_steps, self.inner_rate)

    def _towards(self, params: Tensors, task: Task, key: Array) -> Tensors:
        both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), task.support, task.query)
        old = _objective.weights(params)

        def loss(weights: Tensors, draw: Array) -> Array:
            return _objective.fit(self.network, weights, _drawn(both, self.minibatch, draw))

        new = descend_drawn(loss, old, jax.random.split(key, self.inner_steps), self.inner_steps, self.inner_rate)
        towards = jax.tree.map(jnp.subtract, new, old)
        if _objective.NOISE in params:
            # An error on samples that were learned from would flatter; the query's, after the support alone, does not.
            error = _objective.fit(self.network, {**params, **self._adapt(params, task.support)}, task.query)
            towards[_objective.NOISE] = _objective.newton(params, error)
        return towards


def _drawn(batch: Batch, n: int, key: Array) -> Batch:
    """Return n of a batch's samples, or all; with replacement, and padding only where there is nothing else."""
    if n == 0:
        return batch
    mask = jnp.asarray(batch.mask, float)
    odds = jnp.where(mask.sum() > 0, mask, jnp.ones_like(mask))
    picked = jax.random.choice(key, mask.shape[0], (n,), p=odds / odds.sum())
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[picked], batch)


@partial(jax.jit, static_argnums=0)
def _rows(learner: Reptile, params: Tensors, tasks: Task, key: Array) -> Array:
    keys = jax.random.split(key, tasks.query.mask.shape[0])
    return as_rows(jax.vmap(learner._towards, in_axes=(None, 0, 0))(params, tasks, keys))
