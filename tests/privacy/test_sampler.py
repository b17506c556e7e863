import math
import random
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from scipy import stats

from commonprior.errors import InputError
from commonprior.privacy._sampler import (
    accepts,
    discrete_gaussian,
    exponential_of,
    floor_exponential,
    settle_accept,
    settle_floor,
)

ONES, ZEROS = b"\xff", b"\x00"


def stream(seed):
    return np.random.default_rng(seed).bytes


def repeat(byte):
    return lambda n: byte * n


def never(n):
    raise AssertionError(f"{n} bytes drawn where 64 digits decide")


def p_value(result: Any) -> float:
    return float(result.pvalue)


def pmf(variance, reach):
    x = np.arange(-reach, reach + 1)
    weights = np.exp(-(x.astype(float) ** 2) / (2 * variance))
    return x, weights / weights.sum()


def reference_sample(variance, rng):
    """Algorithm 3 of arXiv 2004.00010 in Python integers and fractions, one number at a time."""

    def bernoulli(p):
        return rng.randrange(p.denominator) < p.numerator

    def bernoulli_exp(gamma):
        while gamma > 1:
            if not bernoulli_exp(Fraction(1)):
                return False
            gamma -= 1
        k = 1
        while bernoulli(gamma / k):
            k += 1
        return k % 2 == 1

    t = math.isqrt(variance) + 1
    while True:
        u = rng.randrange(t)
        if not bernoulli_exp(Fraction(u, t)):
            continue
        v = 0
        while bernoulli_exp(Fraction(1)):
            v += 1
        size, negative = u + t * v, rng.randrange(2)
        if negative and size == 0:
            continue
        if bernoulli_exp((size - Fraction(variance, t)) ** 2 / (2 * variance)):
            return -size if negative else size


@pytest.mark.parametrize("variance", [1, 2, 3, 10, 57, 400])
def test_small_variances_follow_the_exact_probabilities(variance):
    n = 60_000
    samples = discrete_gaussian(variance, n, stream(variance))
    x, p = pmf(variance, 8 * math.isqrt(variance) + 8)
    common = p * n > 10
    observed = np.array([(samples == value).sum() for value in x[common]])
    rest = n - observed.sum()
    expected = p[common] * n
    assert p_value(stats.chisquare([*observed, rest], [*expected, n - expected.sum()])) > 1e-3


@pytest.mark.parametrize("variance", [2**20 - 3, 2**40 + 12345, 2**50, 2**60])
def test_large_variances_are_normal_symmetric_and_of_the_right_size(variance):
    n = 50_000
    z = discrete_gaussian(variance, n, stream(1)) / math.sqrt(variance)
    assert p_value(stats.kstest(z, "norm")) > 1e-3
    assert abs(z.mean()) < 4 / math.sqrt(n)
    assert abs(z.var() - 1) < 4 * math.sqrt(2 / n)
    assert abs((z**4).mean() - 3) < 4 * math.sqrt(96 / n)
    assert p_value(stats.ks_2samp(z[z > 0], -z[z < 0])) > 1e-3


def test_the_low_bits_of_large_samples_are_uniform():
    low = discrete_gaussian(2**40, 64_000, stream(2)) & 15
    assert p_value(stats.chisquare(np.bincount(low, minlength=16))) > 1e-3


def test_tails_are_as_heavy_as_they_must_be():
    n, variance = 400_000, 9
    samples = np.abs(discrete_gaussian(variance, n, stream(3)))
    x, p = pmf(variance, 60)
    for k in (3, 6, 9, 12):
        expected = n * p[np.abs(x) >= k].sum()
        assert abs((samples >= k).sum() - expected) < 5 * math.sqrt(expected) + 1


def test_it_agrees_with_the_papers_own_algorithm():
    rng, n = random.Random(5), 4_000
    reference = np.array([reference_sample(7, rng) for _ in range(n)])
    ours = discrete_gaussian(7, n, stream(4))
    edges = np.arange(-6, 8) - 0.5
    table = [np.histogram(np.clip(s, -6, 6), edges)[0] for s in (reference, ours)]
    assert p_value(stats.chi2_contingency(table)) > 1e-3


def test_every_bit_comes_from_the_csprng():
    a, b = (discrete_gaussian(1000, 200_000, stream(6)) for _ in range(2))
    assert np.array_equal(a, b)
    assert a.shape == (200_000,)
    assert a.dtype == np.int64
    assert not np.array_equal(a, discrete_gaussian(1000, 200_000, stream(7)))
    assert abs(np.corrcoef(a[:-1], a[1:])[0, 1]) < 5 / math.sqrt(a.size)


def test_the_float_answer_is_the_exact_answer():
    words = np.frombuffer(stream(8)(8 * 400), "<u8").copy()
    words[:100] >>= np.arange(100, dtype=np.uint64) % 40  # small ones, where undrawn digits matter most
    for shift in (0, 3, 20):
        clear = words[words > 2**52]
        expected = [settle_floor(int(w), shift, never) for w in clear]
        assert np.array_equal(floor_exponential(clear, shift, never), expected)
        variance = 4**shift + shift
        size = np.arange(clear.size) * 2**shift // 100
        expected = [settle_accept(int(w), int(s), variance, shift, never) for w, s in zip(clear, size, strict=True)]
        assert np.array_equal(accepts(clear, size, variance, shift, never), expected)


@pytest.mark.parametrize("shift", [0, 4, 24, 30])
def test_on_the_edge_the_undrawn_digits_decide_which_integer_it_is(shift):
    context = Context(prec=60)
    for x in (1, 2, 2**shift, 5 * 2**shift):
        # The 64 digits of exp(-x/t): with zeros after them U is below it and floor(t·E) is x, with ones x - 1.
        edge = int(context.multiply(context.exp(-Decimal(x) / 2**shift), Decimal(2**64)))
        word = np.array([edge], np.uint64)
        assert floor_exponential(word, shift, repeat(ZEROS)) == [x]
        assert floor_exponential(word, shift, repeat(ONES)) == [x - 1]


@pytest.mark.parametrize(("size", "variance", "shift"), [(3, 2, 0), (0, 5, 2), (10**6, 2**40 + 1, 20), (9, 1, 0)])
def test_on_the_edge_the_undrawn_digits_decide_whether_it_is_accepted(size, variance, shift):
    context = Context(prec=60)
    gamma = Fraction((size * 2**shift - variance) ** 2, 2 * variance * 4**shift)
    exponent = context.divide(Decimal(-gamma.numerator), Decimal(gamma.denominator))
    edge = int(context.multiply(context.exp(exponent), Decimal(2**64)))
    word = np.array([edge], np.uint64)
    assert accepts(word, np.array([size]), variance, shift, repeat(ZEROS)) == [True]
    assert accepts(word, np.array([size]), variance, shift, repeat(ONES)) == [False]


def test_a_word_of_zeros_is_not_a_logarithm_of_zero():
    word = np.zeros(1, np.uint64)
    digits = (12345).to_bytes(8, "little")
    expected = math.floor(8 * (128 * math.log(2) - math.log(12345.5)))
    assert floor_exponential(word, 3, lambda n: digits) == [expected]
    # γ = 60.5 is above what 64 digits can say of E, and below what 128 zeros do.
    assert accepts(word, np.array([12]), 1, 0, lambda n: (1).to_bytes(8, "little")) == [True]
    assert accepts(word, np.array([12]), 1, 0, lambda n: (2**63).to_bytes(8, "little")) == [False]


def test_a_word_of_ones_is_settled_at_once():
    word = np.array([2**64 - 1], np.uint64)
    assert floor_exponential(word, 20, repeat(ZEROS)) == [0]
    assert settle_floor(2**64 - 1, 20, never) == 0


def test_this_machines_logarithm_is_well_within_the_band():
    words = np.frombuffer(stream(9)(8 * 2_000), "<u8").copy()
    words[:200] = np.uint64(2**64 - 1) - np.arange(200, dtype=np.uint64)
    context = Context(prec=60)
    values, errors = exponential_of(words)
    for word, value, error in zip(words.tolist(), values.tolist(), errors.tolist(), strict=True):
        exact = -context.ln((Decimal(word) + Decimal("0.5")) / Decimal(2**64))
        assert abs(float(Decimal(value) - exact)) < (error - 1 / (word + 0.5)) / 4


@pytest.mark.parametrize("variance", [0, -1, 2**60 + 1])
def test_a_variance_out_of_range_is_refused(variance):
    with pytest.raises(InputError, match="variance"):
        discrete_gaussian(variance, 3, never)
