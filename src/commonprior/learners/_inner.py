"""The inner loop: a few steps of gradient descent on one task's support."""

from __future__ import annotations

from collections.abc import Callable

import jax

from commonprior.prior import Tensors
from commonprior.task import Array

_UNROLLED = 5
"""Steps that are compiled one after the other instead of as a loop: a tenth faster where the network is small."""


def descend(
    loss: Callable[[Tensors], Array], start: Tensors, steps: int, rate: float, first_order: bool = False
) -> Tensors:
    """Return `start` after `steps` steps down `loss`; differentiable, through the steps too unless `first_order`."""

    def step(params: Tensors, _: None) -> tuple[Tensors, None]:
        gradient = jax.grad(loss)(params)
        if first_order:
            gradient = jax.lax.stop_gradient(gradient)
        return jax.tree.map(lambda value, slope: value - rate * slope, params, gradient), None

    # No rematerialisation: what a step keeps is little more than its weights, and computing it again took more memory.
    return jax.lax.scan(step, start, length=steps, unroll=min(steps, _UNROLLED))[0]
