"""Adaptive deep kernel fitting: each task has a kernel of its own, and the network learns from what follows from that.

Chen, Tripp & Hernández-Lobato, "Meta-learning adaptive deep kernel Gaussian processes for molecular property
prediction" (2023), ADKF-IFT. A handful of the kernel's numbers (the adapted set: noise, amplitudes, the length of the
deep term) are fitted to each support by marginal likelihood; all others are learned in common from the likelihood of
the query, through that fit by the implicit function theorem (their section 3). The adapted set is small, so its
Hessian is inverted exactly. Where they fit from a fixed start, we fit under a Gaussian about a start that is learned
too: with few samples the marginal likelihood alone has no minimum, and with none the start is the answer.

Good: tasks whose noise and smoothness differ, as assays' do; calibrated; nothing to tune per task. Bad: costs a dozen
small Cholesky factors a task more than `dkt`; with fewer than about eight samples it can tell little more than `dkt`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias, final

import jax
import jax.numpy as jnp
import numpy as np

from commonprior.errors import ModelError, RecipeError
from commonprior.learners import Learner, Memory, _functions, _gp, _kernels, _local
from commonprior.learners._gp import Posterior
from commonprior.learners._kernels import Inputs, Term
from commonprior.learners._local import LocalWork
from commonprior.learners._newton import Shape, implicit, minimise
from commonprior.learners._server import ServerStep
from commonprior.networks import Network
from commonprior.prior import Contributions, Prior, Tensors
from commonprior.task import Array, Batch, Prediction, Task, TaskSpec, log_likelihood

_NOISE, _MEAN, _LENGTH, _AMPLITUDE = "noise", "mean", "kernel/deep/length", "kernel/amplitude/"

Exponents: TypeAlias = Mapping[str, Array]


class Known(NamedTuple):
    """A task's samples so far, their features [n, e], its own kernel's numbers [a], and the posterior given both."""

    support: Batch
    deep: Array
    own: Array
    posterior: Posterior


@final
@dataclass(frozen=True)
class Adkf(Learner):
    """The kernel is the sum of `terms` (those that the inputs have nothing for are left out); `deep` has `features`.

    `freedom` is how far a task's own kernel is expected to lie from the common one, as a standard deviation of
    logarithms; `inner_steps` are Newton steps, which are soon there.
    """

    network: Network
    terms: tuple[Term, ...] = ("deep", "counts", "values", "counts*values")
    features: int = 32
    freedom: float = 1.0
    inner_steps: int = 6
    local: LocalWork = field(default_factory=LocalWork)
    server: ServerStep = field(default_factory=ServerStep)

    def __post_init__(self) -> None:
        if not self.terms or len(set(self.terms)) < len(self.terms):
            raise RecipeError(f"terms = {list(self.terms)}: expected one or more, each once")
        if self.features < 1:
            raise RecipeError(f"features = {self.features}: expected at least 1")
        if not self.freedom > 0:
            raise RecipeError(f"freedom = {self.freedom}: expected a number above 0")
        if self.inner_steps < 1:
            raise RecipeError(f"inner_steps = {self.inner_steps}: expected at least 1")

    def init(self, spec: TaskSpec, key: Array) -> Prior:
        """Return a fresh kernel. Raises `ModelError` where the inputs have nothing for any of `terms`."""
        example = spec.example()
        params: dict[str, np.ndarray] = {}
        if "deep" in self.terms:
            weights = self.network.init(example, self.features, key)
            params |= {name: np.asarray(value, np.float32) for name, value in weights.items()}
            params[_LENGTH] = np.zeros(1, np.float32)
        terms = _kernels.possible(self.terms, self._inputs(params, example))
        if not terms:
            raise ModelError(f'terms = {list(self.terms)}: the inputs have no such columns; add "deep"')
        params |= _kernels.fresh(terms, self._inputs(params, example))
        params[_NOISE] = np.full(1, math.log(0.1), np.float32)
        params[_MEAN] = _functions.fresh_mean(spec)
        return self.server.begin(params)

    def length(self, prior: Prior) -> int:
        """Return the number of parameters."""
        return sum(value.size for value in prior.params.values())

    def adapt(self, prior: Prior, support: Batch, key: Array, start: Known | None = None) -> Known:
        """Return the task's kernel and posterior; after `start`, those of its samples and these together."""
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
        """Return minus the log-likelihood of the query's labels, each on its own, given the support."""
        prediction = self._predict(params, self._know(params, task.support), self._inputs(params, task.query.x))
        return -log_likelihood(prediction, task.query).sum() / jnp.maximum((task.query.mask > 0).sum(), 1)

    def _inputs(self, params: Tensors, x: Array) -> Inputs:
        if "deep" not in self.terms:
            return _kernels.inputs(x, jnp.zeros((len(jax.tree.leaves(x)[0]), 0)))
        return _kernels.inputs(x, self.network.apply(params, x))

    def _know(self, params: Tensors, support: Batch) -> Known:
        inputs = self._inputs(params, support.x)
        # The network, the columns' lengths and the counts are all in the exponents: the fit sees no more of them.
        few: dict[str, Array] = {
            name: jnp.asarray(params[name]) for name in (*_adapts(params), _MEAN, "kernel/constant")
        }
        given = (few, _kernels.exponents(params, inputs, inputs), support)
        own = implicit(self._fit, minimise(self._fit, _common(params), given, self.inner_steps), given)
        posterior = _posterior(_adapted(few, own), *given[1:])
        return Known(jax.tree.map(jnp.asarray, support), inputs.deep, own, posterior)

    def _fit(self, own: Array, given: tuple[Tensors, Exponents, Batch]) -> Shape:
        """Return what a task's own numbers minimise: minus their log posterior density, given the support.

        Derivatives as in Rasmussen & Williams (2006), section 5.4.1. Several functions count as one, or two classes
        would count twice.
        """
        params, alike, support = given
        mask, labels = support.mask, _functions.labels(params[_MEAN], support)
        apart = (own - _common(params)) / self.freedom

        def covariance(numbers: Array) -> Array:
            new = _adapted(params, numbers)
            gram = _covariance(new, alike) + jnp.exp(new[_NOISE][0]) * jnp.eye(len(mask), dtype=numbers.dtype)
            return jnp.where((mask > 0)[:, None] & (mask > 0)[None, :], gram, 0)

        _, inverse, weights = posterior = _posterior(_adapted(params, own), alike, support)
        slopes = jnp.moveaxis(jax.jacfwd(covariance)(own), -1, 0)
        against = 0.5 * (inverse.T @ inverse - weights @ weights.T / weights.shape[1])
        bends = jax.hessian(lambda numbers: (against * covariance(numbers)).sum())(own)
        sizes, pulls = inverse @ slopes @ inverse.T, inverse @ slopes @ weights
        curvature = bends - 0.5 * _products(sizes) + _products(pulls) / weights.shape[1]
        return Shape(
            _gp.surprise(posterior, mask, labels) * (mask > 0).sum() + 0.5 * (apart**2).sum(),
            (slopes * against).sum((1, 2)) + apart / self.freedom,
            curvature + jnp.eye(len(own), dtype=own.dtype) / self.freedom**2,
        )

    def _predict(self, params: Tensors, known: Known, inputs: Inputs) -> Prediction:
        support = _kernels.inputs(known.support.x, known.deep)
        own = _adapted(params, known.own)
        cross = _covariance(own, _kernels.exponents(params, inputs, support))
        mean, variance = _gp.predict(known.posterior, cross, known.support.mask, _kernels.variance(own))
        return _functions.say(mean + params[_MEAN], variance + jnp.exp(own[_NOISE][0]))


def _adapts(params: Tensors) -> list[str]:
    """Return the names of what each task fits for itself."""
    return sorted(name for name in params if name in (_NOISE, _LENGTH) or name.startswith(_AMPLITUDE))


def _common(params: Tensors) -> Array:
    return jnp.concatenate([jnp.asarray(params[name]) for name in _adapts(params)])


def _adapted(params: Tensors, own: Array) -> dict[str, Array]:
    return {**params, **{name: own[i : i + 1] for i, name in enumerate(_adapts(params))}}


def _posterior(params: Tensors, alike: Exponents, support: Batch) -> Posterior:
    labels = _functions.labels(params[_MEAN], support)
    return _gp.condition(_covariance(params, alike), jnp.exp(params[_NOISE][0]), support.mask, labels)


def _products(matrices: Array) -> Array:
    """Return the inner products [a, a] of matrices [a, n, m]."""
    rows = matrices.reshape(len(matrices), -1)
    return rows @ rows.T


def _covariance(params: Tensors, alike: Exponents) -> Array:
    if "deep" in alike:
        alike = {**alike, "deep": alike["deep"] * jnp.exp(-2 * params[_LENGTH][0])}
    return _kernels.covariance(params, alike)
