"""The inner loop against the same loop written out, and what it keeps in memory to go back through."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from commonprior.learners import _objective
from commonprior.learners._inner import descend
from commonprior.learners.maml import Maml
from commonprior.networks.mlp import Mlp
from commonprior.sampling import learning_key
from commonprior.task import Batch, Target, Task, TaskSpec


def bowl(params):
    """A loss whose third derivatives are not zero."""
    return jnp.sin(params["a"]).sum() * params["b"][0] + (params["b"] ** 4).sum()


def written_out(start, steps, rates, first_order):
    for _ in range(steps):
        slope = jax.grad(bowl)(start)
        slope = jax.lax.stop_gradient(slope) if first_order else slope
        start = {name: start[name] - rates[name] * slope[name] for name in start}
    return start


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("steps", [1, 5, 6, 10, 13])
def test_values_and_gradients_are_those_of_the_loop_written_out(steps, first_order):
    with jax.enable_x64(True):
        start = {"a": jnp.array([0.3, -1.2, 0.7]), "b": jnp.array([0.4, 0.9])}
        rates = {"a": jnp.array([0.1, 0.05, 0.02]), "b": jnp.array([0.03])}

        def end(run):
            return lambda start, rates: sum(jnp.cos(v).sum() for v in run(start, rates).values())

        ours = end(lambda s, r: descend(bowl, s, steps, r, first_order))
        theirs = end(lambda s, r: written_out(s, steps, r, first_order))
        got, expected = (jax.value_and_grad(f, (0, 1))(start, rates) for f in (ours, theirs))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14), got, expected)
        one = descend(bowl, start, steps, 0.02, first_order)
        other = written_out(start, steps, dict.fromkeys(start, 0.02), first_order)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), one, other)


@pytest.mark.parametrize("network", [Mlp((40, 40)), Mlp((128,), "gelu", layer_norm=True)], ids=["relu", "layer norm"])
def test_twenty_steps_take_at_most_three_times_the_memory_of_five(network):
    spec = TaskSpec(Target(scaling="public"), shape=(1,))
    batch = Batch(np.ones((25, 10, 1), np.float32), np.ones((25, 10), np.float32), np.ones((25, 10), np.float32))
    params = _objective.fresh(network, spec, learning_key(0))

    def peak(steps):
        gradient = jax.vmap(jax.grad(Maml(network, steps).meta_loss), (None, 0))
        return jax.jit(gradient).lower(params, Task(batch, batch)).compile().memory_analysis().temp_size_in_bytes

    five, twenty = peak(5), peak(20)
    assert 0 < twenty <= 3 * five


def test_a_mask_between_0_and_1_is_a_weight():
    network, spec = Mlp((4,), "tanh"), TaskSpec(Target(scaling="public"), shape=(1,))
    params = _objective.fresh(network, spec, learning_key(0))
    x, y = np.arange(4, dtype=np.float32)[:, None], np.array([1, -1, 2, 5], np.float32)
    weights = np.array([1, 0.25, 0, 1], np.float32)
    each = (network.apply(params, x)[:, 0] - y) ** 2
    expected = (weights * each).sum() / weights.sum()
    assert _objective.fit(network, params, Batch(x, y, weights)) == pytest.approx(float(expected), rel=1e-6)
