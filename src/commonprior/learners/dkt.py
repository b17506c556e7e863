"""Deep kernel transfer: a Gaussian process whose kernel is the prior, so that adapting needs no gradient at all.

Patacchiola et al., "Bayesian meta-learning for the few-shot setting via deep kernels" (2020). Classes are learned as
they do it, by regression on labels of 1 and -1 (see `_functions`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from commonprior.errors import ModelError, RecipeError
from commonprior.learners import Learner, Memory, _functions, _gp, _kernels, _local
from commonprior.learners._gp import Posterior
from commonprior.learners._kernels import Inputs, Term
from commonprior.learners._local import LocalWork
from commonprior.learners._server import ServerStep
from commonprior.networks import Network
from commonprior.prior import Contributions, Prior, Tensors
from commonprior.task import Array, Batch, Prediction, Task, TaskSpec, log_likelihood

_NOISE, _MEAN, _SLOPE = "noise", "mean", "mean/slope"


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
    its own, given the support. `crossed` is `predictive` with every stretch of a task's samples as long as the support
    for the support in turn, and all others for the query: the network, which is what costs, runs once for all of them.

    `mean`: what is expected of a sample before its task is known is the same for all (`constant`), or is linear in its
    `deep` features (`linear`): what most tasks agree on then needs no sample of the task at hand.
    """

    network: Network
    terms: tuple[Term, ...] = ("deep", "counts", "values", "counts*values")
    features: int = 32
    objective: Literal["marginal", "predictive", "crossed"] = "predictive"
    mean: Literal["constant", "linear"] = "constant"
    local: LocalWork = field(default_factory=LocalWork)
    server: ServerStep = field(default_factory=ServerStep)

    def __post_init__(self) -> None:
        if not self.terms or len(set(self.terms)) < len(self.terms):
            raise RecipeError(f"terms = {list(self.terms)}: expected one or more, each once")
        if self.features < 1:
            raise RecipeError(f"features = {self.features}: expected at least 1")
        if self.mean == "linear" and "deep" not in self.terms:
            raise RecipeError(f'mean = "linear" is linear in what "deep" sees; terms = {list(self.terms)}: add it')

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
        params[_MEAN] = _functions.fresh_mean(spec)
        if self.mean == "linear":
            params[_SLOPE] = np.zeros((self.features, spec.outputs), np.float32)
        return self.server.begin(params)

    def length(self, prior: Prior) -> int:
        """Return the number of parameters."""
        return sum(value.size for value in prior.params.values())

    def adapt(self, prior: Prior, support: Batch, key: Array, start: Known | None = None) -> Known:
        """Return the posterior; after `start`, that of its samples and these together."""
        if start is not None:
            support = _functions.together(start.support, support)
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
            both = _functions.together(*task)
            known = self._know(params, both)
            return _gp.surprise(known.posterior, both.mask, _functions.labels(_expected(params, known.deep), both))
        if self.objective == "crossed":
            return self._crossed(params, _functions.together(*task), len(task.support.mask))
        prediction = self._predict(params, self._know(params, task.support), self._inputs(params, task.query.x))
        return -log_likelihood(prediction, task.query).sum() / jnp.maximum((task.query.mask > 0).sum(), 1)

    def _crossed(self, params: Tensors, both: Batch, shots: int) -> Array:
        inputs = self._inputs(params, both.x)
        gram, noise = _kernels.gram(params, inputs, inputs), jnp.exp(params[_NOISE][0])
        expected = _expected(params, inputs.deep)
        labels, mask = _functions.labels(expected, both), jnp.asarray(both.mask)

        def held_out(rows: Array) -> tuple[Array, Array]:
            posterior = _gp.condition(gram[rows[:, None], rows], noise, mask[rows], labels[rows])
            mean, variance = _gp.predict(posterior, gram[:, rows], mask[rows], _kernels.variance(params))
            query = both._replace(mask=jnp.where((mask[rows] > 0).any(), mask.at[rows].set(0), 0))
            likelihood = log_likelihood(_functions.say(mean + expected, variance + noise), query)
            return likelihood.sum(), (query.mask > 0).sum()

        stretches = np.arange(len(mask) // shots * shots).reshape(-1, shots)
        likelihoods, counts = jax.vmap(held_out)(stretches)
        return -likelihoods.sum() / jnp.maximum(counts.sum(), 1)

    def _inputs(self, params: Tensors, x: Array) -> Inputs:
        if "deep" not in self.terms:
            return _kernels.inputs(x, jnp.zeros((len(jax.tree.leaves(x)[0]), 0)))
        return _kernels.inputs(x, self.network.apply(params, x))

    def _know(self, params: Tensors, support: Batch) -> Known:
        inputs = self._inputs(params, support.x)
        gram = _kernels.gram(params, inputs, inputs)
        labels = _functions.labels(_expected(params, inputs.deep), support)
        posterior = _gp.condition(gram, jnp.exp(params[_NOISE][0]), support.mask, labels)
        return Known(jax.tree.map(jnp.asarray, support), inputs.deep, posterior)

    def _predict(self, params: Tensors, known: Known, inputs: Inputs) -> Prediction:
        support = _kernels.inputs(known.support.x, known.deep)
        cross = _kernels.gram(params, inputs, support)
        mean, variance = _gp.predict(known.posterior, cross, known.support.mask, _kernels.variance(params))
        return _functions.say(mean + _expected(params, inputs.deep), variance + jnp.exp(params[_NOISE][0]))


def _expected(params: Tensors, deep: Array) -> Array:
    """Return what is expected of k functions before any label is known: [k], or [n, k] from features [n, e]."""
    if _SLOPE not in params:
        return jnp.asarray(params[_MEAN])
    return params[_MEAN] + deep @ params[_SLOPE] / math.sqrt(deep.shape[1])
