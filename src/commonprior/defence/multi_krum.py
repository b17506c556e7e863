"""Keep the updates that lie closest to most others.

Blanchard et al. 2017, "Machine learning with adversaries: Byzantine tolerant gradient descent". Good against updates
far away from all honest ones, in whatever direction, if fewer than (n - 2) / 2 lie. Bad where honest sites differ more
from each other than the liars from them (a little everywhere), and it always costs as many honest updates as it takes
liars to be there and are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from commonprior.defence import Layer


@final
@dataclass(frozen=True)
class MultiKrum(Layer):
    """Keeps all but as many as are taken to lie; everyone where n < 2 * liars + 3, as it would prove nothing."""

    def passed(self, deltas: np.ndarray, liars: int) -> np.ndarray:
        """Return the n - liars of the lowest scores; of equal scores, the first in the contributors' order stay."""
        n = len(deltas)
        if liars < 1 or n < 2 * liars + 3:
            return np.ones(n, bool)
        kept = np.zeros(n, bool)
        kept[np.argsort(krum_scores(deltas, liars), kind="stable")[: n - liars]] = True
        return kept


def krum_scores(deltas: np.ndarray, liars: int) -> np.ndarray:
    """Return each one's sum of squared distances to its n - liars - 2 nearest others, [n] int64."""
    n = len(deltas)
    ranked = np.sort(squared_distances(deltas), axis=1)  # the first of each row is itself, or its twin
    return ranked[:, 1 : n - liars - 1].sum(axis=1)


def squared_distances(deltas: np.ndarray) -> np.ndarray:
    """Return the squared distances [n, n] int64 between int8 deltas [n, d]."""
    # Products of int8 numbers are at most 2^14: up to 2^39 of them add up exactly in float64, in whatever order a BLAS
    # takes them, and some hundred times as fast as integers.
    wide = deltas.astype(np.float64)
    inner = (wide @ wide.T).astype(np.int64)
    norms = np.diagonal(inner)
    return norms[:, None] + norms[None, :] - 2 * inner
