"""Gaussian-process regression against scikit-learn, with padding, and where float32 alone would fail."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from commonprior.learners import _gp

NOISE = 0.3


def samples(n, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    return x, np.sin(x).sum(1) + 0.1 * rng.normal(size=n)


def rbf(a, b):
    return 0.8 * jnp.exp(-0.5 * ((a[:, None] - b[None]) ** 2).sum(-1))


def test_is_the_textbook_posterior():
    (x, y), (new, _) = samples(12), samples(7, 1)
    kernel = ConstantKernel(0.8, "fixed") * RBF(1.0, "fixed") + WhiteKernel(NOISE, "fixed")
    expected = GaussianProcessRegressor(kernel, alpha=0.0, optimizer=None).fit(x, y)
    mean, deviation = expected.predict(new, return_std=True)
    with jax.enable_x64(True):
        mask = np.ones(12)
        posterior = _gp.condition(rbf(x, x), NOISE, mask, y[:, None])
        got_mean, got_variance = _gp.predict(posterior, rbf(new, x), mask, jnp.float64(0.8))
        surprise = _gp.surprise(posterior, mask, y[:, None])
    np.testing.assert_allclose(got_mean[:, 0], mean, rtol=1e-9)
    np.testing.assert_allclose(np.asarray(got_variance) + NOISE, deviation**2, rtol=1e-9)
    assert float(surprise) * 12 == pytest.approx(-expected.log_marginal_likelihood_value_, rel=1e-9)


def test_several_functions_share_one_covariance():
    (x, y), (new, _) = samples(9), samples(4, 1)
    mask, both = np.ones(9), np.stack([y, -2 * y], 1)
    together = _gp.condition(rbf(x, x), NOISE, mask, both)
    apart = [_gp.condition(rbf(x, x), NOISE, mask, both[:, i : i + 1]) for i in range(2)]
    mean, _ = _gp.predict(together, rbf(new, x), mask, 0.8)
    assert mean.shape == (4, 2)
    for i, one in enumerate(apart):
        np.testing.assert_allclose(mean[:, i : i + 1], _gp.predict(one, rbf(new, x), mask, 0.8)[0], rtol=1e-5)
    each = [float(_gp.surprise(one, mask, both[:, i : i + 1])) for i, one in enumerate(apart)]
    assert float(_gp.surprise(together, mask, both)) == pytest.approx(np.mean(each), rel=1e-5)


@pytest.mark.parametrize("known", [0, 1, 5])
def test_a_padded_sample_changes_nothing(known):
    (x, y), (new, _) = samples(8), samples(4, 1)
    mask = (np.arange(8) < known).astype(float)
    long = _gp.condition(rbf(x, x), NOISE, mask, y[:, None])
    short = _gp.condition(rbf(x[:known], x[:known]), NOISE, mask[:known], y[:known, None])
    np.testing.assert_allclose(
        jnp.stack([m.ravel() for m in _gp.predict(long, rbf(new, x), mask, jnp.full(4, 0.8))]),
        jnp.stack([m.ravel() for m in _gp.predict(short, rbf(new, x[:known]), mask[:known], jnp.full(4, 0.8))]),
        rtol=1e-5, atol=1e-6,
    )  # fmt: skip
    surprises = [_gp.surprise(p, m, y[: len(m), None]) for p, m in ((long, mask), (short, mask[:known]))]
    assert float(surprises[0]) == pytest.approx(float(surprises[1]), rel=1e-5)


def test_a_covariance_without_a_factor_in_float32_gets_the_least_jitter_that_makes_one():
    x = np.repeat(np.linspace(0, 1, 10), 4)[:, None].astype(np.float32)
    y = np.sin(3 * x[:, 0])

    def surprise(log_noise):
        mask = np.ones(len(x), np.float32)
        return _gp.surprise(_gp.condition(rbf(x, x), jnp.exp(log_noise), mask, y[:, None]), mask, y[:, None])

    assert not np.isfinite(jnp.linalg.cholesky(rbf(x, x))).all()
    value, slope = jax.value_and_grad(surprise)(jnp.float32(-40))
    assert np.isfinite(value)
    assert np.isfinite(slope)
    posterior = _gp.condition(rbf(x, x), jnp.float32(0), np.ones(len(x), np.float32), y[:, None])
    mean, variance = _gp.predict(posterior, rbf(x, x), np.ones(len(x), np.float32), jnp.float32(0.8))
    np.testing.assert_allclose(mean[:, 0], y, atol=0.01)
    assert (variance >= 0).all()


def test_a_covariance_with_a_factor_gets_no_jitter():
    matrix = np.array([[2.0, 0.5], [0.5, 1.0]], np.float32)
    np.testing.assert_array_equal(_gp._cholesky(matrix)[0], jnp.linalg.cholesky(matrix))


@pytest.mark.parametrize("n", [1, 2, 5, 8, 33])
def test_factor_and_inverse_have_the_derivatives_that_finite_differences_have(n):
    rng = np.random.default_rng(n)
    a, move, weights = rng.normal(size=(n, n)), rng.normal(size=(n, n)), rng.normal(size=(2, n, n))
    matrix, move = a @ a.T + n * np.eye(n), move + move.T

    def weighed(step):
        return sum((w * part).sum() for w, part in zip(weights, _gp._cholesky(matrix + step * move), strict=True))

    with jax.enable_x64(True):
        factor, inverse = map(np.asarray, _gp._cholesky(matrix))
        first, second = float(jax.grad(weighed)(0.0)), float(jax.grad(jax.grad(weighed))(0.0))
        h = 1e-4
        below, here, above = (float(weighed(step)) for step in (-h, 0.0, h))
    np.testing.assert_allclose(factor, np.linalg.cholesky(matrix), rtol=1e-12)
    np.testing.assert_allclose(inverse @ factor, np.eye(n), atol=1e-12)
    assert first == pytest.approx((above - below) / (2 * h), rel=1e-5, abs=1e-6)
    assert second == pytest.approx((above - 2 * here + below) / h**2, rel=1e-3, abs=1e-4)
