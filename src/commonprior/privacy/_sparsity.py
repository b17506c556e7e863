"""Which coordinates travel in a round: few, public, and the same for every site.

A pattern of a site's own would be faster to learn and would betray it: a coordinate that one site alone sends arrives
in the sum as that site's number (arXiv 2508.04285). So the pattern depends on nothing but the recipe and the round.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from commonprior.canonical import digest
from commonprior.errors import RecipeError


@final
@dataclass(frozen=True)
class Sparsity:
    """`keep` is the share of the coordinates that travels; the others have a mean of 0.

    `random` draws anew every round (random-k), so that in time every coordinate moves; `fixed` draws once from `seed`:
    a pruning mask in common, outside of which nothing ever moves. `round` counts up by itself, from 0.
    """

    keep: float
    pattern: Literal["random", "fixed"] = "random"
    seed: int = 0
    round: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise RecipeError(f"mechanism.sparsity.keep = {self.keep}: expected a share above 0, at most 1")
        if self.pattern not in ("random", "fixed"):
            raise RecipeError(f"mechanism.sparsity.pattern = {self.pattern!r}: expected 'random' or 'fixed'")
        if not 0 <= self.seed < 2**63:
            raise RecipeError(f"mechanism.sparsity.seed = {self.seed}: expected 0 to 2^63 - 1")
        if not 0 <= self.round < 2**24:
            raise RecipeError(f"mechanism.sparsity.round = {self.round}: expected 0 to 2^24 - 1")

    def count(self, length: int) -> int:
        """Return k, how many of `length` coordinates travel; at least 1."""
        return min(length, max(1, math.ceil(self.keep * length)))

    def coordinates(self, length: int) -> np.ndarray:
        """Return the k of `length` coordinates that travel in this round, int64 [k], rising; every set is as likely.

        Raw words of Philox, a counter-based generator, are ranked: every machine and every release of numpy agrees.
        """
        drawn = self.round if self.pattern == "random" else 0
        key = int.from_bytes(digest(["commonprior/sparsity/1", self.seed, drawn])[:16], "little")
        words = np.random.Philox(key=key).random_raw(length)
        k = self.count(length)
        edge = np.partition(words, k - 1)[k - 1]
        chosen = np.flatnonzero(words < edge)
        return np.sort(np.concatenate([chosen, np.flatnonzero(words == edge)[: k - chosen.size]])).astype(np.int64)
