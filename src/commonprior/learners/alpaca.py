"""ALPaCA: Bayesian linear regression on learned features, from a learned belief about the weights.

Harrison, Sharma & Pavone, "Meta-learning priors for efficient online Bayesian regression" (2018). The posterior is
exact and closed: `start` goes on from a mean and a covariance alone, of a size that no number of samples changes. We
keep their covariance form (the Kalman update) instead of the precision, so that a factor is of the new samples' size.
Classes are learned by regression on labels of 1 and -1 (see `_functions`).

Good: streams and small devices (an update is a rank-one change); honest variances far from the data. Bad: a function
that no combination of the features gives, of which there are as many as `features`; all tasks share one noise; long
streams in float32, where rounding adds up (after 20,000 updates one by one the covariance is half too large where the
noise is 0.01, of which the predicted variance, noise included, shows less than a hundredth).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple, final

import jax.numpy as jnp
import numpy as np

from commonprior.errors import RecipeError
from commonprior.learners import Learner, Memory, _functions, _gp, _local
from commonprior.learners._local import LocalWork
from commonprior.learners._server import ServerStep
from commonprior.networks import Network
from commonprior.prior import Contributions, Prior, Tensors
from commonprior.task import Array, Batch, Prediction, Task, TaskSpec, log_likelihood

_MEAN, _FACTOR, _NOISE = "belief/mean", "belief/factor", "noise"


class Belief(NamedTuple):
    """What is known of the weights of p features: their mean [p, k] and, for each function, covariance [p, p]."""

    mean: Array
    covariance: Array


@final
@dataclass(frozen=True)
class Alpaca(Learner):
    """The network gives `features`, to which a constant is added."""

    network: Network
    features: int = 32
    local: LocalWork = field(default_factory=LocalWork)
    server: ServerStep = field(default_factory=ServerStep)

    def __post_init__(self) -> None:
        if self.features < 1:
            raise RecipeError(f"features = {self.features}: expected at least 1")

    def init(self, spec: TaskSpec, key: Array) -> Prior:
        """Return fresh features, and the belief that functions of them have variance 1 about their average."""
        weights = self.network.init(spec.example(), self.features, key)
        params = {name: np.asarray(value, np.float32) for name, value in weights.items()}
        size = self.features + 1
        params[_MEAN] = np.zeros((size, spec.outputs), np.float32)
        params[_MEAN][-1] = _functions.fresh_mean(spec)
        params[_FACTOR] = np.eye(size, dtype=np.float32) / np.float32(math.sqrt(size))
        params[_NOISE] = np.full(1, math.log(0.1), np.float32)
        return self.server.begin(params)

    def length(self, prior: Prior) -> int:
        """Return the number of parameters."""
        return sum(value.size for value in prior.params.values())

    def adapt(self, prior: Prior, support: Batch, key: Array, start: Belief | None = None) -> Belief:
        """Return the posterior of the weights, which is the next prior where there is a next support."""
        return self._adapt(prior.params, support, start)

    def predict(self, prior: Prior, adapted: Belief, x: Array, key: Array) -> Prediction:
        """Return the posterior predictive distribution, noise included."""
        return self._predict(prior.params, adapted, x)

    def contribute(self, prior: Prior, tasks: Task, memory: Memory, key: Array) -> tuple[Contributions, Memory]:
        """Return minus the gradient of each task, or the site's own steps (see `LocalWork`)."""
        return _local.contribute(self, prior, tasks), memory

    def apply(self, prior: Prior, mean: Array, key: Array) -> Prior:
        """Return the next prior."""
        return self.server.apply(prior, mean)

    def meta_loss(self, params: Tensors, task: Task) -> Array:
        """Return minus the log-likelihood of the query's labels, each on its own, given the support."""
        prediction = self._predict(params, self._adapt(params, task.support, None), task.query.x)
        return -log_likelihood(prediction, task.query).sum() / jnp.maximum((task.query.mask > 0).sum(), 1)

    def _features(self, params: Tensors, x: Array) -> Array:
        features = self.network.apply(params, x)
        return jnp.concatenate([features, jnp.ones((len(features), 1), features.dtype)], axis=1)

    def _adapt(self, params: Tensors, support: Batch, start: Belief | None) -> Belief:
        if start is None:
            factor = jnp.asarray(params[_FACTOR])
            start = Belief(jnp.asarray(params[_MEAN]), factor @ factor.T)
        features = self._features(params, support.x)
        spread = jnp.where((support.mask > 0)[:, None], features @ start.covariance, 0)
        wrong = _functions.labels(jnp.zeros(start.mean.shape[1], features.dtype), support) - features @ start.mean
        seen = _gp.condition(spread @ features.T, jnp.exp(params[_NOISE][0]), support.mask, wrong)
        explained = seen.inverse @ spread
        return Belief(start.mean + spread.T @ seen.weights, start.covariance - explained.T @ explained)

    def _predict(self, params: Tensors, belief: Belief, x: Array) -> Prediction:
        features = self._features(params, x)
        variance = jnp.maximum(((features @ belief.covariance) * features).sum(1), 0)
        return _functions.say(features @ belief.mean, variance + jnp.exp(params[_NOISE][0]))
