"""A clip that follows a quantile of the rows' norms (Andrew et al., arXiv 1905.03871).

How many rows lie within the clip is one more coordinate of the noised sum, so that nobody sees it but as a noised total
over all sites. A row within the clip counts 1 - quantile, one over it -quantile, a row that is not there nothing: the
expected total is 0 where the clip is the quantile, however many tasks each site is short of.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from typing import NamedTuple, final

import numpy as np

from commonprior.errors import RecipeError

FINEST_COUNT = 10
"""One row counts at most 2^10 units: finer than any noise that would protect it."""

_CONTEXT = Context(prec=50)


class Count(NamedTuple):
    """The count in integers: one row's `unit`, of which one over the clip takes `over` off; its noise and its reach."""

    unit: int
    over: int
    variance: int
    limit: int

    @property
    def sensitivity(self) -> int:
        """The largest size of what one row counts."""
        return max(self.over, self.unit - self.over)

    def of(self, present: bool, within: bool) -> int:
        """Return what a row counts."""
        return (self.unit - self.over if within else -self.over) if present else 0


@final
@dataclass(frozen=True)
class AdaptiveClip:
    """After each round, clip ← clip · exp(-rate · (share of the rows within the clip - quantile)).

    `share` is the part of a release's privacy cost that the count takes: noise multiplier z/√share for the count and
    z/√(1 - share) for the update cost together what z costs (the paper's section 3.1, its b as our share). The clip
    stays between `smallest` and `largest`; a site's policy may refuse a clip over its own limit.
    """

    quantile: float = 0.5
    rate: float = 0.2
    share: float = 0.05
    smallest: float = 1e-6
    largest: float = 1e6

    def __post_init__(self) -> None:
        for name in ("quantile", "share"):
            if not 0.001 <= getattr(self, name) <= 0.999:
                raise RecipeError(f"mechanism.adaptive.{name} = {getattr(self, name)}: expected 0.001 to 0.999")
        if not 0 < self.rate <= 2:
            raise RecipeError(f"mechanism.adaptive.rate = {self.rate}: expected a number above 0, at most 2")
        if not 1e-30 <= self.smallest <= self.largest <= 1e30:
            raise RecipeError(
                f"mechanism.adaptive.smallest = {self.smallest} and largest = {self.largest}: expected 1e-30 <= "
                f"smallest <= largest <= 1e30"
            )

    def after(self, clip: float, drift: Fraction) -> float:
        """Return the next clip, a float32, given the noised share of rows within the clip less `quantile`.

        Canonical: a quotient and an exponential in decimals of 50 digits, which are correctly rounded wherever Python
        runs, unlike a C library's `exp`.
        """
        exponent = -Fraction(self.rate) * max(Fraction(-1), min(Fraction(1), drift))
        factor = _CONTEXT.exp(_CONTEXT.divide(Decimal(exponent.numerator), Decimal(exponent.denominator)))
        moved = float(_CONTEXT.multiply(Decimal(clip), factor))
        return float(np.float32(min(max(moved, self.smallest), self.largest)))
