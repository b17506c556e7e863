"""Evolution strategies: directions that are what they should be, and a step that finite differences confirm."""

import jax
import numpy as np
import pytest

from commonprior.errors import ModelError, RecipeError
from commonprior.learners._server import ServerStep
from commonprior.learners.evolution import Evolution
from commonprior.networks.mlp import Mlp
from commonprior.prior import flatten, unflatten
from commonprior.sampling import learning_key
from commonprior.task import Batch, Target, Task, TaskSpec

LINES = TaskSpec(Target(scaling="public"), shape=(1,))
KEY = learning_key(0)
NETWORK = Mlp((2,), "tanh")  # 7 weights and the noise: 8 parameters, which fill a Hadamard matrix


def task(dtype=np.float32):
    x = np.linspace(-2, 2, 12, dtype=dtype)[:, None]
    everything = Batch(x, np.sin(x[:, 0]), np.ones(12, dtype))
    return Task(*(jax.tree.map(lambda leaf, s=s: leaf[s], everything) for s in (slice(0, 12, 2), slice(1, 12, 2))))


def test_directions_are_signs_and_orthogonal_and_new_in_each_round():
    learner = Evolution(NETWORK, directions=8)
    prior = learner.init(LINES, KEY)
    seen = []
    for _ in range(3):
        signs = learner.signs(prior).astype(int)
        assert set(np.unique(signs)) == {-1, 1}
        assert (signs @ signs.T == 8 * np.eye(8)).all()
        seen.append(signs.tolist())
        prior = learner.apply(prior, np.zeros(8), None)
    assert seen[0] != seen[1] != seen[2] != seen[0]
    assert learner.signs(learner.init(LINES, KEY)).tolist() == seen[0]
    assert Evolution(NETWORK, directions=8, seed=1).signs(learner.init(LINES, KEY)).tolist() != seen[0]


def test_directions_share_little_where_the_parameters_do_not_fill_the_matrix():
    learner = Evolution(Mlp((20,), "tanh"), directions=32)  # 62 parameters of 64
    signs = learner.signs(learner.init(LINES, KEY)).astype(int)
    assert signs.shape == (32, 62)
    assert np.abs(signs @ signs.T - 62 * np.eye(32)).max() <= 2
    assert len({tuple(row) for row in signs.tolist()}) == 32


@pytest.mark.parametrize("inner", ["descent", "search"])
def test_with_as_many_directions_as_parameters_the_improvement_is_minus_the_gradient(inner):
    learner = Evolution(NETWORK, directions=8, reach=1e-4, bound=1e6, inner=inner, inner_steps=3)
    with jax.enable_x64(True):
        start = learner.init(LINES, KEY)
        rng = np.random.default_rng(0)
        prior = start._replace(params={n: v + 0.3 * rng.normal(size=v.shape) for n, v in sorted(start.params.items())})
        one = task(np.float64)
        rows = learner.contribute(prior, jax.tree.map(lambda leaf: leaf[None], one), {}, KEY)[0].rows
        at, h = flatten(prior.params), 1e-5

        def loss(vector):
            return learner.loss(unflatten(vector, prior.params), one, KEY)

        losses = jax.jit(jax.vmap(loss))
        slopes = np.asarray(losses(at + h * np.eye(8)) - losses(at - h * np.eye(8))) / (2 * h)
    np.testing.assert_allclose(learner.improvement(prior, rows.mean(0)), -slopes, rtol=1e-4, atol=1e-6)
    assert np.abs(slopes).max() > 0.01


def test_the_step_is_exact_arithmetic_on_signs_and_scores():
    learner = Evolution(NETWORK, directions=4, server=ServerStep("mean", 0.5))
    prior = learner.init(LINES, KEY)
    mean = np.array([0.5, -0.25, 2.0, 1.0])
    expected = sum(float(score) * row.astype(float) for score, row in zip(mean, learner.signs(prior))) / 4
    new = learner.apply(prior, mean, None)
    assert (flatten(new.params) == (flatten(prior.params) + 0.5 * expected).astype(np.float32)).all()
    assert new.state["evolution/round"] == 1


def test_a_wild_task_counts_no_more_than_the_bound():
    learner = Evolution(NETWORK, directions=8, bound=0.3)
    wild = task()
    wild = wild._replace(query=wild.query._replace(y=1e6 * wild.query.y))
    rows = learner.contribute(learner.init(LINES, KEY), jax.tree.map(lambda leaf: leaf[None], wild), {}, KEY)[0].rows
    assert np.abs(rows).max() == np.float32(0.3)


def test_search_never_makes_the_support_worse():
    from commonprior.learners import _objective

    learner = Evolution(NETWORK, inner="search", inner_steps=20, inner_rate=0.1)
    prior, support = learner.init(LINES, KEY), task().support
    before = _objective.fit(NETWORK, prior.params, support)
    after = _objective.fit(NETWORK, {**prior.params, **learner.adapt(prior, support, KEY)}, support)
    assert after < before


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("directions", 0),
        ("reach", 0.0),
        ("bound", float("nan")),
        ("inner_steps", 0),
        ("inner_rate", -1.0),
        ("seed", -1),
    ],
)
def test_refuses_what_makes_no_sense(field, value):
    with pytest.raises(RecipeError, match=f"{field} = "):
        Evolution(NETWORK, **{field: value})


def test_scores_of_another_number_of_directions_are_refused():
    learner = Evolution(NETWORK, directions=8)
    with pytest.raises(ModelError, match="expected 8 mean scores"):
        learner.apply(learner.init(LINES, KEY), np.zeros(7), None)
