"""The trimmed mean beside fractions and SciPy's, and who is left where some point away."""

from fractions import Fraction
from math import floor, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import trim_mean

from commonprior.defence.trimmed_mean import TrimmedMean, trimmed_mean, trimmed_sums_of_others
from commonprior.errors import InputError, RecipeError
from commonprior.ledger.public import mean_of, packed

DELTAS = arrays(np.int8, st.tuples(st.integers(3, 9), st.integers(1, 8)))


@given(DELTAS, st.integers(0, 1))
def test_the_mean_is_that_of_fractions(deltas, trim):
    kept = [sorted(int(v) for v in column)[trim : len(column) - trim] for column in deltas.T]
    expected = [floor(Fraction(sum(k), len(k)) + Fraction(1, 2)) for k in kept]
    assert trimmed_mean(deltas, trim).tolist() == expected


def test_scipy_has_the_same_mean():
    deltas = np.random.default_rng(0).integers(-128, 128, (20, 500)).astype(np.int8)
    assert np.abs(trimmed_mean(deltas, 6) - trim_mean(deltas.astype(float), 0.3, axis=0)).max() <= 0.5


@given(DELTAS)
def test_without_trimming_it_is_the_contract_s_mean(deltas):
    theirs = np.frombuffer(mean_of([packed(row) for row in deltas]), np.int8)[: deltas.shape[1]]
    assert trimmed_mean(deltas, 0).tolist() == theirs.tolist()


@given(arrays(np.int8, (5, 6)), arrays(np.int8, (2, 6)))
def test_two_liars_cannot_move_it_past_the_honest(honest, liars):
    mean = trimmed_mean(np.concatenate([liars, honest]), 2)
    assert (honest.min(axis=0) <= mean).all()
    assert (mean <= honest.max(axis=0)).all()


@given(DELTAS, st.integers(0, 3))
def test_sums_of_others_are_those_of_leaving_one_out(deltas, trim):
    n = len(deltas)
    if 2 * trim >= n - 1:
        with pytest.raises(InputError, match=f"trim = {trim} of {n - 1} others"):
            trimmed_sums_of_others(deltas, trim)
        return
    expected = [
        np.sort(np.delete(deltas, i, axis=0), axis=0)[trim : n - 1 - trim].sum(axis=0, dtype=int) for i in range(n)
    ]
    assert (trimmed_sums_of_others(deltas, trim) == expected).all()


@given(DELTAS, st.integers(-100, 0))
def test_who_stays_is_who_has_the_cosine(deltas, least):
    centres = trimmed_sums_of_others(deltas, 0)
    for own, centre, stays in zip(deltas.astype(float), centres.astype(float), TrimmedMean(least).passed(deltas, 0)):
        cosine = own @ centre / (sqrt(own @ own) * sqrt(centre @ centre) or 1.0)
        if abs(cosine - least / 100) > 1e-9:
            assert stays == (cosine > least / 100)


def test_exactly_the_least_cosine_stays():
    """(-3, 4) to (5, 0) is -0.6, which floats only come near."""
    deltas = np.array([[-3, 4], [5, 0], [5, 0]], np.int8)
    assert TrimmedMean(-60).passed(deltas, 0)[0]
    assert not TrimmedMean(-59).passed(deltas, 0)[0]


def test_turned_signs_are_out_and_honest_ones_stay():
    rng = np.random.default_rng(0)
    deltas = np.clip(np.rint(rng.normal(10, 15, (20, 400))), -127, 127).astype(np.int8)
    deltas[:6] = -deltas[:6]
    assert TrimmedMean().passed(deltas, 6).tolist() == [False] * 6 + [True] * 14


def test_everyone_stays_where_trimming_leaves_nobody():
    assert TrimmedMean().passed(np.array([[1], [-1], [-1]], np.int8), 1).all()


def test_numbers_that_cannot_be_are_named():
    with pytest.raises(RecipeError, match="trimmed.least = 5"):
        TrimmedMean(5)
    with pytest.raises(InputError, match="trim = 2 of 4 deltas"):
        trimmed_mean(np.zeros((4, 2), np.int8), 2)
