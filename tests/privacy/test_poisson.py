import math
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.special import ive

from commonprior.errors import InputError
from commonprior.privacy._poisson import accepts, gamma_of, settle_accept, skellam, surprise_of
from commonprior.privacy._sampler import from_laplace, laplace_shift

ONES, ZEROS = b"\xff", b"\x00"


def stream(seed):
    return np.random.default_rng(seed).bytes


def repeat(byte):
    return lambda n: byte * n


def never(n):
    raise AssertionError(f"{n} bytes drawn where 64 digits decide")


def p_value(result: Any) -> float:
    return float(result.pvalue)


def exact_surprise(j, mean):
    """Λ(j) by integers alone, for means whose factorials can still be written down."""
    up, down = math.factorial(mean + j), math.factorial(mean)
    above, below = (up, down * mean**j) if j >= 0 else (up * mean**-j, down)
    shift = above.bit_length() - below.bit_length()
    ratio = Fraction(above, below) / Fraction(2) ** shift
    return shift * math.log(2) + math.log(ratio)


@pytest.mark.parametrize("variance", [2, 4, 10, 56, 400])
def test_small_variances_follow_the_exact_probabilities(variance):
    n = 60_000
    samples = skellam(variance, n, stream(variance))
    x = np.arange(-8 * math.isqrt(variance) - 12, 8 * math.isqrt(variance) + 13)
    p = ive(np.abs(x), variance)
    assert p.sum() == pytest.approx(1, abs=1e-6)
    often = p * n > 10
    observed = np.array([(samples == value).sum() for value in x[often]])
    expected = p[often] * n
    rest = (n - observed.sum(), n - expected.sum())
    assert p_value(stats.chisquare([*observed, rest[0]], [*expected, rest[1]])) > 1e-3


@pytest.mark.parametrize("mean", [3, 8191, 8192, 20_000])
def test_each_half_is_poisson_with_its_skew(mean):
    shift = laplace_shift(mean)
    n, csprng = 40_000, stream(mean)
    counts = mean + from_laplace(shift, n, csprng, lambda words, j: accepts(words, j, mean, shift, csprng))
    assert counts.min() >= 0
    edges = stats.poisson.ppf([0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999], mean)
    observed = np.bincount(np.searchsorted(np.unique(edges), counts), minlength=len(np.unique(edges)) + 1)
    expected = n * np.diff([0.0, *stats.poisson.cdf(np.unique(edges), mean), 1.0])
    assert p_value(stats.chisquare(observed, expected)) > 1e-3


@pytest.mark.parametrize("variance", [2**14, 2**20 - 4, 2**40 + 12346, 2**60])
def test_large_variances_are_normal_symmetric_and_of_the_right_size(variance):
    n = 50_000
    z = skellam(variance, n, stream(1)) / math.sqrt(variance)
    assert p_value(stats.kstest(z + 0.5 / math.sqrt(variance), "norm")) > 1e-3
    assert abs(z.mean()) < 4 / math.sqrt(n)
    assert abs(z.var() - 1) < 4 * math.sqrt(2 / n)
    assert p_value(stats.ks_2samp(z[z > 0], -z[z < 0])) > 1e-3


@pytest.mark.parametrize("mean", [1, 2, 17, 500, 8191, 8192, 9001])
def test_floats_and_decimals_agree_with_the_factorials(mean):
    spread = 12 * math.isqrt(mean) + 12
    values = np.unique(np.linspace(-min(mean, spread), spread, 41).astype(np.int64))
    values = values[(mean < 8192) | (2 * values >= -mean)]
    surprise, doubt = surprise_of(values, mean)
    shift = laplace_shift(mean)
    for j, value in zip(values.tolist(), surprise.tolist(), strict=True):
        exact = exact_surprise(j, mean)
        assert abs(value - exact) < 2.0**-43 * (1 + exact)
        low, high = gamma_of(j, mean, shift)
        offset = Fraction(mean, 2 * 4**shift) + Fraction(1, 2 * 2**shift) + Fraction(1, 8 * mean)
        assert abs(float(low + high) / 2 - (exact - abs(j) / 2**shift + float(offset))) < 1e-11 * (1 + exact)
        assert 0 < high - low < Fraction(1, 10**57)
    assert not doubt.any()


@pytest.mark.parametrize("mean", [1, 2, 3, 10, 1000, 8192, 2**40])
def test_a_probability_is_never_over_one(mean):
    shift, centre = laplace_shift(mean), math.isqrt(mean)
    near = sorted({j for scale in (0.5, 1, 1.6) for s in (-1, 1) for d in (-2, -1, 0, 1, 2)
                   if (j := s * int(scale * centre) + d) >= -min(mean, 3 * centre + 3)})  # fmt: skip
    assert all(gamma_of(j, mean, shift)[0] > 0 for j in near)


@pytest.mark.parametrize(("value", "mean"), [(3, 2), (-2, 2), (60, 5000), (-90, 8192), (10**5, 2**40 + 1)])
def test_on_the_edge_the_undrawn_digits_decide(value, mean):
    shift = laplace_shift(mean)
    low, high = gamma_of(value, mean, shift)
    middle = (low + high) / 2
    context = Context(prec=60)
    exponent = context.divide(Decimal(-middle.numerator), Decimal(middle.denominator))
    word = np.array([int(context.multiply(context.exp(exponent), Decimal(2**64)))], np.uint64)
    assert accepts(word, np.array([value]), mean, shift, repeat(ZEROS)) == [True]
    assert accepts(word, np.array([value]), mean, shift, repeat(ONES)) == [False]
    for off, answer in ((-(2**30), True), (2**30, False)):
        clear = np.array([int(word[0]) + off], np.uint64)
        assert accepts(clear, np.array([value]), mean, shift, never) == [answer]
        assert settle_accept(int(clear[0]), value, mean, shift, never) == answer


def test_no_count_is_negative_and_what_is_beyond_the_table_is_settled():
    words = np.array([0, 2**63], np.uint64)
    for mean in (5, 10_000):
        shift = laplace_shift(mean)
        for word in words:
            drawn = accepts(np.array([word]), np.array([-mean - 1]), mean, shift, repeat(ZEROS))
            assert not drawn.any()
    beyond = np.array([20_000])
    assert np.isinf(surprise_of(beyond, 100)[1]).all()
    assert accepts(words[1:], beyond, 100, laplace_shift(100), never) == [False]


def test_every_bit_comes_from_the_csprng():
    a, b = (skellam(1000, 100_000, stream(6)) for _ in range(2))
    assert np.array_equal(a, b)
    assert (a.shape, a.dtype) == ((100_000,), np.int64)
    assert not np.array_equal(a, skellam(1000, 100_000, stream(7)))
    assert abs(np.corrcoef(a[:-1], a[1:])[0, 1]) < 5 / math.sqrt(a.size)


@pytest.mark.parametrize("variance", [0, 1, 7, -2, 2**60 + 2])
def test_a_variance_out_of_range_is_refused(variance):
    with pytest.raises(InputError, match="not an even number from 2"):
        skellam(variance, 3, never)
