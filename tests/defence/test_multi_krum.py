"""Krum beside a loop over pairs, and what Blanchard et al. promise of vectors far away."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from commonprior.defence.multi_krum import MultiKrum, krum_scores, squared_distances


def scores_by_hand(deltas, liars):
    rows = [[int(v) for v in row] for row in deltas]
    out = []
    for i, own in enumerate(rows):
        others = sorted(sum((a - b) ** 2 for a, b in zip(own, row)) for j, row in enumerate(rows) if j != i)
        out.append(sum(others[: len(rows) - liars - 2]))
    return out


@given(arrays(np.int8, st.tuples(st.integers(5, 9), st.integers(1, 6))), st.integers(1, 3))
def test_scores_are_those_of_a_loop_over_pairs(deltas, liars):
    if len(deltas) >= 2 * liars + 3:
        assert krum_scores(deltas, liars).tolist() == scores_by_hand(deltas, liars)


@given(st.data(), st.integers(1, 3), st.integers(0, 3))
def test_liars_far_away_are_never_kept(data, liars, more):
    """n >= 2 f + 3, and every liar farther from each honest one than honest ones are from each other."""
    honest = data.draw(arrays(np.int8, (liars + 3 + more, 4), elements=st.integers(-8, 8)))
    away = data.draw(arrays(np.int8, (liars, 4), elements=st.integers(100, 127)))
    signs = data.draw(arrays(np.int8, (liars, 4), elements=st.sampled_from([-1, 1])))
    deltas = np.concatenate([honest, away * signs])
    order = np.array(data.draw(st.permutations(range(len(deltas)))))
    kept = MultiKrum().passed(deltas[order], liars)
    assert (kept == (order < len(honest))).all()


def test_liars_who_all_say_the_same_close_by_are_kept():
    """What it is bad at: honest ones differ more from each other than identical liars from them."""
    rng = np.random.default_rng(0)
    honest = np.rint(rng.normal(0, 20, (14, 300))).astype(np.int8)
    liars = np.tile(np.rint(-honest.astype(float).std(0)).astype(np.int8), (6, 1))
    assert MultiKrum().passed(np.concatenate([liars, honest]), 6)[:6].all()


@pytest.mark.parametrize(("n", "kept"), [(6, 6), (7, 5)])
def test_nobody_is_sent_away_where_it_proves_nothing(n, kept):
    assert MultiKrum().passed(np.arange(n, dtype=np.int8)[:, None], 2).sum() == kept


def test_equal_scores_keep_the_first():
    assert MultiKrum().passed(np.zeros((5, 3), np.int8), 1).tolist() == [True] * 4 + [False]


def test_distances_are_exact_where_every_number_is_as_far_as_can_be():
    deltas = np.stack([np.full(300_000, -128, np.int8), np.full(300_000, 127, np.int8)])
    assert squared_distances(deltas).tolist() == [[0, 300_000 * 255**2], [300_000 * 255**2, 0]]
