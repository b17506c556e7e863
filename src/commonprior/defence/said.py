"""What a site says in a round of public deltas, as it is published: numbers that can be written, whatever it found."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from commonprior.canonical import Value
from commonprior.errors import MalformedMessage

MOST_GAIN = 1e9
"""What is said is kept within ± this: a loss that became infinite is no number that can be written."""


class Said(NamedTuple):
    """By what share of its loss each update lowers it, and what it loses under the prior that the round began with."""

    gains: tuple[float, ...]
    loss: float


def said_of(gains: np.ndarray, loss: float) -> Said:
    """Return an opinion [n] and a loss as they are written."""
    numbers = [*gains, -loss]  # what is no number is the worst there is
    *kept, minus = np.clip(np.nan_to_num(numbers, nan=-MOST_GAIN), -MOST_GAIN, MOST_GAIN)
    return Said(tuple(float(g) for g in kept), -float(minus))


def read_said(value: Value, count: int) -> Said:
    """Return what a site says of so many contributors, or raise `MalformedMessage`."""
    match value:
        case [list() as gains, float() as loss] if len(gains) == count and abs(loss) <= MOST_GAIN:
            if all(isinstance(g, float) and abs(g) <= MOST_GAIN for g in gains):
                return Said(tuple(g for g in gains if isinstance(g, float)), loss)
        case _:
            pass
    raise MalformedMessage(f"expected an opinion: {count} numbers, and a loss")
