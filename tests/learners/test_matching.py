"""Matching networks against the attention written out."""

import numpy as np
import pytest
from scipy.special import softmax

from commonprior.errors import ModelError, RecipeError
from commonprior.learners.matching import Matching
from commonprior.learners.memory_augmented import MemoryAugmented
from commonprior.learners.neural_process import NeuralProcess
from commonprior.learners.protonet import Protonet
from commonprior.networks import Network
from commonprior.networks.mlp import Mlp
from commonprior.sampling import learning_key
from commonprior.task import Batch, Target, TaskSpec

BLOBS = TaskSpec(Target(kind="classification", classes=("a", "b", "c")), shape=(2,))
LINES = TaskSpec(Target(scaling="public"), shape=(2,))
KEY = learning_key(0)
LEARNER = Matching(Mlp((6,), "tanh"), features=4)
RNG = np.random.default_rng(0)
X, ASKED = RNG.normal(size=(7, 2)).astype(np.float32), RNG.normal(size=(4, 2)).astype(np.float32)
MASK = np.array([1, 1, 1, 1, 1, 0, 1], np.float32)


def shares(prior):
    """What each query attends to, the prior last."""
    z, asked = (np.asarray(LEARNER.network.apply(prior.params, x), np.float64) for x in (X, ASKED))
    cosines = (asked / np.linalg.norm(asked, axis=1)[:, None]) @ (z / np.linalg.norm(z, axis=1)[:, None]).T
    logits = np.where(MASK > 0, np.exp(prior.params["scale"][0]) * cosines, -np.inf)
    return softmax(np.concatenate([logits, np.full((4, 1), prior.params["away"][0])], 1), axis=1)


def test_a_class_is_as_likely_as_its_samples_are_attended_to():
    y, prior = RNG.integers(3, size=7).astype(np.int32), LEARNER.init(BLOBS, KEY)
    prior.params["bias"][:] = [0.5, -0.2, 0.1]
    got = LEARNER.predict(prior, LEARNER.adapt(prior, Batch(X, y, MASK), KEY), ASKED, KEY).logits
    a = shares(prior)
    expected = a[:, :-1] @ np.eye(3)[y] + a[:, -1:] * softmax(prior.params["bias"])
    np.testing.assert_allclose(np.exp(got), expected, rtol=1e-4)


def test_a_regression_is_the_mean_and_variance_of_what_is_attended_to():
    y, prior = RNG.normal(size=7).astype(np.float32), LEARNER.init(LINES, KEY)
    prior.params["mean"][:] = 0.3
    got = LEARNER.predict(prior, LEARNER.adapt(prior, Batch(X, y, MASK), KEY), ASKED, KEY)
    a, labels = shares(prior), np.append(y, 0.3)
    mean = a @ labels
    variance = (a * (labels - mean[:, None]) ** 2).sum(1) + a[:, -1] + np.exp(-2)
    np.testing.assert_allclose(got.mean, mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(got.variance, variance, rtol=1e-4)


class Short(Network):
    """A network that pays no heed to what it is asked for."""

    def init(self, example, outputs, key):
        return {"body/weight": np.ones((2, 3), np.float32)}

    def apply(self, params, x):
        return x @ params["body/weight"]


@pytest.mark.parametrize("cls", [Matching, Protonet, MemoryAugmented, NeuralProcess])
def test_a_network_that_does_not_fit_is_refused_with_its_shapes(cls):
    with pytest.raises(ModelError, match=r"a sample of shapes \[\[2\]\] to \[3\], expected \[8\]; .*features = 8"):
        cls(Short(), features=8).init(LINES, KEY)


def test_refuses_what_makes_no_sense():
    with pytest.raises(RecipeError, match="features = 0"):
        Matching(LEARNER.network, features=0)
