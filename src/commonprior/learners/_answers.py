"""Between labels and numbers, for learners that read labels as inputs and say predictions as outputs.

A label goes in as itself, or as one number a class; out come a mean and what becomes a variance, or one logit a class.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from commonprior.task import Array, Batch, Categorical, Gaussian, Prediction, TaskSpec

_LEAST = 1e-4
"""The least variance, of labels that are standardised: no likelihood is without a bound."""


def numbers(spec: TaskSpec) -> tuple[int, int]:
    """Return how many numbers a label is, and how many an answer."""
    k = spec.outputs
    return (k, k) if spec.target.kind == "classification" else (1, 2)


def encoded(batch: Batch, width: int, like: Array) -> Array:
    """Return labels [n, width] of the type of `like`, 0 where padded; a width of 1 is a regression."""
    y = jnp.asarray(batch.y)
    told = y[:, None] if width == 1 else jax.nn.one_hot(y.astype(jnp.int32), width)
    return jnp.where(jnp.asarray(batch.mask)[:, None] > 0, told, 0).astype(like.dtype)


def say(outputs: Array, width: int) -> Prediction:
    """Return the prediction that outputs [n, 2 or k] stand for, where a label is `width` numbers."""
    if width > 1:
        return Categorical(outputs)
    # Shifted so that an output of 0 says a variance of 1.
    return Gaussian(outputs[:, 0], jax.nn.softplus(outputs[:, 1] + 0.5413) + _LEAST)
