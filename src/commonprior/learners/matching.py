"""Matching networks: a query's label is that of the support samples it attends to, each by its likeness.

Vinyals et al., "Matching networks for one shot learning" (2016), section 2.1: attention is a softmax of cosines. In a
regression it weighs labels, whose weighted mean and variance are the prediction. Their full-context embeddings are left
out: they read the support by an LSTM, in an order that means nothing; `neural_process` and `in_context` let samples
look at each other without one.

Good at: one or few samples a class, classes made of several clusters, supports that grow (one more sample is one more
neighbour). Bad at: many samples a class, whose noise it does not average as `protonet` does; regression beyond the
range of the labels it saw.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from commonprior.errors import RecipeError
from commonprior.learners import Learner, Memory, _comparing, _functions, _local
from commonprior.learners._local import LocalWork
from commonprior.learners._server import ServerStep
from commonprior.networks import Network
from commonprior.prior import Contributions, Prior, Tensors
from commonprior.task import Array, Batch, Prediction, Task, TaskSpec

_SCALE = "scale"


class Known(NamedTuple):
    """A task's samples so far, `x` their features [n, e] of length 1."""

    support: Batch


@final
@dataclass(frozen=True)
class Matching(Learner):
    """The network gives `features` numbers; how sharp attention is, is learned."""

    network: Network
    features: int = 64
    local: LocalWork = field(default_factory=LocalWork)
    server: ServerStep = field(default_factory=ServerStep)

    def __post_init__(self) -> None:
        if self.features < 1:
            raise RecipeError(f"features = {self.features}: expected at least 1")

    def init(self, spec: TaskSpec, key: Array) -> Prior:
        """Return a fresh network. Raises `ModelError` where it does not give `features` numbers a sample."""
        params = _comparing.fresh(self.network, spec, self.features, key)
        params[_SCALE] = np.full(1, math.log(5), np.float32)
        return self.server.begin(params)

    def length(self, prior: Prior) -> int:
        """Return the number of parameters."""
        return sum(value.size for value in prior.params.values())

    def adapt(self, prior: Prior, support: Batch, key: Array, start: Known | None = None) -> Known:
        """Return the support's features; after `start`, together with its samples'."""
        known = self._embed(prior.params, support)
        return Known(known if start is None else _functions.together(start.support, known))

    def predict(self, prior: Prior, adapted: Known, x: Array, key: Array) -> Prediction:
        """Return the distribution of the labels attended to, with the prior's own as one more."""
        return self._predict(prior.params, adapted.support, x)

    def contribute(self, prior: Prior, tasks: Task, memory: Memory, key: Array) -> tuple[Contributions, Memory]:
        """Return minus the gradient of each task, or the site's own steps (see `LocalWork`).

        Raises `ModelError` where a label is no class, or a query's class has no support sample.
        """
        _comparing.check_classes(prior.params, tasks)
        return _local.contribute(self, prior, tasks), memory

    def apply(self, prior: Prior, mean: Array, key: Array) -> Prior:
        """Return the next prior."""
        return self.server.apply(prior, mean)

    def meta_loss(self, params: Tensors, task: Task) -> Array:
        """Return minus the log-likelihood of the query's labels given the support, per label."""
        support = self._embed(params, task.support)
        return _comparing.surprise(self._predict(params, support, task.query.x), task.query)

    def _embed(self, params: Tensors, batch: Batch) -> Batch:
        features = _of_length_1(self.network.apply(params, batch.x))
        known = jnp.asarray(batch.mask) > 0
        y = jnp.where(known, batch.y, 0)
        return Batch(jnp.where(known[:, None], features, 0), y, known.astype(features.dtype))

    def _predict(self, params: Tensors, support: Batch, x: Array) -> Prediction:
        cosines = _of_length_1(self.network.apply(params, x)) @ support.x.T
        return _comparing.smooth(params, support, jnp.exp(params[_SCALE][0]) * cosines)


def _of_length_1(features: Array) -> Array:
    return features * jax.lax.rsqrt((features**2).sum(-1, keepdims=True) + 1e-6)
