"""How a network reads its inputs: one row of numbers a sample, whatever the samples are made of."""

from __future__ import annotations

from typing import Literal, TypeAlias

import jax.numpy as jnp

from commonprior.task import Array, Rows

CountScale: TypeAlias = Literal["log1p", "raw", "binary"]
"""What a network sees of a count: its logarithm, the count itself, or whether there is one at all."""


def rows_of_numbers(x: Array, counts: CountScale) -> Array:
    """Return [n, c]: an array [n, ...] flattened, or the values, the presence and the counts of `Rows` side by side."""
    if not isinstance(x, Rows):
        return jnp.reshape(x, (jnp.shape(x)[0], -1))
    return jnp.concatenate([x.values, x.present, _scaled(x.counts, counts)], axis=-1)


def _scaled(counts: Array, scale: CountScale) -> Array:
    match scale:
        case "log1p":
            return jnp.log1p(counts)
        case "raw":
            return jnp.asarray(counts)
        case "binary":
            return (jnp.asarray(counts) > 0).astype(jnp.result_type(counts))
