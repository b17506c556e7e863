"""All layers together: a byte a contributor, whoever computes it, in whatever order the contributors stand."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from commonprior.defence.accuracy import AccuracyCheck
from commonprior.defence.layers import Layers, Opinion
from commonprior.defence.multi_krum import MultiKrum, krum_scores
from commonprior.defence.norm_bound import NormBound
from commonprior.defence.root_set import RootSet
from commonprior.defence.trimmed_mean import TrimmedMean
from commonprior.errors import InputError, RecipeError
from commonprior.ledger.public import accepted

OFF = Layers(norm=None, trimmed=None, krum=None, accuracy=None, exclusion=None, roll_back=None)
ONES = np.ones((4, 3), np.int8)


def honest(n, d=200, seed=0):
    return np.clip(np.rint(np.random.default_rng(seed).normal(8, 10, (n, d))), -127, 127).astype(np.int8)


@given(arrays(np.int8, st.tuples(st.integers(3, 12), st.integers(8, 20)), elements=st.integers(-128, 127)), st.data())
def test_moving_contributors_moves_their_scores(deltas, data):
    order = np.array(data.draw(st.permutations(range(len(deltas)))))
    layers = Layers(liars=20)
    n, liars = len(deltas), len(deltas) // 5
    left = deltas[replace(layers, krum=None).passed(deltas)]
    liars = max(0, liars - (n - len(left)))
    if liars > 0 and len(left) >= 2 * liars + 3 and len(set(krum_scores(left, liars).tolist())) < len(left):
        return  # of equal scores the first stays
    gains = np.array(data.draw(st.lists(st.floats(-1, 1), min_size=n, max_size=n)))
    row = layers.row(deltas, [Opinion(gains)])
    assert layers.row(deltas[order], [Opinion(gains[order])]) == bytes(row[i] for i in order)


def test_with_everything_off_everyone_is_best():
    assert OFF.row(ONES) == bytes([255] * 4)


def test_each_layer_sends_away_what_it_is_for():
    deltas = honest(20)
    deltas[0] = 127
    deltas[1:3] = -deltas[1:3]
    assert np.flatnonzero(~replace(OFF, norm=NormBound()).passed(deltas)).tolist() == [0]
    assert np.flatnonzero(~replace(OFF, trimmed=TrimmedMean()).passed(deltas)).tolist() == [1, 2]
    assert np.flatnonzero(~replace(OFF, krum=MultiKrum(), liars=15).passed(deltas)).tolist() == [0, 1, 2]


def test_those_sent_away_are_no_longer_looked_for():
    """Three of twenty may lie; the norm bound finds them all, so Krum has nobody left to send away."""
    deltas = honest(20)
    deltas[:3] = 127
    layers = replace(OFF, norm=NormBound(), krum=MultiKrum(), liars=15)
    assert np.flatnonzero(~layers.passed(deltas)).tolist() == [0, 1, 2]


def test_scores_say_how_good():
    layers = replace(OFF, accuracy=AccuracyCheck(margin=0.1))
    assert layers.row(ONES, [Opinion(np.array([0.4, 0.2, -0.05, -0.2]))]) == bytes([255, 128, 1, 0])
    assert layers.row(ONES, [Opinion(np.array([-0.05, -0.2, 0.0, -math.inf]))]) == bytes([1, 0, 1, 0])


def test_claims_that_no_loss_can_bear_out_and_none_at_all():
    layers = replace(OFF, accuracy=AccuracyCheck(margin=0.1))
    claims = Opinion(np.array([math.inf, 0.5, -1.0, 0.0]))
    assert layers.row(ONES, [claims]) == bytes([255, 128, 0, 1])
    assert layers.row(ONES, [claims, Opinion(np.full(4, math.nan))]) == bytes(4)


def test_a_gain_next_to_nothing_beside_one_of_somebody_sent_away():
    """1 over the least number there is would overflow."""
    deltas = np.diag(np.array([1, 1, 1, 9], np.int8))
    layers = replace(OFF, norm=NormBound(), accuracy=AccuracyCheck())
    assert layers.row(deltas, [Opinion(np.array([5e-324, 0.0, 0.0, 1.0]))]) == bytes([255, 1, 1, 0])


def test_one_validator_s_loss_becomes_its_row():
    deltas = np.array([[10, 0], [-10, 0], [0, 10]], np.int8)
    layers = replace(OFF, accuracy=AccuracyCheck(margin=0.0))
    row = layers.row(deltas, [layers.opinion(deltas, lambda means: 100.0 - means[:, 0])])
    assert row == bytes([255, 0, 1])


def test_the_root_set_sends_away_what_points_elsewhere():
    deltas = np.array([[1, 0], [-1, 0], [0, 1]], np.int8)
    layers = replace(OFF, root=RootSet(0.0))
    assert layers.row(deltas, [layers.opinion(deltas, own=np.array([3.0, 1.0]))]) == bytes([255, 0, 255])


@given(st.lists(arrays(float, 4, elements=st.floats()), min_size=2, max_size=2))
def test_two_liars_of_seven_move_no_opinion_past_the_honest(lies):
    layers = replace(OFF, accuracy=AccuracyCheck(margin=0.0), root=RootSet(0.0))
    good = Opinion(np.array([0.5, 0.25, -0.5, 0.5]), np.array([0.5, 0.5, 0.5, -0.5]))
    row = layers.row(ONES, [good] * 5 + [Opinion(lie, lie) for lie in lies])
    assert row == bytes([255, 128, 0, 0])


@pytest.mark.parametrize(("liars", "taken"), [(2, [2, 3, 4, 5, 6, 7, 8, 9]), (3, [])])
def test_two_liars_of_seven_change_no_vote_and_three_stop_the_round(liars, taken):
    """Two thirds of the votes decide: a third of the validators can stop a round, and cannot poison one."""
    deltas = honest(10)
    deltas[:2] = -deltas[:2]
    row, lie = Layers().row(deltas), bytes([255, 255] + [0] * 8)
    rows = {bytes([i]): lie if i < liars else row for i in range(7)}
    bits = accepted(rows, dict.fromkeys(rows, 1), 7, 10)
    assert [i for i in range(10) if bits >> i & 1] == [i for i in taken if row[i]]
    assert not bits & 3


def test_no_opinion_where_the_layer_is_off():
    assert OFF.opinion(ONES, lambda means: np.ones(len(means)), np.ones(3)) == Opinion(None, None)


def test_what_is_off_leaves_nobody_out_and_never_goes_back():
    assert OFF.excluded([{b"a": False}] * 20) == frozenset()
    assert OFF.rolled_back([[0.0] + [9.0] * 20]) is None
    assert Layers(liars=49).excluded([{b"a": False, b"b": True, b"c": True}] * 12) == {b"a"}
    assert Layers().rolled_back([[0.1] + [9.0] * 20]) == 0


def test_numbers_that_cannot_be_are_named():
    with pytest.raises(RecipeError, match="liars = 50"):
        Layers(liars=50)
    with pytest.raises(InputError, match="got float64 of shape"):
        Layers().row(np.zeros((2, 3)))
    with pytest.raises(InputError, match=r"opinion of shape \(3,\) on 4 contributors"):
        Layers().row(ONES, [Opinion(np.zeros(3))])
