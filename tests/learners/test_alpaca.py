"""ALPaCA against scikit-learn's Bayesian regression, and sample by sample against all at once."""

from itertools import pairwise

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import BayesianRidge

from commonprior.errors import RecipeError
from commonprior.learners.alpaca import Alpaca
from commonprior.networks.mlp import Mlp
from commonprior.sampling import learning_key
from commonprior.task import Batch, Target, TaskSpec

LINES = TaskSpec(Target(scaling="public"), shape=(2,))
TRIPLES = TaskSpec(Target(kind="classification", classes=("a", "b", "c")), shape=(2,))
KEY = learning_key(0)
LEARNER = Alpaca(Mlp((5,), "tanh"), features=4)


def batch(n, seed=0, classes=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    y = rng.integers(classes, size=n) if classes else np.sin(x).sum(1) + 0.1 * rng.normal(size=n)
    return Batch(x, y, np.ones(n))


def perturbed(prior, seed=1):
    rng = np.random.default_rng(seed)
    params = {name: value + 0.3 * rng.normal(size=value.shape) for name, value in sorted(prior.params.items())}
    return prior._replace(params=params)


def test_is_the_bayesian_regression_that_scikit_learn_knows():
    support, query = batch(12), batch(6, 1)
    with jax.enable_x64(True):
        prior = perturbed(LEARNER.init(LINES, KEY))
        features, new = (np.asarray(LEARNER._features(prior.params, b.x)) for b in (support, query))
        expected = BayesianRidge(fit_intercept=False, tol=1e-12, max_iter=1000).fit(features, support.y)
        params = {
            **prior.params,
            "belief/mean": np.zeros((5, 1)),
            "belief/factor": np.eye(5) / np.sqrt(expected.lambda_),
            "noise": np.array([-np.log(expected.alpha_)]),
        }
        prior = prior._replace(params=params)
        belief = LEARNER.adapt(prior, support, KEY)
        got = LEARNER.predict(prior, belief, query.x, KEY)
    np.testing.assert_allclose(belief.mean[:, 0], expected.coef_, rtol=1e-6)
    np.testing.assert_allclose(belief.covariance, expected.sigma_, rtol=1e-6, atol=1e-12)
    mean, deviation = expected.predict(new, return_std=True)
    np.testing.assert_allclose(got.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(got.variance, deviation**2, rtol=1e-6)


def test_is_the_papers_closed_form():
    support = batch(7)
    with jax.enable_x64(True):
        prior = perturbed(LEARNER.init(LINES, KEY))
        belief = LEARNER.adapt(prior, support, KEY)
        features = np.asarray(LEARNER._features(prior.params, support.x))
    noise, factor, mean = np.exp(prior.params["noise"][0]), prior.params["belief/factor"], prior.params["belief/mean"]
    before = noise * np.linalg.inv(factor @ factor.T)
    precision = features.T @ features + before
    moment = features.T @ support.y[:, None] + before @ mean
    np.testing.assert_allclose(belief.mean, np.linalg.solve(precision, moment), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(belief.covariance, noise * np.linalg.inv(precision), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("spec", [LINES, TRIPLES], ids=["regression", "classification"])
@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 8), max_size=3), padded=st.integers(0, 7))
def test_however_the_samples_come_the_belief_is_the_same(spec, cuts, padded):
    with jax.enable_x64(True):
        prior = perturbed(LEARNER.init(spec, KEY))
        support = batch(8, 2, 3 if spec is TRIPLES else 0)
        support = support._replace(mask=np.where(np.arange(8) == padded, 0.0, 1.0))
        expected, belief = LEARNER.adapt(prior, support, KEY), None
        edges = [0, *sorted(cuts), 8]
        for start, stop in pairwise(edges):
            part = jax.tree.map(lambda leaf, s=slice(start, stop): leaf[s], support)
            if stop > start:
                belief = LEARNER.adapt(prior, part, KEY, belief)
    np.testing.assert_allclose(belief.mean, expected.mean, rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(belief.covariance, expected.covariance, rtol=1e-7, atol=1e-10)


def test_refuses_no_features():
    with pytest.raises(RecipeError, match="features = 0"):
        Alpaca(Mlp((5,)), features=0)
