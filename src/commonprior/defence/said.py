"""What a site says in a round of public deltas, as it is published: numbers that can be written, whatever it found."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from commonprior.canonical import Value, digest
from commonprior.errors import MalformedMessage

MOST_GAIN = 1e9
"""What is said is kept within ± this: a loss that became infinite is no number that can be written."""


class Said(NamedTuple):
    """By what share of its loss each update lowers it, what it loses under the prior that the round began with, and the
    site's signature over both, the session and the very updates that it was shown.
    """

    gains: tuple[float, ...]
    loss: float
    signature: bytes = b""

    def statement(self, session: bytes, shown: bytes) -> bytes:
        """Return what a site signs, of a session's hash and the hash of what was published when it was asked."""
        return digest(["commonprior/opinion/1", session, shown, list(self.gains), self.loss])


def said_of(gains: np.ndarray, loss: float) -> Said:
    """Return an opinion [n] and a loss as they are written."""
    numbers = [*gains, -loss]  # what is no number is the worst there is
    *kept, minus = np.clip(np.nan_to_num(numbers, nan=-MOST_GAIN), -MOST_GAIN, MOST_GAIN)
    return Said(tuple(float(g) for g in kept), -float(minus))


def read_said(value: Value, count: int) -> Said:
    """Return what a site says of so many contributors, or raise `MalformedMessage`."""
    match value:
        case [list() as gains, float() as loss, bytes() as signature] if len(gains) == count and abs(loss) <= MOST_GAIN:
            if all(isinstance(g, float) and abs(g) <= MOST_GAIN for g in gains):
                return Said(tuple(g for g in gains if isinstance(g, float)), loss, signature)
        case _:
            pass
    raise MalformedMessage(f"expected an opinion: {count} numbers, a loss and a signature")
