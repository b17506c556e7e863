import copy
import pickle
from dataclasses import dataclass
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonprior.errors import ModelError
from commonprior.learners import Learner
from commonprior.predictor import LearnedPrior, Predictor, predict_task, predict_tasks, spans
from commonprior.prior import Contributions, Prior
from commonprior.sampling import learning_key
from commonprior.task import (
    Batch,
    Categorical,
    Column,
    Gaussian,
    Rows,
    Target,
    Task,
    TaskSpec,
    log_likelihood,
    standardise,
    unscale,
)

LINE = TaskSpec(Target(), shape=(1,))


@dataclass(frozen=True)
class Slope(Learner):
    """A line through 0: a few steps of gradient descent on its slope; the keys jitter it and its predictions."""

    steps: int = 3
    jitter: float = 0.0

    def init(self, spec, key):
        return Prior({"slope": np.ones(1, np.float32)})

    def length(self, prior):
        return 1

    def adapt(self, prior, support, key, start=None):
        slope = jnp.asarray(prior.params["slope"] if start is None else start)
        for _ in range(self.steps):
            residual = support.mask * (support.x[:, 0] * slope - support.y)
            slope = slope - 0.3 * (residual * support.x[:, 0]).sum() / jnp.maximum(support.mask.sum(), 1)
        return slope + (self.jitter * jax.random.normal(key, (1,)) if self.jitter else 0.0)

    def predict(self, prior, adapted, x, key):
        mean = x[:, 0] * adapted + self.jitter * jax.random.normal(key, x.shape[:1])
        return Gaussian(mean, jnp.full(x.shape[0], 0.25))

    def contribute(self, prior, tasks, memory, key):
        return Contributions(np.zeros((len(tasks.support.y), 1)), "task"), memory

    def apply(self, prior, mean, key):
        return prior


@dataclass(frozen=True)
class Shares(Slope):
    """Every sample gets the logarithms of the support's class shares."""

    def adapt(self, prior, support, key, start=None):
        return jnp.log((support.mask[:, None] * jax.nn.one_hot(support.y, 3)).sum(0) + 1)

    def predict(self, prior, adapted, x, key):
        return Categorical(jnp.broadcast_to(adapted, (x.shape[0], 3)))


class Watched(Predictor):
    """Notes how many tasks it is given at a time."""

    def __init__(self):
        self.sizes = []

    def adapt(self, supports, keys):
        self.sizes.append(len(supports.y))
        return np.asarray(supports.y).mean(1)

    def predict(self, adapted, x, keys):
        mean = np.broadcast_to(adapted[:, None], x.shape[:2])
        return Gaussian(mean, np.ones_like(mean))


def learned(learner=None, spec=LINE):
    learner = learner or Slope()
    return LearnedPrior(learner, learner.init(spec, None), spec)


def lines(tasks, shots=6, queries=4, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(tasks, shots + queries, 1)).astype(np.float32)
    y = (x[..., 0] * rng.normal(size=(tasks, 1)) * 40 + 100).astype(np.float32)
    support = Batch(x[:, :shots], y[:, :shots], np.ones((tasks, shots), np.float32))
    return support, x[:, shots:], y[:, shots:]


def keys_of(tasks, seed=0):
    return jnp.stack([learning_key(seed, i) for i in range(tasks)])


def test_a_stack_of_tasks_is_what_each_task_gives_by_hand():
    support, x, _ = lines(5)
    got = predict_tasks(learned(), support, x, keys_of(5))
    assert isinstance(got.mean, np.ndarray)
    for i in range(5):
        one = Batch(support.x[i], support.y[i], support.mask[i])
        task, scale = standardise(Task(one, one), LINE.target)
        slope = Slope().adapt(Prior({"slope": np.ones(1)}), task.support, None)
        expected = unscale(Slope().predict(None, slope, x[i], keys_of(1)[0]), scale)
        np.testing.assert_allclose(got.mean[i], expected.mean, rtol=1e-5)
        np.testing.assert_allclose(got.variance[i], expected.variance, rtol=1e-5)
        alone = predict_task(learned(), one, x[i], keys_of(5)[i])
        np.testing.assert_allclose(alone.mean, got.mean[i], rtol=1e-5)


@pytest.mark.parametrize("memory", [1, 500, 700, 1 << 20])
def test_memory_bounds_a_chunk_and_changes_nothing(memory):
    support, x, _ = lines(7)
    each = sum(leaf.nbytes for leaf in (*support, x)) // 7
    predictor = learned(Slope(jitter=1.0))
    whole = predict_tasks(predictor, support, x, keys_of(7))
    cut = predict_tasks(predictor, support, x, keys_of(7), memory)
    np.testing.assert_allclose(cut.mean, whole.mean, rtol=1e-6)
    watched = Watched()
    mean = predict_tasks(watched, support, x, keys_of(7), memory).mean
    np.testing.assert_allclose(mean[:, 0], support.y.mean(1))
    assert len(set(watched.sizes)) == 1
    assert watched.sizes[0] <= max(1, memory // each)


def test_a_task_draws_from_its_own_key_wherever_it_stands():
    support, x, _ = lines(3)
    predictor = learned(Slope(jitter=1.0))
    forward = predict_tasks(predictor, support, x, keys_of(3)).mean
    turned = jax.tree.map(lambda leaf: leaf[::-1], (support, x, keys_of(3)))
    np.testing.assert_allclose(predict_tasks(predictor, *turned).mean[::-1], forward, rtol=1e-6)
    assert not np.allclose(predict_tasks(predictor, support, x, keys_of(3, seed=1)).mean, forward)


def test_predictions_follow_the_units_of_the_labels():
    support, x, _ = lines(2)
    metres = predict_tasks(learned(), support, x, keys_of(2))
    millimetres = predict_tasks(learned(), support._replace(y=support.y * 1000), x, keys_of(2))
    np.testing.assert_allclose(millimetres.mean, metres.mean * 1000, rtol=1e-4)
    np.testing.assert_allclose(millimetres.variance, metres.variance * 1e6, rtol=1e-4)


def test_padded_rows_change_nothing():
    support, x, _ = lines(2)
    padded = Batch(
        *(np.pad(leaf, [(0, 0), (0, 3)] + [(0, 0)] * (leaf.ndim - 2), constant_values=9) for leaf in support)
    )
    padded.mask[:, -3:] = 0
    a, b = (predict_tasks(learned(), s, x, keys_of(2)) for s in (support, padded))
    np.testing.assert_allclose(a.mean, b.mean, rtol=1e-5)


def test_going_on_starts_from_the_earlier_state_and_keeps_its_scale():
    support, x, _ = lines(2, shots=6)
    first, second = (Batch(*(leaf[:, part] for leaf in support)) for part in (slice(3), slice(3, 6)))
    predictor = learned()
    once = predictor.adapt(first, keys_of(2))
    twice = predictor.adapt(second, keys_of(2), once)
    np.testing.assert_array_equal(twice.scale.centre, once.scale.centre)
    task, scale = standardise(Task(first, second), LINE.target)
    expected = [
        Slope().adapt(None, Batch(*(leaf[i] for leaf in task.query)), None, np.asarray(once.state)[i]) for i in range(2)
    ]
    np.testing.assert_allclose(twice.state, expected, rtol=1e-5)
    assert not np.allclose(twice.state, once.state)


def test_classes_need_no_scale():
    spec = TaskSpec(Target(kind="classification", classes=("a", "b", "c")), shape=(1,))
    support = Batch(np.zeros((1, 4, 1)), np.array([[0, 2, 2, 1]]), np.array([[1.0, 1, 1, 0]]))
    got = predict_tasks(learned(Shares(), spec), support, np.zeros((1, 5, 1)), keys_of(1))
    np.testing.assert_allclose(got.logits, np.broadcast_to(np.log([2, 1, 3]), (1, 5, 3)), rtol=1e-6)
    query = Batch(None, np.array([[2, 0, 2, 2, 2]]), np.array([[1, 1, 0, 0, 0]]))
    np.testing.assert_allclose(log_likelihood(got, query)[0, :2], np.log([3 / 6, 2 / 6]), rtol=1e-5)


def test_inputs_that_the_prior_was_not_made_for_are_one_sentence():
    support, x, _ = lines(2)
    with pytest.raises(ModelError, match=r"x: expected samples of shape \(1,\), got an array of shape \(2, 4, 2\)"):
        predict_tasks(learned(), support, np.zeros((2, 4, 2)), keys_of(2))
    table = TaskSpec(Target(), (Column("a"), Column("b")))
    with pytest.raises(ModelError, match="support: expected Rows inputs, got ndarray"):
        predict_tasks(learned(spec=table), support, x, keys_of(2))
    rows = Rows(np.zeros((2, 6, 3)), np.zeros((2, 6, 2)), np.zeros((2, 6, 0)))
    with pytest.raises(ModelError, match=r"support\.values: expected samples of shape \(2,\)"):
        predict_tasks(learned(spec=table), support._replace(x=rows), x, keys_of(2))


def test_a_learned_prior_can_be_copied_and_sent():
    prior = Prior(MappingProxyType({"slope": np.ones(1, np.float32)}))
    predictor = LearnedPrior(Slope(), prior, LINE)
    assert copy.deepcopy(predictor) is predictor
    sent = pickle.loads(pickle.dumps(predictor))
    assert sent.prior.hash() == prior.hash()


@given(st.integers(0, 200), st.integers(1, 50))
def test_spans_cover_every_row_once_in_equal_lengths(total, at_most):
    covered, lengths = [], set()
    for rows, held in spans(total, at_most):
        lengths.add(rows.stop - rows.start)
        covered += list(range(rows.start, rows.stop))[held:]
    assert covered == list(range(total))
    assert len(lengths) == (total > 0)
    assert all(length <= at_most for length in lengths)
