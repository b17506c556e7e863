"""Attention against jax's own, and rows as sets of columns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from commonprior.errors import ModelError, RecipeError
from commonprior.networks._attention import attend, fresh_attention
from commonprior.networks._columns import layout
from commonprior.networks.attention import Attention
from commonprior.sampling import learning_key
from commonprior.task import Column, Rows, Target, TaskSpec

KEY = learning_key(0)
RNG = np.random.default_rng(0)
SIZE, DOSE = Column("size", unit="nm"), Column("dose", unit="mg")
SOLVENT = Column("solvent", "categorical", slots=2, categories=("water", "oil"))
FORMULA = Column("compound", "formula", slots=5)
NETWORK = Attention((SIZE, SOLVENT, DOSE, FORMULA), width=8, heads=2)


def table(n=6):
    present = np.ones((n, 4), np.float32)
    present[0, 2] = 0
    values = RNG.normal(size=(n, 4)).astype(np.float32)
    values[0, 3] = 0
    return Rows(values, present, RNG.integers(0, 4, size=(n, 5)).astype(np.float32))


def example(columns):
    return TaskSpec(Target(), columns).example()


def test_attention_is_that_of_jax_with_one_more_place_of_nothing():
    params = fresh_attention("a", 6, KEY)
    asking, keys, values = (RNG.normal(size=(n, 6)).astype(np.float32) for n in (4, 5, 5))
    mask = np.array([1, 0, 1, 1, 0])

    def heads(h, part, extra):
        h = np.concatenate([h @ params[f"a/{part}"], np.zeros((extra, 6), np.float32)])
        return h.reshape(1, len(h), 3, 2)

    expected = jax.nn.dot_product_attention(
        heads(asking, "query", 0), heads(keys, "key", 1), heads(values, "value", 1),
        mask=jnp.asarray(np.append(mask, 1) > 0)[None, None, None],
    )  # fmt: skip
    got = attend(params, "a", asking, keys, values, mask, 3)
    np.testing.assert_allclose(got, expected.reshape(4, 6) @ params["a/out"], rtol=1e-4, atol=1e-5)


def test_of_an_empty_set_nothing_is_read():
    params, h = fresh_attention("a", 4, KEY), RNG.normal(size=(3, 4)).astype(np.float32)
    assert (attend(params, "a", h, h, h, np.zeros(3), 2) == 0).all()
    gradient = jax.grad(lambda h: attend(params, "a", h, h, h, np.zeros(3), 2).sum())(h)
    assert np.isfinite(gradient).all()


def test_the_order_of_the_columns_changes_nothing():
    x = table()
    params = NETWORK.init(example(NETWORK.columns), 3, KEY)
    turned = Attention((FORMULA, DOSE, SIZE, SOLVENT), 8, 2)
    other = Rows(x.values[:, [3, 0, 1, 2]], x.present[:, [3, 2, 0, 1]], x.counts)
    np.testing.assert_allclose(turned.apply(params, other), NETWORK.apply(params, x), rtol=1e-4, atol=1e-5)


def test_a_column_that_is_absent_is_not_there():
    x = table()
    params = NETWORK.init(example(NETWORK.columns), 3, KEY)
    x.present[:, 2] = 0
    x.values[:, 3] = 0
    without = Attention((SIZE, SOLVENT, FORMULA), 8, 2)
    fewer = Rows(x.values[:, :3], x.present[:, [0, 1, 3]], x.counts)
    np.testing.assert_allclose(without.apply(params, fewer), NETWORK.apply(params, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("change", [{"name": "width"}, {"unit": "um"}, {"transform": "log10"}])
def test_another_name_unit_or_scale_is_another_column(change):
    columns = tuple(Column(**{"name": "size", "unit": "nm", **c}) for c in ({}, change))
    first, second = (layout([c], Rows(np.zeros((1, 1)), np.zeros((1, 1)), np.zeros((1, 0)))) for c in columns)
    assert (first.columns != second.columns).any()
    assert first.columns.max() < 2**16


def test_an_element_is_the_same_in_any_column_of_formulas():
    two = (FORMULA, Column("core", "formula", slots=5))
    known = layout(two, example(two))
    assert (known.slots[:5, :4] == known.slots[5:, :4]).all()
    assert (known.slots[:, 4] == [0] * 5 + [1] * 5).all()
    assert len(np.unique(known.slots[:5, :4], axis=0)) == 5


def test_without_columns_numbers_are_known_by_their_places():
    network, x = Attention(width=8, heads=2), RNG.normal(size=(3, 4)).astype(np.float32)
    params = network.init(x[:1], 2, KEY)
    assert network.apply(params, x).shape == (3, 2)
    assert np.abs(network.apply(params, x[:, ::-1]) - network.apply(params, x)).max() > 1e-3


@pytest.mark.parametrize(("network", "inputs", "words"), [
    (Attention((SIZE,)), example((SIZE, SOLVENT)), "1 columns of 1 slots, but the rows have 2 of 3"),
    (Attention(), example((SIZE,)), "0 columns to attend to"),
    (Attention(), np.zeros((1, 28, 28, 1)), "784 columns to attend to, expected 1 to 256"),
])  # fmt: skip
def test_columns_that_do_not_fit_are_refused(network, inputs, words):
    with pytest.raises(ModelError, match=words):
        network.init(inputs, 2, KEY)


def test_heads_share_the_width():
    with pytest.raises(RecipeError, match="a multiple of heads = 3"):
        Attention(width=8, heads=3)
