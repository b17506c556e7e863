"""A site's work in a round: exact where it is one plain step, an optimiser's where it is more."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from commonprior.errors import RecipeError
from commonprior.learners._local import LocalWork
from commonprior.learners._server import ServerStep
from commonprior.learners.dkt import Dkt
from commonprior.learners.maml import Maml
from commonprior.networks.mlp import Mlp
from commonprior.prior import flatten
from commonprior.sampling import learning_key
from commonprior.task import Batch, Target, Task, TaskSpec

SPEC = TaskSpec(Target(scaling="public"), shape=(2,))
KEY = learning_key(0)


def tasks(m):
    rng = np.random.default_rng(m)
    x = rng.normal(size=(m, 12, 2)).astype(np.float32)
    batch = Batch(x, np.sin(x).sum(-1).astype(np.float32), np.ones((m, 12), np.float32))
    return Task(jax.tree.map(lambda a: a[:, :5], batch), jax.tree.map(lambda a: a[:, 5:], batch))


def loss_of(learner, tasks):
    return lambda params: jax.vmap(learner.meta_loss, (None, 0))(params, tasks).mean()


@pytest.mark.parametrize("make", [Maml, Dkt])
def test_the_mean_over_tasks_and_sites_is_the_step_of_pooled_data(make):
    learner = make(Mlp((6,), "tanh"), local=LocalWork(rate=0.3), server=ServerStep("mean", 1.0))
    with jax.enable_x64(True):
        everyone = jax.tree.map(lambda leaf: leaf.astype(np.float64), tasks(6))
        prior = learner.init(SPEC, KEY)
        prior = prior._replace(params={name: value.astype(np.float64) for name, value in prior.params.items()})
        sites = [jax.tree.map(lambda leaf, s=s: leaf[s], everyone) for s in (slice(2), slice(2, 6))]
        rows = [learner.contribute(prior, site, {}, KEY)[0] for site in sites]
        assert [r.unit for r in rows] == ["task", "task"]
        update = np.concatenate([r.rows for r in rows]).mean(0)
        pooled = jax.grad(loss_of(learner, everyone))(prior.params)
        np.testing.assert_allclose(update, -0.3 * flatten(pooled), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("optimiser", "optax_optimiser"),
    [("sgd", optax.sgd(0.05)), ("momentum", optax.sgd(0.05, momentum=0.9)), ("adam", optax.adam(0.05))],
)
@pytest.mark.parametrize(
    ("m", "turns"),
    [(6, [[0, 1], [2, 3], [4, 5]]), (7, [[0, 1, 2], [3, 4, 5], [6, 0, 1]]), (2, [[0], [1], [0]]), (1, [[0]] * 3)],
)
def test_more_steps_are_an_optimiser_on_the_tasks_in_turn(m, turns, optimiser, optax_optimiser):
    learner = Maml(Mlp((6,), "tanh"), local=LocalWork(3, optimiser, 0.05))
    prior, everyone = learner.init(SPEC, KEY), tasks(m)
    contributions, _ = learner.contribute(prior, everyone, {}, KEY)
    params = jax.tree.map(jnp.asarray, dict(prior.params))
    state = optax_optimiser.init(params)
    for turn in turns:
        batch = jax.tree.map(lambda leaf, turn=turn: leaf[np.array(turn)], everyone)
        updates, state = optax_optimiser.update(jax.grad(loss_of(learner, batch))(params), state)
        params = optax.apply_updates(params, updates)
    assert contributions.unit == "site"
    np.testing.assert_allclose(contributions.rows[0], flatten(params) - flatten(prior.params), rtol=1e-3, atol=1e-5)


def test_an_averaged_row_is_the_mean_of_the_tasks_rows():
    each, mean = (Maml(Mlp((6,), "tanh"), local=LocalWork(rate=0.3, averaged=a)) for a in (False, True))
    prior, everyone = each.init(SPEC, KEY), tasks(5)
    rows, row = (learner.contribute(prior, everyone, {}, KEY)[0] for learner in (each, mean))
    assert (rows.unit, row.unit) == ("task", "site")
    np.testing.assert_allclose(row.rows, rows.rows.mean(0, keepdims=True), rtol=1e-4, atol=1e-7)


def test_a_single_step_with_a_memory_still_mixes_the_tasks():
    learner = Maml(Mlp((6,)), local=LocalWork(1, "adam"))
    contributions, _ = learner.contribute(learner.init(SPEC, KEY), tasks(4), {}, KEY)
    assert contributions.unit == "site"
    assert len(contributions.rows) == 1


@pytest.mark.parametrize(("field", "value"), [("steps", 0), ("rate", 0.0), ("rate", float("nan"))])
def test_refuses_what_makes_no_sense(field, value):
    with pytest.raises(RecipeError, match=rf"local\.{field} = "):
        LocalWork(**{field: value})


@pytest.mark.parametrize("local", [LocalWork(clip=0.01), LocalWork(averaged=True, clip=0.01)])
def test_a_clip_bounds_each_gradient(local):
    learner, everyone = Maml(Mlp((6,), "tanh"), local=local), tasks(3)
    prior = learner.init(SPEC, KEY)
    rows = learner.contribute(prior, everyone, {}, KEY)[0].rows / -local.rate
    free = dataclasses.replace(learner, local=dataclasses.replace(local, clip=0.0))
    expected = free.contribute(prior, everyone, {}, KEY)[0].rows / -local.rate
    norms = np.linalg.norm(expected, axis=1, keepdims=True)
    assert (norms > 0.01).all()
    np.testing.assert_allclose(rows, expected * 0.01 / norms, rtol=1e-4)


def test_under_a_clip_a_task_that_diverges_counts_as_none_and_without_one_shows():
    everyone = tasks(3)
    everyone.support.x[1] *= 1e15
    for clip, finite in ((0.0, False), (1.0, True)):
        learner = Maml(Mlp((6,), "relu"), inner_steps=5, local=LocalWork(clip=clip))
        rows = learner.contribute(learner.init(SPEC, KEY), everyone, {}, KEY)[0].rows
        assert np.isfinite(rows[[0, 2]]).all()
        assert np.isfinite(rows[1]).all() == finite
        assert not finite or not rows[1].any()


def test_a_clip_holds_in_every_step_of_an_optimiser():
    learner = Maml(Mlp((6,), "tanh"), local=LocalWork(3, "sgd", 0.5, clip=0.01))
    row = learner.contribute(learner.init(SPEC, KEY), tasks(6), {}, KEY)[0].rows[0]
    assert 0 < np.linalg.norm(row) <= 3 * 0.5 * 0.01 * (1 + 1e-5)


def test_a_clip_below_nothing_is_refused():
    with pytest.raises(RecipeError, match=r"local.clip = -1.0: expected a norm above 0, or 0 for none"):
        LocalWork(clip=-1.0)
