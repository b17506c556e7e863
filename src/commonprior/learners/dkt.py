"""Deep kernel transfer: a Gaussian process whose kernel is the prior, so that adapting needs no gradient at all.

Patacchiola et al., "Bayesian meta-learning for the few-shot setting via deep kernels" (2020). Classes are learned as
they do it, by regression on labels of 1 and -1, one function a class; the link to probabilities is a probit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from commonprior.errors import ModelError, RecipeError
from commonprior.learners import Learner, Memory, _gp, _kernels, _local
from commonprior.learners._gp import Posterior
from commonprior.learners._kernels import Inputs, Term
from commonprior.learners._local import LocalWork
from commonprior.learners._server import ServerStep
from commonprior.networks import Network
from commonprior.prior import Contributions, Prior, Tensors
from commonprior.task import Array, Batch, Categorical, Gaussian, Prediction, Task, TaskSpec, log_likelihood

_NOISE, _MEAN = "noise", "mean"


class Known(NamedTuple):
    """A task's samples so far, their features [n, e], and the posterior given them."""

    support: Batch
    deep: Array
    posterior: Posterior


@final
@dataclass(frozen=True)
class Dkt(Learner):
    """The kernel is the sum of `terms` (those that the inputs have nothing for are left out); `deep` has `features`.

    `objective`: `marginal` is the likelihood of a task's labels together, `predictive` that of the query's, each on
    its own, given the support.
    """

    network: Network
    terms: tuple[Term, ...] = ("deep", "counts", "values", "counts*values")
    features: int = 32
    objective: Literal["marginal", "predictive"] = "predictive"
    local: LocalWork = field(default_factory=LocalWork)
    server: ServerStep = field(default_factory=ServerStep)

    def __post_init__(self) -> None:
        if not self.terms or len(set(self.terms)) < len(self.terms):
            raise RecipeError(f"terms = {list(self.terms)}: expected one or more, each once")
        if self.features < 1:
            raise RecipeError(f"features = {self.features}: expected at least 1")

    def init(self, spec: TaskSpec, key: Array) -> Prior:
        """Return a fresh kernel. Raises `ModelError` where the inputs have nothing for any of `terms`."""
        example = spec.example()
        params: dict[str, np.ndarray] = {}
        if "deep" in self.terms:
            weights = self.network.init(example, self.features, key)
            params |= {name: np.asarray(value, np.float32) for name, value in weights.items()}
        inputs = self._inputs(params, example)
        terms = _kernels.possible(self.terms, inputs)
        if not terms:
            raise ModelError(f'terms = {list(self.terms)}: the inputs have no such columns; add "deep"')
        params |= _kernels.fresh(terms, inputs)
        params[_NOISE] = np.full(1, math.log(0.1), np.float32)
        # Of k labels of 1 and -1, one a class, one is 1: so many functions start at their labels' average.
        k = spec.outputs
        params[_MEAN] = np.full(k, 2 / k - 1 if spec.target.kind == "classification" else 0.0, np.float32)
        return self.server.begin(params)

    def length(self, prior: Prior) -> int:
        """Return the number of parameters."""
        return sum(value.size for value in prior.params.values())

    def adapt(self, prior: Prior, support: Batch, key: Array, start: Known | None = None) -> Known:
        """Return the posterior; after `start`, that of its samples and these together."""
        if start is not None:
            support = _together(start.support, support)
        return self._know(prior.params, support)

    def predict(self, prior: Prior, adapted: Known, x: Array, key: Array) -> Prediction:
        """Return the posterior predictive distribution, noise included."""
        return self._predict(prior.params, adapted, self._inputs(prior.params, x))

    def contribute(self, prior: Prior, tasks: Task, memory: Memory, key: Array) -> tuple[Contributions, Memory]:
        """Return minus the gradient of each task, or the site's own steps (see `LocalWork`)."""
        return _local.contribute(self, prior, tasks), memory

    def apply(self, prior: Prior, mean: Array, key: Array) -> Prior:
        """Return the next prior."""
        return self.server.apply(prior, mean)

    def meta_loss(self, params: Tensors, task: Task) -> Array:
        """Return minus the log-likelihood that `objective` names, per label."""
        if self.objective == "marginal":
            both = _together(task.support, task.query)
            return _gp.surprise(self._know(params, both).posterior, both.mask, _labels(params, both))
        prediction = self._predict(params, self._know(params, task.support), self._inputs(params, task.query.x))
        return -log_likelihood(prediction, task.query).sum() / jnp.maximum((task.query.mask > 0).sum(), 1)

    def _inputs(self, params: Tensors, x: Array) -> Inputs:
        if "deep" not in self.terms:
            return _kernels.inputs(x, jnp.zeros((len(jax.tree.leaves(x)[0]), 0)))
        return _kernels.inputs(x, self.network.apply(params, x))

    def _know(self, params: Tensors, support: Batch) -> Known:
        inputs = self._inputs(params, support.x)
        gram = _kernels.gram(params, inputs, inputs)
        posterior = _gp.condition(gram, jnp.exp(params[_NOISE][0]), support.mask, _labels(params, support))
        return Known(jax.tree.map(jnp.asarray, support), inputs.deep, posterior)

    def _predict(self, params: Tensors, known: Known, inputs: Inputs) -> Prediction:
        support = _kernels.inputs(known.support.x, known.deep)
        cross = _kernels.gram(params, inputs, support)
        mean, variance = _gp.predict(known.posterior, cross, known.support.mask, _kernels.variance(params))
        mean, variance = mean + params[_MEAN], variance + jnp.exp(params[_NOISE][0])
        if len(params[_MEAN]) == 1:
            return Gaussian(mean[:, 0], variance)
        # Normalised over two classes, whose means are opposite, this is the probit itself.
        return Categorical(jax.scipy.stats.norm.logcdf(mean / jnp.sqrt(variance)[:, None]))


def _together(a: Batch, b: Batch) -> Batch:
    return jax.tree.map(lambda first, second: jnp.concatenate([first, second]), a, b)


def _labels(params: Tensors, batch: Batch) -> Array:
    """Return centred labels [n, k]."""
    mean = params[_MEAN]
    if len(mean) == 1:
        return jnp.asarray(batch.y)[:, None] - mean
    return 2 * jax.nn.one_hot(jnp.asarray(batch.y, jnp.int32), len(mean), dtype=jnp.result_type(mean)) - 1 - mean
