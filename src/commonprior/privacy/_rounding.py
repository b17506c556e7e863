"""A real row as integers of bounded norm (Kairouz, Liu and Steinke, arXiv 2102.06387, section 4.1).

Clip to an L2 norm, scale by a power of two, round each number up or down at random so that its mean is kept, and
then look at the integers: what privacy rests on is *their* norm, not the norm of the row they came from.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import numpy as np

from commonprior.errors import ModelError
from commonprior.task import Array

_BETA = 7.5
"""√(2·ln(1/β)) for β = 6e-13: how often, at most, a rounded row is over the bound and is truncated instead."""


def squared_bound(norm: float, length: int) -> int:
    """Return Δ², the largest squared norm of `length` integers that came from a row of norm `norm` (in units).

    The lower of what rounding can do at worst and of what it does but once in 1/β rows.
    """
    corner = math.sqrt(length)
    worst = (norm + corner) ** 2
    usual = norm * norm + length / 4 + _BETA * (norm + corner / 2)
    return math.floor(min(worst, usual))


def random_words(key: Array, row: int, length: int) -> np.ndarray:
    """Return the uint32 [length] by which row `row` of a contribution is rounded; same key, same words.

    They come from Philox, a counter-based generator, and not from a `csprng`, because nothing rests on their being
    secret: the norm bound holds however a row is rounded, and each row has a stream of its own, so that taking a row
    out changes no other, not even in the eyes of someone who knows the key.
    """
    data: np.ndarray[Any, np.dtype[np.uint32]] = np.asarray(jax.random.key_data(key), np.uint32).ravel()
    seed = int.from_bytes(data.astype("<u4").tobytes(), "little") & (2**128 - 1)
    generator = np.random.Philox(key=seed, counter=row << 192)
    return generator.random_raw((length + 1) // 2).astype("<u8", copy=False).view("<u4")[:length]


def checked_norm(row: np.ndarray, index: int) -> tuple[float, float]:
    """Return the largest size in a row [d] and the row's norm relative to it; refuse a row that is not finite."""
    peak = float(np.abs(row).max(initial=0.0))
    if not math.isfinite(peak):
        at = int(np.flatnonzero(~np.isfinite(row))[0])
        raise ModelError(
            f"row {index} of the contributions holds {row[at]} at number {at}: the learner diverged; lower its "
            f"learning rate or check the site's data"
        )
    if peak == 0:
        return 0.0, 0.0
    # Relative to the peak, since a finite row can have a norm that is not; without BLAS, whose threads would make the
    # last bit, and so an integer here and there, depend on how many they are.
    relative = row / peak
    return peak, math.sqrt(float(np.square(relative, out=relative).sum()))


class Scaled(NamedTuple):
    """A row in units of 2^-fraction: `values` [d] float64; is it there (`present`), was it `within` the clip."""

    values: np.ndarray
    present: bool
    within: bool


def to_scale(row: np.ndarray, index: int, clip: float, bound: float, fraction: int) -> Scaled:
    """Return a row [d] clipped to L2 norm `clip` and size `bound`, times 2^fraction. A row of zeros is not there."""
    row = row.astype(np.float64, copy=False)
    peak, ratio = checked_norm(row, index)
    within = peak <= clip / max(ratio, 1.0)
    scaled = row * math.ldexp(1.0, fraction) if within else (row / peak) * (math.ldexp(clip, fraction) / ratio)
    if bound < clip:
        edge = math.ldexp(bound, fraction)
        np.clip(scaled, -edge, edge, out=scaled)
    return Scaled(scaled, peak > 0, within)


def rounded(scaled: np.ndarray, clip: float, fraction: int, words: np.ndarray) -> np.ndarray:
    """Return what `to_scale` gave as int64 [d], rounded up or down at random.

    The squared norm of the integers is at most `squared_bound(clip · 2^fraction, d)`, always: a row that is rounded
    over it is truncated towards zero instead, which shortens it.
    """
    floor = np.floor(scaled)
    integers = floor.astype(np.int64)
    # scaled - floor is exact, unlike scaled + uniform; P(up) is off by less than 2^-32.
    integers += words < np.ldexp(scaled - floor, 32)
    if int(np.dot(integers, integers)) > squared_bound(math.ldexp(clip, fraction), scaled.size):
        integers = np.trunc(scaled).astype(np.int64)
    return integers
