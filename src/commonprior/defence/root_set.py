"""Validators compare each update with one of their own: what points away from most of theirs is not trusted.

Cao et al. 2021, "FLTrust: Byzantine-robust federated learning via trust bootstrapping", arXiv 2012.13995: trust is the
cosine to an update from a clean root set, or 0 where it is negative. There it weighs the mean; the contract's mean has
no weights, so here it is a vote. Good against turned-around updates, however many there are, at the cost of one update.
Bad where validators' tasks are unlike the others': it sends away what others need.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from commonprior.errors import InputError, RecipeError


@final
@dataclass(frozen=True)
class RootSet:
    """Whoever's cosine to the validators' own updates, in the median, is below `least` is out."""

    least: float = -0.1

    def __post_init__(self) -> None:
        if not -1 <= self.least < 1:
            raise RecipeError(f"root.least = {self.least}: expected a cosine, -1 to under 1")

    def cosines(self, deltas: np.ndarray, own: np.ndarray) -> np.ndarray:
        """Return the cosines [n] of deltas [n, d] to one's own update [d]; 0 to and of zeros."""
        if own.shape != deltas.shape[1:]:
            raise InputError(f"own update of shape {own.shape} beside deltas of {deltas.shape[1:]}: of another prior")
        wide, root = deltas.astype(np.float64), own.astype(np.float64)
        lengths = np.sqrt((wide * wide).sum(axis=1) * (root * root).sum())
        return np.divide(wide @ root, lengths, out=np.zeros(len(deltas)), where=lengths > 0)
