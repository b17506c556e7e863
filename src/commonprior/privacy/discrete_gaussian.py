"""Clip each row, round it to integers of bounded norm, add a share of discrete Gaussian noise.

The distributed discrete Gaussian mechanism (Kairouz, Liu and Steinke, arXiv 2102.06387).
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
from commonprior.privacy._rdp import DiscreteGaussianSumEvent
from commonprior.privacy._sampler import discrete_gaussian
from commonprior.privacy._sparsity import Sparsity


@final
@dataclass(frozen=True)
class DiscreteGaussian(AdditiveNoise):
    """Differential privacy for one row, a task's (`per` = task) or a whole site's, by N_Z(0, σ²) from every site.

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
        return math.ceil(least)

    def _reach(self, variance: int, length: int) -> int:
        # P(|X| > r) <= 2·exp(-r²/2σ²), so r² = 2·ln(2)·(64 + log2(length))·σ² does; 1.39 > 2·ln(2).
        return math.isqrt(variance * 139 * (64 + length.bit_length()) // 100) + 1

    def _draw(self, variance: int, length: int, csprng: Csprng) -> np.ndarray:
        return discrete_gaussian(variance, length, csprng)

    def _event(self, variance: int, parties: int, sensitivity_squared: int, length: int) -> DpEvent:
        return DiscreteGaussianSumEvent(variance, parties, sensitivity_squared, length)
