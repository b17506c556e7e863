"""Probes: each head against scikit-learn or scipy, and an encoder that only labels move."""

import jax
import numpy as np
import pytest
from scipy import stats
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneOut, cross_val_predict

from commonprior.errors import RecipeError
from commonprior.learners import _wishart
from commonprior.learners.probe import Probe
from commonprior.networks.mlp import Mlp
from commonprior.sampling import learning_key
from commonprior.task import Batch, Target, Task, TaskSpec

LINES = TaskSpec(Target(scaling="public"), shape=(2,))
KEY = learning_key(0)
NETWORK = Mlp((5,), "tanh")


def batch(n, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    return Batch(x, np.sin(x).sum(1) + 0.1 * rng.normal(size=n), np.ones(n))


def perturbed(prior, seed=1):
    rng = np.random.default_rng(seed)
    params = {name: value + 0.3 * rng.normal(size=value.shape) for name, value in sorted(prior.params.items())}
    return prior._replace(params=params)


@pytest.mark.parametrize("head", ["ridge", "quadratic", "gp"])
def test_a_head_is_the_gaussian_process_that_scikit_learn_knows(head):
    learner, support, query = Probe(NETWORK, head, features=4), batch(10), batch(6, 1)
    with jax.enable_x64(True):
        prior = perturbed(learner.init(LINES, KEY))
        got = learner.predict(prior, learner.adapt(prior, support, KEY), query.x, KEY)
        seen, new = (np.asarray(learner._encode(prior.params, b.x)) for b in (support, query))
    number = {name: float(np.exp(value[0])) for name, value in prior.params.items() if value.shape == (1,)}
    scale = number["head/length"] * 2
    linear = DotProduct(0.0, "fixed")
    kernel = {"ridge": linear, "quadratic": linear + ConstantKernel(0.5, "fixed") * linear**2, "gp": RBF(1.0, "fixed")}
    whole = ConstantKernel(number["head/constant"], "fixed") + WhiteKernel(number["noise"], "fixed")
    whole += ConstantKernel(number["head/amplitude"], "fixed") * kernel[head]
    centre = prior.params["mean"][0]
    expected = GaussianProcessRegressor(whole, alpha=0.0, optimizer=None).fit(seen / scale, support.y - centre)
    mean, deviation = expected.predict(new / scale, return_std=True)
    np.testing.assert_allclose(got.mean, mean + centre, rtol=1e-8)
    np.testing.assert_allclose(got.variance, deviation**2, rtol=1e-8)


def test_a_gaussian_class_predicts_as_a_multivariate_t():
    rng = np.random.default_rng(0)
    features, new = rng.normal(size=(7, 3)), rng.normal(size=(4, 3))
    classes = np.array([0, 0, 1, 0, 0, 1, 1])
    shares = np.eye(3)[classes]
    shares[-1] = 0  # padded
    weight, spread = 0.4, 0.8
    with jax.enable_x64(True):
        got = np.asarray(_wishart.log_densities(features, shares, new, weight, spread))
    for k in range(3):
        x = features[shares[:, k] > 0]
        n, e = len(x), 3
        kappa, freedom = weight + n, e + 2 + n - e + 1
        centre = x.sum(0) / kappa
        scatter = spread**2 * np.eye(e) + x.T @ x - kappa * np.outer(centre, centre)
        t = stats.multivariate_t(centre, scatter * (kappa + 1) / (kappa * freedom), freedom)
        np.testing.assert_allclose(got[:, k], t.logpdf(new) + np.log((n + 1) / (6 + 3)), rtol=1e-8)


def test_the_best_readout_of_each_task_is_ridge_regression_on_the_others_samples():
    learner, task = Probe(NETWORK, features=4), Task(batch(6), batch(5, 1))
    with jax.enable_x64(True):
        params = perturbed(learner.init(LINES, KEY)).params
        both = jax.tree.map(lambda a, b: np.concatenate([a, b]), *task)
        features = np.asarray(learner._encode(params, both.x))
        got = float(learner._taught(params, features, both))
    y = both.y - params["mean"][0]
    predicted = cross_val_predict(Ridge(alpha=4.0, fit_intercept=False), features, y, cv=LeaveOneOut())
    assert got == pytest.approx(((y - predicted) ** 2).mean(), rel=1e-9)


def test_larger_features_of_labels_without_a_pattern_are_no_better():
    """A readout judged on what it was fitted to would be, without end."""
    learner, rng = Probe(NETWORK, features=4), np.random.default_rng(0)
    with jax.enable_x64(True):
        params = learner.init(LINES, KEY).params
        tasks = [(rng.normal(size=(12, 4)), rng.normal(size=12)) for _ in range(60)]
        losses = [
            np.mean([learner._taught(params, scale * f, Batch(f, y, np.ones(12))) for f, y in tasks])
            for scale in (0.1, 1.0, 10.0)
        ]
    assert losses[0] < losses[1] < losses[2]


@pytest.mark.parametrize("teaches", ["pooled", "multitask"])
def test_the_head_does_not_move_the_encoder(teaches):
    learner, task = Probe(NETWORK, features=4, teaches=teaches), Task(batch(6), batch(5, 1))
    params = perturbed(learner.init(LINES, KEY)).params
    both = jax.tree.map(lambda a, b: np.concatenate([a, b]), *task)
    slopes = jax.grad(learner.meta_loss)(params, task)
    taught = jax.grad(lambda p: learner._taught(p, learner._encode(p, both.x), both))(params)
    for name, slope in slopes.items():
        if name.startswith("encoder/"):
            np.testing.assert_allclose(slope, taught[name], rtol=1e-5, atol=1e-7)
    assert np.abs(slopes["noise"]).max() > 0
    assert np.abs(slopes["encoder/body/0/weight"]).max() > 0


def test_refuses_no_features():
    with pytest.raises(RecipeError, match="features = 0"):
        Probe(NETWORK, features=0)
