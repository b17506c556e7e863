"""The implicit gradient against finite differences of the bilevel objective, and against MAML's where the two meet."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from commonprior.errors import ModelError, RecipeError
from commonprior.learners import _objective
from commonprior.learners._local import LocalWork
from commonprior.learners.imaml import Imaml, _conjugate_gradient
from commonprior.learners.maml import Maml
from commonprior.networks.mlp import Mlp
from commonprior.prior import flatten, unflatten
from commonprior.sampling import learning_key
from commonprior.task import Batch, Target, Task, TaskSpec

SPEC = TaskSpec(Target(scaling="public"), shape=(1,))
BLOBS = TaskSpec(Target(kind="classification", classes=("a", "b", "c")), shape=(1,))
KEY = learning_key(0)
NETWORK = Mlp((5, 4), "tanh")


def one_task(spec, shots=6, queries=9):
    rng = np.random.default_rng(1)
    x = rng.uniform(-3, 3, (shots + queries, 1))
    y = 2 * np.sin(x[:, 0]) if spec is SPEC else rng.integers(3, size=shots + queries)
    mask = np.ones(shots + queries)
    mask[[2, -1]] = 0
    return Task(Batch(x[:shots], y[:shots], mask[:shots]), Batch(x[shots:], y[shots:], mask[shots:]))


def prior_of(learner, spec):
    rng, prior = np.random.default_rng(2), learner.init(spec, KEY)
    return prior._replace(params={n: v + 0.3 * rng.normal(size=v.shape) for n, v in prior.params.items()})


def gradient(learner, prior, task):
    rows = learner.contribute(prior, jax.tree.map(lambda leaf: leaf[None], task), {}, KEY)[0].rows
    return -rows[0] / learner.local.rate


@pytest.mark.parametrize("spec", [SPEC, BLOBS], ids=["regression", "classification"])
@pytest.mark.parametrize("adapts", [("",), ("head",)])
def test_the_implicit_gradient_is_that_of_the_bilevel_objective(spec, adapts):
    learner = Imaml(NETWORK, 2000, 0.1, pull=3.0, solver_steps=60, adapts=adapts, local=LocalWork(rate=1.0))
    with jax.enable_x64(True):
        prior, task = prior_of(learner, spec), one_task(spec)
        implicit = gradient(learner, prior, task)
        at, h = flatten(prior.params), 1e-5

        def loss(vector):
            new = unflatten(vector, prior.params)
            adapted = learner.adapt(prior._replace(params=new), task.support, KEY)
            return _objective.fit(NETWORK, {**new, **adapted}, task.query)

        losses = jax.jit(jax.vmap(loss))
        slopes = np.asarray(losses(at + h * np.eye(len(at))) - losses(at - h * np.eye(len(at)))) / (2 * h)
    learned = len(at) - ("noise" in prior.params)
    np.testing.assert_allclose(implicit[:learned], slopes[:learned], rtol=2e-6, atol=1e-8)
    assert np.abs(slopes[:learned]).min() > 0


def test_a_strong_pull_makes_it_a_step_of_maml():
    """At rate 1 / pull, MAML's one step is the inner solution, and its gradient the implicit one, up to 1 / pull²."""
    apart, first = [], []
    with jax.enable_x64(True):
        for pull in (200.0, 400.0):
            ours = Imaml(NETWORK, 400, 0.9 / pull, pull, 30, local=LocalWork(rate=1.0))
            maml = Maml(NETWORK, 1, 1 / pull, local=LocalWork(rate=1.0))
            short = Maml(NETWORK, 1, 1 / pull, first_order=True, local=LocalWork(rate=1.0))
            prior, task = prior_of(ours, SPEC), one_task(SPEC)
            implicit = gradient(ours, prior, task)
            apart.append(np.abs(implicit - gradient(maml, prior, task)).max())
            first.append(np.abs(implicit - gradient(short, prior, task)).max())
    assert apart[0] / apart[1] == pytest.approx(4, rel=0.1)
    assert first[0] / first[1] == pytest.approx(2, rel=0.1)


def test_conjugate_gradient_solves_and_never_follows_a_negative_curvature():
    rng = np.random.default_rng(0)
    half = rng.normal(size=(6, 6))
    with jax.enable_x64(True):
        b = {"x": jnp.asarray(rng.normal(size=4)), "y": jnp.asarray(rng.normal(size=2))}
        stacked = flatten(b)

        def times(matrix):
            return lambda v: unflatten(matrix @ jnp.concatenate([v["x"], v["y"]]), b)

        positive = half @ half.T + np.eye(6)
        solved = _conjugate_gradient(times(positive), b, 12)
        np.testing.assert_allclose(flatten(solved), np.linalg.solve(positive, stacked), rtol=1e-8)
        stayed = _conjugate_gradient(times(-positive), b, 12)
        assert not flatten(stayed).any()


def test_its_memory_does_not_grow_with_the_steps():
    task = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), one_task(SPEC))
    params = Imaml(NETWORK).init(SPEC, KEY).params

    def peak(steps):
        compiled = jax.jit(jax.grad(Imaml(NETWORK, steps).meta_loss)).lower(params, task).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert 0 < peak(100) <= 1.1 * peak(5)


def test_going_on_pulls_towards_where_it_was():
    learner = Imaml(NETWORK, 400, 0.1, pull=2.0)
    prior, support = learner.init(SPEC, KEY), jax.tree.map(np.float32, one_task(SPEC).support)
    first = learner.adapt(prior, support, KEY)
    nothing_new = learner.adapt(prior, support._replace(mask=np.zeros_like(support.mask)), KEY, first)
    assert all(jnp.allclose(first[name], nothing_new[name]) for name in first)


def test_refuses_what_makes_no_sense():
    for field, value in (("inner_steps", 0), ("solver_steps", 0), ("inner_rate", 0.0), ("pull", float("nan"))):
        with pytest.raises(RecipeError, match=f"{field} = "):
            Imaml(NETWORK, **{field: value})
    with pytest.raises(RecipeError, match=r"below 2, or the pull .* an inner_rate below 0\.2"):
        Imaml(NETWORK, inner_rate=0.2, pull=10.0)
    with pytest.raises(ModelError, match="begins with 'tail'"):
        Imaml(NETWORK, adapts=("tail",)).init(SPEC, KEY)
