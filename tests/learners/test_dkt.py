"""DKT against scikit-learn on the same kernel, against its own definition, and its errors."""

import jax
import numpy as np
import pytest
from scipy import stats
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from commonprior.errors import ModelError, RecipeError
from commonprior.learners.dkt import Dkt
from commonprior.networks.mlp import Mlp
from commonprior.sampling import learning_key
from commonprior.task import Batch, Target, Task, TaskSpec, log_likelihood

LINES = TaskSpec(Target(scaling="public"), shape=(2,))
KEY = learning_key(0)
NETWORK = Mlp((5,), "tanh")


def spec_of(classes):
    return TaskSpec(Target(kind="classification", classes=classes), shape=(2,))


def batch(n, seed=0, classes=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    y = rng.integers(classes, size=n) if classes else np.sin(x).sum(1) + 0.1 * rng.normal(size=n)
    return Batch(x, y, np.ones(n))


def perturbed(prior, seed=1):
    rng = np.random.default_rng(seed)
    params = {name: value + 0.3 * rng.normal(size=value.shape) for name, value in sorted(prior.params.items())}
    return prior._replace(params=params)


def test_is_the_gaussian_process_that_scikit_learn_knows():
    learner, support, query = Dkt(NETWORK, terms=("values",)), batch(10), batch(6, 1)
    with jax.enable_x64(True):
        prior = perturbed(learner.init(LINES, KEY))
        got = learner.predict(prior, learner.adapt(prior, support, KEY), query.x, KEY)
    number = {name: np.exp(value) for name, value in prior.params.items() if name != "mean"}
    kernel = (
        ConstantKernel(number["kernel/constant"][0], "fixed")
        + ConstantKernel(number["kernel/amplitude/values"][0], "fixed") * RBF(number["kernel/values/length"], "fixed")
        + WhiteKernel(number["noise"][0], "fixed")
    )
    centre = prior.params["mean"][0]
    expected = GaussianProcessRegressor(kernel, alpha=0.0, optimizer=None).fit(support.x, support.y - centre)
    mean, deviation = expected.predict(query.x, return_std=True)
    np.testing.assert_allclose(got.mean, mean + centre, rtol=1e-9)
    np.testing.assert_allclose(got.variance, deviation**2, rtol=1e-9)


@pytest.mark.parametrize("spec", [LINES, spec_of(("a", "b", "c"))], ids=["regression", "classification"])
def test_going_on_is_as_having_seen_all_samples_at_once(spec):
    learner, classes = Dkt(NETWORK), spec.outputs if spec is not LINES else 0
    first, second, query = batch(4, 0, classes), batch(5, 1, classes), batch(6, 2, classes)
    prior = perturbed(learner.init(spec, KEY))
    both = jax.tree.map(lambda a, b: np.concatenate([a, b]), first, second)
    gone_on = learner.adapt(prior, second, KEY, learner.adapt(prior, first, KEY))
    for got, expected in zip(
        learner.predict(prior, gone_on, query.x, KEY),
        learner.predict(prior, learner.adapt(prior, both, KEY), query.x, KEY),
        strict=True,
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_the_predictive_objective_is_the_likelihood_of_the_query():
    learner, task = Dkt(NETWORK, objective="predictive"), Task(batch(5), batch(7, 1))
    prior = perturbed(learner.init(LINES, KEY))
    prediction = learner.predict(prior, learner.adapt(prior, task.support, KEY), task.query.x, KEY)
    expected = -log_likelihood(prediction, task.query).mean()
    assert float(learner.meta_loss(prior.params, task)) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("known", [7, 5, 4])
def test_the_crossed_objective_is_the_predictive_one_over_every_stretch_of_a_task(known):
    task = Task(batch(3, 0, 2), batch(4, 1, 2))
    both = jax.tree.map(lambda a, b: np.concatenate([a, b]), task.support, task.query)
    both = both._replace(mask=(np.arange(7) < known).astype(float))
    cut = lambda rows: jax.tree.map(lambda leaf: leaf[rows], both)  # noqa: E731
    learner = Dkt(NETWORK, objective="crossed")
    prior = perturbed(learner.init(spec_of(("a", "b")), KEY))
    got = learner.meta_loss(prior.params, Task(cut(slice(3)), cut(slice(3, 7))))
    total = count = 0
    for start in (0, 3):  # 7 samples: two whole stretches of 3
        support, rest = np.arange(start, start + 3), np.setdiff1d(np.arange(7), np.arange(start, start + 3))
        if both.mask[support].any():
            known_queries = both.mask[rest].sum()
            loss = Dkt(NETWORK).meta_loss(prior.params, Task(cut(support), cut(rest)))
            total, count = total + float(loss) * known_queries, count + known_queries
    assert float(got) == pytest.approx(total / count, rel=1e-5)


def test_the_marginal_objective_adds_up_the_predictions_of_one_sample_after_the_other():
    learner, task = Dkt(NETWORK, objective="marginal"), Task(batch(2), batch(3, 1))
    prior = perturbed(learner.init(LINES, KEY))
    both = jax.tree.map(lambda a, b: np.concatenate([a, b]), *task)
    total = 0.0
    for i in range(5):
        seen = both._replace(mask=(np.arange(5) < i).astype(float))
        new = jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], both)
        prediction = learner.predict(prior, learner.adapt(prior, seen, KEY), new.x, KEY)
        total -= float(log_likelihood(prediction, new).sum())
    assert float(learner.meta_loss(prior.params, task)) == pytest.approx(total / 5, rel=1e-4)


def test_two_classes_get_the_probit_of_one_function():
    learner, support, query = Dkt(NETWORK, terms=("values",)), batch(8, 0, 2), batch(5, 1)
    prior = learner.init(spec_of(("no", "yes")), KEY)
    logits = learner.predict(prior, learner.adapt(prior, support, KEY), query.x, KEY).logits
    assert (prior.params["mean"] == 0).all()
    # The same process on labels of -1 and 1.
    regression = learner.init(LINES, KEY)
    signs = support._replace(y=2.0 * support.y - 1)
    one = learner.predict(regression, learner.adapt(regression, signs, KEY), query.x, KEY)
    expected = stats.norm.cdf(np.asarray(one.mean) / np.sqrt(one.variance))
    np.testing.assert_allclose(jax.nn.softmax(logits)[:, 1], expected, rtol=1e-4)
    assert np.ptp(expected) > 0.1


def test_without_a_sample_every_class_is_as_likely():
    learner = Dkt(NETWORK)
    prior = learner.init(spec_of(("a", "b", "c", "d")), KEY)
    nothing = batch(3, 0, 4)._replace(mask=np.zeros(3))
    logits = learner.predict(prior, learner.adapt(prior, nothing, KEY), batch(2).x, KEY).logits
    np.testing.assert_allclose(jax.nn.softmax(logits), 0.25, rtol=1e-5)
    np.testing.assert_allclose(prior.params["mean"], -0.5)


@pytest.mark.parametrize("objective", ["marginal", "predictive", "crossed"])
def test_a_linear_mean_is_learned_and_taken_off_the_labels(objective):
    learner = Dkt(NETWORK, features=3, mean="linear", objective=objective)
    spec, support, query = spec_of(("no", "yes")), batch(6, 0, 2), batch(4, 1, 2)
    fresh = learner.init(spec, KEY)
    constant = Dkt(NETWORK, features=3, objective=objective).init(spec, KEY)
    task = Task(support, query)
    # It begins as the constant one does, and has a way down from there.
    plain = Dkt(NETWORK, features=3, objective=objective).meta_loss(constant.params, task)
    assert float(learner.meta_loss(fresh.params, task)) == pytest.approx(float(plain), rel=1e-5)
    slope = jax.grad(learner.meta_loss)(dict(fresh.params), task)["mean/slope"]
    assert float(np.abs(slope).max()) > 1e-3


def test_without_a_sample_a_linear_mean_is_the_answer():
    learner = Dkt(NETWORK, features=3, mean="linear")
    prior = perturbed(learner.init(LINES, KEY))
    nothing, x = batch(3)._replace(mask=np.zeros(3)), batch(5, 2).x
    got = learner.predict(prior, learner.adapt(prior, nothing, KEY), x, KEY).mean
    network = {name: value for name, value in prior.params.items() if name.startswith(("body", "head"))}
    slope = prior.params["mean/slope"][:, 0]
    expected = prior.params["mean"][0] + np.asarray(NETWORK.apply(network, x)) @ slope / np.sqrt(3)
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    assert np.ptp(expected) > 0.1
    # Far from every sample nothing else speaks; at a sample that is known, its label does.
    known = batch(3)._replace(mask=np.ones(3))
    prior.params["noise"][:] = -12.0
    got = learner.predict(prior, learner.adapt(prior, known, KEY), known.x, KEY).mean
    np.testing.assert_allclose(got, known.y, atol=0.02)


def test_a_linear_mean_needs_features():
    with pytest.raises(RecipeError, match=r'mean = "linear" .*add it'):
        Dkt(NETWORK, terms=("counts",), mean="linear")


def test_without_the_deep_term_there_is_no_network_to_learn():
    prior = Dkt(NETWORK, terms=("values",)).init(LINES, KEY)
    assert sorted(prior.params) == [
        "kernel/amplitude/values",
        "kernel/constant",
        "kernel/values/length",
        "mean",
        "noise",
    ]


def test_terms_for_which_the_inputs_have_nothing_are_refused_if_none_is_left():
    with pytest.raises(ModelError, match=r"terms = \['counts'\].*add \"deep\""):
        Dkt(NETWORK, terms=("counts",)).init(LINES, KEY)


@pytest.mark.parametrize(("field", "value"), [("terms", ()), ("terms", ("deep", "deep")), ("features", 0)])
def test_refuses_what_makes_no_sense(field, value):
    with pytest.raises(RecipeError, match=f"{field} = "):
        Dkt(NETWORK, **{field: value})
