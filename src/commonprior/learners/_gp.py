"""Exact Gaussian-process regression on padded samples (Rasmussen & Williams, 2006, chapter 2), in float32 too.

A padded sample has unit variance and no covariance: it adds nothing to a determinant, a weight or a prediction.

Triangular factors are inverted by products of matrices, forwards and in derivatives: on a CPU, a stack of triangular
systems of 32 samples takes XLA some hundred times as long.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from commonprior.task import Array

_FIRST_JITTER, _TRIES = 1e-7, 8


class Posterior(NamedTuple):
    """What k functions with one covariance are known to be after n samples.

    `factor` [n, n] is the Cholesky factor of the samples' covariance, `inverse` [n, n] that of the factor, `weights`
    [n, k] the covariance's solution for their labels.
    """

    factor: Array
    inverse: Array
    weights: Array


def condition(gram: Array, noise: Array, mask: Array, y: Array) -> Posterior:
    """Return the posterior from a Gram matrix [n, n], a noise variance, a mask [n] and centred labels [n, k]."""
    known = mask > 0
    diagonal = jnp.where(known, jnp.diagonal(gram) + noise, 1)
    covariance = jnp.where(known[:, None] & known[None, :] & ~jnp.eye(len(known), dtype=bool), gram, 0)
    factor, inverse = _cholesky(covariance + jnp.diag(diagonal))
    y = jnp.where(known[:, None], y, 0)
    weights = inverse.T @ (inverse @ y)
    # Where samples are all but equal, the inverse alone is not exact enough in float32; what it left over is small.
    weights = weights + inverse.T @ (inverse @ (y - factor @ (factor.T @ weights)))
    return Posterior(factor, inverse, weights)


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
    explained = cross @ posterior.inverse.T
    return cross @ posterior.weights, jnp.maximum(variance - (explained**2).sum(1), 0)


@jax.custom_jvp
def _cholesky(matrix: Array) -> tuple[Array, Array]:
    """Return the lower factor and its inverse, of the matrix as it is or with the least jitter that makes it one."""
    eye = jnp.eye(len(matrix), dtype=matrix.dtype)
    scale = jnp.diagonal(matrix).mean()

    def failed(state: tuple[Array, Array]) -> Array:
        tries, factor = state
        return (tries < _TRIES) & ~jnp.isfinite(factor).all()

    def retry(state: tuple[Array, Array]) -> tuple[Array, Array]:
        tries, _ = state
        jitter = scale * _FIRST_JITTER * 10.0 ** tries.astype(matrix.dtype)
        return tries + 1, jnp.linalg.cholesky(matrix + jitter * eye)

    _, factor = jax.lax.while_loop(failed, retry, (jnp.zeros((), jnp.int32), jnp.linalg.cholesky(matrix)))
    return factor, _inverse(factor)


@_cholesky.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Derive as Murray ("Differentiation of the Cholesky decomposition", 2016, section 3) does; the jitter is held."""
    factor, inverse = _cholesky(*primals)
    half = jnp.tril(inverse @ tangents[0] @ inverse.T)
    half = half - 0.5 * jnp.diag(jnp.diagonal(half))
    return (factor, inverse), (factor @ half, -half @ inverse)


def _inverse(lower: Array) -> Array:
    """Return the inverse of a lower triangular matrix, from its diagonal on by blocks of twice the size."""
    at = np.arange(len(lower))
    inverse, size = jnp.diag(1 / jnp.diagonal(lower)), 1
    while size < len(lower):
        block = at // size
        below = (block[:, None] == block[None, :] + 1) & (block[:, None] % 2 == 1)
        inverse = inverse - inverse @ jnp.where(below, lower, 0) @ inverse
        size *= 2
    return inverse
