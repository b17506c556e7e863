"""When a prior has got worse and stays so: back to the best one there was.

The registry forgets nothing: going back is one more version, which equals an old one, and takes the same two thirds of
the votes as any other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from commonprior.errors import InputError, RecipeError


@final
@dataclass(frozen=True)
class RollBack:
    """Back where the last `rounds` versions were all worse than the best before them by more than `margin` of its loss.

    One bad round may be chance, as validators' tasks are few.
    """

    margin: float = 0.25
    rounds: int = 3

    def __post_init__(self) -> None:
        if not 0 <= self.margin < math.inf:
            raise RecipeError(f"roll_back.margin = {self.margin}: expected 0 or more, as a share of the loss")
        if self.rounds < 1:
            raise RecipeError(f"roll_back.rounds = {self.rounds}: expected at least 1")

    def version(self, losses: np.ndarray | Sequence[Sequence[float]]) -> int | None:
        """Return the version to go back to, or None, from validators' losses [validators, versions], oldest first.

        Each version counts by its median over the validators, the lower of two: fewer than half of them move it no
        further than the others' losses reach. A loss that is not finite is infinite.
        """
        table = np.asarray(losses, np.float64)
        if table.ndim != 2 or not len(table):
            raise InputError(f"losses of shape {table.shape}: expected one row a validator, one number a version")
        if table.shape[1] <= self.rounds:
            return None
        ranked = np.sort(np.where(np.isfinite(table), table, math.inf), axis=0)
        median = ranked[(len(table) - 1) // 2]
        before, last = median[: -self.rounds], median[-self.rounds :]
        best = int(before.argmin())
        if not math.isfinite(before[best]):
            return None
        bound = before[best] + self.margin * abs(before[best])
        return best if bool((last > bound).all()) else None
