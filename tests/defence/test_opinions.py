"""What validators think: a quadratic loss whose gains are known, and cosines beside SciPy's."""

import math

import numpy as np
import pytest
from scipy.spatial.distance import cosine

from commonprior.defence.accuracy import AccuracyCheck
from commonprior.defence.root_set import RootSet
from commonprior.errors import InputError, RecipeError


def drawn():
    """Return seven deltas of five numbers, and a vector."""
    rng = np.random.default_rng(0)
    return rng.integers(-100, 100, (7, 5)).astype(np.int8), rng.normal(size=5)


def test_gains_of_a_bowl_are_those_of_its_formula():
    """Loss |x - c|^2 from |c|^2: a step s u gains (2 s u.c - s^2) / |c|^2, where u has length 1."""
    deltas, centre = drawn()
    centre = 50 * centre
    step = np.linalg.norm(deltas.mean(axis=0))
    units = deltas / np.linalg.norm(deltas, axis=1, keepdims=True)
    expected = (2 * step * units @ centre - step**2) / (centre @ centre)
    gains = AccuracyCheck().gains(deltas, lambda means: ((means - centre) ** 2).sum(axis=1))
    assert gains == pytest.approx(expected)


def test_ten_times_as_long_gains_as_much():
    deltas = np.array([[1, 2], [10, 20], [3, -1]], np.int8)
    gains = AccuracyCheck().gains(deltas, lambda means: ((means - 4) ** 2).sum(axis=1))
    assert gains[0] == pytest.approx(gains[1])


def test_a_loss_that_is_lost_is_the_worst_and_zeros_change_nothing():
    deltas = np.array([[5, 0], [0, 0], [-5, 1]], np.int8)
    gains = AccuracyCheck().gains(deltas, lambda means: np.where(means[:, 0] >= 0, 1.0 - means[:, 0], math.nan))
    assert gains[0] > 0
    assert gains[1] == 0
    assert gains[2] == -math.inf


def test_a_validator_whose_own_loss_is_lost_says_so():
    with pytest.raises(InputError, match="before the round is nan"):
        AccuracyCheck().gains(np.ones((1, 2), np.int8), lambda means: np.full(len(means), math.nan))


def test_a_loss_that_forgets_someone_is_refused():
    with pytest.raises(InputError, match=r"loss of 3 means has shape \(2,\)"):
        AccuracyCheck().gains(np.ones((2, 2), np.int8), lambda means: np.zeros(2))


def test_cosines_are_scipy_s():
    deltas, own = drawn()
    assert RootSet().cosines(deltas, own) == pytest.approx([1 - cosine(row, own) for row in deltas.astype(float)])


def test_zeros_have_no_direction():
    assert RootSet().cosines(np.zeros((2, 3), np.int8), np.ones(3)).tolist() == [0, 0]
    assert RootSet().cosines(np.ones((2, 3), np.int8), np.zeros(3)).tolist() == [0, 0]


def test_another_prior_s_update_is_refused():
    with pytest.raises(InputError, match="of another prior"):
        RootSet().cosines(np.ones((2, 3), np.int8), np.ones(4))


@pytest.mark.parametrize("margin", [-0.1, math.inf, math.nan])
def test_a_margin_that_cannot_be_is_named(margin):
    with pytest.raises(RecipeError, match="accuracy.margin"):
        AccuracyCheck(margin)


@pytest.mark.parametrize("least", [-1.1, 1.0, math.nan])
def test_a_cosine_that_cannot_be_is_named(least):
    with pytest.raises(RecipeError, match="root.least"):
        RootSet(least)
