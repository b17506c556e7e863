"""Episodes of a task of a table."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonprior.tasks._encode import Encoded
from commonprior.tasks._pool import TablePool, quotas


def pool(groups, y=None, classes=0):
    """A pool whose one input is the number of the row's group, plus one."""
    groups = np.asarray(groups)
    n = len(groups)
    rows = Encoded((groups[:, None] + 1).astype(np.float32), np.ones((n, 1), bool), (), np.zeros((n, 0), np.int32))
    y = np.arange(n, dtype=np.float32) + 1 if y is None else np.asarray(y, np.int32)
    return TablePool("task", rows, np.arange(n), y, np.unique(groups, return_inverse=True)[1], classes)


def drawn(batch):
    return batch.x.values[batch.mask > 0, 0]


@given(
    groups=st.lists(st.integers(0, 8), min_size=1, max_size=30),
    shots=st.integers(1, 20),
    queries=st.integers(1, 20),
    seed=st.integers(0, 99),
    classes=st.sampled_from([0, 3]),
)
def test_support_and_query_are_disjoint_padded_and_never_without_a_query(groups, shots, queries, seed, classes):
    y = np.random.default_rng(seed).integers(0, 3, len(groups)) if classes else None
    task = pool(groups, y, classes).episode(np.random.default_rng(seed), shots, queries)
    for batch, length in ((task.support, shots), (task.query, queries)):
        n = int(batch.mask.sum())
        assert batch.y.shape == batch.mask.shape == (length,)
        assert batch.mask.tolist() == [1] * n + [0] * (length - n)
        assert batch.x.values.shape == (length, 1)
        assert not batch.x.values[n:].any()
        assert not batch.x.present[n:].any()
        assert not batch.y[n:].any()
    support, query = set(drawn(task.support)), set(drawn(task.query))
    assert not support & query
    assert support
    assert query or len(set(groups)) == 1
    if classes == 0:
        y = np.concatenate([task.support.y[task.support.mask > 0], task.query.y[task.query.mask > 0]])
        assert len(set(y)) == len(y)


def test_rows_and_labels_stay_together():
    task = pool(np.arange(50)).episode(np.random.default_rng(0), 10, 20)
    np.testing.assert_array_equal(task.support.x.values[:, 0], task.support.y)
    np.testing.assert_array_equal(task.query.x.values[:, 0], task.query.y)


def test_the_query_is_the_rest():
    task = pool(np.arange(10)).episode(np.random.default_rng(0), 4, 10)
    assert sorted([*drawn(task.support), *drawn(task.query)]) == list(range(1, 11))


def test_every_row_is_equally_likely_in_the_support():
    many = pool(np.arange(10))
    rng = np.random.default_rng(0)
    seen = np.concatenate([drawn(many.episode(rng, 3, 1).support) for _ in range(2000)])
    assert np.bincount(seen.astype(int))[1:] == pytest.approx(600, abs=100)


def test_supports_of_one_draw_are_nested():
    many = pool(np.arange(40))
    small = drawn(many.episode(np.random.default_rng(5), 4, 1).support)
    large = drawn(many.episode(np.random.default_rng(5), 16, 1).support)
    assert set(small) < set(large)


def test_every_class_is_in_the_support_where_shots_allow():
    y = np.array([0] * 95 + [1] * 4 + [2])
    rare = pool(np.arange(100), y, 3)
    for seed in range(50):
        task = rare.episode(np.random.default_rng(seed), 3, 10)
        assert sorted(task.support.y) == [0, 1, 2]
        assert task.support.y.dtype == np.int32
        task = rare.episode(np.random.default_rng(seed), 40, 10)
        assert np.bincount(task.support.y).tolist() == [38, 1, 1]


def test_a_row_is_spared_from_a_class_that_has_more():
    scarce = pool(np.arange(4), [0, 0, 0, 1], 2)
    for seed in range(20):
        task = scarce.episode(np.random.default_rng(seed), 10, 10)
        assert sorted(task.support.y[task.support.mask > 0]) == [0, 0, 1]
        assert task.query.y[task.query.mask > 0].tolist() == [0]


def test_two_rows_of_two_classes_still_leave_a_query():
    task = pool([0, 1], [0, 1], 2).episode(np.random.default_rng(0), 5, 5)
    assert (task.support.mask.sum(), task.query.mask.sum()) == (1, 1)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8).filter(any), st.integers(1, 60), st.integers(0, 9))
def test_quotas_share_in_proportion(sizes, shots, seed):
    quota = quotas(np.array(sizes), shots, np.random.default_rng(seed))
    total = min(shots, sum(sizes))
    assert quota.sum() == total
    assert (quota <= sizes).all()
    assert (quota >= 0).all()
    present = np.array(sizes) > 0
    if present.sum() <= total:
        assert (quota[present] > 0).all()
    assert (np.abs(quota - total * np.array(sizes) / sum(sizes)) < 1 + present.sum()).all()
