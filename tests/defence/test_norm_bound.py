"""Lengths, exactly: beside Python's integers, at the bound and one past it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from commonprior.defence.norm_bound import NormBound, squared_norms
from commonprior.errors import RecipeError

DELTAS = arrays(np.int8, st.tuples(st.integers(1, 9), st.integers(1, 12)))


@given(DELTAS)
def test_squared_norms_are_those_of_python_s_integers(deltas):
    assert squared_norms(deltas).tolist() == [sum(int(v) ** 2 for v in row) for row in deltas]


def test_nothing_wraps_where_every_number_is_the_lowest():
    assert squared_norms(np.full((2, 300_000), -128, np.int8)).tolist() == [300_000 * 2**14] * 2


@pytest.mark.parametrize(("length", "stays"), [(20, True), (21, False)])
def test_twice_the_median_may_stay_and_no_more(length, stays):
    deltas = np.diag(np.array([10, 10, 10, 10, length], np.int8))
    assert NormBound(percent=200).passed(deltas, 1).tolist() == [True] * 4 + [stays]


def test_what_the_clip_allows_holds_when_everyone_is_too_long():
    deltas = np.diag(np.array([6, 6, 5], np.int8))
    assert NormBound(most=5).passed(deltas, 0).tolist() == [False, False, True]


@given(DELTAS, st.integers(100, 400))
def test_at_least_half_stay(deltas, percent):
    assert 2 * NormBound(percent).passed(deltas, 0).sum() >= len(deltas)


@given(st.data())
def test_fewer_than_half_cannot_let_themselves_in(data):
    """Liars of any length: whoever stays is at most twice as long as the longest honest one."""
    honest = data.draw(arrays(np.int8, (5, 6), elements=st.integers(-10, 10)))
    liars = data.draw(arrays(np.int8, (4, 6)))
    deltas = np.concatenate([liars, honest])
    stays = NormBound(percent=200).passed(deltas, 4)
    assert squared_norms(deltas)[stays].max() <= 4 * squared_norms(honest).max()


def test_nobody_is_no_error():
    assert NormBound().passed(np.zeros((0, 4), np.int8), 0).tolist() == []


@pytest.mark.parametrize(("numbers", "said"), [({"percent": 99}, "norm.percent = 99"), ({"most": 0}, "norm.most = 0")])
def test_numbers_that_cannot_be_are_named(numbers, said):
    with pytest.raises(RecipeError, match=said):
        NormBound(**numbers)
