"""The inner loop: a few steps of gradient descent on one task's support."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import jax

from commonprior.errors import ModelError
from commonprior.learners import _objective
from commonprior.prior import Tensors
from commonprior.task import Array

_UNROLLED = 5
"""Steps that are compiled one after the other instead of as a loop: a tenth faster where the network is small."""


def descend(
    loss: Callable[[Tensors], Array],
    start: Tensors,
    steps: int,
    rate: float | Mapping[str, Array],
    first_order: bool = False,
) -> Tensors:
    """Return `start` after `steps` steps down `loss`; differentiable, through the steps too unless `first_order`.

    `rate` is one number, or one number or array a tensor.
    """
    rates = rate if isinstance(rate, Mapping) else dict.fromkeys(start, rate)

    def step(params: Tensors, _: None) -> tuple[Tensors, None]:
        gradient = jax.grad(loss)(params)
        if first_order:
            gradient = jax.lax.stop_gradient(gradient)
        return {name: params[name] - rates[name] * gradient[name] for name in params}, None

    def run(params: Tensors, length: int) -> Tensors:
        return jax.lax.scan(step, params, length=length, unroll=min(length, _UNROLLED))[0]

    if steps <= _UNROLLED or first_order:
        return run(start, steps)
    # Going back through the steps needs what each of them saw. Only the weights before each stretch are kept, and one
    # stretch at a time is computed again: memory grows with the root of the steps (Chen et al., "Training deep nets
    # with sublinear memory cost", 2016). A single step's own intermediates are few: to forget them too gains nothing.
    stretch = max(_UNROLLED, math.isqrt(steps - 1) + 1)
    whole, rest = divmod(steps, stretch)
    if rest:
        start = jax.checkpoint(lambda params: run(params, rest))(start)
    return jax.lax.scan(jax.checkpoint(lambda params, _: (run(params, stretch), None)), start, length=whole)[0]


def to_adapt(params: Tensors, adapts: tuple[str, ...]) -> dict[str, Array]:
    """Return what of the network's parameters is, or lies below, one of `adapts`.

    Raises `ModelError` where one of `adapts` names nothing.
    """
    weights = _objective.weights(params)
    for prefix in adapts:
        if not any(_begins(name, prefix) for name in weights):
            names = ", ".join(sorted(weights))
            raise ModelError(f"adapts: no parameter's name begins with {prefix!r}; there are {names}")
    return {name: weights[name] for name in weights if any(_begins(name, prefix) for prefix in adapts)}


def _begins(name: str, prefix: str) -> bool:
    return prefix in ("", name) or name.startswith(prefix.rstrip("/") + "/")
