"""The sine waves: the family of the paper, drawn anew for training and fixed for judging."""

import numpy as np
import pytest

from commonprior import tasks
from commonprior.errors import DataError, RecipeError
from commonprior.plugin import load
from commonprior.task import standardise
from commonprior.tasks import TaskSource
from commonprior.tasks.sinusoid import Sinusoid, Wave, WavePool

FAMILY = Sinusoid(sites=2, tasks=3, held_out=4).load(None)


def fitted(task):
    """Return the amplitude and phase of a noiseless wave, by least squares."""
    x, y = (np.concatenate([a, b]).astype(np.float64) for a, b in zip(task.support[:2], task.query[:2], strict=True))
    (a, b), residual, *_ = np.linalg.lstsq(np.stack([np.sin(x[:, 0]), np.cos(x[:, 0])], 1), y)
    assert residual[0] < 1e-9
    return float(np.hypot(a, b)), float(np.arctan2(-b, a))


def test_is_the_family_of_the_paper():
    rng = np.random.default_rng(0)
    episodes = [WavePool("w").episode(rng, 10, 10) for _ in range(300)]
    waves = np.array([fitted(task) for task in episodes])
    x = np.concatenate([task.query.x for task in episodes])
    for values, low, high in ((waves[:, 0], 0.1, 5.0), (waves[:, 1], 0.0, np.pi), (x, -5.0, 5.0)):
        assert low <= values.min() < low + 0.03 * (high - low)
        assert high - 0.03 * (high - low) < values.max() <= high


def test_a_pool_to_train_on_never_repeats_a_wave():
    pool, rng = FAMILY.train["site-1"][0], np.random.default_rng(1)
    assert fitted(pool.episode(rng, 5, 5)) != pytest.approx(fitted(pool.episode(rng, 5, 5)))


def test_a_pool_to_judge_by_keeps_its_wave_and_draws_new_samples():
    pool, rng = FAMILY.test["site-1"][0], np.random.default_rng(2)
    first, second = pool.episode(rng, 5, 5), pool.episode(rng, 5, 5)
    assert fitted(first) == pytest.approx(fitted(second), rel=1e-4)
    assert not np.isin(first.support.x, second.support.x).any()
    again = Sinusoid(sites=2, tasks=3, held_out=4).load(None).test["site-1"][0]
    assert again.wave == pool.wave


def test_no_two_waves_to_judge_by_are_alike():
    waves = [pool.wave for part in (FAMILY.valid, FAMILY.test) for pools in part.values() for pool in pools]
    assert len(set(waves)) == len(waves) == 16


def test_the_same_draw_is_the_same_episode():
    first, second = (FAMILY.train["site-1"][0].episode(np.random.default_rng(3), 4, 6) for _ in range(2))
    np.testing.assert_array_equal(first.support.y, second.support.y)
    assert first.support.x.shape == (4, 1)
    assert first.query.y.shape == first.query.mask.shape == (6,)
    assert first.query.x.dtype == first.query.y.dtype == np.float32


def test_labels_reach_a_learner_as_they_are():
    task = FAMILY.train["site-1"][0].episode(np.random.default_rng(4), 4, 6)
    np.testing.assert_array_equal(standardise(task, FAMILY.spec.target)[0].query.y, task.query.y)
    assert FAMILY.spec.example().shape == (1, 1)


def test_a_family_is_as_large_as_asked_and_says_what_it_is():
    assert load(tasks, TaskSource, "sinusoid") is Sinusoid
    assert [len(pools) for pools in FAMILY.train.values()] == [3, 3]
    assert list(FAMILY.train) == list(FAMILY.test) == ["site-1", "site-2"]
    assert "simulated" in FAMILY.note
    assert Wave(2.0, 0.5)(np.array([0.5 + np.pi / 2])) == pytest.approx(2.0)


def test_nonsense_is_refused():
    with pytest.raises(DataError, match="w: 0 shots and 5 queries"):
        WavePool("w").episode(np.random.default_rng(0), 0, 5)
    with pytest.raises(RecipeError, match=r"tasks\.sites = 0"):
        Sinusoid(sites=0)
