"""Clip each row, round it to integers of bounded norm, add a share of Skellam noise.

The Skellam mechanism (Agarwal, Kairouz and Liu, arXiv 2110.04995). A sum of Skellams is a Skellam, so that the cost of
a sum over many sites needs no allowance for what a sum of discrete Gaussians is not; its tails are a little heavier.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, final

import numpy as np
from dp_accounting import DpEvent

from commonprior.privacy import Csprng
from commonprior.privacy._adaptive import AdaptiveClip
from commonprior.privacy._additive import AdditiveNoise, check_fields
from commonprior.privacy._poisson import skellam
from commonprior.privacy._rdp import SkellamSumEvent
from commonprior.privacy._sparsity import Sparsity


@final
@dataclass(frozen=True)
class Skellam(AdditiveNoise):
    """Differential privacy for one row, a task's (`per` = task) or a whole site's, by Skellam noise from every site.

    The fields are those of every additive mechanism: see `AdditiveNoise`.
    """

    clip: float
    noise: float = 0.0
    per: Literal["task", "site"] = "task"
    bytes: Literal[1, 2, 4, 8] = 4
    bound: float = 0.0
    feedback: bool = False
    sparsity: Sparsity | None = None
    adaptive: AdaptiveClip | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def _variance(self, least: Fraction) -> int:
        return 2 * math.ceil(least / 2)

    def _reach(self, variance: int, length: int) -> int:
        # P(|X| > r) <= 2·exp(μ(cosh s - 1) - sr) for every s, and cosh s - 1 <= 0.5431·s² for s <= 1. Near the middle
        # s = r/1.0862μ, so r² = 2.1724·ln(2)·(64 + log2(length))·μ does; in the tail s = 1.
        digits = 64 + length.bit_length()
        near = math.isqrt(variance * 151 * digits // 100) + 1
        return near if near <= variance else (55 * variance + 70 * digits) // 100 + 1

    def _draw(self, variance: int, length: int, csprng: Csprng) -> np.ndarray:
        return skellam(variance, length, csprng)

    def _event(self, variance: int, parties: int, sensitivity_squared: int, length: int) -> DpEvent:
        return SkellamSumEvent(variance, parties, sensitivity_squared, length)
