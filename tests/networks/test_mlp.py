"""The MLP: its names, its inputs, its layers."""

import jax
import numpy as np
import pytest

from commonprior.errors import ModelError, RecipeError
from commonprior.networks._inputs import rows_of_numbers
from commonprior.networks.mlp import Mlp
from commonprior.sampling import learning_key
from commonprior.task import Rows

KEY = learning_key(0)
ROWS = Rows(
    np.array([[0.5, -1.0], [2.0, 0.0]], np.float32),
    np.array([[1.0, 1.0], [1.0, 0.0]], np.float32),
    np.array([[0.0, 3.0, 1.0], [7.0, 0.0, 0.0]], np.float32),
)


def test_is_the_layers_written_out():
    network = Mlp((4, 3), "tanh")
    x = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    params = {name: value + 0.1 for name, value in network.init(x[:1], 2, KEY).items()}
    h = np.tanh(x @ params["body/0/weight"] + params["body/0/bias"])
    h = np.tanh(h @ params["body/1/weight"] + params["body/1/bias"])
    expected = h @ params["head/weight"] + params["head/bias"]
    np.testing.assert_allclose(network.apply(params, x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("depth", [1, 2, 10, 11, 12])
def test_names_sort_in_the_order_of_the_layers(depth):
    widths = tuple(range(2, 2 + depth))
    params = Mlp(widths).init(np.zeros((1, 1)), 1, KEY)
    weights = [name for name in sorted(params) if name.endswith("weight")]
    assert [params[name].shape[0] for name in weights] == [1, *widths]
    assert weights[-1] == "head/weight"
    assert {value.dtype for value in params.values()} == {np.dtype(np.float32)}


def test_without_hidden_layers_it_is_linear():
    params = Mlp(()).init(np.zeros((1, 3)), 2, KEY)
    assert sorted(params) == ["head/bias", "head/weight"]
    assert params["head/weight"].shape == (3, 2)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [("raw", [0.0, 3.0, 1.0]), ("log1p", [0.0, np.log(4), np.log(2)]), ("binary", [0.0, 1.0, 1.0])],
)
def test_rows_become_values_presence_and_counts(counts, expected):
    got = rows_of_numbers(ROWS, counts)
    np.testing.assert_allclose(got[0], [0.5, -1.0, 1.0, 1.0, *expected], rtol=1e-6)
    assert Mlp((4,), counts=counts).apply(Mlp((4,)).init(ROWS, 3, KEY), ROWS).shape == (2, 3)


def test_an_array_of_any_rank_is_flattened():
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.testing.assert_array_equal(rows_of_numbers(x, "log1p"), x.reshape(2, 12))


@pytest.mark.parametrize("layer_norm", [False, True])
def test_a_sample_does_not_see_the_others_of_its_batch(layer_norm):
    network = Mlp((6, 6), "gelu", layer_norm)
    x = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    params = network.init(x[:1], 2, KEY)
    np.testing.assert_allclose(network.apply(params, x)[:1], network.apply(params, x[:1]), rtol=1e-5, atol=1e-6)


def test_normalised_layers_do_not_care_for_the_scale_of_what_comes_in():
    network = Mlp((16,), "tanh", layer_norm=True)
    x = np.random.default_rng(2).normal(size=(4, 3)).astype(np.float32)
    params = network.init(x[:1], 1, KEY)
    np.testing.assert_allclose(network.apply(params, 100 * x), network.apply(params, x), rtol=1e-2, atol=1e-3)
    plain = {name: value for name, value in params.items() if not name.endswith("scale")}
    assert np.abs(Mlp((16,), "tanh").apply(plain, 100 * x) - Mlp((16,), "tanh").apply(plain, x)).max() > 0.1
    louder = {**params, "body/0/scale": 0 * params["body/0/scale"]}
    assert np.ptp(network.apply(louder, x)) == 0


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "silu"])
def test_a_deep_network_starts_with_signals_of_one_size(activation):
    x = np.random.default_rng(3).normal(size=(64, 256)).astype(np.float32)
    network = Mlp((256, 128, 64), activation)
    outputs = network.apply(network.init(x[:1], 8, KEY), x)
    assert 0.2 < float(np.sqrt((np.asarray(outputs) ** 2).mean())) < 2


def test_the_key_decides():
    x = np.zeros((1, 3))
    one, same, other = (Mlp((4,)).init(x, 1, key) for key in (KEY, KEY, learning_key(1)))
    assert all((one[name] == same[name]).all() for name in one)
    assert (one["body/0/weight"] != other["body/0/weight"]).all()


def test_is_static_under_jit():
    run = jax.jit(lambda network, params, x: network.apply(params, x), static_argnums=0)
    x = np.ones((2, 3), np.float32)
    assert run(Mlp((4,)), Mlp((4,)).init(x[:1], 1, KEY), x).shape == (2, 1)


def test_inputs_without_a_number_are_refused():
    with pytest.raises(ModelError, match="got 0 and 1"):
        Mlp().init(np.zeros((1, 0)), 1, KEY)


def test_a_layer_without_units_is_refused():
    with pytest.raises(RecipeError, match=r"network\.widths = \(4, 0\)"):
        Mlp((4, 0))
