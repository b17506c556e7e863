"""Clip each row, round it to integers of bounded norm, add a share of discrete Gaussian noise.

The distributed discrete Gaussian mechanism (Kairouz, Liu and Steinke, arXiv 2102.06387): every site adds noise of its
own to its integers before the secure sum, so that nobody, the coordinator included, sees a sum without noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, NamedTuple

import numpy as np
from dp_accounting import DpEvent, NonPrivateDpEvent

from commonprior.errors import ModelError, ProtocolError, RecipeError
from commonprior.prior import Contributions, Tensors
from commonprior.privacy import Csprng, Mechanism, Release
from commonprior.privacy._rdp import DiscreteGaussianSumEvent
from commonprior.privacy._rounding import checked_norm, random_words, squared_bound, to_integers
from commonprior.privacy._sampler import LARGEST_VARIANCE, discrete_gaussian
from commonprior.session import Encoding
from commonprior.task import Array

_FINEST = 2.0**30
"""The clip in units is at most this: finer than float32 updates can use, and squares still add up in int64."""


class _Grid(NamedTuple):
    """The integers at one scale 2^fraction: Δ² of one row, each site's noise variance, a site's largest integer."""

    fraction: int
    sensitivity_squared: int
    variance: int
    limit: int


@dataclass(frozen=True)
class DiscreteGaussian(Mechanism):
    """Differential privacy for one row: a task's (`per` = task) or a whole site's (`per` = site).

    `clip` bounds the L2 norm of one row, `bound` the size of each of its numbers (0: the clip alone), which a sum in
    2 bytes may need. `noise` is the standard deviation of the sum's noise in units of the integer norm bound Δ, over
    the worst set of honest survivors: each site adds N_Z(0, (noise · Δ)² / honest), the variance rounded up. 0 is
    no noise and claims nothing. `bytes` is what a number takes on the wire.

    Neighbouring: one unit's row is there or is replaced by zeros; the number of sites, of rows and the denominator
    `rows · survivors` are public constants. A task gives at most one row to a release.
    """

    clip: float
    noise: float = 0.0
    per: Literal["task", "site"] = "task"
    bytes: Literal[2, 4, 8] = 4
    bound: float = 0.0

    def __post_init__(self) -> None:
        if not 1e-30 <= self.clip <= 1e30:
            raise RecipeError(f"mechanism.clip = {self.clip}: expected an L2 norm from 1e-30 to 1e30")
        if not 0 <= self.noise <= 1e6:
            raise RecipeError(f"mechanism.noise = {self.noise}: expected a multiplier from 0 (no noise) to 1e6")
        if not (self.bound == 0 or 1e-30 <= self.bound <= 1e30):
            raise RecipeError(f"mechanism.bound = {self.bound}: expected a size from 1e-30, or 0 for the clip alone")
        if self.per not in ("task", "site"):
            raise RecipeError(f"mechanism.per = {self.per!r}: expected 'task' or 'site'")
        if self.bytes not in (2, 4, 8):
            raise RecipeError(f"mechanism.bytes = {self.bytes}: expected 2, 4 or 8")

    @property
    def unit(self) -> Literal["task", "site"]:
        """What one clipped row protects."""
        return self.per

    def encoding(self, release: Release) -> Encoding:
        """Return the finest power-of-two scale at which parties · limit < 2^(8·bytes - 1).

        The limit covers any rows at all, and noise up to a tail that a site's vector leaves with probability below
        2^-63 (`_reach`). Such a vector is refused by `Encoding.to_words` and the site drops out; it is not clamped,
        because a clamped share of noise would no longer be the noise that is accounted for. Against a δ of 1e-5 and
        against what breaking a mask would take, 2^-63 a release is nothing.
        """
        grid = self._grid(release)
        return Encoding(release.parties, grid.fraction, grid.limit, self.bytes)

    def protect(
        self,
        contributions: Contributions,
        encoding: Encoding,
        release: Release,
        memory: Tensors,
        key: Array,
        csprng: Csprng,
    ) -> tuple[np.ndarray, Tensors]:
        """Return the site's noised integers [d] int64, and `memory` as it was.

        The rows (per task) or their mean (per site) are clipped, rounded by `key` and summed; then comes the noise.
        Raises `ModelError` for rows that are not finite or do not fit the release, `RecipeError` for rows of a whole
        site where tasks are to be protected, `ProtocolError` for an encoding that is not this mechanism's own.
        """
        grid = self._grid(release)
        if encoding != Encoding(release.parties, grid.fraction, grid.limit, self.bytes):
            raise ProtocolError(f"the encoding {encoding} is not the one that {self} makes for {release}")
        rows = self._rows(contributions, release)
        total = np.zeros(release.length, np.int64)
        for i, row in enumerate(rows):
            words = random_words(key, i, release.length)
            total += to_integers(row, i, self.clip, self._edge, grid.fraction, words)
        if grid.variance:
            total += discrete_gaussian(grid.variance, release.length, csprng)
        return total, memory

    def mean(self, total: np.ndarray, encoding: Encoding, release: Release, survivors: int) -> np.ndarray:
        """Return total / (2^fraction · rows · survivors), float64 [d]: a site short of tasks counts in full."""
        if not 1 <= survivors <= release.parties:
            raise ProtocolError(f"a sum over {survivors} survivors of {release.parties} sites has no mean")
        return encoding.to_real(total) / (self._denominator(release) * survivors)

    def observe(self, total: np.ndarray) -> Mechanism:
        """Return this mechanism: its clip does not move."""
        return self

    def spends(self, release: Release) -> DpEvent:
        """Return the cost of one release for one unit; `NonPrivateDpEvent` where there is no noise."""
        grid = self._grid(release)
        if not grid.variance:
            return NonPrivateDpEvent()
        return DiscreteGaussianSumEvent(grid.variance, release.honest, grid.sensitivity_squared, release.length)

    @property
    def _edge(self) -> float:
        return min(self.bound or self.clip, self.clip)

    def _denominator(self, release: Release) -> int:
        return release.rows if self.per == "task" else 1

    def _rows(self, contributions: Contributions, release: Release) -> np.ndarray:
        """Return the rows to clip, [m, d]: one a task, or the mean of them all."""
        rows = np.asarray(contributions.rows)
        if rows.ndim != 2 or rows.shape[1] != release.length:
            raise ModelError(
                f"contributions of shape {rows.shape} do not fit the round: expected [m, {release.length}]"
            )
        if self.per == "task":
            if contributions.unit == "site":
                raise RecipeError(
                    "the learner gives one row for the whole site, the mechanism protects each task: set the "
                    'learner\'s local_steps = 1, or mechanism.per = "site"'
                )
            if len(rows) > release.rows:
                raise ModelError(
                    f"{len(rows)} rows, one a task, are more than the round's tasks_per_site = {release.rows}; "
                    f"contribute at most that many tasks"
                )
            return rows
        if len(rows) <= 1:
            return rows
        for i, row in enumerate(rows):
            checked_norm(row, i)
        # Dividing first keeps the mean of finite rows finite.
        return (rows.astype(np.float64) / len(rows)).sum(0, keepdims=True)

    def _grid(self, release: Release) -> _Grid:
        """Return the finest grid that cannot wrap; raise `RecipeError` where even the coarsest useful one would."""
        _check(release)
        # In one row, rounding adds up to √d/2 to the norm: a clip of fewer units would drown in it.
        coarsest = max(1.0, math.sqrt(release.length) / 2)
        fraction = math.frexp(_FINEST / self.clip)[1]
        while math.ldexp(self.clip, fraction) >= coarsest:
            grid = self._at(fraction, release)
            if (
                math.ldexp(self.clip, fraction) <= _FINEST
                and grid.variance <= LARGEST_VARIANCE
                and release.parties * grid.limit < 2 ** (8 * self.bytes - 1)
            ):
                return grid
            fraction -= 1
        raise RecipeError(
            f"mechanism.bytes = {self.bytes} is too few for {release.parties} sites of {self._denominator(release)} "
            f"rows of {release.length} numbers with clip {self.clip}, bound {self._edge} and noise {self.noise}: at "
            f"the finest scale that cannot wrap, the clip is {math.ldexp(self.clip, fraction):.3g} units and rounding "
            f"alone {coarsest:.3g}; take more bytes, fewer tasks_per_site or sites, a smaller bound or less noise"
        )

    def _at(self, fraction: int, release: Release) -> _Grid:
        """Return the grid at one scale. Integers and exact rationals: every site must come to the same."""
        squared = squared_bound(math.ldexp(self.clip, fraction), release.length)
        variance = math.ceil(Fraction(self.noise) ** 2 * squared / release.honest)
        limit = self._denominator(release) * math.ceil(math.ldexp(self._edge, fraction))
        return _Grid(fraction, squared, variance, limit + _reach(variance, release.length))


def _reach(variance: int, length: int) -> int:
    """Return r such that `length` numbers of N_Z(0, variance) all stay within ±r but with probability 2^-63.

    P(|X| > r) <= 2·exp(-r²/2σ²), so r² = 2·ln(2)·(64 + log2(length))·σ² does; 1.39 > 2·ln(2).
    """
    return math.isqrt(variance * 139 * (64 + length.bit_length()) // 100) + 1 if variance else 0


def _check(release: Release) -> None:
    for name, value in zip(release._fields, release, strict=True):
        if value < 1:
            raise RecipeError(f"a round with {name} = {value} has no encoding; expected at least 1")
    if release.honest > release.parties:
        raise RecipeError(f"{release.honest} honest survivors of {release.parties} sites; expected at most all of them")
