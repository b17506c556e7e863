"""A frozen encoder and a closed-form head: no meta-learning of the features at all, and hard to beat.

Formont et al., "A strong baseline for molecular few-shot learning" (2024), arXiv 2404.02314. The encoder is trained
with labels alone; what a head must know besides (noise, amplitudes, length) is learned from held-out queries, without
moving the encoder. Heads: `ridge` (Bayesian linear regression), `gp` (RBF on the features) and `quadratic`, which for
classes is a Gaussian each with the posterior predictive of a normal-inverse-Wishart prior (Murphy, "Conjugate Bayesian
analysis of the Gaussian distribution", 2007, section 9) and for numbers is ridge on products of features too.

Good: robust where tasks differ from those trained on; cheap; the encoder can come from elsewhere. Bad: where the right
features depend on the task; `pooled` training where tasks contradict each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from commonprior.errors import RecipeError
from commonprior.learners import Learner, Memory, _functions, _gp, _local, _wishart
from commonprior.learners._local import LocalWork
from commonprior.learners._server import ServerStep
from commonprior.networks import Network
from commonprior.prior import Contributions, Prior, Tensors
from commonprior.task import Array, Batch, Categorical, Prediction, Task, TaskSpec, log_likelihood

_MEAN, _NOISE, _SIZE, _LENGTH, _CONSTANT = "mean", "noise", "head/amplitude", "head/length", "head/constant"
_READOUT, _BIAS = "readout/weight", "readout/bias"


class Known(NamedTuple):
    """A task's samples so far and their features [n, e]: heads are closed, so they are made when they are asked."""

    support: Batch
    features: Array


@final
@dataclass(frozen=True)
class Probe(Learner):
    """`teaches`: `pooled` trains the encoder with one readout for all tasks, `multitask` with the best one for each.

    The best one, by ridge regression on a task's samples, is eliminated: variable projection (Golub & Pereyra, 1973),
    so that no task needs a head of its own that would have to be kept or named. What is judged is the error on each
    sample of the readout of all others (Allen's PRESS, 1974): on the samples that a readout was fitted to, large
    features would always do better than small ones.
    """

    network: Network
    head: Literal["ridge", "quadratic", "gp"] = "ridge"
    features: int = 32
    teaches: Literal["pooled", "multitask"] = "multitask"
    local: LocalWork = field(default_factory=LocalWork)
    server: ServerStep = field(default_factory=ServerStep)

    def __post_init__(self) -> None:
        if self.features < 1:
            raise RecipeError(f"features = {self.features}: expected at least 1")

    def init(self, spec: TaskSpec, key: Array) -> Prior:
        """Return a fresh encoder, head and readout."""
        weights = self.network.init(spec.example(), self.features, key)
        params = {f"encoder/{name}": np.asarray(value, np.float32) for name, value in weights.items()}
        params[_MEAN] = _functions.fresh_mean(spec)
        for name, value in ((_NOISE, 0.1), (_SIZE, 1.0), (_LENGTH, 1.0), (_CONSTANT, 0.1)):
            params[name] = np.full(1, math.log(value), np.float32)
        params[_READOUT] = np.zeros((self.features, spec.outputs), np.float32)
        params[_BIAS] = _functions.fresh_mean(spec)
        return self.server.begin(params)

    def length(self, prior: Prior) -> int:
        """Return the number of parameters."""
        return sum(value.size for value in prior.params.values())

    def adapt(self, prior: Prior, support: Batch, key: Array, start: Known | None = None) -> Known:
        """Return the samples with their features; after `start`, its samples and these together."""
        known = Known(jax.tree.map(jnp.asarray, support), self._encode(prior.params, support.x))
        if start is None:
            return known
        return Known(
            _functions.together(start.support, known.support), jnp.concatenate([start.features, known.features])
        )

    def predict(self, prior: Prior, adapted: Known, x: Array, key: Array) -> Prediction:
        """Return what the head makes of the samples."""
        return self._predict(prior.params, adapted, self._encode(prior.params, x))

    def contribute(self, prior: Prior, tasks: Task, memory: Memory, key: Array) -> tuple[Contributions, Memory]:
        """Return minus the gradient of each task, or the site's own steps (see `LocalWork`)."""
        return _local.contribute(self, prior, tasks), memory

    def apply(self, prior: Prior, mean: Array, key: Array) -> Prior:
        """Return the next prior."""
        return self.server.apply(prior, mean)

    def meta_loss(self, params: Tensors, task: Task) -> Array:
        """Return what the encoder gets wrong of all labels, and minus the head's log-likelihood of the query's."""
        both = _functions.together(*task)
        features = self._encode(params, both.x)
        shots = len(task.support.mask)
        frozen = jax.lax.stop_gradient(features)
        known = Known(jax.tree.map(jnp.asarray, task.support), frozen[:shots])
        likelihood = log_likelihood(self._predict(params, known, frozen[shots:]), task.query).sum()
        unlikely = -likelihood / jnp.maximum((task.query.mask > 0).sum(), 1)
        return self._taught(params, features, both) + unlikely

    def _encode(self, params: Tensors, x: Array) -> Array:
        return self.network.apply({n.removeprefix("encoder/"): v for n, v in params.items() if "encoder/" in n}, x)

    def _taught(self, params: Tensors, features: Array, both: Batch) -> Array:
        """Return the readout's squared error over all samples; the task's own is judged with each left out in turn."""
        known = (both.mask > 0)[:, None]
        n = jnp.maximum(known.sum(), 1)
        if self.teaches == "pooled":
            wrong = _functions.labels(params[_BIAS], both) - features @ params[_READOUT]
            return (jnp.where(known, wrong, 0) ** 2).sum() / n
        labels = _functions.labels(jax.lax.stop_gradient(params[_MEAN]), both)
        # With A = f f'/e + 1, leaving sample i out gives an error of (A^-1 y)_i / (A^-1)_ii.
        alike = features @ features.T / self.features
        posterior = _gp.condition(alike, jnp.ones((), features.dtype), both.mask, labels)
        wrong = posterior.weights / (posterior.inverse**2).sum(0)[:, None]
        return (jnp.where(known, wrong, 0) ** 2).sum() / n

    def _predict(self, params: Tensors, known: Known, features: Array) -> Prediction:
        support = known.support
        if self.head == "quadratic" and len(params[_MEAN]) > 1:
            classes = jax.nn.one_hot(support.y.astype(jnp.int32), len(params[_MEAN]), dtype=features.dtype)
            shares = jnp.where((support.mask > 0)[:, None], classes, 0)
            numbers = [jnp.exp(params[name][0]) for name in (_NOISE, _LENGTH)]
            return Categorical(_wishart.log_densities(known.features, shares, features, *numbers))
        gram, cross = (self._alike(params, rows, known.features) for rows in (known.features, features))
        labels, noise = _functions.labels(params[_MEAN], support), jnp.exp(params[_NOISE][0])
        posterior = _gp.condition(gram, noise, support.mask, labels)
        own = jax.vmap(lambda row: self._alike(params, row[None], row[None])[0, 0])(features)
        mean, variance = _gp.predict(posterior, cross, support.mask, own)
        return _functions.say(mean + params[_MEAN], variance + noise)

    def _alike(self, params: Tensors, a: Array, b: Array) -> Array:
        """Return the covariances [n, m] of a function's values at features a [n, e] and b [m, e]."""
        scale = jnp.exp(-2 * params[_LENGTH][0]) / self.features
        products = a @ b.T * scale
        match self.head:
            case "ridge":
                alike = products
            case "quadratic":
                alike = products + 0.5 * products**2
            case "gp":
                apart = ((a**2).sum(1)[:, None] + (b**2).sum(1)[None, :]) * scale - 2 * products
                alike = jnp.exp(-0.5 * jnp.maximum(apart, 0))
        return jnp.exp(params[_CONSTANT][0]) + jnp.exp(params[_SIZE][0]) * alike
