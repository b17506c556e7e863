"""Prototypical networks: a class is the mean of its samples' features, and a query belongs to the nearest one.

Snell, Swersky & Zemel, "Prototypical networks for few-shot learning" (2017). Distances by each class's own shrunk
covariance: Bateni et al., "Improved few-shot visual classification" (Simple CNAPS, 2020), as in the prototypical
networks of Stanley et al., "FS-Mol" (2021). A regression has no classes: there each sample is a prototype of its label,
and the prediction a kernel smoother's (see `_comparing`).

Good at: classification from one sample a class up, more and other classes than it was trained on, adapting without a
gradient (a mean is all that a device has to compute). Bad at: regression beyond interpolation (it never leaves the
range of the labels it saw), and classes that are several clusters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular

from commonprior.errors import RecipeError
from commonprior.learners import Learner, Memory, _comparing, _functions, _local
from commonprior.learners._comparing import BIAS
from commonprior.learners._local import LocalWork
from commonprior.learners._server import ServerStep
from commonprior.networks import Network
from commonprior.prior import Contributions, Prior, Tensors
from commonprior.task import Array, Batch, Categorical, Prediction, Task, TaskSpec

_SCALE, _RIDGE = "scale", "ridge"


class Known(NamedTuple):
    """A task's samples so far, `x` their features [n, e]."""

    support: Batch


@final
@dataclass(frozen=True)
class Protonet(Learner):
    """The network gives `features` numbers; distances are `euclidean` or `mahalanobis` (at the cost of e³ a class)."""

    network: Network
    features: int = 64
    distance: Literal["euclidean", "mahalanobis"] = "euclidean"
    local: LocalWork = field(default_factory=LocalWork)
    server: ServerStep = field(default_factory=ServerStep)

    def __post_init__(self) -> None:
        if self.features < 1:
            raise RecipeError(f"features = {self.features}: expected at least 1")

    def init(self, spec: TaskSpec, key: Array) -> Prior:
        """Return a fresh network. Raises `ModelError` where it does not give `features` numbers a sample."""
        params = _comparing.fresh(self.network, spec, self.features, key)
        # The root: between the paper's sum, which for many features is sure of itself from the start, and a mean.
        params[_SCALE] = np.full(1, -0.5 * math.log(self.features), np.float32)
        if self.distance == "mahalanobis":
            params[_RIDGE] = np.zeros(1, np.float32)
        return self.server.begin(params)

    def length(self, prior: Prior) -> int:
        """Return the number of parameters."""
        return sum(value.size for value in prior.params.values())

    def adapt(self, prior: Prior, support: Batch, key: Array, start: Known | None = None) -> Known:
        """Return the support's features; after `start`, together with its samples'."""
        known = self._embed(prior.params, support)
        return Known(known if start is None else _functions.together(start.support, known))

    def predict(self, prior: Prior, adapted: Known, x: Array, key: Array) -> Prediction:
        """Return each class's logit, or the smoothed labels.

        After n samples each of u classes without one has a probability of 1 / (n + u), Laplace's rule of succession,
        before the prior's own bias.
        """
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
        features = self.network.apply(params, batch.x)
        known = jnp.asarray(batch.mask) > 0
        y = jnp.where(known, batch.y, 0)
        return Batch(jnp.where(known[:, None], features, 0), y, known.astype(features.dtype))

    def _predict(self, params: Tensors, support: Batch, x: Array) -> Prediction:
        features, scale = self.network.apply(params, x), jnp.exp(params[_SCALE][0])
        if BIAS not in params:
            whiten = self._whitener(params, support.x, support.mask)
            return _comparing.smooth(params, support, -scale * _distances(features @ whiten, support.x @ whiten))
        member = (support.y.astype(jnp.int32)[:, None] == jnp.arange(len(params[BIAS]))) * support.mask[:, None]
        sizes = member.sum(0)
        prototypes = member.T @ support.x / jnp.maximum(sizes, 1)[:, None]
        if self.distance == "euclidean":
            distances = _distances(features, prototypes)
        else:
            distances = self._mahalanobis(params, support, member, prototypes, features)
        logits, seen = -scale * distances, sizes > 0
        together = jax.nn.logsumexp(jnp.where(seen, logits, -jnp.inf), axis=1, keepdims=True)
        unseen = jnp.where(seen.any(), together - jnp.log(jnp.maximum(sizes.sum(), 1)), 0)
        logits = jnp.where(seen, logits, unseen)
        return Categorical(logits + params[BIAS])

    def _mahalanobis(self, params: Tensors, support: Batch, member: Array, prototypes: Array, x: Array) -> Array:
        """Return squared distances [q, k], each by the class's covariance shrunk towards the task's."""

        def one(weights: Array, prototype: Array) -> Array:
            whiten = self._whitener(params, support.x, support.mask, weights)
            return (((x - prototype) @ whiten) ** 2).sum(1)

        return jax.vmap(one, out_axes=1)(member.T, prototypes)

    def _whitener(self, params: Tensors, x: Array, mask: Array, weights: Array | None = None) -> Array:
        """Return the matrix [e, e] after which distances are plain; a class has `weights` [n] in the task's `mask`."""
        eye = jnp.eye(x.shape[1], dtype=x.dtype)
        if self.distance == "euclidean":
            return eye
        covariance = _covariance(x, mask)
        if weights is not None:
            share = weights.sum() / (weights.sum() + 1)
            covariance = share * _covariance(x, weights) + (1 - share) * covariance
        factor = jnp.linalg.cholesky(covariance + jnp.exp(params[_RIDGE][0]) * eye)
        return solve_triangular(factor, eye, lower=True).T


def _covariance(x: Array, weights: Array) -> Array:
    n = weights.sum()
    centred = (x - weights @ x / jnp.maximum(n, 1)) * weights[:, None]
    return centred.T @ centred / jnp.maximum(n - 1, 1)


def _distances(a: Array, b: Array) -> Array:
    """Return squared distances [n, m]."""
    return jnp.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0)
