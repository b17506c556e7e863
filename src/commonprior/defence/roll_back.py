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


def median(losses: Sequence[float] | np.ndarray) -> float:
    """Return what validators say a version loses: the lower of the two medians; one that is not finite is infinite.

    Fewer than half of them move it no further than the others' losses reach.
    """
    ranked = np.sort(np.where(np.isfinite(losses), np.asarray(losses, np.float64), math.inf))
    return float(ranked[(len(ranked) - 1) // 2])


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
        """Return the version to go back to, or None, from validators' losses [validators, versions], oldest first."""
        table = np.asarray(losses, np.float64)
        if table.ndim != 2 or not len(table):
            raise InputError(f"losses of shape {table.shape}: expected one row a validator, one number a version")
        return self.best([median(column) for column in table.T])

    def best(self, medians: Sequence[float]) -> int | None:
        """Return which version to go back to, or None, from every version's median loss, oldest first."""
        before, last = medians[: -self.rounds], medians[-self.rounds :]
        if not before:
            return None
        at = int(np.argmin(before))
        bound = before[at] + self.margin * abs(before[at])
        return at if math.isfinite(before[at]) and min(last) > bound else None

    def needed(self, medians: Sequence[float]) -> list[int]:
        """Return the versions that later rounds can still depend on: the best of the older ones, and the last ones."""
        older = len(medians) - self.rounds
        if older <= 1:
            return list(range(len(medians)))
        return [int(np.argmin(medians[:older])), *range(older, len(medians))]
