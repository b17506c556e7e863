"""Convolutional networks against SciPy's correlations, layer by layer."""

import numpy as np
import pytest
from scipy import signal

from commonprior.errors import ModelError, RecipeError
from commonprior.networks.conv1d import Conv1d
from commonprior.networks.conv2d import Conv2d
from commonprior.sampling import learning_key
from commonprior.task import Rows

KEY = learning_key(0)
RNG = np.random.default_rng(0)


def perturbed(params):
    rng = np.random.default_rng(1)
    return {name: (value + 0.3 * rng.normal(size=value.shape)).astype(np.float32) for name, value in params.items()}


def block(h, weight, scale, bias):
    """One sample [..., c] through correlation, maxima over pairs, normalisation over everything, and ReLU."""
    dimensions = h.ndim - 1
    out = np.stack([
        sum(signal.correlate(h[..., i], weight[..., i, o], "same") for i in range(weight.shape[-2]))
        for o in range(weight.shape[-1])
    ], -1)  # fmt: skip
    for axis in range(dimensions):
        side = out.shape[axis] // 2 * 2
        out = np.maximum(*(np.take(out, range(start, side, 2), axis) for start in (0, 1)))
    out = (out - out.mean()) / np.sqrt(out.var() + 1e-5)
    return np.maximum(out * scale + bias, 0)


@pytest.mark.parametrize(("network", "shape"), [
    (Conv2d((4, 3)), (11, 8, 2)), (Conv2d((3,), size=5), (6, 7, 1)), (Conv1d((4, 3)), (13, 2)),
])  # fmt: skip
def test_is_the_correlations_that_scipy_knows(network, shape):
    x = RNG.normal(size=(3, *shape)).astype(np.float32)
    params = perturbed(network.init(x[:1], 5, KEY))
    expected = []
    for h in x.astype(np.float64):
        for i in range(len(network.channels)):
            h = block(h, *(params[f"body/{i}/{name}"] for name in ("weight", "scale", "bias")))
        expected.append(h.ravel() @ params["head/weight"] + params["head/bias"])
    np.testing.assert_allclose(network.apply(params, x), expected, rtol=2e-3, atol=2e-4)


def test_omniglot_needs_no_more_than_the_paper_has():
    params = Conv2d().init(np.zeros((1, 28, 28, 1), np.float32), 64, KEY)
    filters = sum(value.size for name, value in params.items() if name.endswith("weight") and "body" in name)
    assert filters == 9 * 64 * (1 + 3 * 64)
    assert params["head/weight"].shape == (64, 64)


def test_a_sample_does_not_see_the_others_of_its_batch():
    network, x = Conv2d((4, 4)), RNG.normal(size=(4, 8, 8, 1)).astype(np.float32)
    params = network.init(x[:1], 2, KEY)
    np.testing.assert_allclose(network.apply(params, x)[:1], network.apply(params, x[:1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("network", "example", "words"), [
    (Conv2d(), np.zeros((1, 28, 28)), r"\[height, width, channels\], got \[28, 28\]"),
    (Conv2d(), np.zeros((1, 12, 28, 1)), r"4 blocks halves samples of shape \[12, 28, 1\] to nothing; take at most 3"),
    (Conv1d(), np.zeros((1, 28, 28, 1)), r"\[length, channels\], got \[28, 28, 1\]"),
    (Conv1d(), Rows(*(np.zeros((1, n)) for n in (3, 2, 5))), r"3 values, 2 columns, 5 counts.*\"mlp\""),
])  # fmt: skip
def test_samples_that_do_not_fit_are_refused(network, example, words):
    with pytest.raises(ModelError, match=words):
        network.init(example, 2, KEY)


@pytest.mark.parametrize("make", [lambda: Conv2d(()), lambda: Conv2d((4, 0)), lambda: Conv1d((4,), size=0)])
def test_refuses_what_makes_no_sense(make):
    with pytest.raises(RecipeError, match=r"network\.(channels|size) = "):
        make()
