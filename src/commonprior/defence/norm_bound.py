"""No update may be much longer than the others: whoever sends ten times as much has ten votes.

Good against updates that are scaled up (model replacement, Bagdasaryan et al. 2020, arXiv 1807.00459). Bad against
whatever keeps to the usual length: turned-around signs, turned-around labels, a little everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from commonprior.defence import Layer
from commonprior.errors import RecipeError


@final
@dataclass(frozen=True)
class NormBound(Layer):
    """`percent` of the median norm are allowed, and never more than the norm `most`, where there is one.

    `most` is in the units of the int8 numbers: what the clip of the run allows, known before anything is sent.
    """

    percent: int = 200
    most: int | None = None

    def __post_init__(self) -> None:
        if self.percent < 100:
            raise RecipeError(f"norm.percent = {self.percent}: expected at least 100, or half of all are too long")
        if self.most is not None and self.most < 1:
            raise RecipeError(f"norm.most = {self.most}: expected at least 1, in units of the int8 numbers")

    def passed(self, deltas: np.ndarray, liars: int) -> np.ndarray:
        """Return who is within the bound: fewer than half of all cannot move it past an honest norm."""
        squares = squared_norms(deltas)
        if not len(squares):
            return np.zeros(0, bool)
        median = int(np.sort(squares)[(len(squares) - 1) // 2])
        # In Python's integers: a recipe's percent squared may be of any size.
        bound = self.percent**2 * median // 10_000
        if self.most is not None:
            bound = min(bound, self.most**2)
        return squares <= min(bound, np.iinfo(np.int64).max)


def squared_norms(deltas: np.ndarray) -> np.ndarray:
    """Return the squared norms [n] int64 of int8 deltas [n, d]."""
    wide = deltas.astype(np.int64)
    return (wide * wide).sum(axis=1)
