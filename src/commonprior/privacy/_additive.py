"""What every mechanism that adds noise to integers shares: compress, clip, encode, noise, in this order.

Every site adds noise of its own to its integers before the secure sum, so that nobody, the coordinator included, sees
a sum without noise (Kairouz, Liu and Steinke, arXiv 2102.06387). A mechanism says which noise, and what its sum costs.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from fractions import Fraction
from typing import Literal, NamedTuple

import numpy as np
from dp_accounting import ComposedDpEvent, DpEvent, NonPrivateDpEvent

from commonprior.errors import ModelError, ProtocolError, RecipeError
from commonprior.prior import Contributions, Tensors
from commonprior.privacy import Csprng, Mechanism, Release
from commonprior.privacy._adaptive import FINEST_COUNT, AdaptiveClip, Count
from commonprior.privacy._rounding import Scaled, checked_norm, random_words, rounded, squared_bound, to_scale
from commonprior.privacy._sampler import LARGEST_VARIANCE
from commonprior.privacy._sparsity import Sparsity
from commonprior.session import Encoding
from commonprior.task import Array

_FINEST = 2.0**30
"""The clip in units is at most this: finer than float32 updates can use, and squares still add up in int64."""

_CLIP, _ROUND = "mechanism/clip", "mechanism/round"
_RESIDUAL = "residual"


_ROOM = {1: 2**15, 2: 2**15, 4: 2**30, 8: 2**63}
"""By the bytes of a number, what parties · limit stays below; a sum takes at least two bytes. Four bytes give up one
bit of their range, so that the sums fit half of 2^31 - 1, the field in which a committee shares them: one encoding for
every secure sum.
"""


_INT8 = 127
"""In one byte a site's integer is an int8, which a contract can average in the open."""


class _Grid(NamedTuple):
    """The integers at one scale 2^fraction: Δ² of one row, each site's noise variance, a site's largest integer."""

    fraction: int
    sensitivity_squared: int
    variance: int
    limit: int


class AdditiveNoise(Mechanism):
    """A mechanism whose fields are these.

    `clip` bounds the L2 norm of one row, `bound` the size of each of its numbers (0: the clip alone), which a sum in
    2 bytes may need. `noise` is the standard deviation of the sum's noise in units of the integer norm bound Δ, over
    the worst set of honest survivors: each site adds noise of variance (noise · Δ)² / honest, rounded up. 0 is no
    noise and claims nothing. `bytes` is what a number takes on the wire; in 2, a number of up to 128 sites keeps at
    least the 8 bits of an int8.

    `sparsity` sends few coordinates, the same for all. `feedback` keeps at the site what compressing a row left over
    (the coordinates that did not travel and the rounding, not what the clip took) and adds it to the next row (error
    feedback, Seide et al. 2014); it is for a whole site's row, since a task's would carry over into others'.
    `adaptive` moves the clip; `clip` is then the first round's.

    Neighbouring: one unit's row is there or is replaced by zeros; the number of sites, of rows and the denominator
    `rows · survivors` are public constants. A task gives at most one row to a release.
    """

    per: Literal["task", "site"]
    bytes: Literal[1, 2, 4, 8]
    bound: float
    feedback: bool
    sparsity: Sparsity | None
    adaptive: AdaptiveClip | None

    @abc.abstractmethod
    def _variance(self, least: Fraction) -> int:
        """Return the smallest variance of a site's noise that is at least `least` and can be drawn."""

    @abc.abstractmethod
    def _reach(self, variance: int, length: int) -> int:
        """Return r such that a site's noise in `length` coordinates stays within ±r but with probability 2^-63."""

    @abc.abstractmethod
    def _draw(self, variance: int, length: int, csprng: Csprng) -> np.ndarray:
        """Return a site's noise, int64 [length]."""

    @abc.abstractmethod
    def _event(self, variance: int, parties: int, sensitivity_squared: int, length: int) -> DpEvent:
        """Return the cost of a sum that `parties` sites noised."""

    @property
    def unit(self) -> Literal["task", "site"]:
        """What one clipped row protects."""
        return self.per

    def width(self, length: int) -> int:
        """Return how many integers travel: the coordinates that are sent, and the count that an adaptive clip reads."""
        return self._sent(length) + (self.adaptive is not None)

    def encoding(self, release: Release) -> Encoding:
        """Return the finest power-of-two scale at which parties · limit stays below `_ROOM`.

        The limit covers any rows at all, and noise up to a tail that a site's vector leaves with probability below
        2^-63 (`_reach`). Such a vector is refused by `Encoding.to_words` and the site drops out; it is not clamped,
        because a clamped share of noise would no longer be the noise that is accounted for. Against a δ of 1e-5 and
        against what breaking a mask would take, 2^-63 a release is nothing.
        """
        return self._encoding(release, self._grid(release), self._count(release))

    def protect(
        self,
        contributions: Contributions,
        encoding: Encoding,
        release: Release,
        memory: Tensors,
        key: Array,
        csprng: Csprng,
    ) -> tuple[np.ndarray, Tensors]:
        """Return the site's noised integers [width(d)] int64, and what it keeps: `memory` as it was without feedback.

        The rows (per task) or their mean (per site) are clipped, rounded by `key` and summed; then comes the noise.
        A row that is not finite counts as one of zeros where there is noise. Raises `ModelError` for one without, and
        for rows that do not fit the release, `RecipeError` for rows of a whole site where tasks are to be protected,
        `ProtocolError` for an encoding that is not this mechanism's own.
        """
        grid, count = self._grid(release), self._count(release)
        if encoding != self._encoding(release, grid, count):
            raise ProtocolError(f"the encoding {encoding} is not the one that {self} makes for {release}")
        rows, sent = self._rows(contributions, release), self._sent(release.length)
        chosen = self._chosen(release.length)
        update, counted = np.zeros(sent, np.int64), 0
        for i, row in enumerate(rows):
            whole = row + self._residual(memory, release) if self.feedback else row
            if self.sparsity is not None:
                checked_norm(whole, i)
            scaled = to_scale(whole[chosen], i, self.clip, self._edge, grid.fraction)
            integers = rounded(scaled.values, self.clip, grid.fraction, random_words(key, i, sent))
            update += integers
            counted += count.of(scaled.present, scaled.within) if count else 0
            if self.feedback:
                memory = {**memory, _RESIDUAL: self._left_over(whole, chosen, scaled, integers, grid.fraction)}
        if grid.variance:
            update += self._draw(grid.variance, sent, csprng)
        if count is None:
            return update, memory
        if count.variance:
            counted += int(self._draw(count.variance, 1, csprng)[0])
        return np.append(update, np.int64(counted)), memory

    def mean(self, total: np.ndarray, encoding: Encoding, release: Release, survivors: int) -> np.ndarray:
        """Return total / (2^fraction · rows · survivors), float64 [d]: a site short of tasks counts in full.

        What did not travel is 0.
        """
        self._check_survivors(release, survivors)
        update = encoding.to_real(total[: self._sent(release.length)]) / (self._denominator(release) * survivors)
        if self.sparsity is None:
            return update
        mean = np.zeros(release.length)
        mean[self._chosen(release.length)] = update
        return mean

    def observe(self, total: np.ndarray, release: Release, survivors: int) -> Mechanism:
        """Return the next round's mechanism: the clip moved by the noised count, the coordinates drawn anew."""
        self._check_survivors(release, survivors)
        changes = {}
        count = self._count(release)
        if count is not None and self.adaptive is not None:
            drift = Fraction(int(total[-1]), count.unit * self._denominator(release) * survivors)
            changes["clip"] = self.adaptive.after(self.clip, drift)
        if self.sparsity is not None and self.sparsity.pattern == "random":
            changes["sparsity"] = dataclasses.replace(self.sparsity, round=self.sparsity.round + 1)
        return self._with(changes)

    def state(self) -> Tensors:
        """Return the clip, where it moves, and the round, where the coordinates do."""
        state = {}
        if self.adaptive is not None:
            state[_CLIP] = np.full(1, self.clip, np.float32)
        if self.sparsity is not None and self.sparsity.pattern == "random":
            state[_ROUND] = np.full(1, self.sparsity.round, np.float32)
        return state

    def resume(self, state: Tensors) -> Mechanism:
        """Return the mechanism with this state; what the state does not name is as it is in the recipe."""
        changes = {}
        try:
            if self.adaptive is not None and _CLIP in state:
                changes["clip"] = float(state[_CLIP].reshape(1)[0])
            if self.sparsity is not None and self.sparsity.pattern == "random" and _ROUND in state:
                changes["sparsity"] = dataclasses.replace(self.sparsity, round=int(state[_ROUND].reshape(1)[0]))
            return self._with(changes)
        except (ValueError, OverflowError, RecipeError) as error:
            raise ProtocolError(f"the prior's state of the mechanism is none: {error}") from None

    def spends(self, release: Release) -> DpEvent:
        """Return the cost of one release for one unit; `NonPrivateDpEvent` where there is no noise."""
        grid, count = self._grid(release), self._count(release)
        if not grid.variance:
            return NonPrivateDpEvent()
        sent = self._sent(release.length)
        update = self._event(grid.variance, release.honest, grid.sensitivity_squared, sent)
        if count is None:
            return update
        return ComposedDpEvent([update, self._event(count.variance, release.honest, count.sensitivity**2, 1)])

    @property
    def _edge(self) -> float:
        return min(self.bound or self.clip, self.clip)

    def _with(self, changes: dict[str, float | Sparsity]) -> Mechanism:
        # Every mechanism is a frozen dataclass, which its abstract class cannot say.
        return dataclasses.replace(self, **changes) if changes else self  # pyright: ignore[reportArgumentType]

    def _sent(self, length: int) -> int:
        return length if self.sparsity is None else self.sparsity.count(length)

    def _chosen(self, length: int) -> np.ndarray | slice:
        return slice(None) if self.sparsity is None else self.sparsity.coordinates(length)

    def _denominator(self, release: Release) -> int:
        return release.rows if self.per == "task" else 1

    def _check_survivors(self, release: Release, survivors: int) -> None:
        if not 1 <= survivors <= release.parties:
            raise ProtocolError(f"a sum over {survivors} survivors of {release.parties} sites has no mean")

    def _rows(self, contributions: Contributions, release: Release) -> np.ndarray:
        """Return the rows to compress and clip, [m, d]: one a task, or the mean of them all."""
        rows = np.asarray(contributions.rows)
        if rows.ndim != 2 or rows.shape[1] != release.length:
            raise ModelError(
                f"contributions of shape {rows.shape} do not fit the round: expected [m, {release.length}]"
            )
        if self.noise > 0:
            # To refuse would be one more answer about the tasks, which no noise hides and nothing charges.
            rows = np.where(np.isfinite(rows).all(1, keepdims=True), rows, 0)
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

    def _residual(self, memory: Tensors, release: Release) -> np.ndarray:
        kept = memory.get(_RESIDUAL)
        return kept.astype(np.float64) if kept is not None and kept.shape == (release.length,) else np.zeros(1)

    def _left_over(
        self, whole: np.ndarray, chosen: np.ndarray | slice, scaled: Scaled, integers: np.ndarray, fraction: int
    ) -> np.ndarray:
        """Return what did not travel, float32 [d]; with a fixed pattern, what never will is forgotten."""
        fixed = self.sparsity is None or self.sparsity.pattern == "fixed"
        left = np.zeros(whole.size) if fixed else whole.astype(np.float64)
        left[chosen] = np.ldexp(scaled.values - integers, -fraction)
        largest = float(np.finfo(np.float32).max)
        return np.clip(left, -largest, largest).astype(np.float32)

    def _encoding(self, release: Release, grid: _Grid, count: Count | None) -> Encoding:
        limit = max(grid.limit, count.limit if count else 0)
        return Encoding(release.parties, grid.fraction, limit, max(2, self.bytes))

    def _grid(self, release: Release) -> _Grid:
        """Return the finest grid that cannot wrap; raise `RecipeError` where even the coarsest useful one would."""
        _check(release)
        # In one row, rounding adds up to √d/2 to the norm: a clip of fewer units would drown in it.
        sent = self._sent(release.length)
        coarsest = max(1.0, math.sqrt(sent) / 2)
        fraction = math.frexp(_FINEST / self.clip)[1]
        while math.ldexp(self.clip, fraction) >= coarsest:
            grid = self._at(fraction, release)
            if (
                math.ldexp(self.clip, fraction) <= _FINEST
                and grid.variance <= LARGEST_VARIANCE
                and release.parties * grid.limit < _ROOM[self.bytes]
                and (self.bytes > 1 or grid.limit <= _INT8)
            ):
                return grid
            fraction -= 1
        raise RecipeError(
            f"mechanism.bytes = {self.bytes} is too few for {release.parties} sites of {self._denominator(release)} "
            f"rows of {sent} numbers with clip {self.clip}, bound {self._edge} and noise {self.noise}: at "
            f"the finest scale that cannot wrap, the clip is {math.ldexp(self.clip, fraction):.3g} units and rounding "
            f"alone {coarsest:.3g}; take more bytes, fewer tasks_per_site or sites, a smaller bound or less noise"
        )

    def _at(self, fraction: int, release: Release) -> _Grid:
        """Return the grid at one scale. Integers and exact rationals: every site must come to the same."""
        sent = self._sent(release.length)
        squared = squared_bound(math.ldexp(self.clip, fraction), sent)
        share = 1 - Fraction(self.adaptive.share) if self.adaptive else Fraction(1)
        variance = self._share_of_noise(squared, share, release)
        limit = self._denominator(release) * math.ceil(math.ldexp(self._edge, fraction))
        return _Grid(fraction, squared, variance, limit + self._reach_of(variance, sent))

    def _count(self, release: Release) -> Count | None:
        """Return the finest count that cannot wrap, where the clip is adaptive."""
        if self.adaptive is None:
            return None
        _check(release)
        quantile, share = Fraction(self.adaptive.quantile), Fraction(self.adaptive.share)
        for bits in range(FINEST_COUNT, 1, -1):
            unit = 2**bits
            count = Count(unit, round(quantile * unit), 0, 0)
            variance = self._share_of_noise(count.sensitivity**2, share, release)
            limit = self._denominator(release) * count.sensitivity + self._reach_of(variance, 1)
            if variance <= LARGEST_VARIANCE and release.parties * limit < _ROOM[self.bytes]:
                return count._replace(variance=variance, limit=limit)
        raise RecipeError(
            f"mechanism.bytes = {self.bytes} is too few to count the rows within the clip of {release.parties} sites "
            f"of {self._denominator(release)} with noise {self.noise} and adaptive.share {self.adaptive.share}: take "
            f"more bytes, fewer tasks_per_site or sites, less noise or a larger share"
        )

    def _share_of_noise(self, squared: int, share: Fraction, release: Release) -> int:
        least = Fraction(self.noise) ** 2 * squared / (release.honest * share)
        return self._variance(least) if least else 0

    def _reach_of(self, variance: int, length: int) -> int:
        return self._reach(variance, length) if variance else 0


def check_fields(mechanism: AdditiveNoise) -> None:
    """Raise `RecipeError` for a field that makes no sense."""
    m = mechanism
    if not 1e-30 <= m.clip <= 1e30:
        raise RecipeError(f"mechanism.clip = {m.clip}: expected an L2 norm from 1e-30 to 1e30")
    if not 0 <= m.noise <= 1e6:
        raise RecipeError(f"mechanism.noise = {m.noise}: expected a multiplier from 0 (no noise) to 1e6")
    if not (m.bound == 0 or 1e-30 <= m.bound <= 1e30):
        raise RecipeError(f"mechanism.bound = {m.bound}: expected a size from 1e-30, or 0 for the clip alone")
    if m.per not in ("task", "site"):
        raise RecipeError(f"mechanism.per = {m.per!r}: expected 'task' or 'site'")
    if m.bytes not in (1, 2, 4, 8):
        raise RecipeError(f"mechanism.bytes = {m.bytes}: expected 1, 2, 4 or 8")
    if m.bytes == 1 and m.adaptive:
        raise RecipeError("mechanism.bytes = 1 with an adaptive clip: its count does not fit an int8; take 2 bytes")
    if m.feedback and m.per == "task":
        raise RecipeError(
            "mechanism.feedback = true with per = 'task': what one task left over would travel in another one's row, "
            'which one clipped row no longer bounds; set per = "site", or feedback = false'
        )
    if m.adaptive and not m.adaptive.smallest <= m.clip <= m.adaptive.largest:
        raise RecipeError(
            f"mechanism.clip = {m.clip} is outside adaptive.smallest = {m.adaptive.smallest} to largest = "
            f"{m.adaptive.largest}"
        )


def _check(release: Release) -> None:
    for name, value in zip(release._fields, release, strict=True):
        if value < 1:
            raise RecipeError(f"a round with {name} = {value} has no encoding; expected at least 1")
    if release.honest > release.parties:
        raise RecipeError(f"{release.honest} honest survivors of {release.parties} sites; expected at most all of them")
