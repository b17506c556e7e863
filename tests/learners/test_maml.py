"""MAML's meta-gradient against finite differences, and what its fields do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from commonprior.errors import ModelError, RecipeError
from commonprior.learners import _objective
from commonprior.learners._local import LocalWork
from commonprior.learners.maml import Maml
from commonprior.networks.mlp import Mlp
from commonprior.prior import flatten, unflatten
from commonprior.sampling import learning_key
from commonprior.task import Batch, Target, Task, TaskSpec

SPEC = TaskSpec(Target(scaling="public"), shape=(1,))
BLOBS = TaskSpec(Target(kind="classification", classes=("a", "b", "c")), shape=(1,))
KEY = learning_key(0)
NETWORK = Mlp((5, 4), "tanh")


def one_task(spec, shots=6, queries=9, dtype=np.float64):
    rng = np.random.default_rng(1)
    x = rng.uniform(-3, 3, (shots + queries, 1)).astype(dtype)
    y = (2 * np.sin(x[:, 0])).astype(dtype) if spec is SPEC else rng.integers(3, size=shots + queries)
    mask = np.ones(shots + queries, dtype)
    mask[[2, -1]] = 0
    return Task(Batch(x[:shots], y[:shots], mask[:shots]), Batch(x[shots:], y[shots:], mask[shots:]))


def params_of(learner, spec, dtype=np.float64):
    """Parameters of which none is zero: at zero biases, some wrong gradients are right by chance."""
    rng = np.random.default_rng(2)
    return {name: (value + 0.3 * rng.normal(size=value.shape)).astype(dtype)
            for name, value in learner.init(spec, KEY).params.items()}  # fmt: skip


@pytest.mark.parametrize("spec", [SPEC, BLOBS], ids=["regression", "classification"])
@pytest.mark.parametrize("adapts", [("",), ("head",), ("body/1", "head/bias")])
def test_the_meta_gradient_is_that_of_the_loss_after_adaptation(spec, adapts):
    learner = Maml(NETWORK, inner_steps=3, inner_rate=0.1, adapts=adapts, local=LocalWork(rate=1.0))
    with jax.enable_x64(True):
        params, task = params_of(learner, spec), one_task(spec)
        prior = learner.init(spec, KEY)._replace(params=params)
        gradient = -learner.contribute(prior, jax.tree.map(lambda leaf: leaf[None], task), {}, KEY)[0].rows[0]
        at, h = flatten(params), 1e-5

        def loss(vector):
            new = unflatten(vector, params)
            adapted = learner.adapt(prior._replace(params=new), task.support, KEY)
            return _objective.fit(NETWORK, {**new, **adapted}, task.query)

        losses = jax.jit(jax.vmap(loss))
        slopes = np.asarray(losses(at + h * np.eye(len(at))) - losses(at - h * np.eye(len(at)))) / (2 * h)
    learned = len(at) - ("noise" in params)  # noise is the last name, and no part of this loss
    np.testing.assert_allclose(gradient[:learned], slopes[:learned], rtol=1e-6, atol=1e-8)
    assert np.abs(slopes[:learned]).min() > 0


def test_first_order_leaves_the_second_derivatives_out():
    task = jax.tree.map(lambda leaf: leaf[None], one_task(SPEC, dtype=np.float32))
    exact, first = (Maml(NETWORK, 2, 0.1, first_order=f, local=LocalWork(rate=1.0)) for f in (False, True))
    prior = exact.init(SPEC, KEY)._replace(params=params_of(exact, SPEC, np.float32))
    rows = [learner.contribute(prior, task, {}, KEY)[0].rows[0] for learner in (exact, first)]
    single = jax.tree.map(lambda leaf: leaf[0], task)
    adapted = exact.adapt(prior, single.support, KEY)
    slope = jax.grad(lambda fast: _objective.fit(NETWORK, {**prior.params, **fast}, single.query))(adapted)
    np.testing.assert_allclose(-rows[1][:-1], flatten(slope), rtol=1e-4, atol=1e-6)
    assert np.abs(rows[0] - rows[1]).max() > 1e-3


def test_the_loss_is_the_squared_error_to_the_bit_and_still_teaches_the_noise():
    learner = Maml(NETWORK)
    params, query = params_of(learner, SPEC, np.float32), one_task(SPEC, dtype=np.float32).query
    value, slope = jax.value_and_grad(lambda p: _objective.judge(NETWORK, p, query))(params)
    error, error_slope = jax.value_and_grad(lambda p: _objective.fit(NETWORK, p, query))(params)
    assert value == error
    expected = 0.5 * (1 - error * np.exp(-params["noise"][0]))
    assert slope["noise"][0] == pytest.approx(float(expected), rel=1e-5)
    assert expected != 0
    assert all((slope[name] == error_slope[name]).all() for name in params if name != "noise")


def test_only_what_it_adapts_is_adapted():
    learner = Maml(NETWORK, adapts=("head", "body/0/bias"))
    prior = learner.init(SPEC, KEY)
    adapted = learner.adapt(prior, one_task(SPEC, dtype=np.float32).support, KEY)
    assert set(adapted) == {"head/weight", "head/bias", "body/0/bias"}
    assert all((adapted[name] != prior.params[name]).any() for name in adapted)


def test_without_a_sample_the_prior_stays_as_it_is():
    learner = Maml(NETWORK)
    prior = learner.init(SPEC, KEY)
    support = one_task(SPEC, dtype=np.float32).support
    adapted = learner.adapt(prior, support._replace(mask=np.zeros_like(support.mask)), KEY)
    assert all((adapted[name] == prior.params[name]).all() for name in adapted)


def test_going_on_is_as_adapting_for_longer():
    short, long = Maml(NETWORK, inner_steps=2), Maml(NETWORK, inner_steps=4)
    prior, support = short.init(SPEC, KEY), one_task(SPEC, dtype=np.float32).support
    twice = short.adapt(prior, support, KEY, short.adapt(prior, support, KEY))
    once = long.adapt(prior, support, KEY)
    assert all(jnp.allclose(twice[name], once[name], rtol=1e-5) for name in once)


def test_a_name_that_no_parameter_has_is_refused():
    with pytest.raises(ModelError, match="begins with 'tail'; there are body/0/bias"):
        Maml(NETWORK, adapts=("tail",)).init(SPEC, KEY)
    with pytest.raises(ModelError, match="begins with 'noise'"):
        Maml(NETWORK, adapts=("noise",)).init(SPEC, KEY)


@pytest.mark.parametrize(("field", "value"), [("inner_steps", 0), ("inner_rate", -1.0), ("inner_rate", float("nan"))])
def test_refuses_what_makes_no_sense(field, value):
    with pytest.raises(RecipeError, match=f"{field} = "):
        Maml(NETWORK, **{field: value})
