"""Which samples are alike: a sum of kernels whose sizes and lengths are learned in common.

Each kernel is 1 between a sample and itself, times its amplitude, so that the variance of an untrained function is the
same everywhere. All learned numbers are logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np

from commonprior.prior import Tensors
from commonprior.task import Array, Rows

Term: TypeAlias = Literal["deep", "values", "counts", "counts*values"]
"""`deep`: RBF on a network's features (Wilson et al., "Deep kernel learning", 2016). `values`: RBF with a length for
each column. `counts`: min-max, the Tanimoto kernel of counts (Ralaivola et al., 2005). `counts*values`: their product.
"""

_EMPTY = 1e-6
_AMPLITUDE, _LENGTHS, _CONSTANT = "kernel/amplitude/", "kernel/values/length", "kernel/constant"


class Inputs(NamedTuple):
    """What the kernels see of n samples: features [n, e], values with presence [n, c], counts [n, f]."""

    deep: Array
    values: Array
    counts: Array


def inputs(x: Array, deep: Array) -> Inputs:
    """Return what the kernels see of samples x (`Rows`, or an array [n, ...], which has no counts)."""
    if isinstance(x, Rows):
        return Inputs(deep, jnp.concatenate([x.values, x.present], axis=-1), jnp.asarray(x.counts))
    flat = jnp.reshape(x, (jnp.shape(x)[0], -1))
    return Inputs(deep, flat, flat[:, :0])


def possible(terms: Sequence[Term], example: Inputs) -> tuple[Term, ...]:
    """Return the terms that have something to see in such samples."""
    counted, valued = example.counts.shape[1] > 0, example.values.shape[1] > 0
    fits = {"deep": True, "values": valued, "counts": counted, "counts*values": counted and valued}
    return tuple(term for term in terms if fits[term])


def fresh(terms: Sequence[Term], example: Inputs) -> dict[str, np.ndarray]:
    """Return parameters of a kernel of total variance 1 and a constant of 0.1."""
    params = {_AMPLITUDE + term: np.full(1, -math.log(len(terms)), np.float32) for term in terms}
    params[_CONSTANT] = np.full(1, math.log(0.1), np.float32)
    if any("values" in term for term in terms):
        # Squared distances add up over columns: with this length, unrelated samples start out about one length apart.
        columns = example.values.shape[1]
        params[_LENGTHS] = np.full(columns, 0.5 * math.log(2 * columns), np.float32)
    return params


def gram(params: Tensors, a: Inputs, b: Inputs) -> Array:
    """Return the covariances [n, m] of samples a [n] and b [m]."""
    return covariance(params, exponents(params, a, b))


def exponents(params: Tensors, a: Inputs, b: Inputs) -> dict[str, Array]:
    """Return the logarithm [n, m] of each term's similarity between samples a [n] and b [m]; no amplitude is in it."""
    terms = _terms(params)
    alike = {}
    if "deep" in terms:
        alike["deep"] = -0.5 * _squared_distances(a.deep, b.deep) / a.deep.shape[1]
    if _LENGTHS in params:
        scale = jnp.exp(-params[_LENGTHS])
        alike["values"] = -0.5 * _squared_distances(a.values * scale, b.values * scale)
    if any("counts" in term for term in terms):
        alike["counts"] = jnp.log(_min_max(a.counts, b.counts))
    return {term: sum(alike[name] for name in term.split("*")) for term in terms}


def covariance(params: Tensors, alike: Mapping[str, Array]) -> Array:
    """Return the covariances [n, m] of samples whose terms have these exponents."""
    total = jnp.exp(params[_CONSTANT][0])
    for term in sorted(alike):
        total = total + jnp.exp(params[_AMPLITUDE + term][0] + alike[term])
    return total


def variance(params: Tensors) -> Array:
    """Return the prior variance, the same for every sample."""
    return jnp.exp(params[_CONSTANT][0]) + sum(jnp.exp(params[_AMPLITUDE + term][0]) for term in _terms(params))


def _terms(params: Tensors) -> list[str]:
    return sorted(name.removeprefix(_AMPLITUDE) for name in params if name.startswith(_AMPLITUDE))


def _squared_distances(a: Array, b: Array) -> Array:
    squares = (a**2).sum(-1)[:, None] + (b**2).sum(-1)[None, :]
    return jnp.maximum(squares - 2 * a @ b.T, 0)


def _min_max(a: Array, b: Array) -> Array:
    """Return sum of minima over sum of maxima; two samples without any count are alike."""
    least = jnp.minimum(a[:, None, :], b[None, :, :]).sum(-1)
    most = a.sum(-1)[:, None] + b.sum(-1)[None, :] - least
    return (least + _EMPTY) / (most + _EMPTY)
