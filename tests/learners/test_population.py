"""Population-based training: who gives way to whom, with which rates, and that a member is MAML."""

import jax
import numpy as np
import pytest

from commonprior.errors import ModelError, RecipeError
from commonprior.learners._local import LocalWork
from commonprior.learners.maml import Maml
from commonprior.learners.population import Population
from commonprior.networks.mlp import Mlp
from commonprior.prior import Prior
from commonprior.sampling import learning_key
from commonprior.task import Batch, Target, Task, TaskSpec

LINES = TaskSpec(Target(scaling="public"), shape=(1,))
KEY = learning_key(0)
NETWORK = Mlp((3,), "tanh")


def tasks():
    x = np.random.default_rng(0).uniform(-2, 2, (2, 12, 1)).astype(np.float32)
    everything = Batch(x, np.sin(x[..., 0]), np.ones((2, 12), np.float32))
    return Task(*(jax.tree.map(lambda leaf, s=s: leaf[:, s], everything) for s in (slice(5), slice(5, None))))


def test_each_members_row_is_the_meta_gradient_of_maml_at_its_own_rate():
    learner = Population(NETWORK, members=4)
    prior = learner.init(LINES, KEY)
    rows = learner.contribute(prior, tasks(), {}, KEY)[0].rows
    names = sorted(name for name in prior.params if not name.startswith("rate/"))
    sizes = [prior.params[name][0].size for name in names]
    for member in range(4):
        rate = float(prior.params["rate/inner"][member, 0])
        maml = Maml(NETWORK, inner_steps=3, inner_rate=rate, local=LocalWork(rate=1.0))
        alone = Prior({name: prior.params[name][member] for name in names})
        expected = maml.contribute(alone, tasks(), {}, KEY)[0].rows
        at, blocks = 0, []
        for size in sizes:
            blocks.append(rows[:, at + member * size : at + (member + 1) * size])
            at += 4 * size
        np.testing.assert_allclose(np.concatenate(blocks, 1), expected, rtol=1e-4, atol=1e-6)
        losses = [float(maml.meta_loss(alone.params, jax.tree.map(lambda a, i=i: a[i], tasks()))) for i in range(2)]
        np.testing.assert_allclose(rows[:, at + member], -np.array(losses), rtol=1e-5)


def test_a_step_goes_at_the_members_own_rate_and_the_worst_give_way_when_it_is_time():
    learner = Population(NETWORK, members=4, interval=2)
    prior = learner.init(LINES, KEY)
    mean = np.concatenate([np.ones(learner.length(prior) - 4), [0.0, 3.0, -2.0, 1.0]])
    first = learner.apply(prior, mean, None)
    rates = prior.params["rate/server"]
    np.testing.assert_allclose(first.params["head/bias"], prior.params["head/bias"] + rates, rtol=1e-6)
    assert (first.params["rate/inner"] == prior.params["rate/inner"]).all()
    second = learner.apply(first, mean, None)
    for name in ("body/0/weight", "head/bias", "noise"):
        assert (second.params[name][2] == second.params[name][1]).all()
        assert not (first.params[name][2] == first.params[name][1]).all()
    for name in ("rate/inner", "rate/server"):
        change = float(second.params[name][2, 0] / prior.params[name][1, 0])
        assert min(abs(change - 0.8), abs(change - 1.25)) < 1e-6
        assert (second.params[name][[0, 1, 3]] == prior.params[name][[0, 1, 3]]).all()
    np.testing.assert_allclose(second.state["population/fitness"], [0.0, 3.0, 3.0, 1.0])


def test_the_fittest_member_is_the_one_that_predicts():
    learner = Population(NETWORK, members=4)
    prior = learner.init(LINES, KEY)
    chosen = prior.with_state({"population/fitness": np.array([0, 1, 3, 2], np.float32)})
    alone = Prior({name: np.roll(value, -2, 0) for name, value in prior.params.items()}, prior.state)
    one = jax.tree.map(lambda leaf: leaf[0], tasks())
    got, expected = (learner.predict(p, learner.adapt(p, one.support, KEY), one.query.x, KEY) for p in (chosen, alone))
    np.testing.assert_allclose(got.mean, expected.mean)


def test_a_member_gone_astray_stands_still_and_is_the_least_fit():
    learner = Population(NETWORK, members=4, bound=7.0)
    prior = learner.init(LINES, KEY)
    prior.params["head/bias"][1] = np.nan
    rows = learner.contribute(prior, tasks(), {}, KEY)[0].rows
    assert np.isfinite(rows).all()
    assert (rows[:, -3] == -7).all()


@pytest.mark.parametrize(
    ("field", "value"),
    [("members", 3), ("interval", 0), ("inner_steps", 0), ("inner_rate", 0.0), ("server_rate", -1.0), ("bound", 0.0),
     ("seed", -1)],
)  # fmt: skip
def test_refuses_what_makes_no_sense(field, value):
    with pytest.raises(RecipeError, match=f"{field} = "):
        Population(NETWORK, **{field: value})


def test_an_update_of_another_length_is_refused():
    learner = Population(NETWORK, members=4)
    with pytest.raises(ModelError, match="numbers, got shape"):
        learner.apply(learner.init(LINES, KEY), np.zeros(3), None)
