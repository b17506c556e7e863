"""The mean of each coordinate without its largest and smallest numbers, and who points away from it.

Yin et al. 2018, arXiv 1803.01498: while no more lie than are trimmed off on either side, each number of the mean is
between honest ones. The contract averages whole updates, so a trimmed mean is not what becomes the prior; as a layer it
is the direction that all the others together vouch for.

Good against what turns the mean around, while honest sites agree on a direction: turned-around signs and labels, and
a tenth who change a little everywhere (Baruch et al. 2019). Bad late in a training, when all that is left is what sites
differ in, and where three tenths who all send the same are most of what is not trimmed off: then honest ones go.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from commonprior.defence import Layer
from commonprior.errors import InputError, RecipeError


@final
@dataclass(frozen=True)
class TrimmedMean(Layer):
    """Whoever's cosine to the trimmed mean of the others is below `least`, in hundredths, is out."""

    least: int = -20

    def __post_init__(self) -> None:
        if not -100 <= self.least <= 0:
            raise RecipeError(f"trimmed.least = {self.least}: expected a cosine in hundredths, -100 to 0")

    def passed(self, deltas: np.ndarray, liars: int) -> np.ndarray:
        """Return who does not point away from the others; everyone where trimming would leave nobody."""
        n = len(deltas)
        if n < 2 * liars + 2:
            return np.ones(n, bool)
        centres, wide = trimmed_sums_of_others(deltas, liars), deltas.astype(np.int64)
        dots, own, other = ((a * b).sum(axis=1).tolist() for a, b in
                            ((wide, centres), (wide, wide), (centres, centres)))  # fmt: skip
        # Python's integers: the products of squares need up to 128 bits.
        return np.array([d >= 0 or 10_000 * d * d <= self.least**2 * a * b for d, a, b in zip(dots, own, other)], bool)


def trimmed_mean(deltas: np.ndarray, trim: int) -> np.ndarray:
    """Return the mean [d] int8 of what is left of int8 deltas [n, d], rounded as the contract rounds."""
    n = len(deltas)
    if not 0 <= 2 * trim < n:
        raise InputError(f"trim = {trim} of {n} deltas on either side: expected to leave at least one")
    kept, left = np.sort(deltas, axis=0)[trim : n - trim].astype(np.int64), n - 2 * trim
    return ((2 * kept.sum(axis=0) + left) // (2 * left)).astype(np.int8)


def trimmed_sums_of_others(deltas: np.ndarray, trim: int) -> np.ndarray:
    """Return for each of int8 deltas [n, d] the sum of what is left of all others, [n, d] int64.

    Nobody vouches for itself: one's own part in a mean of few is larger than what the others agree on.
    """
    n = len(deltas)
    if not 0 <= 2 * trim < n - 1:
        raise InputError(f"trim = {trim} of {n - 1} others on either side: expected to leave at least one")
    ranked = np.sort(deltas, axis=0).astype(np.int64)
    low, high = ranked[trim], ranked[n - 1 - trim]
    # Of all n, the ranks trim to n - 1 - trim; without a number among them it is they less that number, without a
    # smaller one they less the lowest, without a larger one they less the highest. Equal numbers are the same number.
    inside = ranked[trim : n - trim].sum(axis=0)
    return inside - np.clip(deltas, low, high)
