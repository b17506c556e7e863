"""What layers are made of: fresh weights, normalisation, activations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from commonprior.task import Array

Activation: TypeAlias = Literal["relu", "tanh", "gelu", "silu"]

GAIN = {"relu": 2.0, "gelu": 2.0, "silu": 2.0, "tanh": 1.0}
"""Variance of a weight times its fan-in: He et al. (2015) where half of a unit is silent, LeCun et al. (1998) else."""

_EPSILON = 1e-5


def weight(key: Array, shape: tuple[int, ...], gain: float = 1.0) -> np.ndarray:
    """Return fresh weights [..., in, out] of a layer: normal, with variance gain over all axes but the last."""
    return np.asarray(jax.random.normal(key, shape, jnp.float32) * math.sqrt(gain / math.prod(shape[:-1])))


def normalised(h: Array, axes: int | tuple[int, ...] = -1) -> Array:
    """Return h at mean 0 and variance 1 over some axes of each sample (Ba et al., "Layer normalization", 2016)."""
    centred = h - h.mean(axes, keepdims=True)
    return centred * jax.lax.rsqrt((centred**2).mean(axes, keepdims=True) + _EPSILON)


def activation(name: Activation) -> Callable[[Array], Array]:
    """Return the function of this name."""
    return {"relu": jax.nn.relu, "tanh": jnp.tanh, "gelu": jax.nn.gelu, "silu": jax.nn.silu}[name]
