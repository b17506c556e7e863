import equinox as eqx
import jax
import numpy as np
import pytest

from commonprior.errors import ModelError
from commonprior.learners.dkt import Dkt
from commonprior.learners.maml import Maml
from commonprior.networks.module import Module
from commonprior.sampling import learning_key


def small(key):
    return eqx.nn.MLP(3, 1, 8, 1, activation=jax.nn.tanh, key=key)


def line(key):
    return eqx.nn.MLP(1, 1, 8, 1, activation=jax.nn.tanh, key=key)


def features(key):
    return eqx.nn.MLP(1, 32, 8, 1, activation=jax.nn.tanh, key=key)


def test_says_what_the_module_says():
    network, key = Module(small), learning_key("module")
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    params = network.init(x[:1], 1, key)
    assert sorted(params) == [
        "body/layers/0/bias",
        "body/layers/0/weight",
        "body/layers/1/bias",
        "body/layers/1/weight",
    ]
    expected = jax.vmap(small(key))(x)
    np.testing.assert_allclose(network.apply(params, x), expected, rtol=1e-6)
    moved = {name: value + 1 for name, value in params.items()}
    assert np.abs(network.apply(moved, x) - expected).max() > 0.1


@pytest.mark.parametrize(("make", "outputs", "words"), [
    (small, 2, r"to shape \(1,\), expected \(2,\)"),
    (lambda key: eqx.nn.Linear(4, 1, key=key), 1, r"does not take samples of shapes \[\(3,\)\]"),
])  # fmt: skip
def test_a_module_that_does_not_fit_is_refused_before_anything_compiles(make, outputs, words):
    with pytest.raises(ModelError, match=words):
        Module(make).init(np.zeros((1, 3), np.float32), outputs, learning_key(0))


@pytest.mark.parametrize("learner", [Maml(Module(line), inner_steps=1), Dkt(Module(features), terms=("deep",))])
def test_a_learner_takes_it_through_a_whole_run(learner, make_recipe, run_of):
    training = run_of(make_recipe(learner=learner))
    before = training.coordinator.prior.hash()
    training.coordinator.step(training.engine)
    assert training.coordinator.prior.hash() != before
