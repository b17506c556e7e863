"""Samples of the Skellam distribution, many at a time: differences of two Poisson variables.

A Poisson variable of mean λ, less λ, is the integer j with a probability proportional to exp(-Λ(j)), where

    Λ(j) = ln((λ+j)!) - ln(λ!) - j·ln(λ),

which is 0 at j = 0. As in `_sampler`, a discrete Laplace variable j of scale t is accepted where an exponential
variable E is at least γ(j) = Λ(j) - |j|/t + c, and c is chosen so that γ is never negative:

- for j = -n, Λ >= n(n-1)/2λ, since -ln(1-y) >= y, and so n/t - Λ <= (λ/t + 1/2)²/2λ;
- for j > 0, Λ >= λ·((1+x)·ln(1+x) - x) with x = j/λ, a sum above its integral, and so j/t - Λ <= λ·(e^y - 1 - y) with
  y = 1/t, its convex conjugate, which is below λ·(y²/2 + 0.22·y³) for y <= 1.

With λ/t² < 2.2, c = λ/2t² + 1/2t + 1/8λ is at least both. Floats decide where a rigorous bound on their error leaves
one answer, `settle` decides the rest by integers and decimals: the distribution is off by less than 2^-190 in all.
"""

from __future__ import annotations

import math
from decimal import Context, Decimal
from fractions import Fraction

import numpy as np

from commonprior.errors import InputError
from commonprior.privacy import Csprng
from commonprior.privacy._sampler import LARGEST_VARIANCE, exponential_of, from_laplace, laplace_shift, settle

_TABLED = 1 << 13
"""Below this mean, Λ is a table; from it on, Stirling's series."""

_NEVER = 1e300

_TERMS = tuple((-1) ** n / (n * (n - 1)) for n in range(2, 13))
"""(1+x)·ln(1+x) - x = Σ (-1)^n · x^n/(n(n-1)) from n = 2."""

_STIRLING = tuple(
    Fraction(a, b)
    for a, b in ((1, 12), (-1, 360), (1, 1260), (-1, 1680), (1, 1188), (-691, 360360), (1, 156), (-3617, 122400))
)
"""ln(k!) = (k + 1/2)·ln(k) - k + ln(2π)/2 + Σ_n _STIRLING[n] / k^(2n+1), off by less than the first term left out."""

_CONTEXT = Context(prec=150)
_SLACK = Fraction(1, 10**58)


def skellam(variance: int, length: int, csprng: Csprng) -> np.ndarray:
    """Return `length` independent samples of Skellam noise of an even variance, int64 [length].

    Each is the difference of two Poisson variables of mean variance/2; every random bit is from `csprng`.
    """
    if not 2 <= variance <= LARGEST_VARIANCE or variance % 2:
        raise InputError(
            f"a Skellam variance of {variance} is not an even number from 2 to 2^60; change the noise or the scale"
        )
    mean = variance // 2
    shift = laplace_shift(mean)

    def accept(words: np.ndarray, value: np.ndarray) -> np.ndarray:
        return accepts(words, value, mean, shift, csprng)

    centred = from_laplace(shift, 2 * length, csprng, accept)
    return centred[:length] - centred[length:]


def accepts(words: np.ndarray, value: np.ndarray, mean: int, shift: int, csprng: Csprng) -> np.ndarray:
    """Return for each j in `value` [n] whether E >= γ(j), bool [n]: probability exp(-γ)."""
    exponential, error = exponential_of(words)
    surprise, doubt = surprise_of(value, mean)
    gamma = surprise - np.ldexp(np.abs(value).astype(np.float64), -shift) + float(_offset(mean, shift))
    margin = exponential - gamma
    out = margin >= 0
    # |j|/t <= Λ + c and c < 2, so that three roundings of numbers of that size are far within the last term.
    for i in np.flatnonzero(np.abs(margin) <= error + doubt + 2.0**-40 * (1.0 + surprise)):
        out[i] = settle_accept(int(words[i]), int(value[i]), mean, shift, csprng)
    return out


def surprise_of(value: np.ndarray, mean: int) -> tuple[np.ndarray, np.ndarray]:
    """Return Λ(j) for j in `value` [n] and how far off it is at most beside 2^-40·(1 + Λ), float64 [n] each."""
    return _tabled(value, mean) if mean < _TABLED else _stirling(value, mean)


def _tabled(value: np.ndarray, mean: int) -> tuple[np.ndarray, np.ndarray]:
    # Sums of at most 2^14 logarithms of one sign: relative error below 2^14 · 2^-53, and what λ - i adds to it.
    steps = np.arange(1, min(_TABLED, 64 + 16 * math.isqrt(mean)) + 1) / mean
    up = np.cumsum(np.log1p(steps))
    down = -np.cumsum(np.log1p(-np.arange(mean) / mean))
    table = np.concatenate([down[::-1], [0.0], up])
    at = value + mean
    surprise = table[np.clip(at, 0, table.size - 1)]
    doubt = np.where(at >= table.size, np.inf, 0.0)
    surprise[at < 0] = _NEVER  # no count is negative
    return surprise, doubt


def _stirling(value: np.ndarray, mean: int) -> tuple[np.ndarray, np.ndarray]:
    # λ >= 2^13. Below λ/2, γ is over 1000 and E never is (10^-400); above, k = λ + j >= 2^12 and the terms of
    # Stirling's series that are left out are below 1/360k³ < 2^-44.
    j = value.astype(np.float64)
    x = j / mean
    low = x < -0.5
    x[low] = 0.0
    near = np.zeros_like(x)
    for term in reversed(_TERMS):
        near = near * x + term
    log = np.log1p(x)
    # Both forms are within 2^-42 of the truth, relatively: past 1/32, the second one cancels by at most 2^7.
    body = np.where(np.abs(x) <= 1 / 32, j * x * near, mean * ((1.0 + x) * log - x))
    surprise = body + 0.5 * log + (1.0 / (mean * (1.0 + x)) - 1.0 / mean) / 12
    surprise[low] = _NEVER
    # Λ is 0 at 0 and at -1, and may come out below it by a rounding.
    return np.maximum(surprise, 0.0), np.zeros_like(x)


def settle_accept(word: int, value: int, mean: int, shift: int, csprng: Csprng) -> bool:
    """Return whether E >= γ(j) by exact arithmetic, t = 2^shift."""
    if value < -mean or (mean >= _TABLED and 2 * value < -mean):
        return False
    low_gamma, high_gamma = gamma_of(value, mean, shift)

    def decide(low: Fraction, high: Fraction) -> bool | None:
        return True if low >= high_gamma else False if high < low_gamma else None

    return settle(word, csprng, decide)


def gamma_of(value: int, mean: int, shift: int) -> tuple[Fraction, Fraction]:
    """Return numbers just below and just above γ(j), 2·10^-58 apart."""
    log, decimal = _CONTEXT.ln, Decimal
    if mean < _TABLED:
        up, down = math.factorial(mean + value), math.factorial(mean)
        above, below = (up, down * mean**value) if value >= 0 else (up * mean**-value, down)
        surprise = Fraction(log(_CONTEXT.divide(decimal(above), decimal(below))))
    else:
        k = mean + value
        ratio = Fraction(log(_CONTEXT.divide(decimal(k), decimal(mean))))
        series = sum((c * (Fraction(1, k ** (2 * n + 1)) - Fraction(1, mean ** (2 * n + 1))))
                     for n, c in enumerate(_STIRLING))  # fmt: skip
        surprise = (k + Fraction(1, 2)) * ratio - value + series
    gamma = surprise - Fraction(abs(value), 2**shift) + _offset(mean, shift)
    return gamma - _SLACK, gamma + _SLACK


def _offset(mean: int, shift: int) -> Fraction:
    """Return c."""
    return Fraction(mean, 2 * 4**shift) + Fraction(1, 2 * 2**shift) + Fraction(1, 8 * mean)
