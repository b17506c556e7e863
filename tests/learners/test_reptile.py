"""Reptile's rows against the algorithm written out."""

import dataclasses

import jax
import numpy as np
import pytest

from commonprior.errors import RecipeError
from commonprior.learners.reptile import Reptile
from commonprior.networks.mlp import Mlp
from commonprior.prior import flatten, unflatten
from commonprior.sampling import learning_key
from commonprior.task import Batch, Target, Task, TaskSpec

SPEC = TaskSpec(Target(scaling="public"), shape=(1,))
KEY = learning_key(0)
NETWORK = Mlp((6,), "tanh")
LEARNER = Reptile(NETWORK, inner_steps=3, inner_rate=0.05)


def tasks(m=2, shots=4, queries=6):
    x = np.random.default_rng(0).uniform(-3, 3, (m, shots + queries, 1)).astype(np.float32)
    y = 2 * np.sin(x[..., 0])
    mask = np.ones_like(y)
    return Task(Batch(x[:, :shots], y[:, :shots], mask[:, :shots]), Batch(x[:, shots:], y[:, shots:], mask[:, shots:]))


def descended(params, x, y):
    def loss(p):
        return ((NETWORK.apply(p, x)[:, 0] - y) ** 2).mean()

    for _ in range(LEARNER.inner_steps):
        slope = jax.grad(loss)(params)
        params = {name: params[name] - LEARNER.inner_rate * slope[name] for name in params}
    return params


def test_a_row_is_what_the_task_would_have_instead_of_the_prior():
    prior, two = LEARNER.init(SPEC, KEY), tasks()
    contributions, _ = LEARNER.contribute(prior, two, {}, KEY)
    start = {name: value for name, value in prior.params.items() if name != "noise"}
    assert contributions.unit == "task"
    for i, row in enumerate(contributions.rows):
        s, q = (jax.tree.map(lambda leaf, i=i: leaf[i], part) for part in two)
        new = descended(start, np.concatenate([s.x, q.x]), np.concatenate([s.y, q.y]))
        got = unflatten(row, prior.params)
        noise = got.pop("noise")
        np.testing.assert_allclose(flatten(got), flatten(new) - flatten(start), rtol=1e-3, atol=1e-6)
        held_out = ((NETWORK.apply(descended(start, s.x, s.y), q.x)[:, 0] - q.y) ** 2).mean()
        assert noise[0] == pytest.approx(min(float(held_out) - 1, 3.0), rel=1e-4)  # the prior's variance is still 1


def test_a_task_gone_astray_moves_the_noise_no_further_than_a_few():
    one = tasks(1)
    far = one._replace(query=one.query._replace(y=one.query.y + 1e4))
    prior = LEARNER.init(SPEC, KEY)
    unbounded = dataclasses.replace(LEARNER, clip=0.0)
    row = unflatten(unbounded.contribute(prior, far, {}, KEY)[0].rows[0], prior.params)
    assert row["noise"][0] == 20.0


def test_a_task_on_which_the_steps_diverge_counts_as_none_under_a_clip():
    everyone = tasks(3)
    everyone.support.x[1] *= 1e15
    learner = Reptile(Mlp((6,), "relu"), inner_steps=3, inner_rate=0.05, clip=0.0)
    prior = learner.init(SPEC, KEY)
    free = learner.contribute(prior, everyone, {}, KEY)[0].rows
    clipped = dataclasses.replace(learner, clip=0.05).contribute(prior, everyone, {}, KEY)[0].rows
    assert not np.isfinite(free[1]).all()
    assert (clipped[1] == 0).all()
    norms = np.linalg.norm(free[[0, 2]], axis=1, keepdims=True)
    np.testing.assert_allclose(clipped[[0, 2]], free[[0, 2]] * np.minimum(1, 0.05 / norms), rtol=1e-5)
    assert norms.max() > 0.05


def test_without_a_query_the_noise_stays_as_it_is():
    one = tasks(1)
    blank = one._replace(query=one.query._replace(mask=np.zeros_like(one.query.mask)))
    prior = LEARNER.init(SPEC, KEY)
    row = unflatten(LEARNER.contribute(prior, blank, {}, KEY)[0].rows[0], prior.params)
    assert row["noise"][0] == 0
    assert np.abs(row["head/weight"]).max() > 0


@pytest.mark.parametrize(("field", "value"), [("inner_steps", 0), ("inner_rate", 0.0), ("clip", -1.0)])
def test_refuses_what_makes_no_sense(field, value):
    with pytest.raises(RecipeError, match=f"{field} = "):
        Reptile(NETWORK, **{field: value})
