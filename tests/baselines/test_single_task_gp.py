import jax
import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel

from commonprior.baselines._kernel import Inputs, similarity
from commonprior.baselines.single_task_gp import SingleTaskGp
from commonprior.predictor import predict_tasks
from commonprior.task import Batch, Target, TaskSpec

SPEC = TaskSpec(Target(), shape=(2,))


def predictor(**fields):
    return SingleTaskGp(**fields).prepare(SPEC, {}, 0)["single_task_gp"]


def smooth(k, n, noise=0.1, seed=0):
    """Labels drawn from a Gaussian process of length scale 1."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(k + n, 2)).astype(np.float32)
    covariance = RBF(1.0)(x) + 1e-8 * np.eye(k + n)
    y = rng.multivariate_normal(np.zeros(k + n), covariance, method="cholesky") + noise * rng.normal(size=k + n)
    y = (5 * y + 20).astype(np.float32)
    return Batch(x[:k], y[:k], np.ones(k, np.float32)), Batch(x[k:], y[k:], np.ones(n, np.float32))


def one(tree):
    return jax.tree.map(lambda leaf: leaf[None], tree)


KEY = jax.random.split(jax.random.key(0), 1)


def test_the_posterior_is_scikit_learn_s_at_the_same_hyperparameters():
    support, query = smooth(25, 10)
    gp = predictor()
    adapted = gp.adapt(one(support), KEY)
    got = gp.predict(adapted, query.x[None], KEY)
    theta = {name: np.exp(value[0]) for name, value in adapted.theta.items()}
    kernel = ConstantKernel(theta["amplitude"][0]) * RBF(theta["length"] * np.sqrt(adapted.unit[0]))
    noise = theta["noise"] + 1e-4
    centre, spread = support.y.mean(), support.y.std(ddof=1)
    theirs = GaussianProcessRegressor(kernel, alpha=noise, optimizer=None).fit(support.x, (support.y - centre) / spread)
    mean, deviation = theirs.predict(query.x, return_std=True)
    np.testing.assert_allclose(got.mean[0], mean * spread + centre, rtol=1e-5)
    np.testing.assert_allclose(got.variance[0], (deviation**2 + noise) * spread**2, rtol=1e-4)


def test_the_search_finds_a_likelier_kernel_than_it_began_with():
    support, _ = smooth(40, 1, noise=0.01)
    likelihoods = []
    for steps in (1, 100):
        adapted = predictor(steps=steps).adapt(one(support), KEY)
        y = (support.y - support.y.mean()) / support.y.std(ddof=1)
        factor = adapted.factor[0]
        white = np.linalg.solve(factor, y)
        likelihoods.append(-0.5 * white @ white - np.log(np.diag(factor)).sum())
    assert likelihoods[1] > likelihoods[0] + 5


def test_nine_in_ten_labels_lie_in_the_interval():
    inside = []
    for seed in range(12):
        support, query = smooth(20, 60, seed=seed)
        got = predict_tasks(predictor(), one(support), query.x[None], KEY)
        inside.append(np.abs(query.y - got.mean[0]) <= 1.6449 * np.sqrt(got.variance[0]))
    assert np.mean(inside) == pytest.approx(0.9, abs=0.06)


def test_more_samples_predict_better():
    errors = []
    for shots in (4, 64):
        support, query = smooth(64, 100)
        few = jax.tree.map(lambda leaf, shots=shots: leaf[None, :shots], support)
        errors.append(np.abs(predict_tasks(predictor(), few, query.x[None], KEY).mean[0] - query.y).mean())
    assert errors[1] < 0.5 * errors[0]


def test_the_search_looks_at_a_subset_and_the_posterior_at_all():
    support, query = smooth(48, 20)
    order = np.argsort(support.x[:, 0])
    support = jax.tree.map(lambda leaf: leaf[order], support)
    thin = predictor(subset=16)
    adapted = thin.adapt(one(support), KEY)
    assert adapted.weights.shape == (1, 48, 1)
    picked = jax.tree.map(lambda leaf: leaf[np.linspace(0, 47, 16).astype(int)], support)
    alone = predictor().adapt(one(picked), KEY)
    # The subset is standardised with the whole support, and so its kernel differs a little from its own.
    np.testing.assert_allclose(adapted.theta["length"], alone.theta["length"], atol=0.3)
    error = np.abs(thin.predict(adapted, query.x[None], KEY).mean[0] - query.y).mean()
    assert error < np.abs(query.y - support.y.mean()).mean() / 2


def test_the_subset_is_of_samples_that_are_not_padded():
    support, query = smooth(24, 10)
    scattered = jax.tree.map(lambda leaf: np.repeat(leaf, 2, axis=0), support)
    scattered.mask[::2] = 0
    scattered.y[::2] = 1e6
    gp = predictor(subset=8)
    a, b = (predict_tasks(gp, one(s), query.x[None], KEY).mean for s in (support, scattered))
    np.testing.assert_allclose(a, b, rtol=1e-3)


def test_equal_samples_with_other_labels_are_no_trouble():
    x = np.zeros((1, 6, 2), np.float32)
    support = Batch(x, np.arange(6, dtype=np.float32)[None], np.ones((1, 6), np.float32))
    got = predict_tasks(predictor(), support, x, KEY)
    np.testing.assert_allclose(got.mean, 2.5, atol=0.1)
    assert (got.variance > 1).all()


def test_tanimoto_is_what_its_definition_says():
    rng = np.random.default_rng(0)
    a, b = rng.poisson(0.7, (2, 5, 9)).astype(float), rng.poisson(0.7, (2, 4, 9)).astype(float)
    a[0, 0] = b[0, 0] = 0
    got = similarity(Inputs(a[..., :0], a), Inputs(b[..., :0], b))
    assert got.distance is None
    for t in range(2):
        for i in range(5):
            for j in range(4):
                most = np.maximum(a[t, i], b[t, j]).sum()
                expected = np.minimum(a[t, i], b[t, j]).sum() / most if most else 1.0
                assert got.tanimoto[t, i, j] == pytest.approx(expected)


def test_two_classes_share_the_probability():
    spec = TaskSpec(Target(kind="classification", classes=("a", "b")), shape=(2,))
    gp = SingleTaskGp().prepare(spec, {}, 0)["single_task_gp"]
    support, query = smooth(60, 100)
    label = lambda batch: (batch.y > 20).astype(np.int32)  # noqa: E731
    got = predict_tasks(gp, one(support._replace(y=label(support))), query.x[None], KEY)
    probability = np.exp(got.logits[0])
    np.testing.assert_allclose(probability.sum(1), 1, rtol=1e-6)
    assert (probability.argmax(1) == label(query)).mean() > 0.8
