"""The kernels by hand, and what makes them kernels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from commonprior.learners import _kernels
from commonprior.task import Rows

EVERY = ("deep", "values", "counts", "counts*values")


def samples(n=9, seed=0):
    rng = np.random.default_rng(seed)
    rows = Rows(rng.normal(size=(n, 3)), (rng.random((n, 2)) > 0.3) * 1.0, rng.poisson(1.0, (n, 5)) * 1.0)
    rows.counts[:2] = 0
    return _kernels.inputs(rows, rng.normal(size=(n, 4)))


def perturbed(params, seed=1):
    rng = np.random.default_rng(seed)
    return {name: value + 0.3 * rng.normal(size=value.shape) for name, value in params.items()}


@pytest.mark.parametrize(
    ("a", "b", "alike"),
    [([1, 2, 0], [1, 0, 3], 1 / 6), ([1, 2, 0], [1, 2, 0], 1), ([1, 0, 0], [0, 1, 0], 0), ([0, 0, 0], [0, 0, 0], 1)],
)
def test_min_max_is_the_share_of_counts_in_common(a, b, alike):
    got = _kernels._min_max(np.array([a], np.float32), np.array([b], np.float32))
    assert float(got[0, 0]) == pytest.approx(alike, abs=1e-5)


def test_the_terms_add_up_and_the_product_multiplies():
    a, b = samples(), samples(6, 2)
    params = perturbed(_kernels.fresh(EVERY, a))

    def distances(p, q):
        return ((p[:, None] - q[None]) ** 2).sum(-1)

    length = np.exp(params["kernel/values/length"])
    values = np.exp(-0.5 * distances(a.values / length, b.values / length))
    deep = np.exp(-0.5 * distances(a.deep, b.deep) / 4)
    counts = np.asarray(_kernels._min_max(a.counts, b.counts))
    size = {term: np.exp(params[f"kernel/amplitude/{term}"][0]) for term in EVERY}
    expected = (
        np.exp(params["kernel/constant"][0])
        + size["deep"] * deep
        + size["values"] * values
        + size["counts"] * counts
        + size["counts*values"] * counts * values
    )
    np.testing.assert_allclose(_kernels.gram(params, a, b), expected, rtol=1e-4)


@pytest.mark.parametrize("term", EVERY)
def test_a_kernel_is_positive_and_the_same_for_every_sample_with_itself(term):
    a = samples(20)
    params = perturbed(_kernels.fresh((term,), a))
    with jax.enable_x64(True):
        gram = np.asarray(_kernels.gram(params, a, a))
        np.testing.assert_allclose(np.diagonal(gram), _kernels.variance(params), rtol=1e-6)
    assert np.linalg.eigvalsh(gram).min() > -1e-9
    np.testing.assert_allclose(gram, gram.T, rtol=1e-12)


def test_a_gradient_exists_where_samples_coincide():
    a = samples()
    twice = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), a)
    slope = jax.grad(lambda params: _kernels.gram(params, twice, twice).sum())(_kernels.fresh(EVERY, a))
    assert all(np.isfinite(value).all() for value in slope.values())


def test_terms_without_anything_to_see_are_left_out():
    full = samples()
    no_counts, no_values = full._replace(counts=full.counts[:, :0]), full._replace(values=full.values[:, :0])
    assert _kernels.possible(EVERY, full) == EVERY
    assert _kernels.possible(EVERY, no_counts) == ("deep", "values")
    assert _kernels.possible(EVERY, no_values) == ("deep", "counts")


def test_an_array_is_all_values():
    x = np.arange(12.0).reshape(2, 3, 2)
    seen = _kernels.inputs(x, np.zeros((2, 1)))
    np.testing.assert_array_equal(seen.values, x.reshape(2, 6))
    assert seen.counts.shape == (2, 0)


def test_a_fresh_kernel_has_a_variance_of_one_and_a_constant():
    assert float(_kernels.variance(_kernels.fresh(EVERY, samples()))) == pytest.approx(1.1, rel=1e-5)
