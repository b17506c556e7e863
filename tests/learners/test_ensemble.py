"""A mixture that is one, members that learn as they would alone, and an ensemble of every family that can have one."""

import jax
import numpy as np
import pytest
from scipy.special import softmax

from commonprior.errors import ModelError, RecipeError
from commonprior.learners._server import ServerStep
from commonprior.learners.dkt import Dkt
from commonprior.learners.ensemble import Ensemble, mixture
from commonprior.learners.maml import Maml
from commonprior.learners.online import Online
from commonprior.networks.mlp import Mlp
from commonprior.sampling import generator, learning_key
from commonprior.task import Batch, Categorical, Gaussian, Target, Task, TaskSpec

SPEC = TaskSpec(Target(scaling="public"), shape=(2,))
MAML = Maml(Mlp((8,), "tanh"), inner_steps=2, inner_rate=0.1, server=ServerStep(rate=0.02))
DKT = Dkt(Mlp((8,), "tanh"), features=4, server=ServerStep(rate=0.02))


def tasks(seed, m=3, n=5):
    rng = generator(seed)
    return Task(*(Batch(rng.normal(size=(m, n, 2)).astype(np.float32), rng.normal(size=(m, n)).astype(np.float32),
                        np.ones((m, n), np.float32)) for _ in range(2)))  # fmt: skip


def first(batch):
    return jax.tree.map(lambda leaf: leaf[0], batch)


def test_a_mixture_of_normals_has_the_moments_of_samples_drawn_from_either():
    one, two = Gaussian(np.array([0.0]), np.array([1.0])), Gaussian(np.array([3.0]), np.array([0.25]))
    rng = generator(0)
    drawn = np.concatenate([rng.normal(0, 1, 200_000), rng.normal(3, 0.5, 200_000)])
    said = mixture([one, two])
    assert float(said.mean[0]) == pytest.approx(drawn.mean(), abs=0.02)
    assert float(said.variance[0]) == pytest.approx(drawn.var(), abs=0.03)


def test_a_mixture_of_classes_is_the_mean_of_probabilities():
    logits = generator(1).normal(size=(3, 4, 5)) * 4
    said = mixture([Categorical(one) for one in logits])
    np.testing.assert_allclose(softmax(np.asarray(said.logits), -1), softmax(logits, -1).mean(0), atol=1e-6)
    np.testing.assert_allclose(np.exp(np.asarray(said.logits)).sum(-1), 1, atol=1e-6)


@pytest.mark.parametrize("of", [MAML, DKT], ids=["maml", "dkt"])
def test_each_member_learns_as_it_would_alone(of):
    ensemble, key = Ensemble(of, 3), learning_key(0)
    prior, given = ensemble.init(SPEC, key), tasks(2)
    alone = [of.init(SPEC, one) for one in jax.random.split(key, 3)]
    rows = ensemble.contribute(prior, given, {}, learning_key(1))[0].rows
    each = [of.contribute(member, given, {}, None)[0].rows for member in alone]
    np.testing.assert_allclose(rows, np.concatenate(each, axis=1), atol=1e-6)
    assert rows.shape[1] == ensemble.length(prior) == 3 * of.length(alone[0])
    mean = rows.mean(0).astype(np.float64)
    following, length = ensemble.apply(prior, mean, None), of.length(alone[0])
    alone = [of.apply(m, mean[i * length : (i + 1) * length], None) for i, m in enumerate(alone)]
    for number, member in enumerate(alone):
        for part in ("params", "state"):
            for name, value in getattr(member, part).items():
                np.testing.assert_array_equal(getattr(following, part)[f"{number}/{name}"], value)
    support, query = first(given.support), first(given.query)
    known = ensemble.adapt(following, support, key)
    said = ensemble.predict(following, known, query.x, key)
    both = [of.predict(m, of.adapt(m, support, key), query.x, key) for m in alone]
    np.testing.assert_allclose(said.mean, np.mean([p.mean for p in both], 0), atol=1e-5)
    assert float(said.variance.min()) > 0
    assert len({np.asarray(p.mean).tobytes() for p in both}) == 3  # members differ


def test_members_keep_what_they_remember_apart():
    ensemble = Ensemble(Online(MAML, replay=1, keep=3), 2)
    prior = ensemble.init(SPEC, learning_key(0))
    _, memory = ensemble.contribute(prior, tasks(3), {}, learning_key(1))
    assert {name.partition("/")[0] for name in memory} == {"0", "1"}
    given, again = ensemble.contribute(prior, tasks(4), memory, learning_key(2))
    assert given.unit == "site"
    assert int(again["0/seen"][0]) == 6


def test_an_ensemble_of_one_and_a_mean_of_another_length_are_refused():
    with pytest.raises(RecipeError, match="members = 1: expected at least 2"):
        Ensemble(MAML, 1)
    ensemble = Ensemble(MAML, 2)
    prior = ensemble.init(SPEC, learning_key(0))
    with pytest.raises(ModelError, match=r"expected a mean update of \d+ numbers, got shape \(3,\)"):
        ensemble.apply(prior, np.zeros(3), None)
