"""Inputs as one flat matrix, for methods that know nothing of tables."""

from __future__ import annotations

import math

import jax
import numpy as np

from commonprior.task import Array


def flat(x: Array) -> np.ndarray:
    """Return [..., n, features] float32 of a pytree whose leaves are [t, n, ...]; 0 where a value is missing."""
    leaves = [np.asarray(leaf, np.float32) for leaf in jax.tree.leaves(x)]
    return np.concatenate([leaf.reshape(*leaf.shape[:2], math.prod(leaf.shape[2:])) for leaf in leaves], axis=-1)
