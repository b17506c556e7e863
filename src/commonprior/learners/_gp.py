"""Exact Gaussian-process regression on padded samples (Rasmussen & Williams, 2006, chapter 2), in float32 too.

A padded sample has unit variance and no covariance: it adds nothing to a determinant, a weight or a prediction.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from commonprior.task import Array

_FIRST_JITTER, _TRIES = 1e-7, 8


class Posterior(NamedTuple):
    """What k functions with one covariance are known to be after n samples.

    `factor` [n, n] is the Cholesky factor of the samples' covariance, `weights` [n, k] its solution for their labels.
    """

    factor: Array
    weights: Array


def condition(gram: Array, noise: Array, mask: Array, y: Array) -> Posterior:
    """Return the posterior from a Gram matrix [n, n], a noise variance, a mask [n] and centred labels [n, k]."""
    known = mask > 0
    diagonal = jnp.where(known, jnp.diagonal(gram) + noise, 1)
    covariance = jnp.where(known[:, None] & known[None, :] & ~jnp.eye(len(known), dtype=bool), gram, 0)
    factor = _cholesky(covariance + jnp.diag(diagonal))
    y = jnp.where(known[:, None], y, 0)
    weights = solve_triangular(factor, solve_triangular(factor, y, lower=True), lower=True, trans="T")
    return Posterior(factor, weights)


def surprise(posterior: Posterior, mask: Array, y: Array) -> Array:
    """Return the negative log marginal likelihood of labels [n, k], per label; 0 where all is padding."""
    known, k = mask > 0, y.shape[1]
    labels = known.sum() * k
    fit = 0.5 * (jnp.where(known[:, None], y, 0) * posterior.weights).sum()
    size = k * jnp.log(jnp.diagonal(posterior.factor)).sum()
    return (fit + size + 0.5 * labels * math.log(2 * math.pi)) / jnp.maximum(labels, 1)


def predict(posterior: Posterior, cross: Array, mask: Array, variance: Array) -> tuple[Array, Array]:
    """Return means [q, k] and variances [q] of the functions, from covariances [q, n] and a prior variance [q]."""
    cross = jnp.where(mask > 0, cross, 0)
    explained = solve_triangular(posterior.factor, cross.T, lower=True)
    return cross @ posterior.weights, jnp.maximum(variance - (explained**2).sum(0), 0)


def _cholesky(matrix: Array) -> Array:
    """Return the lower factor, of the matrix as it is or with the least jitter of a few that makes it one."""
    fixed = jax.lax.stop_gradient(matrix)
    eye = jnp.eye(len(matrix), dtype=matrix.dtype)
    scale = jnp.diagonal(fixed).mean()

    def failed(state: tuple[Array, Array, Array]) -> Array:
        tries, _, factor = state
        return (tries < _TRIES) & ~jnp.isfinite(factor).all()

    def retry(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        tries, _, _ = state
        jitter = scale * _FIRST_JITTER * 10.0 ** tries.astype(matrix.dtype)
        return tries + 1, jitter, jnp.linalg.cholesky(fixed + jitter * eye)

    start = (jnp.zeros((), jnp.int32), jnp.zeros((), matrix.dtype), jnp.linalg.cholesky(fixed))
    _, jitter, _ = jax.lax.while_loop(failed, retry, start)
    return jnp.linalg.cholesky(matrix + jitter * eye)
