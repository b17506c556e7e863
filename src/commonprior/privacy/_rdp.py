"""What a sum of discrete Gaussians, or of Skellams, costs in Rényi differential privacy.

For discrete Gaussians, let P be the sum of n independent N_Z(0, σ²) and Q = N_Z(0, nσ²). By Poisson summation
(Kairouz, Liu and Steinke, arXiv 2102.06387, section 3), |log P(x)/Q(x)| <= τ/2 everywhere, for σ >= 1/2 and

    τ = 10 · Σ_{k=1}^{n-1} exp(-2π²σ² · k/(k+1)).

For a shift by Δ in Z^d, two bounds on D_α(P(· - Δ) ‖ P) follow; the lower one counts (Proposition 14 there).

1. In one coordinate, log P(x-Δ)/P(x) = (2xΔ - Δ²)/(2nσ²) + e(x) with |e| <= τ, and P, like its n parts, is
   sub-Gaussian: E exp(s·x) <= exp(s²nσ²/2) (Canonne, Kamath and Steinke, arXiv 2004.00010). With s = (α-1)Δ/(nσ²)
   this gives αΔ²/(2nσ²) + τ, and over the coordinates α‖Δ‖²/(2nσ²) + τ·d.
2. Closeness to Q within τ/2 both ways is (τ/2)²/2-zCDP a coordinate, and √ρ obeys the triangle inequality (Bun and
   Steinke, arXiv 1605.02065) along P(·-Δ), Q(·-Δ), Q, P: α/2 · (‖Δ‖/(√n·σ) + τ·√d)².

For n = 1, τ = 0 and both are the curve of one discrete Gaussian.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence

import attr
import numpy as np
from dp_accounting import DpEvent

from commonprior.errors import RecipeError


@attr.s(frozen=True)
class RenyiDpEvent(DpEvent, abc.ABC):
    """A release that knows its own Rényi curve: what dp_accounting has no event for."""

    @abc.abstractmethod
    def rdp(self, orders: Sequence[float]) -> np.ndarray:
        """Return D_α [len(orders)] float64, a bound for any two neighbours and both directions; inf where none is."""


@attr.s(frozen=True, slots=True, auto_attribs=True)
class DiscreteGaussianSumEvent(RenyiDpEvent):
    """The sum of integer vectors [length], noised by `parties` independent N_Z(0, variance) in each coordinate.

    Neighbours: one unit's row is there or is replaced by zeros, everything else alike. `sensitivity_squared` bounds
    the squared L2 norm of one unit's integers. More noise by more parties than these only helps (post-processing).
    """

    variance: int
    parties: int
    sensitivity_squared: int
    length: int

    def __attrs_post_init__(self) -> None:
        check_noised_sum(self)

    @property
    def tau(self) -> float:
        """Return τ: what it costs, a coordinate, that a sum of discrete Gaussians is not quite a discrete Gaussian."""
        k = np.arange(1, self.parties, dtype=np.float64)
        # Past 745 the exponential is 0 in floats; the exponent is cut there, so that nothing underflows noisily.
        exponent = np.minimum(2 * np.pi**2 * self.variance * (k / (k + 1)), 700.0)
        return 10.0 * float(np.exp(-exponent).sum())

    def rdp(self, orders: Sequence[float]) -> np.ndarray:
        """Return the lower of the two bounds above at each order."""
        alpha = np.asarray(orders, np.float64)
        ratio = self.sensitivity_squared / (self.variance * self.parties)
        first = alpha / 2 * ratio + self.tau * self.length
        second = alpha / 2 * (np.sqrt(ratio) + self.tau * np.sqrt(self.length)) ** 2
        return np.minimum(first, second)


@attr.s(frozen=True, slots=True, auto_attribs=True)
class SkellamSumEvent(RenyiDpEvent):
    """The sum of integer vectors [length], noised by `parties` independent Skellams of `variance` in each coordinate.

    Neighbours, `sensitivity_squared` and further parties are as above. The sum of Skellams is the Skellam of variance
    μ = parties · variance, and for a shift by Δ in Z^d and every whole α >= 2 (Agarwal, Kairouz and Liu, arXiv
    2110.04995, theorem 3.5)

        D_α <= α‖Δ‖²/2μ + min(((2α-1)‖Δ‖² + 6‖Δ‖₁)/4μ², 3‖Δ‖₁/2μ).

    Of ‖Δ‖₁ it is known that it is at most √d·‖Δ‖ and, for integers, ‖Δ‖².
    """

    variance: int
    parties: int
    sensitivity_squared: int
    length: int

    def __attrs_post_init__(self) -> None:
        check_noised_sum(self)

    def rdp(self, orders: Sequence[float]) -> np.ndarray:
        """Return the bound at each order; between whole orders by the convexity of (α-1)·D_α, which is 0 at 1."""
        alpha = np.asarray(orders, np.float64)
        below = np.maximum(np.floor(alpha), 1.0)
        part = alpha - below
        # Below 2 this is D_2, which also follows from D_α growing with α.
        lower, upper = (below - 1) * self._whole(np.maximum(below, 2.0)), below * self._whole(below + 1)
        return ((1 - part) * lower + part * upper) / (alpha - 1)

    def _whole(self, alpha: np.ndarray) -> np.ndarray:
        mu, squared = float(self.variance * self.parties), float(self.sensitivity_squared)
        first = min(squared, float(np.sqrt(self.length * squared)))
        rest = np.minimum(((2 * alpha - 1) * squared + 6 * first) / (4 * mu * mu), 3 * first / (2 * mu))
        return alpha * squared / (2 * mu) + rest


def check_noised_sum(event: DiscreteGaussianSumEvent | SkellamSumEvent) -> None:
    """Raise `RecipeError` for a noised sum whose cost is not known."""
    for name in ("variance", "parties", "length"):
        if getattr(event, name) < 1:
            raise RecipeError(f"a noised sum with {name} = {getattr(event, name)} has no known cost: at least 1")
    if event.sensitivity_squared < 0:
        raise RecipeError(f"a noised sum has a squared sensitivity of {event.sensitivity_squared}: at least 0")
