"""Labels as values of Gaussian functions: the label itself, or one function a class.

Classes are learned by regression on labels of 1 and -1, one function a class, all with one covariance (Patacchiola et
al., "Bayesian meta-learning for the few-shot setting via deep kernels", 2020); the link to probabilities is a probit.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from commonprior.task import Array, Batch, Categorical, Gaussian, Prediction, TaskSpec


def fresh_mean(spec: TaskSpec) -> np.ndarray:
    """Return what k functions are expected to be before anything is known [k]: their labels' average."""
    k = spec.outputs
    # Of k labels of 1 and -1, one a class, one is 1.
    return np.full(k, 2 / k - 1 if spec.target.kind == "classification" else 0.0, np.float32)


def labels(mean: Array, batch: Batch) -> Array:
    """Return the labels [n, k] of k functions, less their mean ([k] or [n, k]); one function is a regression."""
    k = jnp.shape(mean)[-1]
    if k == 1:
        return jnp.asarray(batch.y)[:, None] - mean
    return 2 * jax.nn.one_hot(jnp.asarray(batch.y, jnp.int32), k, dtype=jnp.result_type(mean)) - 1 - mean


def say(mean: Array, variance: Array) -> Prediction:
    """Return the prediction of k functions with means [n, k] and variances [n], noise included."""
    if mean.shape[1] == 1:
        return Gaussian(mean[:, 0], variance)
    # Normalised over two classes, whose means are opposite, this is the probit itself.
    return Categorical(jax.scipy.stats.norm.logcdf(mean / jnp.sqrt(variance)[:, None]))


def together(a: Batch, b: Batch) -> Batch:
    """Return the samples of both."""
    return jax.tree.map(lambda first, second: jnp.concatenate([first, second]), a, b)
