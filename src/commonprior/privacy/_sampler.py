"""Exact samples of the discrete Gaussian, many at a time.

N_Z(0, σ²) gives the integer x a probability proportional to exp(-x²/2σ²). Following Canonne, Kamath and Steinke
(arXiv 2004.00010, algorithms 1 to 3), a discrete Laplace variable Y of scale t is accepted with probability
exp(-(|Y| - σ²/t)²/2σ²), whatever t > 0 is; a t near σ wastes least, and a power of two makes t·x exact in floats.

Why the result is exact although floats do the work: both decisions below are about an exponential variable
E = -ln U, where U is a real number whose binary digits are drawn one word after the other. From the first 64 digits
and float arithmetic follow a value and a rigorous bound on how far off it can be. Where the bound leaves only one
answer, it is the answer of exact arithmetic; where it leaves two, `settle` draws further digits of the same U and
computes with as many as it takes. Floats decide how long a sample takes, never what it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Context, Decimal
from fractions import Fraction
from typing import TypeVar

import numpy as np

from commonprior.errors import InputError
from commonprior.privacy import Csprng

LARGEST_VARIANCE = 2**60
"""Above it, 64 binary digits and float64 would leave too many decisions open to be fast."""

_CHUNK = 1 << 16
_WORD = np.dtype("<u8")

Answer = TypeVar("Answer")


def discrete_gaussian(variance: int, length: int, csprng: Csprng) -> np.ndarray:
    """Return `length` independent samples of N_Z(0, variance), int64 [length]; every random bit is from `csprng`."""
    if not 1 <= variance <= LARGEST_VARIANCE:
        raise InputError(f"a noise variance of {variance} is outside 1 to 2^60; change the noise or the scale")
    shift = laplace_shift(variance)

    def accept(words: np.ndarray, value: np.ndarray) -> np.ndarray:
        return accepts(words, np.abs(value), variance, shift, csprng)

    return from_laplace(shift, length, csprng, accept)


def laplace_shift(variance: int) -> int:
    """Return log2 of the scale t of discrete Laplace proposals for a distribution of this variance."""
    return max(0, math.floor(math.log2(1.6 * math.sqrt(variance))))


def from_laplace(
    shift: int, length: int, csprng: Csprng, accept: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Return `length` discrete Laplace samples of scale 2^shift among those that `accept` keeps, int64.

    `accept` takes the first 64 digits [n] of each U and the proposals [n], and returns bool [n].
    """
    out, filled = np.empty(length, np.int64), 0
    while filled < length:
        # Half as many again, since about 70 in 100 proposals are accepted. The accepted are independent and equally
        # distributed, so leaving out the surplus at the end biases nothing.
        n = min(_CHUNK, (length - filled) * 3 // 2 + 16)
        words = np.frombuffer(csprng(16 * n), _WORD)
        negative = np.unpackbits(np.frombuffer(csprng((n + 7) // 8), np.uint8), count=n).astype(bool)
        size = floor_exponential(words[:n], shift, csprng)
        proposals = np.where(negative, -size, size)
        kept = accept(words[n:], proposals)
        kept &= ~(negative & (size == 0))  # zero has one sign, or it would come twice as often as it should
        accepted = proposals[kept][: length - filled]
        out[filled : filled + accepted.size] = accepted
        filled += accepted.size
    return out


def floor_exponential(words: np.ndarray, shift: int, csprng: Csprng) -> np.ndarray:
    """Return floor(t·E) for t = 2^shift, int64: P(floor(t·E) >= x) = exp(-x/t), which is geometric.

    `words` [n] are the first 64 binary digits of each U.
    """
    exponential, error = exponential_of(words)
    low, high = np.ldexp(exponential - error, shift), np.ldexp(exponential + error, shift)
    floor = np.floor(low)
    open_ = np.flatnonzero(np.floor(high) != floor)
    floor[open_] = 0.0
    out = floor.astype(np.int64)
    for i in open_:
        out[i] = settle_floor(int(words[i]), shift, csprng)
    return out


def accepts(words: np.ndarray, size: np.ndarray, variance: int, shift: int, csprng: Csprng) -> np.ndarray:
    """Return for each |Y| in `size` [n] whether E >= γ = (|Y| - σ²/t)²/2σ², bool [n]: probability exp(-γ)."""
    exponential, error = exponential_of(words)
    off = size - math.ldexp(float(variance), -shift)
    gamma = off * off / (2.0 * variance)
    # With c = σ²/t: |Y| is exact, c is off by 2^-53·c, and so γ by at most 2^-52·(|off|·c/σ² + 4γ). Since t > 0.8 σ,
    # |off|·c/σ² < 1.8·√γ < 1 + γ, and 2^-49·(1 + γ) is more than all of it together.
    error += 2.0**-49 * (1.0 + gamma)
    margin = exponential - gamma
    out = margin >= 0
    for i in np.flatnonzero(np.abs(margin) <= error):
        out[i] = settle_accept(int(words[i]), int(size[i]), variance, shift, csprng)
    return out


def exponential_of(words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return E and how far off it is at most, float64 [n] each; inf where the first 64 digits are all 0."""
    middle = words.astype(np.float64) + 0.5
    exponential = -np.log(np.ldexp(middle, -64))
    # Three sources: the digits of U not drawn yet (0.5/word < 1/middle), the rounding of `middle` (2^-52 relative, so
    # as much in the logarithm), and np.log itself, for which 32 units in the last place are taken: ten times what any
    # of numpy's implementations may be off by.
    error = exponential * 2.0**-47 + 2.0**-51 + 1.0 / middle
    error[words == 0] = np.inf
    return exponential, error


def settle_floor(word: int, shift: int, csprng: Csprng) -> int:
    """Return floor(2^shift · E) by exact arithmetic, from the 64 digits drawn and as many more as it takes."""

    def decide(low: Fraction, high: Fraction) -> int | None:
        below, above = math.floor(low * 2**shift), math.floor(high * 2**shift)
        return below if below == above else None

    return settle(word, csprng, decide)


def settle_accept(word: int, size: int, variance: int, shift: int, csprng: Csprng) -> bool:
    """Return whether E >= (size - σ²/t)²/2σ² by exact arithmetic, t = 2^shift."""
    gamma = Fraction((size * 2**shift - variance) ** 2, 2 * variance * 4**shift)

    def decide(low: Fraction, high: Fraction) -> bool | None:
        return True if low >= gamma else False if high < gamma else None

    return settle(word, csprng, decide)


def settle(word: int, csprng: Csprng, decide: Callable[[Fraction, Fraction], Answer | None]) -> Answer:
    """Return the answer that holds for every U with the digits drawn; draw more digits while there are two."""
    bits = 64
    while True:
        # A fraction with `bits` binary digits has as many decimal ones: both ends of the interval are exact. Python's
        # Decimal rounds a logarithm correctly, so one step outwards encloses it.
        context = Context(prec=bits + 10)
        if word > 0:
            unit = Decimal(2**bits)
            low = -context.next_plus(context.ln(context.divide(Decimal(word + 1), unit)))
            high = -context.next_minus(context.ln(context.divide(Decimal(word), unit)))
            answer = decide(Fraction(low) if low > 0 else Fraction(0), Fraction(high))
            if answer is not None:
                return answer
        word = (word << 64) | int.from_bytes(csprng(8), "little")
        bits += 64
