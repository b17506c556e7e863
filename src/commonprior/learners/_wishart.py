"""Gaussian classes of unknown mean and covariance: how likely a new sample is in each of them.

Murphy, "Conjugate Bayesian analysis of the Gaussian distribution" (2007), section 9: with a normal-inverse-Wishart
prior the posterior predictive is a multivariate t. The prior: means about 0 with the weight of `weight` samples, and
covariances about `spread`^2 times the identity with e + 2 degrees of freedom, the fewest with which they have a mean.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln

from commonprior.learners import _gp
from commonprior.task import Array


def log_densities(features: Array, shares: Array, new: Array, weight: Array, spread: Array) -> Array:
    """Return log densities [q, k] of new samples [q, e] in k classes, plus the classes' log shares.

    `features` [n, e] are known samples, `shares` [n, k] is 1 in a sample's class, and 0 throughout where padded.
    """
    counts = shares.sum(0)
    one = jax.vmap(lambda share: _log_density(features, share, new, weight, spread), in_axes=1, out_axes=1)
    return one(shares) + jnp.log((counts + 1) / (counts.sum() + len(counts)))


def _log_density(features: Array, share: Array, new: Array, weight: Array, spread: Array) -> Array:
    e, n = features.shape[1], share.sum()
    kappa, degrees = weight + n, e + 2 + n
    centre = (share @ features) / kappa
    # The scatter about the posterior mean, with that of the prior's own samples, which are all at 0.
    apart = features - centre
    scatter = (apart * share[:, None]).T @ apart + weight * jnp.outer(centre, centre)
    scale = (spread**2 * jnp.eye(e, dtype=features.dtype) + scatter) * (kappa + 1) / (kappa * (degrees - e + 1))
    factor, inverse, _ = _gp.condition(scale, jnp.zeros((), scale.dtype), jnp.ones(e), jnp.zeros((e, 1), scale.dtype))
    distances = (((new - centre) @ inverse.T) ** 2).sum(1)
    freedom = degrees - e + 1
    return (
        gammaln((freedom + e) / 2)
        - gammaln(freedom / 2)
        - 0.5 * e * jnp.log(freedom * jnp.pi)
        - jnp.log(jnp.diagonal(factor)).sum()
        - 0.5 * (freedom + e) * jnp.log1p(distances / freedom)
    )
