"""The inner loop: a few steps of gradient descent on one task's support."""

from __future__ import annotations

from collections.abc import Callable

import jax

from commonprior.prior import Tensors
from commonprior.task import Array


def descend(
    loss: Callable[[Tensors], Array], start: Tensors, steps: int, rate: float, first_order: bool = False
) -> Tensors:
    """Return `start` after `steps` steps down `loss`; differentiable, through the steps too unless `first_order`."""
    return descend_drawn(lambda params, _: loss(params), start, None, steps, rate, first_order)


def descend_drawn(
    loss: Callable[[Tensors, Array], Array],
    start: Tensors,
    draws: Array,
    steps: int,
    rate: float,
    first_order: bool = False,
) -> Tensors:
    """Return `start` after one step down `loss(params, draw)` for each of the draws (leaves [steps, ...])."""

    def step(params: Tensors, draw: Array) -> tuple[Tensors, None]:
        gradient = jax.grad(loss)(params, draw)
        if first_order:
            gradient = jax.lax.stop_gradient(gradient)
        return jax.tree.map(lambda value, slope: value - rate * slope, params, gradient), None

    # No rematerialisation: what a step keeps is little more than its weights, and computing it again took more memory.
    return jax.lax.scan(step, start, draws, length=steps)[0]
