"""Validators try each update on their own held-out tasks.

The only layer that looks at what an update does instead of what it looks like, and so the only one that is an opinion.
Good against turned-around updates and labels. Bad at what no validator's tasks show: a backdoor opens only to whoever
knows the trigger.

A few tasks are a poor judge of one update, and an update needs two thirds of the votes: where each validator votes as
its own tasks say, a single honest doubt beside two liars of seven sends an honest site away. So validators show each
other their opinions (signed, on any channel) and vote as the median of them says.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np

from commonprior.errors import InputError, RecipeError

Loss: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""Means [k, d] float64, in the units of the int8 numbers -> what a validator's tasks lose [k] after each of them."""


@final
@dataclass(frozen=True)
class AccuracyCheck:
    """Whoever makes the validators' loss worse, in the median, by more than `margin` of it is out.

    Each update is tried at the length of the mean of all: alone it would be a far longer step than it will ever be.
    """

    margin: float = 0.02

    def __post_init__(self) -> None:
        if not 0 <= self.margin < math.inf:
            raise RecipeError(f"accuracy.margin = {self.margin}: expected 0 or more, as a share of the loss")

    def gains(self, deltas: np.ndarray, loss: Loss) -> np.ndarray:
        """Return by what share of the loss each of the deltas [n, d] lowers it, [n] float64; -inf where it is lost."""
        if not len(deltas):
            return np.zeros(0)
        wide = deltas.astype(np.float64)
        length = math.sqrt(float(np.square(wide.mean(axis=0)).sum()))
        own = np.sqrt(np.square(wide).sum(axis=1, keepdims=True))
        tried = wide * np.divide(length, own, out=np.zeros_like(own), where=own > 0)
        losses = np.asarray(loss(np.concatenate([np.zeros((1, deltas.shape[1])), tried])), np.float64)
        if losses.shape != (len(deltas) + 1,):
            raise InputError(f"a loss of {len(deltas) + 1} means has shape {losses.shape}: expected one number each")
        before, after = float(losses[0]), losses[1:]
        if not math.isfinite(before):
            raise InputError(f"the validator's own loss before the round is {before}: its tasks cannot judge anyone")
        return np.where(np.isfinite(after), (before - after) / (abs(before) or 1.0), -math.inf)
