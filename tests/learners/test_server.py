"""The server step against Optax, and against what it must refuse."""

import numpy as np
import optax
import pytest

from commonprior.errors import ModelError, RecipeError
from commonprior.learners._server import ServerStep, _power
from commonprior.prior import flatten

PARAMS = {"b": np.array([[0.5, -1.0], [2.0, 0.25]], np.float32), "a": np.array([3.0], np.float32)}


def walked(step, rounds=20):
    """Return the parameters after some rounds of made-up updates, and the updates."""
    updates = np.random.default_rng(0).normal(size=(rounds, 5))
    prior = step.begin(PARAMS)
    for update in updates:
        prior = step.apply(prior, update)
    return flatten(prior.params), updates


@pytest.mark.parametrize(
    ("step", "optimiser"),
    [
        (ServerStep("mean", 0.1), optax.sgd(0.1)),
        (ServerStep("momentum", 0.05, beta1=0.8), optax.sgd(0.05, momentum=0.8)),
        (ServerStep("adam", 0.01, 0.8, 0.99, 1e-6), optax.adam(0.01, 0.8, 0.99, 1e-6)),
    ],
)
def test_is_the_optimiser_of_its_name_with_minus_the_update_for_a_gradient(step, optimiser):
    got, updates = walked(step)
    expected = flatten(PARAMS).astype(np.float32)
    state = optimiser.init(expected)
    for update in updates:
        change, state = optimiser.update(-update.astype(np.float32), state)
        expected = np.asarray(optax.apply_updates(expected, change))
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "optimiser"),
    [("mean", optax.sgd), ("momentum", lambda rate: optax.sgd(rate, momentum=0.9)), ("adam", optax.adam)],
)
def test_a_rate_that_fades_falls_evenly_to_nothing(kind, optimiser):
    step = ServerStep(kind, 0.1, fades=8)
    got, updates = walked(step, 8)
    expected = flatten(PARAMS).astype(np.float32)
    falling = optimiser(optax.linear_schedule(0.1, 0.0, 8))
    state = falling.init(expected)
    for update in updates:
        change, state = falling.update(-update.astype(np.float32), state)
        expected = np.asarray(optax.apply_updates(expected, change))
    np.testing.assert_allclose(got, expected, rtol=2e-4, atol=1e-5)
    longer, _ = walked(step, 12)
    np.testing.assert_array_equal(longer, got)


@pytest.mark.parametrize("kind", ["mean", "momentum", "adam"])
def test_everything_it_keeps_is_float32_and_named(kind):
    prior = ServerStep(kind).apply(ServerStep(kind).begin(PARAMS), np.ones(5))
    assert all(value.dtype == np.float32 for group in prior for value in group.values())
    assert {name: value.shape for name, value in prior.params.items()} == {"a": (1,), "b": (2, 2)}
    assert len(prior.state) == {"mean": 0, "momentum": 2, "adam": 5}[kind]


def test_the_update_is_laid_out_by_sorted_name():
    new = ServerStep("mean", 1.0).apply(ServerStep("mean", 1.0).begin(PARAMS), np.arange(5.0))
    np.testing.assert_array_equal(new.params["a"], PARAMS["a"])
    np.testing.assert_array_equal(new.params["b"], PARAMS["b"] + [[1, 2], [3, 4]])


def test_the_sums_are_taken_in_float64():
    start = ServerStep("mean", 1.0).begin({"a": np.array([1.0], np.float32)})
    update = np.array(
        [2**-24 + 2**-40]
    )  # just over half of a float32's last bit: rounds up, but only if it is all seen
    assert ServerStep("mean", 1.0).apply(start, update).params["a"][0] == np.float32(1 + 2**-23)


@pytest.mark.parametrize("kind", ["momentum", "adam"])
def test_what_it_remembers_is_taken_up_in_float64_too(kind):
    step, updates = ServerStep(kind, 0.1, beta1=0.9), np.random.default_rng(1).normal(size=(2, 5))
    once = step.apply(step.begin(PARAMS), updates[0])
    twice = step.apply(once, updates[1])
    fresh = 1.0 if kind == "momentum" else 1 - step.beta1
    for name, part in (("a", slice(0, 1)), ("b", slice(1, 5))):
        first = once.state[f"server/first/{name}"].astype(np.float64).ravel()
        expected = (step.beta1 * first + fresh * updates[1][part]).astype(np.float32)
        np.testing.assert_array_equal(twice.state[f"server/first/{name}"].ravel(), expected)


def test_refuses_an_update_of_another_length():
    with pytest.raises(ModelError, match=r"5 numbers, got shape \(4,\)"):
        ServerStep().apply(ServerStep().begin(PARAMS), np.ones(4))


@pytest.mark.parametrize(
    ("field", "value"),
    [("rate", 0.0), ("rate", float("nan")), ("beta1", 1.0), ("beta2", -0.1), ("epsilon", 0.0), ("fades", -1)],
)
def test_refuses_what_makes_no_sense(field, value):
    with pytest.raises(RecipeError, match=rf"server\.{field} = "):
        ServerStep(**{field: value})


@pytest.mark.parametrize("exponent", [1, 2, 3, 10, 999])
def test_a_power_is_a_product(exponent):
    assert _power(0.999, exponent) == pytest.approx(0.999**exponent, rel=1e-13)
