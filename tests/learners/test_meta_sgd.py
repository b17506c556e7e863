"""Meta-SGD against finite differences, and against MAML where its rates are one number."""

import jax
import numpy as np
import pytest

from commonprior.errors import RecipeError
from commonprior.learners import _objective
from commonprior.learners._local import LocalWork
from commonprior.learners._server import ServerStep
from commonprior.learners.maml import Maml
from commonprior.learners.meta_sgd import MetaSgd
from commonprior.networks.mlp import Mlp
from commonprior.prior import flatten, unflatten
from commonprior.sampling import learning_key
from commonprior.task import Batch, Target, Task, TaskSpec

SPEC = TaskSpec(Target(scaling="public"), shape=(1,))
KEY = learning_key(0)
NETWORK = Mlp((4, 3), "tanh", layer_norm=True)


def tasks(m=1, shots=6, queries=9):
    rng = np.random.default_rng(1)
    x = rng.uniform(-3, 3, (m, shots + queries, 1))
    batch = Batch(x, 2 * np.sin(x[..., 0]), np.ones(x.shape[:2]))
    return Task(*(jax.tree.map(lambda a, s=s: a[:, s], batch) for s in (slice(shots), slice(shots, None))))


def prior_of(learner):
    """Weights and rates of which none is what it begins as."""
    rng, prior = np.random.default_rng(2), learner.init(SPEC, KEY)
    return prior._replace(params={n: v + 0.1 * rng.normal(size=v.shape) for n, v in prior.params.items()})


@pytest.mark.parametrize("adapts", [("",), ("head", "body/1")])
@pytest.mark.parametrize("per", ["parameter", "layer"])
def test_weights_and_rates_follow_the_loss_after_adaptation(per, adapts):
    learner = MetaSgd(NETWORK, 2, 0.1, per, adapts=adapts, local=LocalWork(rate=1.0, clip=0.0))
    with jax.enable_x64(True):
        prior, task = prior_of(learner), jax.tree.map(lambda leaf: leaf[0], tasks())
        gradient = -learner.contribute(prior, tasks(), {}, KEY)[0].rows[0]
        at, h = flatten(prior.params), 1e-5

        def loss(vector):
            new = unflatten(vector, prior.params)
            adapted = learner.adapt(prior._replace(params=new), task.support, KEY)
            return _objective.fit(NETWORK, {**new, **adapted}, task.query)

        losses = jax.jit(jax.vmap(loss))
        slopes = np.asarray(losses(at + h * np.eye(len(at))) - losses(at - h * np.eye(len(at)))) / (2 * h)
    named = unflatten(gradient, prior.params)
    noise = flatten({n: np.full(v.shape, n == "noise") for n, v in prior.params.items()}) > 0
    np.testing.assert_allclose(gradient[~noise], slopes[~noise], rtol=1e-6, atol=1e-8)
    assert all(np.abs(value).max() > 1e-6 for value in named.values())


def test_it_begins_as_maml():
    ours, maml = MetaSgd(NETWORK, 3, 0.05), Maml(NETWORK, 3, 0.05)
    prior, support = ours.init(SPEC, KEY), jax.tree.map(lambda leaf: np.float32(leaf[0]), tasks().support)
    got, expected = ours.adapt(prior, support, KEY), maml.adapt(maml.init(SPEC, KEY), support, KEY)
    assert set(got) == set(expected)
    assert all(np.allclose(got[name], expected[name], rtol=1e-5) for name in got)


def test_a_rate_stands_for_a_parameter_or_a_layer():
    params = MetaSgd(NETWORK, adapts=("body/0", "head")).init(SPEC, KEY).params
    rates = {name: value.shape for name, value in params.items() if name.startswith("rates/")}
    assert rates == {"rates/" + n: params[n].shape for n in params if n.startswith(("body/0/", "head/"))}
    params = MetaSgd(NETWORK, per="layer").init(SPEC, KEY).params
    rates = {name: value.shape for name, value in params.items() if name.startswith("rates/")}
    assert rates == {"rates/body/0": (1,), "rates/body/1": (1,), "rates/head": (1,)}


def test_rates_that_are_too_small_grow():
    learner = MetaSgd(NETWORK, 1, 1e-4, "layer", server=ServerStep(rate=0.02))
    many = jax.tree.map(np.float32, tasks(16))
    signs = np.where(np.arange(16) % 2, 1, -1)[:, None].astype(np.float32)
    many = Task(*(part._replace(y=part.y * signs) for part in many))  # nothing in common but how to tell them apart
    prior = learner.init(SPEC, KEY)
    for _ in range(30):
        rows = learner.contribute(prior, many, {}, KEY)[0].rows
        prior = learner.apply(prior, np.asarray(rows, np.float64).mean(0), KEY)
    assert float(learner.rates(prior.params)["head/weight"][0]) > 1e-3


@pytest.mark.parametrize(("field", "value"), [("inner_steps", 0), ("inner_rate", 0.0), ("speed", -1.0)])
def test_refuses_what_makes_no_sense(field, value):
    with pytest.raises(RecipeError, match=f"{field} = "):
        MetaSgd(NETWORK, **{field: value})
