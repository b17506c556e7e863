"""From an update back to the samples it was learned from (Zhu, Liu and Han 2019, "Deep leakage from gradients").

The attacker knows the learner, the prior and the shape of a task, and looks for samples whose update is the one it has
seen: a nonlinear least-squares problem, solved from several starts. For one task's meta-gradient it has one solution,
the task itself, support and query alike.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import least_squares

from commonprior.learners._local import LocalWork
from commonprior.learners.maml import Maml
from commonprior.networks.mlp import Mlp
from commonprior.prior import Contributions, flatten
from commonprior.privacy import Release
from commonprior.privacy.discrete_gaussian import DiscreteGaussian
from commonprior.privacy.skellam import Skellam
from commonprior.task import Batch, Target, Task, TaskSpec

SAMPLES, COLUMNS, STARTS = 2, 3, 40
LEARNER = Maml(Mlp(widths=(24,), activation="tanh"), inner_steps=1, inner_rate=0.3, local=LocalWork(clip=0.0))
PRIOR = LEARNER.init(TaskSpec(Target(scaling="public"), shape=(COLUMNS,)), jax.random.key(5))
SIZE = SAMPLES * (COLUMNS + 1)


def task_of(numbers):
    """Lay 2·SIZE numbers out as a task."""
    support, query = (
        Batch(part[:, :COLUMNS], part[:, COLUMNS], jnp.ones(SAMPLES))
        for part in jnp.reshape(numbers, (2, SAMPLES, COLUMNS + 1))
    )
    return Task(support, query)


def update_of(numbers):
    gradient = jax.grad(LEARNER.meta_loss)(dict(PRIOR.params), task_of(numbers))
    return -LEARNER.local.rate * jnp.concatenate([gradient[name].ravel() for name in sorted(gradient)])


UPDATE, JACOBIAN = jax.jit(update_of), jax.jit(jax.jacfwd(update_of))


def draw(seed):
    """A task's numbers, of mean 0 and variance 1."""
    return np.random.default_rng(seed).normal(size=2 * SIZE).astype(np.float32)


def row_of(numbers):
    """What a site's learner really contributes for a task."""
    tasks = jax.tree.map(lambda leaf: np.asarray(leaf)[None], task_of(numbers))
    return np.asarray(LEARNER.contribute(PRIOR, tasks, {}, jax.random.key(0))[0].rows[0], np.float64)


def invert(update):
    """Return the numbers whose update is nearest to the one that was seen."""
    size = np.linalg.norm(update)

    def gap(numbers):
        return (np.asarray(UPDATE(jnp.asarray(numbers, jnp.float32)), np.float64) - update) / size

    def slope(numbers):
        return np.asarray(JACOBIAN(jnp.asarray(numbers, jnp.float32)), np.float64) / size

    tries = []
    for start in range(STARTS):
        tries.append(least_squares(gap, draw(1000 + start), slope, max_nfev=100))  # pyright: ignore
        if tries[-1].cost < 1e-9:  # there is no better one
            break
    return min(tries, key=lambda found: found.cost).x


def error(found, truth):
    """Root mean square error of the inputs and labels, in the order of samples that suits the attacker best."""
    orders = list(itertools.permutations(range(SAMPLES)))
    found, truth = (numbers.reshape(2, SAMPLES, COLUMNS + 1) for numbers in (found, truth))
    return float(np.sqrt(np.mean([min(np.mean((f[list(o)] - t) ** 2) for o in orders)
                                  for f, t in zip(found, truth, strict=True)])))  # fmt: skip


def blind(truth):
    """What someone who saw no update at all would be off by, guessing a task from thin air and all zeros."""
    return min(error(draw(77), truth), error(np.zeros(2 * SIZE), truth))


def protected(mechanism, tasks):
    """The mean update that anyone sees after the sum, where each task is a site's."""
    release = Release(len(tasks), len(tasks), row_of(tasks[0]).size, 1)
    encoding, total = mechanism.encoding(release), 0
    for site, numbers in enumerate(tasks):
        integers, _ = mechanism.protect(
            Contributions(row_of(numbers)[None], "task"), encoding, release, {}, jax.random.key(site),
            np.random.default_rng(site).bytes)  # fmt: skip
        total = total + encoding.to_words(integers)
    return mechanism.mean(encoding.from_words(total), encoding, release, len(tasks))


def test_the_attacker_knows_what_a_site_contributes():
    numbers = draw(1)
    assert np.allclose(UPDATE(jnp.asarray(numbers)), row_of(numbers), atol=1e-6)
    assert row_of(numbers).size == flatten(PRIOR.params).size > 3 * 2 * SIZE


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_attack_gradient_inversion_recovers_an_unprotected_task(seed):
    truth = draw(seed)
    assert error(invert(row_of(truth)), truth) < 0.02 < blind(truth) / 20


def test_attack_gradient_inversion_sees_through_encoding_alone():
    # Clipped above its norm and rounded, one site's update is as good as bare: a mechanism without noise hides nothing.
    truth = draw(1)
    assert error(invert(protected(DiscreteGaussian(1000.0), [truth])), truth) < 0.05


@pytest.mark.parametrize(("kind", "seed"), [(DiscreteGaussian, 1), (Skellam, 2)])
def test_attack_gradient_inversion_fails_on_a_noised_update(kind, seed):
    truth = draw(seed)
    clip = float(np.linalg.norm(row_of(truth)))
    assert error(invert(protected(kind(clip, 1.0), [truth])), truth) > 0.6 * blind(truth)


def test_attack_gradient_inversion_fails_on_a_sum_over_sites():
    tasks = [draw(seed) for seed in range(1, 9)]
    found = invert(protected(DiscreteGaussian(1000.0), tasks))
    assert min(error(found, truth) for truth in tasks) > 0.6 * min(blind(truth) for truth in tasks)
