"""What a site does with its tasks in one round when its learner has a meta-gradient.

One plain gradient step gives one row a task, each minus its own meta-gradient times the rate, so that their mean over
tasks and sites is the step that pooled data would have taken, and so that clipping can protect a single task. More
steps, or an optimiser with a memory, mix the tasks: then there is one row for the site (McMahan et al.,
"Communication-efficient learning of deep networks from decentralized data", 2017).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol, final

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from commonprior.errors import RecipeError
from commonprior.prior import Contributions, Prior, Tensors
from commonprior.task import Array, Task


@final
@dataclass(frozen=True)
class LocalWork:
    """A site's tasks are split into `steps` equal meta-batches, each one step of an optimiser that starts afresh.

    Where they do not divide, the round goes on with the first of them again: a site with fewer tasks than steps takes
    each in turn, over and over. `averaged` gives one row, the mean, where one plain step would give a row a task: less
    time and memory for the same update, and nothing to clip but the whole site.

    `clip` bounds the norm of each gradient, of a task where a row is a task's and of a meta-batch elsewhere; one that
    is not finite, since an inner loop diverged on it, then counts as none. 0 bounds nothing; such a round is refused
    where there is no noise.
    """

    steps: int = 1
    optimiser: Literal["sgd", "momentum", "adam"] = "sgd"
    rate: float = 0.01
    averaged: bool = False
    clip: float = 10.0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise RecipeError(f"local.steps = {self.steps}: expected at least 1")
        if not self.rate > 0:
            raise RecipeError(f"local.rate = {self.rate}: expected a number above 0")
        if not self.clip >= 0:
            raise RecipeError(f"local.clip = {self.clip}: expected a norm above 0, or 0 for none")

    @property
    def unit(self) -> Literal["task", "site"]:
        """What one row of contributions stands for."""
        return "task" if self.is_plain and not self.averaged else "site"

    @property
    def is_plain(self) -> bool:
        """Whether a site takes the one step that pooled data would take."""
        return self.steps == 1 and self.optimiser == "sgd"

    def optax(self) -> optax.GradientTransformation:
        """Return the optimiser."""
        match self.optimiser:
            case "sgd":
                return optax.sgd(self.rate)
            case "momentum":
                return optax.sgd(self.rate, momentum=0.9)
            case "adam":
                return optax.adam(self.rate)


class Differentiable(Protocol):
    """A learner whose prior gets better along a gradient."""

    @property
    def local(self) -> LocalWork:
        """How its sites work."""
        ...

    def meta_loss(self, params: Tensors, task: Task) -> Array:
        """Return the loss of one task (a scalar), to be differentiated by the prior's parameters."""
        ...


def contribute(learner: Differentiable, prior: Prior, tasks: Task) -> Contributions:
    """Return what m stacked tasks would add to the prior: rows [m, d] or [1, d], new minus old."""
    local = learner.local
    work = _task_rows if local.unit == "task" else _mean_row if local.is_plain else _site_row
    return Contributions(np.asarray(work(learner, dict(prior.params), tasks)), local.unit)


def as_rows(tensors: Tensors) -> Array:
    """Return tensors [m, ...] as rows [m, d], each laid out as `flatten` lays out one prior."""
    return jnp.concatenate([tensors[name].reshape(tensors[name].shape[0], -1) for name in sorted(tensors)], axis=1)


def bounded(row: Array, clip: float) -> Array:
    """Return a row [d] scaled down to a norm of at most `clip`, or nothing but zeros where it is not finite.

    A clip of 0 leaves it as it is.
    """
    if not clip:
        return row
    norm = jnp.linalg.norm(row)
    return jnp.where(jnp.isfinite(norm), row, 0) * jnp.where(norm > clip, clip / norm, 1)


@partial(jax.jit, static_argnums=0)
def _task_rows(learner: Differentiable, params: Tensors, tasks: Task) -> Array:
    gradients = jax.vmap(jax.grad(learner.meta_loss), in_axes=(None, 0))(params, tasks)
    rows = jax.vmap(partial(bounded, clip=learner.local.clip))(as_rows(gradients))
    return rows * -learner.local.rate


@partial(jax.jit, static_argnums=0)
def _mean_row(learner: Differentiable, params: Tensors, tasks: Task) -> Array:
    row, _ = ravel_pytree(jax.grad(partial(_mean_loss, learner))(params, tasks))
    return bounded(row, learner.local.clip)[None] * -learner.local.rate


@partial(jax.jit, static_argnums=0)
def _site_row(learner: Differentiable, params: Tensors, tasks: Task) -> Array:
    optimiser, steps = learner.local.optax(), learner.local.steps
    m = len(tasks.query.mask)
    turns = (np.arange(steps * math.ceil(m / steps)) % m).reshape(steps, -1)
    batches = jax.tree.map(lambda leaf: leaf[turns], tasks)
    slope = jax.grad(partial(_mean_loss, learner))

    def step(carry: tuple[Tensors, optax.OptState], batch: Task) -> tuple[tuple[Tensors, optax.OptState], None]:
        new, state = carry
        gradient = slope(new, batch)
        if learner.local.clip:
            row, tensors = ravel_pytree(gradient)
            gradient = tensors(bounded(row, learner.local.clip))
        updates, state = optimiser.update(gradient, state)
        return (jax.tree.map(jnp.add, new, updates), state), None

    (new, _), _ = jax.lax.scan(step, (params, optimiser.init(params)), batches)
    return as_rows(jax.tree.map(lambda after, before: (after - before)[None], new, params))


def _mean_loss(learner: Differentiable, params: Tensors, tasks: Task) -> Array:
    return jax.vmap(learner.meta_loss, in_axes=(None, 0))(params, tasks).mean()
