import math

import jax
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from commonprior.errors import ModelError
from commonprior.privacy._rounding import random_words, rounded, squared_bound, to_scale

KEY = jax.random.key(7)
UP, DOWN = 0, 2**32 - 1


def integers(row, clip=1.0, bound=math.inf, fraction=10, words=None):
    row = np.asarray(row, np.float64)
    words = random_words(KEY, 0, row.size) if words is None else words
    return rounded(to_scale(row, 0, clip, bound, fraction).values, clip, fraction, words)


@settings(max_examples=150, deadline=None)
@given(
    row=arrays(np.float64, st.integers(1, 40), elements=st.floats(allow_nan=False, allow_infinity=False)),
    clip=st.floats(1e-6, 1e6),
    units=st.integers(0, 30),
    word=st.sampled_from([UP, DOWN, 2**31]),
)
@example(row=np.full(40, 1.7e308), clip=1.0, units=30, word=UP)
@example(row=np.full(40, 5e-324), clip=1e-6, units=30, word=UP)
@example(row=np.array([1.0]), clip=1.0, units=30, word=UP)
def test_the_integer_norm_is_bounded_whatever_the_row_and_the_rounding(row, clip, units, word):
    fraction = units - math.frexp(clip)[1]
    out = integers(row, clip, fraction=fraction, words=np.full(row.size, word, np.uint32))
    exact = sum(int(x) ** 2 for x in out)
    assert exact <= squared_bound(math.ldexp(clip, fraction), row.size)
    assert max(abs(int(x)) for x in out) <= math.ceil(math.ldexp(clip, fraction))


def test_a_row_that_rounds_over_the_bound_is_truncated():
    d = 10_000
    row = np.full(d, 0.3)
    clip = 30.0
    assert squared_bound(clip, d) < d
    assert not integers(row, clip, fraction=0, words=np.full(d, UP, np.uint32)).any()
    fair = integers(row, clip, fraction=0)
    assert 0 < np.dot(fair, fair) <= squared_bound(clip, d)


@pytest.mark.parametrize(("norm", "d"), [(10.0, 400), (100.0, 10_000), (1000.0, 50), (3.0, 1)])
def test_fair_rounding_stays_under_the_bound_that_is_not_the_worst_case(norm, d):
    rng = np.random.default_rng(0)
    for i in range(100):
        row = rng.normal(size=d)
        scaled = row * norm / np.linalg.norm(row)
        rounded = np.floor(scaled + rng.random(d))
        assert rounded @ rounded <= squared_bound(norm, d), i
    assert squared_bound(norm, d) <= (norm + math.sqrt(d)) ** 2


def test_rounding_keeps_the_mean():
    d = 200_000
    for value in (0.25, 0.7, -0.1, 3.999):
        out = integers(np.full(d, value), clip=1e9, fraction=0)
        part = value - math.floor(value)
        assert set(np.unique(out)) == {math.floor(value), math.floor(value) + 1}
        assert abs(out.mean() - value) < 4 * math.sqrt(part * (1 - part) / d)


def test_whole_numbers_stay_what_they_are():
    row = np.array([-3.0, 0.0, 5.0, -0.0, 2.0**29])
    for word in (UP, DOWN):
        assert np.array_equal(integers(row, 2.0**30, fraction=0, words=np.full(5, word, np.uint32)), row)


def test_clipping_keeps_the_direction_and_short_rows():
    row = np.array([3.0, 4.0])
    assert np.allclose(integers(row, 1.0, fraction=25) / 2**25, [0.6, 0.8], atol=1e-7)
    assert np.allclose(integers(row, 10.0, fraction=25) / 2**25, row, atol=1e-7)
    assert not integers(np.zeros(4)).any()


def test_a_bound_caps_every_number():
    out = integers([0.9, -0.9, 0.05], clip=10.0, bound=0.25, fraction=20)
    assert np.array_equal(out[:2], [2**18, -(2**18)])
    assert abs(out[2] / 2**20 - 0.05) < 2**-20


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_diverged_row_is_named(value):
    row = np.ones(5)
    row[3] = value
    with pytest.raises(ModelError, match=f"row 2 of the contributions holds {value} at number 3"):
        to_scale(row, 2, 1.0, 1.0, 10)


def test_same_key_same_words_and_each_row_its_own():
    a = random_words(KEY, 0, 1001)
    assert a.shape == (1001,)
    assert np.array_equal(a, random_words(jax.random.key(7), 0, 1001))
    assert np.array_equal(a[:500], random_words(KEY, 0, 500))
    for other in (random_words(KEY, 1, 1001), random_words(jax.random.key(8), 0, 1001)):
        assert (a == other).mean() < 0.01
    assert random_words(jax.random.PRNGKey(7), 0, 3).tolist() == a[:3].tolist()
    assert random_words(jax.random.key(7, impl="rbg"), 0, 3).shape == (3,)


def test_the_words_are_pinned():
    assert random_words(KEY, 0, 4).tolist() == [362933590, 1986686663, 3337670912, 340986597]


def test_a_row_says_whether_it_was_clipped_and_whether_it_was_there():
    for row, present, within in (([0.6, 0.8], True, True), ([0.6, 0.81], True, False), ([0.0, 0.0], False, True)):
        scaled = to_scale(np.array(row), 0, 1.0, 1.0, 4)
        assert (scaled.present, scaled.within) == (present, within)
