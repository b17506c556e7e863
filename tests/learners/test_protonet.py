"""Prototypes against scikit-learn and SciPy, and what cannot be compared."""

import jax
import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from sklearn.neighbors import NearestCentroid

from commonprior.errors import ModelError, RecipeError
from commonprior.learners.matching import Matching
from commonprior.learners.protonet import Protonet
from commonprior.networks.mlp import Mlp
from commonprior.sampling import learning_key
from commonprior.task import Batch, Target, Task, TaskSpec

BLOBS = TaskSpec(Target(kind="classification", classes=("a", "b", "c")), shape=(2,))
LINES = TaskSpec(Target(scaling="public"), shape=(2,))
KEY = learning_key(0)
NETWORK = Mlp((6,), "tanh")
LEARNER = Protonet(NETWORK, features=4)


def batch(n, seed=0, classes=3):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2)).astype(np.float32)
    y = np.arange(n, dtype=np.int32) % classes if classes else np.sin(x).sum(1)
    return Batch(x, y, np.ones(n, np.float32))


def features(prior, x):
    return np.asarray(NETWORK.apply(prior.params, x), np.float64)


def answers(learner, spec, support, query):
    prior = learner.init(spec, KEY)
    return prior, learner.predict(prior, learner.adapt(prior, support, KEY), query.x, KEY)


def test_the_nearest_class_is_that_of_scikit_learn():
    support, query = batch(11), batch(40, 1)
    prior, prediction = answers(LEARNER, BLOBS, support, query)
    expected = NearestCentroid().fit(features(prior, support.x), support.y).predict(features(prior, query.x))
    assert (np.argmax(prediction.logits, 1) == expected).all()
    assert len(set(expected)) > 1


def test_logits_are_squared_distances_to_the_means():
    support, query = batch(8), batch(5, 1)
    prior, prediction = answers(LEARNER, BLOBS, support, query)
    means = np.stack([features(prior, support.x)[support.y == c].mean(0) for c in range(3)])
    expected = -((features(prior, query.x)[:, None] - means) ** 2).sum(-1) / np.sqrt(4)
    np.testing.assert_allclose(prediction.logits, expected, rtol=1e-3, atol=1e-4)


def test_mahalanobis_shrinks_a_class_towards_the_task_as_simple_cnaps_does():
    learner = Protonet(NETWORK, features=4, distance="mahalanobis")
    support, query = batch(10), batch(5, 1)
    prior, prediction = answers(learner, BLOBS, support, query)
    z, asked = features(prior, support.x), features(prior, query.x)
    for c in range(3):
        own = z[support.y == c]
        share = len(own) / (len(own) + 1)
        covariance = share * np.cov(own.T) + (1 - share) * np.cov(z.T) + np.eye(4)
        expected = [-(mahalanobis(q, own.mean(0), np.linalg.inv(covariance)) ** 2) / 2 for q in asked]
        np.testing.assert_allclose(prediction.logits[:, c], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("distance", ["euclidean", "mahalanobis"])
@pytest.mark.parametrize("unseen", [(1,), (0, 1)])
def test_a_class_without_a_sample_is_as_likely_as_a_sample_in_so_many_says(distance, unseen):
    """Before the bias, which a fresh prior has none of: 1 / (n + u) after n samples, u such classes."""
    support = batch(9)
    support.mask[np.isin(support.y, unseen)] = 0
    _, prediction = answers(Protonet(NETWORK, 4, distance), BLOBS, support, batch(6, 1))
    chances = np.asarray(jax.nn.softmax(prediction.logits))
    np.testing.assert_allclose(chances[:, list(unseen)], 1 / (support.mask.sum() + len(unseen)), rtol=1e-5)
    seen = [c for c in range(3) if c not in unseen]
    assert (chances[:, seen].max(1) > chances[:, list(unseen)].max(1)).all()


def test_a_regression_is_smoothed_by_a_kernel_with_the_prior_as_one_more_neighbour():
    support, query = batch(7, classes=0), batch(5, 1, classes=0)
    prior, prediction = answers(LEARNER, LINES, support, query)
    z, asked = features(prior, support.x), features(prior, query.x)
    weights = np.exp(-((asked[:, None] - z) ** 2).sum(-1) / np.sqrt(4))
    away = np.exp(prior.params["away"][0])
    mean = weights @ support.y / (weights.sum(1) + away)
    second = (weights @ support.y**2 + away) / (weights.sum(1) + away)
    np.testing.assert_allclose(prediction.mean, mean, rtol=1e-4)
    np.testing.assert_allclose(prediction.variance, second - mean**2 + np.exp(-2), rtol=1e-4)


@pytest.mark.parametrize("spec", [BLOBS, LINES], ids=["classes", "regression"])
@pytest.mark.parametrize("distance", ["euclidean", "mahalanobis"])
def test_going_on_is_as_having_seen_all_samples_at_once(spec, distance):
    classes, learner = 3 if spec is BLOBS else 0, Protonet(NETWORK, 4, distance)
    first, second, query = batch(4, 0, classes), batch(5, 1, classes), batch(6, 2, classes)
    prior = learner.init(spec, KEY)
    both = jax.tree.map(lambda a, b: np.concatenate([a, b]), first, second)
    gone_on = learner.adapt(prior, second, KEY, learner.adapt(prior, first, KEY))
    expected = learner.predict(prior, learner.adapt(prior, both, KEY), query.x, KEY)
    for got, wanted in zip(learner.predict(prior, gone_on, query.x, KEY), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def stacked(support, query):
    return jax.tree.map(lambda leaf: np.stack([leaf, leaf]), Task(support, query))


@pytest.mark.parametrize("cls", [Protonet, Matching])
def test_a_query_of_a_class_that_the_support_does_not_have_is_refused(cls):
    learner, tasks = cls(NETWORK, 4), stacked(batch(6), batch(6, 1))
    tasks.support.y[1] = 2
    with pytest.raises(ModelError, match="task 2 of 2 asks for class 0, which none of its 6 support samples has"):
        learner.contribute(learner.init(BLOBS, KEY), tasks, {}, KEY)
    tasks.query.mask[1, tasks.query.y[1] != 2] = 0
    learner.contribute(learner.init(BLOBS, KEY), tasks, {}, KEY)


@pytest.mark.parametrize("cls", [Protonet, Matching])
def test_a_classifier_refuses_the_labels_of_a_regression(cls):
    learner, tasks = cls(NETWORK, 4), stacked(batch(6, classes=0), batch(6, 1, classes=0))
    with pytest.raises(ModelError, match=r"a label is [-\d.]+ where this prior has 3 classes, 0 to 2"):
        learner.contribute(learner.init(BLOBS, KEY), tasks, {}, KEY)


def test_refuses_what_makes_no_sense():
    with pytest.raises(RecipeError, match="features = 0"):
        Protonet(NETWORK, features=0)
