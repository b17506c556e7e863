"""The ensemble against brute force, and against searching without a memory."""

import itertools

import numpy as np
import pytest
from scipy import stats

from commonprior.tuning.ensemble import Model, Trials, misranked, normal_scores, propose, ranking_weights


def bowl(points, centre):
    return -((points - centre) ** 2).sum(1)


def search(centre, n=20, seed=0):
    points = np.random.default_rng(seed).random((n, 2))
    return Trials(points, bowl(points, centre))


def test_misranked_pairs_are_counted_one_by_one():
    rng = np.random.default_rng(0)
    draws, scores = rng.normal(size=(7, 6)), rng.normal(size=6)
    expected = [sum((d[i] < d[j]) != (scores[i] < scores[j]) for i, j in itertools.permutations(range(6), 2))
                for d in draws]  # fmt: skip
    np.testing.assert_array_equal(misranked(draws, scores), expected)
    assert misranked(scores[None], scores) == 0


def test_normal_scores_are_the_quantiles_and_take_failures_as_the_worst():
    got = normal_scores(np.array([3.0, -np.inf, 100.0]))
    np.testing.assert_allclose(got, stats.norm.ppf([0.5, 1 / 6, 5 / 6]), atol=1e-12)
    assert (normal_scores(np.array([2.0, 2.0])) == 0).all()


def test_leaving_out_is_what_refitting_without_each_result_predicts():
    trials, rng = search((0.4, 0.6), 8), np.random.default_rng(1)
    model = Model(trials, rng)
    draws = np.concatenate([model.left_out(rng) for _ in range(40)])
    kernel = model._process.kernel_
    gram = kernel(trials.points)
    for i in range(8):
        rest = [j for j in range(8) if j != i]
        weights = np.linalg.solve(gram[np.ix_(rest, rest)], gram[rest, i])
        mean = weights @ model.targets[rest]
        sd = np.sqrt(gram[i, i] - weights @ gram[rest, i])
        assert draws[:, i].mean() == pytest.approx(mean, abs=4 * sd / np.sqrt(len(draws)) + 1e-6)
        assert draws[:, i].std() == pytest.approx(sd, rel=0.05)


def test_a_search_like_this_one_weighs_more_than_one_that_is_not():
    rng = np.random.default_rng(2)
    alike, other = Model(search((0.3, 0.3), seed=3), rng), Model(search((0.9, 0.95), seed=4), rng)
    trials = search((0.32, 0.28), 6, seed=5)
    weights = ranking_weights([alike, other], Model(trials, rng), trials.scores, rng)
    assert weights.sum() == pytest.approx(1)
    assert weights[0] > 0.5
    assert weights[1] < 0.05


def test_with_a_memory_a_search_is_there_sooner():
    """Mean regret after six trials, over seeds: far less than without earlier searches, and than by chance."""
    rng = np.random.default_rng(6)
    earlier = [Model(search((0.68, 0.22), seed=s), rng) for s in (7, 8)]

    def regret(models, seed):
        chance = np.random.default_rng(seed)
        candidates = chance.random((200, 2))
        scores = bowl(candidates, (0.7, 0.2))
        trials = Trials(np.zeros((0, 2)), np.zeros(0))
        for _ in range(6):
            i = propose(models, trials, candidates, chance)
            trials = Trials(np.vstack([trials.points, candidates[i]]), np.append(trials.scores, scores[i]))
        return scores.max() - trials.scores.max()

    with_memory = np.mean([regret(earlier, s) for s in range(5)])
    without = np.mean([regret([], s) for s in range(5)])
    assert with_memory < 0.5 * without
