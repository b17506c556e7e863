"""The single-task GP's kernel: squared-exponential on values, Tanimoto on counts, and their product.

Tanimoto (MinMax) on counts: Ralaivola et al., "Graph kernels for chemical informatics", 2005. Distances are in units of
the support's own median distance, so that one prior over length scales serves every table.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import numpy as np

from commonprior.task import Array, Rows


class Similarity(NamedTuple):
    """Of n samples to m others, in t tasks [t, n, m] float64; None where the inputs have no such part."""

    distance: Array | None  # squared
    tanimoto: Array | None


class Inputs(NamedTuple):
    """Inputs by kind: values [t, n, c], and counts [t, n, f]."""

    values: np.ndarray
    counts: np.ndarray


def inputs_of(x: Array) -> Inputs:
    """Split a pytree of [t, n, ...] into values and counts. Whether a column is present counts as a value."""
    if isinstance(x, Rows):
        values, present, counts = (np.asarray(leaf, np.float64) for leaf in x)
        return Inputs(np.concatenate([values, present], -1) if values.size else present[..., :0], counts)
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(x)]
    flat = [leaf.reshape(*leaf.shape[:2], math.prod(leaf.shape[2:])) for leaf in leaves]
    return Inputs(np.concatenate(flat, -1), flat[0][..., :0])


def similarity(a: Inputs, b: Inputs) -> Similarity:
    """Return how alike the samples of `a` [t, n] and `b` [t, m] are."""
    distance = tanimoto = None
    if a.values.shape[-1]:
        squares = (a.values**2).sum(-1)[:, :, None] + (b.values**2).sum(-1)[:, None, :]
        distance = np.maximum(squares - 2 * a.values @ np.swapaxes(b.values, 1, 2), 0.0)
    if a.counts.shape[-1]:
        tanimoto = np.stack([_tanimoto(left, right) for left, right in zip(a.counts, b.counts, strict=True)])
    return Similarity(distance, tanimoto)


def covariance(xp: Any, theta: dict[str, Array], of: Similarity) -> Array:
    """Return the covariance [..., n, m]; `xp` is numpy or jax.numpy, `theta` the logarithms of the hyperparameters."""
    parts = []
    if of.distance is not None:
        parts.append(xp.exp(-0.5 * of.distance * xp.exp(-2 * theta["length"])[..., None, None]))
    if of.tanimoto is not None:
        parts.append(of.tanimoto)
    if len(parts) == 2:
        parts.append(parts[0] * parts[1])
    amplitudes = xp.exp(theta["amplitude"])
    return sum(amplitudes[..., i, None, None] * part for i, part in enumerate(parts))


def parts_of(inputs: Inputs) -> int:
    """Return how many amplitudes the kernel has for such inputs."""
    kinds = sum(part.shape[-1] > 0 for part in inputs)
    return 3 if kinds == 2 else kinds


def _tanimoto(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return [n, m]; two samples without any count are alike."""
    held = (b > 0).any(0)  # a count that none of b has is in no minimum
    left, right = a[:, held], b[:, held]
    shared = np.stack([np.minimum(left, row).sum(-1) for row in right], -1)
    union = a.sum(-1)[:, None] + b.sum(-1)[None, :] - shared
    return np.where(union > 0, shared / np.where(union > 0, union, 1.0), 1.0)
