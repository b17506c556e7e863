"""The meta-steps of `metastep.py` as anybody would write them in JAX, for one network and one kind of task each.

`weights` are named as commonprior's learners name them, so that both start from the same numbers; nothing else is
shared. Every step does what ours does, no more: Reptile's learns its noise from a second adaptation, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from _peers import OUTER_RATE, Contestant

Weights: TypeAlias = Mapping[str, Any]
Loss: TypeAlias = Callable[..., jax.Array]
"""Of weights and one task's support inputs and labels, query inputs and labels."""

HEADS = 4
_LEAST_VARIANCE = 1e-4


class Descent(Contestant):
    """A step down the gradient of the tasks' mean loss."""

    def __init__(self, loss: Loss, weights: Weights, batch: Sequence[np.ndarray]) -> None:
        self._loss, self._weights, self._batch = loss, weights, batch

    def step(self) -> None:
        self._weights = jax.block_until_ready(_descend(self._loss, self._weights, *self._batch))

    def loss(self) -> float:
        return float(_mean_loss(self._loss, self._weights, *self._batch))


class Reptile(Contestant):
    """A step towards the tasks' mean weights."""

    def __init__(self, weights: Weights, batch: Sequence[np.ndarray], steps: int, rate: float, noise: bool) -> None:
        self._weights, self._batch, self._how = weights, batch, (steps, rate, noise)

    def step(self) -> None:
        self._weights = jax.block_until_ready(_reptile(self._how, self._weights, *self._batch))

    def loss(self) -> float:
        steps, rate, _ = self._how
        return float(_mean_loss(partial(_after, steps, rate), self._weights, *self._batch))


def _mean_loss(loss: Loss, weights: Weights, *batch: Any) -> jax.Array:
    return jax.vmap(partial(loss, weights))(*map(jnp.asarray, batch)).mean()


@partial(jax.jit, static_argnums=0)
def _descend(loss: Loss, weights: Weights, *batch: Any) -> Weights:
    slope = jax.grad(partial(_mean_loss, loss))(weights, *batch)
    return {name: weights[name] - OUTER_RATE * slope[name] for name in weights}


# --- Reptile (Nichol et al., 2018) -----------------------------------------------------------------------------------


def _mlp(weights: Weights, x: jax.Array) -> jax.Array:
    h = jax.nn.relu(x @ weights["body/0/weight"] + weights["body/0/bias"])
    h = jax.nn.relu(h @ weights["body/1/weight"] + weights["body/1/bias"])
    return h @ weights["head/weight"] + weights["head/bias"]


def _error(weights: Weights, x: jax.Array, y: jax.Array) -> jax.Array:
    return ((_mlp(weights, x)[:, 0] - y) ** 2).mean()


def _adapted(steps: int, rate: float, weights: Weights, x: jax.Array, y: jax.Array) -> Weights:
    for _ in range(steps):
        slope = jax.grad(_error)(weights, x, y)
        weights = {name: weights[name] - rate * slope[name] for name in weights}
    return weights


def _after(steps: int, rate: float, weights: Weights, xs: Any, ys: Any, xq: Any, yq: Any) -> jax.Array:
    return _error(_adapted(steps, rate, weights, xs, ys), xq, yq)


@partial(jax.jit, static_argnums=0)
def _reptile(how: tuple[int, float, bool], weights: Weights, *batch: Any) -> Weights:
    steps, rate, learns_noise = how
    noise = weights["noise"]
    start = {name: value for name, value in weights.items() if name != "noise"}

    def towards(xs: Any, ys: Any, xq: Any, yq: Any) -> Weights:
        new = _adapted(steps, rate, start, jnp.concatenate([xs, xq]), jnp.concatenate([ys, yq]))
        if not learns_noise:
            return {**new, "noise": noise}
        held_out = _error(_adapted(steps, rate, start, xs, ys), xq, yq)
        return {**new, "noise": noise + jnp.minimum(held_out * jnp.exp(-noise) - 1, 3.0)}

    return {name: value.mean(0) for name, value in jax.vmap(towards)(*batch).items()}


# --- prototypical networks (Snell et al., 2017) ----------------------------------------------------------------------


def protonet(weights: Weights, xs: Any, ys: Any, xq: Any, yq: Any) -> jax.Array:
    member = jax.nn.one_hot(ys, len(weights["bias"]))
    prototypes = member.T @ _mlp(weights, xs) / member.sum(0)[:, None]
    asked = _mlp(weights, xq)
    apart = (asked**2).sum(1)[:, None] + (prototypes**2).sum(1) - 2 * asked @ prototypes.T
    logits = jax.nn.log_softmax(-jnp.exp(weights["scale"][0]) * apart + weights["bias"])
    return -jnp.take_along_axis(logits, yq[:, None], 1).mean()


# --- deep kernel transfer (Patacchiola et al., 2020), by the likelihood of the query ---------------------------------


def dkt(weights: Weights, xs: Any, ys: Any, xq: Any, yq: Any) -> jax.Array:
    size, noise = jnp.exp(weights["kernel/amplitude/deep"][0]), jnp.exp(weights["noise"][0])
    constant, mean = jnp.exp(weights["kernel/constant"][0]), weights["mean"][0]
    known, asked = _mlp(weights, xs), _mlp(weights, xq)

    def kernel(a: jax.Array, b: jax.Array) -> jax.Array:
        apart = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
        return constant + size * jnp.exp(-0.5 * jnp.maximum(apart, 0) / a.shape[1])

    factor = jax.scipy.linalg.cholesky(kernel(known, known) + noise * jnp.eye(len(known)), lower=True)
    cross = kernel(asked, known)
    solved = jax.scipy.linalg.solve_triangular(factor, cross.T, lower=True)
    weighted = jax.scipy.linalg.solve_triangular(factor, ys - mean, lower=True)
    variance = jnp.maximum(size + constant - (solved**2).sum(0), 0) + noise
    return _surprise(solved.T @ weighted + mean, variance, yq)


# --- attentive neural processes (Kim et al., 2019), the deterministic path -------------------------------------------


def anp(weights: Weights, xs: Any, ys: Any, xq: Any, yq: Any) -> jax.Array:
    known, asked = _mlp(weights, xs), _mlp(weights, xq)
    pairs = known + ys[:, None] * weights["reading/label"]
    scale = weights["reading/among/scale"]
    inner = _normalised(pairs) * scale[0]
    pairs = pairs + _attend(weights, "reading/among", inner, inner, inner)
    inner = _normalised(pairs) * scale[1] @ weights["reading/among/in"] + weights["reading/among/in_bias"]
    pairs = pairs + jax.nn.gelu(inner) @ weights["reading/among/back"]
    whole = jnp.concatenate([asked, _attend(weights, "reading/across", asked, known, pairs)], 1)
    inner = jax.nn.gelu(whole @ weights["saying/in"] + weights["saying/in_bias"])
    mean, width = (inner @ weights["saying/out"] + weights["saying/out_bias"]).T
    return _surprise(mean, jax.nn.softplus(width + 0.5413) + _LEAST_VARIANCE, yq)


def _attend(weights: Weights, name: str, asking: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
    """Attention with one more place to look at, of logit 0 and value 0."""
    asked = (asking @ weights[f"{name}/query"]).reshape(len(asking), HEADS, -1)
    found = (keys @ weights[f"{name}/key"]).reshape(len(keys), HEADS, -1)
    told = (values @ weights[f"{name}/value"]).reshape(len(values), HEADS, -1)
    logits = jnp.einsum("nhd,mhd->nhm", asked, found) / math.sqrt(asked.shape[-1])
    shares = jax.nn.softmax(jnp.concatenate([logits, jnp.zeros((*logits.shape[:2], 1))], -1))[..., :-1]
    return jnp.einsum("nhm,mhd->nhd", shares, told).reshape(len(asking), -1) @ weights[f"{name}/out"]


def _normalised(h: jax.Array) -> jax.Array:
    centred = h - h.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5)


def _surprise(mean: jax.Array, variance: jax.Array, y: jax.Array) -> jax.Array:
    return 0.5 * (jnp.log(2 * jnp.pi * variance) + (y - mean) ** 2 / variance).mean()
