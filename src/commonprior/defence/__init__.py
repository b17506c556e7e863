"""Against poisoning in rounds of public deltas: reasons to reject an update, each in a file of its own."""

from __future__ import annotations

import abc

import numpy as np


class Layer(abc.ABC):
    """One reason to reject an update that everybody sees, found by everybody alike.

    Layers are frozen dataclasses of whole numbers, and compute with whole numbers: two validators never differ about
    them, on any machine, and the order of the contributors changes nobody's lot.
    """

    @abc.abstractmethod
    def passed(self, deltas: np.ndarray, liars: int) -> np.ndarray:
        """Return whose of the deltas [n, d] int8 may stay, [n] bool, if at most `liars` of them lie."""
