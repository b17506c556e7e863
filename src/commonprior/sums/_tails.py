"""Exact tails of what a random neighbourhood holds: whole numbers only, no logarithm, no approximation.

k sites drawn without replacement from N, K of which are marked, hold X marked ones: hypergeometric. A bound of 2^-bits
on a tail is a comparison of two integers here. Only `split_bits` and `missing` take logarithms, and round against us:
what they bound changes by bits from one number to the next.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from scipy.stats import binom

_MARGIN = 2.0**-20
"""What `split_bits` adds to each logarithm: far above the rounding of `math.lgamma`, far below one bit."""


@cache
def most(population: int, marked: int, drawn: int, bits: int, times: int) -> int:
    """Return the smallest m with times · P(more than m of the `drawn` are marked) <= 2^-bits."""
    whole, above = math.comb(population, drawn), 0
    for m in range(min(marked, drawn), -1, -1):
        ways = math.comb(marked, m) * math.comb(population - marked, drawn - m)
        if (above + ways) * times << bits > whole:
            return m
        above += ways
    return 0


@cache
def looks(shown: int, valid: int, bits: int, times: int) -> int:
    """Return the smallest r at which two lists of `shown` items hardly pass both, `valid` items of the two being valid.

    A list passes where r items drawn from it are all valid: for two lists, and `times` draws from each, the chance that
    some draw passes the one and some the other is at most times^2 · C(v, r) · C(w, r) / C(shown, r)^2 with v + w =
    `valid`, which is largest where v and w are equal (C(v, r) is log-concave in v). It is made at most 2^-bits.
    """
    less = valid // 2
    more, r = min(valid - less, shown), 0
    while times**2 * math.comb(less, r) * math.comb(more, r) << bits > math.comb(shown, r) ** 2:
        r += 1
    return r


def split_bits(honest: int, colluders: int, gone: int, drawn: int, least: int) -> float:
    """Return b, where 2^-b bounds the probability that some honest sites can be cut off from the other honest ones.

    Each of `honest` + `colluders` sites draws `drawn` others. A set A of a sites, at least `least` of them and at most
    half of those that are left, is cut off where `gone` honest sites can be taken away, by somebody who sees the graph,
    so that everything A drew is in A, taken away, or a colluder's. The union bound over every a, A and choice of
    those that are taken away.
    """
    n, total = honest + colluders, 0.0
    for a in range(max(1, least), honest // 2 + 1):
        x = min(gone, honest - 2 * a)
        inside = a - 1 + x + colluders
        if inside < drawn:
            continue
        each = _within(n, inside, drawn)
        total += 2.0 ** min(1000.0, _log2_choose(honest, a) + _log2_choose(honest - a, x) + a * each)
    return -math.log2(total) if total else math.inf


@cache
def missing(honest: int, colluders: int, gone: int, drawn: int, signs: int, looked: int, bits: int) -> int:
    """Return f, where an opened sum holds fewer than honest - `gone` - f honest sites with a chance of at most 2^-bits.

    Each of `honest` + `colluders` sites draws `drawn` others. m honest survivors can only be missing where none of the
    others drew one of them, chosen by somebody who sees the graph: the union bound over every m and such m sites, where
    they are the smaller side (where the others are, `split_bits` bounds it). Either none of them signed truly: then
    more than f signatures do not hold, and a site that goes on saw none of these among the `looked` that it drew. Or
    one did: then `signs` of them saw the same graph, and drew nobody but them, colluders, and up to `gone` others.
    """
    n, sides, shown = honest + colluders, honest // 2, honest + colluders - gone
    avoided, signed = np.full(sides + 1, -np.inf), np.zeros(sides + 1)
    for m in range(1, sides + 1):
        others = max(honest - gone - m, m)
        few = binom.logsf(others - 1, honest - m, 2.0 ** min(_within(n, n - 1 - m, drawn), 0.0)) / math.log(2)
        avoided[m] = _log2_choose(honest, m) + few + _MARGIN
        x = min(gone, honest - m)
        confined = signs * _within(n, m - 1 + x + colluders, drawn)
        ways = _log2_choose(m, signs) + _log2_choose(honest - m, x) if m >= signs else -math.inf
        signed[m] = min(0.0, ways + confined)
    more, more_signed = (np.logaddexp2.accumulate(b[::-1])[::-1] for b in (avoided, avoided + signed))
    for f in range(sides):
        goes_on = math.prod(max(0, shown - f - 1 - i) / (shown - i) for i in range(looked))
        unnoticed = min(0.0, math.log2(honest * goes_on)) if goes_on else -math.inf
        if np.logaddexp2(min(more[f + 1], 0.0) + unnoticed, more_signed[f + 1]) <= -bits:
            return f
    return sides


def _within(sites: int, inside: int, drawn: int) -> float:
    """Return log2 of the chance, and a little more, that `drawn` of the others are all among `inside` of them."""
    return _log2_choose(inside, drawn) - _log2_choose(sites - 1, drawn) + _MARGIN if inside >= drawn else -math.inf


def _log2_choose(n: int, k: int) -> float:
    """Return log2 of the binomial coefficient, never below it by more than rounding."""
    return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(2)
