"""ADKF: each task's fit against scikit-learn and scipy, the meta-gradient against finite differences of both levels."""

import jax
import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from commonprior.errors import ModelError, RecipeError
from commonprior.learners import _kernels
from commonprior.learners.adkf import Adkf
from commonprior.networks.mlp import Mlp
from commonprior.prior import flatten, unflatten
from commonprior.sampling import learning_key
from commonprior.task import Batch, Target, Task, TaskSpec

LINES = TaskSpec(Target(scaling="public"), shape=(2,))
PAIRS = TaskSpec(Target(kind="classification", classes=("no", "yes")), shape=(2,))
KEY = learning_key(0)
NETWORK = Mlp((4,), "tanh")


def batch(n, seed=0, classes=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    y = rng.integers(classes, size=n) if classes else 2 * np.sin(x).sum(1) + 0.3 * rng.normal(size=n)
    return Batch(x, y, np.where(np.arange(n) == 2, 0.0, 1.0))


def perturbed(prior, seed=1):
    rng = np.random.default_rng(seed)
    params = {name: value + 0.3 * rng.normal(size=value.shape) for name, value in sorted(prior.params.items())}
    return prior._replace(params=params)


def adapt(learner, prior, support, start=None):
    return jax.jit(learner.adapt)(prior, support, KEY, start)


def test_the_fit_is_the_one_that_scikit_learn_and_scipy_find():
    learner, support, query = Adkf(NETWORK, ("values",), freedom=0.7, inner_steps=12), batch(10), batch(6, 1)
    with jax.enable_x64(True):
        prior = perturbed(learner.init(LINES, KEY))
        known = adapt(learner, prior, support)
        got = learner.predict(prior, known, query.x, KEY)
    common = np.array([prior.params[name][0] for name in ("kernel/amplitude/values", "noise")])
    seen, centre = support.mask > 0, prior.params["mean"][0]

    def process(own):
        size, noise = np.exp(own)
        kernel = ConstantKernel(np.exp(prior.params["kernel/constant"][0]), "fixed")
        kernel += ConstantKernel(size, "fixed") * RBF(np.exp(prior.params["kernel/values/length"]), "fixed")
        process = GaussianProcessRegressor(kernel + WhiteKernel(noise, "fixed"), alpha=0.0, optimizer=None)
        return process.fit(support.x[seen], support.y[seen] - centre)

    def loss(own):
        return -process(own).log_marginal_likelihood_value_ + 0.5 * (((own - common) / 0.7) ** 2).sum()

    best = minimize(loss, common, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}).x
    np.testing.assert_allclose(known.own, best, atol=1e-6)
    assert np.abs(best - common).min() > 0.05
    mean, deviation = process(best).predict(query.x, return_std=True)
    np.testing.assert_allclose(got.mean, mean + centre, atol=1e-5)
    np.testing.assert_allclose(got.variance, deviation**2, rtol=1e-5)


@pytest.mark.parametrize("spec", [LINES, PAIRS], ids=["regression", "classification"])
def test_the_meta_gradient_is_that_of_both_levels_together(spec):
    learner = Adkf(NETWORK, ("deep", "values"), features=3, inner_steps=25)
    classes = 0 if spec is LINES else 2
    task = Task(batch(9, 0, classes), batch(7, 1, classes))
    with jax.enable_x64(True):
        params = perturbed(learner.init(spec, KEY)).params
        at, h = flatten(params), 1e-5

        def loss(vector):
            return learner.meta_loss(unflatten(vector, params), task)

        gradient = np.asarray(jax.jit(jax.grad(loss))(at))
        # Fitted anew at every point: what the kernel's fit does to the query is in these differences.
        losses = jax.jit(jax.vmap(loss))
        slopes = np.asarray(losses(at + h * np.eye(len(at))) - losses(at - h * np.eye(len(at)))) / (2 * h)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-5, atol=1e-8)
    assert np.abs(slopes).max() > 0.01


def test_the_derivatives_of_the_fit_are_those_of_its_value():
    learner, support = Adkf(NETWORK, features=3, freedom=0.7), batch(8)
    with jax.enable_x64(True):
        params = perturbed(learner.init(LINES, KEY)).params
        inputs = learner._inputs(params, support.x)
        given = (params, _kernels.exponents(params, inputs, inputs), support)
        own = np.array([0.3, -0.2, 0.1, -0.5])
        shape = jax.jit(learner._fit)(own, given)

        def value(new):
            return learner._fit(new, given).value

        np.testing.assert_allclose(shape.slope, jax.jit(jax.grad(value))(own), rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(shape.curvature, jax.jit(jax.hessian(value))(own), rtol=1e-7, atol=1e-9)


def test_tasks_that_differ_in_noise_get_kernels_that_do():
    learner = Adkf(NETWORK, ("values",))
    prior = learner.init(LINES, KEY)
    calm = batch(30)
    wild = calm._replace(y=calm.y + 3 * np.random.default_rng(5).normal(size=30))
    noises = [float(adapt(learner, prior, support).own[-1]) for support in (calm, wild)]
    assert noises[1] > noises[0] + 1


def test_without_a_sample_a_task_has_the_common_kernel():
    learner = Adkf(NETWORK)
    prior = perturbed(learner.init(LINES, KEY))
    nothing = batch(4)._replace(mask=np.zeros(4))
    own = adapt(learner, prior, nothing).own
    names = ("kernel/amplitude/deep", "kernel/amplitude/values", "kernel/deep/length", "noise")
    np.testing.assert_allclose(own, [prior.params[name][0] for name in names], atol=1e-6)


def test_going_on_is_as_having_seen_all_samples_at_once():
    learner, first, second, query = Adkf(NETWORK), batch(4), batch(5, 1), batch(6, 2)
    prior = perturbed(learner.init(LINES, KEY))
    both = jax.tree.map(lambda a, b: np.concatenate([a, b]), first, second)
    gone_on = adapt(learner, prior, second, adapt(learner, prior, first))
    expected = learner.predict(prior, adapt(learner, prior, both), query.x, KEY)
    for got, wanted in zip(learner.predict(prior, gone_on, query.x, KEY), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4)


def test_terms_for_which_the_inputs_have_nothing_are_refused_if_none_is_left():
    with pytest.raises(ModelError, match=r"terms = \['counts'\].*add \"deep\""):
        Adkf(NETWORK, ("counts",)).init(LINES, KEY)


@pytest.mark.parametrize(
    ("field", "value"),
    [("terms", ()), ("features", 0), ("freedom", 0.0), ("freedom", float("nan")), ("inner_steps", 0)],
)
def test_refuses_what_makes_no_sense(field, value):
    with pytest.raises(RecipeError, match=f"{field} = "):
        Adkf(NETWORK, **{field: value})
