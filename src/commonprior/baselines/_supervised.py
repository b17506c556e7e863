"""Ordinary supervised learning of a network on one task's support: Adam on every sample at once.

A network that has met its few labels has no residual left to tell its uncertainty by. So the variance of a regression
comes from cross-validation inside the support: the mean squared error on samples held out in turn, with one sample of
unit variance (that of standardised labels) added, so that it is there from one shot up and never 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
import optax

from commonprior.networks import Network
from commonprior.predictor import Predictor, check_inputs
from commonprior.prior import Tensors
from commonprior.task import (
    Array,
    Batch,
    Categorical,
    Gaussian,
    Prediction,
    Scale,
    Task,
    TaskSpec,
    standardise,
    unscale,
)

Part = Literal["head", "all"]


class Training(NamedTuple):
    """How a network is trained on a support; hashable, so static under jit."""

    network: Network
    kind: Literal["regression", "classification"]
    part: Part
    steps: int
    rate: float
    folds: int


class Trained(NamedTuple):
    """t networks [t, ...], the variance [t] of their errors in standardised labels, and the scale of these."""

    params: Tensors
    variance: Array
    scale: Scale


def loss(network: Network, kind: str, params: Tensors, batch: Batch) -> Array:
    """Return the mean squared error, or cross-entropy, of the samples that are not padded."""
    return (batch.mask * _losses(network, kind, params, batch)).sum() / jnp.maximum(batch.mask.sum(), 1)


@partial(jax.jit, static_argnums=0)
def train(training: Training, starts: Tensors, supports: Batch) -> tuple[Tensors, Array]:
    """Return networks trained from `starts` [t, ...] on standardised supports [t, k, ...], and their variances [t]."""
    return jax.vmap(partial(_train_one, training))(starts, supports)


@final
@dataclass(frozen=True, eq=False)
class Supervised(Predictor):
    """A network trained on each support; `start` says where from, given the task's key."""

    training: Training
    spec: TaskSpec
    start: Callable[[Array], Tensors]

    def adapt(self, supports: Batch, keys: Array) -> Trained:
        """Train one network a task."""
        check_inputs(self.spec, supports.x, "support")
        task, scale = standardise(Task(supports, supports), self.spec.target)
        starts = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[dict(self.start(key)) for key in keys])
        params, variance = train(self.training, starts, task.support)
        return Trained(params, variance, scale)

    def predict(self, adapted: Trained, x: Array, keys: Array) -> Prediction:
        """Return the networks' outputs, in the user's units."""
        check_inputs(self.spec, x, "x")
        output = np.asarray(_apply(self.training.network, adapted.params, x))
        if self.training.kind == "classification":
            return Categorical(output)
        variance = np.broadcast_to(np.asarray(adapted.variance)[:, None], output.shape[:2])
        return unscale(Gaussian(output[..., 0], variance), adapted.scale)


@partial(jax.jit, static_argnums=0)
def _apply(network: Network, params: Tensors, x: Array) -> Array:
    return jax.vmap(network.apply)(params, x)


def _train_one(training: Training, start: Tensors, support: Batch) -> tuple[Tensors, Array]:
    params = _fit(training, start, support)
    if training.kind == "classification":
        return params, jnp.ones(())
    position = jnp.cumsum(support.mask) - 1

    def error_of(fold: Array) -> Array:
        held = support.mask * (position % training.folds == fold)
        fitted = _fit(training, start, support._replace(mask=support.mask - held))
        return (held * _losses(training.network, training.kind, fitted, support)).sum()

    errors = jax.lax.map(error_of, jnp.arange(training.folds, dtype=position.dtype))
    return params, (errors.sum() + 1) / (support.mask.sum() + 1)


def _fit(training: Training, start: Tensors, support: Batch) -> Tensors:
    trained = {n: v for n, v in start.items() if training.part == "all" or n.startswith("head/")}
    optimiser = optax.adam(training.rate)

    def step(carry: Any, _: None) -> tuple[Any, None]:
        params, state = carry
        gradient = jax.grad(lambda p: loss(training.network, training.kind, {**start, **p}, support))(params)
        updates, state = optimiser.update(gradient, state)
        return (optax.apply_updates(params, updates), state), None

    (trained, _), _ = jax.lax.scan(step, (trained, optimiser.init(trained)), None, training.steps)
    return {**start, **trained}


def _losses(network: Network, kind: str, params: Tensors, batch: Batch) -> Array:
    output = network.apply(params, batch.x)
    if kind == "regression":
        return (output[:, 0] - batch.y) ** 2
    return optax.softmax_cross_entropy_with_integer_labels(output, batch.y.astype(jnp.int32))
