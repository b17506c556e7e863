"""PACOH: Stein's steps by hand, one particle as a Gaussian process, and particles that stay apart."""

import jax
import numpy as np
import pytest
from scipy import stats
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from commonprior.errors import ModelError, RecipeError
from commonprior.learners._server import ServerStep
from commonprior.learners.pacoh import Pacoh
from commonprior.networks.mlp import Mlp
from commonprior.sampling import learning_key
from commonprior.task import Batch, Target, TaskSpec

LINES = TaskSpec(Target(scaling="public"), shape=(2,))
KEY = learning_key(0)
NETWORK = Mlp((5,), "tanh")


def batch(n, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    return Batch(x, np.sin(x).sum(1) + 0.1 * rng.normal(size=n), np.ones(n))


def test_a_step_is_steins():
    rng = np.random.default_rng(0)
    at, slopes = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    got = Pacoh(NETWORK, particles=3, tasks=7).stein(at, slopes)
    squares = [((at[i] - at[j]) ** 2).sum() for i in range(3) for j in range(i + 1, 3)]
    width = sorted(squares)[1]

    def alike(a, b):
        return (1 + ((a - b) ** 2).sum() / width) ** -0.5

    h = 1e-6
    for i in range(3):
        expected = np.zeros(4)
        for j in range(3):
            by_j = [(alike(at[j] + h * e, at[i]) - alike(at[j] - h * e, at[i])) / (2 * h) for e in np.eye(4)]
            expected += alike(at[j], at[i]) * slopes[j] + np.array(by_j) / 7
        np.testing.assert_allclose(got[i], expected / 3, rtol=1e-7)


def test_particles_sample_the_posterior_of_a_gaussian():
    """Many steps with the slope of a standard normal log density lead to its mean and spread."""
    learner = Pacoh(NETWORK, particles=40, tasks=1)
    at = np.random.default_rng(1).uniform(1, 3, size=(40, 1))
    for _ in range(600):
        at = at + 0.3 * learner.stein(at, -at)
    assert at.mean() == pytest.approx(0, abs=0.05)
    assert at.std() == pytest.approx(1, abs=0.15)
    assert stats.kstest(at[:, 0], "norm").statistic < 0.15


def test_one_particle_is_a_gaussian_process_with_a_learned_mean():
    learner, support, query = Pacoh(NETWORK, particles=1, features=3), batch(9), batch(5, 1)
    with jax.enable_x64(True):
        prior = learner.init(LINES, KEY)
        prior = prior._replace(params={name: value.astype(np.float64) for name, value in prior.params.items()})
        got = learner.predict(prior, learner.adapt(prior, support, KEY), query.x, KEY)
        one = {name: value[0] for name, value in prior.params.items()}
        (seen, centre), (new, there) = (map(np.asarray, learner._split(one, b.x)) for b in (support, query))
    kernel = ConstantKernel(np.exp(one["kernel/constant"][0]), "fixed") + RBF(np.sqrt(3), "fixed")
    kernel += WhiteKernel(np.exp(one["noise"][0]), "fixed")
    expected = GaussianProcessRegressor(kernel, alpha=0.0, optimizer=None).fit(seen, support.y - centre[:, 0])
    mean, deviation = expected.predict(new, return_std=True)
    np.testing.assert_allclose(got.mean, mean + there[:, 0], rtol=1e-8)
    np.testing.assert_allclose(got.variance, deviation**2, rtol=1e-8)


def test_without_tasks_particles_stay_near_the_hyper_prior():
    learner = Pacoh(NETWORK, particles=2, features=2, tasks=1, server=ServerStep("mean", 0.1))
    prior = learner.init(LINES, KEY)
    far = prior._replace(params={name: value + 50 for name, value in prior.params.items()})
    for _ in range(100):
        far = learner.apply(far, np.zeros(learner.length(far)), None)
    assert all(np.abs(value).max() < 10 for value in far.params.values())


@pytest.mark.parametrize(("field", "value"), [("particles", 0), ("features", 0), ("tasks", 0), ("spread", 0.0)])
def test_refuses_what_makes_no_sense(field, value):
    with pytest.raises(RecipeError, match=f"{field} = "):
        Pacoh(NETWORK, **{field: value})


def test_an_update_of_another_length_is_refused():
    learner = Pacoh(NETWORK, particles=1)
    with pytest.raises(ModelError, match="numbers, got shape"):
        learner.apply(learner.init(LINES, KEY), np.zeros(3), None)
