"""Reptile: move the prior towards the weights that each task ends up with.

Nichol, Achiam & Schulman, "On first-order meta-learning algorithms" (2018). No gradient passes through the inner loop.

Good at: the cheapest meta-step of the gradient methods, in memory too, and many inner steps; wide inputs, where it was
ahead of MAML. Bad at: tasks whose labels cancel out on average (sine waves of any phase), as nothing but the steps
themselves tells it what a support of a few samples is to do; uncertainty (one variance for all samples). On real data
begin with 20 steps of 0.01 and a `mean` server of rate 0.2.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import final

import jax
import jax.numpy as jnp
import numpy as np

from commonprior.errors import RecipeError
from commonprior.learners import Learner, Memory, _objective
from commonprior.learners._inner import descend
from commonprior.learners._local import as_rows, bounded
from commonprior.learners._server import ServerStep
from commonprior.networks import Network
from commonprior.prior import Contributions, Prior, Tensors
from commonprior.task import Array, Batch, Prediction, Task, TaskSpec


@final
@dataclass(frozen=True)
class Reptile(Learner):
    """Learning a task, and adapting to one, take `inner_steps` steps over all of its samples at once.

    `clip` bounds the norm of how far a task goes from the prior; one on which the steps diverged then counts as none.
    0 bounds nothing; such a round is refused.
    """

    network: Network
    inner_steps: int = 10
    inner_rate: float = 0.01
    clip: float = 10.0
    server: ServerStep = field(default_factory=ServerStep)

    def __post_init__(self) -> None:
        if self.inner_steps < 1:
            raise RecipeError(f"inner_steps = {self.inner_steps}: expected at least 1")
        if not self.inner_rate > 0:
            raise RecipeError(f"inner_rate = {self.inner_rate}: expected a number above 0")
        if not self.clip >= 0:
            raise RecipeError(f"clip = {self.clip}: expected a norm above 0, or 0 for none")

    def init(self, spec: TaskSpec, key: Array) -> Prior:
        """Return fresh weights."""
        return self.server.begin(_objective.fresh(self.network, spec, key))

    def length(self, prior: Prior) -> int:
        """Return the number of parameters."""
        return sum(value.size for value in prior.params.values())

    def adapt(self, prior: Prior, support: Batch, key: Array, start: Tensors | None = None) -> Tensors:
        """Return the adapted weights."""
        return self._adapt(prior.params, support, start)

    def predict(self, prior: Prior, adapted: Tensors, x: Array, key: Array) -> Prediction:
        """Return what the adapted network says; every sample of a regression has the prior's one variance."""
        return _objective.predict(self.network, {**prior.params, **adapted}, x)

    def contribute(self, prior: Prior, tasks: Task, memory: Memory, key: Array) -> tuple[Contributions, Memory]:
        """Return one row a task: its own weights, learned from support and query together, minus the prior's."""
        return Contributions(np.asarray(_rows(self, dict(prior.params), tasks)), "task"), memory

    def apply(self, prior: Prior, mean: Array, key: Array) -> Prior:
        """Return the next prior."""
        return self.server.apply(prior, mean)

    def _adapt(self, params: Tensors, samples: Batch, start: Tensors | None = None) -> Tensors:
        def loss(weights: Tensors) -> Array:
            return _objective.fit(self.network, {**params, **weights}, samples)

        start = _objective.weights(params) if start is None else start
        return descend(loss, start, self.inner_steps, self.inner_rate)

    def _towards(self, params: Tensors, task: Task) -> dict[str, Array]:
        both = jax.tree.map(lambda first, second: jnp.concatenate([first, second]), task.support, task.query)
        towards = {name: value - params[name] for name, value in self._adapt(params, both).items()}
        if _objective.NOISE in params:
            # An error on samples that were learned from would flatter; the query's, after the support alone, does not.
            adapted = {**params, **self._adapt(params, task.support)}
            towards[_objective.NOISE] = _objective.scoring(self.network, adapted, task.query)
        return towards


@partial(jax.jit, static_argnums=0)
def _rows(learner: Reptile, params: Tensors, tasks: Task) -> Array:
    rows = as_rows(jax.vmap(learner._towards, in_axes=(None, 0))(params, tasks))
    return jax.vmap(partial(bounded, clip=learner.clip))(rows)
