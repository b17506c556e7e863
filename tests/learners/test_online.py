"""A reservoir that is fair, a replay that is the other learner's own work, and a stream that is not forgotten."""

from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from scipy import stats

from commonprior.errors import RecipeError
from commonprior.learners._server import ServerStep
from commonprior.learners.maml import Maml
from commonprior.learners.online import Online, _recalled, _reservoir
from commonprior.networks.mlp import Mlp
from commonprior.privacy.discrete_gaussian import DiscreteGaussian
from commonprior.recipe import Recipe, Schedule
from commonprior.sampling import generator, learning_key
from commonprior.site.policy import Policy
from commonprior.sums.masked import Masked
from commonprior.task import Batch, Target, Task, TaskSpec
from commonprior.tasks.sinusoid import Sinusoid
from commonprior.training import train

MAML = Maml(Mlp((16,), "tanh"), inner_steps=3, inner_rate=0.1, server=ServerStep(rate=0.02))
SPEC = TaskSpec(Target(scaling="public"), shape=(1,))


def numbered(first, count):
    """Tasks that carry their own number."""
    y = np.arange(first, first + count, dtype=np.float32)[:, None] * np.ones((1, 2), np.float32)
    batch = Batch(y[..., None], y, np.ones_like(y))
    return Task(batch, batch)


def test_every_task_seen_is_kept_with_the_same_chance():
    """500 streams of 12 tasks, 4 kept: a chi-squared test over which."""
    counts = np.zeros(12)
    for seed in range(500):
        rng, kept, seen = np.random.default_rng(seed), None, 0
        for first in (0, 3, 6, 9):
            kept = _reservoir(kept, numbered(first, 3), seen, 4, rng)
            seen += 3
        held = kept.support.y[:, 0].astype(int)
        assert len(set(held)) == 4
        counts[held] += 1
    assert stats.chisquare(counts).pvalue > 1e-3


def test_replayed_tasks_count_as_new_ones_do():
    online, prior = Online(MAML, replay=2, keep=5), MAML.init(SPEC, learning_key(0))
    rng = generator(0)
    old, new = (Task(*(Batch(rng.normal(size=(m, 4, 1)).astype(np.float32), rng.normal(size=(m, 4)).astype(np.float32),
                             np.ones((m, 4), np.float32)) for _ in range(2))) for m in (2, 3))  # fmt: skip
    first, memory = online.contribute(prior, old, {}, learning_key(1))
    np.testing.assert_allclose(first.rows[0], MAML.contribute(prior, old, {}, None)[0].rows.mean(0), atol=1e-6)
    second, memory = online.contribute(prior, new, memory, learning_key(2))
    both = jax.tree.map(lambda a, b: np.concatenate([a, b]), new, old)
    np.testing.assert_allclose(second.rows[0], MAML.contribute(prior, both, {}, None)[0].rows.mean(0), atol=1e-6)
    assert (first.unit, second.unit) == ("site", "site")
    kept = _recalled(new, memory)
    assert sorted(kept.support.y[:, 0]) == sorted([*old.support.y[:, 0], *new.support.y[:, 0]])


def test_without_replay_the_past_changes_nothing():
    online, prior = Online(MAML, replay=0), MAML.init(SPEC, learning_key(0))
    _, memory = online.contribute(prior, numbered(0, 2), {}, learning_key(1))
    a, b = (online.contribute(prior, numbered(5, 2), m, learning_key(2))[0].rows for m in ({}, memory))
    np.testing.assert_array_equal(a, b)


def test_an_old_kind_of_task_is_kept_when_another_kind_comes():
    """Lines that rise, then lines that fall, one shot each: only with a memory does the first kind stay good."""

    def lines(slope, m, rng):
        x = rng.uniform(-1, 1, (m, 9, 1)).astype(np.float32)
        y = (slope * x[..., 0] + (3 if slope > 0 else -3)).astype(np.float32)
        mask = np.ones((m, 9), np.float32)
        return Task(*(Batch(x[:, s], y[:, s], mask[:, s]) for s in (slice(0, 2), slice(2, None))))

    def loss_on_the_first(replay):
        learner, rng, memory = Online(MAML, replay=replay, keep=32), generator(3), {}
        prior = learner.init(SPEC, learning_key(3))
        for number in range(120):
            tasks = lines(2.0 if number < 60 else -2.0, 4, rng)
            contributions, memory = learner.contribute(prior, tasks, memory, learning_key(number))
            prior = learner.apply(prior, np.asarray(contributions.rows, np.float64).mean(0), None)
        first = lines(2.0, 8, generator(4))
        losses = jax.vmap(MAML.meta_loss, in_axes=(None, 0))(dict(prior.params), first)
        return float(losses.mean())

    assert loss_on_the_first(8) < 0.5 * loss_on_the_first(0)


def test_a_federation_keeps_each_site_s_reservoir_at_the_site(tmp_path):
    recipe = Recipe(
        Sinusoid(sites=3), Online(MAML, replay=2, keep=3), DiscreteGaussian(clip=1.0, per="site"), Masked(),
        Schedule(rounds=3, tasks_per_site=2, shots=4, queries=4), policy=Policy(minimum_cohort=2),
    )  # fmt: skip
    learned = train(recipe, tmp_path / "run")
    assert learned.prior.params.keys() == MAML.init(recipe.tasks.load(None).spec, learning_key(0)).params.keys()
    assert list(Path(tmp_path / "run" / "sites").rglob("*.safetensors"))


@pytest.mark.parametrize(("replay", "keep", "words"), [(-1, 4, "replay = -1"), (0, 0, "keep = 0"), (8, 4, "keep = 4")])
def test_settings_that_cannot_be(replay, keep, words):
    with pytest.raises(RecipeError, match=words):
        Online(SimpleNamespace(), replay, keep)
