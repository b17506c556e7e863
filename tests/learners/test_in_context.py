"""In-context learning: columns are what they are called, wherever they stand and whoever has them."""

import jax
import numpy as np
import pytest

from commonprior.errors import ModelError, RecipeError
from commonprior.learners.in_context import InContext
from commonprior.sampling import learning_key
from commonprior.task import Batch, Column, Rows, Target, Task, TaskSpec

KEY = learning_key(0)
LEARNER = InContext(width=4, heads=2, blocks=2)
COLUMNS = (Column("size", unit="nm"), Column("solvent", "categorical", slots=2, categories=("water", "oil")),
           Column("dose"), Column("compound", "formula", slots=5))  # fmt: skip
SPEC = TaskSpec(Target(scaling="public"), COLUMNS)
TURNED = TaskSpec(SPEC.target, tuple(COLUMNS[i] for i in (3, 2, 0, 1)))


def batch(n, seed=0):
    rng = np.random.default_rng(seed)
    present = (rng.random((n, 4)) > 0.2).astype(np.float32)
    values = rng.normal(size=(n, 4)).astype(np.float32) * present[:, [0, 1, 1, 2]]
    counts = rng.integers(0, 4, (n, 5)).astype(np.float32) * present[:, 3:]
    return Batch(Rows(values, present, counts), rng.normal(size=n).astype(np.float32), np.ones(n, np.float32))


def turned(x):
    return Rows(x.values[:, [3, 0, 1, 2]], x.present[:, [3, 2, 0, 1]], x.counts)


@jax.jit
def answer(prior, support, x):
    return LEARNER.predict(prior, LEARNER.adapt(prior, support, KEY), x, KEY)


def assert_same(got, expected):
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_a_permutation_of_the_columns_changes_no_prediction_and_no_contribution():
    support, query = batch(5), batch(4, 1)
    first, second = LEARNER.init(SPEC, KEY), LEARNER.init(TURNED, KEY)
    assert all((first.params[name] == second.params[name]).all() for name in first.params)
    other = support._replace(x=turned(support.x)), query._replace(x=turned(query.x))
    assert_same(answer(second, other[0], other[1].x), answer(first, support, query.x))
    rows = [LEARNER.contribute(prior, jax.tree.map(lambda leaf: leaf[None], Task(*task)), {}, KEY)[0].rows
            for prior, task in ((first, (support, query)), (second, other))]  # fmt: skip
    np.testing.assert_allclose(rows[1], rows[0], rtol=1e-2, atol=1e-4 * np.abs(rows[0]).max())


def test_a_prior_takes_columns_that_it_was_not_learned_with():
    support, query = batch(5), batch(4, 1)
    prior = LEARNER.init(SPEC, KEY)
    wider = TaskSpec(SPEC.target, (*COLUMNS, Column("time", unit="h")))
    other = LEARNER.init(wider, KEY)._replace(params=prior.params)

    def with_time(x, value, known):
        add = np.full((len(x.values), 1), value, np.float32)
        return Rows(np.hstack([x.values, add]), np.hstack([x.present, np.full_like(add, known)]), x.counts)

    absent = support._replace(x=with_time(support.x, 0, 0))
    assert_same(answer(other, absent, with_time(query.x, 0, 0)), answer(prior, support, query.x))
    there = answer(other, support._replace(x=with_time(support.x, 2, 1)), with_time(query.x, 1, 1))
    assert np.abs(there.mean - answer(prior, support, query.x).mean).max() > 1e-3


def test_going_on_is_as_having_seen_all_samples_at_once():
    prior, first, second, query = LEARNER.init(SPEC, KEY), batch(4), batch(3, 1), batch(5, 2)
    both = jax.tree.map(lambda a, b: np.concatenate([a, b]), first, second)
    adapt = jax.jit(LEARNER.adapt)
    gone_on = adapt(prior, second, KEY, adapt(prior, first, KEY))
    assert_same(jax.jit(LEARNER.predict)(prior, gone_on, query.x, KEY), answer(prior, both, query.x))


def test_the_parameters_do_not_depend_on_the_columns():
    few = LEARNER.init(TaskSpec(SPEC.target, COLUMNS[:1]), KEY)
    assert LEARNER.length(few) == LEARNER.length(LEARNER.init(SPEC, KEY))


def test_the_server_step_keeps_the_columns():
    prior = LEARNER.init(SPEC, KEY)
    new = LEARNER.apply(prior, np.ones(LEARNER.length(prior)), KEY)
    assert all((new.state[name] == prior.state[name]).all() for name in ("layout/columns", "layout/slots"))


def test_inputs_of_too_many_numbers_are_refused():
    with pytest.raises(ModelError, match="784 columns to attend to, expected 1 to 256"):
        LEARNER.init(TaskSpec(Target(), shape=(28, 28)), KEY)


@pytest.mark.parametrize("fields", [{"width": 6, "heads": 4}, {"heads": 0}, {"blocks": 0}])
def test_refuses_what_makes_no_sense(fields):
    with pytest.raises(RecipeError, match="expected"):
        InContext(**fields)
