"""Inputs of any make as vectors [n, c] of moderate size: what a survey can take moments of."""

from __future__ import annotations

import jax.numpy as jnp

from commonprior.task import Array, Rows


def vectors(x: Array) -> Array:
    """Return samples as [n, c]: scaled values and presence as they are, counts by their logarithm and total."""
    if not isinstance(x, Rows):
        return jnp.reshape(jnp.asarray(x), (jnp.shape(x)[0], -1))
    counts = jnp.log1p(jnp.asarray(x.counts))
    counts = counts / jnp.maximum(jnp.linalg.norm(counts, axis=-1, keepdims=True), 1e-6)
    return jnp.concatenate([jnp.asarray(x.values), jnp.asarray(x.present), counts], axis=-1)
